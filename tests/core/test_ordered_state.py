"""Minitransactions on an ordered engine have the outcomes of the reference, over hostile keys and in pages."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redicts.backends.memory import MemoryBackend
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    AnyRead,
    Check,
    Delete,
    Entries,
    Equals,
    Expire,
    Key,
    Names,
    Notify,
    Outcome,
    Path,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
    Transaction,
    Write,
)
from redicts.core.ordered_state import OrderedState
from redicts.errors import Unsupported

Rows = dict[bytes, tuple[bytes, "int | None"]]


class InADict(OrderedState):
    """The state of an engine that is a dict, and counts what is read."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.read = 0

    def between(self, lower: bytes, upper: bytes) -> Iterator[tuple[bytes, bytes, int | None]]:
        """Yield a range."""
        keys = sorted(self.rows)
        for key in keys[bisect_right(keys, lower) : bisect_left(keys, upper)]:
            self.read += 1
            yield (key, *self.rows[key])

    def put(self, key: bytes, value: bytes, end: int | None) -> None:
        """Store."""
        self.rows[key] = value, end

    def delete(self, key: bytes) -> None:
        """Delete, which fails without an entry."""
        del self.rows[key]

    def expired(self, now: int, most: int) -> list[bytes]:
        """Return the first ones."""
        ended = sorted((end, key) for key, (_, end) in self.rows.items() if end is not None and end <= now)
        return [key for _, key in ended[:most]]


