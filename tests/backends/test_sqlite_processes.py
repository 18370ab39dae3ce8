"""Several processes on one file: spawned, forked in the midst of work, and killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from redicts.backends.sqlite import connections
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.core.minitransaction import Add, Put
from redicts.errors import Unreachable
from tests.backends.sqlite_tools import (
    TIMEOUT,
    Child,
    Clock,
    add_many,
    count,
    create_at_once,
    error_of,
    key,
    plain,
    run,
    tree,
    value,
    write_pairs_for_ever,
)
from tests.support.waiting import eventually


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Name a file that is not there yet."""
    return tmp_path / "s.db"


def is_sound(path: Path) -> bool:
    """Ask SQLite whether the file is whole."""
    connection = plain(path)
    try:
        found: tuple[str] = connection.execute("PRAGMA integrity_check").fetchone()
    finally:
        connection.close()
    return found == ("ok",)


def spawn(number: int, work: Callable[..., None], arguments: Callable[[int], tuple[Any, ...]]) -> None:
    """Run so many new processes at once to their end."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(number)
    processes = [context.Process(target=work, args=(*arguments(each), barrier), daemon=True) for each in range(number)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(2 * TIMEOUT)
        assert process.exitcode == 0
        process.close()


def test_adds_of_many_processes_sum_up(file: Path) -> None:
    """However many processes add at once, none is lost, and no call fails."""
    spawn(3, add_many, lambda _: (str(file), 300))
    store = SqliteBackend(str(file))
    assert count(store, "count") == 900
    store.close()
    assert is_sound(file)


def test_a_file_is_made_once(tmp_path: Path) -> None:
    """Processes that use a new file at the same moment all find one store, with what each of them wrote."""
    barrier = multiprocessing.get_context("fork").Barrier(4)
    for attempt in range(12):
        file = tmp_path / f"{attempt}.db"
        for child in [Child(partial(create_at_once, str(file), str(each), barrier)) for each in range(4)]:
            child.result()
        store = SqliteBackend(str(file))
        assert tree(store) == {(str(each),): b"here" for each in range(4)}
        store.close()


def test_a_killed_writer_leaves_whole_transactions(file: Path) -> None:
    """Kill a writer at any moment, again and again: what is there is whole, and the next one goes on at once."""
    store = SqliteBackend(str(file), busy_timeout_secs=60)
    for _ in range(12):
        before = count(store, "count")
        writer = Child(lambda: write_pairs_for_ever(str(file)))
        eventually(lambda before=before: count(store, "count") > before + 5, "the writer is at work", every=0.001)  # type: ignore[misc]
        os.kill(writer.pid, signal.SIGKILL)
        with pytest.raises(AssertionError, match="without an answer"):
            writer.result()
        pairs = tree(store, "pair")
        assert len(pairs) == 20
        assert len(set(pairs.values())) == 1
    store.close()
    assert is_sound(file)


def test_parent_and_child_go_on_with_one_instance(file: Path) -> None:
    """After a fork both use the instance, as do grandchildren, and every write of each is there."""
    store = SqliteBackend(str(file), busy_timeout_secs=60)
    run(store, Add(key("n"), 1))

    def work(generations: int) -> None:
        child = Child(lambda: work(generations - 1)) if generations else None
        for _ in range(50):
            run(store, Add(key("n"), 1))
        if child:
            child.result()

    work(3)
    assert count(store, "n") == 1 + 4 * 50
    store.close()
    assert is_sound(file)


def test_what_a_child_commits_stays_when_its_parent_closes(file: Path) -> None:
    """A child holds locks of its own: the parent that closes the file does not take the child's log away."""
    store = SqliteBackend(str(file))
    run(store, Put(key("parent"), b"1"))
    wrote, closed = multiprocessing.get_context("fork").Event(), multiprocessing.get_context("fork").Event()

    def work() -> None:
        run(store, Put(key("child", "first"), b"1"))
        wrote.set()
        assert closed.wait(TIMEOUT)
        run(store, Put(key("child", "last"), b"1"))

    child = Child(work)
    assert wrote.wait(TIMEOUT)
    run(store, Put(key("parent"), b"2"))
    store.close()
    other = SqliteBackend(str(file))
    run(other, Put(key("other"), b"1"))
    closed.set()
    child.result()
    assert tree(other) == {("parent",): b"2", ("other",): b"1", ("child", "first"): b"1", ("child", "last"): b"1"}
    other.close()
    assert is_sound(file)


