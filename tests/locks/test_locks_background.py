"""Background work on locks: the trouble of one store, of a callback or of an owner stays its own."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

import redicts
from redicts import Lock, LockLost, Pool, Proxy
from redicts.api.database import Database
from redicts.contract.forked import ForkedChild
from redicts.core.minitransaction import Expire, Outcome, Transaction
from redicts.errors import StoreError
from redicts.locks.retention import Retention
from tests.locks.locking import (
    Meddler,
    Somebody,
    break_locks,
    gone,
    meddler,
    no_thread_is_left,
    nothing_is_left,
    own_threads,
)
from tests.support.waiting import TIMEOUT, eventually

pytestmark = pytest.mark.usefixtures("no_thread_outlives_a_test")


class Hung(Meddler):
    """A backend whose background threads hang until it is released, from the first request of a block on."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.backend)
        database.backend = self
        self.hangs, self._goes_on = threading.Event(), threading.Event()

    def execute(self, transaction: Transaction, /) -> Outcome:
        if threading.current_thread().name.startswith("redicts-"):
            self.hangs.set()
            assert self._goes_on.wait(TIMEOUT)
        return super().execute(transaction)

    def go_on(self) -> None:
        """End the requests that hang."""
        self._goes_on.set()

    def __enter__(self) -> Hung:
        return self

    def __exit__(self, *details: object) -> None:
        self.go_on()


LEASE: Final = 2.0
"""Seconds: a renewed lock is lost if its process stands still for two thirds of them, as on a busy machine."""


def is_renewed(lock: Lock) -> None:
    """Wait until a lock was renewed twice: each renewal comes after a third of the lease."""
    (first,) = lock.holders()
    lease = (first.until - first.since).total_seconds()
    eventually(
        lambda: (lock.holders()[0].until - first.until).total_seconds() > 0.6 * lease, "the lock is renewed twice"
    )
    lock.ensure_held()


# Stores


def two_stores(tmp_path: Path) -> tuple[Database, Database]:
    """Open two stores of two configurations."""
    return redicts.open({"backend": "memory"}), redicts.open({"backend": "sqlite", "path": str(tmp_path / "b.db")})


def two_databases(tmp_path: Path) -> tuple[Database, Database]:
    """Open two databases of one configuration."""
    first = redicts.open({"backend": "sqlite", "path": str(tmp_path / "a.db"), "names": {"other": 1}})
    return first, first.databases["other"]


TWO: Final[dict[str, Callable[[Path], tuple[Database, Database]]]] = {
    "stores": two_stores,
    "databases of one configuration": two_databases,
}


@pytest.mark.parametrize("open_", TWO.values(), ids=TWO)
def test_a_store_that_hangs_delays_no_renewal_of_another(
    tmp_path: Path, open_: Callable[[Path], tuple[Database, Database]]
) -> None:
    """While the renewals of one database hang, the locks of another one are renewed in time."""
    ill, healthy = open_(tmp_path)
    lost = threading.Event()
    with ill, healthy, Hung(ill) as store:
        hanging = ill.lock("a", expire_timeout=LEASE, renew=True, on_loss=lambda _: lost.set())
        hanging.acquire()
        assert store.hangs.wait(TIMEOUT)
        with healthy.lock("a", expire_timeout=LEASE, renew=True) as lock:
            is_renewed(lock)
        assert lost.wait(TIMEOUT), "the clock of this process decides, though the renewal still hangs"
        store.go_on()
        hanging.release()


def test_a_store_that_hangs_delays_no_withdrawal_from_another(tmp_path: Path) -> None:
    """While the withdrawal of a leftover hangs in one database, another one is cleaned up."""
    ill, healthy = two_stores(tmp_path)
    other = Meddler(healthy.backend)
    healthy.backend = other
    with ill, healthy, Hung(ill) as store:
        for database, backend in ((ill, store), (healthy, other)):
            lock = database.lock("a")
            lock.acquire()
            backend.begin()
            backend.fails = lambda number: number == 0
            with pytest.raises(StoreError):
                lock.release()
        assert store.hangs.wait(TIMEOUT)
        nothing_is_left(healthy)
        # It is withdrawn once more, because the request that failed may arrive late.
        eventually(lambda: "redicts-leftovers" in own_threads() and len(own_threads()) == 1, "one still hangs")


