"""The file: how it is created and found, which ones are refused unchanged, and what each error says."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from redicts.backends.sqlite import plugin
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.errors import is_busy, translated
from redicts.backends.sqlite.settings import SqliteSettings
from redicts.core.minitransaction import Add, Put
from redicts.errors import (
    AccessDenied,
    CorruptData,
    InternalError,
    ReadOnly,
    RedictsError,
    StoreBusy,
    StoreError,
    StoreFull,
    Unreachable,
    Unsupported,
)
from tests.backends.sqlite_tools import as_ordinary_user, error_of, key, plain, run, sql, tree, value


def filled(path: Path) -> SqliteBackend:
    """Open a store with one value in it."""
    store = SqliteBackend(str(path), busy_timeout_secs=0.05)
    run(store, Put(key("a"), b"1"))
    return store


def read_and_close(path: Path) -> bytes | None:
    """Read the value that ``filled`` wrote."""
    store = SqliteBackend(str(path))
    try:
        return value(store, "a")
    finally:
        store.close()


def write_and_close(path: Path) -> None:
    """Write over the value that ``filled`` wrote."""
    store = SqliteBackend(str(path))
    try:
        run(store, Put(key("a"), b"2"))
    finally:
        store.close()


# How it is opened


def test_opening_touches_nothing(tmp_path: Path) -> None:
    """Opening does no I/O: an impossible path is only reported by the first transaction."""
    backend = plugin.open(SqliteSettings(path=str(tmp_path / "not there" / "s.db")), 0)
    with pytest.raises(Unreachable):
        run(backend, Put(key("a"), b"1"))
    plugin.open(SqliteSettings(path=str(tmp_path / "s.db")), 0).close()
    assert list(tmp_path.iterdir()) == []


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path refers to the directory in which the store was opened, even if the process changes it later."""
    monkeypatch.chdir(tmp_path)
    backend = plugin.open(SqliteSettings(path="s.db"), 0)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run(backend, Put(key("a"), b"1"))
    backend.close()
    assert (tmp_path / "s.db").exists()


def test_the_plugin_opens_the_requested_database(file: Path) -> None:
    """The plugin passes on the file, the number of the database and the timeout."""
    assert plugin.name == "sqlite"
    first = plugin.open(SqliteSettings(path=str(file)), 0)
    second = plugin.open(SqliteSettings.model_validate({"path": file, "busy_timeout_secs": 0.01}), 1)
    run(first, Put(key("a"), b"1"))
    assert tree(second) == {}
    other = plain(file)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy):
        run(second, Put(key("a"), b"2"))
    other.close()
    first.close()
    second.close()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"path": ""},
        {"path": "a\x00b"},
        {"path": 5},
        {"path": "s.db", "busy_timeout_secs": 0},
        {"path": "s.db", "busy_timeout_secs": -1},
        {"path": "s.db", "busy_timeout_secs": float("inf")},
        {"path": "s.db", "timeout": 5},
    ],
)
def test_wrong_settings_are_refused(fields: dict[str, object]) -> None:
    """An impossible path, an impossible timeout and an unknown field are refused."""
    with pytest.raises(ValidationError):
        SqliteSettings.model_validate(fields)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///state.db", "state.db"),
        ("sqlite:////var/lib/state.db", "/var/lib/state.db"),
        ("sqlite:///:memory:", ":memory:"),
        ("sqlite:///a%20b%3F%23.db", "a b?#.db"),
    ],
)
def test_a_url_gives_the_path(url: str, path: str) -> None:
    """Three slashes come before a relative path, four before an absolute one; parameters are fields."""
    assert SqliteSettings.model_validate(SqliteSettings.fields_of_url(url)) == SqliteSettings(path=path)
    with_parameter = SqliteSettings.model_validate(SqliteSettings.fields_of_url(url + "?busy_timeout_secs=2.5"))
    assert with_parameter == SqliteSettings(path=path, busy_timeout_secs=2.5)


@pytest.mark.parametrize("url", ["sqlite://state.db", "sqlite:", "sqlite://", "sqlite:///", "sqlite:///s.db?size=3"])
def test_other_urls_are_refused(url: str) -> None:
    """A URL with a host, without a path or with an unknown parameter is refused."""
    with pytest.raises(ValueError, match=r"slashes|path|size"):
        SqliteSettings.model_validate(SqliteSettings.fields_of_url(url))


