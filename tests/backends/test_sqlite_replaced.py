"""A file that others delete, replace, move or empty while it is open: noticed, and never written on in silence."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redicts import LockLost, Pool, Proxy, root
from redicts.backends.sqlite import backup
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.connections import LOOK_SECS
from redicts.core.minitransaction import Add, Put, PutDocument
from redicts.errors import CorruptData, RedictsError, Unreachable
from tests.backends.sqlite_tools import Child, Opened, error_of, is_sound, key, run, sql, tree, value
from tests.support.waiting import eventually


@pytest.fixture
def store(file: Path) -> Iterator[SqliteBackend]:
    """Open a store with a leaf, that has been read and overwritten on the fast paths."""
    backend = SqliteBackend(str(file))
    run(backend, Put(key("a"), b"old"))
    assert backend.overwrite(key("a"), b"old")
    assert backend.fetch(key("a")) == b"old"
    yield backend
    backend.close()


def delete(file: Path) -> None:
    """Delete the file, and leave what is next to it."""
    file.unlink()


def delete_all(file: Path) -> None:
    """Delete the file, its log and the index of that."""
    for each in file.parent.iterdir():
        each.unlink()


def replace(file: Path) -> None:
    """Move another store to the path."""
    create(file.with_name("new.db"))
    os.replace(file.with_name("new.db"), file)


def recreate(file: Path) -> None:
    """Delete the file, and let another process create a store at its path."""
    delete_all(file)
    Child(lambda: create(file)).result()


def create(file: Path) -> None:
    """Create a store with another value."""
    other = SqliteBackend(str(file))
    run(other, Put(key("a"), b"new"))
    other.close()


def from_another_process(file: Path) -> dict[tuple[str, ...], bytes]:
    """Return what a process finds that opens the file now."""
    found: dict[tuple[str, ...], bytes] = Child(lambda: tree(SqliteBackend(str(file)))).result()
    return found


EVENTS: dict[str, tuple[Callable[[Path], None], bytes | None]] = {
    "deleted": (delete, None),
    "deleted with its log": (delete_all, None),
    "replaced": (replace, b"new"),
    "deleted and created again": (recreate, b"new"),
}
WRITES: dict[str, Callable[[SqliteBackend], object]] = {
    "a transaction": lambda store: run(store, Put(key("b"), b"1")),
    "an overwrite": lambda store: store.overwrite(key("a"), b"1") or run(store, Put(key("b"), b"1")),
    "a counter": lambda store: run(store, Add(key("n"), 1)),
    "a document": lambda store: run(store, PutDocument(key("d"), b'{"x":1}')),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("event", EVENTS)
def test_a_write_goes_to_the_file_at_the_path(event: str, write: str, store: SqliteBackend, file: Path) -> None:
    """A write after the file was deleted or replaced is in the file that others find at the path."""
    happen, there = EVENTS[event]
    happen(file)
    WRITES[write](store)
    assert tree(store) == from_another_process(file)
    assert len(tree(store)) == (1 if there is None else 2) or write == "an overwrite"
    assert b"old" not in tree(store).values()
    store.close()
    assert is_sound(file)
    assert [each.name for each in file.parent.iterdir()] == ["s.db"]


READS: dict[str, Callable[[SqliteBackend], bytes | None]] = {
    "a fetch": lambda store: store.fetch(key("a")),
    "a fetch of a document": lambda store: store.fetch_document(key("a")),
    "a value": lambda store: value(store, "a"),
    "a dict": lambda store: tree(store).get(("a",)),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("event", EVENTS)
def test_a_read_is_answered_from_the_file_at_the_path(event: str, read: str, store: SqliteBackend, file: Path) -> None:
    """Each kind of read sees the other file, at the latest when the last look is a fraction of a millisecond ago."""
    happen, there = EVENTS[event]
    happen(file)
    time.sleep(2 * LOOK_SECS)
    assert READS[read](store) == there
    assert tree(store) == ({} if there is None else {("a",): there})


def test_the_log_tells_that_the_file_was_replaced(
    store: SqliteBackend, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning names the file and says whether it was deleted or replaced."""
    with caplog.at_level(logging.WARNING, "redicts.sqlite"):
        replace(file)
        run(store, Put(key("b"), b"1"))
        delete_all(file)
        run(store, Put(key("b"), b"1"))
    assert [str(file) in each.getMessage() for each in caplog.records] == [True, True]
    assert ["replaced" in caplog.messages[0], "deleted" in caplog.messages[1]] == [True, True]


@pytest.mark.parametrize("event", EVENTS)
def test_a_write_under_a_lock_of_the_former_file_is_refused(event: str, file: Path) -> None:
    """A write guarded by a lock that was in the deleted or replaced file raises ``LockLost`` and writes nothing."""
    Pool().reload(cfg={"backend": "sqlite", "path": str(file)})
    try:
        with Proxy("jobs"):
            root().set("jobs.state", 1)
            EVENTS[event][0](file)
            with pytest.raises(LockLost):
                root().set("jobs.state", 2)
        assert root().get("jobs.state").val(None) is None
    finally:
        Pool().reload(cfg={"backend": "memory"})


def test_a_lock_can_be_acquired_in_the_new_file(file: Path) -> None:
    """A thread that waits for a lock of the former file gets it in the new one, where nobody holds it."""
    Pool().reload(cfg={"backend": "sqlite", "path": str(file)})
    held, waited = threading.Event(), threading.Event()

    def wait() -> None:
        held.wait()
        Proxy("jobs").acquire()
        waited.set()
        Proxy("jobs").release()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        Proxy("jobs").acquire()
        held.set()
        eventually(lambda: sql(file, "SELECT count(*) FROM entries")[0] > 2, "the thread waits")
        delete_all(file)
        thread.join(20)
        assert waited.is_set()
        Proxy("jobs").release()
    finally:
        thread.join()
        Pool().reload(cfg={"backend": "memory"})


