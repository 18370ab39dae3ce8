"""asyncio on Redis compared with ``redis.asyncio``: one read, a hundred reads at once, and a lock; and the busy loop.

Run it from the project's folder with ``python -m benchmarks.aio``; it starts a server of its own. Both sides of a ratio
are measured in one run, alternating, and medians are compared. The last rows are the longest time in milliseconds for
which a task that ticks every millisecond was held up, while other tasks use redicts. The thread of the loop worked for
a part of it; the rest is the machine's, whose other programs ran.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import redis.asyncio

from benchmarks.report import report_on_redis, row
from redicts.aio import Pool, Proxy, root
from tests.support.servers import RedisServer

_TASKS: Final = 100
_CONNECTIONS: Final = 10
_BUSY_MS: Final = 5.0

Call = Callable[[], Awaitable[object]]


async def medians(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Return the median time of each call in microseconds; the calls alternate, so that drift affects all alike."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for warm_up in (True, False):
        for _ in range(rounds // 10 if warm_up else rounds):
            for name, call in calls.items():
                start = time.perf_counter()
                await call()
                if not warm_up:
                    taken[name].append(time.perf_counter() - start)
    return {name: median(times) * 1e6 for name, times in taken.items()}


async def compared(server: RedisServer, rounds: int) -> list[dict[str, Any]]:
    """Measure reads and locks on Redis, next to those of ``redis.asyncio``."""
    pool = redis.asyncio.BlockingConnectionPool(port=server.port, max_connections=_CONNECTIONS)
    client = redis.asyncio.Redis(connection_pool=pool)
    await Pool().reload(cfg={"port": server.port, "max_connections": _CONNECTIONS})
    await root().set("garage.car.wheels", 4)
    await client.set("wheels", 4)
    wheels, proxy = Proxy("garage.car.wheels"), Proxy("jobs.import")

    async def lock() -> None:
        found = client.lock("jobs.import", timeout=30)
        await found.acquire()
        await found.release()

    async def our_lock() -> None:
        await proxy.acquire()
        await proxy.release()

    async def at_once(call: Call) -> None:
        async def repeat() -> None:
            for _ in range(10):
                await call()

        await asyncio.gather(*[repeat() for _ in range(_TASKS)])

    one = await medians({"ours": wheels.val, "theirs": lambda: client.get("wheels")}, rounds)
    locks = await medians({"ours": our_lock, "theirs": lock}, rounds)
    many = await medians(
        {"ours": lambda: at_once(wheels.val), "theirs": lambda: at_once(lambda: client.get("wheels"))},
        max(3, rounds // 100),
    )
    await client.aclose()
    per_secs = {name: 1e6 * 10 * _TASKS / micros for name, micros in many.items()}
    return [
        row("read a leaf", one["ours"], one["theirs"], "redis.asyncio GET", 1.0, "us"),
        row("acquire and release", locks["ours"], locks["theirs"], "redis.asyncio Lock", 1.0, "us"),
        row(
            f"{_TASKS} tasks read at once, {_CONNECTIONS} connections",
            per_secs["ours"],
            per_secs["theirs"],
            "redis.asyncio GET",
            None,
            "reads/s",
            least=1.3,
        ),
    ]


async def busy(configuration: dict[str, Any], rounds: int) -> tuple[float, float]:
    """Return for how many milliseconds a ticking task was held up at most while others use a store, and by work."""
    await Pool().reload(cfg=configuration)
    held_up: list[float] = [0.0]
    worked: list[float] = [0.0]

    async def tick() -> None:
        while True:
            before, work = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            held_up.append(time.perf_counter() - before - 0.001)
            worked.append(time.thread_time() - work)

    async def use(number: int) -> None:
        node = Proxy(f"busy.{number % 4}")
        for turn in range(rounds):
            await node.set("value", {"turn": turn, "text": "x" * 100})
            await node.val()
            async with node:
                await node["count"].add(1)

    await use(0)  # opens the store
    # A full collection takes longer the more objects a program has, and here that is everything the benchmark imports.
    gc.collect()
    gc.freeze()
    ticking = asyncio.create_task(tick())
    await asyncio.gather(*[use(number) for number in range(8)])
    ticking.cancel()
    return 1000 * max(held_up), 1000 * max(worked)


def measure(server: RedisServer, rounds: int) -> list[dict[str, Any]]:
    """Measure everything."""
    rows = asyncio.run(compared(server, rounds))
    with tempfile.TemporaryDirectory() as directory:
        stores: dict[str, dict[str, Any]] = {
            "Redis": {"port": server.port},
            "memory": {"backend": "memory"},
            "SQLite": {"backend": "sqlite", "path": str(Path(directory) / "tree.db")},
        }
        for name, configuration in stores.items():
            # The best of three, because anything else on the machine holds up the loop too.
            times = [asyncio.run(busy(configuration, max(2, rounds // 50))) for _ in range(3)]
            held_up, worked = map(min, zip(*times))
            rows.append(row(f"the loop is held up, on {name}", held_up, _BUSY_MS, "the bound", 1.0, "ms"))
            rows.append(row(f"the loop works, on {name}", worked, _BUSY_MS, "the bound", 1.0, "ms"))
        asyncio.run(_reload())
    return rows


async def _reload() -> None:
    await Pool().reload(cfg={"backend": "memory"})


if __name__ == "__main__":
    sys.exit(report_on_redis(__doc__, measure))
