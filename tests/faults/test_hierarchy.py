"""Random locks on overlapping paths, by threads of several processes: an oracle sees no conflict."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

import pytest

from redicts import Deadlock, Lock, Pool
from redicts.core.locks import records
from redicts.core.locks.acquisition import Timing
from tests.faults.actions import LONG, acquire, release
from tests.faults.conftest import Site
from tests.faults.oracle import Oracle, Violation
from tests.faults.processes import results
from tests.support.servers import RedisServer

ROUNDS: Final = 1_000 if LONG else 15
THREADS: Final = 2
PATHS: Final = ("", "a", "a.a", "a.b", "b", "b.a", "b.a.a", "b.a.b", "ab")

_oracles: list[Oracle] = []
_owner = threading.local()


def use_oracle(host: str, port: int) -> None:
    """Connect this process to an oracle."""
    _oracles.append(Oracle(host, port))


def owner() -> str:
    """Return the oracle's name for this thread."""
    if not hasattr(_owner, "name"):
        _owner.name = f"{random.SystemRandom().getrandbits(64):x}"
    name: str = _owner.name
    return name


class Active:
    """Holds a lock, and is active for the oracle while it does."""

    def __init__(self, paths: list[str], shared: bool) -> None:
        self._paths = paths
        self._shared = shared
        first, *others = [Lock(Pool(), path, acquire_timeout=60, shared=shared) for path in paths]
        self._lock = first.all(*others) if others else first

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            _oracles[0].enter(owner(), self._shared, self._paths)
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        _oracles[0].leave(owner(), self._shared, self._paths)
        self._lock.release()


def lock_at_random(seed: int, rounds: int) -> tuple[int, int]:
    """Acquire random locks in threads, nested and several at once; return the number of locks and deadlocks."""
    with ThreadPoolExecutor(THREADS) as threads:
        running = [threads.submit(_lock_at_random, random.Random(f"{seed}/{each}"), rounds) for each in range(THREADS)]
        done = [each.result() for each in running]
    return sum(locks for locks, _ in done), sum(deadlocks for _, deadlocks in done)


def _lock_at_random(chance: random.Random, rounds: int) -> tuple[int, int]:
    locks = deadlocks = 0
    for _ in range(rounds):
        try:
            with ExitStack() as held:
                for _ in range(chance.choice((1, 1, 1, 2, 3))):
                    paths = chance.sample(PATHS, chance.choice((1, 1, 1, 2)))
                    held.enter_context(Active(paths, chance.random() < 0.4))
                    locks += 1
                if chance.random() < 0.3:
                    time.sleep(chance.uniform(0, 0.002))  # so that others meet it
        except Deadlock:
            deadlocks += 1
    return locks, deadlocks


@pytest.mark.timeout(7_200)
def test_no_two_conflicting_owners_are_active(any_site: Site) -> None:
    """Exclusive and shared locks, nested and several at once, on overlapping paths: the oracle refuses none."""
    processes = any_site.start(3, Timing(waiter_ttl=2.0, heartbeat=0.1, first_heartbeat=0.05))
    for seed, process in enumerate(processes):
        process.call(use_oracle, any_site.server.host, any_site.server.port)
        process.begin(lock_at_random, seed, ROUNDS)
    done = results(processes, within=3_600 if LONG else 90)
    locks, deadlocks = map(sum, zip(*done))
    assert locks > ROUNDS * THREADS * len(processes) / 2
    assert deadlocks < locks
    oracle = Oracle(any_site.server.host, any_site.server.port)
    assert oracle.active == 0
    oracle.close()
    any_site.nothing_is_left()


def look_upwards_only() -> None:
    """Make the locks of this process ignore locks below their paths."""
    records.scopes_of = records.scopes_above


def lock_nothing() -> None:
    """Make the locks of this process ineffective."""
    Lock.acquire = lambda *_: True  # type: ignore[method-assign]
    Lock.release = lambda *_: None  # type: ignore[method-assign]


@pytest.mark.parametrize("broken", [look_upwards_only, lock_nothing], ids=lambda each: each.__name__)
def test_the_oracle_detects_locks_that_do_not_exclude(site: Site, broken: Callable[[], None]) -> None:
    """It detects a lock that ignores locks below it, and a missing lock, and names both paths."""
    below, above = site.start(2)
    for process in (below, above):
        process.call(use_oracle, site.server.host, site.server.port)
        process.call(broken)
    below.call(be_active, "b.a.b")
    with pytest.raises(Violation, match=r"'b\.a'.*X \S+ /b/a/b/"):
        above.call(be_active, "b.a")
    below.call(be_inactive)
    above.call(be_active, "b.a")
    above.call(be_inactive)


def test_random_locks_conflict_often_enough(site: Site) -> None:
    """The random locks above let the oracle detect missing locks."""
    processes = site.start(3)
    for seed, process in enumerate(processes):
        process.call(use_oracle, site.server.host, site.server.port)
        process.call(lock_nothing)
        process.begin(lock_at_random, seed, 1_000)
    found = 0
    for process in processes:
        try:
            process.result()
        except Violation:
            found += 1
    assert found


_active: list[Active] = []


def be_active(path: str) -> None:
    """Be active at a path until :func:`be_inactive`."""
    found = Active([path], False)
    found.__enter__()
    _active.append(found)


def be_inactive() -> None:
    """End the last activity."""
    _active.pop().__exit__()


def test_the_oracle_allows_what_does_not_conflict(server: RedisServer) -> None:
    """It allows siblings, names with a common prefix, readers, and the same owner."""
    oracle = Oracle(server.host, server.port)
    oracle.enter("one", False, ["a.b", "c"])
    oracle.enter("one", True, ["a.b"])
    oracle.enter("two", False, ["a.c", "a.bb", "b"])
    oracle.enter("two", True, ["d"])
    oracle.enter("three", True, ["d.e", "d"])
    for path in ("", "a", "a.b", "a.b.c", "c.x", "d"):
        with pytest.raises(Violation):
            oracle.enter("four", False, [path])
    oracle.leave("three", True, ["d.e", "d"])
    oracle.leave("two", True, ["d"])
    oracle.enter("four", False, ["d"])
    oracle.close()


def test_a_lock_on_the_root_conflicts_with_all_others(any_site: Site) -> None:
    """A lock on the root waits for any lock of another process, and any lock for it."""
    one, two = any_site.start(2)
    one.call(acquire, "x.y.z")
    assert not two.call(acquire, "", blocking=False)
    assert two.call(acquire, "x.y.zz", blocking=False)
    two.call(release, "x.y.zz")
    one.call(release, "x.y.z")
    assert two.call(acquire, "", blocking=False)
    assert not one.call(acquire, "x.y.z", blocking=False)
    two.call(release, "")
    any_site.nothing_is_left()
