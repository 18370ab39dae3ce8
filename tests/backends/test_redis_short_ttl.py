"""Short TTLs: any number of short-lived leaves uses no more of the server than the live ones."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from redicts import root
from redicts.core.minitransaction import Put
from tests.backends.redis_tools import contents, data, examine_layout, front, key, opened, write
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT, eventually

MANY: Final = 1_000_000 if os.environ.get("REDICTS_TESTS") == "long" else 20_000

SLACK: Final = 2_000
"""How many expired leaves may remain: those of the last milliseconds, far fewer than were written."""


def used(server: RedisServer) -> tuple[int, int, int]:
    """Return how many keys there are, how many leaves have a TTL, and how many bytes the server uses."""
    size, expiring = server.command("DBSIZE"), server.command("ZCARD", "x:")
    assert isinstance(size, (int, bytes))
    assert isinstance(expiring, (int, bytes))
    return int(size), int(expiring), int(server.info("memory")["used_memory"])


def examine_use(server: RedisServer, most_bytes: int) -> None:
    """Assert that keys, leaves with a TTL and bytes are bounded."""
    keys, expiring, memory = used(server)
    assert keys <= 2 * SLACK, f"{keys} keys"
    assert expiring <= SLACK, f"{expiring} leaves with a TTL"
    assert memory <= most_bytes, f"{memory} bytes"


@pytest.mark.timeout(3_600)
def test_leaves_in_dicts_of_their_own(redis_server: RedisServer) -> None:
    """With short-lived leaves in new dicts two levels deep, keys and bytes stay bounded."""
    with opened(redis_server) as backend:
        most_bytes = 0
        for number in range(MANY):
            write(backend, Put(key("jobs", f"j{number}", "state"), b"running", 1))
            if number == 1_000:
                most_bytes = used(redis_server)[2] + (2 << 20)
            if number > 1_000 and number % 1_000 == 0:
                examine_use(redis_server, most_bytes)

        def is_swept() -> bool:
            write(backend, Put(key("lasting"), b"1"))
            return data(redis_server) == {b"v:": {b"lasting": b"1"}}

        eventually(is_swept, "nothing is left but what lasts")


@pytest.mark.timeout(3_600)
def test_large_values_at_once(redis_server: RedisServer) -> None:
    """Dicts of several hundred short-lived leaves, each set atomically, are removed as fast as they are set."""
    with front(redis_server) as tree:
        most_bytes = used(redis_server)[2] + (4 << 20)
        for number in range(MANY // 200):
            tree.set(f"reports.r{number}", {f"line{line}": line for line in range(400)}, expire=0.001)
            if number % 10 == 0:
                examine_use(redis_server, most_bytes)


def test_the_same_leaf_again_and_again(redis_server: RedisServer) -> None:
    """A leaf whose TTL is renewed is one member of the sorted set, and does not expire."""
    with front(redis_server) as tree:
        heartbeat = tree["alive.host"]
        for number in range(2_000):
            if number % 3 == 0:
                tree.set("alive.host", number, expire=600)
            elif number % 3 == 1:
                heartbeat.add(1)
            else:
                heartbeat.expire(700)
            if number % 100 == 0:
                examine_layout(contents(redis_server))
                assert used(redis_server)[:2] == (4, 1)  # two dicts, the sorted set, a session
        assert heartbeat.exists()


@pytest.mark.timeout(3_600)
def test_live_leaves_stay(redis_server: RedisServer) -> None:
    """While several threads write short-lived leaves, persistent ones and those with a long TTL do not change."""
    lasting = {f"n{number}": number for number in range(50)}
    each, threads = MANY // 20, 4
    with front(redis_server) as tree, ThreadPoolExecutor(threads) as pool:
        tree.set("lasting", lasting)
        tree.set("long", lasting, expire=900)
        ended = threading.Event()

        def come_and_go(thread: int) -> None:
            for number in range(each):
                root().set(f"brief.t{thread}.n{number}.x", number, expire=0.001)

        writing = [pool.submit(come_and_go, thread) for thread in range(threads)]
        for one in writing:
            one.add_done_callback(lambda _: ended.set() if all(each.done() for each in writing) else None)
        while not ended.is_set():
            assert tree["lasting"].val() == lasting
            assert tree["long"].val() == lasting
            assert set(tree.keys()) <= {"lasting", "long", "brief"}
            examine_layout(contents(redis_server))
        for one in writing:
            one.result(TIMEOUT)

        def is_swept() -> bool:
            tree.set("lasting", lasting)
            return used(redis_server)[1] == 1  # a dict that was set whole is one document with one TTL

        eventually(is_swept, "only what is alive has a TTL")
        assert tree.val() == {"lasting": lasting, "long": lasting}
