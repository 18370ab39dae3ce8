"""Connections: shared by any number of threads, closed when unused, with a bounded log."""

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

from redicts.backends.sqlite import vacuum
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.connections import Connection
from redicts.core.minitransaction import Add, Put, Read
from redicts.errors import StoreBusy
from tests.backends.sqlite_tools import TIMEOUT, Clock, Opened, count, key, plain, run, tree, value
from tests.support.waiting import eventually


def in_threads(number: int, work: Callable[[int], object]) -> None:
    """Run the work in this many threads at once, and raise what one of them raised."""
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
    """No addition of many concurrent threads is lost, and at most 16 connections stay open."""
    store = SqliteBackend(path, busy_timeout_secs=60)
    in_threads(32, lambda _: [run(store, Add(key("n"), 1), reads=(Read(key("n")),)) for _ in range(25)])
    assert count(store, "n") == 32 * 25
    assert opened.not_closed <= 16
    store.close()
    assert opened.not_closed == (path == ":memory:")


def test_concurrent_threads_have_connections_of_their_own(file: Path, clock: Clock, opened: Opened) -> None:
    """Concurrent calls never share a connection, and consecutive ones do."""
    both = threading.Barrier(2)

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


def test_close_lets_calls_finish(file: Path, clock: Clock, opened: Opened) -> None:
    """Closing closes idle connections at once, and the connection of a running call when that call ends."""
    inside, closed = threading.Event(), threading.Event()

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
    """A call after ``close`` works, because it may race with a reload, and leaves nothing open."""
    store = SqliteBackend(str(file))
    store.close()
    run(store, Put(key("a"), b"1"))
    assert value(store, "a") == b"1"
    with store.listen("me") as listener:
        listener.wait(0.01)
    del listener
    assert opened.not_closed == 0
    store.close()
    assert [each.name for each in file.parent.iterdir()] == ["s.db"]


def test_closing_a_store_in_memory_loses_nothing(opened: Opened) -> None:
    """A store in memory keeps its values after ``close``, for calls that still use it, and ends when it is freed."""
    store = SqliteBackend(":memory:")
    run(store, Put(key("a"), b"1"))
    store.close()
    run(store, Put(key("b"), b"2"))
    assert tree(store) == {("a",): b"1", ("b",): b"2"}
    del store
    gc.collect()
    assert opened.not_closed == 0


def test_the_end_of_a_store_in_memory_waits_for_no_call(clock: Clock) -> None:
    """A program that ends does not wait for a thread that is in a call of a store in memory."""
    inside, go_on = threading.Event(), threading.Event()

    def waiting_clock() -> float:
        inside.set()
        assert go_on.wait(TIMEOUT)
        return clock()

    store = SqliteBackend(":memory:", clock=waiting_clock)
    threads = [threading.Thread(target=run, args=(store, Put(key("a"), b"1")))]
    threads[0].start()
    assert inside.wait(TIMEOUT)
    threads.append(threading.Thread(target=store._pool.close))  # as the interpreter does
    threads[1].start()
    threads[1].join(TIMEOUT / 2)
    assert not threads[1].is_alive()
    go_on.set()
    for thread in threads:
        thread.join(TIMEOUT)
    assert value(store, "a") == b"1"


def test_a_collected_store_is_closed(path: str, opened: Opened) -> None:
    """When a backend is garbage-collected, its connections are closed without a warning."""
    store = SqliteBackend(path)
    run(store, Put(key("a"), b"1"))
    assert opened.not_closed == 1
    del store
    gc.collect()
    assert opened.not_closed == 0


@pytest.mark.parametrize("ending", ["", "os.fork() or sys.exit()"], ids=["alone", "with a child"])
def test_an_exit_closes_in_order(ending: str, file: Path) -> None:
    """A program that ends without closing leaves one file and no warning, and so does its child."""
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


def test_a_call_within_a_call_of_a_file_reads(file: Path, clock: Clock) -> None:
    """A signal handler that reads while its own thread writes sees the state before the write."""
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


def test_a_call_within_a_call_of_memory_is_refused(clock: Clock) -> None:
    """A store in memory has one connection: a call that interrupts another one of its own thread is refused."""
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


def test_an_error_ends_no_transaction_of_another_thread(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of a store in memory that failed cleans up when no other thread is in the midst of a transaction."""
    inside, go_on = threading.Event(), threading.Event()
    applied: list[bool] = []
    other = threading.Thread(
        target=lambda: applied.append(run(store, Put(key("a"), b"1"), Put(key("b"), b"1")).applied)
    )
    helper = threading.Timer(0.3, go_on.set)
    tell = Connection.is_interrupted

    def waiting_clock() -> float:
        if threading.current_thread() is other:
            inside.set()
            assert go_on.wait(TIMEOUT)
        elif not works:
            raise ZeroDivisionError
        return clock()

    def is_interrupted(connection_: Connection) -> bool:
        if threading.current_thread() is not other:  # this thread is about to clean up
            other.start()
            assert inside.wait(TIMEOUT)
            helper.start()
        return tell(connection_)

    works, store = True, SqliteBackend(":memory:", clock=waiting_clock)
    run(store, Put(key("a"), b"0"))
    works = False
    monkeypatch.setattr(Connection, "is_interrupted", is_interrupted)
    with pytest.raises(ZeroDivisionError):
        run(store, Put(key("c"), b"1"))
    other.join(TIMEOUT)
    helper.join(TIMEOUT)
    works = True
    assert (applied, tree(store)) == ([True], {("a",): b"1", ("b",): b"1"})
    store.close()


def test_a_long_log_is_emptied_among_readers(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long log is emptied although at any time somebody reads: readers that begin later are not waited for."""
    monkeypatch.setattr(vacuum, "_LONG_LOG_BYTES", 200_000)
    monkeypatch.setattr(vacuum, "_LOG_TIMEOUT_MS", int(TIMEOUT * 1000))
    store = SqliteBackend(str(file))
    run(store, Put(key("a"), b"1"))
    reading = threading.Event()

    def overlap() -> None:
        """Read with two connections, each beginning before the other ends, until the log is empty."""
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
    # Later calls leave the waiting to the queue of writers.
    (connection,) = store._pool.idle
    assert connection.cursor is not None
    assert connection.cursor.execute("PRAGMA busy_timeout").fetchone() == (0,)
    store.close()


def _begin_reading(connection: sqlite3.Connection) -> int:
    """Take a snapshot, and return the number of values in it."""
    connection.execute("BEGIN")
    found: int = connection.execute("SELECT count(*) FROM entries").fetchone()[0]
    return found


def _is_locked(connection: sqlite3.Connection) -> bool:
    """Tell whether somebody holds the write lock after the large transaction was committed."""
    if connection.execute("SELECT count(*) FROM entries").fetchone()[0] < 601:
        return False
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return True
    connection.execute("ROLLBACK")
    return False
