"""What the script does with small requests, by the short way or the long one, is what the memory store does."""

from __future__ import annotations

import os
from typing import Any, Final

import hypothesis
import pytest
from hypothesis import strategies as st

from redicts.backends.memory import MemoryBackend
from redicts.backends.redis.wire import Encoder, HashNames, unpacked
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

LONG: Final = os.environ.get("REDICTS_TESTS") == "long"

KEYS: Final = [
    Key("h", ("a", "b.c", "0")),
    Key("h", ("a", "b.c", "1")),
    Key("h", ("a",)),
    Key("h", ("d",)),
    Key("n", ("l", "\ud800")),
]
PLACES: Final = [*KEYS, Key("h", ()), Key("h", ("a", "b.c")), Key("n", ("l",)), Key("w", ("none",))]


def clearing(key: Key) -> list[Write]:
    """Return the writes that keep a space free of prefixes when something is put at this key."""
    above: list[Write] = [Delete(Key(key.space, key.path[:depth]), Scope.NODE) for depth in range(1, len(key.path))]
    return above or [Delete(key, Scope.BELOW)]


keys: Final = st.sampled_from(KEYS)
places: Final = st.sampled_from(PLACES)
scopes: Final = st.sampled_from([Scope.NODE, Scope.BELOW, Scope.BELOW, Scope.SUBTREE])
values: Final = st.sampled_from(
    [b"", b"0", b"17", b"-5", b"007", b"999999999999999", b"\x01", b"\x02", b"\x03x", b"s/1"]
)
ttls: Final = st.sampled_from([None, 900_000, 900_000])
checks: Final = st.one_of(
    st.builds(StartsWith, places, scopes, st.sampled_from([b"", b"1"])),
    st.builds(lambda key, value: Equals(key, Scope.NODE, {(): value}), keys, values),
    st.builds(lambda place, scope: Equals(place, scope, NOTHING), places, scopes),
)
reads: Final = st.one_of(
    st.builds(Read, keys, st.just(Scope.NODE), st.none(), st.none(), st.booleans()),
    st.builds(Read, places, scopes, st.none(), st.none()),
)
writes: Final = st.one_of(
    st.builds(lambda key, value, ttl: [*clearing(key), Put(key, value, ttl)], keys, values, ttls),
    st.builds(lambda key, amount: [*clearing(key), Add(key, amount)], keys, st.sampled_from([1, -18, 2**62])),
    st.builds(lambda key: [Delete(key, Scope.NODE)], keys),
    st.builds(lambda place, scope: [Notify(place, scope)], places, scopes),
)
transactions: Final = st.builds(
    lambda checks, reads, writes: Transaction(
        tuple(checks), tuple(reads), tuple([one for some in writes for one in some])
    ),
    st.lists(checks, max_size=1),
    st.lists(reads, max_size=1),
    st.lists(writes, min_size=1, max_size=2),
)


def deleted(key: Key, *more: Write) -> Transaction:
    """Return the transaction that deletes this key and then does more."""
    return Transaction(writes=(Delete(key, Scope.NODE), *more))


def told(outcome: Any) -> Any:
    """Return an outcome without the order of values and the exact remaining TTLs."""
    answers = [(dict(each.values), set(each.ttls), each.cursor) for each in outcome.answers]
    return outcome.status, answers, outcome.counters, outcome.failed_index


def test_small_requests_have_the_outcomes_of_the_memory_store(redis_server: RedisServer) -> None:
    """A random sequence of them has the same outcomes and leaves the same values, in a whole layout."""
    everything = Transaction(reads=tuple([Read(Key(space, ()), Scope.SUBTREE, ttls=True) for space in "hn"]))

    @hypothesis.settings(max_examples=3_000 if LONG else 300, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    # One of two neighbours goes; and a write that depends on another one of the same transaction.
    @hypothesis.example([*[Transaction(writes=(Put(key, b"17"),)) for key in KEYS[:2]], deleted(KEYS[0])])
    @hypothesis.example([Transaction(writes=(Put(KEYS[4], b"17"),)), deleted(KEYS[4], Add(KEYS[4], 1))])
    @hypothesis.given(st.lists(transactions, min_size=1, max_size=8))
    def check(sequence: list[Transaction]) -> None:
        redis_server.command("FLUSHALL")
        memory = MemoryBackend()
        for transaction in sequence:
            assert told(backend.execute(transaction)) == told(memory.execute(transaction)), transaction
            assert told(backend.execute(everything)) == told(memory.execute(everything)), transaction
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
    writes=(Put(Key("n", ("0.1", "0.2")), b"station/2", 6_000),),
)
REFUSED: Final = Transaction(
    (StartsWith(Key("h", ("a",)), Scope.BELOW, b"you"),),
    (Read(Key("h", ("a",)), Scope.BELOW, 1_000), Read(Key("h", ("b",)), Scope.BELOW, 1_000)),
    ACQUIRE.writes,
)


