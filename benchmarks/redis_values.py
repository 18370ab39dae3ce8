"""Values and locks on Redis compared with redis-py, in a database as users have it: time, processor time, memory.

Run it from the project's folder with ``python -m benchmarks.redis_values``; it starts a server of its own. Install
redis-dict and walrus to have them compared too.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import redis

from benchmarks.cores import cores_apart
from benchmarks.edit import counters
from benchmarks.redis_database import Call, Job, at_once, compared, fill
from benchmarks.report import medians, report_on_redis, row
from redicts import Pool, Proxy, section
from tests.support.servers import RedisServer

LEAVES: Final = {f"name{number:02}": number for number in range(100)}
TEXTS: Final = {name: json.dumps(number) for name, number in LEAVES.items()}
NESTED: Final = {f"key{one}": {f"name{two}": one * two for two in range(10)} for one in range(10)}
LARGE: Final = {f"key{one}": NESTED for one in range(10)}
PARTS: Final = {f"key{one}.name{two}": json.dumps(one * two) for one in range(10) for two in range(10)}
DATABASES: Final = {"empty": 2, "full": 3}


def read_hash(client: redis.Redis, name: str) -> dict[str, Any]:
    """Read a hash of leaves as a dict."""
    found: Any = client.hgetall(name)
    return {field.decode(): json.loads(text) for field, text in found.items()}


def read_parts(client: redis.Redis) -> dict[str, dict[str, Any]]:
    """Read a hash of the leaves of a nested dict as that dict."""
    whole: dict[str, dict[str, Any]] = {}
    for path, value in read_hash(client, "parts").items():
        one, two = path.split(".")
        whole.setdefault(one, {})[two] = value
    return whole


def jobs(client: redis.Redis, port: int) -> list[Job]:
    """Store values, and return what is measured on them."""
    Pool().reload(cfg={"port": port})
    tree = section("some.path")
    for name, value in {"leaf": 42, "flat": LEAVES, "nested": NESTED, "large": LARGE, "changed": NESTED}.items():
        tree.set(name, value)
        client.set(name, json.dumps(value))
    tree.set("changed.key3.name4", 13)
    client.hset("hash", mapping=TEXTS)  # type: ignore[arg-type]  # redis-py's own types refuse a dict of text
    client.hset("parts", mapping=PARTS)  # type: ignore[arg-type]

    def loads(name: str) -> Any:
        return json.loads(client.get(name))  # type: ignore[arg-type]

    def dumps(name: str, value: object) -> Any:
        return client.set(name, json.dumps(value))

    return [
        Job("read a leaf", tree.get("leaf").val, partial(loads, "leaf"), "GET, loads", 0.65, 1.4),
        Job("read a dict of 100 leaves", tree.get("flat").val, partial(read_hash, client, "hash"), "HGETALL", 0.5, 1.3),
        Job("read a nested dict of 100", tree.get("nested").val, partial(loads, "nested"), "GET, loads", 1.0),
        Job("read a nested dict of 1000", tree.get("large").val, partial(loads, "large"), "GET, loads", 1.0),
        Job("read the nested 100, changed", tree.get("changed").val, partial(read_parts, client), "HGETALL", 1.2),
        Job(
            "write a nested dict of 100",
            partial(tree.set, "nested", NESTED),
            partial(dumps, "nested", NESTED),
            "SET, dumps",
            1.5,
            3,
        ),
        Job(
            "write a nested dict of 1000",
            partial(tree.set, "large", LARGE),
            partial(dumps, "large", LARGE),
            "SET, dumps",
            1.5,
            3,
        ),
        Job("write a leaf", partial(tree.set, "leaf", 42), partial(client.set, "leaf", "42"), "SET", 1.3, 2),
        Job(
            "write a leaf with a TTL",
            partial(tree.set, "ttl", 42, expire=60),
            partial(client.set, "ttl", "42", ex=60),
            "SET EX",
            1.5,
        ),
        Job("count", partial(tree.get("count").add, 1), partial(client.incrby, "count", 1), "INCRBY", 1.3, 2),
        *lock_jobs(client, tree, port),
        *peers(tree, port),
    ]


def lock_jobs(client: redis.Redis, tree: Proxy, port: int) -> list[Job]:
    """Return a free lock, and counting in a dict under it, compared with redis-py's ``Lock``, ``HGET`` and ``HSET``."""
    lock, other = tree.get("job").lock(), client.lock("job", timeout=30)
    counting = counters(port)

    def ours() -> None:
        lock.acquire()
        lock.release()

    def theirs() -> None:
        other.acquire()
        other.release()

    return [
        Job("acquire and release", ours, theirs, "Lock", 0.9, 2.5),
        Job("count under a lock", counting["with proxy"], counting["theirs"], "Lock", 0.9),
        Job("count by edit()", counting["edit()"], counting["theirs"], "Lock", 0.7),
    ]


