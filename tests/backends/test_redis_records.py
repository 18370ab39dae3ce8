"""Record spaces: their layout to the byte, and the records of earlier versions. Functions keep nothing of a call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from redicts import Lock, LockTimeout, Pool
from redicts.backends.memory import MemoryBackend
from redicts.backends.redis import RedisBackend
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Entries,
    Equals,
    Expire,
    Key,
    Names,
    Notify,
    Put,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
    Transaction,
)
from redicts.errors import CorruptData
from tests.backends.redis_tools import contents, data, examine_layout, front, opened, write
from tests.support.servers import RedisError, RedisServer

NEVER: Final = b"9" * 16


@pytest.fixture
def backend(redis_server: RedisServer) -> Iterator[RedisBackend]:
    """Give a backend on an empty database."""
    with opened(redis_server) as backend:
        yield backend


def record(*path: str) -> Key:
    """Return the key of a record."""
    return Key("h", path)


def members(server: RedisServer) -> list[bytes]:
    """Return the records of the space of the tests."""
    found = data(server)[b"h:"]
    assert isinstance(found, dict)
    return list(found)


def test_values_after_a_record_are_written_one_by_one(backend: RedisBackend) -> None:
    """A transaction that begins with a record stores, counts and deletes values in order, and names what failed."""
    a, b, count = Key("v", ("a",)), Key("v", ("b",)), Key("f", ("count",))
    write(backend, Put(a, b"0"))
    outcome = write(
        backend,
        Put(record("/a"), b"1"),
        Delete(a, Scope.NODE),
        Delete(b, Scope.NODE),
        Put(a, b"x"),
        Put(b, b"2"),
        Add(count, 1),
    )
    assert outcome.counters == (1,)
    failed = backend.execute(Transaction((), (), (Put(record("/b"), b"1"), Put(b, b"3"), Put(count, b"1"), Add(a, 1))))
    assert (failed.status, failed.failed_index) == (Status.NOT_A_COUNTER, 3)
    found = backend.execute(Transaction((), (Read(Key("v", ()), Scope.BELOW), Read(record(), Scope.BELOW))))
    assert [answer.values for answer in found.answers if isinstance(answer, Entries)] == [
        {("a",): b"x", ("b",): b"2"},
        {("/a",): b"1"},
    ]


def test_a_record_space_is_one_sorted_set(backend: RedisBackend, redis_server: RedisServer) -> None:
    """A member is the path, NUL, the deadline and the value; three bytes in a segment are escaped."""
    write(backend, Put(record("/a.b", "!", "\x00\x01\x02"), b"\x00x"), Put(record("/a"), b""))
    assert data(redis_server) == {
        b"h:": {b"/a.b\x01!\x01\x020\x021\x022\x01\x00" + NEVER + b"\x00x": b"0", b"/a\x01\x00" + NEVER: b"0"}
    }
    (found,) = backend.execute(Transaction(reads=(Read(record(), Scope.BELOW),))).answers
    assert found == Entries({("/a.b", "!", "\x00\x01\x02"): b"\x00x", ("/a",): b""})


def test_a_record_with_a_ttl_is_in_the_index(backend: RedisBackend, redis_server: RedisServer) -> None:
    """The deadline is in the member and in the index of TTLs, and leaves both with the record."""
    write(backend, Put(record("a", "b"), b"v", 600_000))
    found = data(redis_server)
    (member,) = members(redis_server)
    assert found[b"x:"] == {b"\x00h:\x00a\x01b\x01": b"%d" % int(member[5:21])}
    write(backend, Expire(record("a", "b"), Scope.NODE, None))
    assert data(redis_server) == {b"h:": {b"a\x01b\x01\x00" + NEVER + b"v": b"0"}}
    write(backend, Put(record("a", "b"), b"v", 600_000), Delete(record("a"), Scope.SUBTREE))
    assert data(redis_server) == {}


def test_scopes_end_where_the_next_segment_begins(backend: RedisBackend) -> None:
    """Neighbours in the order of the bytes, also those that are escaped, are not in a scope."""
    names = ["a", "a\x00", "a\x01", "a\x02", "a\x03", "a0", "aa", "\x00", "\U0010ffff", "\ud800"]
    write(backend, *[Put(record(name, "x"), name.encode("utf-8", "surrogatepass")) for name in names])
    for name in names:
        (below,) = backend.execute(Transaction(reads=(Read(record(name), Scope.SUBTREE),))).answers
        assert below == Entries({("x",): name.encode("utf-8", "surrogatepass")})
    (listed,) = backend.execute(Transaction(reads=(ReadNames(record()),))).answers
    assert isinstance(listed, Names)
    assert sorted(listed.names) == sorted(names)


# Records of earlier versions -------------------------------------------------------------------------------------


def lay_down_as_before(server: RedisServer, lease: int) -> None:
    """Write the records of a lock on ``a.b`` as version 2.0.0.dev0 did, and of one that has expired."""
    now = int(time.time() * 1000)
    held = b"Xold.1 1700000000000 - oldhost:1@1:MainThread"
    for name, field, value in (
        (b"h:", b"/a", b"\x01"),
        (b"h:./a", b"/b", b"\x01"),
        (b"h:./a./b", b"!", b"\x01"),
        (b"h:./a./b.!", b"old/1", b"\x02%016d" % (now + lease) + held),
        (b"h:./a./b.!", b"old/2", b"\x02%016d" % (now - 1) + held),
    ):
        server.command("HSET", name, field, value)
    server.command("ZADD", "x:", now + lease, b"h:./a./b.!\x00old/1", now - 1, b"h:./a./b.!\x00old/2")


@pytest.mark.parametrize("first", ["a request that reads", "a request that writes"])
def test_locks_of_an_earlier_version_are_respected(redis_server: RedisServer, first: str) -> None:
    """A lock that is held during an upgrade stays held until its lease ends, whichever request comes first."""
    lay_down_as_before(redis_server, 600_000)
    with front(redis_server) as tree:
        if first == "a request that reads":
            assert [holder.path for holder in tree.lock().holders()] == ["a.b"]
        with pytest.raises(LockTimeout):
            Lock(Pool(), "a", acquire_timeout=0.05).acquire()
        examine_layout(contents(redis_server))
        member = members(redis_server)[0]
        assert member.startswith(b"/a\x01/b\x01!\x01old/1\x01\x00")
        tree.lock().break_locks()
        with tree["a"].lock():
            examine_layout(contents(redis_server))


def test_locks_of_an_earlier_version_expire(redis_server: RedisServer) -> None:
    """What is rewritten keeps its TTL."""
    lay_down_as_before(redis_server, 300)
    with front(redis_server), Lock(Pool(), "a", acquire_timeout=30):
        assert [member for member in members(redis_server) if b"old" not in member]


def test_an_earlier_version_meets_an_error(backend: RedisBackend, redis_server: RedisServer) -> None:
    """A client of an earlier version, whose commands these are, cannot overlook a lock: it is refused."""
    write(backend, Put(record("/a", "!", "x"), b"Xme", 600_000))
    for command in (("HLEN", "h:"), ("HSET", "h:", "/a", b"\x01"), ("HGET", "h:", "/a")):
        with pytest.raises(RedisError, match="WRONGTYPE"):
            redis_server.command(*command)


# Calls keep no state ---------------------------------------------------------------------------------------------

_MANY: Final = [Put(record(f"n{number}"), b"1") for number in range(20)]
FAILING: Final[dict[str, Callable[[RedisBackend], Any]]] = {
    "a foreign key in a check": lambda client: client.execute(
        Transaction((Equals(Key("foreign", ("a",)), Scope.NODE, {(): b"1"}),), (Read(record()),), tuple(_MANY))
    ),
    "a foreign key in a write": lambda client: write(
        client, *_MANY, Add(record("n1"), 1), Add(Key("foreign", ("a",)), 1)
    ),
    "a foreign record space": lambda client: write(
        client, Put(Key("v", ("k",)), b"1", 5), Put(Key("hf", ("a",)), b"1")
    ),
    "a check that fails": lambda client: client.execute(
        Transaction((StartsWith(Key("v", ()), Scope.BELOW, b"no"),), (), tuple(_MANY))
    ),
    "no counter": lambda client: write(client, Delete(record("n"), Scope.NODE), Add(Key("v", ("a", "b")), 1)),
    "too large": lambda client: client.execute(Transaction(reads=(Read(Key("v", ("wide",)), Scope.BELOW),))),
    "nothing": lambda client: client.execute(Transaction()),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_call_that_ends_early_leaves_nothing_to_the_next_one(redis_server: RedisServer, name: str) -> None:
    """Functions outlive a call. Whatever ended one, those after it do what they do in memory."""
    after = [
        Transaction((Equals(Key("v", ("c",)), Scope.SUBTREE, NOTHING),), (), (Add(Key("v", ("c",)), 2),)),
        Transaction(writes=(Add(Key("v", ("c",)), 1), Delete(Key("v", ("c",)), Scope.NODE), Add(Key("v", ("c",)), 7))),
        Transaction(writes=(Put(record("n1"), b"3", 900_000), Add(record("n1"), 4), Notify(record("n2"), Scope.NODE))),
        Transaction(reads=(Read(record(), Scope.BELOW), Read(Key("v", ("c",))), ReadNames(Key("v", ())))),
    ]
    filled = Transaction(writes=tuple([Put(Key("v", ("wide", f"{number}")), b"1") for number in range(4_000)]))
    more = Transaction(writes=tuple([Put(Key("v", ("wide", f"m{number}")), b"1") for number in range(4_000)]))
    there = Transaction(writes=(Put(Key("v", ("a", "b")), b"x"), Put(record("n1"), b"5")))
    with opened(redis_server) as client:
        memory = MemoryBackend()
        for backend in (client, memory):
            for each in (filled, more, there):
                assert backend.execute(each).applied
        redis_server.command("SET", "foreign:", "theirs")
        redis_server.command("SET", "hf:", "theirs")
        for each in after:
            try:
                assert FAILING[name](client).status is not Status.APPLIED or name == "nothing"
            except CorruptData:
                assert "foreign" in name
            got, expected = client.execute(each), memory.execute(each)
            assert (got.status, got.counters, got.failed_index) == (
                expected.status,
                expected.counters,
                expected.failed_index,
            )
            assert [getattr(one, "values", None) or sorted(getattr(one, "names", ())) for one in got.answers] == [
                getattr(one, "values", None) or sorted(getattr(one, "names", ())) for one in expected.answers
            ]
