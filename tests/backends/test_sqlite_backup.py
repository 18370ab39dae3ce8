"""Backups of a live store: consistent, complete or absent, never in place of another file, and stores themselves."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from redicts import Pool, root, section
from redicts.backends.sqlite import SqliteBackend, backup
from redicts.core.minitransaction import Add, Put
from redicts.errors import CorruptData, RedictsError, StoreFull, Unreachable
from tests.backends.sqlite_tools import (
    TIMEOUT,
    Child,
    count,
    is_sound,
    key,
    rows,
    run,
    tree,
    value,
    wait_for_kill,
    write_pairs_endlessly,
)
from tests.support.waiting import eventually


def test_a_backup_holds_all_databases(file: Path, tmp_path: Path) -> None:
    """The copy is one file, a store with every database of the file, and the original stays in use."""
    store, other = SqliteBackend(str(file)), SqliteBackend(str(file), 3)
    run(store, Put(key("a"), b"1"), Put(key("b"), b"2", 60_000))
    run(other, Put(key("a"), b"3"))
    store.backup(tmp_path / "copy.db")
    run(store, Put(key("a"), b"later"))
    assert sorted(each.name for each in tmp_path.iterdir() if "copy" in each.name) == ["copy.db"]
    copy, third = SqliteBackend(str(tmp_path / "copy.db")), SqliteBackend(str(tmp_path / "copy.db"), 3)
    assert tree(copy) == {("a",): b"1", ("b",): b"2"}
    assert tree(third) == {("a",): b"3"}
    run(copy, Put(key("a"), b"own"))
    assert value(store, "a") == b"later"
    for each in (store, other, copy, third):
        each.close()


def test_a_backup_is_atomic_while_others_write(file: Path, tmp_path: Path) -> None:
    """Copies made while another process writes twenty leaves in each transaction contain twenty equal ones."""
    store = SqliteBackend(str(file), busy_timeout_secs=60)
    run(store, *[Put(key("fill", str(each)), b"x" * 500) for each in range(2_000)])
    writer = Child(lambda: write_pairs_endlessly(str(file)))
    counts = []
    for number in range(8):
        before = count(store, "count")
        eventually(lambda before=before: count(store, "count") > before + 3, "the writer writes", every=0.001)  # type: ignore[misc]
        store.backup(tmp_path / f"{number}.db")
        copy = SqliteBackend(str(tmp_path / f"{number}.db"))
        pairs = tree(copy, "pair")
        assert len(pairs) == 20
        assert len(set(pairs.values())) == 1
        assert set(pairs.values()) == {b"%d" % count(copy, "count")}
        counts.append(count(copy, "count"))
        copy.close()
        assert is_sound(tmp_path / f"{number}.db")
    os.kill(writer.pid, 9)
    wait_for_kill(writer)
    assert counts == sorted(set(counts))
    store.close()


def test_a_backup_replaces_nothing(file: Path, tmp_path: Path) -> None:
    """A file, a directory or a dangling link that exists at the path is left as it is."""
    store = SqliteBackend(str(file))
    run(store, Put(key("a"), b"1"))
    (tmp_path / "text").write_text("mine")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("text", "directory", "link", "s.db"):
        with pytest.raises(FileExistsError, match="name another file"):
            store.backup(tmp_path / name)
    assert (tmp_path / "text").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    assert not [each for each in tmp_path.iterdir() if "partial" in each.name]
    store.close()


def test_a_file_created_meanwhile_stays(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another process creates during the backup is not replaced, and nothing is left of the copy."""
    store = SqliteBackend(str(file))
    run(store, Put(key("a"), b"1"))
    link = os.link

    def slow_link(source: str, target: str) -> None:
        Path(target).write_text("theirs")
        link(source, target)

    monkeypatch.setattr("os.link", slow_link)
    with pytest.raises(FileExistsError):
        store.backup(tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "theirs"
    assert not [each for each in tmp_path.iterdir() if "partial" in each.name]
    store.close()


def test_without_hard_links_it_is_renamed(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without hard links the copy is renamed."""

    def no_link(source: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    store = SqliteBackend(str(file))
    run(store, Put(key("a"), b"1"))
    monkeypatch.setattr("os.link", no_link)
    store.backup(tmp_path / "copy.db")
    with pytest.raises(FileExistsError):
        store.backup(tmp_path / "copy.db")
    copy = SqliteBackend(str(tmp_path / "copy.db"))
    assert value(copy, "a") == b"1"
    copy.close()
    store.close()


def test_a_backup_that_fails_leaves_nothing(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the directory is missing or the copy fails halfway, the error names the copy, and nothing is left behind."""
    store = SqliteBackend(str(file))
    run(store, *[Put(key(str(each)), b"x" * 1_000) for each in range(500)])
    with pytest.raises(Unreachable, match="nowhere"):
        store.backup(tmp_path / "nowhere" / "copy.db")

    def small(path: str, **given: object) -> sqlite3.Connection:
        connection = connect(path, **given)  # type: ignore[call-overload]
        connection.execute("PRAGMA max_page_count = 5")
        assert isinstance(connection, sqlite3.Connection)
        return connection

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(StoreFull, match=r"copy\.db"):
        store.backup(tmp_path / "copy.db")
    monkeypatch.undo()
    assert [each.name for each in tmp_path.iterdir() if "copy" in each.name] == []
    assert value(store, "7") == b"x" * 1_000
    store.close()


def test_a_killed_backup_leaves_the_store_alone(file: Path, tmp_path: Path) -> None:
    """A process killed during a backup leaves no incomplete copy under the name, and the store unchanged."""
    store = SqliteBackend(str(file))
    run(store, *[Put(key(str(each)), b"x" * 2_000) for each in range(3_000)])
    for _ in range(5):
        child = Child(lambda: SqliteBackend(str(file)).backup(tmp_path / "copy.db"))
        eventually(lambda: [each for each in tmp_path.iterdir() if "partial" in each.name], "it copies", every=0.0005)
        os.kill(child.pid, 9)
        with pytest.raises(AssertionError):
            child.result()
        if (tmp_path / "copy.db").exists():
            assert is_sound(tmp_path / "copy.db")
            (tmp_path / "copy.db").unlink()
        for each in tmp_path.iterdir():
            if "partial" in each.name:
                each.unlink()
    assert len(tree(store)) == 3_000
    store.close()


def test_a_store_in_memory_can_be_saved(tmp_path: Path) -> None:
    """The backup of a store in memory is a store in a file."""
    store = SqliteBackend(":memory:")
    run(store, Put(key("a"), b"1"))
    store.backup(str(tmp_path / "copy.db"))
    copy = SqliteBackend(str(tmp_path / "copy.db"))
    run(copy, Add(key("a"), 1))
    assert (value(store, "a"), value(copy, "a")) == (b"1", b"2")
    copy.close()
    store.close()


def test_a_file_is_backed_up_by_its_path(tmp_path: Path) -> None:
    """``backup`` copies a store that is in use; a path without a store is refused and not created."""
    Pool().reload(cfg={"backend": "sqlite", "path": tmp_path / "s.db"})
    section("a").set("b", {"c": 1})
    backup(tmp_path / "s.db", tmp_path / "copy.db")
    section("a").set("b", 2)
    Pool().reload(cfg={"backend": "sqlite", "path": tmp_path / "copy.db"})
    assert root().val() == {"a": {"b": {"c": 1}}}
    Pool().reload(cfg={"backend": "memory"})
    with pytest.raises(FileNotFoundError):
        backup(tmp_path / "typo.db", tmp_path / "other.db")
    assert not (tmp_path / "typo.db").exists()
    (tmp_path / "text").write_text("no database at all, and long enough to see that" * 100)
    with pytest.raises(CorruptData):
        backup(tmp_path / "text", tmp_path / "other.db")
    assert not (tmp_path / "other.db").exists()


def test_threads_write_while_a_backup_is_made(file: Path, tmp_path: Path) -> None:
    """Threads of the same process write during a backup, and no write is lost or refused."""
    store = SqliteBackend(str(file), busy_timeout_secs=TIMEOUT)
    run(store, *[Put(key("fill", str(each)), b"x" * 2_000) for each in range(5_000)])
    over = threading.Event()
    failed: list[RedictsError] = []
    done = [0]

    def write() -> None:
        while not over.is_set():
            try:
                run(store, Add(key("n"), 1))
                done[0] += 1
            except RedictsError as error:
                failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    for number in range(3):
        store.backup(tmp_path / f"{number}.db")
    over.set()
    thread.join(TIMEOUT)
    assert failed == []
    assert count(store, "n") == done[0]
    assert rows(tmp_path / "0.db") >= 5_000
    store.close()
