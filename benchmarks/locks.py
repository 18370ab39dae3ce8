"""Locks on Redis compared with redis-py's own ``Lock``: alone, nested, handed over, contended, and among many others.

Run it from the project's folder with ``python -m benchmarks.locks``; it starts a server of its own. Both sides of a
ratio are measured in one run, alternating where that is possible, and medians are compared. A *round trip* is a
``PING`` by redis-py's client in the same run and after the same pause.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier, Event
from statistics import median
from typing import Any, Final, NamedTuple

import redis

from benchmarks.report import medians, report_on_redis, row
from redicts import Lock, Pool, Proxy
from tests.support.servers import RedisServer

_PROCESSES: Final = 4
_CONTENDED_SECS: Final = 4.0
_START_SECS: Final = 60.0
_FOREIGN: Final = 10_000
_LOCK: Final = "handed.over"

_spawn: Final[Any] = multiprocessing.get_context("spawn")


def pair(lock: Proxy | Lock) -> Callable[[], None]:
    """Return a function that acquires and releases a lock once."""

    def once() -> None:
        lock.acquire()
        lock.release()

    return once


def alone(server: RedisServer, rounds: int) -> list[dict[str, Any]]:
    """Measure acquire and release of an uncontended lock, and of one that this thread holds already."""
    client = redis.Redis(port=server.port)
    Pool().reload(cfg={"port": server.port})
    proxy = Proxy("jobs.import")

    def theirs() -> None:
        lock = client.lock("jobs.import", timeout=30, blocking=True)
        lock.acquire()
        lock.release()

    deep, deeper = Proxy("jobs"), Proxy("jobs.import.files.one.two")
    times = medians({"theirs": theirs, "ours": pair(proxy), "depth 1": pair(deep), "depth 5": pair(deeper)}, rounds)
    guarded = section_writes(rounds)
    with proxy:
        before = client.info("stats")["total_commands_processed"]
        nested = medians({"nested": pair(proxy), "below": pair(deeper)}, rounds)
        sent = client.info("stats")["total_commands_processed"] - before - 1
    return [
        row("acquire and release, two segments", times["ours"], times["theirs"], "redis-py's Lock", 1.3, "us"),
        row("the same, one segment", times["depth 1"], times["theirs"], "redis-py's Lock", None, "us"),
        row("the same, five segments", times["depth 5"], times["theirs"], "redis-py's Lock", None, "us"),
        row("nested acquire and release", nested["nested"], 20.0, "20 us", 1.0, "us"),
        row("nested, on a path below", nested["below"], 20.0, "20 us", 1.0, "us"),
        row("commands sent by nested acquires", float(sent), 1.0, "", 0.0, "sent"),
        guarded,
    ]


def section_writes(rounds: int) -> dict[str, Any]:
    """Measure a write under a lock compared with one without."""
    free, locked = Proxy("free"), Proxy("locked")
    with locked:
        times = medians({"free": lambda: free.set("leaf", 42), "guarded": lambda: locked.set("leaf", 42)}, rounds)
    return row("write of a leaf under a lock", times["guarded"], times["free"], "without a lock", None, "us")


def started(work: Callable[..., None], *arguments: Any) -> tuple[Any, Connection]:
    """Start a process with the other end of a pipe as its last argument, and return both.

    If the process ends early, the pipe raises ``EOFError``, and the benchmark ends instead of waiting for it.
    """
    pipe, other_end = _spawn.Pipe()
    process = _spawn.Process(target=work, args=(*arguments, other_end), daemon=True)
    process.start()
    other_end.close()
    return process, pipe


# Hand-off: one process waits, the other releases; both read the clock of the machine.


def wait_for_lock(ours: bool, port: int, pipe: Connection) -> None:
    """Acquire whenever the pipe says so, and send the time of the grant."""
    acquire, release = lock_of(ours, port)
    while pipe.recv():
        pipe.send("waiting")
        acquire()
        granted = time.monotonic()
        release()
        pipe.send(granted)


def lock_of(
    ours: bool, port: int, name: str = _LOCK, settings: dict[str, float] | None = None
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return acquire and release of redicts' lock, with further settings, or of redis-py's."""
    if ours:
        Pool().reload(cfg={"port": port, **(settings or {})})
        proxy = Proxy(name, lock_acquire_timeout=60)
        return proxy.acquire, proxy.release
    lock: Any = redis.Redis(port=port).lock(name, timeout=30, blocking_timeout=60)
    return lock.acquire, lock.release


