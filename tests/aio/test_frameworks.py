"""The recipes of the page on asyncio run with the real frameworks, and so do other event loops."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import pytest

import redicts
from redicts import WrongUse
from redicts.aio import Proxy, root
from tests.pages.parsing import DOCS

_PAGE: Final = DOCS / "asyncio.md"


def recipe(name: str) -> dict[str, Any]:
    """Run the block of a recipe, and return its names."""
    pattern = rf"<!-- recipe: {name} -->.*?```python\n(.*?)```"
    found = re.search(pattern, _PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    names: dict[str, Any] = {}
    exec(compile(found[1], str(_PAGE), "exec"), names)
    return names


def test_the_recipe_for_fastapi() -> None:
    """Endpoints hold the lock of their dependency: a hundred deposits at once are all counted."""
    pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")
    app = recipe("fastapi")["app"]

    async def main() -> None:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            calls = [client.post("/accounts/anna/deposit", params={"amount": 1}) for _ in range(20)]
            answers = [answer.json() for answer in await asyncio.gather(*calls)]
            assert sorted(answer["balance"] for answer in answers) == list(range(1, 21))
            assert all(answer["held"] for answer in answers)
            assert await app.state.db.root()["accounts"].val() == {"anna": {"balance": 20}}

    asyncio.run(main())


async def count_under_a_lock() -> int:
    """Count with several tasks under one lock."""

    async def count() -> None:
        async with Proxy("a") as place:
            value = await place["n"].val(0)
            await place.set("n", value + 1)

    await root().clear()
    await asyncio.gather(*[count() for _ in range(10)])
    return int(await Proxy("a.n").val())


@pytest.mark.parametrize("store", ["memory", "redis"])
def test_other_event_loops_run_it(store: str, request: pytest.FixtureRequest) -> None:
    """The loop of uvloop awaits the same calls, and has nothing open at its end."""
    uvloop = pytest.importorskip("uvloop")
    if store == "redis":
        server = request.getfixturevalue("server")
        redicts.Pool().reload(cfg={"backend": "redis", "host": server.host, "port": server.port})
    loop = uvloop.new_event_loop()
    try:
        assert loop.run_until_complete(count_under_a_lock()) == 10
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def test_anyio_on_asyncio_runs_it() -> None:
    """Tasks of anyio are tasks of asyncio there, and each is an owner."""
    anyio = pytest.importorskip("anyio")

    async def main() -> None:
        async def try_it() -> None:
            assert not await Proxy("a").acquire(blocking=False)

        async with Proxy("a"), anyio.create_task_group() as group:
            group.start_soon(try_it)

    anyio.run(main)


def test_under_trio_tasks_are_owners_and_calls_are_refused() -> None:
    """The asynchronous calls say what to do instead. Two tasks that call the blocking ones exclude each other."""
    trio = pytest.importorskip("trio")

    async def main() -> None:
        with pytest.raises(WrongUse, match="trio"):
            await Proxy("a").val()
        with pytest.raises(WrongUse, match="trio"):
            async with Proxy("a"):
                pass
        tried: list[object] = []

        async def try_it() -> None:
            tried.append(redicts.Proxy("a").acquire(blocking=False))
            with pytest.raises(redicts.Deadlock):
                redicts.Proxy("a").acquire()

        with redicts.Proxy("a"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(try_it)
        assert tried == [False]
        assert not redicts.Proxy("a").is_locked()

    trio.run(main)
