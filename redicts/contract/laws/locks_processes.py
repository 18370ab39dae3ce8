"""Locks among processes: they exclude and wake each other, and who waits for a killed one waits not for long."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

import random
import time
from typing import Final

from redicts.contract.bench import SHORT, Bench
from redicts.contract.client import Client
from redicts.contract.form import entries_of
from redicts.contract.law import Need, law, require, require_equal
from redicts.contract.locking import Locker, LockSpaces, lock_spaces
from redicts.contract.spawned import other_processes, report
from redicts.contract.waiting import Waiter
from redicts.core.locks.acquisition import Timing
from redicts.core.locks.records import overlap
from redicts.core.transaction import VALUES, Delete, Key, Path, Put, Read, Scope, Transaction

_NEEDS: Final = (Need.PROCESSES, Need.OPENER, Need.LIFE)

_TREE: Final[tuple[Path, ...]] = (("a",), ("a", "b"), ("a", "b", "c"), ("a", "d"), ("x",), ("x", "y"), ())
_ROUNDS: Final = 20
_COUNT: Final[Path] = ("count",)
_ACTIVE: Final[Path] = ("active",)
_HANDED_ON: Final = 3
_SHORT_LIVED: Final = Timing(waiter_life=SHORT / 1000, beat=20.0, first_beat=20.0)


@law(needs=_NEEDS)
def processes_exclude_each_other(bench: Bench) -> None:
    """Of what processes lock, shared and exclusively, no two that conflict are held at once; their count is exact."""
    spaces, rounds = lock_spaces(bench), 10 * _ROUNDS if bench.thorough else _ROUNDS
    details = (spaces, rounds, bench.patience)
    with other_processes(bench, 1) as [other]:
        other.start(_lock_and_look, *details, f"{bench.seed} there")
        counted = _lock_and_look(bench.store, *details, f"{bench.seed} here")
        counted += other.result()
    me = Locker(bench.store, spaces)
    require_equal(me.value(_COUNT), counted, "under exclusive locks, processes have counted to")
    me.require_nothing_left()


@law(needs=_NEEDS)
def processes_hand_locks_on(bench: Bench) -> None:
    """Whoever waits for a lock of another process has it soon after that is given back, also if it was woken before."""
    spaces = lock_spaces(bench)
    me = Locker(bench.store, spaces)
    with other_processes(bench, 1) as [other]:
        for _ in range(_HANDED_ON):
            lock = me.take(("a", "b"))
            other.start(_wait_and_hold, spaces, ("a",), bench.patience)
            in_time = bench.deadline()
            while not me.listed():
                in_time()
            me.release(lock)
            require_equal(other.wait_for_word(), "granted", "a process that waits for a lock reports")
            mine, _ = me.wait_for(("a", "b", "c"), patience=bench.patience)
            me.release(mine)
            other.result()
    me.require_nothing_left()


@law(needs=_NEEDS)
def a_killed_process_holds_as_long_as_its_lease(bench: Bench) -> None:
    """What a process held that was killed is free when its lease is over, and not before."""
    spaces = lock_spaces(bench)
    me = Locker(bench.store, spaces)
    with other_processes(bench, 1) as [other]:
        lasting = other.call(_take_one_for_long, spaces, ("lasting",), ("ending",))
        require_equal(me.held() >= {lasting}, True, "this process sees what another one holds")
        other.kill()
        bench.outlive()
        require(me.can(("ending",)), "what a killed process held is not free when its lease is over")
        require(not me.can(("lasting", "a")), "what a killed process held is free though its lease goes on")
        require_equal(me.held(), {lasting}, "after a process was killed, held is")


@law(needs=_NEEDS)
def a_killed_process_leaves_the_queue(bench: Bench) -> None:
    """A process that is killed while it waits stands in the way until the life of its record is over, and no longer."""
    spaces = lock_spaces(bench)
    me, next_one = Locker(bench.store, spaces), Locker(bench.client(), spaces)
    locks = [me.take(("a",)), me.take(("b",))]
    with other_processes(bench, 1) as [other]:
        other.start(_wait_twice, spaces, ("b",), ("a",))
        lasting = other.wait_for_word()
        other.kill()
        require_equal(me.waiting() >= {lasting}, True, "this process sees who waits in another one")
        waiter = Waiter(next_one, ("a", "x")).go()
        for lock in locks:
            me.release(lock)
        bench.outlive()
        require(waiter.look().grant, "somebody waits for one who was killed while he waited, though his life is over")
        require(not next_one.can(("b",)), "one who waits, and whose life goes on, is passed")


def _lock_and_look(client: Client, spaces: LockSpaces, rounds: int, patience: float, seed: str) -> int:
    """Lock random places, look whether anybody is active who must not be, and return how often it has counted."""
    owner, chance, counted = Locker(client, spaces), random.Random(seed), 0  # noqa: S311  (no secret)
    for _ in range(rounds):
        path, shared = chance.choice(_TREE), chance.random() < 0.4
        lock, _ = owner.wait_for(path, shared=shared, patience=patience)
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


def _wait_and_hold(client: Client, spaces: LockSpaces, path: Path, patience: float) -> None:
    """Wait for a lock, and hold it until somebody waits for it."""
    owner = Locker(client, spaces)
    lock, _ = owner.wait_for(path, patience=patience)
    report("granted")
    end = time.monotonic() + patience
    while not owner.listed():
        require(time.monotonic() < end, f"within {patience:g} seconds, nobody waits for the lock of this process")
    owner.release(lock)


def _take_one_for_long(client: Client, spaces: LockSpaces, lasting: Path, ending: Path) -> str:
    owner = Locker(client, spaces)
    owner.take(ending, lease=SHORT)
    return owner.take(lasting).name


def _wait_twice(client: Client, spaces: LockSpaces, lasting: Path, ending: Path) -> None:
    """Queue at two places, at one of them with a short life, report the name of the other, and stand still."""
    waiter = Waiter(Locker(client, spaces), lasting).go()
    Waiter(Locker(client, spaces, timing=_SHORT_LIVED), ending).go()
    report(waiter.request.name)
    time.sleep(600)
