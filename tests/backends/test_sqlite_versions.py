"""Versions of the layout: an older file is migrated in one transaction, whatever happens meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from redicts.backends.sqlite.backend import SqliteBackend
from redicts.core.minitransaction import Delete, Put, PutDocument, Read, Scope
from redicts.errors import CorruptData, ReadOnly, StoreBusy
from tests.backends.sqlite_tools import (
    Child,
    Clock,
    as_ordinary_user,
    create_at_once,
    entries,
    error_of,
    is_sound,
    key,
    plain,
    run,
    sql,
    tree,
    unused_long_values,
    value,
    wait_for_kill,
)

FIRST_VERSION = (
    "PRAGMA journal_mode = WAL",
    "CREATE TABLE entries (key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL, deadline INTEGER) WITHOUT ROWID",
    "CREATE INDEX entries_by_deadline ON entries (deadline) WHERE deadline IS NOT NULL",
    "PRAGMA application_id = 1919181684",
    "PRAGMA user_version = 1",
    "INSERT INTO entries VALUES (x'3000760061006200', x'31', NULL)",
    "INSERT INTO entries VALUES (x'3000760061006300', x'32', 4102444800000)",
    "INSERT INTO entries VALUES (x'3000760061006400', x'33', 1000)",
)
"""A file of the first version: three leaves below ``a``, of which ``d`` has expired and ``c`` expires in 2100."""

SECOND_VERSION = (
    "PRAGMA page_size = 8192",
    "PRAGMA auto_vacuum = INCREMENTAL",
    *FIRST_VERSION[:3],
    (
        "CREATE TABLE clock (id INTEGER PRIMARY KEY CHECK (id = 1), start TEXT NOT NULL, "
        "ahead INTEGER NOT NULL, latest INTEGER NOT NULL)"
    ),
    "PRAGMA application_id = 1919181684",
    "PRAGMA user_version = 2",
    *FIRST_VERSION[5:],
)
"""The same leaves in a file of the second version, which had no documents."""

LONG = "1122" * 50_000
THIRD_VERSION = (
    *SECOND_VERSION[:6],
    ("CREATE TABLE documents (key BLOB NOT NULL PRIMARY KEY, document BLOB NOT NULL, deadline INTEGER) WITHOUT ROWID"),
    "CREATE INDEX documents_by_deadline ON documents (deadline) WHERE deadline IS NOT NULL",
    "PRAGMA application_id = 1919181684",
    "PRAGMA user_version = 3",
    *FIRST_VERSION[5:],
    "INSERT INTO entries VALUES (x'77616b657300', x'310a30206e616d65', NULL)",
    f"INSERT INTO entries VALUES (x'3000760061006500', x'{LONG}', NULL)",
    f"INSERT INTO entries VALUES (x'3000760061006600', x'{LONG}', 4102444800000)",
    f'INSERT INTO documents VALUES (x\'300076006400\', CAST(\'{{"x":1,"y":"{LONG}"}}\' AS BLOB), NULL)',
    "INSERT INTO documents VALUES (x'300076006500', CAST('{\"x\":1}' AS BLOB), NULL)",
)
"""The same leaves in a file of the third version, which kept all values in its trees: two long leaves and a long
document besides, a short one, and the notification log among the entries."""

CURRENT = (4, {"entries", "clock", "documents", "long_values", "notification_log"})
"""The version of a migrated file, and its tables."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Create a file of the first version."""
    sql(tmp_path / "s.db", *FIRST_VERSION)
    return tmp_path / "s.db"


