"""Event loops: several in several threads, loops that end with calls under way, and forks."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import threading
from pathlib import Path

import pytest
import redis

import redicts
from redicts import aio
from redicts.aio import Pool, Proxy, root
from tests.support.servers import RedisServer
from tests.support.stores import together
from tests.support.waiting import TIMEOUT, eventually


@pytest.fixture
def configuration(server: RedisServer) -> dict[str, object]:
    """Use a server of Redis."""
    found: dict[str, object] = {"backend": "redis", "host": server.host, "port": server.port}
    redicts.Pool().reload(cfg=found)
    return found


def clients(server: RedisServer) -> int:
    """Return how many connections the server has, but for the one that asks."""
    with redis.Redis(server.host, server.port) as client:
        return len(client.client_list()) - 1


def test_several_loops_in_several_threads(configuration: dict[str, object]) -> None:
    """Each loop has connections of its own, and tasks of all loops exclude each other."""

    async def count() -> None:
        for _ in range(5):
            async with Proxy("a") as place:
                value = await place["n"].val(0)
                await place.set("n", value + 1)

    async def main() -> None:
        await asyncio.gather(count(), count())

    together(*[lambda: asyncio.run(main()) for _ in range(3)])
    assert redicts.Proxy("a.n").val() == 30


def test_a_loop_closes_its_connections_when_it_ends(server: RedisServer, configuration: dict[str, object]) -> None:
    """After ``asyncio.run``, nothing is open, without a call to close: a program need not know of connections."""

    async def main() -> None:
        await root().set("a", 1)
        async with Proxy("a"):
            with pytest.raises(redicts.LockTimeout):
                await asyncio.create_task(waiting())
        assert clients(server) >= 2

    async def waiting() -> None:
        await Proxy("a", lock_acquire_timeout=0.01).acquire()

    before = clients(server)
    for _ in range(3):
        asyncio.run(main())
    eventually(lambda: clients(server) <= before, "the connections are closed")


def test_a_thousand_tasks_share_the_connections(server: RedisServer) -> None:
    """However many tasks call at once, no more than ``max_connections`` are open."""
    redicts.Pool().reload(cfg={"backend": "redis", "host": server.host, "port": server.port, "max_connections": 2})
    before = clients(server)

    async def main() -> None:
        await asyncio.gather(*[root().set(f"n.{number}", number) for number in range(1000)])
        values = await asyncio.gather(*[root()[f"n.{number}"].val() for number in range(1000)])
        assert values == list(range(1000))
        long = "x" * 100_000
        await asyncio.gather(*[root().set(f"long.{number}", long) for number in range(20)])
        assert clients(server) - before <= 2

    asyncio.run(main())


@pytest.mark.parametrize("on_server", [False, True])
def test_a_loop_that_is_closed_with_calls_under_way_leaves_nothing(
    on_server: bool, request: pytest.FixtureRequest
) -> None:
    """A task that never goes on holds no lock for long, and waits for none: a background thread releases them."""
    if on_server:
        request.getfixturevalue("configuration")

    async def hold() -> None:
        async with Proxy("a"):
            await asyncio.get_running_loop().create_future()

    async def wait() -> None:
        async with Proxy("a"):
            pass

    async def run_for_a_while() -> None:
        tasks.append(asyncio.ensure_future(hold()))
        while not await Proxy("a").is_locked():
            await asyncio.sleep(0)
        tasks.append(asyncio.ensure_future(wait()))
        while not await Proxy("a").lock().waiters():
            await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(run_for_a_while())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # as this test means it
    del task
    tasks.clear()
    gc.collect()
    eventually(lambda: not redicts.Proxy("a").is_locked(), "the lock is released")
    eventually(lambda: not redicts.Proxy("a").lock().waiters(), "the waiter is withdrawn")


def _work_in_child() -> None:
    async def main() -> None:
        async with Proxy("a", lock_acquire_timeout=TIMEOUT) as place:
            await place["n"].add(1)

    asyncio.run(main())


def test_a_child_that_a_loop_forks_works_in_a_loop_of_its_own(configuration: dict[str, object]) -> None:
    """It has none of the locks and connections of its parent, which goes on."""

    async def main() -> None:
        place = Proxy("a")
        await place.set("n", 1)
        async with place:
            child = multiprocessing.get_context("fork").Process(target=_work_in_child)
            child.start()
            while not await place.lock().waiters():
                await asyncio.sleep(0.01)
            assert await place["n"].add(1) == 2
        await asyncio.to_thread(child.join, TIMEOUT)
        assert child.exitcode == 0
        assert await place["n"].val() == 3

    asyncio.run(main())


def test_a_reload_of_the_pool_moves_tasks_to_the_new_store(
    server: RedisServer, configuration: dict[str, object]
) -> None:
    """Existing proxies use the new settings, and the old connections are closed when their calls are over."""
    before = clients(server)

    async def main() -> None:
        place = Proxy("a")
        await place.put(1)
        pending = [asyncio.ensure_future(place.val()) for _ in range(10)]
        await asyncio.sleep(0)
        await Pool().reload(cfg={"backend": "memory"})
        assert await place.val() is None
        assert await asyncio.gather(*pending) == [1] * 10
        while clients(server) > before:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), TIMEOUT))


def test_a_closed_database_still_answers_and_stays_closed(
    server: RedisServer, configuration: dict[str, object]
) -> None:
    """A later call works, closes what it opens, and there is no further block."""
    before = clients(server)

    async def main() -> None:
        async with aio.open(configuration) as db:
            await db.root().set("a", 1)
        assert await db.root()["a"].val() == 1
        with pytest.raises(redicts.WrongUse, match=r"redicts\.aio\.open"):
            async with db:
                pass
        while clients(server) > before:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), TIMEOUT))


def test_waiting_holds_no_thread(tmp_path: Path) -> None:
    """On a store that is called in threads, a hundred waiters need no more of them than a few."""
    redicts.Pool().reload(cfg={"backend": "sqlite", "path": str(tmp_path / "tree.db")})
    before = threading.active_count()

    async def count() -> None:
        async with Proxy("a", lock_acquire_timeout=None) as place:
            await place["n"].add(1)

    async def main() -> None:
        async with Proxy("a") as place:
            await place.set("n", 0)
            tasks = [asyncio.create_task(count()) for _ in range(100)]
            while len(await place.lock().waiters()) < 16:
                await asyncio.sleep(0.01)
            assert threading.active_count() - before < 25
        await asyncio.gather(*tasks)
        assert await place["n"].val() == 100

    asyncio.run(main())


def test_a_task_learns_of_a_release_by_another_database_of_its_file(tmp_path: Path) -> None:
    """One thread waits for all tasks, and looks at the file."""
    configuration = {"backend": "sqlite", "path": str(tmp_path / "tree.db")}
    redicts.Pool().reload(cfg=configuration)

    async def wait() -> None:
        async with Proxy("a"):
            pass

    async def main() -> None:
        with redicts.open(configuration) as other:
            with other.lock("a"):
                waiting = asyncio.create_task(wait())
                while not await Proxy("a").lock().waiters():
                    await asyncio.sleep(0.01)
            await waiting

    asyncio.run(asyncio.wait_for(main(), TIMEOUT))
