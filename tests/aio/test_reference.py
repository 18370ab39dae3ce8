"""What the documentation of redicts 1.0 promised, awaited, on every store."""

from __future__ import annotations

import asyncio

import pytest

from redicts import LockTimeout, aio
from redicts.aio import Lock, Pool, Proxy, root, section
from tests.support.stores import SENTINELS, Store

ALSO_ON = (SENTINELS,)


def test_values_are_set_and_got(any_store: Store) -> None:
    """``set`` returns its proxy, values are in one hierarchy, and an absent one is ``None`` or the default."""

    async def main() -> None:
        shelf = Proxy("library.fiction.shelf")
        assert await shelf.set("books", 17) is shelf
        assert await shelf.get("books").val() == 17
        assert await (await shelf.set("lamp", {"on": True})).val() == {"lamp": {"on": True}, "books": 17}
        assert await root().val() == {"library": {"fiction": {"shelf": {"lamp": {"on": True}, "books": 17}}}}
        assert await root().get("nobody").val() is None
        assert await root().get("nobody").val("a default") == "a default"
        assert shelf.key() == "library.fiction.shelf"
        assert await section("library").keys() == ["fiction"]

    asyncio.run(main())


def test_tasks_count_under_a_lock(any_store: Store) -> None:
    """``async with`` excludes other tasks: what they read and write under the lock is exact."""

    async def increment() -> None:
        for _ in range(3):
            async with Proxy("a.b.c") as place:
                count = await place.get("d").val()
                await place.set("d", count + 1)

    async def main() -> None:
        await Proxy("a.b.c").set("d", 0)
        await asyncio.gather(*[increment() for _ in range(4)])
        assert await Proxy("a.b.c.d").val() == 12
        assert await Proxy("a.b.c.d").add(2) == 14
        assert await Proxy("new").add(1) == 1
        with pytest.raises(ValueError, match="not a number"):
            await (await root().set("text", "a"))["text"].add(1)

    asyncio.run(main())


def test_children_are_walked_and_removed(any_store: Store) -> None:
    """``iter_children`` yields each leaf, ``delete`` removes a key, and ``clear`` everything below."""

    async def main() -> None:
        tree = root()
        await tree.set("x", 1)
        await tree.set("y", {"z": 2})
        assert await tree.val() == {"x": 1, "y": {"z": 2}}
        assert {name async for name in tree} == {"x", "y"}
        assert {child.key(): await child.val() async for child in tree.iter_children()} == {"y.z": 2, "x": 1}
        assert await tree["x"].exists()
        await tree.delete("x")
        assert not await tree["x"].exists()
        await tree.clear()
        assert not await tree["y"].exists()

    asyncio.run(main())


def test_values_expire(any_store: Store) -> None:
    """A TTL is in seconds: -1 is no expiry, and -2 no value."""

    async def main() -> None:
        await root().set("x", "still here!", expire=100)
        assert 90 < await root()["x"].time_to_live() <= 100
        await root().set("x", "still here!")
        assert await root()["x"].time_to_live() == -1
        await root()["x"].expire(10)
        assert 0 < await root()["x"].time_to_live() <= 10
        assert await root()["y"].time_to_live() == -2

    asyncio.run(main())


def test_a_lock_is_acquired_and_released(any_store: Store) -> None:
    """A ``Lock`` excludes, says so, and is free again; who waits too long gets ``LockTimeout``."""

    async def stranger() -> None:
        with pytest.raises(LockTimeout):
            await Lock(Pool(), "jobs.import.files", acquire_timeout=0.05).acquire()
        assert not await Lock(Pool(), "jobs").acquire(blocking=False)

    async def main() -> None:
        lock = Lock(Pool(), "jobs.import")
        assert await lock.acquire()
        assert await lock.is_locked()
        assert await Proxy("jobs.import.files").is_locked()
        assert not await Proxy("jobs").is_locked()
        await asyncio.create_task(stranger())
        await lock.release()
        assert not await lock.is_locked()

    asyncio.run(main())


def test_edits_and_transactions_commit(any_store: Store) -> None:
    """``edit`` stores what its block changed, and a transaction all of its changes or none."""

    async def main() -> None:
        async with Proxy("stock").edit() as stock:
            stock["apples"] = 12
        async with root().transaction() as changes:
            changes.expect("stock.apples", 12)
            changes.add("stock.apples", -2)
            changes.set("sold", 2)
        assert await root().val() == {"stock": {"apples": 10}, "sold": 2}

    asyncio.run(main())


def test_a_database_is_opened_and_closed(any_store: Store) -> None:
    """``aio.open`` opens a store beside the pool, and a block closes it."""

    async def main() -> None:
        async with aio.open(any_store.configuration or None, fake_redis=any_store.fake) as db:
            await db.proxy("a").set("b", 1)
            async with db.lock("a"):
                assert await db.root().val() == {"a": {"b": 1}}

    asyncio.run(main())
