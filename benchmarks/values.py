"""Values on Redis compared with raw redis-py: time per operation, dependence on other keys, bytes per leaf.

Run it from the project's folder with ``python -m benchmarks.values``; it starts a server of its own. Both sides of a
ratio alternate, call by call, in one process, and medians are compared, because machines are noisy and drift.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import redis

from benchmarks.report import medians, report_on_redis, row
from redicts import Pool, Proxy, section
from tests.support.servers import RedisServer

LEAVES = {f"name{number:02}": number for number in range(100)}
PLAIN = {name: str(number) for name, number in LEAVES.items()}
DATABASES: Final = {"empty": 2, "full": 3}


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


def other_keys(server: RedisServer, rounds: int) -> dict[str, Any]:
    """Measure whether a million other keys in the database make a read slower."""
    client = redis.Redis(port=server.port, db=DATABASES["full"])
    for start in range(0, 1_000_000, 10_000):
        client.mset({f"other:{number}": "x" for number in range(start, start + 10_000)})
    Pool().reload(cfg={"port": server.port, "names": DATABASES})
    for name in DATABASES:
        Proxy("some.dicts", db_name=name).set("read", LEAVES)
    times = medians({name: Proxy("some.dicts.read", db_name=name).val for name in DATABASES}, rounds)
    return row("read 100 leaves among a million other keys", times["full"], times["empty"], "no other keys", 1.15, "us")


def memory(server: RedisServer) -> dict[str, Any]:
    """Measure the bytes of 100,000 leaves in dicts of 100, compared with plain hashes of the same content."""
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


def measured(server: RedisServer, rounds: int) -> list[dict[str, Any]]:
    """Measure everything."""
    return [*operations(server, rounds), other_keys(server, rounds), memory(server)]


if __name__ == "__main__":
    sys.exit(report_on_redis(__doc__, measured))
