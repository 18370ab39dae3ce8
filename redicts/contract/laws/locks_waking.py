"""Handing locks on: who waits learns that his turn has come by being woken, or by looking within a bounded time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from redicts.contract.bench import Bench
from redicts.contract.law import Need, law, require_equal
from redicts.contract.locking import Locker, lockers
from redicts.core.locks.records import Request
from redicts.core.transaction import Path

_WAITERS: Final = 5


def _break(holder: Locker, lock: Request) -> None:
    holder.break_locks(*lock.paths)


_ENDS: Final[tuple[tuple[Callable[[Locker, Request], object], tuple[Path, ...], Path], ...]] = (
    (Locker.release, (("a", "b"),), ("a",)),
    (Locker.release, (("x",), ("a",)), ("a", "b", "c")),
    (Locker.withdraw, (("a",),), ()),
    (_break, (("a", "b", "c"),), ("a", "b", "c")),
)
"""How a lock ends, on which places it is, and on which one somebody waits for it."""


@law(needs=[Need.LIFE])
def who_waits_goes_on_when_a_lock_ends(bench: Bench) -> None:
    """Whoever waits for a lock has it soon after it was given back, given up or broken, by whichever client."""
    for ours, theirs in ((0, 0), (0, 1)):
        for end, held, wanted in _ENDS:
            owners = lockers(bench, 4)
            holder, waiting = owners[ours], owners[2 + theirs]
            lock = holder.take(*held)

            def wait(waiting: Locker = waiting, wanted: Path = wanted) -> None:
                granted, _ = waiting.wait_for(wanted, patience=bench.patience)
                waiting.release(granted)

            def let_go(
                holder: Locker = holder, lock: Request = lock, end: Callable[[Locker, Request], object] = end
            ) -> None:
                _await_listed(bench, holder, 1)
                end(holder, lock)

            bench.together([wait, let_go])
            holder.require_nothing_left()


@law(needs=[Need.LIFE])
def a_lock_is_handed_on_in_the_order_of_asking(bench: Bench) -> None:
    """Threads that wait for one lock, on several clients and at several heights, have it one by one, as they came."""
    places: tuple[Path, ...] = (("a",), ("a", "b"), (), ("a", "b"), ("a",))
    me, *others = lockers(bench, 1 + _WAITERS)
    lock = me.take(("a", "b"))
    granted: list[tuple[int, int]] = []

    def wait(number: int) -> None:
        while me_watching.listed() < number:
            in_time()
        mine, token = others[number].wait_for(places[number], patience=bench.patience)
        granted.append((number, token))
        others[number].release(mine)

    def let_go() -> None:
        _await_listed(bench, me, _WAITERS)
        me.release(lock)

    me_watching, in_time = me.another(), bench.deadline()
    bench.together([let_go, *(partial(wait, number) for number in range(_WAITERS))])
    require_equal(
        [number for number, _ in granted], list(range(_WAITERS)), "those who waited were granted in the order"
    )
    tokens = [token for _, token in granted]
    require_equal(tokens, sorted(tokens), "the tokens of those who waited are")
    me.require_nothing_left()


def _await_listed(bench: Bench, owner: Locker, count: int) -> None:
    """Return when so many are on the list of somebody whose going they wait for."""
    in_time = bench.deadline()
    while owner.listed() < count:
        in_time()
