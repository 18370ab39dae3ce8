"""Layout: a tree is stored as ``layout.py`` describes, to the byte, and no unused key remains."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from redicts import Proxy, root
from redicts.backends.redis import RedisBackend
from redicts.backends.redis.settings import RedisSettings
from redicts.contract.hostile import HOSTILE_SEGMENTS, HOSTILE_VALUES
from redicts.core.minitransaction import (
    Add,
    Delete,
    Entries,
    Key,
    Names,
    Put,
    Read,
    ReadNames,
    Scope,
    Transaction,
)
from tests.backends.redis_tools import contents, data, examine_layout, front, key, opened, write
from tests.support.servers import RedisServer
from tests.support.waiting import eventually


@pytest.fixture
def tree(redis_server: RedisServer) -> Iterator[Proxy]:
    """Give the root of an empty tree."""
    with front(redis_server) as tree:
        yield tree


@pytest.fixture
def backend(redis_server: RedisServer) -> Iterator[RedisBackend]:
    """Give a backend on an empty database."""
    with opened(redis_server) as backend:
        yield backend


def now(server: RedisServer) -> int:
    """Return the server's time in milliseconds."""
    seconds, microseconds = server.command("TIME")  # type: ignore[misc]
    return int(seconds) * 1000 + int(microseconds) // 1000  # type: ignore[arg-type]


def test_a_leaf_is_a_field_of_its_dict(tree: Proxy, redis_server: RedisServer) -> None:
    """A plain command reads a leaf: ``HGET v:.a b`` gives ``42``."""
    tree.set("a.b", 42)
    assert redis_server.command("HGET", "v:.a", "b") == b"42"
    assert data(redis_server) == {b"v:": {b"a": b"\x01"}, b"v:.a": {b"b": b"42"}}


def test_a_tree_in_full(tree: Proxy, redis_server: RedisServer) -> None:
    """Each nested dict is a hash, and its marker is in its parent's hash."""
    tree.set([], {"n": None, "t": "text", "d": {"e": {"l": [1, {"k": 2}]}, "empty": {}}})
    assert data(redis_server) == {
        b"v:": {b"n": b"null", b"t": b'"text"', b"d": b"\x01"},
        b"v:.d": {b"e": b"\x01", b"empty": b"{}"},
        b"v:.d.e": {b"l": b'[1,{"k":2}]'},
    }


def test_spaces_are_separate(backend: RedisBackend, redis_server: RedisServer) -> None:
    """The name of a key begins with its space."""
    write(backend, Put(Key("v", ("a", "b")), b"1"), Put(Key("lock", ("a", "b")), b"2"))
    assert data(redis_server) == {
        b"v:": {b"a": b"\x01"},
        b"v:.a": {b"b": b"1"},
        b"lock:": {b"a": b"\x01"},
        b"lock:.a": {b"b": b"2"},
    }


def test_a_ttl_is_a_deadline_before_the_value(backend: RedisBackend, redis_server: RedisServer) -> None:
    r"""``\2`` and 16 digits precede the value, and the sorted set has hash, NUL and name with the same deadline."""
    before = now(redis_server)
    write(backend, Put(key("a", "b"), b"value", 600_000))
    after = now(redis_server)
    found = data(redis_server)
    expiries = found[b"x:"]
    assert isinstance(expiries, dict)
    deadline = int(expiries[b"v:.a\x00b"])
    assert before + 600_000 <= deadline <= after + 600_000
    assert found == {
        b"v:": {b"a": b"\x01"},
        b"v:.a": {b"b": b"\x02%016dvalue" % deadline},
        b"x:": {b"v:.a\x00b": b"%d" % deadline},
    }


def test_a_cleared_ttl_leaves_no_trace(tree: Proxy, redis_server: RedisServer) -> None:
    """After ``expire(None)``, and after a set without a TTL, there is neither deadline nor sorted set."""
    plain = {b"v:": {b"a": b"\x01", b"c": b"2"}, b"v:.a": {b"b": b"1"}}
    tree.set("a.b", 1, expire=600).set("c", 2, expire=600)
    tree.expire(None)
    assert data(redis_server) == plain
    tree.set("a.b", 7, expire=600).set("c", 7, expire=600)
    tree.set("a.b", 1).set("c", 2)
    assert data(redis_server) == plain


