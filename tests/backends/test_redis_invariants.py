"""Invariants: the rules of the layout hold after each random operation, also while leaves expire."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

import hypothesis
from hypothesis import strategies as st

from redicts import ABSENT, Conflict
from redicts.backends.memory import MemoryBackend
from redicts.backends.redis import RedisBackend
from redicts.codecs.json import JsonCodec
from redicts.core import driver
from redicts.core.backend import Backend
from redicts.core.envelope import LeafFormat
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Entries,
    Equals,
    Expire,
    Put,
    Read,
    Scope,
    StartsWith,
    Status,
    Transaction,
)
from redicts.core.store import TreeStore
from redicts.errors import LeafError
from tests.backends.redis_tools import contents, examine_layout, key, opened, write
from tests.support.servers import RedisServer
from tests.support.waiting import eventually

LONG: Final = os.environ.get("REDICTS_TESTS") == "long"

STORE: Final = TreeStore(LeafFormat(JsonCodec()), 10_000)

segments: Final = st.sampled_from(["a", "b", "c.d", "e:", "\x00", "%2E", "\u00e9"])
paths: Final = st.lists(segments, min_size=1, max_size=3).map(tuple)
leaf_values: Final[st.SearchStrategy[Any]] = st.one_of(
    st.integers(-5, 5), st.just(2**62), st.text(max_size=3), st.just({})
)
dicts: Final = st.recursive(
    st.dictionaries(segments, leaf_values, max_size=3),
    lambda below: st.dictionaries(segments, st.one_of(leaf_values, below), max_size=3),
    max_leaves=6,
)
values: Final = st.one_of(leaf_values, dicts)
short_ttls: Final = st.sampled_from([None, None, 1, 2, 3, 900_000])
long_ttls: Final = st.sampled_from([None, None, 900_000])

Operation = Callable[[Backend], Any]


def on_values(ttls: st.SearchStrategy[int | None]) -> st.SearchStrategy[Operation]:
    """Return a strategy for operations of the store, with TTLs of these lengths."""

    def operation(steps: Callable[..., Any]) -> Callable[..., Operation]:
        def prepared(*arguments: Any) -> Operation:
            return lambda backend: driver.run(steps(*arguments), backend)

        return prepared

    def incremented(path: Any) -> Any:
        return STORE.change(path, lambda old: old + 1 if isinstance(old, int) else ABSENT)

    return st.one_of(
        st.builds(operation(STORE.write), paths, values, ttls),
        st.builds(operation(STORE.write), paths, values, ttls),
        st.builds(operation(STORE.merge), paths, dicts, ttls),
        st.builds(operation(STORE.delete), st.one_of(paths, st.just(()))),
        st.builds(operation(STORE.delete), paths),
        st.builds(operation(STORE.expire), st.one_of(paths, st.just(())), ttls),
        st.builds(operation(STORE.add), paths, st.sampled_from([1, -7, 2**61, 0.5])),
        st.builds(operation(STORE.take), paths),
        st.builds(operation(STORE.set_default), paths, values, ttls),
        st.builds(operation(STORE.compare_and_set), paths, st.one_of(values, st.just(ABSENT)), values, ttls),
        st.builds(operation(incremented), paths),
        st.builds(operation(STORE.read), paths),
        st.builds(operation(STORE.names), paths),
    )


def outcome_of(operation: Operation, backend: Backend) -> Any:
    """Return the result or the error of an operation, with names in order."""
    try:
        result = operation(backend)
    except (LeafError, Conflict) as error:
        return type(error), str(error)
    return sorted(result) if isinstance(result, list) else result


def everything(backend: Backend) -> tuple[dict[Any, bytes], set[Any]]:
    """Return all live values, and which of them have a TTL."""
    (answer,) = backend.execute(Transaction(reads=(Read(key(), Scope.SUBTREE, ttls=True),))).answers
    assert isinstance(answer, Entries)
    return dict(answer.values), set(answer.ttls)


def clear(server: RedisServer) -> None:
    """Remove all keys, but not the cached script."""
    server.command("FLUSHALL")


def test_the_layout_is_valid_after_each_operation(redis_server: RedisServer) -> None:
    """After each random operation the layout is valid, also with leaves that expire meanwhile.

    In the end every leaf with a TTL expires, and further writes remove all of them.
    """

    @hypothesis.settings(max_examples=1_000 if LONG else 50)
    @hypothesis.given(st.lists(on_values(short_ttls), min_size=1, max_size=25))
    def check(operations: list[Operation]) -> None:
        clear(redis_server)
        for operation in operations:
            outcome_of(operation, backend)
            examine_layout(contents(redis_server))
        write(backend, Expire(key(), Scope.SUBTREE, 1), Put(key("lasting"), b"0"))

        def is_swept() -> bool:
            write(backend, Put(key("lasting"), b"1"))
            found = contents(redis_server)
            examine_layout(found)
            return found.data() == {b"v:": {b"lasting": b"1"}}

        eventually(is_swept, "what expired is gone", every=0.001)

    with opened(redis_server) as backend:
        check()


def test_random_operations_do_what_they_do_in_memory(redis_server: RedisServer) -> None:
    """Results, errors, values and which leaves have a TTL are those of the memory backend."""

    @hypothesis.settings(max_examples=1_000 if LONG else 100)
    @hypothesis.given(st.lists(on_values(long_ttls), min_size=1, max_size=20))
    def check(operations: list[Operation]) -> None:
        clear(redis_server)
        reference = MemoryBackend()
        for operation in operations:
            assert outcome_of(operation, backend) == outcome_of(operation, reference)
            assert everything(backend) == everything(reference)
        examine_layout(contents(redis_server))

    with opened(redis_server) as backend:
        check()


writes_in_one: Final = st.lists(
    st.one_of(
        st.tuples(st.just("put"), paths, st.sampled_from([b"1", b"", b"\x01", b"\x02\x03"]), short_ttls, st.booleans()),
        st.tuples(st.just("add"), paths, st.sampled_from([1, -(2**62)])),
        st.tuples(st.just("delete"), paths, st.sampled_from(Scope)),
        st.tuples(st.just("expire"), paths, st.sampled_from(Scope), short_ttls),
    ),
    min_size=1,
    max_size=6,
)


def free_of_leaves_above(drawn: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Return these writes, each put after removals of the leaves above and below it."""
    writes: list[Any] = []
    for kind, path, *rest in drawn:
        if kind in {"put", "add"}:
            writes += [Delete(key(*path[:depth]), Scope.NODE) for depth in range(1, len(path))]
            writes.append(Delete(key(*path), Scope.BELOW))
        if kind == "put":
            value, ttl, keep_ttl = rest
            writes.append(Put(key(*path), value, ttl, keep_ttl))
        elif kind == "add":
            writes.append(Add(key(*path), rest[0]))
        elif kind == "delete":
            writes.append(Delete(key(*path), rest[0]))
        else:
            writes.append(Expire(key(*path), *rest))
    return tuple(writes)


def test_the_layout_is_valid_after_transactions_of_many_writes(redis_server: RedisServer) -> None:
    """The same for transactions of several writes to the same few keys, some of which are refused."""

    @hypothesis.settings(max_examples=2_000 if LONG else 100)
    @hypothesis.given(st.lists(writes_in_one, min_size=1, max_size=12), st.randoms(use_true_random=False))
    def check(drawn: list[list[tuple[Any, ...]]], random: Any) -> None:
        clear(redis_server)
        for each in drawn:
            checks = random.choice(
                [(), (Equals(key("a"), Scope.SUBTREE, NOTHING),), (StartsWith(key("b"), Scope.SUBTREE, b"1"),)]
            )
            before = contents(redis_server).data()
            outcome = backend.execute(Transaction(checks, (), free_of_leaves_above(each)))
            found = contents(redis_server)
            examine_layout(found)
            if outcome.status is not Status.APPLIED:
                assert found.data() == before

    with opened(redis_server) as backend:
        assert isinstance(backend, RedisBackend)
        check()