def test_a_link_that_leads_elsewhere_is_another_file(file: Path, tmp_path: Path) -> None:
    """A symbolic link that is turned to another store is followed; the former store keeps everything."""
    former, other, link = file, tmp_path / "other.db", tmp_path / "link.db"
    create(other)
    link.symlink_to(former)
    store = SqliteBackend(str(link))
    run(store, Put(key("a"), b"old"))
    link.unlink()
    link.symlink_to(other)
    run(store, Put(key("b"), b"1"))
    assert tree(store) == {("a",): b"new", ("b",): b"1"}
    assert from_another_process(former) == {("a",): b"old"}
    store.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.db", "other.db", "s.db"]


def test_a_moved_directory_is_named(tmp_path: Path) -> None:
    """If the directory was moved, the error names the one that is missing; what was committed is where it went."""
    (tmp_path / "data").mkdir()
    store = SqliteBackend(str(tmp_path / "data" / "s.db"))
    run(store, Put(key("a"), b"1"))
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(Unreachable, match=r"'.*data' does not exist"):
        run(store, Put(key("a"), b"2"))
    store.close()
    assert from_another_process(tmp_path / "moved" / "s.db") == {("a",): b"1"}


def test_a_removed_log_is_reported(store: SqliteBackend, file: Path) -> None:
    """If the log was removed, reads and writes say so instead of writing where nobody reads; closing saves commits."""
    run(store, Put(key("b"), b"1"))
    Path(f"{file}-wal").unlink()
    time.sleep(2 * LOOK_SECS)
    for _ in range(2):
        with pytest.raises(Unreachable, match="write-ahead log"):
            run(store, Put(key("b"), b"2"))
        with pytest.raises(Unreachable, match="write-ahead log"):
            store.fetch(key("b"))
    store.close()
    assert from_another_process(file) == {("a",): b"old", ("b",): b"1"}


def test_an_emptied_file_is_reported(store: SqliteBackend, file: Path) -> None:
    """If another program empties the file, a call says so or is answered, and nothing is written to it in silence."""
    os.truncate(file, 0)
    time.sleep(2 * LOOK_SECS)
    for _ in range(2):
        with pytest.raises(CorruptData, match="emptied"):
            run(store, Put(key("b"), b"2"))
        with pytest.raises(CorruptData, match="emptied"):
            store.fetch(key("a"))


def test_processes_agree_on_the_new_file(file: Path) -> None:
    """Four processes that write while the file is deleted again and again end up with the same undamaged file."""
    create(file)

    def write(number: int) -> int:
        store = SqliteBackend(str(file))
        until = time.monotonic() + 1.5
        written = 0
        while time.monotonic() < until:
            try:
                run(store, Add(key(str(number)), 1))
                written += 1
            except RedictsError as error:
                # The log is deleted with the file, so a look between the two finds one without the other.
                assert "log" in str(error) or "replaced" in str(error), error  # noqa: PT017
        store.close()
        return written

    children = [Child(lambda number=number: write(number)) for number in range(4)]  # type: ignore[misc]
    for _ in range(5):
        time.sleep(0.15)
        file.unlink(missing_ok=True)
    for child in children:
        assert child.result() > 0
    assert from_another_process(file)
    assert is_sound(file)


def test_deletions_keep_no_files_open(file: Path, opened: Opened) -> None:
    """A process that deletes its store again and again, as test suites do, keeps no connection to former ones."""
    store = SqliteBackend(str(file))
    for _ in range(5):
        run(store, Put(key("a"), b"1"))
        delete_all(file)
        assert len(tree(store)) <= 1
    store.close()
    assert opened.not_closed == 0


def test_a_program_that_ends_leaves_the_new_file_alone(file: Path) -> None:
    """A program that ends after its file was replaced deletes neither the log nor the index of the new file."""
    script = (
        "from redicts.backends.sqlite.backend import SqliteBackend\n"
        "from redicts.core.minitransaction import Add, Key, Transaction\n"
        f"store = SqliteBackend({str(file)!r})\n"
        "store.execute(Transaction(writes=(Add(Key('v', ('n',)), 1),)))\n"
        "print('here', flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"here\n"
        delete_all(file)
        store = SqliteBackend(str(file))
        run(store, Put(key("a"), b"1"))
        program.communicate(b"\n")
    assert sorted(each.name for each in file.parent.iterdir()) == ["s.db", "s.db-shm", "s.db-wal"]
    assert from_another_process(file) == {("a",): b"1"}
    store.close()


def test_a_backup_that_is_moved_into_place_is_used(store: SqliteBackend, file: Path) -> None:
    """A backup that is restored by a rename is what the open store reads and writes from then on."""
    backup(file, file.with_name("copy.db"))
    run(store, Put(key("a"), b"later"), Put(key("b"), b"1"))
    os.replace(file.with_name("copy.db"), file)
    run(store, Put(key("c"), b"1"))
    assert tree(store) == {("a",): b"old", ("c",): b"1"}
    assert from_another_process(file) == tree(store)


def test_a_removed_directory_is_closed_in_silence(tmp_path: Path, opened: Opened) -> None:
    """A store whose directory was removed can be closed, and nothing of it stays open."""
    (tmp_path / "data").mkdir()
    store = SqliteBackend(str(tmp_path / "data" / "s.db"))
    run(store, Put(key("a"), b"1"))
    shutil.rmtree(tmp_path / "data")
    store.close()
    assert opened.not_closed == 0
    name, _ = error_of(lambda: run(store, Put(key("a"), b"1")))
    assert name == Unreachable.__name__
