"""Deadlines: an operation with a timeout ends with it, also while another process holds the file's write lock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import pytest

import redicts
from redicts import Database, LockTimeout, StoreTimeout
from redicts.backends.sqlite import write_queue
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.core.minitransaction import Put, Read, Transaction
from redicts.errors import StoreBusy
from tests.backends.sqlite_tools import TIMEOUT, LockOwner, key, run, tree, value
from tests.locks.locking import no_thread_is_left
from tests.support.waiting import eventually

PATIENT: Final = 600.0
"""The busy timeout of the stores: what ends before ends by its own timeout."""

WRITE: Final = Transaction(writes=(Put(key("a"), b"2"),))


@pytest.fixture
def file(file: Path) -> Path:
    """Create a store with a value."""
    store = SqliteBackend(str(file))
    run(store, Put(key("a"), b"1"))
    store.close()
    return file


@pytest.fixture
def store(file: Path) -> Iterator[SqliteBackend]:
    """Open it so that a call without a deadline waits for long."""
    backend = SqliteBackend(str(file), busy_timeout_secs=PATIENT)
    yield backend
    backend.close()


@pytest.fixture
def db(file: Path) -> Iterator[Database]:
    """Open it as users do."""
    with redicts.open({"backend": "sqlite", "path": str(file), "busy_timeout_secs": PATIENT}) as database:
        yield database


@pytest.mark.parametrize("blocking", [True, False])
def test_acquire_ends_with_its_timeout_while_the_file_is_locked(
    blocking: bool, db: Database, locked: LockOwner
) -> None:
    """``acquire`` raises ``StoreTimeout``, not after ``busy_timeout_secs``, and leaves nothing in the store."""
    lock = db.lock("job", acquire_timeout=0.1)
    began = time.monotonic()
    with pytest.raises(StoreTimeout, match="timeout of the operation"):
        lock.acquire(blocking)
    assert time.monotonic() - began < PATIENT / 10
    assert db.proxy("a").val() == 1
    locked.release()
    assert not db.lock().holders()
    with lock:
        assert lock.held


def _is_over_or_waits(waiting: Future[bool], lock: redicts.Lock) -> bool:
    return waiting.done() or bool(lock.waiters())


def test_a_waiter_ends_with_its_timeout_while_the_file_is_locked(file: Path, db: Database) -> None:
    """The same for one that waits when the file is locked; its record goes when the file is free again."""
    with db.lock("job", renew=True), ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        for timeout in (1.0, 4.0, 16.0):  # a slow machine may not let it wait within the first
            waiting = pool.submit(db.lock("job", acquire_timeout=timeout).acquire)
            eventually(partial(_is_over_or_waits, waiting, db.lock("job")), "it waits")
            if not waiting.done():
                break
        locked = LockOwner(file)
        with pytest.raises((StoreTimeout, LockTimeout)):
            waiting.result(PATIENT / 10)
        assert time.monotonic() - began < PATIENT / 10
        locked.release()
        eventually(lambda: not db.lock().waiters(), "its record is withdrawn")
    no_thread_is_left()


@pytest.mark.parametrize("joins", [True, False], ids=["in the queue", "before it joins the queue"])
def test_a_request_ends_at_its_deadline(
    joins: bool, store: SqliteBackend, locked: LockOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that finds the file locked gives up at its deadline, leaves the queue, and writes nothing later."""
    monkeypatch.setattr(write_queue, "_JOIN_AFTER_SECS", 0.0 if joins else PATIENT)
    deadline = time.monotonic() + 0.2
    with pytest.raises(StoreTimeout):
        store.execute_until(WRITE, deadline)
    assert deadline <= time.monotonic() < deadline + PATIENT / 10
    # Readers wait for nobody.
    assert store.execute_until(Transaction(reads=(Read(key("a")),)), time.monotonic() + TIMEOUT).applied
    locked.release()
    assert not Path(f"{store._pool.path}-queue").exists()
    assert value(store, "a") == b"1"
    assert store.execute_until(WRITE, time.monotonic() + TIMEOUT).applied


def test_nothing_begins_after_the_deadline(store: SqliteBackend) -> None:
    """A request whose deadline has passed raises ``StoreTimeout`` and is not executed, though the file is free."""
    with pytest.raises(StoreTimeout):
        store.execute_until(WRITE, time.monotonic())
    assert tree(store) == {("a",): b"1"}


def test_a_shorter_busy_timeout_ends_a_request_first(file: Path, locked: LockOwner) -> None:
    """If ``busy_timeout_secs`` is over before the deadline, the error is ``StoreBusy``, as without a deadline."""
    store = SqliteBackend(str(file), busy_timeout_secs=0.05)
    with pytest.raises(StoreBusy, match="busy_timeout_secs"):
        store.execute_until(WRITE, time.monotonic() + PATIENT)
    locked.release()
    store.close()
