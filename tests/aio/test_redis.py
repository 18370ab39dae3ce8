"""Connections of asyncio to Redis: lost replies, restarts, servers that do not answer, and replies in pieces."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from redis import exceptions

import redicts
from redicts import StoreTimeout, Unreachable
from redicts.aio import Proxy, root
from redicts.backends.redis.reader import INCOMPLETE, Reader, new_reader
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT


@pytest.fixture
def faults(server: RedisServer) -> Iterator[FaultyProxy]:
    """Use a server behind a proxy that can lose replies."""
    with FaultyProxy(server.port) as proxy:
        redicts.Pool().reload(cfg={"backend": "redis", "host": "127.0.0.1", "port": proxy.port})
        yield proxy
        redicts.Pool().reload(cfg={"backend": "memory"})


def run(main: object) -> None:
    """Run a test in an event loop, with a limit of time."""
    asyncio.run(asyncio.wait_for(main, TIMEOUT))  # type: ignore[arg-type]


def test_a_lost_reply_counts_once(faults: FaultyProxy) -> None:
    """Of many tasks that share a connection which breaks, each counts once: alone, and when they share the loss."""

    async def main() -> None:
        for number in range(1, 4):
            faults.drop_replies()
            assert await root()["n"].add(1) == number
        await asyncio.sleep(0)
        faults.drop_replies()
        sums = await asyncio.gather(*[root()["n"].add(1) for _ in range(20)])
        assert sorted(sums) == list(range(4, 24))
        assert await root()["n"].val() == 23

    run(main())


def test_tasks_go_on_after_a_restart_of_the_server() -> None:
    """Connections are made again, and a task that waits for a lock learns of its release."""
    with RedisServer(append_only=True) as server:
        redicts.Pool().reload(cfg={"backend": "redis", "host": server.host, "port": server.port, "retries": 50})

        async def wait() -> None:
            async with Proxy("a", lock_acquire_timeout=TIMEOUT):
                pass

        async def main() -> None:
            await root().set("n", 1)
            async with Proxy("a"):
                waiting = asyncio.create_task(wait())
                while not await Proxy("a").lock().waiters():
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(server.restart)
                assert await root()["n"].add(1) == 2
            await waiting

        run(main())
        redicts.Pool().reload(cfg={"backend": "memory"})


def test_a_server_that_does_not_answer_is_given_up() -> None:
    """A request ends with the timeout of the settings, and an acquisition with its own, which is a second at least."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        configuration = {"backend": "redis", "host": "127.0.0.1", "port": silent.getsockname()[1], "retries": 0}
        redicts.Pool().reload(cfg={**configuration, "socket_timeout_secs": 0.1, "connect_timeout_secs": 0.1})

        async def main() -> None:
            with pytest.raises(StoreTimeout):
                await root().val()

        run(main())
    with pytest.raises(Unreachable, match="no server accepts connections there"):
        asyncio.run(_read())
    redicts.Pool().reload(cfg={"backend": "memory"})


async def _read() -> None:
    await root().val()


REPLIES = (
    b"+OK\r\n:42\r\n$5\r\nab\r\nc\r\n$-1\r\n*3\r\n$1\r\na\r\n*2\r\n:1\r\n$0\r\n\r\n*0\r\n-ERR no\r\n*-1\r\n"
    b"-NOSCRIPT No matching script\r\n"
)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_the_reader_in_python_reads_what_hiredis_reads(size: int) -> None:
    """Replies that arrive in pieces of any size are the same by both readers."""
    found = []
    for reader in (Reader(), new_reader()):
        replies = []
        for start in range(0, len(REPLIES), size):
            reader.feed(REPLIES[start : start + size])
            while (reply := reader.gets()) is not INCOMPLETE:
                replies.append((type(reply), str(reply)))
        found.append(replies)
    assert found[0] == found[1]
    assert len(found[0]) == 8
    assert found[0][-1][0] is exceptions.NoScriptError


def test_what_is_not_redis_is_refused() -> None:
    """Bytes that are no reply raise an error of redis-py, which becomes one of redicts."""
    reader = Reader()
    reader.feed(b"HTTP/1.1 400\r\n")
    with pytest.raises(exceptions.InvalidResponse):
        reader.gets()


def test_tls(tls_server: RedisServer) -> None:
    """Requests and notifications of tasks are encrypted, and the authority and the name of the server are checked."""
    at = {"backend": "redis", "host": "localhost", "port": tls_server.port, "tls": True, "password": "secret"}
    known = at | {"tls_ca_file": str(tls_server.certificate), "retries": 0}

    async def main() -> None:
        async with redicts.aio.open(known) as db:

            async def wait() -> None:
                async with db.lock("a"):
                    pass

            async with db.lock("a") as lock:
                waiting = asyncio.create_task(wait())
                while not await lock.waiters():
                    await asyncio.sleep(0)
            await waiting
            assert await db.proxy("n").add(1) == 1
        for wrong in ({"tls": False, "tls_ca_file": None}, {"tls_ca_file": None}, {"host": "127.1"}):
            async with redicts.aio.open(known | wrong) as db:
                with pytest.raises(Unreachable):
                    await db.proxy("n").add(1)
        async with redicts.aio.open(known) as db:
            assert await db.proxy("n").val() == 1

    run(main())


def test_no_request_hangs_when_its_connection_ends_at_any_time(faults: FaultyProxy) -> None:
    """A request whose connection ended before it was sent, at any point of connecting, is sent over another one."""
    redicts.Pool().reload(cfg={"backend": "redis", "host": faults.host, "port": faults.port, "retries": 1000})

    async def main() -> None:
        async def work(number: int) -> None:
            for count in range(30):
                await root()[f"n{number}"].put(count)
            assert await root()[f"n{number}"].val() == count

        tasks = [asyncio.create_task(work(number)) for number in range(8)]
        for _ in range(300):
            faults.cut_all()
            await asyncio.sleep(0.003)
        await asyncio.gather(*tasks)

    run(main())
