"""Many tasks want one lock of a real server, and tasks are cancelled at random while they count under it."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import tracemalloc
from typing import Final

import redicts
from redicts.aio import Proxy
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT

_LONG: Final = os.environ.get("REDICTS_TESTS") == "long"
_TASKS: Final = 1000 if _LONG else 100
_INCREMENTS: Final = 10_000 if _LONG else 150
_AT_ONCE: Final = 50

_BYTES: Final = 40_000
"""The most memory of a task that waits, its coroutines included."""


def test_many_tasks_count_under_one_lock(server: RedisServer) -> None:
    """Each of many tasks increments once, in order; none has a thread, and none takes much memory."""
    configuration = {"port": server.port, "host": server.host, "max_connections": 4}
    redicts.Pool().reload(cfg=configuration)
    order: list[int] = []

    async def count(number: int, place: Proxy) -> None:
        async with place:
            value = await place["n"].val(0)
            await place.set("n", value + 1)
            order.append(number)

    async def main() -> None:
        place = Proxy("visits", lock_acquire_timeout=None, lock_expire_timeout=TIMEOUT)
        async with place:
            await place["n"].val()
            threads = threading.active_count()
            tracemalloc.start()
            try:
                tasks = [asyncio.create_task(count(number, place)) for number in range(_TASKS)]
                while len(await place.lock().waiters()) < 16:
                    pass
                used = tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()
            assert threading.active_count() <= threads + 1
        await asyncio.gather(*tasks)
        assert used / _TASKS < _BYTES
        assert await place["n"].val() == _TASKS
        assert order == list(range(_TASKS))
        assert not await place.lock().holders()
        assert not await place.lock().waiters()

    asyncio.run(main())


def test_random_cancellation_counts_no_increment_twice(server: RedisServer) -> None:
    """Every increment that succeeded is counted, none twice, and of a cancelled one the counter and its mark agree."""
    configuration = {"port": server.port, "host": server.host, "max_connections": 4}
    redicts.Pool().reload(cfg=configuration)
    dice = random.Random(11)
    succeeded: set[str] = set()
    uncertain: set[str] = set()
    numbers = iter(range(_INCREMENTS))

    async def increment(name: str, place: Proxy) -> None:
        async with place:
            await place["guarded"].add(1)
            uncertain.add(name)
            async with place.transaction() as changes:
                changes.add("n", 1)
                changes.set(["by", name], True)
            succeeded.add(name)

    async def main() -> None:
        place = Proxy("visits", lock_acquire_timeout=None, lock_expire_timeout=TIMEOUT)
        running: set[asyncio.Task[None]] = set()
        for number in numbers:
            running.add(asyncio.create_task(increment(str(number), place)))
            if len(running) >= _AT_ONCE:
                if dice.random() < 0.3:
                    dice.choice(list(running)).cancel()
                _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait(running)
        async with place:  # whatever a cancelled task left is withdrawn
            value = await place.val()
        assert 0 < len(succeeded) < _INCREMENTS
        assert value["n"] == len(value["by"])
        assert succeeded <= value["by"].keys() <= uncertain
        assert value["n"] <= value["guarded"] <= _INCREMENTS
        assert not await place.lock().holders()

    asyncio.run(main())