class Clock:
    """A clock that both stores read, in milliseconds."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now / 1000


SEGMENTS = st.sampled_from(["a", "ab", "b", "\x00", "\x01", "\ud800", "a\x00b"])
# Of two segments: the contract keeps a space prefix-free.
LEAVES: st.SearchStrategy[Path] = st.tuples(SEGMENTS, SEGMENTS)
PATHS: st.SearchStrategy[Path] = st.lists(SEGMENTS, max_size=2).map(tuple)
LEAF_KEYS = st.builds(Key, st.sampled_from("vw"), LEAVES)
KEYS = st.builds(Key, st.sampled_from("vw"), PATHS)
SCOPES = st.sampled_from(Scope)
VALUES = st.sampled_from([b"", b"1", b"-9", b"mine: x", b"\xff"])
TTLS = st.none() | st.integers(1, 3)
CHECKS: st.SearchStrategy[Check] = st.builds(Equals, KEYS, SCOPES, st.just(NOTHING)) | st.builds(
    StartsWith, KEYS, SCOPES, st.sampled_from([b"", b"1", b"mine"])
)
WRITES: st.SearchStrategy[Write] = st.one_of(
    st.builds(Put, LEAF_KEYS, VALUES, ttl=TTLS, keep_ttl=st.just(False)),
    st.builds(Put, LEAF_KEYS, VALUES, ttl=st.none(), keep_ttl=st.just(True)),
    st.builds(Add, LEAF_KEYS, st.integers(-3, 3)),
    st.builds(Delete, KEYS, SCOPES),
    st.builds(Notify, KEYS, SCOPES),
    st.builds(Expire, KEYS, SCOPES, TTLS),
)
READS: st.SearchStrategy[AnyRead] = st.builds(
    Read, KEYS, SCOPES, ttls=st.booleans(), limit=st.none(), cursor=st.none()
) | st.builds(ReadNames, KEYS, limit=st.none(), cursor=st.none())
TRANSACTIONS = st.builds(
    Transaction,
    st.lists(CHECKS, max_size=1).map(tuple),
    st.lists(READS, max_size=2).map(tuple),
    st.lists(WRITES, max_size=3).map(tuple),
)


def execute(rows: Rows, transaction: Transaction, now: int) -> Outcome:
    """Execute as an engine does: on a copy, which replaces the rows if the outcome is applied."""
    state = InADict(dict(rows))
    outcome = state.execute(transaction, now)
    if outcome.applied:
        rows.clear()
        rows.update(state.rows)
    return outcome


@given(st.lists(st.tuples(TRANSACTIONS, st.integers(0, 2)), max_size=8))
def test_histories_have_the_outcomes_of_the_reference(history: list[tuple[Transaction, int]]) -> None:
    """Whatever is checked, read and written, and whenever TTLs end, the outcome is that of the store in memory."""
    clock, rows = Clock(), Rows()
    reference = MemoryBackend(clock)
    for transaction, passed in history:
        clock.now += passed
        expected, found = reference.execute(transaction), execute(rows, transaction, clock.now)
        assert found._replace(answers=()) == expected._replace(answers=())
        for answer, other in zip(found.answers, expected.answers):
            if isinstance(answer, Names):
                assert isinstance(other, Names)
                assert sorted(answer.names) == sorted(other.names)
            else:
                assert answer == other


@given(st.dictionaries(LEAVES, VALUES, max_size=8), KEYS, st.integers(1, 3), st.integers(0, 7))
def test_pages_are_the_whole(values: dict[Path, bytes], key: Key, limit: int, gone: int) -> None:
    """All pages together are the answer without a limit, though the entry goes at which a page has ended."""
    rows = Rows()
    puts = tuple([Put(Key("v", path), value) for path, value in values.items()])
    assert execute(rows, Transaction(writes=puts), 0).applied
    for read in (Read(key, Scope.SUBTREE), ReadNames(key)):
        (whole,) = execute(rows, Transaction(reads=(read,)), 0).answers
        left, found, at = dict(rows), [], 0
        while True:
            (page,) = execute(left, Transaction(reads=(read._replace(limit=limit),)), 0).answers
            found += list(page.values.items() if isinstance(page, Entries) else page.names)
            if page.cursor is None:
                break
            if at == gone and isinstance(page, Entries):
                last = Key(key.space, key.path + list(page.values)[-1])
                execute(left, Transaction(writes=(Delete(last, Scope.SUBTREE),)), 0)
            read, at = read._replace(cursor=page.cursor), at + 1  # noqa: PLW2901
        assert found == list(whole.values.items() if isinstance(whole, Entries) else whole.names)


def test_names_skip_what_is_below_them() -> None:
    """The cost of names is not in proportion to the leaves below each."""
    puts = tuple([Put(Key("v", (name, f"{number}")), b"") for name in "abc" for number in range(300)])
    rows = Rows()
    assert execute(rows, Transaction(writes=puts), 0).applied
    state = InADict(rows)
    (names,) = state.execute(Transaction(reads=(ReadNames(Key("v", ())),)), 0).answers
    assert isinstance(names, Names)
    assert names.names == ("a", "b", "c")
    assert state.read < 40


def test_streams_of_short_ttls_are_freed() -> None:
    """A transaction frees more than it adds, a large one too, so the store stays bounded."""
    rows = Rows()
    for now in range(0, 40, 2):
        puts = tuple([Put(Key("v", (f"{now}", f"{number}")), b"", ttl=1) for number in range(500)])
        assert execute(rows, Transaction(writes=puts), now).applied
    assert len(rows) <= 1_000
    for now in range(50, 80):
        assert execute(rows, Transaction(writes=(Put(Key("v", ("one",)), b""),)), now).applied
    assert len(rows) == 1


def test_a_page_reads_no_more_than_it_needs() -> None:
    """An engine with many entries reads one more than the page has."""
    rows = Rows()
    puts = tuple([Put(Key("v", ("a", f"{number}")), b"") for number in range(100)])
    assert execute(rows, Transaction(writes=puts), 0).applied
    state = InADict(rows)
    state.execute(Transaction(reads=(Read(Key("v", ()), Scope.SUBTREE, limit=10),)), 0)
    assert state.read == 11


def test_a_document_is_refused() -> None:
    """A state that does not keep documents refuses them."""
    with pytest.raises(Unsupported):
        InADict({}).execute(Transaction(writes=(PutDocument(Key("v", ("a",)), b"{}"),)), 0)


def test_a_counter_that_is_none_is_told_by_its_index() -> None:
    """An Add that meets no counter fails with its index among the writes; the caller rolls back."""
    key = Key("v", ("a",))
    outcome = execute(Rows(), Transaction(writes=(Put(key, b"text"), Add(key, 1))), 0)
    assert (outcome.status, outcome.failed_index) == (Status.NOT_A_COUNTER, 1)
