"""Leases: a lock ends when its TTL is over by the clock of the store, and nobody but its owner prolongs it."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.locking import lockers
from redicts.contract.waiting import Waiter
from redicts.core.minitransaction import Path

_PLACES: Final[tuple[Path, ...]] = (("a",), ("b", "c"), ("d", "e", "f"))

_PASSES: Final = 0.02
"""Seconds after which a TTL is seen to be shorter."""


@conformance_check(needs=[Need.TTL])
def a_lock_ends_with_its_lease(fixture: Fixture) -> None:
    """When its lease is over, a lock excludes nobody any more: in its place, above, below, shared or not."""
    me, other = lockers(fixture, 2)
    for shared in (False, True):
        locks = [me.take(place, shared=shared, lease=SHORT) for place in _PLACES]
        several = me.take(("x",), ("y", "z"), shared=shared, lease=SHORT)
        fixture.outlive()
        for path in (("a",), ("a", "x"), ("b",), ("d", "e", "f"), ("d", "e"), ("x", "z"), ("y",), ()):
            require(other.can(path), f"{path!r} cannot be locked though what was held there has ended")
        require_equal(me.records(), [], "the locks that have ended are listed")
        for lock in (*locks, several):
            require(not me.release(lock), f"a lock on {lock.paths!r} that has ended is told to be held")
    me.require_nothing_left()


@conformance_check(needs=[Need.TTL])
def a_lock_does_not_end_before(fixture: Fixture) -> None:
    """While its lease goes on, a lock stays, also when those beside it end, and the rest of its TTL is told."""
    me, other = lockers(fixture, 2)
    lasting = [me.take(place) for place in (*_PLACES, ("b", "d"))]
    for place in _PLACES:
        for path in (place, (*place, "short")):
            me.take(path, lease=SHORT)
    other.take(("g",), lease=SHORT)
    fixture.outlive()
    require_equal(other.held(), {lock.name for lock in lasting}, "when short leases are over, held are")
    for lock in lasting:
        require(not other.can(*lock.paths), f"{lock.paths!r} can be locked though its lease goes on")
        require(0 < me.ttl(lock) <= LONG, f"of a lease of {LONG} ms, {me.ttl(lock)} are left")


@conformance_check(needs=[Need.TTL])
def renewing_begins_the_lease_anew(fixture: Fixture) -> None:
    """A renewed lock is held for as long as was said last, be that longer or shorter, on all of its places."""
    me, other = lockers(fixture, 2)
    lock, several = me.take(("a", "b"), lease=LONG // 10), me.take(("c",), ("d", "e"), lease=LONG // 10)
    for each in (lock, several):
        require(me.renew(each), "a lock that is held is told to be lost when it is renewed")
        require(me.ttl(each) > LONG // 2, f"a lease that was renewed for {LONG} ms has {me.ttl(each)} left")
    require(me.renew(lock, SHORT), "a lock that is held is told to be lost when it is renewed")
    require(me.renew(several, SHORT), "a lock that is held is told to be lost when it is renewed")
    fixture.outlive()
    for path in (("a",), ("c",), ("d",)):
        require(other.can(path), f"{path!r} cannot be locked, though what was held there was renewed for a short time")


@conformance_check(needs=[Need.TTL])
def renewing_revives_nothing(fixture: Fixture) -> None:
    """A lock that has ended is told to be lost when it is renewed, and is not held again; nor is one given back."""
    me, other = lockers(fixture, 2)
    ended = [me.take(place, lease=SHORT) for place in _PLACES]
    given_back = me.take(("g",))
    me.release(given_back)
    fixture.outlive()
    for lock in (*ended, given_back):
        require(not me.renew(lock), f"a lock on {lock.paths!r} that has ended is told to be held when it is renewed")
    require_equal(me.held(), set(), "after locks were renewed that had ended, held are")
    for place in (*_PLACES, ("g",)):
        require(other.can(place), f"{place!r} cannot be locked, because a lock that had ended was renewed")


@conformance_check(needs=[Need.TTL])
def only_its_owner_prolongs_a_lease(fixture: Fixture) -> None:
    """What others do beside a lock does not prolong it: attempts, grants, renewals, releases, places in the queue."""
    me, other = lockers(fixture, 2)
    lock, theirs = me.take(("a", "b"), shared=True), other.take(("a", "b"), shared=True)

    def grant_beside() -> None:
        for path in (("a", "b"), ("a", "b", "c"), ("a",)):
            other.release(other.take(path, shared=True, lease=2 * LONG))
        other.release(other.take(("a", "c"), ("b",), lease=2 * LONG))

    actions: dict[str, Callable[[], object]] = {
        "an attempt of another owner": lambda: other.can(("a",)),
        "a lock beside it": grant_beside,
        "the renewal of a lock beside it": lambda: other.renew(theirs, 2 * LONG),
        "the release of one that was never granted": lambda: other.release(other.request(("a", "b"), shared=True)),
        "the renewal of one that was never granted": lambda: other.renew(other.request(("a", "b")), 2 * LONG),
        "somebody who waits for it": lambda: Waiter(other, ("a", "b")).go().look().interrupt(KeyboardInterrupt()),
        "looking at it": other.records,
    }
    before = me.ttl(lock)
    for what, act in actions.items():
        act()
        fixture.harness.advance(_PASSES)
        after = me.ttl(lock)
        require(after < before, f"{what} has prolonged a lease: {before} ms before, {after} ms after 20 ms have passed")
        before = after


@conformance_check(needs=[Need.TTL])
def nobody_else_ends_a_lease(fixture: Fixture) -> None:
    """What a stranger renews or gives back is not somebody else's lock: it is held as before, and as long."""
    me, other = lockers(fixture, 2)
    for shared in (False, True):
        lock = me.take(("a", "b"), shared=shared)
        for path in (("a", "b"), ("a",), ("a", "b", "c")):
            stranger = other.request(path, shared=shared)
            require(not other.renew(stranger, SHORT), "a stranger's lock is told to be held when it is renewed")
            require(not other.release(stranger), "a stranger's lock is told to be held when it is given back")
            other.withdraw(stranger)
        if shared:
            require(other.renew(other.take(("a", "b"), shared=True), SHORT), "a lock that is held is told to be lost")
        fixture.outlive()
        require_equal(me.held(), {lock.name}, "after strangers renewed and gave back what they do not hold, held is")
        require(me.release(lock), "a lock was ended by a stranger")


@conformance_check(needs=[Need.TTL])
def giving_back_too_late_harms_nobody(fixture: Fixture) -> None:
    """Whoever gives back or renews a lock that has ended does not touch that of the next holder."""
    me, other = lockers(fixture, 2)
    for path in (("a",), ("a", "b"), ()):
        late = me.take(("a",), lease=SHORT)
        fixture.outlive()
        lock = other.take(path)
        require(not me.renew(late), "a lock that has ended is told to be held when it is renewed")
        require(not me.release(late), "a lock that has ended is told to be held when it is given back")
        require_equal(other.held(), {lock.name}, "after a former holder gave back its lock too late, held is")
        require(other.release(lock), "a lock was ended by its former holder")
