"""Leases: expiry, renewal, the callbacks for overdue renewals and losses, and threads that end."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from redicts import Lock, LockInfo, LockLost, NotHeld, Pool, Proxy, StoreError
from tests.locks.locking import (
    Somebody,
    break_locks,
    counted,
    gone,
    in_store,
    meddler,
    no_thread_is_left,
    nothing_is_left,
    own_threads,
    try_lock,
)
from tests.support.stores import Store, together
from tests.support.waiting import TIMEOUT, eventually

pytestmark = pytest.mark.usefixtures("no_thread_outlives_a_test")


class Calls:
    """Callbacks that note what was called, with which lock, and in which thread."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.locks: list[Lock] = []
        self.threads: list[str] = []
        self.times: list[float] = []

    def on(self, name: str) -> Callable[[Lock], None]:
        def call(lock: Lock) -> None:
            self.times.append(time.monotonic())
            self.locks.append(lock)
            self.threads.append(threading.current_thread().name)
            self.names.append(name)

        return call

    def lock(self, path: str = "a", lease: float = 0.5, **options: Any) -> Lock:
        """Return a lock that tells of danger and of loss."""
        return Lock(
            Pool(), path, lease, on_renewal_overdue=self.on("renewal_overdue"), on_loss=self.on("loss"), **options
        )


def later(info: LockInfo) -> datetime:
    """Return a moment after the end of a lease, so much that it is no matter of rounding."""
    return info.until + timedelta(seconds=0.05)


# Leases


def test_a_lease_ends_by_itself(any_store: Store) -> None:
    """A lock that is not released is free when its lease is over; a waiter then gets it."""
    with Somebody() as ben:
        ben.does(Lock(Pool(), "a", expire_timeout=0.2).acquire)
        begin = time.monotonic()
        with Lock(Pool(), "a.b", acquire_timeout=None):
            assert time.monotonic() - begin < TIMEOUT / 2
            assert not ben.does(lambda: Lock(Pool(), "a").held)
        ben.does(Lock(Pool(), "a").release)
    assert not in_store()


def test_a_proxys_lease_is_its_own(any_store: Store) -> None:
    """``lock_expire_timeout`` of a proxy is the lease of what is locked through it."""
    Proxy("a", lock_expire_timeout=0.3).acquire()
    Proxy("b", lock_expire_timeout=100).acquire()
    gone("a")
    assert Proxy("b").is_locked()
    with pytest.raises(LockLost):
        Proxy("a").set("x", 1)
    Proxy("a").release()
    Proxy("b").release()


def test_the_longest_lease_is_long(any_store: Store) -> None:
    """A lease of thousands of years works, with and without renewal and callbacks."""
    for renew in (False, True):
        calls = Calls()
        with calls.lock(lease=1e11, renew=renew) as lock:
            assert lock.held
            assert lock.holders()[0].until > lock.holders()[0].since
            Proxy("a").set("x", 1)
        assert calls.names == []
    assert not in_store()


def test_held_is_false_when_the_store_has_expired_the_lock(any_store: Store) -> None:
    """When the store expires a lock, ``held`` is false: stores count in milliseconds."""
    with Lock(Pool(), "first"):  # the first lock of a store takes longer than the leases below
        pass
    for _ in range(30):
        lock = Lock(Pool(), "a", expire_timeout=0.001)
        assert lock.acquire()
        while lock.holders():
            pass
        assert not lock.held
        lock.release()
    assert not in_store()


def test_extend_renews_the_lease(any_store: Store) -> None:
    """``extend`` renews the lease for the given seconds, or for as many as before."""
    lock = Lock(Pool(), "a", expire_timeout=50)

    def left() -> float:
        (info,) = lock.holders()
        return (info.until - info.since).total_seconds()

    with lock:
        assert 45 < left() < 55
        lock.extend(200)
        assert 195 < left() < 205
        lock.extend()
        assert 195 < left() < 205
        lock.extend(0.05)
        gone("a")
        with pytest.raises(LockLost):
            lock.extend(100)
        assert not in_store()
    for wrong in (0, -1, float("nan"), "5", True):
        with lock, pytest.raises(ValueError, match="lease"):
            lock.extend(wrong)  # type: ignore[arg-type]
    with pytest.raises(NotHeld):
        lock.extend()


