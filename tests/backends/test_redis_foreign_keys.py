"""Foreign keys in the layout: calls that meet one of another type fail, and change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from redicts import CorruptData, Proxy, root
from redicts.core.minitransaction import Add, Delete, Expire, Notify, Put, Scope, Write
from tests.backends.redis_tools import contents, data, examine_layout, front, key, opened, write
from tests.support.servers import RedisServer

TREE: Final = {
    "a": {"leaf": 1, "b": {"leaf": 2, "c": {"leaf": 3}}},
    "other": {"leaf": 4},
    "n": 5,
}


@pytest.fixture
def tree(redis_server: RedisServer) -> Iterator[Proxy]:
    """Give a tree with an expiring leaf in every dict."""
    with front(redis_server) as tree:
        tree.set([], TREE)
        for path in ("expiring", "a.expiring", "a.b.expiring", "a.b.c.expiring", "other.expiring"):
            tree.set(path, 0, expire=900)
        yield tree


def make_foreign(server: RedisServer, name: str, kind: str) -> None:
    """Write a foreign key of a wrong type."""
    server.command("DEL", name)
    words = {"string": ["SET", name, "theirs"], "list": ["RPUSH", name, "theirs"], "set": ["SADD", name, "theirs"]}[
        kind
    ]
    server.command(*words)


def several_changes() -> None:
    """Change several paths atomically, one of them at the foreign key."""
    with root().transaction() as changes:
        changes.set("other.leaf", 7)
        changes.set("fresh.leaf", 1, expire=900)
        changes.add("n", 1)
        changes.delete("a.expiring")
        changes.set("a.b.new", {"x": 1})
        changes.expire("a.b.c", 900)


def several_elsewhere(tree: Proxy) -> None:
    """Change several paths atomically, none of them below ``other``."""
    with tree["a"].transaction() as changes:
        changes.set("b.leaf", 7)
        changes.add("b.n", 7)
        changes.delete("expiring")


MEETING: Final[dict[str, Callable[[], Any]]] = {
    "val": lambda: root().val(),
    "keys": lambda: list(root()["a"].keys()),
    "exists": lambda: bool(root()["a.leaf"]),
    "set": lambda: root().set("a.leaf", 2),
    "set-a-dict": lambda: root().set("a", {"leaf": 2}),
    "set-above": lambda: root().set("a", 1),
    "set-deep": lambda: root().set("a.new.new.new", 2, expire=900),
    "delete": lambda: root().delete("a.leaf"),
    "clear": lambda: root().clear(),
    "add": lambda: root()["a.leaf"].add(1),
    "add-deep": lambda: root()["a.new.new.new"].add(1),
    "expire": lambda: root().expire(900),
    "update": lambda: root().update({"other": {"leaf": 7, "x": {"y": 1}}, "a": {"leaf": 2}, "n": 6}),
    "pop": lambda: root().pop("a.leaf"),
    "setdefault": lambda: root().setdefault("a.fresh", 1),
    "compare-and-set": lambda: root()["a.leaf"].compare_and_set(1, 2),
    "update-with": lambda: root()["a"].update_with(lambda value: {**value, "leaf": 2}),
    "transaction": several_changes,
}


@pytest.mark.parametrize("kind", ["string", "list"])
@pytest.mark.parametrize("name", MEETING)
def test_a_foreign_key_stops_a_call_before_it_changes_anything(
    tree: Proxy, redis_server: RedisServer, name: str, kind: str
) -> None:
    """A key of another type is ``CorruptData`` with the remedy, and nothing is changed."""
    make_foreign(redis_server, "v:.a", kind)
    before = data(redis_server)
    with pytest.raises(CorruptData, match=r"holds another type; set another prefix or remove the foreign key"):
        MEETING[name]()
    assert data(redis_server) == before


@pytest.mark.parametrize("name", ["val", "set-above", "clear", "expire", "update", "transaction"])
def test_a_foreign_root_stops_what_needs_the_root(tree: Proxy, redis_server: RedisServer, name: str) -> None:
    """The same at the root's own key."""
    make_foreign(redis_server, "v:", "string")
    before = data(redis_server)
    with pytest.raises(CorruptData, match=r"holds another type"):
        MEETING[name]()
    assert data(redis_server) == before


@pytest.mark.parametrize("name", ["set", "delete", "add", "transaction", "update"])
def test_other_paths_work(tree: Proxy, redis_server: RedisServer, name: str) -> None:
    """Calls that do not need the path of the foreign key work."""
    make_foreign(redis_server, "v:.other", "string")
    changes: dict[str, Callable[[], Any]] = {
        "set": lambda: tree.set("a.b.leaf", 5),
        "delete": lambda: tree.delete("a.b"),
        "add": lambda: tree["n"].add(1),
        "transaction": lambda: several_elsewhere(tree),
        "update": lambda: tree["a"].update({"b": {"leaf": 7}, "z": {"y": 1}}),
    }
    changes[name]()
    assert tree["a.leaf"].val() == 1


