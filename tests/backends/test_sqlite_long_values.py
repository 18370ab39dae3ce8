"""Long values: kept out of the trees that searches walk, so that no other access depends on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from redicts.backends.sqlite.backend import SqliteBackend
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Equals,
    Expire,
    Notify,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Write,
)
from tests.backends.sqlite_tools import (
    Clock,
    count,
    entries,
    is_sound,
    key,
    names,
    rows,
    run,
    sql,
    tree,
    unused_long_values,
    value,
)

FILLER = b"long"
LONG = FILLER * 5_000
TEXT = b'{"a":"%s","b":{"c":1}}' % LONG
TTL = 1_000

NEIGHBOURS: dict[str, tuple[Write, ...]] = {
    "one large leaf": (Put(key("m", "m"), FILLER * 1_250_000),),
    "many leaves": tuple([Put(key("m", f"{each:03}x"), LONG) for each in range(200)]),
    "leaves that expire": tuple([Put(key("m", f"{each:03}x"), LONG, 10**9) for each in range(200)]),
    "documents": tuple([PutDocument(key("m", f"{each:03}x"), TEXT) for each in range(200)]),
    "records of locks": tuple([Put(key("m", f"{each:03}x", space="h"), LONG) for each in range(200)]),
}


@pytest.fixture
def store(path: str, clock: Clock) -> Iterator[SqliteBackend]:
    """Open an empty store, in a file and in memory."""
    backend = SqliteBackend(path, clock=clock)
    yield backend
    backend.close()


def destroyed(file: Path) -> int:
    """Overwrite each page that contains nothing but the filler, and return how many there were."""
    content = file.read_bytes()
    pages = [content[start : start + 8192] for start in range(0, len(content), 8192)]
    long = [page.count(FILLER) > 2_044 for page in pages]
    file.write_bytes(b"".join([b"\xff" * 8192 if each else page for each, page in zip(long, pages)]))
    return sum(long)


@pytest.mark.parametrize("kind", NEIGHBOURS)
def test_no_search_reads_a_long_value(kind: str, file: Path) -> None:
    """Reads, writes and locks beside long values and documents touch none of their pages."""
    store = SqliteBackend(str(file))
    run(store, *NEIGHBOURS[kind])
    run(store, *[Put(key("m", f"{each:03}"), b"1") for each in range(200)], Put(key("a"), b"1"), Put(key("z"), b"1"))
    store.close()
    assert destroyed(file) > 0
    store = SqliteBackend(str(file))
    for name in ("a", "z"):
        assert (value(store, name), store.fetch(key(name))) == (b"1", b"1")
        assert store.overwrite(key(name), b"2")
    for each in range(0, 200, 20):
        at = key("m", f"{each:03}")
        assert store.fetch(at) == b"1"
        assert store.fetch(key("m", f"{each:03}w")) is None
        run(store, Put(at, b"2", 50), Put(key("m", f"{each:03}w"), b"3"), Put(key(f"{each:03}"), b"4"))
        run(store, Add(key("m", f"{each:03}w"), 1), Expire(at, Scope.NODE, None), Delete(at, Scope.NODE))
        holder = key("m", f"{each:03}", "!", "r", space="h")
        run(store, Put(holder, b"mine", 100), checks=(Equals(holder, Scope.NODE, NOTHING),))
        run(store, Delete(holder, Scope.SUBTREE), checks=(StartsWith(holder, Scope.SUBTREE, b"mine"),))
    assert len(names(store, ReadNames(key("m"))).names) > 100
    store.close()


def test_the_names_of_notified_listeners_are_apart(file: Path) -> None:
    """The row with the listeners of other processes that were notified last is not in the tree of keys."""
    store = SqliteBackend(str(file))
    run(store, *[Put(key("m", f"{each}", space="n"), FILLER * 24 + b"%d" % each) for each in range(40)])
    run(store, Notify(key("m", space="n"), Scope.SUBTREE))
    assert rows(file) == 0
    store.close()


def test_a_value_may_change_between_short_and_long(store: SqliteBackend, path: str) -> None:
    """Every way to write replaces a short value by a long one and a long one by a short one, and keeps or ends TTLs."""
    at = key("a")
    for first in (b"s", LONG, b"t"):
        for second in (b"u", LONG + b"2", LONG + b"3"):
            run(store, Put(at, first, TTL))
            run(store, Put(at, second, keep_ttl=True))
            assert entries(store, Read(at, ttls=True)).ttls == {(): TTL}
            run(store, Put(at, first), Put(at, second), Put(at, second + b"!"))
            assert store.fetch(at) == second + b"!"
            assert store.overwrite(at, second)
            store.overwrite(at, first)
            run(store, Put(at, first))
            assert value(store, "a") == first
            assert tree(store) == {("a",): first}
            run(store, Put(at, LONG, TTL), Expire(at, Scope.SUBTREE, None), Add(key("n"), 1))
            assert (store.fetch(at), store.overwrite(at, LONG + b"x")) == (LONG, True)
            run(store, Delete(key(), Scope.SUBTREE))
    check_nothing_is_left(store, path)


def check_nothing_is_left(store: SqliteBackend, path: str) -> None:
    """Insist that the store is empty, and that so is its file."""
    assert tree(store) == {}
    store.close()
    if path != ":memory:":
        assert sql(path, "SELECT count(*) FROM long_values") == (0,)
        assert is_sound(Path(path))


ENDS: tuple[Write, ...] = (
    Delete(key("a", "b"), Scope.NODE),
    Delete(key("a"), Scope.BELOW),
    Delete(key(), Scope.SUBTREE),
    PutDocument(key("a"), b'{"x":1}'),
    Notify(key("a"), Scope.SUBTREE),
    Put(key("a", "b"), b"short"),
)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_a_long_value_ends_in_its_own_transaction(end: Write, store: SqliteBackend, path: str) -> None:
    """Nothing is left of the first long value of a file if the same transaction deletes or replaces it."""
    run(store, Put(key("a", "b"), LONG), end)
    run(store, Delete(key(), Scope.SUBTREE))
    check_nothing_is_left(store, path)


def test_a_long_value_ends_with_its_key(store: SqliteBackend, path: str, clock: Clock) -> None:
    """Deletions, expiry, counters and documents that take the place of a long value leave nothing of it."""
    for end in ENDS:
        run(store, Put(key("a", "b"), LONG), Put(key("c"), b"1"))
        run(store, end)
        assert tree(store).get(("a", "b"), b"") in (b"", b"short")
        run(store, Delete(key("a"), Scope.SUBTREE), Delete(key(), Scope.SUBTREE))
    run(store, Put(key("a", "b"), LONG, TTL), PutDocument(key("d"), TEXT, TTL), Put(key("n"), LONG, TTL))
    clock.milliseconds += TTL
    assert count(store, "n") == 0
    run(store, Put(key("c"), b"1"))
    if path != ":memory:":
        assert rows(Path(path)) == 2
    run(store, Delete(key(), Scope.SUBTREE))
    check_nothing_is_left(store, path)


def test_a_long_document_is_one_until_it_is_split(store: SqliteBackend, path: str) -> None:
    """A long document is read, replaced and split into leaves, long and short ones, as a short one is."""
    leaves = {("d", "a"): b'"%s"' % LONG, ("d", "b", "c"): b"1"}
    run(store, PutDocument(key("d"), TEXT))
    assert store.fetch_document(key("d")) == TEXT
    assert store.fetch(key("d", "a")) == b'"%s"' % LONG
    assert tree(store) == leaves
    assert store.overwrite_document(key("d"), TEXT + b" ")
    assert store.overwrite_document(key("d"), TEXT)
    assert not store.overwrite_document(key("d"), b'{"x":1}')
    run(store, PutDocument(key("d"), b'{"x":1}'))
    assert not store.overwrite_document(key("d"), TEXT)
    run(store, PutDocument(key("d"), TEXT))
    run(store, Put(key("d", "b", "c"), b"2"))
    assert tree(store) == {**leaves, ("d", "b", "c"): b"2"}
    run(store, Delete(key("d"), Scope.SUBTREE))
    check_nothing_is_left(store, path)


def test_a_write_that_is_undone_leaves_no_long_value(store: SqliteBackend, path: str) -> None:
    """A transaction that fails at its last write has stored and freed no long value."""
    run(store, Put(key("a"), LONG))
    assert not run(store, Put(key("a"), LONG + b"!"), Put(key("b"), LONG), Add(key("a"), 1)).applied
    assert tree(store) == {("a",): LONG}
    if path != ":memory:":
        assert (unused_long_values(path), sql(path, "SELECT count(*) FROM long_values")) == (0, (1,))


def test_a_long_value_that_was_removed_reads_as_no_bytes(file: Path) -> None:
    """If another program removed a long value, its path has a value without bytes, which is damaged, and can be set."""
    store = SqliteBackend(str(file))
    run(store, Put(key("a"), LONG))
    sql(file, "DELETE FROM long_values")
    assert (store.fetch(key("a")), tree(store)) == (b"", {("a",): b""})
    run(store, Put(key("a"), b"1"))
    assert value(store, "a") == b"1"
    store.close()
