"""Small requests, as those of locks, edits and guarded writes: they do what the memory backend does."""

from __future__ import annotations

import os
import tracemalloc
from typing import Any, Final

import hypothesis
import pytest
import redis
from hypothesis import strategies as st

from redicts.backends.memory import MemoryBackend
from redicts.backends.redis.functions import as_script
from redicts.backends.redis.wire import Encoder, decode, decode_record
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Entries,
    Equals,
    Key,
    Notify,
    Put,
    Read,
    Scope,
    StartsWith,
    Transaction,
    Write,
)
from redicts.errors import CorruptData
from tests.backends.redis_tools import calls, contents, examine_layout, opened
from tests.backends.test_redis_commands import HARNESS
from tests.support.servers import RedisServer

NEWEST_ONLY: Final = "the contract compares random transactions on every version"

LONG: Final = os.environ.get("REDICTS_TESTS") == "long"

KEYS: Final = [
    Key("h", ("a", "b.c", "0")),
    Key("h", ("a", "b.c", "1")),
    Key("h", ("a",)),
    Key("h", ("d",)),
    Key("n", ("l", "\ud800")),
]
NODES: Final = [*KEYS, Key("h", ()), Key("h", ("a", "b.c")), Key("n", ("l",)), Key("w", ("none",))]


def clearing(key: Key) -> list[Write]:
    """Return the writes that keep a space prefix-free before a value is put at this key."""
    above: list[Write] = [Delete(Key(key.space, key.path[:depth]), Scope.NODE) for depth in range(1, len(key.path))]
    return above or [Delete(key, Scope.BELOW)]


keys: Final = st.sampled_from(KEYS)
nodes: Final = st.sampled_from(NODES)
scopes: Final = st.sampled_from([Scope.NODE, Scope.BELOW, Scope.BELOW, Scope.SUBTREE])
values: Final = st.sampled_from(
    [b"", b"0", b"17", b"-5", b"007", b"999999999999999", b"\x01", b"\x02", b"\x03x", b"s/1"]
)
ttls: Final = st.sampled_from([None, 900_000, 900_000])
checks: Final = st.one_of(
    st.builds(StartsWith, nodes, scopes, st.sampled_from([b"", b"1"])),
    st.builds(lambda key, value: Equals(key, Scope.NODE, {(): value}), keys, values),
    st.builds(lambda node, scope: Equals(node, scope, NOTHING), nodes, scopes),
)
reads: Final = st.one_of(
    st.builds(Read, keys, st.just(Scope.NODE), st.none(), st.none(), st.booleans()),
    st.builds(Read, nodes, scopes, st.none(), st.none()),
    st.builds(Read, nodes, scopes, st.just(1_000), st.none(), st.booleans()),
)
writes: Final = st.one_of(
    st.builds(lambda key, value, ttl: [*clearing(key), Put(key, value, ttl)], keys, values, ttls),
    st.builds(lambda key, amount: [*clearing(key), Add(key, amount)], keys, st.sampled_from([1, -18, 2**62])),
    st.builds(lambda key: [Delete(key, Scope.NODE)], keys),
    st.builds(lambda node, scope: [Notify(node, scope)], nodes, scopes),
)
changed: Final = st.builds(
    lambda key, old, new, read: Transaction(
        (Equals(key, Scope.NODE, {(): old}),),
        (read,),
        (Put(key, new, keep_ttl=True), Notify(Key("w", ()), Scope.BELOW)),
    ),
    keys,
    values,
    values,
    reads,
)
"""Changes of a value that is there."""

transactions: Final = st.one_of(
    changed,
    st.builds(
        lambda checks, reads, writes: Transaction(
            tuple(checks), tuple(reads), tuple([one for some in writes for one in some])
        ),
        st.lists(checks, max_size=1),
        st.lists(reads, max_size=1),
        st.lists(writes, min_size=1, max_size=2),
    ),
)


def deleted(key: Key, *more: Write) -> Transaction:
    """Return the transaction that deletes this key and then has more writes."""
    return Transaction(writes=(Delete(key, Scope.NODE), *more))


def comparable(outcome: Any) -> Any:
    """Return an outcome without the order of values and the exact remaining TTLs."""
    answers = [(dict(each.values), set(each.ttls), each.cursor) for each in outcome.answers]
    return outcome.status, answers, outcome.counters, outcome.failed_index


