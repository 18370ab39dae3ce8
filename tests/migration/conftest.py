"""A database of redicts 1.0, targets of every kind, and functions to interfere with a run."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final, cast

import pytest
import redis

from redicts import Pool
from redicts.core.minitransaction import Transaction
from redicts.migration import Migration, Reason
from tests.support.servers import RedisServer

NAMES: Final = ["a", "b", "job", "a%b", "%2E", "x:y", "{tag}", "*", "[q]?", "with blank", "back\\slash", "nul\0", "ü✓"]
VALUES: Final[list[Any]] = [0, -1, 2**70, 1.5, -0.0, True, None, "", "text", "ü\ud800\0", [], [1, {"deep": {}}]]

SMALL: Final[dict[str, Any]] = {
    "a": {"b": {"c": 1, "d": [2]}, "e": None},
    "a%b": {"c": "below a name that a hash name escapes"},
    "a%25b": "the key of that hash",
    "f": 3,
    "g": {"h": "four"},
}

TARGETS: Final = ["memory", "sqlite", "fakeredis", "database", "prefix", "in place"]


@pytest.fixture(autouse=True)
def pool() -> Iterator[None]:
    """Use a store in memory unless a test chooses another target, and leave no connections behind."""
    Pool().reload(cfg={"backend": "memory"})
    yield
    Pool().reload(cfg={"backend": "memory"})


@pytest.fixture
def source(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """Give a client of the database in which 1.0 wrote."""
    with redis.Redis(host=redis_server.host, port=redis_server.port) as client:
        yield client


@pytest.fixture
def use(redis_server: RedisServer, tmp_path: Path) -> Callable[[str], None]:
    """Give a function that opens an empty target of one of the kinds, with the server of the source."""
    here: dict[str, Any] = {"host": redis_server.host, "port": redis_server.port}
    targets = {
        "memory": {"backend": "memory"},
        "sqlite": {"backend": "sqlite", "path": str(tmp_path / "state.db")},
        "fakeredis": {"backend": "fakeredis"},
        "database": here | {"database": 1},
        "prefix": here | {"prefix": "new:"},
        "in place": here,
    }
    return lambda target: Pool().reload(cfg=targets[target])


def generated(seed: int, depth: int = 3) -> dict[str, Any]:
    """Return a nested dict that 1.0 could store: without empty dicts, and without dots in names."""
    chosen = random.Random(seed)

    def made(depth: int) -> Any:
        if depth == 0 or chosen.random() < 0.4:
            return chosen.choice(VALUES)
        return {name: made(depth - 1) for name in chosen.sample(NAMES, chosen.randint(1, 5))}

    return {name: made(depth) for name in NAMES}


def write_as_1_0(client: redis.Redis, tree: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Write a tree as 1.0 did, and return the keys and values."""
    keys: dict[bytes, bytes] = {}

    def add(node: Mapping[str, Any], above: str) -> None:
        for name, value in node.items():
            if isinstance(value, dict):
                add(value, f"{above}.{name}")
            else:
                keys[f"{above}.{name}".encode()] = json.dumps(value).encode()

    add(tree, "v:")
    client.mset(cast("Any", keys))
    return keys


def strings(client: redis.Redis) -> dict[bytes, bytes]:
    """Return the string keys of a database that 1.0 may have written, with their values."""
    names = cast("list[bytes]", list(client.scan_iter(match="v:.*", _type="STRING")))
    return dict(zip(names, cast("list[bytes]", client.mget(names)))) if names else {}


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same, including the sign of a zero and the type of a number."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def skips(report: Migration) -> dict[str, Reason]:
    """Return the skipped keys with their reasons."""
    return {skipped.key: skipped.reason for skipped in report.skipped}


def stores_leaves(transaction: Transaction) -> bool:
    """Tell whether a transaction stores leaves of the migration: it reads and writes."""
    return bool(transaction.writes and transaction.reads)


@contextmanager
def around(
    owner: type,
    name: str,
    *,
    before: Callable[..., object] = lambda *_: None,
    after: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Call one function with the arguments of each call of a method before it, and another one after it."""
    original = getattr(owner, name)

    @wraps(original)
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        before(*arguments)
        result = original(self, *arguments, **options)
        after()
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, call)
        yield


@contextmanager
def once_before(
    owner: type, name: str, action: Callable[[], object], *, when: Callable[[Any], bool] = lambda _: True
) -> Iterator[None]:
    """Do something before the first call of a method whose first argument fulfils a condition."""
    done: list[bool] = []

    def before(*arguments: Any) -> None:
        if not done and when(arguments[0]):
            done.append(True)
            action()

    with around(owner, name, before=before):
        yield
    assert done, f"{name} was not called as expected"
