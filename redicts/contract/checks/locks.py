"""Locks: which of them exclude each other, at every height of the tree and under every name."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

import random
from typing import Final

from redicts.contract.check import Need, conformance_check, require, require_equal, shortened
from redicts.contract.fixture import Fixture
from redicts.contract.locking import Locker, lockers
from redicts.core.locks.records import Request, overlap
from redicts.core.minitransaction import Path

_CHAIN: Final[tuple[Path, ...]] = ((), ("a",), ("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d"))
"""The root, and what lies below it one by one."""

_PLACES: Final[tuple[Path, ...]] = (*_CHAIN[1:4], ("a", "c"), ("ab",), ("x", "b"), ("x",), ())


@conformance_check(needs=[Need.TTL])
def a_free_lock_takes_one_transaction(fixture: Fixture) -> None:
    """A lock that is free is granted by one transaction and given back by one, at every depth, and nothing is left."""
    [me] = lockers(fixture, 1)
    for path in _CHAIN:
        for shared in (False, True):
            before = me.backend.calls
            lock = me.take(path, shared=shared)
            require_equal(me.backend.calls - before, 1, f"to be granted a free lock on {path!r}, transactions are")
            require_equal(me.held(), {lock.name}, "held is")
            before = me.backend.calls
            require(me.release(lock), f"a lock on {path!r} that is given back was not held")
            require_equal(me.backend.calls - before, 1, f"to give back a lock on {path!r}, transactions are")
            me.require_nothing_left()


@conformance_check(needs=[Need.TTL])
def a_lock_keeps_what_lies_below(fixture: Fixture) -> None:
    """Nobody else can lock a place that is locked, nor its child, grandchild or anything deeper, until it is free."""
    me, other = lockers(fixture, 2)
    for depth, held in enumerate(_CHAIN[1:], 1):
        lock = me.take(held)
        for wanted in _CHAIN[depth:]:
            _is_kept(other, held, wanted)
        me.release(lock)
        for wanted in _CHAIN[depth:]:
            require(other.can(wanted), f"{wanted!r} cannot be locked after the lock on {held!r} was given back")


@conformance_check(needs=[Need.TTL])
def a_lock_keeps_what_lies_above(fixture: Fixture) -> None:
    """Nobody else can lock a place while its child, grandchild or anything deeper is locked."""
    me, other = lockers(fixture, 2)
    for depth, wanted in enumerate(_CHAIN[1:-1], 1):
        for held in _CHAIN[depth + 1 :]:
            lock = me.take(held)
            _is_kept(other, held, wanted)
            me.release(lock)
        require(other.can(wanted), f"{wanted!r} cannot be locked after all below it was given back")


@conformance_check(needs=[Need.TTL])
def the_root_overlaps_with_all(fixture: Fixture) -> None:
    """A lock on the root excludes one on any place, and a lock on any place excludes one on the root."""
    me, other = lockers(fixture, 2)
    for place in _CHAIN:
        lock = me.take(place)
        _is_kept(other, place, ())
        me.release(lock)
        lock = me.take(())
        _is_kept(other, (), place)
        me.release(lock)
    require(other.can(()), "the root cannot be locked after all was given back")


@conformance_check(needs=[Need.TTL])
def disjoint_places_are_locked_side_by_side(fixture: Fixture) -> None:
    """Locks on places of which none lies above another are granted to different owners at the same time."""
    places: tuple[Path, ...] = (
        ("a", "b", "c"),
        ("a", "b", "cd"),
        ("a", "b", "d"),
        ("a", "bc"),
        ("a", "d", "b", "c"),
        ("a.b",),
        ("ab",),
        ("b",),
        ("/a",),
        ("!",),
    )
    owners = lockers(fixture, len(places))
    for owner, place, lock in [(owner, place, owner.take(place)) for owner, place in zip(owners, reversed(places))]:
        require(owner.release(lock), f"a lock on {place!r} is gone because others were granted")
    locks = [owner.take(place) for owner, place in zip(owners, places)]
    require_equal(owners[0].held(), {lock.name for lock in locks}, "of locks on disjoint places, held are")
    for number, place in enumerate(places):
        other = owners[number - 1]
        require(not other.can(place), f"{place!r} can be locked by two owners, among many disjoint places")


@conformance_check(needs=[Need.TTL])
def every_name_is_locked_with_what_is_below(fixture: Fixture) -> None:
    """Whatever a place is called, its lock excludes those on what lies above and below it."""
    me, other = lockers(fixture, 2)
    names = list(fixture.harness.names)
    lock = me.take(*[("d", name) for name in names])
    for name in names:
        require(not other.can(("d", name, "x", name)), f"below {shortened(name)}, which is locked, others can lock")
    me.release(lock)
    me.take(*[("d", name, "x", name) for name in names])
    for name in names:
        require(not other.can(("d", name)), f"{shortened(name)} can be locked by others though what is below it is")


@conformance_check(needs=[Need.TTL])
def every_name_is_locked_apart(fixture: Fixture) -> None:
    """Locks on different names do not meet, however alike the names are."""
    me, other = lockers(fixture, 2)
    names: list[Path] = [("d", name) for name in fixture.harness.names]
    for mine, theirs in ((names[::2], names[1::2]), (names[1::2], names[::2])):
        lock, beside = me.take(*mine), other.request(*theirs)
        if other.attempt(beside) is None:
            met = [path for path in theirs if not other.can(path)]
            require(False, f"while other names are locked, these cannot be: {shortened(met)}")
        for owner, each in ((me, lock), (other, beside)):
            require(owner.release(each), "a lock on many names is gone because others were locked as well")


@conformance_check(needs=[Need.TTL])
def shared_locks_stand_side_by_side(fixture: Fixture) -> None:
    """Any number of owners hold overlapping shared locks at the same time."""
    owners = lockers(fixture, len(_CHAIN))
    for _ in range(2):
        locks = [owner.take(place, shared=True) for owner, place in zip(owners, _CHAIN)]
        require_equal(owners[0].held(), {lock.name for lock in locks}, "of shared locks that overlap, held are")
        for owner, lock in zip(owners, locks):
            owner.release(lock)
        owners.reverse()


@conformance_check(needs=[Need.TTL])
def shared_and_exclusive_exclude_each_other(fixture: Fixture) -> None:
    """A shared lock and an exclusive one exclude each other, in either order and at every height."""
    me, other = lockers(fixture, 2)
    for held in _CHAIN[:3]:
        for wanted in _CHAIN[:3]:
            for shared in (False, True):
                lock = me.take(held, shared=shared)
                granted = other.can(wanted, shared=not shared)
                require(not granted, f"{wanted!r} and {held!r} are locked at once, one shared and one exclusively")
                me.release(lock)


@conformance_check(needs=[Need.TTL])
def own_locks_are_no_obstacle(fixture: Fixture) -> None:
    """What an owner holds does not keep it from locking what lies above, below and in the same place."""
    me, other = lockers(fixture, 2)
    for held in _CHAIN:
        lock = me.take(held)
        for wanted in _CHAIN:
            require(me.can(wanted), f"an owner cannot lock {wanted!r} because it holds {held!r} itself")
        me.release(lock)
        reader = me.take(held, shared=True)
        require(me.can(held), "an owner cannot lock a place exclusively because it alone holds a shared lock on it")
        me.release(reader)
    mine = me.take(("a", "b"), shared=True)
    theirs = other.take(("a",), shared=True)
    require(not me.can(("a", "b")), "an owner can lock a place exclusively on which another one has a shared lock")
    for owner, lock in ((me, mine), (other, theirs)):
        owner.release(lock)


@conformance_check(needs=[Need.TTL])
def one_foreign_lock_among_many_is_seen(fixture: Fixture) -> None:
    """Whoever holds many locks in a place cannot lock all of it while one of another owner lies among them."""
    me, other = lockers(fixture, 2)
    places: list[Path] = [("d", "e", f"n{number}") for number in range(9)]
    for foreign in (places[0], places[4], places[8], ("d", "e", "n4", "x"), ("d", "a"), ("d", "z", "y", "x")):
        locks = [(me, me.take(place)) for place in places[:4] if place != foreign]
        locks.append((other, other.take(foreign)))
        locks += [(me, me.take(place)) for place in places[4:] if not overlap(place, foreign)]
        for wanted in (("d",), ()):
            require(not me.can(wanted), f"{wanted!r} can be locked, with {foreign!r} of another owner among own locks")
        for owner, lock in locks:
            owner.release(lock)
    require(me.can(("d",)), "what was given back still excludes")


@conformance_check(needs=[Need.TTL])
def several_places_are_locked_all_or_none(fixture: Fixture) -> None:
    """A lock on several places is granted if all of them are free, and otherwise nothing of it is there."""
    me, other = lockers(fixture, 2)
    places: tuple[Path, ...] = (("a", "b"), ("c",), ("d", "e", "f"), ("g",))
    for taken in (*places, ("a",), ("d", "e", "f", "x"), ("g", "h", "i")):
        theirs = other.take(taken)
        require(me.attempt(me.request(*places)) is None, f"a lock on {places!r} is granted though {taken!r} is locked")
        require_equal(me.held(), {theirs.name}, f"after a lock on {places!r} was refused, held is")
        other.release(theirs)
    lock = me.take(*places)
    for wanted in (("a",), ("c", "x"), ("d",), ("g",)):
        require(not other.can(wanted), f"{wanted!r} can be locked while a lock on {places!r} is held")
    me.release(lock)
    me.require_nothing_left()


@conformance_check(needs=[Need.TTL])
def a_release_takes_only_its_own(fixture: Fixture) -> None:
    """Giving a lock back, or up, leaves those of others as they are, in the same place, above, beside and below."""
    me, other = lockers(fixture, 2)
    paths = (("a",), ("a", "b"), ("a", "b"), ("a", "b"), ("a", "b", "c"), ("a", "c"), ("ab",))
    for give_back in (me.release, me.withdraw):
        theirs = [other.take(path, shared=True) for path in paths]
        for path in (*paths, ()):
            lock = me.take(path, shared=True)
            give_back(lock)
            require_equal(other.held(), {each.name for each in theirs}, f"after a lock on {path!r} is gone, held are")
        for each in theirs:
            require(other.release(each), f"a lock on {each.paths!r} went with one of another owner")
    me.require_nothing_left()


@conformance_check(needs=[Need.TTL])
def a_release_tells_whether_it_was_held(fixture: Fixture) -> None:
    """Giving back what is held is told to have been held, and not what was given back, broken or never granted."""
    me, other = lockers(fixture, 2)
    for path in _CHAIN:
        lock = me.take(path)
        require(me.release(lock), f"a lock on {path!r} that is held is told not to be, when it is given back")
        require(not me.release(lock), f"a lock on {path!r} is told to be held when it is given back once more")
        lock = me.take(path)
        other.break_locks(path)
        require(not me.release(lock), f"a lock on {path!r} that was broken is told to be held, when it is given back")


@conformance_check(needs=[Need.TTL])
def a_broken_lock_is_free(fixture: Fixture) -> None:
    """Breaking what is locked in a place removes it whoever holds it, and nothing elsewhere."""
    me, other = lockers(fixture, 2)
    for broken in (("a",), ("a", "b"), ()):
        locks = {path: me.take(path) for path in (("a", "b"), ("a", "b", "c"), ("ab",), ("x", "a"))}
        other.break_locks(broken)
        left = {lock.name for path, lock in locks.items() if path[: len(broken)] != broken}
        require_equal(other.held(), left, f"after what is locked in {broken!r} was broken, held are")
        require(other.can(("a", "b")), "a lock that was broken still excludes")
        other.break_locks(())


@conformance_check(needs=[Need.TTL])
def many_random_locks_keep_the_rule(fixture: Fixture) -> None:
    """In a long random walk of three owners, a lock is granted just when nobody else holds a conflicting one."""
    chance = random.Random(fixture.seed)  # noqa: S311  (no secret)
    owners = lockers(fixture, 3)
    held: list[tuple[Locker, Request]] = []
    for _ in range(3000 if fixture.thorough else 250):
        if held and chance.random() < 0.45:
            owner, lock = held.pop(chance.randrange(len(held)))
            require(owner.release(lock), f"a lock on {lock.paths!r} that was not given back is gone")
            continue
        owner = chance.choice(owners)
        wanted = owner.request(*chance.sample(_PLACES, chance.choice((1, 1, 1, 2))), shared=chance.random() < 0.4)
        free = not any(_conflict(lock, wanted) for _, lock in held)
        granted = owner.attempt(wanted) is not None
        if granted:
            held.append((owner, wanted))
        require_equal(
            granted,
            free,
            f"beside {[(lock.mode.value, lock.paths, lock.owner.name[-4:]) for _, lock in held]!r}, "
            f"{wanted.mode.value, wanted.paths, wanted.owner.name[-4:]!r} is granted",
        )
    require_equal(owners[0].held(), {lock.name for _, lock in held}, "at the end of the walk, held are")
    for owner, lock in held:
        owner.release(lock)
    owners[0].require_nothing_left()


def _is_kept(other: Locker, held: Path, wanted: Path) -> None:
    require(not other.can(wanted), f"{wanted!r} can be locked while another owner holds {held!r}")
    require_equal(other.waiting(), set(), "whoever did not want to wait is in the queue")


def _conflict(one: Request, other: Request) -> bool:
    if one.owner == other.owner or one.mode.value == other.mode.value == "S":
        return False
    return any(overlap(mine, theirs) for mine in one.paths for theirs in other.paths)