def test_a_reentrant_acquisition_with_a_longer_lease_renews(any_store: Store) -> None:
    """Acquired again with a longer lease, a lock is renewed for that long; a shorter one changes nothing."""
    store = meddler()
    with Lock(Pool(), "a", expire_timeout=50) as outer, counted(store) as sent:
        with Lock(Pool(), "a.b", expire_timeout=10):
            assert not sent
        with Lock(Pool(), "a.b", expire_timeout=500):
            assert len(sent) == 1
            store.victim = lambda: False
            (info,) = outer.holders()
            assert 495 < (info.until - info.since).total_seconds() < 505


# Renewal


def test_a_renewed_lock_outlives_its_lease(any_store: Store) -> None:
    """With ``renew`` the lease is renewed again and again, and no other owner gets the lock meanwhile."""
    with Somebody() as ben, Lock(Pool(), "a", expire_timeout=2, renew=True) as lock:
        (first,) = lock.holders()
        eventually(
            lambda: (lock.holders()[0].until - first.until).total_seconds() > 2, "the lock has outlived its first lease"
        )
        assert lock.held
        lock.ensure_held()
        Proxy("a").set("x", 1)
        assert not ben.does(try_lock, "a")
        assert own_threads() == ["redicts-renewals"]
    assert not in_store()


def test_renewal_ends_with_the_last_release() -> None:
    """A lock is renewed while an acquisition with ``renew`` relies on it, and no longer."""
    renewed, plain = Lock(Pool(), "a", 0.3, renew=True), Lock(Pool(), "a", 0.3)
    plain.acquire()
    assert not own_threads()
    renewed.acquire()
    renewed.acquire()
    renewed.release()
    assert own_threads() == ["redicts-renewals"]
    renewed.release()
    no_thread_is_left()
    gone("a")
    plain.release()


def test_renewal_ends_with_its_thread() -> None:
    """A lock whose thread has ended is not renewed, and free after its lease."""
    together(Lock(Pool(), "a", 0.3, renew=True).acquire)
    gone("a")
    no_thread_is_left()


def test_renewal_continues_after_a_failure_of_the_store() -> None:
    """A store that fails for a while, with any error, does not end renewal."""
    store = meddler()
    with Lock(Pool(), "a", expire_timeout=2, renew=True) as lock:
        (first,) = lock.holders()
        thread = threading.current_thread()
        store.victim = lambda: threading.current_thread() is not thread
        store.begin()
        store.fails = lambda number: number < 2
        eventually(lambda: lock.holders()[0].until > later(first), "the lease begins again after the store came back")
        assert store.failed == 2
        assert lock.held


def test_locks_that_are_due_together_are_renewed_together() -> None:
    """All locks of a process that are due are renewed in one transaction, a hundred at most."""
    store = meddler()
    thread = threading.current_thread()
    store.victim = lambda: threading.current_thread() is not thread
    all_due = 0.0

    def wait_until_all_are_due(number: int) -> bool:
        if number == 0:
            eventually(lambda: 0 < all_due < time.monotonic(), "all locks are due")
        return False

    store.fails = wait_until_all_are_due
    with contextlib.ExitStack() as held:
        held.enter_context(Lock(Pool(), "first", expire_timeout=3, renew=True))
        for number in range(150):
            held.enter_context(Lock(Pool(), f"a{number}", expire_timeout=3, renew=True))
        all_due = time.monotonic() + 1.01
        eventually(lambda: sum(len(each.writes) for each in list(store.transactions)) >= 151, "each is renewed")
    sizes = [len(each.writes) for each in store.transactions]
    assert max(sizes) == 100
    assert len(sizes) <= 4


# Alarms


@pytest.mark.parametrize("renew", [False, True])
def test_callbacks_run_without_the_store(renew: bool) -> None:
    """Without the store, ``on_renewal_overdue`` runs at two thirds of the lease, and ``on_loss`` at its end."""
    store, calls = meddler(), Calls()
    lock = calls.lock(renew=renew)
    begin = time.monotonic()
    lock.acquire()
    store.fails = lambda _: True
    eventually(lambda: calls.names == ["renewal_overdue", "loss"], "danger and then loss are told")
    renewal_overdue, loss = [each - begin for each in calls.times]
    assert renewal_overdue >= 0.33
    assert loss >= 0.49
    assert calls.locks == [lock, lock]
    assert threading.current_thread().name not in calls.threads
    assert not lock.held
    with pytest.raises(LockLost):
        Proxy("a").set("x", 1)
    no_thread_is_left()
    store.fails = lambda _: False
    lock.release()
    nothing_is_left()


