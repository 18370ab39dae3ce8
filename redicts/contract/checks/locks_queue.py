"""The queue for a lock: who came first goes first, and who leaves it stands in nobody's way."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

import itertools
from typing import Final

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.waiting import Waiter, stepping
from redicts.core.locks.acquisition import Timing
from redicts.core.minitransaction import Path
from redicts.errors import LockTimeout

_SHORT_LIVED: Final = Timing(waiter_ttl=SHORT / 1000, heartbeat=20.0, first_heartbeat=20.0)
_ROUNDS: Final = 5


@conformance_check(needs=[Need.TTL])
def who_came_first_goes_first(fixture: Fixture) -> None:
    """Of three that wait for one lock, each is granted it in its turn, in whichever order they look for it."""
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        (me, *others), _ = stepping(fixture, 4)
        lock = me.take(("a",))
        waiters = [Waiter(other, ("a",)).go() for other in others]
        _all_wait(waiters)
        require(me.release(lock), "a lock is gone because others wait for it")
        for turn in range(3):
            for number in order:
                if number != turn:
                    waiters[number].look()
            _all_wait(waiters[turn + 1 :])
            waiter = waiters[turn].look()
            require(waiter.grant, f"number {turn + 1} of three was not granted a lock in its turn")
            for number in order:
                if number > turn:
                    waiters[number].look()
            _all_wait(waiters[turn + 1 :])
            require(others[turn].release(waiter.request), "a lock that was granted in its turn is gone")
        me.require_nothing_left()


@conformance_check(needs=[Need.TTL])
def nobody_passes_at_another_height(fixture: Fixture) -> None:
    """Whoever comes later waits behind those who wait above or below; whoever wants a disjoint place does not."""
    cases: tuple[tuple[Path, Path, Path], ...] = (
        (("a", "b"), ("a",), ("a", "c")),
        (("a", "b", "c"), ("a", "b"), ("a", "b", "x", "y")),
        (("a",), ("a", "b", "c"), ("a", "b")),
        (("a", "b"), (), ("x",)),
        (("a",), ("a",), ("a",)),
    )
    for held, first, second in cases:
        (me, other, later, stranger), _ = stepping(fixture, 4)
        lock = me.take(held)
        waiter = Waiter(other, first).go()
        require(not later.can(second), f"{second!r} can be locked, past somebody who waits for {first!r}")
        follower = Waiter(later, second).go()
        _all_wait([waiter, follower])
        if first:
            require(stranger.can(("disjoint",)), f"a disjoint place cannot be locked while others wait for {first!r}")
        me.release(lock)
        _all_wait([follower.look()])
        require(waiter.look().grant, f"{first!r}, which is free, was not granted to who waited for it first")
        _all_wait([follower.look()])
        other.release(waiter.request)
        require(follower.look().grant, f"{second!r}, which is free, was not granted to who waited for it")
        later.release(follower.request)
        me.require_nothing_left()


@conformance_check(needs=[Need.TTL])
def readers_queue_behind_a_writer(fixture: Fixture) -> None:
    """A shared lock does not pass a waiter for an exclusive one, and waiting readers are granted theirs together."""
    (reader, writer, *others), _ = stepping(fixture, 4)
    lock = reader.take(("a", "b"), shared=True)
    waiter = Waiter(writer, ("a",)).go()
    readers = [Waiter(other, ("a", "b", "c"), shared=True).go() for other in others]
    _all_wait([waiter, *readers])
    reader.release(lock)
    require(waiter.look().grant, "a writer was not granted the lock that the last reader gave back")
    _all_wait([each.look() for each in readers])
    writer.release(waiter.request)
    for other, each in zip(others, readers):
        require(each.look().grant, "of two readers, both are not granted the lock that a writer gave back")
        require(each.request.name in other.held(), "a lock that was granted is not listed")


@conformance_check(needs=[Need.TTL])
def of_two_that_queue_one_finds_the_other(fixture: Fixture) -> None:
    """Of requests that queue at the same instant, in threads and on several clients, each pair knows who was first."""
    for _ in range(5 * _ROUNDS if fixture.thorough else _ROUNDS):
        (me, *others), _ = stepping(fixture, 5)
        me.take(("a",))
        waiters = [Waiter(other, ("a",) if number % 2 else ("a", "b")) for number, other in enumerate(others)]
        for waiter in waiters:
            waiter.go(1)  # it has tried in vain, and will queue now
        fixture.together([waiter.go for waiter in waiters])
        for one, other in itertools.combinations(waiters, 2):
            found = (other.request.name in one.ticket) + (one.request.name in other.ticket)
            require_equal(found, 1, "of two requests that queued at once, those that found the other in the queue are")


@conformance_check(needs=[Need.TTL])
def the_dead_stand_in_nobodys_way(fixture: Fixture) -> None:
    """A waiter that died is passed when the TTL of its record is over, by those behind it and by who comes again."""
    for path in (("a",), ("a", "b"), ()):
        (me, *others), _ = stepping(fixture, 3)
        lock = me.take(("a", "b"))
        Waiter(me.another(timing=_SHORT_LIVED), path).go().die()
        waiter = Waiter(others[0], ("a",)).go()
        me.release(lock)
        fixture.outlive()
        require(waiter.look().grant, f"somebody waits for one who died while it waited for {path!r}")
        others[0].release(waiter.request)
        require(others[1].can(("a",)), f"one who died while it waited for {path!r} keeps others out")


@conformance_check(needs=[Need.TTL])
def who_gives_up_leaves_the_others_in_place(fixture: Fixture) -> None:
    """Whoever gives up waiting, in whichever way and moment, leaves nothing, and the queue of the others as it was."""
    for calls in range(6):
        (me, first, quitter, last), clock = stepping(fixture, 4)
        lock = me.take(("a", "b"))
        ahead, behind = Waiter(first, ("a",)).go(), Waiter(last, ("a", "b", "c"))
        quits = Waiter(quitter, ("a", "b"), timeout=5.0).go(calls)
        behind.go()
        if calls < 5:
            quits.interrupt(KeyboardInterrupt())
            require(isinstance(quits.error, KeyboardInterrupt), f"an interrupted attempt ended with {quits.error!r}")
        else:
            quits.go()
            clock.advance(6.0)
            quits.look()
            require(isinstance(quits.error, LockTimeout), f"an attempt whose time is over ended with {quits.error!r}")
        require_equal(me.held(), {lock.name}, "after somebody gave up waiting, held is")
        require_equal(me.waiting(), {ahead.request.name, behind.request.name}, "after somebody gave up, others wait:")
        require(me.ttl(lock) <= LONG, "a lease has changed")
        me.release(lock)
        _all_wait([behind.look()])
        require(ahead.look().grant, "the first in the queue is not granted the lock, because the second gave up")
        first.release(ahead.request)
        require(behind.look().grant, "the last in the queue is not granted the lock, because the one before it gave up")
        last.release(behind.request)
        me.require_nothing_left()


@conformance_check(needs=[Need.TTL])
def a_lost_place_is_not_taken_for_kept(fixture: Fixture) -> None:
    """A waiter whose record expired because it stood still queues again behind those who came since."""
    (me, other, third), _ = stepping(fixture, 3)
    lock = me.take(("a",))
    late = Waiter(me.another(timing=_SHORT_LIVED), ("a",)).go()
    fixture.outlive()
    follower = Waiter(other, ("a",)).go()
    require_equal(follower.ticket, set(), "behind a waiter whose record has ended, one finds in the queue")
    me.release(lock)
    _all_wait([late.look()])
    require(follower.look().grant, "somebody who lost its place keeps others from their turn")
    other.release(follower.request)
    late.die()
    fixture.outlive()
    require(third.can(("a",)), "one who lost its place, and died, keeps others out")


def _all_wait(waiters: list[Waiter]) -> None:
    for waiter in waiters:
        require(not waiter.grant, f"a lock on {waiter.request.paths!r} is granted out of turn")
        if waiter.error is not None:
            raise waiter.error
