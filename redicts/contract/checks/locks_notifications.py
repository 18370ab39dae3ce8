"""Handing locks on: who waits learns that his turn has come by being notified, or by looking within a bounded time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from redicts.contract.check import Need, conformance_check, require_equal
from redicts.contract.fixture import Fixture
from redicts.contract.locking import Locker, lockers
from redicts.core.locks.records import Request
from redicts.core.minitransaction import Path

_WAITERS: Final = 5


def _break(current_owner: Locker, lock: Request) -> None:
    current_owner.break_locks(*lock.paths)


_ENDS: Final[tuple[tuple[Callable[[Locker, Request], object], tuple[Path, ...], Path], ...]] = (
    (Locker.release, (("a", "b"),), ("a",)),
    (Locker.release, (("x",), ("a",)), ("a", "b", "c")),
    (Locker.withdraw, (("a",),), ()),
    (_break, (("a", "b", "c"),), ("a", "b", "c")),
)
"""How a lock ends, on which places it is, and on which one somebody waits for it."""


@conformance_check(needs=[Need.TTL])
def who_waits_goes_on_when_a_lock_ends(fixture: Fixture) -> None:
    """Whoever waits for a lock has it soon after it was given back, given up or broken, by whichever client."""
    for ours, theirs in ((0, 0), (0, 1)):
        for end, held, wanted in _ENDS:
            owners = lockers(fixture, 4)
            current_owner, waiting = owners[ours], owners[2 + theirs]
            lock = current_owner.take(*held)

            def wait(waiting: Locker = waiting, wanted: Path = wanted) -> None:
                granted, _ = waiting.wait_for(wanted, timeout=fixture.timeout)
                waiting.release(granted)

            def let_go(
                current_owner: Locker = current_owner,
                lock: Request = lock,
                end: Callable[[Locker, Request], object] = end,
            ) -> None:
                _await_listed(fixture, current_owner, 1)
                end(current_owner, lock)

            fixture.together([wait, let_go])
            current_owner.require_nothing_left()


@conformance_check(needs=[Need.TTL])
def a_lock_is_handed_on_in_the_order_of_asking(fixture: Fixture) -> None:
    """Threads that wait for one lock, on several clients and at several heights, have it one by one, as they came."""
    places: tuple[Path, ...] = (("a",), ("a", "b"), (), ("a", "b"), ("a",))
    me, *others = lockers(fixture, 1 + _WAITERS)
    lock = me.take(("a", "b"))
    granted: list[tuple[int, int]] = []

    def wait(number: int) -> None:
        while me_watching.listed() < number:
            in_time()
        mine, token = others[number].wait_for(places[number], timeout=fixture.timeout)
        granted.append((number, token))
        others[number].release(mine)

    def let_go() -> None:
        _await_listed(fixture, me, _WAITERS)
        me.release(lock)

    me_watching, in_time = me.another(), fixture.deadline()
    fixture.together([let_go, *(partial(wait, number) for number in range(_WAITERS))])
    require_equal(
        [number for number, _ in granted], list(range(_WAITERS)), "those who waited were granted in the order"
    )
    tokens = [token for _, token in granted]
    require_equal(tokens, sorted(tokens), "the tokens of those who waited are")
    me.require_nothing_left()


def _await_listed(fixture: Fixture, owner: Locker, count: int) -> None:
    """Return when so many are on the list of somebody whose going they wait for."""
    in_time = fixture.deadline()
    while owner.listed() < count:
        in_time()
