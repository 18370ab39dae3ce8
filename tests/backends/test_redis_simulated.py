"""The backend ``fakeredis``: it does what ``redis`` does, within this process, and ends with the next reload."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import hypothesis
import pytest
from hypothesis import strategies as st

from redicts import Pool, Unsupported, root
from redicts.backends.fakeredis import plugin
from redicts.backends.redis import RedisBackend
from redicts.core.backend import Backend
from redicts.core.minitransaction import (
    Add,
    Delete,
    Entries,
    Equals,
    Expire,
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
from tests.backends.redis_tools import contents, key, opened
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT

LONG: Final = os.environ.get("REDICTS_TESTS") == "long"

segments: Final = st.sampled_from(["a", "b", "c.d", "\x00", "{}", "\u00e9\ud800"])
paths: Final = st.lists(segments, max_size=3).map(tuple)
nodes: Final = st.lists(segments, min_size=1, max_size=3).map(tuple)
scopes: Final = st.sampled_from(Scope)
ttls: Final = st.sampled_from([None, None, 900_000])
values: Final = st.sampled_from(
    [b"0", b"17", b"-9223372036854775808", b"", b"\x00", b"\x01", b"\x02x", b"\x03", b"\xff"]
)
entries: Final = st.dictionaries(nodes, values, max_size=2)

checks: Final = st.one_of(
    st.builds(lambda path, scope, found: Equals(key(*path), scope, found), paths, scopes, entries),
    st.builds(
        lambda path, scope, prefix: StartsWith(key(*path), scope, prefix), paths, scopes, st.sampled_from([b"", b"1"])
    ),
)
reads: Final = st.one_of(
    st.builds(lambda path, scope, ttl: Read(key(*path), scope, ttls=ttl), paths, scopes, st.booleans()),
    st.builds(lambda path: ReadNames(key(*path)), paths),
)


def put(path: tuple[str, ...], value: bytes, ttl: int | None, keep: bool) -> list[Any]:
    """Return the writes that put a value after removing those above and below it."""
    return [*clearing(path), Put(key(*path), value, ttl, keep)]


def add(path: tuple[str, ...], amount: int) -> list[Any]:
    """Return the writes that count after removing the values above and below."""
    return [*clearing(path), Add(key(*path), amount)]


def clearing(path: tuple[str, ...]) -> list[Any]:
    """Return the writes that remove the values above and below a path."""
    above = [Delete(key(*path[:depth]), Scope.NODE) for depth in range(1, len(path))]
    return [*above, Delete(key(*path), Scope.BELOW)]


writes: Final = st.one_of(
    st.builds(put, nodes, values, ttls, st.booleans()),
    st.builds(add, nodes, st.sampled_from([1, -1, 2**62, -(2**63)])),
    st.builds(lambda path, scope: [Delete(key(*path), scope)], paths, scopes),
    st.builds(lambda path, scope, ttl: [Expire(key(*path), scope, ttl)], paths, scopes, ttls),
    st.builds(lambda path, scope: [Notify(key(*path), scope)], paths, scopes),
)
transactions: Final = st.builds(
    lambda checks, reads, writes: Transaction(
        tuple(checks), tuple(reads), tuple(one for some in writes for one in some)
    ),
    st.lists(checks, max_size=1),
    st.lists(reads, max_size=2),
    st.lists(writes, max_size=3),
)


def comparable(backend: Backend, transaction: Transaction) -> Any:
    """Execute a transaction, and return its outcome without the order of names and the exact remaining TTLs."""
    status, answers, counters, failed_index = backend.execute(transaction)
    comparable_answers: list[Any] = []
    for answer in answers:
        if isinstance(answer, Names):
            comparable_answers.append(set(answer.names))
        else:
            assert isinstance(answer, Entries)
            comparable_answers.append((dict(answer.values), set(answer.ttls), answer.cursor))
    return status, comparable_answers, counters, failed_index


def simulated() -> Backend:
    """Open a simulated server."""
    return plugin.open(plugin.model(), 0)


def test_any_transaction_has_the_same_outcome(redis_server: RedisServer) -> None:
    """A random sequence of transactions has the same outcomes as on a real server, and ends in the same state."""
    everything = Transaction(reads=(Read(key(), Scope.SUBTREE, ttls=True), ReadNames(key())))

    @hypothesis.settings(max_examples=500 if LONG else 60, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    @hypothesis.given(st.lists(transactions, min_size=1, max_size=4))
    def check(sequence: list[Transaction]) -> None:
        redis_server.command("FLUSHALL")
        fake = simulated()
        try:
            for transaction in sequence:
                assert comparable(fake, transaction) == comparable(real, transaction)
            assert comparable(fake, everything) == comparable(real, everything)
            assert isinstance(fake, RedisBackend)
            _same_layout(fake, redis_server)
        finally:
            fake.close()

    with opened(redis_server) as real:
        check()


def _same_layout(fake: RedisBackend, server: RedisServer) -> None:
    client = fake.client
    found = {name: client.type(name) for name in client.keys("*")}
    hashes: Any = {name: client.hgetall(name) for name, kind in found.items() if kind == b"hash"}
    client.connection_pool.disconnect()
    wanted = {name: content for name, content in contents(server).data().items() if name != b"x:"}
    assert hashes.keys() == wanted.keys()
    for name, content in wanted.items():
        assert isinstance(content, dict)
        assert {field: _undated(value) for field, value in content.items()} == {
            field: _undated(value) for field, value in hashes[name].items()
        }


def _undated(value: bytes) -> bytes:
    return value[17:] if value[:1] == b"\x02" else value


@pytest.fixture
def _plain_pool() -> Any:
    """Leave no simulated server behind."""
    yield
    Pool().reload(cfg={"backend": "memory"})


@pytest.mark.usefixtures("_plain_pool")
@pytest.mark.parametrize(
    "way", [{"fake_redis": True}, {"cfg": {"backend": "fakeredis"}}, {"cfg": {"prefix": "p:"}, "fake_redis": True}]
)
def test_threads_share_it_and_a_reload_empties_it(way: dict[str, Any]) -> None:
    """Threads share one state and count exactly. A reload starts with an empty one."""
    Pool().reload(**way)
    with ThreadPoolExecutor(4) as threads:
        for each in [threads.submit(lambda: [root()["n"].add(1) for _ in range(25)]) for _ in range(4)]:
            each.result(TIMEOUT)
    assert root().val() == {"n": 100}
    Pool().reload(**way)
    assert root().val() is None
    root().set("n", 1)
    Pool().reload(cfg={"backend": "memory"})
    Pool().reload(**way)
    assert not root().exists()


@pytest.mark.usefixtures("_plain_pool")
def test_its_databases_are_separate() -> None:
    """Each name of the settings stands for a database of its own, as on a real server."""
    Pool().reload(cfg={"names": {"persons": 1}}, fake_redis=True)
    root().set("a", 1)
    root(db_name="persons").set("a", 2)
    assert root().val() == {"a": 1}
    assert root(db_name="persons").val() == {"a": 2}


@pytest.mark.usefixtures("_plain_pool")
def test_it_gives_a_client_for_what_it_holds() -> None:
    """``get_connection`` connects to the simulated server, and raises ``Unsupported`` on other backends."""
    Pool().reload(fake_redis=True)
    root().set("a.b", 42)
    assert Pool().get_connection().hget("v:.a", "b") == b"42"
    Pool().reload(cfg={"backend": "memory"})
    with pytest.raises(Unsupported, match="choose backend 'redis'"):
        Pool().get_connection()


def test_it_limits_large_transactions() -> None:
    """One call touches as many values as on a server."""
    fake = simulated()
    try:
        most = fake.capabilities.atomic_entries
        assert most is not None
        for part in "ab":
            puts = [Put(key(part, str(number)), b"1") for number in range(most // 2 + 1)]
            assert fake.execute(Transaction(writes=tuple(puts))).applied
        assert fake.execute(Transaction(writes=(Delete(key(), Scope.SUBTREE),))).status is Status.TOO_LARGE
        (page,) = fake.execute(Transaction(reads=(Read(key(), Scope.SUBTREE, 1_000),))).answers
        assert isinstance(page, Entries)
        assert page.cursor is not None
    finally:
        fake.close()
