"""A Redis database as users have it, and calls measured there: their time, and the server's processor time.

An empty database proves little: a request may be faster as long as nothing has a TTL, or no other client writes.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final, NamedTuple

import redis

from benchmarks.report import row
from redicts import Pool, Proxy
from tests.support.servers import RedisServer

_KEYS: Final = 100_000
_SESSIONS: Final = 20
_BLOCKS: Final = 20
_CLIENTS: Final = 16
_BUSY_SECS: Final = 2.0

_fork: Final[Any] = multiprocessing.get_context("fork")  # 160 processes that import redicts would take minutes

Call = Callable[[], object]


class Job(NamedTuple):
    """A call of redicts and the one that it is compared with, and the bounds of the ratios of their times."""

    what: str
    ours: Call
    theirs: Call
    baseline: str
    most: float | None = None
    most_of_server: float | None = None


def fill(server: RedisServer) -> redis.Redis:
    """Give the database other keys, leaves with a TTL, and the sessions of other clients; return a client of it."""
    client = redis.Redis(port=server.port)
    for start in range(0, _KEYS, 10_000):
        client.mset({f"other:{number}": "x" * 20 for number in range(start, start + 10_000)})
    for _ in range(_SESSIONS):
        Pool().reload(cfg={"port": server.port})  # each has a session of its own
        Proxy("visitors").set("last", {f"page{number}": number for number in range(50)}, expire=36_000)
        Proxy("visitors.last.page0").add(1)  # so that each leaf has a TTL of its own
    return client


def processor_secs(client: redis.Redis) -> float:
    """Return the processor time that the server has used."""
    info: Any = client.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


def compared(client: redis.Redis, jobs: list[Job], rounds: int) -> list[dict[str, Any]]:
    """Measure jobs, the two calls of each by turns, in blocks: the server's processor time of one call is too short."""
    rows = []
    for job in jobs:
        taken: dict[Call, list[float]] = {job.ours: [], job.theirs: []}
        used: dict[Call, list[float]] = {job.ours: [], job.theirs: []}
        for _ in range(_BLOCKS):
            for call, times in taken.items():
                call()
                before = processor_secs(client)
                for _ in range(max(1, rounds // _BLOCKS)):
                    start = time.perf_counter()
                    call()
                    times.append(time.perf_counter() - start)
                used[call].append((processor_secs(client) - before) / max(1, rounds // _BLOCKS))
        ours, theirs = (median(taken[call]) * 1e6 for call in (job.ours, job.theirs))
        rows.append(row(job.what, ours, theirs, job.baseline, job.most, "us"))
        ours, theirs = (median(used[call]) * 1e6 for call in (job.ours, job.theirs))
        rows.append(row("  the server's processor", ours, max(theirs, 0.1), "", job.most_of_server, "us"))
    return rows


def busy(port: int, make: Callable[[int], Call], start: Any, stop: Any, pipe: Any) -> None:
    """Call until the event is set, and send how often."""
    call = make(port)
    call()
    count = 0
    start.wait()
    while not stop.is_set():
        call()
        count += 1
    pipe.send(count)


def at_once(client: redis.Redis, port: int, make: Callable[[int], Call]) -> tuple[float, float]:
    """Have 16 processes call at once; return the calls per second, and the server's microseconds for each."""
    start, stop = _fork.Barrier(_CLIENTS + 1), _fork.Event()
    pipes = [_fork.Pipe() for _ in range(_CLIENTS)]
    processes = [_fork.Process(target=busy, args=(port, make, start, stop, theirs)) for _, theirs in pipes]
    for process in processes:
        process.start()
    start.wait()
    begun, before = time.monotonic(), processor_secs(client)
    time.sleep(_BUSY_SECS)
    stop.set()
    count = sum(ours.recv() for ours, _ in pipes)
    secs, used = time.monotonic() - begun, processor_secs(client) - before
    for process in processes:
        process.join()
    return count / secs, used / count * 1e6