def peers(tree: Proxy, port: int) -> list[Job]:
    """Return the same jobs of libraries that store dicts in Redis, as far as they are installed."""
    found = []
    try:
        other: Any = importlib.import_module("redis_dict").RedisDict(namespace="peer", port=port)
        other["large"] = LARGE
        found += [
            Job("read a nested dict of 1000", tree.get("large").val, lambda: other["large"], "redis-dict"),
            Job(
                "write a nested dict of 1000",
                partial(tree.set, "large", LARGE),
                partial(other.__setitem__, "large", LARGE),
                "redis-dict",
            ),
        ]
    except ImportError:
        pass
    try:
        mapping: Any = importlib.import_module("walrus").Database(port=port).Hash("walrus")
        mapping.update(TEXTS)
        found.append(Job("read a dict of 100 leaves", tree.get("flat").val, partial(mapping.as_dict, True), "walrus"))
    except ImportError:
        pass
    return found


# 16 clients at once: each process makes one of these calls.


def our_read(port: int, name: str) -> Call:
    """Return a read by redicts."""
    Pool().reload(cfg={"port": port})
    return Proxy(f"some.path.{name}").val


def their_read(port: int, name: str) -> Call:
    """Return a read by redis-py."""
    client = redis.Redis(port=port)
    return partial(read_hash, client, "hash") if name == "flat" else lambda: json.loads(client.get(name))  # type: ignore[arg-type]


def our_write(port: int, name: str, value: object) -> Call:
    """Return a write by redicts."""
    Pool().reload(cfg={"port": port})
    return partial(Proxy("some.path").set, name, value)


def their_write(port: int, name: str, value: object) -> Call:
    """Return a write by redis-py."""
    client = redis.Redis(port=port)
    return lambda: client.set(name, json.dumps(value))


def together(client: redis.Redis, port: int) -> list[dict[str, Any]]:
    """Measure 16 clients at once: calls per second, and the server's processor time for each."""
    both: list[tuple[str, Callable[[int], Call], Callable[[int], Call]]] = [
        ("read a leaf", partial(our_read, name="leaf"), partial(their_read, name="leaf")),
        ("read a dict of 100 leaves", partial(our_read, name="flat"), partial(their_read, name="flat")),
        ("read a nested dict of 100", partial(our_read, name="nested"), partial(their_read, name="nested")),
        ("write a leaf", partial(our_write, name="leaf", value=42), partial(their_write, name="leaf", value=42)),
        (
            "write a nested dict of 100",
            partial(our_write, name="nested", value=NESTED),
            partial(their_write, name="nested", value=NESTED),
        ),
    ]
    rows = []
    for what, ours, theirs in both:
        (rate, used), (their_rate, their_used) = at_once(client, port, ours), at_once(client, port, theirs)
        rows.append(row(f"{what}, 16 clients", rate, their_rate, "redis-py", None, "per s"))
        rows.append(row("  the server's processor", used, their_used, "", None, "us"))
    return rows


def other_keys(server: RedisServer, rounds: int) -> dict[str, Any]:
    """Measure whether a million other keys in the database make a read slower."""
    client = redis.Redis(port=server.port, db=DATABASES["full"])
    for start in range(0, 1_000_000, 10_000):
        client.mset({f"other:{number}": "x" for number in range(start, start + 10_000)})
    Pool().reload(cfg={"port": server.port, "names": DATABASES})
    for name in DATABASES:
        Proxy("some.dicts", db_name=name).set("read", NESTED)
    times = medians({name: Proxy("some.dicts.read", db_name=name).val for name in DATABASES}, rounds)
    return row("read among a million other keys", times["full"], times["empty"], "no other keys", 1.1, "us")


def memory(server: RedisServer) -> list[dict[str, Any]]:
    """Measure the bytes of leaves and documents, compared with a plain hash and with ``SET`` of the text.

    Memory is what the server's allocator gives, which rounds up, so the text is measured as the server stores it.
    """
    client = redis.Redis(port=server.port)

    def grown(fill: Callable[[int], object]) -> float:
        client.flushall()
        client.hset("v:.numbers", "first", "1")
        before = client.info("memory")["used_memory"]
        for number in range(1_000):
            fill(number)
        return float(client.info("memory")["used_memory"] - before) / 1_000

    Pool().reload(cfg={"port": server.port})
    numbers = section("numbers")
    numbers.set("first", 1)  # which loads the library of functions
    theirs = grown(lambda number: client.hset(f"v:.numbers.dict{number:04}", mapping=TEXTS))  # type: ignore[arg-type]

    def leaf_by_leaf(number: int) -> None:
        numbers.set(f"dict{number:04}", {})
        numbers.get(f"dict{number:04}").update(LEAVES)

    ours = grown(leaf_by_leaf)
    whole = grown(lambda number: numbers.set(f"dict{number:04}", NESTED))
    text = json.dumps(NESTED, separators=(",", ":"))
    stored = grown(lambda number: client.set(f"v:.numbers.dict{number:04}", text))
    return [
        row("memory of a leaf", ours / 100, theirs / 100, "plain hash", 1.3, "bytes"),
        row("memory of a nested dict of 100", whole, stored, "SET of its text", 1.1, "bytes"),
    ]


def measured(server: RedisServer, rounds: int) -> list[dict[str, Any]]:
    """Measure everything."""
    client = fill(server)
    with cores_apart(server.pid):
        rows = compared(client, jobs(client, server.port), rounds)
    return [*rows, *together(client, server.port), other_keys(server, rounds), *memory(server)]


if __name__ == "__main__":
    sys.exit(report_on_redis(__doc__, measured))
