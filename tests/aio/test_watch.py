"""A watch gives tasks the value of a subtree, and then each value that it becomes, on every store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

import redicts
from redicts import ABSENT, WrongUse, aio
from redicts.aio import Proxy
from tests.support.stores import Store
from tests.support.waiting import TIMEOUT

SOON: Final = 8.0
"""Less than the time after which a watch looks without a notification."""


async def soon(watch: aio.Watch) -> Any:
    """Return the next value of a watch, or fail if no notification leads to it."""
    return await asyncio.wait_for(anext(watch), SOON)


def test_changes_are_told_to_tasks(any_store: Store) -> None:
    """Writes at, above and below the path, by a task and by a thread, and the end of a TTL end the wait of a task."""

    async def main() -> None:
        car, garage = Proxy("garage.car"), Proxy("garage")
        async with car.watch() as watch, Proxy("").watch() as whole:
            assert await soon(watch) is ABSENT
            assert await soon(whole) is ABSENT
            writes: list[Callable[[], Awaitable[object]]] = [
                lambda: car.set("wheels", 4),
                lambda: garage.put({"car": {"wheels": 5}}),
                lambda: car["wheels"].add(1),
                lambda: asyncio.to_thread(redicts.Proxy("garage.car").set, "wheels", 7),
                lambda: garage.delete("car"),
                lambda: car.put({f"n{n}": n for n in range(20)}),
                lambda: car["n3"].put(1, expire=0.3),
            ]
            for write in writes:
                await write()
                assert await soon(watch) == await car.val(ABSENT)
                assert await soon(whole) == await Proxy("").val(ABSENT)
            assert "n3" not in await soon(watch)

    asyncio.run(main())


def test_the_wait_can_be_cancelled_and_continued(any_store: Store) -> None:
    """A task that is cancelled while it waits ends at once, and the watch goes on where it was."""

    async def main() -> None:
        watch = Proxy("a").watch()
        assert await soon(watch) is ABSENT
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(watch), 0.01)
        await Proxy("a").put(1)
        assert await soon(watch) == 1
        await watch.aclose()
        assert [value async for value in watch] == []
        with pytest.raises(WrongUse, match="begin another one"):
            await watch.__aenter__()

    asyncio.run(main())


def test_close_ends_a_wait(any_store: Store) -> None:
    """A watch that another task closes ends, also while its own task waits."""

    async def main() -> None:
        watch = Proxy("a").watch()
        assert await soon(watch) is ABSENT
        waiting = asyncio.ensure_future(anext(watch, "the end"))
        await asyncio.sleep(0.01)
        watch.close()
        assert await asyncio.wait_for(waiting, SOON) == "the end"

    asyncio.run(main())


def test_later_changes_and_their_keys(any_store: Store) -> None:
    """Without the initial value, changes are given from the begin of the block on, with the keys that changed."""

    async def main() -> None:
        await Proxy("a").put({"x": 1, "y": 2})
        async with Proxy("a").watch(initial=False, keys=True, timeout=0) as watch:
            await Proxy("a").put({"x": 1, "z": 3})
            assert [pair async for pair in watch] == [({"x": 1, "z": 3}, ["a.y", "a.z"])]

    asyncio.run(main())


def test_a_thousand_watches_share_what_one_has(fast_store: Store) -> None:
    """A thousand watches of an event loop have no thread each, and all are told."""

    async def main() -> None:
        before = threading.active_count()
        watches = [Proxy("jobs")[f"n{number}"].watch() for number in range(1000)]
        assert await asyncio.gather(*map(anext, watches)) == [ABSENT] * 1000
        waiting = [asyncio.ensure_future(anext(watch)) for watch in watches]
        await asyncio.sleep(0)
        assert threading.active_count() <= before + 20  # those that make calls of tasks, and the one that waits
        await Proxy("jobs").put({f"n{number}": number for number in range(1000)})
        # Two thousand reads in a few threads take seconds on a busy machine.
        assert await asyncio.wait_for(asyncio.gather(*waiting), 3 * TIMEOUT) == list(range(1000))

    asyncio.run(main())
