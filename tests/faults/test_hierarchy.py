"""Random locks on overlapping paths, by several threads of several processes: an oracle sees no two that conflict."""

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
from tests.faults.conftest import Start, View
from tests.faults.oracle import Oracle, Violation
from tests.faults.processes import results
from tests.support.servers import RedisServer

ROUNDS: Final = 1_000 if LONG else 15
THREADS: Final = 2
PATHS: Final = ("", "a", "a.a", "a.b", "b", "b.a", "b.a.a", "b.a.b", "ab")

_oracles: list[Oracle] = []
_owner = threading.local()


def ask(host: str, port: int) -> None:
    """Have this process use an oracle."""
    _oracles.append(Oracle(host, port))


def owner() -> str:
    """Return the name of this thread for the oracle."""
    if not hasattr(_owner, "name"):
        _owner.name = f"{random.SystemRandom().getrandbits(64):x}"
    name: str = _owner.name
    return name


class Active:
    """Holds a lock, and says to the oracle that it is active while it does."""

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
    """Lock at random, nested and several at once, in some threads; return how many locks and deadlocks there were."""
    with ThreadPoolExecutor(THREADS) as threads:
        running = [threads.submit(_lock_at_random, random.Random(f"{seed}/{each}"), rounds) for each in range(THREADS)]
        told = [each.result() for each in running]
    return sum(locks for locks, _ in told), sum(deadlocks for _, deadlocks in told)


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
                    time.sleep(chance.uniform(0, 0.002))  # so that others come meanwhile
        except Deadlock:
            deadlocks += 1
    return locks, deadlocks


@pytest.mark.timeout(7_200)
def test_no_two_are_active_that_conflict(redis_server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """Exclusive and shared, nested, several at once, on paths above and below each other: the oracle refuses nobody."""
    look = view(redis_server)
    processes = start(redis_server, 3, Timing(waiter_ttl=2.0, heartbeat=0.1, first_heartbeat=0.05))
    for seed, process in enumerate(processes):
        process.does(ask, redis_server.host, redis_server.port)
        process.begins(lock_at_random, seed, ROUNDS)
    told = results(processes, within=3_600 if LONG else 90)
    locks, deadlocks = sum(locks for locks, _ in told), sum(deadlocks for _, deadlocks in told)
    assert locks > ROUNDS * THREADS * len(processes) / 2
    assert deadlocks < locks
    oracle = Oracle(redis_server.host, redis_server.port)
    assert oracle.active == 0
    oracle.close()
    look.nothing_is_left()


def look_upwards_only() -> None:
    """Have the locks of this process overlook what is held below what they want."""
    records.scopes_of = records.scopes_above


def lock_nothing() -> None:
    """Have the locks of this process do nothing."""
    Lock.acquire = lambda *_: True  # type: ignore[method-assign]
    Lock.release = lambda *_: None  # type: ignore[method-assign]


@pytest.mark.parametrize("broken", [look_upwards_only, lock_nothing], ids=lambda each: each.__name__)
def test_the_oracle_finds_locks_that_do_not_exclude(
    server: RedisServer, start: Start, view: Callable[..., View], broken: Callable[[], None]
) -> None:
    """A lock that looks only upwards, and none at all, are found out, and both paths are told."""
    view(server)
    below, above = start(server, 2)
    for process in (below, above):
        process.does(ask, server.host, server.port)
        process.does(broken)
    below.does(be_active, "b.a.b")
    with pytest.raises(Violation, match=r"'b\.a'.*X \S+ /b/a/b/"):
        above.does(be_active, "b.a")
    below.does(be_inactive)
    above.does(be_active, "b.a")
    above.does(be_inactive)


def test_the_oracle_finds_them_at_random(server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """The random locks above meet each other often enough for that."""
    view(server)
    processes = start(server, 3)
    for seed, process in enumerate(processes):
        process.does(ask, server.host, server.port)
        process.does(lock_nothing)
        process.begins(lock_at_random, seed, 1_000)
    found = 0
    for process in processes:
        try:
            process.result()
        except Violation:
            found += 1
    assert found


_active: list[Active] = []


def be_active(path: str) -> None:
    """Be active at a path, until told otherwise."""
    found = Active([path], False)
    found.__enter__()
    _active.append(found)


def be_inactive() -> None:
    """Be active no more."""
    _active.pop().__exit__()


def test_the_oracle_lets_pass_what_may_be(server: RedisServer) -> None:
    """It is no stricter than the rule: siblings, names that begin alike, readers, and the same owner."""
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


def test_the_root_excludes_everything(redis_server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """A lock on the root waits for locks anywhere, and those for it, over processes."""
    look = view(redis_server)
    one, two = start(redis_server, 2)
    one.does(acquire, "x.y.z")
    assert not two.does(acquire, "", blocking=False)
    assert two.does(acquire, "x.y.zz", blocking=False)
    two.does(release, "x.y.zz")
    one.does(release, "x.y.z")
    assert two.does(acquire, "", blocking=False)
    assert not one.does(acquire, "x.y.z", blocking=False)
    two.does(release, "")
    look.nothing_is_left()
