"""The reference's promise: what several processes do under a lock is not mixed up, and nobody polls for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import pytest

from redicts import Lock, Pool, Proxy
from tests.backends.redis_tools import calls
from tests.faults.actions import LONG, NEVER, SOON, acquire, count, counted, release
from tests.faults.conftest import Start, View
from tests.faults.processes import let_run, results
from tests.support.servers import RedisServer

EACH: Final = 10_000 if LONG else 100
PATIENT: Final = 3_000 if LONG else 60
pytestmark = pytest.mark.timeout(2 * PATIENT)


def add(times: int) -> None:
    """Count by adding."""
    for _ in range(times):
        with Proxy("a.b.c") as prox:
            prox.get("d").add(1)


def read_and_set(times: int) -> None:
    """Count by reading and writing."""
    for _ in range(times):
        with Proxy("a.b.c") as prox:
            prox.set("d", prox.get("d").val(0) + 1)


def test_two_processes_add(redis_server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """The example of redicts 1.0, from two processes."""
    look = view(redis_server)
    let_run(start(redis_server, 2), add, EACH, within=PATIENT)
    assert Proxy("a.b.c.d").val() == 2 * EACH
    look.nothing_is_left()


def test_four_processes_read_and_set(redis_server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """Reading, and writing what follows from it, loses no update under the lock."""
    look = view(redis_server)
    let_run(start(redis_server, 4), read_and_set, EACH // 4, within=PATIENT)
    assert Proxy("a.b.c.d").val() == 4 * (EACH // 4)
    look.nothing_is_left()


def test_the_same_without_a_lock_loses_updates(server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """These tests would see a lock that does not lock."""
    look = view(server)
    processes = start(server, 4)
    for process in processes:
        process.does(unlock_everything)
    let_run(processes, read_and_set, 100, within=PATIENT)
    assert Proxy("a.b.c.d").val() < 400
    look.nothing_is_left()


def unlock_everything() -> None:
    """Make ``with proxy`` do nothing in this process."""
    Proxy.__enter__ = lambda self: self  # type: ignore[method-assign]
    Proxy.__exit__ = lambda *_: None  # type: ignore[method-assign]


def test_every_release_notifies_the_next(redis_server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """Several count who never look by themselves: had one notification got lost, one of them would wait for ever."""
    look = view(redis_server)
    let_run(start(redis_server, 4, NEVER), count, "a", EACH // 4, within=PATIENT)
    assert counted(Proxy("a")) == 4 * (EACH // 4)
    look.no_lock_is_left()


def test_every_release_notifies_the_next_at_all_heights(
    redis_server: RedisServer, start: Start, view: Callable[..., View]
) -> None:
    """The same on the root, in the middle and at a leaf."""
    look = view(redis_server)
    processes = start(redis_server, 4, NEVER)
    for process, path in zip(processes, ("", "a", "a.b", "a.c")):
        process.begins(lock_and_unlock, path, EACH // 4)
    results(processes, within=PATIENT)
    look.no_lock_is_left()


def lock_and_unlock(path: str, times: int) -> None:
    """Acquire and release a lock, again and again."""
    for _ in range(times):
        with Lock(Pool(), path, acquire_timeout=None):
            pass


def test_waiting_costs_a_few_requests_per_heartbeat(
    server: RedisServer, start: Start, view: Callable[..., View]
) -> None:
    """Nobody polls: in the time of some beats the server sees three requests of each waiter per beat, and no others."""
    look = view(server)
    current_owner, *waiting = start(server, 3)
    current_owner.does(acquire, "a")
    for waiter in waiting:
        look.queue(waiter, acquire, "a", acquire_timeout=60)
    begun = time.monotonic()
    server.command("CONFIG", "RESETSTAT")
    time.sleep(3 * SOON.heartbeat)  # what is tested is that nothing happens meanwhile
    requests = calls(server)
    beats = (time.monotonic() - begun) / (0.8 * SOON.heartbeat) + 1
    sent = {name for name in requests if name.startswith(("eval", "subscribe", "script", "ping"))}
    assert sent == {"evalsha"}
    assert 2 <= requests["evalsha"] <= len(waiting) * 3 * beats
    assert requests.get("publish", 0) == 0
    current_owner.does(release, "a")


def test_waiting_costs_nothing_between_beats(server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """Whoever is to look for itself only in some minutes sends nothing at all."""
    look = view(server)
    current_owner, waiter = start(server, 2, NEVER)
    current_owner.does(acquire, "a", expire_timeout=300)
    look.queue(waiter, acquire, "a", acquire_timeout=60)
    current_owner.does(settle)
    server.command("CONFIG", "RESETSTAT")
    time.sleep(0.5)  # what is tested is that nothing happens meanwhile
    assert calls(server).keys() <= {"config|resetstat", "config", "auth", "info"}
    current_owner.does(release, "a")
    assert waiter.result()


def settle() -> None:
    """Let a moment pass, in which a waiter that was seen in the queue goes to sleep."""
    time.sleep(0.2)


def test_nested_locks_ask_nobody(server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """Acquiring and releasing what is held already, or lies below it, sends nothing to the server."""
    view(server)
    (process,) = start(server)
    process.does(acquire, "a")
    server.command("CONFIG", "RESETSTAT")
    for _ in range(3):
        process.does(acquire, "a")
        process.does(acquire, "a.b", shared=True)
    for _ in range(3):
        process.does(release, "a.b")
        process.does(release, "a")
    assert calls(server).keys() <= {"config|resetstat", "config", "auth", "info"}
    process.does(release, "a")