def test_a_renewed_lock_calls_no_callback() -> None:
    """While renewal succeeds no callback is called, nor by a release."""
    calls = Calls()
    with calls.lock(lease=3, renew=True) as lock:
        (first,) = lock.holders()
        eventually(lambda: (lock.holders()[0].until - first.until).total_seconds() > 1.5, "it is renewed twice")
    no_thread_is_left()
    assert calls.names == []


def test_the_loss_of_a_renewed_lock_is_reported_at_the_next_renewal() -> None:
    """``on_loss`` of a broken lock is called at its next renewal, long before its lease is over."""
    calls = Calls()
    lock = calls.lock(lease=3, renew=True)
    lock.acquire()
    (info,) = lock.break_locks()
    eventually(lambda: calls.names, "the loss is told")
    assert calls.names == ["loss"]
    assert time.time() < info.until.timestamp() - 0.5
    assert not lock.held
    with pytest.raises(LockLost):
        lock.ensure_held()
    no_thread_is_left()
    lock.release()


def test_a_write_that_finds_the_loss_calls_back() -> None:
    """``on_loss`` is called once, whichever operation finds the loss first."""
    calls = Calls()
    lock = calls.lock(lease=30)
    lock.acquire()
    break_locks("a")
    for _ in range(2):
        with pytest.raises(LockLost):
            Proxy("a").set("x", 1)
    no_thread_is_left()
    assert calls.names == ["loss"]
    assert threading.current_thread().name not in calls.threads
    lock.release()
    no_thread_is_left()
    assert calls.names == ["loss"]


def test_each_acquisition_has_its_own_alarms() -> None:
    """Callbacks of nested acquisitions are called as long as those are not released."""
    outer, inner, gone_by = Calls(), Calls(), Calls()
    first, second, third = outer.lock(lease=30), inner.lock("a.b", lease=30), gone_by.lock(lease=30)
    first.acquire()
    second.acquire()
    with third:
        pass
    break_locks("a")
    with pytest.raises(LockLost):
        Proxy("a.b").set("x", 1)
    no_thread_is_left()
    assert outer.locks == [first]
    assert inner.locks == [second]
    assert gone_by.names == []
    second.release()
    first.release()


def test_alarms_that_fail_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    """A callback that raises is logged; the others are called, other locks are watched and renewed as before."""
    caplog.set_level(logging.WARNING, "redicts.locks")
    calls = Calls()

    def fail(lock: Lock) -> None:
        calls.on("failed")(lock)
        raise RuntimeError("the callback is broken")

    broken = Lock(Pool(), "b", 0.2, on_renewal_overdue=fail, on_loss=fail)
    watched = calls.lock("c", lease=0.3)
    with Lock(Pool(), "a", expire_timeout=2, renew=True) as renewed:
        broken.acquire()
        watched.acquire()
        eventually(lambda: len(calls.names) == 4, "all callbacks are called")
        assert sorted(calls.names) == ["failed", "failed", "loss", "renewal_overdue"]
        assert caplog.text.count("RuntimeError: the callback is broken") == 2
        eventually(lambda: not broken.held, "it is lost")
        broken.release()
        watched.release()
        assert renewed.held


def test_a_callback_may_use_locks() -> None:
    """A callback may use its lock, and read and write; it runs as another owner."""
    seen: list[object] = []

    def look(lock: Lock) -> None:
        seen.append(lock.held)
        seen.append(lock.is_locked())
        Proxy("log").set("renewal_overdue", 1)
        with Proxy("b"):
            seen.append("in b")

    with Lock(Pool(), "a", 0.6, on_renewal_overdue=look) as lock:
        eventually(lambda: len(seen) == 3, "the callback is through")
        assert seen == [False, True, "in b"]
        assert lock.key == "a"
    assert Proxy("log.renewal_overdue").val() == 1


def test_after_a_loss_nothing_is_watched() -> None:
    """A lost lock is watched no more, even while some of what relied on it is released and some is not."""
    calls = Calls()
    locks = [calls.lock(lease=0.3), calls.lock("a.b", lease=0.3), calls.lock("a.c", lease=0.3)]
    for lock in locks:
        lock.acquire()
    eventually(lambda: calls.names.count("loss") == 3, "the loss is told")
    locks[1].release()
    no_thread_is_left()
    locks[0].release()
    no_thread_is_left()
    locks[2].release()
    assert calls.names == ["renewal_overdue"] * 3 + ["loss"] * 3