WRITES: Final[dict[str, tuple[Write, ...]]] = {
    "put": (Put(key("a", "leaf"), b"9"),),
    "put-with-ttl": (Put(key("a", "b", "leaf"), b"9", 900_000),),
    "put-deep": (Put(key("a", "b", "d", "e", "f"), b"9", 900_000),),
    "put-over-expiring": (Put(key("a", "expiring"), b"9"),),
    "puts": (Put(key("other", "leaf"), b"8"), Put(key("a", "b", "leaf"), b"9"), Put(key("fresh", "x"), b"9", 900_000)),
    "add": (Add(key("a", "leaf"), 1),),
    "add-deep": (Add(key("a", "b", "d", "e", "f"), 1),),
    "put-and-add-deep": (Put(key("other", "leaf"), b"8"), Add(key("a", "b", "d", "e"), 1)),
    "put-and-add": (Put(key("other", "leaf"), b"8"), Add(key("a", "b", "c", "leaf"), 1)),
    "add-large": (Put(key("other", "leaf"), b"8"), Add(key("n"), 2**62), Add(key("a", "leaf"), 1)),
    "delete-node": (Put(key("other", "leaf"), b"8"), Delete(key("a", "b", "expiring"), Scope.NODE)),
    "delete-below": (Put(key("other", "leaf"), b"8"), Delete(key("a", "b"), Scope.BELOW)),
    "delete-subtree": (Put(key("other", "leaf"), b"8"), Delete(key("a", "b"), Scope.SUBTREE)),
    "delete-last": (Delete(key("other", "leaf"), Scope.NODE), Delete(key("other", "expiring"), Scope.NODE)),
    "delete-deep": (Delete(key("a", "b", "c"), Scope.BELOW), Put(key("n"), b"7")),
    "expire-node": (Put(key("other", "leaf"), b"8"), Expire(key("a", "b", "leaf"), Scope.NODE, 900_000)),
    "expire-below": (Put(key("other", "leaf"), b"8"), Expire(key("a", "b"), Scope.BELOW, 900_000)),
    "persist": (Put(key("other", "leaf"), b"8"), Expire(key("a"), Scope.SUBTREE, None)),
    "notify-node": (Put(key("other", "leaf"), b"8"), Notify(key("a", "b", "leaf"), Scope.NODE)),
    "notify-below": (Put(key("other", "leaf"), b"8"), Notify(key("a", "b"), Scope.BELOW)),
    "notify-subtree": (Notify(key("a", "b"), Scope.SUBTREE), Put(key("a", "b", "d", "e"), b"1")),
    "replace": (Delete(key("a", "b"), Scope.SUBTREE), Put(key("a", "b", "x", "y"), b"1"), Put(key("other", "q"), b"1")),
    "leaf-over-dict": (Put(key("n"), b"6"), Delete(key("a", "b"), Scope.BELOW), Put(key("a", "b"), b"1")),
    "dict-over-leaf": (
        Put(key("n"), b"6"),
        Delete(key("a", "leaf"), Scope.NODE),
        Put(key("a", "leaf", "x"), b"1", 900_000),
    ),
}
"""Sequences that keep a space free of leaves above leaves, as every backend may assume."""


@pytest.mark.parametrize("foreign", ["v:", "v:.a", "v:.a.b", "v:.a.b.c", "v:.a.b.d", "v:.a.b.d.e", "v:.other", "x:"])
@pytest.mark.parametrize("name", WRITES)
def test_a_transaction_meets_a_foreign_key_whole_or_not_at_all(
    tree: Proxy, redis_server: RedisServer, name: str, foreign: str
) -> None:
    """Wherever the foreign key is, a transaction is applied or changes nothing, and the foreign key stays."""
    make_foreign(redis_server, foreign, "string")
    before = data(redis_server)
    with opened(redis_server) as backend:
        try:
            write(backend, *WRITES[name])
        except CorruptData:
            assert data(redis_server) == before
        else:
            after = data(redis_server)
            assert after != before
            assert after[foreign.encode()] == b"theirs"
            assert foreign != "x:", "a leaf with a TTL must be in the sorted set, so nothing can be written"


def test_removing_the_foreign_key_is_enough(tree: Proxy, redis_server: RedisServer) -> None:
    """When the foreign key is removed, calls work and the layout is valid."""
    make_foreign(redis_server, "v:.fresh", "string")
    with pytest.raises(CorruptData):
        tree.set("fresh.leaf", 1)
    redis_server.command("DEL", "v:.fresh")
    tree.set("fresh.leaf", 1)
    examine_layout(contents(redis_server))


def test_keys_without_the_prefix_are_not_touched(redis_server: RedisServer) -> None:
    """With a prefix, keys without it are neither read nor written, also where their names look alike."""
    theirs = ["x:", "x:sum", "v:", "v:.a", "v:.a.b", "app", "app:", "app:w"]
    for name in theirs:
        redis_server.command("SET", name, "theirs")
    with front(redis_server, prefix="app:") as tree:
        tree.set("a", {"b": {"c": 1}}, expire=900)
        tree["n"].add(2**62)
        tree["n"].add(2**61)
        assert tree.val() == {"a": {"b": {"c": 1}}, "n": 2**62 + 2**61}
        tree.clear()
    assert contents(redis_server).data(b"app:").keys() == {name.encode() for name in theirs}
    for name in theirs:
        assert redis_server.command("GET", name) == b"theirs"


def test_a_large_sum_uses_no_foreign_key(redis_server: RedisServer) -> None:
    """Counting beyond the precision of a double overwrites no foreign key."""
    redis_server.command("SET", "x:sum", "theirs")
    with opened(redis_server) as backend:
        write(backend, Put(key("n"), b"%d" % 2**62), Add(key("n"), 2**61))
    assert redis_server.command("GET", "x:sum") == b"theirs"


def test_a_corrupt_value(redis_server: RedisServer) -> None:
    """A value that the codec cannot decode is ``CorruptData``, and the error names the path."""
    redis_server.command("HSET", "v:", "a", "no json")
    with front(redis_server) as tree, pytest.raises(CorruptData, match="'a'"):
        tree.val()
