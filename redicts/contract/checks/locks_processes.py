"""Locks among processes: they exclude and wake each other, and who waits for a killed one waits not for long."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

import random
import time
from typing import Final

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.client import Client
from redicts.contract.fixture import SHORT, Fixture
from redicts.contract.form import entries_of
from redicts.contract.locking import Locker, LockSpaces, lock_spaces
from redicts.contract.spawned import other_processes, report
from redicts.contract.waiting import Waiter
from redicts.core.locks.acquisition import Timing
from redicts.core.locks.records import overlap
from redicts.core.minitransaction import VALUES, Delete, Key, Path, Put, Read, Scope, Transaction

_NEEDS: Final = (Need.PROCESSES, Need.OPENER, Need.TTL)

_TREE: Final[tuple[Path, ...]] = (("a",), ("a", "b"), ("a", "b", "c"), ("a", "d"), ("x",), ("x", "y"), ())
_ROUNDS: Final = 20
_COUNT: Final[Path] = ("count",)
_ACTIVE: Final[Path] = ("active",)
_HANDED_ON: Final = 3
_SHORT_LIVED: Final = Timing(waiter_ttl=SHORT / 1000, heartbeat=20.0, first_heartbeat=20.0)


@conformance_check(needs=_NEEDS)
def processes_exclude_each_other(fixture: Fixture) -> None:
    """Of what processes lock, shared and exclusively, no two that conflict are held at once; their count is exact."""
    spaces, rounds = lock_spaces(fixture), 10 * _ROUNDS if fixture.thorough else _ROUNDS
    details = (spaces, rounds, fixture.timeout)
    with other_processes(fixture, 1) as [other]:
        other.start(_lock_and_look, *details, f"{fixture.seed} there")
        counted = _lock_and_look(fixture.store, *details, f"{fixture.seed} here")
        counted += other.result()
    me = Locker(fixture.store, spaces)
    require_equal(me.value(_COUNT), counted, "under exclusive locks, processes have counted to")
    me.require_nothing_left()


@conformance_check(needs=_NEEDS)
def processes_hand_locks_on(fixture: Fixture) -> None:
    """A waiter for another process's lock has it soon after its release, also if it was notified before."""
    spaces = lock_spaces(fixture)
    me = Locker(fixture.store, spaces)
    with other_processes(fixture, 1) as [other]:
        for _ in range(_HANDED_ON):
            lock = me.take(("a", "b"))
            other.start(_wait_and_hold, spaces, ("a",), fixture.timeout)
            in_time = fixture.deadline()
            while not me.listed():
                in_time()
            me.release(lock)
            require_equal(other.wait_for_word(), "granted", "a process that waits for a lock reports")
            mine, _ = me.wait_for(("a", "b", "c"), timeout=fixture.timeout)
            me.release(mine)
            other.result()
    me.require_nothing_left()


@conformance_check(needs=_NEEDS)
def a_killed_process_holds_as_long_as_its_lease(fixture: Fixture) -> None:
    """What a process held that was killed is free when its lease is over, and not before."""
    spaces = lock_spaces(fixture)
    me = Locker(fixture.store, spaces)
    with other_processes(fixture, 1) as [other]:
        lasting = other.call(_take_one_for_long, spaces, ("lasting",), ("ending",))
        require_equal(me.held() >= {lasting}, True, "this process sees what another one holds")
        other.kill()
        fixture.outlive()
        require(me.can(("ending",)), "what a killed process held is not free when its lease is over")
        require(not me.can(("lasting", "a")), "what a killed process held is free though its lease goes on")
        require_equal(me.held(), {lasting}, "after a process was killed, held is")


@conformance_check(needs=_NEEDS)
def a_killed_process_leaves_the_queue(fixture: Fixture) -> None:
    """A process that is killed while it waits stands in the way until the TTL of its record is over, and no longer."""
    spaces = lock_spaces(fixture)
    me, next_one = Locker(fixture.store, spaces), Locker(fixture.client(), spaces)
    locks = [me.take(("a",)), me.take(("b",))]
    with other_processes(fixture, 1) as [other]:
        other.start(_wait_twice, spaces, ("b",), ("a",))
        lasting = other.wait_for_word()
        other.kill()
        require_equal(me.waiting() >= {lasting}, True, "this process sees who waits in another one")
        waiter = Waiter(next_one, ("a", "x")).go()
        for lock in locks:
            me.release(lock)
        fixture.outlive()
        require(waiter.look().grant, "somebody waits for one who was killed while he waited, though his life is over")
        require(not next_one.can(("b",)), "one who waits, and whose TTL goes on, is passed")


def _lock_and_look(client: Client, spaces: LockSpaces, rounds: int, timeout: float, seed: str) -> int:
    """Lock random places, look whether anybody is active who must not be, and return how often it has counted."""
    owner, chance, counted = Locker(client, spaces), random.Random(seed), 0  # noqa: S311  (no secret)
    for _ in range(rounds):
        path, shared = chance.choice(_TREE), chance.random() < 0.4
        lock, _ = owner.wait_for(path, shared=shared, timeout=timeout)
        mode = b"S" if shared else b"X"
        mark = Key(VALUES, (*_ACTIVE, *path, "!", owner.owner.name))
        outcome = owner.execute(Transaction((), (Read(Key(VALUES, _ACTIVE), Scope.BELOW),), (Put(mark, mode),)))
        others = entries_of(outcome.answers[0])
        for place, other in others.values.items():
            excluded = overlap(place[:-2], path) and b"X" in (mode, other)
            require(not excluded, f"{mode!r} on {path!r} is held while {other!r} on {place[:-2]!r} is")
        if path == () and not shared:
            require(owner.count(lock, _COUNT), "a write is refused though its lock is held")
            counted += 1
        owner.execute(Transaction(writes=(Delete(mark, Scope.NODE),)))
        require(owner.release(lock), "a lock that nobody else gave back is gone")
    return counted


def _wait_and_hold(client: Client, spaces: LockSpaces, path: Path, timeout: float) -> None:
    """Wait for a lock, and hold it until somebody waits for it."""
    owner = Locker(client, spaces)
    lock, _ = owner.wait_for(path, timeout=timeout)
    report("granted")
    end = time.monotonic() + timeout
    while not owner.listed():
        require(time.monotonic() < end, f"within {timeout:g} seconds, nobody waits for the lock of this process")
    owner.release(lock)


def _take_one_for_long(client: Client, spaces: LockSpaces, lasting: Path, ending: Path) -> str:
    owner = Locker(client, spaces)
    owner.take(ending, lease=SHORT)
    return owner.take(lasting).name


def _wait_twice(client: Client, spaces: LockSpaces, lasting: Path, ending: Path) -> None:
    """Queue at two places, at one of them with a short TTL, report the name of the other, and stand still."""
    waiter = Waiter(Locker(client, spaces), lasting).go()
    Waiter(Locker(client, spaces, timing=_SHORT_LIVED), ending).go()
    report(waiter.request.name)
    time.sleep(600)
