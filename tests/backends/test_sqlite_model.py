"""Any transactions: the SQLite backend answers as the memory backend does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redicts.backends.memory import MemoryBackend
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.files import MEMORY
from redicts.core.backend import Backend
from redicts.core.minitransaction import (
    Add,
    AnyRead,
    Check,
    Delete,
    Entries,
    Equals,
    Expire,
    Key,
    Outcome,
    Path,
    Put,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Transaction,
    Write,
)
from tests.backends.sqlite_tools import Clock, unused_long_values

TICK = 125
"""Milliseconds. In eighths of a second the floating-point clock of the model is exact."""

SEGMENTS = st.sampled_from(
    ["a", "ab", "a.b", "*", "%", "\x00", "\x01", "\x01\x02", "\xff", "\ud800", "\udc00", "\U00010000", "long" * 500]
)
PATHS: st.SearchStrategy[Path] = st.lists(SEGMENTS, min_size=1, max_size=3).map(tuple)
ANY_KEYS = st.builds(Key, st.sampled_from("vl"), st.lists(SEGMENTS, max_size=3).map(tuple))
KEYS = st.builds(Key, st.sampled_from("vl"), PATHS)
SCOPES = st.sampled_from(Scope)
BYTES = st.sampled_from(
    [b"", b"0", b"1", b"-5", b"01", b"mine", b"mine" * 300, b"mineral", b"\x00", b"9" * 1_001, b"9223372036854775807"]
)
TTLS = st.one_of(st.none(), st.integers(1, 8).map(lambda ticks: ticks * TICK))


@st.composite
def writes(draw: st.DrawFn) -> tuple[Write, ...]:
    """Draw writes that keep the spaces prefix-free, as every client must."""
    found: list[Write] = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from([Put, Put, Add, Delete, Expire]))
        if kind is Delete:
            found.append(Delete(draw(KEYS), draw(SCOPES)))
        elif kind is Expire:
            found.append(Expire(draw(ANY_KEYS), draw(SCOPES), draw(TTLS)))
        else:
            key = draw(KEYS)
            found += [Delete(Key(key.space, key.path[:depth]), Scope.NODE) for depth in range(1, len(key.path))]
            found.append(Delete(key, Scope.BELOW))
            if kind is Put:
                found.append(Put(key, draw(BYTES), draw(TTLS), draw(st.booleans())))
            else:
                found.append(Add(key, draw(st.sampled_from([0, 1, -3, 2**62]))))
    return tuple(found)


READS: st.SearchStrategy[AnyRead] = st.one_of(
    st.builds(Read, ANY_KEYS, SCOPES, st.none(), st.none(), st.booleans()),
    st.builds(ReadNames, ANY_KEYS, st.none(), st.none()),
)
CHECKS: st.SearchStrategy[Check] = st.one_of(
    st.builds(StartsWith, ANY_KEYS, SCOPES, BYTES),
    st.builds(Equals, ANY_KEYS, SCOPES, st.dictionaries(st.lists(SEGMENTS, max_size=2).map(tuple), BYTES, max_size=2)),
)
STEPS = st.tuples(
    st.lists(CHECKS, max_size=2),
    st.lists(st.tuples(ANY_KEYS, SCOPES), max_size=1),
    st.lists(READS, max_size=3),
    writes(),
    st.integers(0, 3),
    st.integers(1, 3),
)

databases = itertools.count()


@pytest.fixture(scope="module", params=["file", "memory"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name one file for all examples: each uses a database of its own."""
    return ":memory:" if request.param == "memory" else str(tmp_path_factory.mktemp("model") / "s.db")


@given(steps=st.lists(STEPS, min_size=1, max_size=12))
def test_it_answers_as_the_model(path: str, steps: list[Any]) -> None:
    """Status, answers, TTLs, counters and pages of any transactions equal those of the model."""
    clock = Clock(1_700_000_000_000)
    model = MemoryBackend(clock)
    store = SqliteBackend(path, next(databases), clock=clock)
    try:
        for checks, exact, reads, changes, ticks, limit in steps:
            # These checks hold; checks with random entries rarely do.
            holding = [Equals(key, scope, _entries(model, Read(key, scope)).values) for key, scope in exact]
            transaction = Transaction((*holding, *checks), tuple(reads), changes)
            assert _comparable(store.execute(transaction)) == _comparable(model.execute(transaction))
            for read in reads:
                assert list(_walk(store, read, limit)) == list(_walk(model, read, limit))
            if path != MEMORY:
                assert unused_long_values(path) == 0
            clock.milliseconds += ticks * TICK
    finally:
        store.close()


def _entries(backend: Backend, read: Read) -> Entries:
    (answer,) = backend.execute(Transaction(reads=(read,))).answers
    assert isinstance(answer, Entries)
    return answer


def _comparable(outcome: Outcome) -> Any:
    answers = [
        (dict(each.values), dict(each.ttls), each.cursor) if isinstance(each, Entries) else sorted(each.names)
        for each in outcome.answers
    ]
    return outcome.status, answers, outcome.counters, outcome.failed_index


def _walk(backend: Backend, read: AnyRead, limit: int) -> Iterator[Any]:
    """Yield the contents of all pages; both backends page in the same order."""
    cursor = None
    while True:
        (answer,) = backend.execute(Transaction(reads=(read._replace(limit=limit, cursor=cursor),))).answers
        found = list(answer.values.items()) if isinstance(answer, Entries) else list(answer.names)
        assert len(found) <= limit
        yield from found
        cursor = answer.cursor
        if cursor is None:
            return