def handed_over(ours: bool, port: int, rounds: int) -> tuple[float, float]:
    """Return the median time from the call of release to the end of the other process's acquire, and of a round trip.

    In microseconds. Both begin after the same pause, because a process is slow at first after a sleep.
    """
    acquire, release = lock_of(ours, port)
    client = redis.Redis(port=port)
    waiter, pipe = started(wait_for_lock, ours, port)
    handed, pinged = [], []
    for number in range(rounds):
        pause = 0.02 + 0.1 * (number * 0.618 % 1)  # so that polls are met in every phase
        time.sleep(pause)
        start = time.monotonic()
        client.ping()
        pinged.append(time.monotonic() - start)
        acquire()
        pipe.send(True)
        pipe.recv()
        time.sleep(pause)
        start = time.monotonic()
        release()
        handed.append(pipe.recv() - start)
    pipe.send(False)
    waiter.join()
    return float(median(handed) * 1e6), float(median(pinged) * 1e6)


def hand_off(server: RedisServer, rounds: int) -> list[dict[str, Any]]:
    """Measure the time from a release to the waiter's grant."""
    rounds = max(20, rounds // 20)
    ours, ping = handed_over(True, server.port, rounds)
    theirs, _ = handed_over(False, server.port, rounds)
    return [
        row("hand-off to a waiter", ours, ping, "one round trip", 5, "us"),
        row("hand-off of redis-py's Lock", theirs, ours, "redicts", None, "us", least=20),
    ]


# Contention: four processes count under one lock.


class Share(NamedTuple):
    """The result of one process: how often it counted, and its longest wait for the lock in seconds."""

    counted: int
    longest: float


def count(ours: bool, port: int, settings: dict[str, float], start: Barrier, stop: Event, pipe: Connection) -> None:
    """Count under one lock until the event is set."""
    acquire, release = lock_of(ours, port, settings=settings)
    add: Callable[[], object] = partial(redis.Redis(port=port).incr, "number")
    if ours:
        add = partial(Proxy(_LOCK).get("number").add, 1)
    work(acquire, add, release, start, stop, pipe)


def work(
    acquire: Callable[[], object],
    do: Callable[[], object],
    release: Callable[[], object],
    start: Barrier,
    stop: Event,
    pipe: Connection,
) -> None:
    """Call ``do`` under a lock until the event is set; send how often, and the longest wait."""
    counted, longest = 0, 0.0
    start.wait()
    while not stop.is_set():
        before = time.monotonic()
        acquire()
        longest = max(longest, time.monotonic() - before)
        do()
        release()
        counted += 1
    pipe.send((counted, longest))


def shares(work: Callable[..., None], arguments: list[tuple[Any, ...]]) -> list[Share]:
    """Let processes work concurrently for a while, and return the result of each."""
    start, stop = _spawn.Barrier(len(arguments) + 1), _spawn.Event()
    workers = [started(work, *own, start, stop) for own in arguments]
    start.wait(_START_SECS)
    time.sleep(_CONTENDED_SECS)
    stop.set()
    found = [Share(*pipe.recv()) for _, pipe in workers]
    for worker, _ in workers:
        worker.join()
    return found


def contended(server: RedisServer) -> list[dict[str, Any]]:
    """Measure four processes that count under one lock, with retention and without."""
    ours, in_order, theirs = (
        shares(count, [(of_redicts, server.port, settings)] * _PROCESSES)
        for of_redicts, settings in ((True, {}), (True, {"lock_retention": 0.0}), (False, {}))
    )

    def total(found: list[Share]) -> float:
        return sum(share.counted for share in found) / _CONTENDED_SECS

    def longest(found: list[Share]) -> float:
        return max(share.longest for share in found) * 1000

    counts = [share.counted for share in ours]
    their_counts = [share.counted for share in theirs]
    return [
        row(
            "four processes: counts of the slowest", min(counts), max(counts), "the fastest", None, "counts", least=0.8
        ),
        row("the same with redis-py's Lock", min(their_counts), max(their_counts), "the fastest", None, "counts"),
        row("longest wait of redis-py's Lock", longest(theirs), longest(ours), "redicts", None, "ms", least=10),
        row("counts per second, all together", total(ours), total(theirs), "redis-py's Lock", None, "/s", least=0.6),
        row("the same strictly in order", total(in_order), total(theirs), "redis-py's Lock", None, "/s", least=0.6),
    ]


# Disjoint subtrees.


def count_apart(ours: bool, port: int, name: str, start: Barrier, stop: Event, pipe: Connection) -> None:
    """Acquire and release a lock that no other process uses until the event is set."""
    acquire, release = lock_of(ours, port, f"{name}.own")
    work(acquire, lambda: None, release, start, stop, pipe)


def requests_of(client: redis.Redis) -> int:
    """Return how many calls of functions and scripts the server has answered."""
    told = client.info("commandstats")
    return sum(told.get(f"cmdstat_{command}", {"calls": 0})["calls"] for command in ("fcall", "evalsha"))


def disjoint(server: RedisServer) -> list[dict[str, Any]]:
    """Measure whether disjoint locks slow each other down more than redis-py's locks of different names do."""
    gained = {}
    client = redis.Redis(port=server.port)
    for ours in (True, False):
        one = shares(count_apart, [(ours, server.port, "section0")])
        before = requests_of(client)
        many = shares(count_apart, [(ours, server.port, f"section{number}") for number in range(_PROCESSES)])
        calls = requests_of(client) - before
        counted = sum(share.counted for share in many)
        gained[ours] = counted / one[0].counted
        if ours:
            requests = calls / counted
    return [
        row("disjoint: speedup of four", gained[True], gained[False], "redis-py's Lock", None, "times", least=0.8),
        row("disjoint: requests of an acquire and release", requests, 2.0, "two requests", 1.01, "sent"),
    ]


# Many other locks.


def hold_many(port: int, pipe: Connection) -> None:
    """Acquire many locks, never release them, and send that they are held."""
    Pool().reload(cfg={"port": port})
    for number in range(_FOREIGN):
        Proxy(["others", f"group{number % 100}", f"lock{number}"], lock_expire_timeout=3600).acquire()
    pipe.send("held")


def among_others(server: RedisServer, rounds: int) -> dict[str, Any]:
    """Measure whether ten thousand locks elsewhere in the tree make an acquire slower.

    Both trees are databases of one server. Of two servers, one may run on the client's processor and the other not,
    which makes a difference of a third.
    """
    stranger, pipe = started(hold_many, server.port)
    pipe.recv()
    stranger.join()
    trees = {
        name: Lock(redis.Redis(port=server.port, db=number), "jobs.import")
        for name, number in (("full", 0), ("empty", 1))
    }

    times = medians({name: pair(lock) for name, lock in trees.items()}, rounds)
    return row("among 10,000 other locks", times["full"], times["empty"], "no other locks", 1.15, "us")


def measured(server: RedisServer, rounds: int) -> list[dict[str, Any]]:
    """Measure everything."""
    return [
        *alone(server, rounds),
        *hand_off(server, rounds),
        *contended(server),
        *disjoint(server),
        among_others(server, rounds),
    ]


if __name__ == "__main__":
    sys.exit(report_on_redis(__doc__, measured))