@pytest.mark.parametrize("name", ["a b.db", "ü?#%41.db", "file:s.db", "s'\".db", "\udcff.db"])
def test_a_file_may_have_any_name(name: str, tmp_path: Path) -> None:
    """No character of the file's name has a meaning to SQLite, with or without a write-ahead log."""
    file = tmp_path / name
    first = filled(file)
    assert (tmp_path / (name + "-wal")).stat().st_size > 0
    assert read_and_close(file) == b"1"
    first.close()
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert read_and_close(file) == b"1"


@pytest.mark.parametrize("exists", [False, True], ids=["missing", "empty"])
def test_a_new_file_becomes_a_store(exists: bool, file: Path) -> None:
    """A missing or an empty file becomes a store with our application id, the version of the layout, and a log."""
    if exists:
        file.touch()
    store = filled(file)
    assert sql(file, "PRAGMA application_id") == (int.from_bytes(b"rdct", "big"),)
    assert sql(file, "PRAGMA user_version") == (4,)
    assert sql(file, "PRAGMA journal_mode") == ("wal",)
    store.close()
    assert read_and_close(file) == b"1"


def test_a_store_that_another_created_meanwhile_is_used(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another process creates the store between our look at the file and our write lock, that store is used."""

    class Slow(sqlite3.Connection):
        def execute(self, text: str, *given: Any) -> sqlite3.Cursor:
            if text == "BEGIN IMMEDIATE":
                monkeypatch.undo()
                if not meanwhile:
                    meanwhile.append(filled(file))
            return super().execute(text, *given)

    meanwhile: list[SqliteBackend] = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, factory=Slow, **named))
    assert read_and_close(file) == b"1"
    meanwhile[0].close()


def test_closing_leaves_one_file(file: Path) -> None:
    """After the last client has closed it, the store is one file, which can be copied."""
    filled(file).close()
    assert list(file.parent.iterdir()) == [file]


def test_a_link_leads_to_the_file(file: Path) -> None:
    """A symbolic link leads to the same store, with the same log."""
    link = file.with_name("link.db")
    link.symlink_to(file)
    store = filled(link)
    assert read_and_close(file) == b"1"
    store.close()
    assert sorted(each.name for each in file.parent.iterdir()) == ["link.db", "s.db"]


def test_a_copy_without_a_log_gets_one(file: Path, tmp_path: Path) -> None:
    """A copy by ``VACUUM INTO`` or a backup is a store, and uses a log again."""
    filled(file).close()
    sql(file, f"VACUUM INTO '{tmp_path}/copy.db'")
    sql(tmp_path / "copy.db", "PRAGMA journal_mode = DELETE")
    write_and_close(tmp_path / "copy.db")
    assert sql(tmp_path / "copy.db", "PRAGMA journal_mode") == ("wal",)


# Files that are refused

LOGGED = ("PRAGMA journal_mode = WAL", "CREATE TABLE t (a)", "INSERT INTO t VALUES (1)")


def text(path: Path, lines: int) -> None:
    """Create a text file."""
    path.write_bytes(b"some text\n" * lines)


def altered(path: Path, statement: str) -> None:
    """Create a store, and alter it by another program."""
    filled(path).close()
    sql(path, statement)


def database_left_by_a_crash(path: Path) -> None:
    """Leave a log with contents, as a killed program does."""
    original = path.with_name("original.db")
    connection = plain(original)
    for statement in LOGGED:
        connection.execute(statement)
    path.write_bytes(original.read_bytes())
    path.with_name(path.name + "-wal").write_bytes(Path(f"{original}-wal").read_bytes())
    connection.close()
    original.unlink()


@pytest.mark.parametrize(
    "make",
    {
        "a single byte": lambda path: path.write_bytes(b"1"),  # SQLite takes it for an empty file
        "short text": lambda path: text(path, 1),
        "long text": lambda path: text(path, 2_000),
        "a database": lambda path: sql(path, *LOGGED[1:]),
        "a table of our name": lambda path: sql(path, "CREATE TABLE entries (key BLOB, value BLOB, deadline INTEGER)"),
        "another application id": lambda path: sql(path, "PRAGMA application_id = 7", "CREATE TABLE t (a)"),
        "only a version": lambda path: sql(path, "PRAGMA user_version = 1"),
        "a database with a log": lambda path: sql(path, *LOGGED),
        "left by a crash": database_left_by_a_crash,
        "a store without its index": lambda path: altered(path, "DROP INDEX entries_by_deadline"),
        "a store without version": lambda path: altered(path, "PRAGMA user_version = 0"),
    }.items(),
    ids=lambda each: each[0],
)
def test_a_foreign_file_is_left_as_it_is(make: tuple[str, Callable[[Path], None]], file: Path) -> None:
    """A file that is not a store is refused by reads and writes, and no byte of it or its log changes."""
    make[1](file)
    before = {each.name: each.read_bytes() for each in file.parent.iterdir()}
    modified = file.stat().st_mtime_ns
    for use in (read_and_close, write_and_close):
        with pytest.raises(CorruptData) as caught:
            use(file)
        assert str(file) in str(caught.value)
        assert "choose another" in str(caught.value)
    after = {each.name: each.read_bytes() for each in file.parent.iterdir() if not each.name.endswith("-shm")}
    assert after == before
    assert file.stat().st_mtime_ns == modified


def test_a_foreign_log_is_found_through_a_link(file: Path) -> None:
    """The log of another program's database is found through a symbolic link."""
    database_left_by_a_crash(file)
    before = file.read_bytes()
    link = file.with_name("link.db")
    link.symlink_to(file)
    with pytest.raises(CorruptData):
        read_and_close(link)
    assert file.read_bytes() == before


def test_a_newer_layout_is_refused(file: Path) -> None:
    """A file of a newer redicts is left as it is, and the error says to upgrade."""
    altered(file, "PRAGMA user_version = 5")
    before = file.read_bytes()
    with pytest.raises(CorruptData, match=r"newer redicts .*upgrade"):
        write_and_close(file)
    assert file.read_bytes() == before


def test_locks_of_a_foreign_connection_survive_the_examination(file: Path) -> None:
    """Examining a file does not drop the locks that another connection of this process holds on it."""
    sql(file, *LOGGED)
    connection = plain(file)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t VALUES (2)")
    with pytest.raises(CorruptData):
        read_and_close(file)
    script = f"import sqlite3; sqlite3.connect({str(file)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "database is locked" in ended.stderr
    connection.execute("COMMIT")
    connection.close()


@pytest.mark.parametrize("damage", [b"\x00" * 4096, b"\xff" * 4096], ids=["zeros", "ones"])
def test_a_damaged_file_is_reported(damage: bytes, file: Path) -> None:
    """The error about damaged contents names the file and says what to do."""
    store = filled(file)
    run(store, *[Put(key(str(each)), b"x" * 100) for each in range(1_000)])
    store.close()
    content = bytearray(file.read_bytes())
    for page in range(4096, len(content) - 4096, 4096):
        content[page : page + 4096] = damage
    file.write_bytes(content)
    store = SqliteBackend(str(file))
    with pytest.raises(CorruptData, match="restore it") as caught:
        tree(store)
    assert str(file) in str(caught.value)
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
    store.close()


def test_removed_tables_are_reported(file: Path) -> None:
    """If another program removes our tables while the store is open, the next call says so."""
    store = filled(file)
    sql(file, "DROP TABLE entries")
    with pytest.raises(CorruptData, match="tables"):
        value(store, "a")
    with pytest.raises(CorruptData):
        run(store, Put(key("a"), b"1"))
    store.close()


# Obstacles


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    """The error about a directory, a device or a pipe says that it is not a file."""
    for path in (tmp_path, Path(os.devnull)):
        with pytest.raises(Unreachable, match="not a file"):
            read_and_close(path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(Unreachable, match="not a file"):
        read_and_close(pipe)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """If the directory is missing or not a directory, the error names it and says what to do."""
    with pytest.raises(Unreachable, match=r"'.*nowhere' does not exist; create it"):
        read_and_close(tmp_path / "nowhere" / "s.db")
    (tmp_path / "text").write_text("")
    with pytest.raises(Unreachable, match="correct the path"):
        read_and_close(tmp_path / "text" / "s.db")
    with pytest.raises(Unreachable, match="correct the path"):
        read_and_close(tmp_path / ("x" * 300) / "s.db")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(Unreachable):
        read_and_close(tmp_path / "loop" / "s.db")


def test_a_working_directory_that_was_deleted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path in a working directory that does not exist any more is refused with a remedy."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(Unreachable, match=r"working directory .* give an absolute path"):
        SqliteBackend("s.db")


def test_too_many_open_files_are_named(file: Path) -> None:
    """If the process may not open another file, the error says so, and calls succeed when it may."""
    filled(file).close()
    store, idle = SqliteBackend(str(file)), filled(file)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(Unreachable, match="too many files are open"):
            value(store, "a")
        # A connection that is open needs none.
        run(idle, Put(key("b"), b"1"))
    finally:
        for each in opened:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert value(store, "b") == b"1"
    store.close()
    idle.close()


def test_a_locked_file_is_busy_after_the_timeout(file: Path) -> None:
    """A write waits for the lock of another program up to the timeout, changes nothing, and succeeds later."""
    store = filled(file)
    other = plain(file)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy, match="busy_timeout_secs") as caught:
        run(store, Put(key("a"), b"2"))
    assert str(file) in str(caught.value)
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert not caught.value.maybe_applied
    other.execute("ROLLBACK")
    other.close()
    run(store, Add(key("a"), 1))
    assert value(store, "a") == b"2"
    store.close()


def test_a_full_disk_changes_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there is no room left, nothing of the transaction is written, and smaller ones and reads succeed."""
    store = filled(file)
    store.close()
    connect = sqlite3.connect

    def small(*given: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*given, **named)
        connection.execute("PRAGMA max_page_count = 40")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(StoreFull, match="free some space") as caught:
        run(store, Put(key("b"), b"1"), Put(key("c"), b"x" * 1_000_000))
    assert str(file) in str(caught.value)
    assert not caught.value.maybe_applied
    assert tree(store) == {("a",): b"1"}
    run(store, Put(key("b"), b"2"))
    assert value(store, "b") == b"2"
    store.close()


def test_a_failing_commit_may_have_happened(public: Path) -> None:
    """If the operating system fails during a commit, the error says that the writes may have happened."""
    file = public / "s.db"
    filled(file).close()
    os.chmod(file, 0o666)

    def write_beyond_the_limit() -> tuple[str, bool, bytes | None]:
        store = SqliteBackend(str(file))
        run(store, Put(key("b"), b"1"))
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
        try:
            run(store, *[Put(key("big", str(each)), b"x" * 1_000) for each in range(200)])
        except StoreError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            run(store, Put(key("b"), b"2"))
            found = type(error).__name__, error.maybe_applied, value(store, "b")
            assert tree(store, "big") == {}
            store.close()
            return found
        raise AssertionError("nothing was raised")

    assert as_ordinary_user(write_beyond_the_limit) == ("Unreachable", True, b"2")


def test_an_exception_inside_a_transaction_leaves_no_lock(file: Path) -> None:
    """A transaction that raises is undone at once, even while the exception is kept."""
    store = filled(file)
    other = filled(file)
    kept = []
    wrong: Any = object()
    for writes in ((Put(key("z"), wrong),), (Put(key("z"), b"1"), Put(key("z"), wrong)), (Put(key(wrong), b""),)):
        with pytest.raises(Exception) as caught:  # noqa: PT011  (core never sends such values)
            run(store, Put(key("a"), b"2"), Add(key("n"), 1), *writes)
        kept.append(caught.value)
        run(other, Put(key("b"), b"1"))
        assert value(store, "a") == b"1"
    store.close()
    other.close()


# Permissions. They do not stop root, so these tests run as another user if they are started by root.


def test_a_read_only_file_can_be_read(public: Path) -> None:
    """A read-only file answers reads, and a write raises ``ReadOnly``."""
    file = public / "s.db"
    filled(file).close()
    os.chmod(file, 0o444)
    assert as_ordinary_user(lambda: read_and_close(file)) == b"1"
    name, text = as_ordinary_user(lambda: error_of(lambda: write_and_close(file)))
    assert name == ReadOnly.__name__
    assert str(file) in text
    assert "writable" in text
    os.chmod(file, 0o666)
    assert as_ordinary_user(lambda: read_and_close(file)) == b"1"


def test_an_error_of_opening_is_raised_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that cannot open the file, which nobody has locked or replaced, says why and does not wait."""
    store = SqliteBackend(str(file), busy_timeout_secs=0.1)

    def fail(_: str) -> sqlite3.Connection:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(store._pool, "_connect", fail)
    assert error_of(lambda: value(store, "a"))[0] == Unreachable.__name__


def test_a_file_that_becomes_writable_is_written(public: Path) -> None:
    """A client can write as soon as the permission is given, without reopening."""

    def try_twice() -> tuple[str, bytes | None]:
        own = public / "own.db"
        filled(own).close()
        os.chmod(own, 0o444)
        store = SqliteBackend(str(own))
        name, _ = error_of(lambda: run(store, Put(key("a"), b"2")))
        for each in public.iterdir():
            os.chmod(each, 0o644)
        run(store, Put(key("a"), b"3"))
        found = value(store, "a")
        store.close()
        return name, found

    assert as_ordinary_user(try_twice) == (ReadOnly.__name__, b"3")


def test_a_read_only_copy_without_a_log_can_be_read(public: Path) -> None:
    """A read-only copy without a log in a read-only directory answers reads."""
    file = public / "s.db"
    filled(file).close()
    sql(file, "PRAGMA journal_mode = DELETE")
    os.chmod(file, 0o444)
    os.chmod(public, 0o555)
    assert as_ordinary_user(lambda: read_and_close(file)) == b"1"
    name, _ = as_ordinary_user(lambda: error_of(lambda: write_and_close(file)))
    assert name == ReadOnly.__name__


def test_missing_permissions_are_named(public: Path) -> None:
    """The error says which permission is missing on which path."""
    file = public / "s.db"
    filled(file).close()

    def refusal(path: Path = file) -> tuple[str, str]:
        found: tuple[str, str] = as_ordinary_user(lambda: error_of(lambda: read_and_close(path)))
        return found

    os.chmod(file, 0o000)
    name, text = refusal()
    assert (name, str(file) in text, "may not read it" in text) == (AccessDenied.__name__, True, True)
    os.chmod(file, 0o444)
    os.chmod(public, 0o555)
    name, text = refusal()
    assert (name, str(file) in text, "the directory" in text) == (ReadOnly.__name__, True, True)
    name, text = refusal(public / "new.db")
    assert (name, "may not create files" in text) == (AccessDenied.__name__, True)
    (public / "inner").mkdir()
    os.chmod(public, 0o000)
    name, text = refusal(public / "inner" / "s.db")
    assert (name, "may not look into" in text) == (AccessDenied.__name__, True)
    os.chmod(public, 0o777)


# Error mapping


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no such table: entries", CorruptData),
        ("access permission denied", AccessDenied),
        ("database is locked", StoreBusy),
        ("database table is locked: entries", StoreBusy),
        ("attempt to write a readonly database", ReadOnly),
        ("disk I/O error", Unreachable),
        ("database disk image is malformed", CorruptData),
        ("database or disk is full", StoreFull),
        ("unable to open database file", Unreachable),
        ("locking protocol", StoreBusy),
        ("string or blob too big", Unsupported),
        ("file is not a database", CorruptData),
        ("something else", Unreachable),
    ],
)
def test_errors_are_recognised_by_their_text(text: str, expected: type[RedictsError], file: Path) -> None:
    """Python 3.10 hides SQLite's code of an error, so its text is enough, and the message keeps it."""
    error = sqlite3.OperationalError(text)
    found = translated(error, str(file))
    assert type(found) is expected
    assert str(file) in str(found)
    assert text in str(found)
    assert is_busy(error) == (expected is StoreBusy)


def test_misuse_of_sqlite_is_an_internal_error(file: Path) -> None:
    """A value of a type that SQLite cannot hold, which core never sends, is not a failure of the store."""
    store = filled(file)
    wrong: Any = []
    with pytest.raises(InternalError, match="report"):
        run(store, Put(key("b"), wrong))
    store.close()


def test_a_value_too_large_for_sqlite_is_unsupported(file: Path) -> None:
    """A value beyond SQLite's limit is refused as such, and nothing is written."""

    def too_large() -> float:
        # What Python raises for a value of more than 2 gigabytes, inside a transaction.
        raise OverflowError("BLOB longer than INT_MAX bytes")

    filled(file).close()
    store = SqliteBackend(str(file), clock=too_large)
    with pytest.raises(Unsupported, match="larger than SQLite can hold"):
        run(store, Put(key("b"), b"1"))
    store.close()
    store = SqliteBackend(str(file))
    assert tree(store) == {("a",): b"1"}
    store.close()
