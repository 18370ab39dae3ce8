"""Watching and reading from memory: delays, connections and processor time.

Run it from the project's folder with ``python -m benchmarks.watch``. It measures the time from
``set`` in one process to the value in another one that watches, compared with a round trip, what watchers cost while
nothing happens, reads from the cache compared with decoding the same text, and writes with the cache and
without it.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Final

import redis

import redicts
from benchmarks.report import medians, report_on_redis, row
from tests.support.servers import RedisServer

DICT: Final = {f"name{number:02}": number for number in range(100)}
WATCHES: Final = 1_000
QUIET_SECS: Final = 3
IDLE_SECS: Final = 20
MOST_IDLE_PERCENT: Final = 0.1
MOST_ROUND_TRIPS: Final = 3.0
MOST_LEAF_US: Final = 3.0
MOST_WRITES: Final = 1.1


def follow(cfg: dict[str, Any], pipe: Connection) -> None:
    """Watch in another process, and send the time when each value arrives."""
    with redicts.open(cfg) as db:
        for _ in db.proxy("watched").watch():
            pipe.send(time.perf_counter())  # the same clock in all processes of a machine


def delays(cfg: dict[str, Any], port: int, rounds: int) -> dict[str, Any]:
    """Measure from the call of set to the value in another process."""
    pipe, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=follow, args=(cfg, theirs), daemon=True)
    child.start()
    pipe.recv()
    client = redis.Redis(port=port)
    taken: dict[str, list[float]] = {"watch": [], "ping": []}
    with redicts.open(cfg) as db:
        root = db.root()
        for number in range(rounds):
            begin = time.perf_counter()
            root.set("watched", number)
            taken["watch"].append(pipe.recv() - begin)
            begin = time.perf_counter()
            client.ping()
            taken["ping"].append(time.perf_counter() - begin)
    child.kill()
    ours, ping = (median(taken[name]) * 1e6 for name in ("watch", "ping"))
    return row("set to the value in another process (Redis)", ours, ping, "round trip", MOST_ROUND_TRIPS, "us")


def sharing(cfg: dict[str, Any], server: RedisServer) -> list[dict[str, Any]]:
    """Count the connections and threads of many watches."""
    client, threads = redis.Redis(port=server.port), threading.active_count()
    with redicts.open(cfg) as db:
        watches = [db.proxy(f"s{number}.x").watch(timeout=0) for number in range(WATCHES)]
        for watch in watches:
            next(watch)
        connections = len(client.client_list(_type="pubsub"))
        return [
            row(f"connections of {WATCHES} watches (Redis)", connections, 1, "one", 1.0, ""),
            row(f"threads of {WATCHES} watches, and one", 1 + threading.active_count() - threads, 1, "one", 1.0, ""),
        ]


def idle(cfg: dict[str, Any]) -> dict[str, Any]:
    """Measure the processor time of a watch while nothing happens, and has not for a while, in per cent of a core."""
    with redicts.open(cfg) as db:
        list(db.proxy("a").watch(timeout=QUIET_SECS))
        watch = db.proxy("a").watch(timeout=IDLE_SECS)
        next(watch)
        before = cpu_secs()
        assert list(watch) == []
        percent = 100 * (cpu_secs() - before) / IDLE_SECS
    return row("idle watch (SQLite)", percent, MOST_IDLE_PERCENT, "0.1 %", 1.0, "% core")


def cpu_secs() -> float:
    """Return the processor time that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cached(cfg: dict[str, Any], other: dict[str, Any], rounds: int) -> list[dict[str, Any]]:
    """Measure reads from memory, and writes with and without it.

    The writes without it are in another store: in the same one, this process would tell the cache of them, too.
    """
    name = cfg["backend"]
    with redicts.open({**cfg, "cache": True}) as db, redicts.open(other) as plain:
        leaf, whole = db.proxy("kept.leaf").put(1), db.proxy("kept.dict").put(DICT)
        assert db.cache is not None
        while db.cache.info().hits < 2:
            leaf.val()
            whole.val()
        text = json.dumps(DICT)
        reads: dict[str, Callable[[], object]] = {
            "leaf": leaf.val,
            "dict": whole.val,
            "loads": lambda: json.loads(text),
        }
        times = medians(reads, rounds)
        with_cache, without = db.proxy("kept"), plain.proxy("kept")
        writes = medians({"with": lambda: with_cache.set("a", 1), "without": lambda: without.set("a", 1)}, rounds)
    return [
        row(f"read a kept leaf ({name})", times["leaf"], MOST_LEAF_US, "3 us", 1.0, "us"),
        row(f"read a kept dict of 100 ({name})", times["dict"], times["loads"] + MOST_LEAF_US, "loads + 3", 1.0, "us"),
        row(f"write with a cache ({name})", writes["with"], writes["without"], "without", MOST_WRITES, "us"),
    ]


def measured(server: RedisServer, rounds: int) -> list[dict[str, Any]]:
    """Measure everything."""
    with tempfile.TemporaryDirectory() as directory:
        on_redis = {"backend": "redis", "host": server.host, "port": server.port}
        on_sqlite = {"backend": "sqlite", "path": str(Path(directory) / "tree.db")}
        rows = [delays(on_redis, server.port, rounds), *sharing(on_redis, server), idle(on_sqlite)]
        rows += cached(on_redis, {**on_redis, "database": 1}, rounds)
        rows += cached(on_sqlite, {**on_sqlite, "path": str(Path(directory) / "other.db")}, rounds)
        return rows


if __name__ == "__main__":
    sys.exit(report_on_redis(__doc__, measured))
