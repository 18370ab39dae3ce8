"""Versions of the layout: an older file is brought up to date in one transaction, whatever happens meanwhile."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from redicts.backends.sqlite import files
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.core.minitransaction import Delete, Put, PutDocument, Scope
from redicts.errors import CorruptData, ReadOnly, StoreBusy
from tests.backends.sqlite_tools import (
    Child,
    Clock,
    as_ordinary_user,
    create_at_once,
    error_of,
    key,
    plain,
    run,
    tree,
    value,
)
from tests.backends.test_sqlite_files import read_and_close
from tests.backends.test_sqlite_processes import is_sound

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
"""What the first version wrote: three leaves below ``a``, of which ``d`` has expired and ``c`` lives until 2100."""


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


def made(file: Path, statements: tuple[str, ...]) -> Path:
    """Make a file by these statements."""
    connection = plain(file)
    for statement in statements:
        connection.execute(statement)
    connection.close()
    return file


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Make a file of the first version."""
    return made(tmp_path / "s.db", FIRST_VERSION)


def version(file: Path) -> tuple[int, set[str]]:
    """Return the version of a file, and its tables."""
    connection = plain(file)
    try:
        (number,) = connection.execute("PRAGMA user_version").fetchone()
        return number, {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    finally:
        connection.close()


def test_an_older_file_is_brought_up_to_date(old: Path) -> None:
    """What was stored is there, TTLs end when they did, and the file can shrink from now on."""
    store = SqliteBackend(str(old), clock=Clock())
    assert tree(store) == {("a", "b"): b"1", ("a", "c"): b"2"}
    assert version(old) == (3, {"entries", "clock", "documents"})
    run(store, *[Put(key("big", str(each)), b"x" * 900) for each in range(1_000)])
    large = old.stat().st_size
    run(store, Delete(key("big"), Scope.SUBTREE))
    store.close()
    assert old.stat().st_size < large // 2 or old.stat().st_size < 400_000
    connection = plain(old)
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    connection.close()
    assert is_sound(old)
    # By the clock of the machine, too.
    assert read(old) == {("a", "b"): b"1", ("a", "c"): b"2"}


def test_a_file_of_the_second_version_takes_documents(tmp_path: Path) -> None:
    """A file that was made before there were documents keeps its leaves, and puts a dict as one from now on."""
    file = made(tmp_path / "s.db", SECOND_VERSION)
    store = SqliteBackend(str(file), clock=Clock())
    run(store, PutDocument(key("a", "e"), b'{"x":1,"y":2}'))
    assert tree(store) == {("a", "b"): b"1", ("a", "c"): b"2", ("a", "e", "x"): b"1", ("a", "e", "y"): b"2"}
    assert store.fetch_document(key("a", "e")) == b'{"x":1,"y":2}'
    store.close()
    assert version(file) == (3, {"entries", "clock", "documents"})
    assert is_sound(file)


def read(file: Path) -> dict[tuple[str, ...], bytes]:
    """Open the file, read all, and close it."""
    store = SqliteBackend(str(file))
    try:
        return tree(store)
    finally:
        store.close()


def test_many_who_open_it_at_once_find_one_store(old: Path) -> None:
    """Processes that open an older file at the same moment all go on with it, and no write is lost."""
    import multiprocessing

    barrier = multiprocessing.get_context("fork").Barrier(4)
    for child in [Child(lambda each=each: create_at_once(str(old), str(each), barrier)) for each in range(4)]:  # type: ignore[misc]
        child.result()
    assert len(read(old)) == 2 + 4
    assert version(old) == (3, {"entries", "clock", "documents"})


@pytest.mark.parametrize("point", ["_make_shrinkable", "_bring_up_to_date", "within"])
def test_a_death_meanwhile_leaves_a_version(point: str, old: Path) -> None:
    """Who is killed while the file is brought up to date leaves the old version, and the next one does it."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        if point == "within":
            files.statements.LAYOUTS = (*files.statements.LAYOUTS[:2], _Deadly())  # type: ignore[attr-defined]
        else:
            setattr(files, point, die)
        read(old)

    with pytest.raises(AssertionError, match="without an answer"):
        Child(work).result()
    assert version(old) == (1, {"entries"})
    assert len(read(old)) == 2
    assert version(old) == (3, {"entries", "clock", "documents"})


class _Deadly(dict[str, str]):
    """Objects of a layout of which the first is made, and then the process is killed."""

    def values(self):  # type: ignore[no-untyped-def]
        yield "CREATE TABLE documents (key BLOB PRIMARY KEY)"
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_file_in_use_is_brought_up_to_date_later(old: Path) -> None:
    """While another program writes to an older file, opening it waits and then is busy; the file stays as it was."""
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


def test_an_older_file_that_cannot_be_made_anew_is_used(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there is no room to rewrite the file, it is migrated all the same, and works without shrinking."""
    monkeypatch.setattr(files, "_VACUUM", "VACUUM INTO '/nowhere/at/all'")
    assert len(read(old)) == 2
    assert version(old) == (3, {"entries", "clock", "documents"})


def test_an_older_file_that_may_only_be_read_is_refused(old: Path) -> None:
    """Without the right to write, an older file cannot be brought up to date, and the error says what is missing."""
    os.chmod(old, 0o444)
    for parent in list(old.parents)[:3]:
        os.chmod(parent, 0o777)
    name, text = as_ordinary_user(lambda: error_of(lambda: read_and_close(old)))
    assert (name, str(old) in text) == (ReadOnly.__name__, True)
    assert version(old) == (1, {"entries"})


def test_an_altered_older_file_is_refused(old: Path) -> None:
    """An older file whose tables were altered is left as it is."""
    connection = plain(old)
    connection.execute("DROP INDEX entries_by_deadline")
    connection.close()
    before = old.read_bytes()
    with pytest.raises(CorruptData, match="altered"):
        read(old)
    assert old.read_bytes() == before
