"""Rules of transactions that need care on SQLite: names, types, TTLs, snapshots, pages, reclaiming."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path as FilePath

import pytest

from redicts.backends.sqlite.backend import SqliteBackend
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Entries,
    Equals,
    Expire,
    Put,
    Read,
    ReadNames,
    Scope,
    StartsWith,
)
from tests.backends.sqlite_tools import (
    TIMEOUT,
    Clock,
    entries,
    key,
    names,
    plain,
    rows,
    run,
    sql,
    tree,
    value,
)

HOSTILE = (
    "a", "ab", "a.b", ".", "*", "?", "%", "_", "'", '"', " ", "\x00", "\x00\x00", "\x01", "\x02", "\x01\x02",
    "\x01\x03", "a\x00", "a\x01", "\xff", "\ud800", "\udfff", "\ud83d\ude00", "\U0001f600", "\U0010ffff", "\uffff",
    "0", "00", "x" * 20_000,
)  # fmt: skip


@pytest.fixture
def store(path: str, clock: Clock) -> Iterator[SqliteBackend]:
    """Open an empty store, in a file and in memory."""
    backend = SqliteBackend(path, clock=clock)
    yield backend
    backend.close()


def test_hostile_segments_are_data(store: SqliteBackend) -> None:
    """Any text can be a segment: it is returned unchanged as a leaf, a dict and a name, and affects no other."""
    for first in HOSTILE:
        run(
            store,
            *[Put(key(first, second), f"{first}/{second}".encode("utf-8", "surrogatepass")) for second in HOSTILE],
        )
    assert len(tree(store)) == len(HOSTILE) ** 2
    assert sorted(names(store, ReadNames(key())).names) == sorted(HOSTILE)
    for first in HOSTILE:
        found = {(second,): f"{first}/{second}".encode("utf-8", "surrogatepass") for second in HOSTILE}
        assert tree(store, first) == found
        assert sorted(names(store, ReadNames(key(first))).names) == sorted(HOSTILE)
    for first in HOSTILE:
        run(store, Delete(key(first), Scope.SUBTREE))
        assert tree(store, first) == {}
    assert tree(store) == {}


def test_databases_and_spaces_share_nothing(file: FilePath) -> None:
    """One file contains several databases; the same key in two of them, or in two spaces, names two values."""
    stores = [SqliteBackend(str(file), database) for database in (0, 1, 10, 11)]
    for number, store in enumerate(stores):
        run(store, Put(key("a"), b"%d" % number), Put(key("a", space="vx"), b"x%d" % number))
    run(stores[1], Delete(key(), Scope.SUBTREE))
    assert [value(store, "a") for store in stores] == [b"0", None, b"2", b"3"]
    assert [entries(store, Read(key("a", space="vx"))).values.get(()) for store in stores] == [
        b"x0",
        b"x1",
        b"x2",
        b"x3",
    ]
    for store in stores:
        store.close()


@pytest.mark.parametrize("stored", [b"", b"\x00", b"m", b"mine", b"mineral", b"\xff\xfe"])
@pytest.mark.parametrize("prefix", [b"", b"\x00", b"m", b"mine", b"\xff"])
def test_prefixes_are_compared_as_bytes(stored: bytes, prefix: bytes, store: SqliteBackend) -> None:
    """``StartsWith`` compares bytes as Python does, whether or not they are empty or valid text."""
    run(store, Put(key("a", "b"), stored))
    for at in (key("a", "b"), key("a"), key()):
        assert run(store, checks=(StartsWith(at, Scope.SUBTREE, prefix),)).applied == stored.startswith(prefix)


def test_writes_apply_in_order(store: SqliteBackend) -> None:
    """Each write sees those before it, even where several puts are passed to SQLite together."""
    run(
        store,
        Put(key("a"), b"1"),
        Put(key("a"), b"2", 50),
        Put(key("a"), b"3", keep_ttl=True),
        Put(key("b"), b"1", 70),
        Put(key("b"), b"2"),
        Put(key("c", "d"), b"1"),
        Delete(key("c"), Scope.SUBTREE),
        Put(key("c"), b"7"),
        Add(key("c"), 1),
        Put(key("e"), b"1"),
        Expire(key("e"), Scope.NODE, 90),
    )
    found = entries(store, Read(key(), Scope.SUBTREE, ttls=True))
    assert found.values == {("a",): b"3", ("b",): b"2", ("c",): b"8", ("e",): b"1"}
    assert found.ttls == {("a",): 50, ("e",): 90}


def test_a_ttl_ends_at_its_millisecond(store: SqliteBackend, clock: Clock) -> None:
    """A value exists until its TTL has passed by the store's clock, and is gone from that millisecond on."""
    run(store, Put(key("a"), b"1", 100), Put(key("n"), b"1", 100), Put(key("kept"), b"1", 100))
    clock.milliseconds += 99
    assert entries(store, Read(key("a"), ttls=True)) == Entries({(): b"1"}, {(): 1})
    clock.milliseconds += 1
    assert value(store, "a") is None
    # A counter begins at 0 again, and there is no TTL left to keep.
    assert run(store, Add(key("n"), 5), Put(key("kept"), b"2", keep_ttl=True)).counters == (5,)
    assert entries(store, Read(key(), Scope.SUBTREE, ttls=True)) == Entries({("n",): b"5", ("kept",): b"2"})