def test_a_lost_lock_is_not_reported_as_overdue() -> None:
    """After the loss of a lock, ``on_renewal_overdue`` is not called."""
    calls = Calls()
    outer, inner = calls.lock(lease=0.3), calls.lock("a.b", lease=0.3)
    outer.acquire()
    inner.acquire()
    break_locks("a")
    with pytest.raises(LockLost):
        Proxy("a").set("x", 1)
    inner.release()
    end = time.monotonic() + 0.5
    eventually(lambda: time.monotonic() > end, "the lease is over")
    assert calls.names == ["loss", "loss"]
    no_thread_is_left()
    outer.release()


def test_renewal_survives_the_release_of_a_lost_lock() -> None:
    """To release some of what relied on a lost lock does not end the renewal of other locks."""
    outer, inner = Lock(Pool(), "a", 0.6, renew=True), Lock(Pool(), "a.b", 0.6, renew=True)
    with Lock(Pool(), "z", expire_timeout=2, renew=True) as other:
        (first,) = other.holders()
        outer.acquire()
        inner.acquire()
        break_locks("a")
        eventually(lambda: not outer.held, "renewal finds that the lock is lost")
        inner.release()
        eventually(lambda: (other.holders()[0].until - first.until).total_seconds() > 1, "the other one is renewed")
        outer.release()
        assert other.held


def test_a_lost_lock_that_is_still_relied_on_ends_its_renewal() -> None:
    """A lost lock is renewed no more, though some of what relied on it is not released; later locks are renewed."""
    outer, inner = Lock(Pool(), "a", 0.6, renew=True), Lock(Pool(), "a.b", 0.6, renew=True)
    outer.acquire()
    inner.acquire()
    break_locks("a")
    with pytest.raises(LockLost):
        Proxy("a").set("x", 1)
    inner.release()
    no_thread_is_left()
    outer.release()
    with Lock(Pool(), "b", 2, renew=True) as lock:
        (first,) = lock.holders()
        eventually(lambda: lock.holders()[0].until > later(first), "a lock that comes later is renewed")


def test_callbacks_of_an_ended_thread_are_called() -> None:
    """The callbacks of a lock whose thread ended without a release are called, and then it is not watched any more."""
    calls = Calls()
    together(calls.lock(lease=1.5).acquire)
    gc.collect()
    eventually(lambda: calls.names == ["renewal_overdue", "loss"], "danger and loss are told")


def test_a_release_does_not_wait_for_a_callback() -> None:
    """A slow callback does not delay a release, an acquisition or a write."""
    inside, leave = threading.Event(), threading.Event()

    def dawdle(_: Lock) -> None:
        inside.set()
        leave.wait(TIMEOUT)

    with Lock(Pool(), "a", 0.3, on_renewal_overdue=dawdle):
        assert inside.wait(TIMEOUT)
    with Lock(Pool(), "a", 30, on_renewal_overdue=dawdle):
        Proxy("a").set("x", 1)
    assert not leave.is_set()
    leave.set()


def test_a_reply_that_was_lost_does_not_leave_the_lock_behind() -> None:
    """A renewal that the store applied, and whose reply was lost, does not hold the lock after its release."""
    store, calls = meddler(), Calls()
    lock = calls.lock(lease=0.6)
    lock.acquire()
    store.fails, store.applies = lambda _: True, True
    with pytest.raises(StoreError):
        lock.extend(60)
    store.fails = lambda _: False
    eventually(lambda: calls.names == ["renewal_overdue", "loss"], "by the clock of this process it is lost")
    lock.release()
    nothing_is_left()


def test_a_thread_that_cannot_be_started_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """If there can be no thread for the renewal, acquiring raises and nothing is held; later it works."""

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    lock = Lock(Pool(), "a", 2, renew=True)

    def acquire_in_vain() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_thread)
            with pytest.raises(RuntimeError, match="can't start"):
                lock.acquire()
        assert not lock.held

    with Somebody() as ben:
        ben.does(bool)
        ben.does(acquire_in_vain)
        nothing_is_left()
    with lock:
        (first,) = lock.holders()
        eventually(lambda: lock.holders()[0].until > later(first), "it is renewed")


def test_a_release_that_fails_ends_the_renewal(any_store: Store) -> None:
    """When the release fails because the store cannot be reached, the lock is renewed no more, and then removed."""
    store = meddler()
    lock = Lock(Pool(), "a", 30, renew=True)
    lock.acquire()
    store.begin()
    store.fails = lambda number: number < 3
    with pytest.raises(StoreError):
        lock.release()
    assert not lock.held
    with pytest.raises(NotHeld):
        lock.release()
    nothing_is_left()
