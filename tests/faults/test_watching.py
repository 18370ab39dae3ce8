"""Random writes by several processes while connections are cut: watchers and caches end with what is stored."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

import redicts
from redicts import ABSENT, Database, aio
from tests.faults import random_writes
from tests.support.cluster import Cluster
from tests.support.executables import Executable, each_executable
from tests.support.proxy import FaultyProxy
from tests.support.sentinels import SentinelTrio
from tests.support.servers import RedisServer
from tests.support.waiting import eventually

LONG: Final = os.environ.get("REDICTS_TESTS") == "long"
WRITERS: Final = 4
WRITES: Final = 100_000 if LONG else 200
WATCHED: Final = ("", "a", "b", "a.b", "a.b.c", "count")

SOON: Final = 8.0
"""Less than the time after which a watcher looks, and a cache reads, without a notification."""

BOUND: Final = 2.0
"""How old a kept value may be on a busy machine while its notification is on the way."""


class Watchers:
    """Threads and tasks that watch, each with the last value that it was told."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.last: dict[tuple[str, str], Any] = {}
        self.watches: list[redicts.Watch | aio.Watch] = []
        self.threads = [threading.Thread(target=self.follow, args=(path,), daemon=True) for path in WATCHED]
        self.threads.append(threading.Thread(target=lambda: asyncio.run(self.follow_all()), daemon=True))
        for thread in self.threads:
            thread.start()
        eventually(lambda: len(self.last) == 2 * len(WATCHED), "each has been told the first value")

    def follow(self, path: str) -> None:
        """Watch in a thread."""
        watch = self.db.proxy(path).watch()
        self.watches.append(watch)
        for value in watch:
            self.last["thread", path] = value

    async def follow_all(self) -> None:
        """Watch in a task for each path."""

        async def follow(path: str) -> None:
            watch = aio.Database(self.db).proxy(path).watch()
            self.watches.append(watch)
            async for value in watch:
                self.last["task", path] = value

        await asyncio.gather(*map(follow, WATCHED))

    def close(self) -> None:
        """End all, and require that none hangs."""
        for watch in self.watches:
            watch.close()
        for thread in self.threads:
            thread.join(SOON)
            assert not thread.is_alive()