def test_a_ttl_beyond_the_largest_integer_is_long(store: SqliteBackend) -> None:
    """A TTL may be any number, even one that SQLite cannot add."""
    run(store, Put(key("a"), b"1", 10**30), Put(key("b"), b"1"), Expire(key("b"), Scope.NODE, 2**63 - 1))
    ttls = entries(store, Read(key(), Scope.SUBTREE, ttls=True)).ttls
    assert set(ttls) == {("a",), ("b",)}
    assert min(ttls.values()) > 10**18


def test_a_waiting_write_uses_the_time_at_which_it_gets_the_lock(file: FilePath, clock: Clock) -> None:
    """A value that expires while a write waits for the file's lock is gone for that write."""
    store = SqliteBackend(str(file), busy_timeout_secs=TIMEOUT, clock=clock)
    run(store, Put(key("a"), b"old", 50))
    other = plain(file)
    other.execute("BEGIN IMMEDIATE")
    outcomes: list[bool] = []
    thread = threading.Thread(
        target=lambda: outcomes.append(
            run(store, Put(key("a"), b"new"), checks=(Equals(key("a"), Scope.NODE, NOTHING),)).applied
        )
    )
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    clock.milliseconds += 50
    other.execute("ROLLBACK")
    other.close()
    thread.join(TIMEOUT)
    assert outcomes == [True]
    store.close()


@pytest.mark.parametrize(("scope", "first_after"), [(Scope.NODE, 1), (Scope.SUBTREE, 2)])
def test_a_read_sees_a_snapshot_of_one_time(scope: Scope, first_after: int, file: FilePath) -> None:
    """A value renewed in time does not look expired to a reader that is slow between the file and the clock."""
    clock = Clock()
    renewing = SqliteBackend(str(file), clock=clock)
    run(renewing, Put(key("a"), b"1", 100))
    clock.milliseconds += 99
    looks = 0

    def slow_clock() -> float:
        nonlocal looks
        looks += 1
        if looks == first_after:  # the first look after the snapshot was taken, or after the one value was read
            run(renewing, Expire(key("a"), Scope.NODE, 1_000))
            clock.milliseconds += 2
        return clock()

    reading = SqliteBackend(str(file), clock=slow_clock)
    assert entries(reading, Read(key("a"), scope)).values == {(): b"1"}
    assert looks >= first_after + 2
    reading.close()
    renewing.close()


