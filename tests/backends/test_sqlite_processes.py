"""Several processes on one file: spawned, forked while working, and killed."""

from __future__ import annotations

import multiprocessing
import threading
import time
from functools import partial
from pathlib import Path
from weakref import WeakSet

import pytest

from redicts.backends.sqlite import connections
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.connections import Connection
from redicts.backends.sqlite.write_queue import Retry
from redicts.core.minitransaction import Add, Put
from redicts.errors import Unreachable
from tests.backends.sqlite_tools import (
    TIMEOUT,
    Child,
    Clock,
    LockOwner,
    count,
    create_at_once,
    error_of,
    is_sound,
    key,
    plain,
    run,
    tree,
    value,
)


def test_a_file_is_created_once(tmp_path: Path) -> None:
    """Processes that use a new file at the same time share one store with what each of them wrote."""
    barrier = multiprocessing.get_context("fork").Barrier(4)
    for attempt in range(12):
        file = tmp_path / f"{attempt}.db"
        for child in [Child(partial(create_at_once, str(file), str(each), barrier)) for each in range(4)]:
            child.result()
        store = SqliteBackend(str(file))
        assert tree(store) == {(str(each),): b"here" for each in range(4)}
        store.close()


def test_commits_of_a_child_survive_its_parents_close(file: Path) -> None:
    """A child has its own locks: when the parent closes the file, it does not remove the child's log."""
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


def test_a_fork_waits_for_a_transaction_of_another_thread(file: Path, clock: Clock) -> None:
    """A fork happens before or after a transaction of another thread: the child sees all or nothing, and no lock."""
    inside, go_on = threading.Event(), threading.Event()

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
    # The transaction ends while the fork below waits for it.
    helper = threading.Timer(0.3, go_on.set)
    helper.start()
    child = Child(lambda: (run(store, Put(key("c"), b"1")), tree(store))[1])
    assert child.result() == {("a",): b"1", ("b",): b"1", ("c",): b"1"}
    writer.join(TIMEOUT)
    helper.join(TIMEOUT)
    assert tree(store) == {("a",): b"1", ("b",): b"1", ("c",): b"1"}
    store.close()


def test_a_fork_waits_until_a_connection_is_known(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork knows each connection: it waits while another thread adds one to those that it closes."""
    inside, go_on = threading.Event(), threading.Event()

    class Registry(WeakSet[Connection]):
        def add(self, item: Connection) -> None:
            inside.set()
            assert go_on.wait(TIMEOUT)
            super().add(item)

    monkeypatch.setattr(connections, "_registry", Registry())
    thread = threading.Thread(target=Connection, args=(str(file),))
    thread.start()
    assert inside.wait(TIMEOUT)
    helper = threading.Timer(0.3, go_on.set)
    helper.start()
    assert Child(go_on.is_set).result()
    thread.join(TIMEOUT)
    helper.join(TIMEOUT)


def test_a_finalizer_amid_a_fork_leaves_no_lock_held(file: Path) -> None:
    """A store that a finalizer closes in the midst of a fork keeps no other thread of the parent from working."""
    store = SqliteBackend(str(file))
    run(store, Put(key("a"), b"1"))
    connections._before_fork()
    store.close()
    connections._after_fork_in_parent()
    found: list[bytes | None] = []
    thread = threading.Thread(target=lambda: found.append(value(SqliteBackend(str(file)), "a")), daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    assert found == [b"1"]


def test_forks_among_busy_threads(file: Path) -> None:
    """Forks while threads of the parent use several instances: no child hangs, and no write is lost."""
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


def test_a_fork_does_not_wait_for_waiting_writers(file: Path) -> None:
    """A thread that waits for another program's lock does not delay a fork."""
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


def test_a_child_forked_inside_a_call_is_refused(file: Path, clock: Clock) -> None:
    """A child forked by a signal handler inside a call cannot use that file, but others; the error says so."""
    errors: list[tuple[str, str]] = []
    other = SqliteBackend(str(file.with_name("other.db")))
    run(other, Put(key("a"), b"other"))

    def in_the_child() -> tuple[str, str]:
        assert value(other, "a") == b"other"
        fresh = SqliteBackend(str(file))
        assert error_of(lambda: value(store, "a")) == error_of(lambda: value(fresh, "a"))
        return error_of(lambda: run(fresh, Put(key("a"), b"child")))

    def forking_clock() -> float:
        if not errors:
            errors.append(("", ""))
            errors.append(Child(in_the_child).result())
        return clock()

    store = SqliteBackend(str(file), clock=forking_clock)
    run(store, Put(key("a"), b"1"))
    name, text = errors[1]
    assert name == Unreachable.__name__
    assert str(file) in text
    assert "forked inside a call" in text
    assert value(store, "a") == b"1"
    assert Child(lambda: value(store, "a")).result() == b"1"
    store.close()
    assert is_sound(file)


def test_a_child_forked_while_a_call_waits_is_not_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that a signal handler forks while its thread waits for the lock of another program can use the file."""
    store = SqliteBackend(str(file))
    run(store, Put(key("a"), b"1"))
    owner, wait = LockOwner(file), Retry.wait
    found: list[bytes | None] = []

    def fork_and_wait(retry: Retry) -> bool:
        if not found:
            try:
                found.append(Child(lambda: value(store, "a")).result())
            finally:
                owner.release()
        return wait(retry)

    monkeypatch.setattr(Retry, "wait", fork_and_wait)
    run(store, Put(key("a"), b"2"))
    assert (found, value(store, "a")) == ([b"1"], b"2")
    store.close()


def test_a_child_has_its_own_copy_of_memory() -> None:
    """A fork copies a store in memory whole: neither process sees what the other writes afterwards."""
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


def test_a_child_may_close_the_instance(file: Path) -> None:
    """A child that closes its copy of the instance does not affect the parent."""
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