@pytest.mark.parametrize("value", HOSTILE_VALUES)
def test_values_that_begin_like_the_layouts_own_bytes(
    backend: RedisBackend, redis_server: RedisServer, value: bytes
) -> None:
    r"""A value that begins with ``\1``, ``\2`` or ``\3`` is stored after a ``\3``, every other one as it is."""
    write(backend, Put(key("a"), value), Put(key("d", "a"), value), Put(key("m"), value, 600_000))
    found = data(redis_server)
    stored = b"\x03" + value if value[:1] in {b"\x01", b"\x02", b"\x03"} else value
    assert found[b"v:.d"] == {b"a": stored}
    assert found[b"v:"][b"a"] == stored  # type: ignore[call-overload]
    assert found[b"v:"][b"m"][17:] == value  # type: ignore[call-overload]
    reads = (Read(key("a")), Read(key(), Scope.SUBTREE))
    one, whole = backend.execute(Transaction(reads=reads)).answers
    assert isinstance(one, Entries)
    assert isinstance(whole, Entries)
    assert one.values == {(): value}
    assert whole.values == {("a",): value, ("d", "a"): value, ("m",): value}


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a.b", b"a%2Eb"),
        ("%", b"%25"),
        ("%2E", b"%252E"),
        (":", b"%3A"),
        ("{a}", b"%7Ba%7D"),
        ("a\x00b", b"a%00b"),
        ("*", b"*"),
        ("[a] ?", b"[a] ?"),
        ("\u00e9", b"\xc3\xa9"),
        ("\ud800", b"\xed\xa0\x80"),
    ],
)
def test_a_segment_is_escaped_in_the_name_of_a_key_only(
    backend: RedisBackend, redis_server: RedisServer, name: str, written: bytes
) -> None:
    """``% . : { }`` and NUL of a segment are written as ``%`` and two digits in a key, and as they are in a field."""
    segment = name.encode("utf-8", "surrogatepass")
    write(backend, Put(key(name, name), b"1"))
    assert data(redis_server) == {b"v:": {segment: b"\x01"}, b"v:." + written: {segment: b"1"}}
    write(backend, Delete(key(name, name), Scope.NODE))
    assert data(redis_server) == {}


def test_no_two_paths_collide(backend: RedisBackend, redis_server: RedisServer) -> None:
    """Segments that look like parts of the layout do not collide: each path has its own value, names and TTL."""
    paths = [(one, "x") for one in HOSTILE_SEGMENTS] + [("x", one, "y", one) for one in HOSTILE_SEGMENTS if one != "x"]
    for number, path in enumerate(paths):
        write(backend, Put(key(*path), b"%d" % number, 600_000 if number % 2 else None))
    examine_layout(contents(redis_server))
    reads = (Read(key(), Scope.SUBTREE), ReadNames(key()), ReadNames(key("x")))
    whole, top, below = backend.execute(Transaction(reads=reads)).answers
    assert isinstance(whole, Entries)
    assert whole.values == {path: b"%d" % number for number, path in enumerate(paths)}
    assert isinstance(top, Names)
    assert isinstance(below, Names)
    assert set(top.names) == {*HOSTILE_SEGMENTS, "x"}
    assert set(below.names) == set(HOSTILE_SEGMENTS)
    for path in paths[::-1]:
        write(backend, Delete(key(*path), Scope.NODE))
    assert data(redis_server) == {}


@pytest.mark.parametrize("way", ["clear", "delete", "pop", "leaf by leaf", "counted away"])
def test_removing_the_last_leaf_removes_all_keys(tree: Proxy, redis_server: RedisServer, way: str) -> None:
    """Without leaves there are no keys but the records of sessions, which expire."""
    tree.set([], {"a": {"b": {"c": 1, "d": 2}, "e.f": {"g": 3}}, "h": {}})
    tree.set("m.n", {"o": 1, "p": {"q": 2}}, expire=600)
    if way == "clear":
        tree.clear()
    elif way == "delete":
        for name in tree:
            tree.delete(name)
    elif way == "pop":
        for name in tree:
            tree.pop(name)
    elif way == "leaf by leaf":
        for leaf in list(tree.iter_children()):
            leaf.clear()
    else:
        tree.set("a", {}).set("m", {})
        with tree.transaction() as changes:
            for name in ("a", "h", "m"):
                changes.delete(name)
    found = contents(redis_server)
    assert found.data() == {}
    examine_layout(found)


def test_expired_leaves_are_removed(tree: Proxy, redis_server: RedisServer) -> None:
    """Writes elsewhere remove expired leaves, their dicts and the sorted set."""
    tree.set([], {f"d{number}": {"e": {"f": number}} for number in range(300)}, expire=0.001)
    tree.set("lasting", 0)

    def is_gone() -> bool:
        tree["lasting"].add(1)
        return data(redis_server).keys() == {b"v:"}

    eventually(is_gone, "nothing is left but what lasts")
    assert data(redis_server)[b"v:"].keys() == {b"lasting"}  # type: ignore[union-attr]