def test_a_read_of_several_sees_one_state(file: FilePath) -> None:
    """What others write after the time of a read was determined appears in none of its answers."""
    clock = Clock()
    writing = SqliteBackend(str(file), clock=clock)
    run(writing, Put(key("a"), b"old", 100))
    looks = 0

    def clock_next_to_a_writer() -> float:
        nonlocal looks
        looks += 1
        now = clock()
        if looks == 2:
            clock.milliseconds += 100
            assert run(writing, Put(key("b"), b"new"), checks=(Equals(key(), Scope.SUBTREE, NOTHING),)).applied
        return now

    reading = SqliteBackend(str(file), clock=clock_next_to_a_writer)
    first, second = run(reading, reads=(Read(key("a")), Read(key("b")))).answers
    assert (first, second) == (Entries({(): b"old"}), Entries({}))
    assert looks == 2
    reading.close()
    writing.close()


@pytest.mark.parametrize("scope", [Scope.NODE, Scope.SUBTREE])
def test_a_read_succeeds_while_the_clock_runs(scope: Scope, file: FilePath) -> None:
    """A read is answered even if each look at the file takes longer than a millisecond."""
    clock = Clock()
    writing = SqliteBackend(str(file), clock=clock)
    run(writing, Put(key("a"), b"1", 10_000))

    def running_clock() -> float:
        clock.milliseconds += 1
        return clock()

    reading = SqliteBackend(str(file), clock=running_clock)
    assert entries(reading, Read(key("a"), scope)).values == {(): b"1"}
    reading.close()
    writing.close()


def test_a_page_that_ends_the_scope_has_no_cursor(store: SqliteBackend) -> None:
    """A cursor says that more may follow; the last page has none, even if it is full."""
    run(store, *[Put(key("a", str(each)), b"") for each in range(4)])
    assert entries(store, Read(key("a"), Scope.BELOW, 4)).cursor is None
    assert entries(store, Read(key("a"), Scope.BELOW, 3)).cursor is not None
    assert names(store, ReadNames(key("a"), 4)).cursor is None
    assert entries(store, Read(key("a", "1"), Scope.SUBTREE, 1)) == Entries({(): b""})


def test_short_lived_values_keep_the_file_bounded(file: FilePath, clock: Clock) -> None:
    """A stream of short-lived values that nobody reads takes a bounded amount of room."""
    store = SqliteBackend(str(file), clock=clock)
    sizes = []
    for part in range(4):
        for each in range(100):
            run(store, *[Put(key("s", f"{part}", f"{each}", f"{leaf}"), b"x" * 100, 20) for leaf in range(100)])
            clock.milliseconds += 10
        assert rows(file) <= 500
        sizes.append(sql(file, "PRAGMA page_count"))
    assert sizes[-1] == sizes[0]
    store.close()


def test_a_backlog_of_expired_values_is_reclaimed(file: FilePath, clock: Clock) -> None:
    """Later writes to any database reclaim many values that expired at once, a few at a time."""
    store, other = SqliteBackend(str(file), clock=clock), SqliteBackend(str(file), 7, clock=clock)
    run(store, *[Put(key("s", str(each)), b"x", 10) for each in range(2_000)], Put(key("a"), b"1", 100))
    clock.milliseconds += 10
    before = rows(file)
    assert value(other, "a") is None
    assert rows(file) == before
    run(other, Put(key("a"), b"1"))
    assert before - 200 < rows(file) < before
    for _ in range(50):
        run(other, Put(key("a"), b"1"))
    assert rows(file) == 2
    assert value(store, "a") == b"1"
    store.close()
    other.close()


def test_readers_do_not_wait_for_a_writer(file: FilePath) -> None:
    """While another program writes, reads are answered at once from the state before the write."""
    store = SqliteBackend(str(file), busy_timeout_secs=TIMEOUT)
    run(store, Put(key("a"), b"1"))
    other = plain(file)
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM entries")
    assert value(store, "a") == b"1"
    assert tree(store) == {("a",): b"1"}
    other.execute("COMMIT")
    other.close()
    assert value(store, "a") is None
    store.close()