def test_a_fork_waits_for_a_transaction_of_another_thread(file: Path) -> None:
    """A fork comes before or after a transaction of another thread: the child finds no half of it, and no lock."""
    inside, go_on = threading.Event(), threading.Event()
    clock = Clock()

    def waiting_clock() -> float:
        if threading.current_thread() is writer:
            inside.set()
            assert go_on.wait(TIMEOUT)
        return clock()

    store = SqliteBackend(str(file), clock=waiting_clock, busy_timeout_secs=1)
    writer = threading.Thread(target=lambda: run(store, Put(key("a"), b"1")))
    run(store, Put(key("b"), b"1"))
    writer.start()
    assert inside.wait(TIMEOUT)

    def let_go() -> None:
        eventually(lambda: bool(connections._paused), "the fork waits")
        go_on.set()

    helper = threading.Thread(target=let_go)
    helper.start()
    child = Child(lambda: (run(store, Put(key("c"), b"1")), tree(store))[1])
    assert child.result() == {("a",): b"1", ("b",): b"1", ("c",): b"1"}
    writer.join(TIMEOUT)
    helper.join(TIMEOUT)
    assert tree(store) == {("a",): b"1", ("b",): b"1", ("c",): b"1"}
    store.close()


def test_forks_amid_busy_threads(file: Path) -> None:
    """Fork again and again while threads of the parent use several instances: no child hangs, no write is lost."""
    stores = [SqliteBackend(str(file), database, busy_timeout_secs=60) for database in (0, 1)]
    over = threading.Event()
    done = [0, 0, 0]

    def busy(number: int) -> None:
        while not over.is_set():
            run(stores[number % 2], Add(key(f"thread {number}"), 1))
            tree(stores[number % 2])
            done[number] += 1

    threads = [threading.Thread(target=busy, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        child = Child(lambda: [run(store, Add(key("children"), 1)) for store in stores for _ in range(5)])
        child.result()
    over.set()
    for thread in threads:
        thread.join(TIMEOUT)
    for store in stores:
        assert count(store, "children") == 50
    assert [count(stores[number % 2], f"thread {number}") for number in range(3)] == done
    for store in stores:
        store.close()
    assert is_sound(file)


def test_a_fork_does_not_wait_for_who_waits(file: Path) -> None:
    """A thread that waits for another program's lock does not keep a fork from happening."""
    store = SqliteBackend(str(file), busy_timeout_secs=60)
    run(store, Put(key("a"), b"1"))
    other = plain(file)
    other.execute("BEGIN IMMEDIATE")
    writer = threading.Thread(target=lambda: run(store, Add(key("n"), 1)))
    writer.start()
    began = time.monotonic()
    assert Child(lambda: value(store, "a")).result() == b"1"
    assert time.monotonic() - began < 30, "the fork waited for the lock"
    assert writer.is_alive()
    other.execute("ROLLBACK")
    other.close()
    writer.join(TIMEOUT)
    assert count(store, "n") == 1
    store.close()


def test_a_fork_from_within_a_call_is_refused_in_the_child(file: Path) -> None:
    """A child forked by a signal handler in the midst of a call cannot use that file, says so, and harms no one."""
    clock = Clock()
    told: list[tuple[str, str]] = []

    def in_the_child() -> tuple[str, str]:
        fresh = SqliteBackend(str(file))
        assert error_of(lambda: value(store, "a")) == error_of(lambda: value(fresh, "a"))
        return error_of(lambda: run(fresh, Put(key("a"), b"child")))

    def forking_clock() -> float:
        if not told:
            told.append(("", ""))
            told.append(Child(in_the_child).result())
        return clock()

    store = SqliteBackend(str(file), clock=forking_clock)
    run(store, Put(key("a"), b"1"))
    name, text = told[1]
    assert name == Unreachable.__name__
    assert str(file) in text
    assert "forked in the midst of a call" in text
    assert value(store, "a") == b"1"
    assert Child(lambda: value(store, "a")).result() == b"1"
    store.close()
    assert is_sound(file)


def test_a_child_has_its_own_copy_of_memory() -> None:
    """A store in memory is copied by a fork, whole: neither sees what the other writes afterwards."""
    store = SqliteBackend(":memory:")
    over = threading.Event()

    def busy() -> None:
        while not over.is_set():
            run(store, Add(key("left"), 1), Add(key("right"), 1))

    run(store, Put(key("a"), b"1"))
    thread = threading.Thread(target=busy)
    thread.start()

    def work() -> tuple[dict[tuple[str, ...], bytes], bool]:
        found = tree(store)
        run(store, Put(key("a"), b"child"))
        return found, value(store, "a") == b"child"

    for _ in range(10):
        found, written = Child(work).result()
        assert found.get(("left",)) == found.get(("right",))
        assert (found["a",], written) == (b"1", True)
        assert value(store, "a") == b"1"
    over.set()
    thread.join(TIMEOUT)
    store.close()


def test_a_child_may_close_and_end(file: Path) -> None:
    """What a child closes is its own: the parent's instance goes on."""
    store = SqliteBackend(str(file))
    run(store, Put(key("a"), b"1"))

    def use_and_close() -> None:
        run(store, Add(key("n"), 0))
        store.close()

    for work in (store.close, use_and_close, lambda: None):
        Child(work).result()
        run(store, Add(key("n"), 1))
    assert count(store, "n") == 3
    store.close()
