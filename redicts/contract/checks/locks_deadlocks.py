"""Deadlocks: of those who wait for each other one gives way, and nobody else."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Final

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.clock import ManualClock
from redicts.contract.fixture import SHORT, Fixture
from redicts.contract.locking import Locker, lockers
from redicts.contract.waiting import Waiter, stepping
from redicts.core.locks.acquisition import Timing
from redicts.core.locks.records import Request
from redicts.core.minitransaction import Path
from redicts.errors import Deadlock

_TIMING: Final = Timing(waiter_ttl=60.0, heartbeat=2.0, first_heartbeat=1.0)
_SHORT_LIVED: Final = _TIMING._replace(waiter_ttl=SHORT / 1000)
_QUICK: Final = Timing(waiter_ttl=60.0, heartbeat=0.03, first_heartbeat=0.01)
_ROUNDS: Final = 2


@conformance_check(needs=[Need.TTL])
def of_a_circle_one_gives_way(fixture: Fixture) -> None:
    """Of owners who wait for each other in a circle, at any height, one gives way, and the others get their turn."""
    circles: Sequence[Sequence[tuple[Path, Path]]] = (
        [(("x",), ("y",)), (("y",), ("x",))],
        [(("x", "a"), ("y",)), (("y", "b"), ("x",))],
        [(("x",), ("y", "a", "b")), (("y",), ("x", "a"))],
        [(("x",), ("y",)), (("y",), ("z", "a")), (("z",), ("x",))],
    )
    for circle in circles:
        owners, clock = stepping(fixture, len(circle), _TIMING)
        locks = [owner.take(held) for owner, (held, _) in zip(owners, circle)]
        waiters = [Waiter(owner, wanted).go() for owner, (_, wanted) in zip(owners, circle)]
        _wait_long(waiters, clock)
        gone = [number for number, waiter in enumerate(waiters) if isinstance(waiter.error, Deadlock)]
        require_equal(gone, [len(circle) - 1], f"in a circle of {len(circle)}, those who give way are")
        owners[-1].release(locks[-1])
        for number in reversed(range(len(circle) - 1)):
            waiter = waiters[number].look()
            require(waiter.grant, "after one of a circle gave way, the one that waited for it was not granted its lock")
            owners[number].release(waiter.request)
            owners[number].release(locks[number])
        owners[0].require_nothing_left()


@conformance_check(needs=[Need.TTL])
def a_queue_is_no_circle(fixture: Fixture) -> None:
    """Owners who wait for each other in a row wait on, however long that takes."""
    (*owners, last), clock = stepping(fixture, 5, _TIMING)
    places: tuple[Path, ...] = (("x",), ("y",), ("z",))
    locks = [owner.take(place) for owner, place in zip(owners, places)]
    waiters = [Waiter(owner, wanted).go() for owner, wanted in zip(owners[1:], (("x", "a"), ("y",), ("z",)))]
    follower = Waiter(last, ("y",)).go()
    _wait_long([*waiters, follower], clock)
    for waiter in (*waiters, follower):
        require(not waiter.done, f"one who waits in a row, and not in a circle, ended with {waiter.error!r}")
    for owner, lock, waiter in zip(owners, locks, waiters):
        owner.release(lock)
        require(waiter.look().grant, "one who waited in a row was not granted the lock in its turn")
    owners[2].release(waiters[1].request)
    require(follower.look().grant, "the last one who waited in a row was not granted the lock in its turn")


@conformance_check(needs=[Need.TTL])
def the_dead_close_no_circle(fixture: Fixture) -> None:
    """An owner that died while it waited is in no circle, once the TTL of what it wrote down is over."""
    (me, _), clock = stepping(fixture, 2, _TIMING)
    dying = me.another(timing=_SHORT_LIVED)
    me.take(("x",))
    dying.take(("y",))
    dead = Waiter(dying, ("x",)).go()
    clock.advance(2.0)
    dead.look().die()
    fixture.outlive()
    waiter = Waiter(me, ("y",)).go()
    _wait_long([waiter], clock)
    require(not waiter.done, f"one who waits for the lock of one who died ended with {waiter.error!r}")


@conformance_check(needs=[Need.TTL])
def threads_in_a_circle_do_not_hang(fixture: Fixture) -> None:
    """Of threads that wait for each other, on several clients, just one gives way, and the others end soon."""
    places: tuple[Path, ...] = (("x",), ("y",), ("z", "a"))
    for round_number in range(_ROUNDS):
        count = 2 + round_number % 2
        owners = [owner.another(timing=_QUICK) for owner in lockers(fixture, count)]
        met, gave_way = threading.Barrier(count), list[int]()

        def work(number: int, owner: Locker, count: int, met: threading.Barrier, gave_way: list[int]) -> None:
            lock: Request | None = owner.take(places[number])
            met.wait(fixture.timeout)
            try:
                wanted, _ = owner.wait_for(places[(number + 1) % count][:1], timeout=fixture.timeout)
                owner.release(wanted)
            except Deadlock:
                gave_way.append(number)
            assert lock is not None
            owner.release(lock)

        fixture.together([partial(work, number, owner, count, met, gave_way) for number, owner in enumerate(owners)])
        require_equal(len(gave_way), 1, f"of {count} threads in a circle, those that gave way are")
        owners[0].require_nothing_left()


def _wait_long(waiters: Sequence[Waiter], clock: ManualClock) -> None:
    """Let each of them look for itself several times, as those do who wait for long."""
    for _ in range(4):
        clock.advance(2.5)
        for waiter in waiters:
            waiter.look()