def test_small_requests_have_the_outcomes_of_the_memory_backend(redis_server: RedisServer) -> None:
    """A random sequence has the same outcomes and values as in memory, and a valid layout."""
    everything = Transaction(reads=tuple([Read(Key(space, ()), Scope.SUBTREE, ttls=True) for space in "hn"]))

    @hypothesis.settings(max_examples=3_000 if LONG else 300, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    # One of two neighbours is deleted, and a write depends on another one of its transaction.
    @hypothesis.example([*[Transaction(writes=(Put(key, b"17"),)) for key in KEYS[:2]], deleted(KEYS[0])])
    @hypothesis.example([Transaction(writes=(Put(KEYS[4], b"17"),)), deleted(KEYS[4], Add(KEYS[4], 1))])
    @hypothesis.given(st.lists(transactions, min_size=1, max_size=8))
    def check(sequence: list[Transaction]) -> None:
        redis_server.command("FLUSHALL")
        memory = MemoryBackend()
        for transaction in sequence:
            assert comparable(backend.execute(transaction)) == comparable(memory.execute(transaction)), transaction
            assert comparable(backend.execute(everything)) == comparable(memory.execute(everything)), transaction
        examine_layout(contents(redis_server))

    with opened(redis_server) as backend:
        check()


RECORD: Final = Key("h", ("a", "b", "!", "0.1"))
ACQUIRE: Final = Transaction(
    tuple(
        [
            StartsWith(Key(space, path), Scope.BELOW, b"me")
            for space in "hw"
            for path in (("!",), ("a", "!"), ("a", "b"))
        ]
    ),
    writes=(Put(RECORD, b"me", 30_000), Add(Key("f", ("token",)), 1)),
)
RELEASE: Final = Transaction(
    reads=(Read(RECORD), Read(Key("h", ("none",)))),
    writes=(Delete(RECORD, Scope.NODE), Notify(Key("n", ("0.1",)), Scope.BELOW)),
)
LIST: Final = Transaction(
    reads=(Read(RECORD, ttls=True), Read(Key("w", RECORD.path), ttls=True)),
    writes=(Put(Key("n", ("0.1", "0.2")), b"client/2", 6_000),),
)
VALUE: Final = Key("v", ("a", "b"))
STORE: Final = Transaction(writes=(Put(Key("v", ("a", "b", "c")), b"1", 900_000), Put(Key("v", ("a", "b", "d")), b"2")))
OPEN: Final = ACQUIRE._replace(reads=(Read(VALUE, Scope.SUBTREE, 5_000, None, ttls=True),))
CLOSE: Final = RELEASE._replace(
    checks=(Equals(RECORD, Scope.NODE, {(): b"me"}), Equals(Key("v", ("a", "b", "d")), Scope.NODE, {(): b"2"})),
    writes=(
        *[Put(Key("v", ("a", "b", name)), b"3", keep_ttl=True) for name in "cd"],
        *RELEASE.writes,
    ),
)
"""An edit, see :mod:`redicts.core.edits`."""

REFUSED: Final = Transaction(
    (StartsWith(Key("h", ("a",)), Scope.BELOW, b"you"),),
    (Read(Key("h", ("a",)), Scope.BELOW, 1_000), Read(Key("h", ("b",)), Scope.BELOW, 1_000)),
    ACQUIRE.writes,
)


def in_text(reply: Any) -> Any:
    """Return a reply with its numbers as text."""
    if isinstance(reply, list):
        return [in_text(each) for each in reply]
    return b"%d" % reply if isinstance(reply, int) else reply


def test_a_repeated_small_request_gets_the_same_reply(redis_server: RedisServer) -> None:
    """What is kept for a repetition is the reply that was given; a repetition changes nothing."""
    encoder = Encoder(b"", b"s:0:", 5_000)
    client = redis.Connection(host=redis_server.host, port=redis_server.port, protocol=2)

    def exchange(call: bytes) -> Any:
        client.send_packed_command([call])
        return client.read_response()

    exchange(as_script(encoder.encode(Transaction(writes=(Add(Key("f", ("token",)), 41),)), b"other", 1), True))
    for number, transaction in enumerate((ACQUIRE, LIST, REFUSED, RELEASE, STORE, OPEN, CLOSE, ACQUIRE, RELEASE), 1):
        call = as_script(encoder.encode(transaction, b"mine", number))
        first = exchange(call)
        record = redis_server.command("GET", "r:mine")
        assert isinstance(record, bytes)
        assert record[:16] == b"%016d" % number
        # Numbers are kept as text, which decodes to the same.
        assert decode_record(record[16:]) == in_text(first)
        before = contents(redis_server).data()
        assert decode(exchange(call), transaction) == decode(first, transaction)
        assert contents(redis_server).data() == before
    (mine, nothing) = decode(first, RELEASE).answers
    assert (mine, nothing) == (Entries({(): b"me"}), Entries({}))
    client.disconnect()


def test_the_commands_of_a_lock(redis_server: RedisServer) -> None:
    """Acquiring and releasing an uncontended lock takes these commands."""
    with opened(redis_server) as backend:
        backend.execute(Transaction(writes=(Put(Key("h", ("z",)), b"1", 900_000), Add(Key("f", ("token",)), 1))))
        redis_server.command("CONFIG", "RESETSTAT")
        assert backend.execute(ACQUIRE).counters == (2,)
        taken = calls(redis_server)
        redis_server.command("CONFIG", "RESETSTAT")
        assert backend.execute(RELEASE).answers == (Entries({(): b"me"}), Entries({}))
        released = calls(redis_server)
        examine_layout(contents(redis_server))
    common = {"get": 1, "set": 1}
    for used in (taken, released):
        for uncounted in (*HARNESS, "fcall", "evalsha", "time", "zrangebyscore", "zcard"):
            used.pop(uncounted, None)
    # Of the spaces, the one with waiters is empty. The counter of tokens is a leaf.
    assert taken == common | {"zrangebylex": 3, "zadd": 2, "hget": 1, "hset": 1}
    assert released == {"get": 1, "set": 1, "zrangebylex": 4, "zrem": 2}


def test_the_commands_of_an_edit(redis_server: RedisServer) -> None:
    """A small value is read as its lock is acquired, and changed as it is released, with a few commands more."""
    with opened(redis_server) as backend:
        backend.execute(Transaction(writes=(Put(Key("h", ("z",)), b"1", 900_000), Add(Key("f", ("token",)), 1))))
        backend.execute(STORE)
        redis_server.command("CONFIG", "RESETSTAT")
        (found,) = backend.execute(OPEN).answers
        taken = calls(redis_server)
        redis_server.command("CONFIG", "RESETSTAT")
        assert backend.execute(CLOSE).applied
        released = calls(redis_server)
        examine_layout(contents(redis_server))
        (value,) = backend.execute(Transaction(reads=(Read(VALUE, Scope.SUBTREE, ttls=True),))).answers
    assert isinstance(found, Entries)
    assert isinstance(value, Entries)
    assert found.values == {("c",): b"1", ("d",): b"2"}
    assert value.values == {("c",): b"3", ("d",): b"3"}
    assert 890_000 < value.ttls["c",] <= found.ttls["c",] <= 900_000
    assert value.ttls.keys() == {("c",)}
    common = {"get": 1, "set": 1}
    for used in (taken, released):
        for uncounted in (*HARNESS, "fcall", "evalsha", "time", "zrangebyscore", "zcard"):
            used.pop(uncounted, None)
    assert taken == common | {"zrangebylex": 3, "zadd": 2, "hget": 2, "hset": 1, "hlen": 1, "hgetall": 1}
    told = {"publish": 1}  # to those who watch
    assert released == common | told | {"zrangebylex": 4, "zrem": 2, "hget": 3, "hset": 1, "hlen": 2}


@pytest.mark.parametrize("space", ["h", "f"])
def test_a_foreign_key_stops_a_lock_before_the_first_change(redis_server: RedisServer, space: str) -> None:
    """Wherever it is, nothing is changed."""
    for name in ("x:", *{"h": ("h:",), "f": ("f:",)}[space]):
        redis_server.command("FLUSHALL")
        redis_server.command("SET", name, "theirs")
        before = contents(redis_server).data()
        with opened(redis_server) as backend:
            with pytest.raises(CorruptData):
                backend.execute(ACQUIRE)
            assert contents(redis_server).data() == before


def test_what_an_encoder_keeps_is_bounded() -> None:
    """With any number of keys and checks, an encoder keeps a few of them, and encodes all of them correctly."""
    encoder = Encoder(b"p:", b"s:0:", 5_000)
    tracemalloc.start()
    try:
        for number in range(10_000):
            free = tuple([StartsWith(Key("h", (f"n{number}", f"{each}")), Scope.BELOW, b"X") for each in range(4)])
            call = encoder.encode(Transaction(free))
            assert call == encoder.encode(Transaction(free))
            if number % 100 == 0:
                assert call == Encoder(b"p:", b"s:0:", 5_000).encode(Transaction(free))
        assert tracemalloc.get_traced_memory()[0] < 4_000_000, "all of them take more than 20 million bytes"
    finally:
        tracemalloc.stop()
