"""Connections: shared by any number of threads, closed when they should be, and a log that stays short."""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from redicts.backends.sqlite import files, space
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.core.minitransaction import Add, Put, Read, Scope
from redicts.errors import StoreBusy
from tests.backends.sqlite_tools import TIMEOUT, Clock, count, entries, key, plain, run, tree, value
from tests.support.waiting import eventually


class Opened:
    """Notes every connection that is opened."""

    def __init__(self) -> None:
        self.connections: list[sqlite3.Connection] = []

    def note(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        self.connections.append(connection)
        return connection

    @property
    def not_closed(self) -> int:
        return len([each for each in self.connections if not _is_closed(each)])


def _is_closed(connection: sqlite3.Connection) -> bool:
    try:
        connection.total_changes  # noqa: B018  (it raises if the connection is closed)
    except sqlite3.ProgrammingError:
        return True
    return False


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Note every connection that the backend opens from now on."""
    found = Opened()
    connect = files._connect
    monkeypatch.setattr(files, "_connect", lambda *given, **named: found.note(connect(*given, **named)))
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Name a file that is not there yet."""
    return tmp_path / "s.db"


@pytest.fixture(params=["file", "memory"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name a store in a file, and one in memory."""
    return ":memory:" if request.param == "memory" else str(tmp_path / "s.db")


def in_threads(number: int, work: Callable[[int], object]) -> None:
    """Run the work in so many threads at once, and raise what one of them raised."""
    raised: list[BaseException] = []
    barrier = threading.Barrier(number)

    def begin(each: int) -> None:
        barrier.wait(TIMEOUT)
        try:
            work(each)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=begin, args=(each,), daemon=True) for each in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive(), "a thread hangs"
    if raised:
        raise raised[0]


def test_adds_of_many_threads_sum_up(path: str, opened: Opened) -> None:
    """However many threads add at once, none is lost; and no more connections stay open than are worth keeping."""
    store = SqliteBackend(path, busy_timeout_secs=60)
    in_threads(32, lambda _: [run(store, Add(key("n"), 1), reads=(Read(key("n")),)) for _ in range(25)])
    assert count(store, "n") == 32 * 25
    assert opened.not_closed <= 16
    store.close()
    assert opened.not_closed == 0


def test_each_thread_has_a_connection_to_itself(file: Path, opened: Opened) -> None:
    """Two calls at once never share a connection, and calls one after the other do."""
    both = threading.Barrier(2)
    clock = Clock()

    def meeting_clock() -> float:
        both.wait(TIMEOUT)
        return clock()

    keeper = SqliteBackend(str(file))
    run(keeper, Put(key("a"), b"1"))
    store = SqliteBackend(str(file), clock=meeting_clock)
    for _ in range(3):
        in_threads(2, lambda _: value(store, "a"))
        assert opened.not_closed == 1 + 2
    store.close()
    keeper.close()


def test_close_lets_calls_finish(file: Path, opened: Opened) -> None:
    """Closing closes what is idle at once; a call under way ends as it would have, and its connection with it."""
    inside, closed = threading.Event(), threading.Event()
    clock = Clock()

    def waiting_clock() -> float:
        inside.set()
        assert closed.wait(TIMEOUT)
        return clock()

    SqliteBackend(str(file), clock=clock).close()
    store = SqliteBackend(str(file), clock=waiting_clock)
    thread = threading.Thread(target=lambda: run(store, Put(key("a"), b"1")))
    thread.start()
    assert inside.wait(TIMEOUT)
    store.close()
    assert opened.not_closed == 1
    closed.set()
    thread.join(TIMEOUT)
    assert opened.not_closed == 0
    again = SqliteBackend(str(file))
    assert value(again, "a") == b"1"
    again.close()


def test_a_closed_store_can_be_used_and_stays_closed(file: Path, opened: Opened) -> None:
    """A call after the end works, for it may race with a reload; nothing stays open after it. Closing twice is fine."""
    store = SqliteBackend(str(file))
    store.close()
    run(store, Put(key("a"), b"1"))
    assert value(store, "a") == b"1"
    assert opened.not_closed == 0
    store.close()
    assert [each.name for each in file.parent.iterdir()] == ["s.db"]


def test_closing_a_store_in_memory_empties_it(opened: Opened) -> None:
    """A store in memory ends when it is closed; later calls work on an empty one."""
    store = SqliteBackend(":memory:")
    run(store, Put(key("a"), b"1"))
    store.close()
    assert opened.not_closed == 0
    assert tree(store) == {}
    assert opened.not_closed == 0


def test_a_store_that_nobody_holds_is_closed(path: str, opened: Opened) -> None:
    """When a backend is collected, its idle connections are closed, not left to the collector (which warns)."""
    store = SqliteBackend(path)
    run(store, Put(key("a"), b"1"))
    assert opened.not_closed == 1
    del store
    gc.collect()
    assert opened.not_closed == 0


@pytest.mark.parametrize("ending", ["", "os.fork() or sys.exit()"], ids=["alone", "with a child"])
def test_an_exit_closes_in_order(ending: str, file: Path) -> None:
    """A program that just ends leaves one file and no warning, also if a child of it ends just so."""
    script = (
        "import os, sys, warnings\n"
        "warnings.simplefilter('error')\n"
        "from redicts.backends.sqlite.backend import SqliteBackend\n"
        "from redicts.core.minitransaction import Add, Key, Transaction\n"
        f"store = SqliteBackend({str(file)!r})\n"
        "add = Transaction(writes=(Add(Key('v', ('n',)), 1),))\n"
        "store.execute(add)\n"
        f"{ending}\n"
        "store.execute(add)\n"
    )
    ended = subprocess.run([sys.executable, "-X", "dev", "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    store = SqliteBackend(str(file))
    eventually(lambda: count(store, "n") == 2, "the last call has counted")
    store.close()
    eventually(lambda: [each.name for each in file.parent.iterdir()] == ["s.db"], "only the file is left")


def test_a_call_within_a_call_of_a_file_reads(file: Path) -> None:
    """A signal handler that reads while its own thread is in the midst of a write sees the state before it."""
    clock = Clock()
    seen: list[bytes | None] = []

    def calling_clock() -> float:
        if not seen:
            seen.append(None)
            seen.append(value(store, "a"))
        return clock()

    store = SqliteBackend(str(file), clock=clock)
    run(store, Put(key("a"), b"1"))
    store.close()
    store = SqliteBackend(str(file), clock=calling_clock)
    run(store, Put(key("a"), b"2"), Put(key("b"), b"2"))
    assert seen == [None, b"1"]
    assert value(store, "a") == b"2"
    store.close()


def test_a_call_within_a_call_of_memory_is_refused() -> None:
    """A store in memory has one connection: a call that interrupts one of its own thread is refused, without harm."""
    clock = Clock()
    refused: list[StoreBusy] = []

    def calling_clock() -> float:
        if not refused:
            with pytest.raises(StoreBusy, match="interrupted") as caught:
                value(store, "a")
            refused.append(caught.value)
        return clock()

    store = SqliteBackend(":memory:", clock=calling_clock)
    run(store, Put(key("a"), b"1"))
    assert refused
    assert value(store, "a") == b"1"
    store.close()


def test_a_long_log_is_begun_anew_among_readers(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that has become long is emptied though there is never a moment without a reader: new ones do not count."""
    monkeypatch.setattr(space, "_LONG_LOG_BYTES", 200_000)
    monkeypatch.setattr(space, "_LOG_TIMEOUT_MS", int(TIMEOUT * 1000))
    store = SqliteBackend(str(file))
    run(store, Put(key("a"), b"1"))
    reading = threading.Event()

    def overlap() -> None:
        """Read in two connections such that each begins before the other ends, until the log is empty."""
        open_one, idle_one, probe = plain(file), plain(file), plain(file)
        _begin_reading(open_one)
        reading.set()
        eventually(lambda: _is_locked(probe), "the log is about to be emptied")
        deadline = time.monotonic() + TIMEOUT
        while os.path.getsize(f"{file}-wal") and time.monotonic() < deadline:
            rows_seen.add(_begin_reading(idle_one))
            open_one.execute("COMMIT")
            open_one, idle_one = idle_one, open_one
        sizes.append(os.path.getsize(f"{file}-wal"))
        for connection in (open_one, idle_one, probe):
            connection.close()

    rows_seen: set[int] = set()
    sizes: list[int] = []
    thread = threading.Thread(target=overlap)
    thread.start()
    assert reading.wait(TIMEOUT)
    run(store, *[Put(key("b", str(each)), b"x" * 1_000) for each in range(600)])
    thread.join(TIMEOUT)
    assert (sizes, rows_seen) == ([0], {601})
    store.close()


def _begin_reading(connection: sqlite3.Connection) -> int:
    """Take a snapshot, and return how many values there are in it."""
    connection.execute("BEGIN")
    found: int = connection.execute("SELECT count(*) FROM entries").fetchone()[0]
    return found


def _is_locked(connection: sqlite3.Connection) -> bool:
    """Tell whether somebody writes just now, after the large transaction is there."""
    if connection.execute("SELECT count(*) FROM entries").fetchone()[0] < 601:
        return False
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return True
    connection.execute("ROLLBACK")
    return False


def test_a_large_answer_does_not_hold_others_up(file: Path) -> None:
    """While one thread reads a large scope page by page, another one writes, and each page is right."""
    store = SqliteBackend(str(file))
    run(store, *[Put(key("s", f"{each:04}"), b"x") for each in range(2_000)])
    seen: set[tuple[str, ...]] = set()
    read = Read(key("s"), Scope.BELOW, limit=100)
    while True:
        page = entries(store, read)
        seen.update(page.values)
        in_threads(2, lambda each: run(store, Put(key("s", f"new {each}"), b"y")))
        if page.cursor is None:
            break
        read = read._replace(cursor=page.cursor)
    assert {path for path in seen if not path[0].startswith("new")} == {(f"{each:04}",) for each in range(2_000)}
    store.close()
