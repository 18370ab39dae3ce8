"""Values on Redis beside raw redis-py: time per operation, dependence on other keys, bytes per leaf.

Run it from the project's folder with ``python -m benchmarks.values``; it starts servers of its own. Both sides of a
ratio are measured in turn, call by call, in one process, and medians are compared, because machines are noisy and
drift.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import redis

from benchmarks.report import medians, options, row, told
from redicts import Pool, section
from redicts.api.opened import OpenedDatabase
from redicts.backends.redis import plugin
from redicts.codecs.json import codec
from redicts.core.envelope import LeafFormat
from tests.support.executables import find_executables
from tests.support.servers import RedisServer

LEAVES = {f"name{number:02}": number for number in range(100)}
PLAIN = {name: str(number) for name, number in LEAVES.items()}


def operations(server: RedisServer, rounds: int) -> list[dict[str, Any]]:
    """Measure single leaves and dicts of 100 leaves."""
    client = redis.Redis(port=server.port)
    Pool().reload(cfg={"port": server.port, "database": 1})
    leaf, branch, numbers = section("some.path.to"), section("some.dicts"), section("some.dicts.read")
    leaf.set("leaf", 42)
    branch.set("read", LEAVES)
    client.set("leaf", "42")
    client.hset("read", mapping=PLAIN)  # type: ignore[arg-type]  # redis-py's own types refuse a dict of text
    proxy = leaf.get("leaf")
    times = medians(
        {
            "GET": lambda: client.get("leaf"),
            "leaf.val()": proxy.val,
            "SET": lambda: client.set("leaf", "42"),
            "set(leaf)": lambda: leaf.set("leaf", 42),
            "HGETALL": lambda: client.hgetall("read"),
            "dict.val()": numbers.val,
            "HSET": lambda: client.hset("written", mapping=PLAIN),  # type: ignore[arg-type]
            "set(dict)": lambda: branch.set("written", LEAVES),
            "INCRBY": lambda: client.incrby("count", 1),
            "add(1)": lambda: leaf.get("count").add(1),
        },
        rounds,
    )
    pairs = [
        ("read one leaf", "leaf.val()", "GET", 1.3),
        ("write one leaf", "set(leaf)", "SET", 1.6),
        ("read a dict of 100 leaves", "dict.val()", "HGETALL", 2.5),
        ("write a dict of 100 leaves", "set(dict)", "HSET", 3.0),
        ("count", "add(1)", "INCRBY", None),
    ]
    return [row(what, times[ours], times[theirs], theirs, most, "us") for what, ours, theirs, most in pairs]


def tree_on(server: RedisServer) -> OpenedDatabase:
    """Open a tree beside the pool's, so that two are open at once."""
    backend = plugin.open(plugin.settings.model_validate({"port": server.port}), 0)
    return OpenedDatabase(backend, LeafFormat(codec))


def read_dict(tree: OpenedDatabase) -> object:
    """Read the dict of 100 leaves."""
    return tree.run(tree.store.read(("some", "dicts", "read")))


def other_keys(empty: RedisServer, full: RedisServer, rounds: int) -> dict[str, Any]:
    """Measure whether a million other keys in the database make a read dearer."""
    client = redis.Redis(port=full.port)
    for start in range(0, 1_000_000, 10_000):
        client.mset({f"other:{number}": "x" for number in range(start, start + 10_000)})
    trees = {name: tree_on(server) for name, server in (("empty", empty), ("full", full))}
    for tree in trees.values():
        tree.run(tree.store.write(("some", "dicts", "read"), LEAVES))
    times = medians({name: partial(read_dict, tree) for name, tree in trees.items()}, rounds)
    return row("read 100 leaves beside a million keys", times["full"], times["empty"], "beside none", 1.15, "us")


def memory(server: RedisServer) -> dict[str, Any]:
    """Measure the bytes of 100,000 leaves in dicts of 100, beside plain hashes that hold the same."""
    client = redis.Redis(port=server.port)

    def grown(fill: Callable[[], None]) -> float:
        client.flushall()
        before = client.info("memory")["used_memory"]
        fill()
        return float(client.info("memory")["used_memory"] - before) / 100_000

    def plain() -> None:
        for number in range(1000):
            client.hset(f"v:.numbers.dict{number:04}", mapping=PLAIN)  # type: ignore[arg-type]

    def ours() -> None:
        Pool().reload(cfg={"port": server.port})
        for number in range(1000):
            section("numbers").set(f"dict{number:04}", LEAVES)

    theirs = grown(plain)
    return row("memory of a leaf", grown(ours), theirs, "plain hash", 1.3, "bytes")


def main() -> int:
    """Measure everything, print it, and tell by the exit status whether the bounds were kept."""
    asked = options(__doc__, 2000)
    executable = find_executables()[-1]
    with RedisServer(executable) as one, RedisServer(executable) as other:
        rows = [
            *operations(one, asked.rounds),
            other_keys(one, other, asked.rounds),
            memory(one),
        ]
    return told(f"{executable}, redis-py {redis.__version__}, Python {platform.python_version()}", asked, rows)


if __name__ == "__main__":
    sys.exit(main())