def test_a_repeated_small_request_is_told_the_same_again(redis_server: RedisServer) -> None:
    """The reply that the short way keeps for a request that is sent again is the one that it gave."""
    with opened(redis_server) as backend:
        backend.execute(Transaction(writes=(Add(Key("f", ("token",)), 41),)))
        for number, transaction in enumerate((ACQUIRE, LIST, REFUSED, RELEASE), 1):
            words = backend._encoder.say(transaction)
            first = backend._run(b"r:mine", number, words)
            packed = redis_server.command("GET", "r:mine")
            assert isinstance(packed, bytes)
            assert packed[:16] == b"%016d" % number
            # Numbers are kept as text; what is read of them is the same.
            assert unpacked(packed[16:]) == [b"%d" % each if isinstance(each, int) else each for each in first]
            before = contents(redis_server).data()
            assert backend._run(b"r:mine", number, words) == unpacked(packed[16:])
            assert contents(redis_server).data() == before
        assert first == [b"+", 0, [b"", b"=", b"me", b""], [b""]]


def test_what_a_lock_takes(redis_server: RedisServer) -> None:
    """Taking and releasing a lock that nobody else wants looks at nothing twice: these are the commands of both."""
    with opened(redis_server) as backend:
        backend.execute(Transaction(writes=(Put(Key("h", ("z",)), b"1", 900_000), Add(Key("f", ("token",)), 1))))
        redis_server.command("CONFIG", "RESETSTAT")
        assert backend.execute(ACQUIRE).counters == (2,)
        taken = calls(redis_server)
        redis_server.command("CONFIG", "RESETSTAT")
        assert backend.execute(RELEASE).answers == (Entries({(): b"me"}), Entries({}))
        released = calls(redis_server)
        examine_layout(contents(redis_server))
    common = {"evalsha": 1, "get": 1, "set": 1, "time": 1, "zrangebyscore": 1}
    for used in (taken, released):
        for harness in HARNESS:
            used.pop(harness, None)
    assert taken == common | {"hlen": 6 + 4, "hget": 2, "hset": 4 + 1, "zadd": 1}
    assert released == common | {"hlen": 4 + 1, "hget": 3 + 3, "hdel": 1 + 3, "zrem": 1}


@pytest.mark.parametrize("space", ["h", "f"])
def test_a_foreign_key_in_the_way_of_a_lock_is_met_before_the_first_change(
    redis_server: RedisServer, space: str
) -> None:
    """Wherever it is, the short way leaves nothing half done either."""
    for name in ("x:", *{"h": ("h:", "h:.a", "h:.a.b", "h:.a.b.!"), "f": ("f:",)}[space]):
        redis_server.command("FLUSHALL")
        redis_server.command("SET", name, "theirs")
        before = contents(redis_server).data()
        with opened(redis_server) as backend:
            with pytest.raises(CorruptData):
                backend.execute(ACQUIRE)
            assert contents(redis_server).data() == before


def test_what_is_remembered_of_requests_is_bounded() -> None:
    """However many keys and checks a program speaks of, only so many of their words are kept, and they stay right."""
    names = HashNames(b"p:")
    encoder = Encoder(names, b"s:0:")
    for number in range(5_000):
        free = tuple([StartsWith(Key("h", (f"n{number}", f"{each}")), Scope.BELOW, b"X") for each in range(4)])
        said = encoder.say(Transaction(free))
        assert said == Encoder(HashNames(b"p:"), b"s:0:").say(Transaction(free)) == encoder.say(Transaction(free))
        assert len(names) <= 2_000
        assert len(encoder._known) <= 256