class Reader:
    """A thread that reads a counter, which never falls, through a cache, and compares it with older numbers of it."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.seen: list[tuple[float, int]] = []
        self.errors: list[str] = []
        self.is_over = False
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        """Read until the end."""
        mine = 0
        while not self.is_over:
            with contextlib.suppress(redicts.Unreachable):
                kept = self.db.proxy("count").val(0)
                since = time.monotonic()
                old = max((number for at, number in self.seen if at < since - BOUND), default=0)
                if kept < old:
                    self.errors.append(f"read {kept} more than {BOUND} seconds after {old}")
                self.seen.append((time.monotonic(), self.db.proxy("count").val(0, fresh=True)))
                mine += 1
                self.db.proxy("mine").put(mine)
                if self.db.proxy("mine").val() != mine:
                    self.errors.append("an own write was not seen")
            time.sleep(0.002)

    def close(self) -> None:
        """End it."""
        self.is_over = True
        self.thread.join(SOON)
        assert not self.thread.is_alive()
        assert self.errors == []


@contextlib.contextmanager
def writing(cfg: dict[str, Any]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Have several processes make random writes."""
    command = [sys.executable, "-m", "tests.faults.random_writes", json.dumps(cfg)]
    writers = [subprocess.Popen([*command, str(seed), str(WRITES // WRITERS)]) for seed in range(WRITERS)]
    try:
        yield writers
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()


def examine(cfg: dict[str, Any], watched: dict[str, Any], cut: Callable[[], object]) -> None:
    """Write through one configuration, and watch through another one, while connections are cut."""
    chance = random.Random(1)
    with redicts.open(watched) as db, redicts.open({**watched, "cache": True}) as caching, redicts.open(cfg) as store:
        watchers, reader = Watchers(db), Reader(caching)
        with writing(cfg) as writers:
            while any(writer.poll() is None for writer in writers):
                time.sleep(chance.uniform(0.01, 0.1))
                cut()
            assert [writer.returncode for writer in writers] == [0] * WRITERS
        reader.close()
        assert store.proxy("count").val() == WRITES // WRITERS * WRITERS
        store.proxy("a").put({"b": {"c": "the last"}})
        db.proxy("b").put("the last")

        def differences() -> list[object]:
            values = {path: store.proxy(path).val(ABSENT) for path in WATCHED}
            found = [(who, path) for (who, path), value in watchers.last.items() if value != values[path]]
            return [*found, *[("cache", path) for path in WATCHED if caching.proxy(path).val(ABSENT) != values[path]]]

        try:
            eventually(lambda: not differences(), "all have what is stored", within=SOON)
        except AssertionError as error:
            raise AssertionError(f"{differences()} differ") from error
        watchers.close()


def on_sqlite(request: pytest.FixtureRequest) -> None:
    """Share one file."""
    path: Path = request.getfixturevalue("tmp_path")
    cfg = {"backend": "sqlite", "path": str(path / "tree.db"), "busy_timeout_secs": 60}
    examine(cfg, cfg, lambda: None)


def on_redis(request: pytest.FixtureRequest, executable: Executable) -> None:
    """Watch through a proxy that cuts all connections."""
    server: RedisServer = request.getfixturevalue("servers")(executable)
    server.flush()
    cfg = {"backend": "redis", "host": server.host, "port": server.port}
    with FaultyProxy(server.port, server.host) as proxy:
        examine(cfg, {**cfg, "host": proxy.host, "port": proxy.port, "retries": 20}, proxy.cut_all)


def on_a_cluster(request: pytest.FixtureRequest) -> None:
    """Write in every section, while all nodes cut all connections."""
    cluster: Cluster = request.getfixturevalue("cluster")
    cfg = {**cluster.configuration, "retries": 20}
    examine(cfg, cfg, lambda: cut(cluster.servers))


def through_sentinels(request: pytest.FixtureRequest) -> None:
    """Write with acknowledgements, while all servers cut all connections but those of the Sentinels."""
    trio: SentinelTrio = request.getfixturevalue("shared_trio")
    trio.primary.command("FLUSHALL")
    cfg = {**trio.configuration, "acknowledged_by": 1, "retries": 20}
    examine(cfg, cfg, lambda: cut(trio.servers))


def cut(servers: Sequence[RedisServer]) -> None:
    """Have servers cut the connections of their clients, of writers too."""
    for server in servers:
        for kind in ("normal", "pubsub"):
            server.command("CLIENT", "KILL", "USER", "default", "TYPE", kind)


EXECUTABLES: Final = [each for each in each_executable().values() if isinstance(each, Executable)]
REDIS: Final = {str(each): partial(on_redis, executable=each) for each in EXECUTABLES}
STORES: Final[dict[str, Callable[[pytest.FixtureRequest], None]]] = {
    "sqlite": on_sqlite,
    **REDIS,
    "cluster": on_a_cluster,
    "sentinels": through_sentinels,
}
"""How to examine each store. The short run has one of Redis: tests of watches and of the cache run on all of them."""


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("store", STORES if LONG else ["sqlite", *list(REDIS)[-1:]])
def test_watchers_and_caches_of_other_processes(request: pytest.FixtureRequest, store: str) -> None:
    """They are told what other processes write, also while their connections are cut again and again."""
    STORES[store](request)


def test_watchers_and_caches_in_memory() -> None:
    """In memory, they are told what threads of the process write."""
    with redicts.open({"backend": "memory", "cache": True}) as db:
        watchers, reader = Watchers(db), Reader(db)

        def write(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(WRITES // WRITERS):
                random_writes.write(db, chance)

        threads = [threading.Thread(target=write, args=(seed,)) for seed in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        reader.close()
        db.root().put({"a": {"b": {"c": "the last"}}, "b": "the last", "count": 1})
        eventually(
            lambda: all(value == db.proxy(path).val(ABSENT) for (_, path), value in watchers.last.items()),
            "all have what is stored",
            within=SOON,
        )
        watchers.close()