def version(file: Path) -> tuple[int, set[str]]:
    """Return the version of a file, and its tables."""
    connection = plain(file)
    try:
        (number,) = connection.execute("PRAGMA user_version").fetchone()
        return number, {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    finally:
        connection.close()


def test_an_older_file_is_migrated(old: Path) -> None:
    """A migrated file keeps its values and TTLs, and can shrink."""
    store = SqliteBackend(str(old), clock=Clock())
    assert tree(store) == {("a", "b"): b"1", ("a", "c"): b"2"}
    assert version(old) == CURRENT
    run(store, *[Put(key("big", str(each)), b"x" * 900) for each in range(1_000)])
    large = old.stat().st_size
    run(store, Delete(key("big"), Scope.SUBTREE))
    store.close()
    assert old.stat().st_size < large // 2 or old.stat().st_size < 400_000
    assert sql(old, "PRAGMA auto_vacuum") == (2,)
    assert is_sound(old)
    # The same by the clock of the machine.
    assert read(old) == {("a", "b"): b"1", ("a", "c"): b"2"}


@pytest.fixture
def third(file: Path) -> Path:
    """Create a file of the third version."""
    sql(file, *THIRD_VERSION)
    return file


def contents_of_third() -> dict[tuple[str, ...], bytes]:
    """Return what is in a file of the third version."""
    long = bytes.fromhex(LONG)
    return {
        ("a", "b"): b"1",
        ("a", "c"): b"2",
        ("a", "e"): long,
        ("a", "f"): long,
        ("d", "x"): b"1",
        ("d", "y"): b'"%s"' % LONG.encode(),
        ("e", "x"): b"1",
    }


def test_long_values_are_moved_out_of_the_trees(third: Path) -> None:
    """Migration keeps each value, document and TTL, and leaves no long row and no foreign key among the entries."""
    store = SqliteBackend(str(third), clock=Clock())
    assert tree(store) == contents_of_third()
    assert set(entries(store, Read(key("a"), Scope.SUBTREE, ttls=True)).ttls) == {("c",), ("f",)}
    assert store.fetch_document(key("d")) == b'{"x":1,"y":"%s"}' % LONG.encode()
    assert sql(third, "SELECT count(*), max(length(value)) FROM entries") == (5, 1)
    assert sql(third, "SELECT count(*), max(length(document)) FROM documents") == (2, 7)
    assert (unused_long_values(third), sql(third, "SELECT count(*) FROM long_values")) == (0, (3,))
    run(store, Put(key("a", "e"), b"short"), Delete(key("d"), Scope.SUBTREE))
    assert sql(third, "SELECT count(*) FROM long_values") == (1,)
    store.close()
    assert version(third) == CURRENT
    assert is_sound(third)


def test_concurrent_processes_move_long_values_once(third: Path) -> None:
    """Processes that open a file of the third version at the same time all use it, and nothing is lost or doubled."""
    barrier = multiprocessing.get_context("fork").Barrier(4)
    for child in [Child(lambda each=each: create_at_once(str(third), str(each), barrier)) for each in range(4)]:  # type: ignore[misc]
        child.result()
    expected = contents_of_third()
    expected.update({(str(each),): b"here" for each in range(4)})
    assert read(third) == expected
    assert (unused_long_values(third), sql(third, "SELECT count(*) FROM long_values")) == (0, (3,))


@pytest.mark.parametrize(
    "point",
    [
        "CREATE TABLE long_values",
        "DELETE FROM entries",
        "INSERT INTO long_values",
        "UPDATE entries",
        "UPDATE documents",
        "PRAGMA user_version = 4",
        "COMMIT",
    ],
)
def test_a_kill_while_values_are_moved_leaves_the_old_version(point: str, third: Path) -> None:
    """A process killed at any statement of the migration leaves the third version, and the next one migrates it."""
    wait_for_kill(Child(lambda: read_until(point, third)))
    assert version(third) == (3, {"entries", "clock", "documents"})
    assert read(third) == contents_of_third()
    assert (version(third), unused_long_values(third)) == (CURRENT, 0)
    assert is_sound(third)


def read_until(point: str, file: Path) -> None:
    """Read the file in a process that kills itself when it is about to execute a statement that begins like this."""

    class Killed(sqlite3.Connection):
        def execute(self, text: str, *given: Any) -> sqlite3.Cursor:
            if text.startswith(point):
                os.kill(os.getpid(), signal.SIGKILL)
            return super().execute(text, *given)

    connect = sqlite3.connect
    sqlite3.connect = lambda *given, **named: connect(*given, factory=Killed, **named)  # type: ignore[assignment]
    read(file)


def read(file: Path) -> dict[tuple[str, ...], bytes]:
    """Open the file, read everything, and close it."""
    store = SqliteBackend(str(file))
    try:
        return tree(store)
    finally:
        store.close()


def test_a_file_of_the_second_version_takes_documents(file: Path) -> None:
    """A migrated file of the second version keeps its leaves, and takes documents."""
    sql(file, *SECOND_VERSION)
    store = SqliteBackend(str(file), clock=Clock())
    run(store, PutDocument(key("a", "e"), b'{"x":1,"y":2}'))
    assert tree(store) == {("a", "b"): b"1", ("a", "c"): b"2", ("a", "e", "x"): b"1", ("a", "e", "y"): b"2"}
    assert store.fetch_document(key("a", "e")) == b'{"x":1,"y":2}'
    store.close()
    assert version(file) == CURRENT
    assert is_sound(file)


def test_concurrent_processes_migrate_a_file_once(old: Path) -> None:
    """Processes that open an older file at the same time all use it, and no write is lost."""
    barrier = multiprocessing.get_context("fork").Barrier(4)
    for child in [Child(lambda each=each: create_at_once(str(old), str(each), barrier)) for each in range(4)]:  # type: ignore[misc]
        child.result()
    assert len(read(old)) == 2 + 4
    assert version(old) == CURRENT


@pytest.mark.parametrize("point", ["VACUUM", "BEGIN IMMEDIATE", "CREATE TABLE clock", "PRAGMA user_version = 4"])
def test_a_kill_during_migration_leaves_the_old_version(point: str, old: Path) -> None:
    """A process killed at any statement of the migration leaves the old version, and the next one migrates the file."""
    wait_for_kill(Child(lambda: read_until(point, old)))
    assert version(old) == (1, {"entries"})
    assert len(read(old)) == 2
    assert version(old) == CURRENT


def test_a_file_in_use_is_migrated_later(old: Path) -> None:
    """While another program writes to an older file, opening it waits and raises ``StoreBusy``; nothing changes."""
    other = plain(old)
    other.execute("BEGIN IMMEDIATE")
    store = SqliteBackend(str(old), busy_timeout_secs=0.1)
    with pytest.raises(StoreBusy):
        value(store, "a", "b")
    other.execute("ROLLBACK")
    other.close()
    assert version(old) == (1, {"entries"})
    assert value(store, "a", "b") == b"1"
    store.close()


def test_an_older_file_that_cannot_be_rewritten_is_migrated(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there is no room to rewrite the file, it is migrated and works without shrinking."""

    class NoRoom(sqlite3.Connection):
        def execute(self, text: str, *given: Any) -> sqlite3.Cursor:
            return super().execute(text.replace("VACUUM", "VACUUM INTO '/nowhere/at/all'"), *given)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, factory=NoRoom, **named))
    assert len(read(old)) == 2
    assert version(old) == CURRENT


def test_a_read_only_older_file_is_refused(public: Path) -> None:
    """An older file that cannot be written is not migrated, and the error says what is missing."""
    old = public / "s.db"
    sql(old, *FIRST_VERSION)
    os.chmod(old, 0o444)
    name, text = as_ordinary_user(lambda: error_of(lambda: read(old)))
    assert (name, str(old) in text) == (ReadOnly.__name__, True)
    assert version(old) == (1, {"entries"})


def test_an_altered_older_file_is_refused(old: Path) -> None:
    """An older file whose tables were altered is left as it is."""
    sql(old, "DROP INDEX entries_by_deadline")
    before = old.read_bytes()
    with pytest.raises(CorruptData, match="altered"):
        read(old)
    assert old.read_bytes() == before
