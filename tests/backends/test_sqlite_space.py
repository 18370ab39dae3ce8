"""Space: the file shrinks when values are deleted or expire, whoever writes next, and no write does it all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from redicts.backends.sqlite.backend import SqliteBackend
from redicts.core.minitransaction import Delete, Put, Scope
from tests.backends.sqlite_tools import Clock, key, plain, rows, run, tree, value
from tests.backends.test_sqlite_processes import is_sound

MANY = 4_000
LARGE = b"x" * 900


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Name a file that is not there yet."""
    return tmp_path / "s.db"


def fill(store: SqliteBackend, ttl: int | None = None) -> None:
    """Write some four megabytes."""
    for part in range(0, MANY, 500):
        run(store, *[Put(key("big", str(part + each)), LARGE, ttl) for each in range(500)])


def size(file: Path) -> int:
    """Return the bytes of the store's file, with all that is in the log."""
    connection = plain(file)
    try:
        found: int = connection.execute("PRAGMA page_count").fetchone()[0] * 8192
    finally:
        connection.close()
    return found


def on_disk(file: Path) -> int:
    """Return the bytes that the file and its log take on the disk now."""
    return sum(os.path.getsize(each) for each in file.parent.iterdir() if not each.name.endswith("-shm"))


@pytest.mark.parametrize("scope", ["one by one", "at once"])
def test_the_file_shrinks_when_values_are_deleted(scope: str, file: Path) -> None:
    """After most values are deleted the file is small, while it is open and nobody reads, and all else is there."""
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
    # The log is as long as it usually gets, and no longer.
    assert on_disk(file) < 400_000 + 4 * 2**20 + 100_000
    assert tree(store) == {("a",): b"1"}
    store.close()
    assert on_disk(file) < 400_000
    assert is_sound(file)


def test_the_file_shrinks_when_values_expire(file: Path) -> None:
    """What expires is removed and its room given back by the writes of others that follow; nobody reads for it."""
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
    """A small write after a large deletion gives back no more pages than it should: it does not pay for all."""
    store = SqliteBackend(str(file))
    fill(store)
    store.close()
    # Deleted by somebody who gives nothing back.
    stranger = plain(file)
    stranger.execute("DELETE FROM entries WHERE length(value) = 900")
    stranger.close()
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


def test_some_room_stays_for_what_comes(file: Path) -> None:
    """A store that is filled and emptied in turn a little keeps the room for it, instead of moving pages for ever."""
    store = SqliteBackend(str(file))
    fill(store)
    full = size(file)
    for _ in range(20):
        run(store, *[Delete(key("big", str(each)), Scope.NODE) for each in range(150)])
        run(store, *[Put(key("big", str(each)), LARGE) for each in range(150)])
    assert abs(size(file) - full) < 300_000
    connection = plain(file)
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    connection.close()
    store.close()


def test_a_copy_that_cannot_shrink_works(file: Path) -> None:
    """A file that another program has made again without the ability to shrink is used as it is, and no slower."""
    store = SqliteBackend(str(file))
    fill(store)
    store.close()
    stranger = plain(file)
    for statement in ("PRAGMA journal_mode = DELETE", "PRAGMA auto_vacuum = NONE", "VACUUM"):
        stranger.execute(statement)
    assert stranger.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    stranger.close()
    store = SqliteBackend(str(file))
    run(store, Delete(key("big"), Scope.SUBTREE))
    run(store, Put(key("a"), b"1"), Put(key("b"), b"1"))
    assert not store._space._more
    assert len(tree(store)) == 2
    store.close()
