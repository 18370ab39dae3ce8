"""Vacuum: the file shrinks after values were deleted or expired, a few pages with each later write."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from redicts.backends.sqlite import vacuum
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.core.minitransaction import Delete, Put, Scope
from tests.backends.sqlite_tools import Clock, Meter, is_sound, key, plain, rows, run, sql, tree, value

MANY = 4_000
LARGE = b"x" * 900


def fill(store: SqliteBackend, ttl: int | None = None) -> None:
    """Write some four megabytes."""
    for part in range(0, MANY, 500):
        run(store, *[Put(key("big", str(part + each)), LARGE, ttl) for each in range(500)])


def size(file: Path) -> int:
    """Return the bytes of the store's file, including what is in the log."""
    found: int = sql(file, "PRAGMA page_count")[0] * 8192
    return found


def on_disk(file: Path) -> int:
    """Return the bytes that the file and its log occupy on the disk."""
    return sum(os.path.getsize(each) for each in file.parent.iterdir() if not each.name.endswith("-shm"))


@pytest.mark.parametrize("scope", ["one by one", "at once"])
def test_the_file_shrinks_when_values_are_deleted(scope: str, file: Path) -> None:
    """After most values were deleted the open file is small without any read, and contains the rest."""
    store = SqliteBackend(str(file))
    run(store, Put(key("a"), b"1"))
    fill(store)
    assert size(file) > 3_500_000
    if scope == "at once":
        run(store, Delete(key("big"), Scope.SUBTREE))
    else:
        for each in range(MANY):
            run(store, Delete(key("big", str(each)), Scope.NODE))
    assert size(file) < 400_000
    assert os.path.getsize(file) < 400_000
    # The log has its usual size.
    assert on_disk(file) < 400_000 + 4 * 2**20 + 100_000
    assert tree(store) == {("a",): b"1"}
    store.close()
    assert on_disk(file) < 400_000
    assert is_sound(file)


def test_the_file_shrinks_when_values_expire(file: Path) -> None:
    """Later writes remove expired values and return their room, without any read."""
    clock = Clock()
    store = SqliteBackend(str(file), clock=clock)
    run(store, Put(key("a"), b"1"))
    fill(store, 10)
    clock.milliseconds += 10
    for _ in range(300):
        run(store, Put(key("a"), b"2"))
    assert rows(file) == 1
    assert size(file) < 400_000
    assert os.path.getsize(file) < 400_000
    assert value(store, "a") == b"2"
    store.close()
    assert is_sound(file)


def test_a_write_moves_few_pages(file: Path) -> None:
    """A small write after a large deletion returns a few pages only."""
    store = SqliteBackend(str(file))
    fill(store)
    store.close()
    # Another program deletes, and returns nothing.
    sql(file, "DELETE FROM entries WHERE length(value) = 900")
    store = SqliteBackend(str(file))
    steps = []
    before = size(file)
    for number in range(400):
        run(store, Put(key("a"), b"%d" % number), Put(key("b"), b"1"))
        now = size(file)
        steps.append(before - now)
        before = now
    assert 0 < max(steps) <= 35 * 8192
    assert before < 400_000
    store.close()


def test_some_free_pages_stay(file: Path) -> None:
    """A store that is filled and emptied in turn by a little keeps room for it, instead of moving pages."""
    store = SqliteBackend(str(file))
    fill(store)
    full = size(file)
    for _ in range(20):
        run(store, *[Delete(key("big", str(each)), Scope.NODE) for each in range(150)])
        run(store, *[Put(key("big", str(each)), LARGE) for each in range(150)])
    assert abs(size(file) - full) < 300_000
    assert sql(file, "PRAGMA auto_vacuum") == (2,)
    store.close()


def test_a_copy_that_cannot_shrink_works(file: Path, meter: Meter) -> None:
    """A file that another program rewrote so that it cannot shrink works, and no write keeps trying to shrink it."""
    store = SqliteBackend(str(file))
    fill(store)
    store.close()
    sql(file, "PRAGMA journal_mode = DELETE", "PRAGMA auto_vacuum = NONE", "VACUUM")
    assert sql(file, "PRAGMA auto_vacuum") == (0,)
    # Another program deletes more than one write would return.
    sql(file, "DELETE FROM entries WHERE length(value) = 900")
    store = SqliteBackend(str(file))
    run(store, *[Put(key("few", str(each)), b"1") for each in range(100)])
    assert [text for text in meter.statements if "vacuum" in text]
    run(store, Delete(key("few"), Scope.SUBTREE))
    meter.statements.clear()
    run(store, Put(key("a"), b"1"), Put(key("b"), b"1"))
    assert not [text for text in meter.statements if "vacuum" in text]
    assert len(tree(store)) == 2
    store.close()


def test_what_disturbs_the_vacuum_is_no_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another program writes when free pages are to be returned, the transaction before is applied, and says so."""
    store = SqliteBackend(str(file))
    fill(store)
    holder, number = plain(file), vacuum._number

    def disturbed(cursor: sqlite3.Cursor, name: str) -> int:
        if not holder.in_transaction:
            holder.execute("BEGIN IMMEDIATE")
        return number(cursor, name)

    with monkeypatch.context() as patch:
        patch.setattr(vacuum, "_number", disturbed)
        assert run(store, Delete(key("big"), Scope.SUBTREE)).applied
    assert holder.in_transaction
    holder.close()
    assert tree(store) == {}
    store.close()