def test_a_callback_that_hangs_delays_no_callback_of_another_database() -> None:
    """Each database calls its callbacks in a thread of its own."""
    called, leave = threading.Event(), threading.Event()
    with redicts.open("memory://") as one, redicts.open("memory://") as two:
        first = one.lock("a", expire_timeout=0.2, on_renewal_overdue=lambda _: leave.wait(TIMEOUT))
        second = two.lock("a", expire_timeout=0.4, on_loss=lambda _: called.set())
        with first, second:
            assert called.wait(TIMEOUT)
            assert not leave.is_set()
            leave.set()


# Callbacks


def sleep_long(inside: threading.Event, leave: threading.Event) -> None:
    """Sleep until a test is over."""
    inside.set()
    assert leave.wait(TIMEOUT)


def test_a_callback_that_hangs_stops_no_renewal() -> None:
    """Locks of the same database are renewed while the ``on_loss`` of one that the renewal found lost is running."""
    inside, leave = threading.Event(), threading.Event()
    lost = Lock(Pool(), "lost", LEASE, renew=True, on_loss=lambda _: sleep_long(inside, leave))
    with Lock(Pool(), "a", LEASE, renew=True) as lock:
        lost.acquire()
        break_locks("lost")
        assert inside.wait(TIMEOUT)
        is_renewed(lock)
        leave.set()
        lost.release()


def test_an_operation_that_finds_a_loss_does_not_run_the_callback() -> None:
    """A guarded write or an extension of a lost lock raises at once, also while ``on_loss`` hangs."""
    inside, leave = threading.Event(), threading.Event()
    threads: list[str] = []

    def hang(_: Lock) -> None:
        threads.append(threading.current_thread().name)
        sleep_long(inside, leave)

    lost = Lock(Pool(), "a", 30, on_loss=hang)
    lost.acquire()
    break_locks("a")
    with pytest.raises(LockLost):
        Proxy("a").set("x", 1)
    with pytest.raises(LockLost):
        lost.extend()
    assert inside.wait(TIMEOUT)
    assert threads == ["redicts-callbacks"]
    leave.set()
    lost.release()


def test_a_loss_that_was_found_before_the_release_is_reported() -> None:
    """``on_loss`` is called once, though the lock is released before its thread gets so far."""
    called: list[Lock] = []
    for _ in range(20):
        called.clear()
        with Lock(Pool(), "a", 30, on_loss=called.append) as lock:
            break_locks("a")
            with contextlib.suppress(LockLost):
                Proxy("a").set("x", 1)
        no_thread_is_left()
        assert called == [lock]


class Unheard(BaseException):
    """An exception that only ``except BaseException`` catches."""