def test_a_dict_of_expired_leaves_has_no_name(tree: Proxy, redis_server: RedisServer) -> None:
    """The name of a dict whose leaves have all expired is not listed, although its keys are still there."""
    tree.set("a.b.c", 1, expire=0.001)
    tree_alone = root()["a"]
    eventually(lambda: tree.keys() == [], "the name is gone")
    assert tree_alone.keys() == []
    assert data(redis_server) != {}


def test_sessions_expire(backend: RedisBackend, redis_server: RedisServer) -> None:
    """The record of a session has the number and reply of its last request, for five minutes."""
    for _ in range(20):
        write(backend, Add(key("n"), 1))
    backend.execute(Transaction(reads=(Read(key("n")),)))
    found = contents(redis_server)
    (session,) = found.keys.keys() - found.data().keys()
    assert 0 < found.ttls[session] <= 300_000
    number = found.keys[session]
    assert isinstance(number, bytes)
    assert int(number[:16]) == 20


@pytest.mark.parametrize(
    "prefix", ["app:", "my.app", "a*b?[c]", "{tag}", "a.b:c.", "%2E", "x:", "v:", "v:.a", "\u00e9 "]
)
def test_a_prefix_keeps_applications_apart(redis_server: RedisServer, prefix: str) -> None:
    """An application with a prefix and one without do not see each other's values in one database."""
    with opened(redis_server) as plain, opened(redis_server, prefix=prefix) as own:
        write(plain, Put(key("a", "b"), b"1"), Put(key("m", "n"), b"1", 600_000))
        before = data(redis_server)
        write(own, Put(key("a", "b"), b"2"), Put(key("a", "c.d", "e"), b"3", 600_000), Put(key("p"), b"4"))
        write(own, Add(key("n"), 2**62), Add(key("n"), 2**61), Delete(key("p"), Scope.NODE))
        found = contents(redis_server)
        ours = {name: content for name, content in found.keys.items() if name not in before and name[:2] != b"r:"}
        examine_layout(found._replace(keys=ours), prefix.encode())
        reads = Transaction(reads=(Read(key(), Scope.SUBTREE), ReadNames(key()), ReadNames(key("a"))))
        whole, top, below = own.execute(reads).answers
        assert isinstance(whole, Entries)
        assert isinstance(top, Names)
        assert isinstance(below, Names)
        assert whole.values == {("a", "b"): b"2", ("a", "c.d", "e"): b"3", ("n",): b"%d" % (2**62 + 2**61)}
        assert set(top.names) == {"a", "n"}
        assert set(below.names) == {"b", "c.d"}
        write(own, Delete(key(), Scope.SUBTREE))
        assert {name: content for name, content in data(redis_server).items() if b"r:" not in name} == before


@pytest.mark.parametrize("prefix", ["", "a.b:", "{a}", "p\x00q", "\ud800"])
def test_expired_leaves_are_removed_with_any_prefix(redis_server: RedisServer, prefix: str) -> None:
    """With every prefix that the settings accept, expired leaves are removed."""
    try:
        RedisSettings.model_validate({"prefix": prefix})
    except ValidationError:
        assert prefix in {"p\x00q", "\ud800"}
        return
    with opened(redis_server, prefix=prefix) as backend:
        write(backend, Put(key("a", "b"), b"1", 1), Put(key("c"), b"1"))

        def is_gone() -> bool:
            write(backend, Put(key("c"), b"2"))
            found = contents(redis_server).data(prefix.encode())
            return found == {prefix.encode() + b"v:": {b"c": b"2"}}

        eventually(is_gone, "what expired is removed", within=5)


def test_databases_are_separate(redis_server: RedisServer) -> None:
    """Each database holds a tree of its own."""
    with opened(redis_server) as zero, opened(redis_server, database=7) as seven:
        write(zero, Put(key("a"), b"0"))
        write(seven, Put(key("a"), b"7"))
        assert contents(redis_server, 0).data() == {b"v:": {b"a": b"0"}}
        assert contents(redis_server, 7).data() == {b"v:": {b"a": b"7"}}


def test_implied_writes_are_left_out_safely(backend: RedisBackend) -> None:
    """The backend leaves out removals that a later write implies, but not if a write between them depends on them."""
    write(backend, Put(key("a"), b"5"))
    outcome = write(
        backend,
        Delete(key("a"), Scope.NODE),
        Add(key("a"), 1),
        Delete(key("a"), Scope.NODE),
        Put(key("a", "b"), b"x"),
    )
    assert outcome.counters == (1,)