ERRORS: Final = [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), Unheard(), StopIteration()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_no_exception_of_a_callback_ends_anything(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a callback raises is logged; renewals continue, and all other callbacks are called."""
    called: list[str] = []

    def broken(_: Lock) -> None:
        called.append("broken")
        raise error

    with Lock(Pool(), "kept", LEASE, renew=True) as kept:
        lost = Lock(Pool(), "lost", LEASE, renew=True, on_renewal_overdue=broken, on_loss=broken)
        below = Lock(Pool(), "lost.x", 0.6, on_loss=lambda _: called.append("below"))
        overdue = Lock(Pool(), "overdue", 0.3, on_renewal_overdue=broken, on_loss=lambda _: called.append("overdue"))
        for lock in (lost, below, overdue):
            lock.acquire()
        break_locks("lost")
        eventually(lambda: sorted(called) == ["below", "broken", "broken", "overdue"], "each is called once")
        is_renewed(kept)
        for lock in (below, lost, overdue):
            lock.release()
        with Lock(Pool(), "later", 0.3, on_loss=lambda _: called.append("later")):
            eventually(lambda: "later" in called, "callbacks that come later are called")
    no_thread_is_left()
    assert called.count("broken") == 2
    assert caplog.text.count("a lock's callback failed") == 2


def test_a_callback_may_do_anything_with_locks() -> None:
    """A callback acquires, renews, extends, inspects and breaks locks, in its own and in another database."""
    seen: list[bool] = []

    def work(lock: Lock) -> None:
        with redicts.open("memory://") as other:
            here = Lock(Pool(), "b", LEASE, renew=True, on_loss=print)
            for each in (here, other.lock("b", expire_timeout=LEASE, renew=True)):
                with each:
                    is_renewed(each)
                    each.extend(5)
        lock.break_locks()
        seen.append(lock.acquire(blocking=False))
        lock.release()

    with Lock(Pool(), "a", 60) as lock, Lock(Pool(), "c", 0.3, on_renewal_overdue=lambda _: work(lock)):
        eventually(lambda: seen, "the callback is through")
    assert seen == [True]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_callback_may_fork() -> None:
    """A child that a callback forks calls no other callback and renews nothing; the parent continues."""
    reader, writer = os.pipe()
    children: list[int] = []

    def fork(_: Lock) -> None:
        child = os.fork()
        if child:
            children.append(child)
        os.write(writer, b"c" if not child else b"p")

    def call(_: Lock) -> None:
        os.write(writer, b"o")

    locks = [Lock(Pool(), "a", 0.3, on_loss=fork), Lock(Pool(), "a.x", 0.3, on_loss=call)]
    with Lock(Pool(), "z", LEASE, renew=True) as kept:
        for lock in locks:
            lock.acquire()
        eventually(lambda: children, "the callback has forked")
        ended, status = os.waitpid(children[0], 0)
        assert (ended, status) == (children[0], 0)
        is_renewed(kept)
        for lock in locks:
            lock.release()
    no_thread_is_left()
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        assert sorted(told.read()) == sorted(b"cpo")


def test_a_logging_handler_that_hangs_stops_no_renewal() -> None:
    """The warning about a renewal that failed is logged in another thread, because handlers are users' code too."""
    inside, leave = threading.Event(), threading.Event()

    class Slow(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            sleep_long(inside, leave)
            return True

    log, handler = logging.getLogger("redicts.locks"), Slow()
    store = meddler()
    with Lock(Pool(), "a", LEASE, renew=True) as lock:
        store.victim = lambda: threading.current_thread().name == "redicts-renewals"
        store.begin()
        log.addHandler(handler)
        try:
            store.fails = lambda number: number == 0
            assert inside.wait(TIMEOUT)
            is_renewed(lock)
        finally:
            leave.set()
            log.removeHandler(handler)


# Owners


def ended(work: Callable[[], object]) -> None:
    """Run something in a thread that the module ``threading`` does not know, and wait until that has ended."""
    done = threading.Event()
    before = _thread._count()

    def run() -> None:
        work()
        done.set()

    _thread.start_new_thread(run, ())
    assert done.wait(TIMEOUT)
    eventually(lambda: _thread._count() <= before, "the thread has ended")


def test_a_renewal_ends_with_a_thread_that_python_does_not_know() -> None:
    """The lock of a thread of ``_thread.start_new_thread`` is renewed as long as the thread runs, and no longer."""
    lock = Lock(Pool(), "a", LEASE, renew=True)

    def work() -> None:
        lock.acquire()
        is_renewed(lock)

    ended(work)
    gone("a")


def test_a_renewal_ends_with_the_loop_of_its_task() -> None:
    """The lock of a task that never ends, because its loop was closed, is not renewed any more."""
    lock = Lock(Pool(), "a", 0.4, renew=True)
    loop = asyncio.new_event_loop()

    async def acquire() -> None:
        lock.acquire()
        loop.stop()
        await asyncio.Event().wait()

    task = loop.create_task(acquire())
    loop.run_forever()
    assert lock.is_locked()
    loop.close()
    gone("a")
    assert not task.done()


# Closing


def test_closing_a_database_ends_its_threads() -> None:
    """``close`` ends renewals and callbacks of the locks that are still held, and keeps nothing alive."""
    called: list[Lock] = []
    db = redicts.open("memory://")
    lock = db.lock("a", expire_timeout=0.5, renew=True, on_loss=called.append, on_renewal_overdue=called.append)
    lock.acquire()
    assert sorted(own_threads()) == ["redicts-callbacks", "redicts-renewals"]
    backend = db.backend
    db.close()
    no_thread_is_left()
    eventually(lambda: not backend_holds(backend), "the lock is free after its lease")
    assert called == []
    lock.release()
    exists = weakref.ref(db)
    del db, lock
    gc.collect()
    assert exists() is None


def backend_holds(backend: Any) -> bool:
    """Return whether a store has a record of a held lock."""
    return bool(redicts.Lock(backend, "a").holders())


def test_closing_one_database_leaves_the_threads_of_another() -> None:
    """Locks of another database are renewed as before."""
    with redicts.open("memory://") as kept, kept.lock("a", expire_timeout=LEASE, renew=True) as lock:
        with redicts.open("memory://") as closed:
            closed.lock("a", expire_timeout=30, renew=True).acquire()
        eventually(lambda: own_threads() == ["redicts-renewals"], "only one thread is left")
        is_renewed(lock)


def test_closing_tries_a_leftover_once_more() -> None:
    """A leftover that cannot be withdrawn does not keep the thread of a closed database."""
    db = redicts.open("memory://")
    store = Meddler(db.backend)
    db.backend = store
    lock = db.lock("a", expire_timeout=1e6)
    lock.acquire()
    store.fails = lambda _: True
    with pytest.raises(StoreError):
        lock.release()
    db.close()
    no_thread_is_left()


def test_an_interrupted_close_closes_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the release of a retained lock is interrupted, ``close`` raises that and closes the backend all the same."""
    db = redicts.open("memory://")
    store = Meddler(db.backend)
    db.backend = store

    def interrupted(_: object) -> object:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Retention, "end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            db.close()
    assert store.closed


# Renewals and extensions at the same time


def test_an_extension_during_a_renewal_counts_as_the_shorter_lease() -> None:
    """If the store may have applied the renewal after the extension, the lock is not taken for held longer."""
    store = meddler()
    lock = Lock(Pool(), "a", LEASE, renew=True)
    applied, go_on = threading.Event(), threading.Event()

    def overlap(_: int) -> bool:
        applied.set()
        assert go_on.wait(TIMEOUT)
        return False

    with lock:
        store.victim = lambda: threading.current_thread().name == "redicts-renewals"
        store.begin()
        store.fails = overlap
        assert applied.wait(TIMEOUT)
        lock.extend(3600)
        store.fails = lambda _: False
        extended = time.monotonic()
        go_on.set()
        eventually(lambda: lease_in_background(store) == 3_600_000, "it is renewed again, for the new lease")
        assert time.monotonic() < extended + LEASE
        assert lock.held
        assert (lock.holders()[0].until - lock.holders()[0].since).total_seconds() > 3000


def lease_in_background(store: Meddler) -> int | None:
    """Return the lease of the last renewal in milliseconds."""
    writes = [write for each in list(store.transactions) for write in each.writes if isinstance(write, Expire)]
    return writes[-1].ttl if writes else None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_has_background_work_of_its_own(tmp_path: Path) -> None:
    """A child forked while locks are renewed and leftovers wait has neither, and renews its own locks."""
    Pool().reload(cfg={"backend": "sqlite", "path": str(tmp_path / "a.db")})
    store = meddler()
    failing = Lock(Pool(), "failing")
    failing.acquire()

    def child() -> None:
        assert own_threads() == []
        assert Pool().database().locks.renewal._leftovers.items() == []
        store.fails = lambda _: False
        with Lock(Pool(), "b", LEASE, renew=True) as lock:
            is_renewed(lock)
        no_thread_is_left()

    with Lock(Pool(), "a", 30, renew=True, on_loss=print):
        store.victim = lambda: threading.current_thread().name == "redicts-leftovers" or not failing.held
        store.fails = lambda _: True
        with pytest.raises(StoreError):
            failing.release()
        store.victim = lambda: threading.current_thread().name == "redicts-leftovers"
        with ForkedChild(child, TIMEOUT) as running:
            running.finish()
        store.fails = lambda _: False
    nothing_is_left()
    with Somebody() as ben:
        assert ben.does(Lock(Pool(), "failing").acquire, False)
        ben.does(Lock(Pool(), "failing").release)
