"""Lock retention: an owner reacquires a contended lock at once without a request.

The clock stands still unless a test moves it, and tests run the checks of the background thread.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Final

import pytest

from redicts import Conflict, Lock, NotHeld, Pool, Proxy, WrongField
from redicts.backends.memory import MemoryBackend
from redicts.contract.forked import ForkedChild
from redicts.core.minitransaction import Delete, Key, Scope, Transaction
from redicts.locks import owner as owner_module
from redicts.locks import retention as retention_module
from redicts.locks.exit_callbacks import before_exit
from redicts.locks.held import RetentionWindow
from redicts.locks.manager import current
from redicts.locks.retention import Retention
from redicts.locks.scheduler import Scheduler
from tests.locks.locking import Meddler, Somebody, in_store, meddler, no_thread_is_left, nothing_is_left, waiting
from tests.support.servers import RedisServer
from tests.support.stores import Store, together
from tests.support.waiting import TIMEOUT, eventually

WINDOW: Final = 0.005
SOON: Final = 0.001


class RetainingOwner(Somebody):
    """A lock owner that reacquires its lock at once, on a clock that stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__("anna")
        self.now = time.monotonic()
        self.watched: dict[RetentionWindow, None] = {}
        self._monkeypatch = monkeypatch
        for module in (owner_module, retention_module):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=self.clock))

    def clock(self) -> float:
        return self.now

    def _add(self, window: RetentionWindow) -> None:
        self.watched[window] = None

    def _discard(self, window: RetentionWindow) -> None:
        self.watched.pop(window, None)

    def use_pool(self) -> Meddler:
        """Make the pool's database use this clock, and count its transactions."""
        Pool().database().store.clock = self.clock
        scheduler = SimpleNamespace(add=self._add, discard=self._discard)
        self._monkeypatch.setattr(retention(), "_windows", scheduler)
        return meddler()

    def check(self) -> None:
        """Run the check of the background thread on windows that are due."""
        due = [window for window in self.watched if window.look_at <= self.now]
        if due:
            retention()._check(due)

    def reacquires(self, lock: Lock | Proxy, times: int) -> None:
        """Acquire and release an uncontended lock."""
        for _ in range(times):
            self.does(lock.acquire)
            self.does(lock.release)

    def waits(self, lock: Lock | Proxy) -> None:
        """Wait for a lock, and acquire it."""
        other = Lock(Pool(), "a")
        other.acquire()
        got = self.begins(lock.acquire)
        eventually(Lock(Pool(), "").waiters, "anna waits")
        other.release()
        assert got.result(TIMEOUT)

    def acquires_with_window(self, lock: Lock | Proxy) -> None:
        """Acquire a lock with a retention window."""
        self.reacquires(lock, 4)
        self.waits(lock)

    def retains(self, lock: Lock | Proxy) -> None:
        """Release a lock within its window, so that it is retained."""
        self.acquires_with_window(lock)
        self.does(lock.release)
        assert retained() == ["'a'"]


def retention() -> Retention:
    """Return what the process retains in the pool's database."""
    return Pool().database().locks.retention


def retained() -> list[str]:
    """Return the retained locks."""
    found = [repr(lock) for lock in retention().retained.values()]
    assert len(in_store().get("h", ())) >= len(found)
    return found


@pytest.fixture
def anna(monkeypatch: pytest.MonkeyPatch) -> Iterator[RetainingOwner]:
    """Give an owner on a memory store, and release its retained lock at the end."""
    with RetainingOwner(monkeypatch) as owner:
        owner.use_pool()
        yield owner
        Pool().database().run(retention().end())
        assert not retention().retained
        assert not retention().is_giving_back


@pytest.fixture
def store(anna: RetainingOwner) -> Meddler:
    """Give the store of the owner."""
    backend = Pool().database().backend
    assert isinstance(backend, Meddler)
    return backend


def sent(store: Meddler, what: Callable[[], object]) -> list[Transaction]:
    """Return the transactions that a call sends, in any thread."""
    store.begin()
    what()
    return list(store.transactions)


# Reacquiring


def test_reacquiring_within_the_window_sends_no_request(anna: RetainingOwner, store: Meddler) -> None:
    """Within a window, releases and acquisitions send nothing, the record stays, and each grant has a new token."""
    lock = Lock(Pool(), "a")
    anna.acquires_with_window(lock)
    before, tokens = in_store(), [anna.does(lambda: lock.token or 0)]

    def around() -> None:
        for _ in range(5):
            anna.does(lock.release)
            anna.does(lock.acquire)
            tokens.append(anna.does(lambda: lock.token or 0))

    assert not sent(store, around)
    assert in_store() == before
    assert tokens == sorted(set(tokens))
    anna.does(Proxy("a").set, "x", 1)
    anna.now += WINDOW
    anna.does(lock.release)
    assert not in_store()
    with lock:
        assert (lock.token or 0) > tokens[-1]


def test_a_proxy_retains_its_lock(anna: RetainingOwner, store: Meddler) -> None:
    """The lock of a ``Proxy`` is retained as that of a ``Lock`` is."""
    place = Proxy("a")
    anna.retains(place)
    assert not sent(store, lambda: anna.reacquires(place, 3))


def test_edits_retain_their_lock(anna: RetainingOwner, store: Meddler) -> None:
    """Within a window, an edit reads and writes under the retained lock; the first one after it releases the lock."""

    def edit() -> None:
        with Proxy("a").edit() as value:
            value["x"] = value.get("x", 0) + 1

    anna.retains(Proxy("a"))
    assert len(sent(store, lambda: anna.does(edit))) == 2
    assert len(sent(store, lambda: anna.does(edit))) == 2
    assert retained() == ["'a'"]
    assert not sent(store, lambda: anna.does(Proxy("a").acquire))
    anna.now += WINDOW
    anna.does(Proxy("a").release)
    assert not in_store()
    assert len(sent(store, lambda: anna.does(edit))) == 2
    assert not in_store()
    assert Proxy("a").val() == {"x": 3}


def test_an_edit_that_fails_releases_a_lock_that_it_would_retain(anna: RetainingOwner, store: Meddler) -> None:
    """Within a window, the lock is released in the store if the changes cannot be stored."""

    def edit() -> None:
        with Proxy("a").edit() as value:
            Proxy("a").set("x", 5)
            value["x"] = 1

    anna.retains(Proxy("a"))
    with pytest.raises(Conflict):
        anna.does(edit)
    nothing_is_left()
    assert Proxy("a").val() == {"x": 5}


def test_a_lock_on_several_paths_is_retained(anna: RetainingOwner, store: Meddler) -> None:
    """A lock on several paths is retained and reacquired as a whole, in any order of the paths."""
    lock = Lock(Pool(), "b").all(Lock(Pool(), "a"))
    anna.acquires_with_window(lock)
    assert not sent(store, lambda: anna.does(lock.release))
    assert len(in_store()["h"]) == 2
    assert not sent(store, lambda: anna.does(lock.acquire))
    anna.now += WINDOW
    anna.does(lock.release)
    assert not in_store()


def test_a_window_ends(anna: RetainingOwner, store: Meddler) -> None:
    """After the window, a release frees the lock in one request, and the next waiter gets it."""
    lock = Lock(Pool(), "a")
    anna.acquires_with_window(lock)
    with Somebody("ben") as ben:
        got = ben.begins(Lock(Pool(), "a").acquire)
        waiting(1)
        for _ in range(4):
            anna.does(lock.release)
            anna.now += WINDOW / 5
            anna.does(lock.acquire)
        assert not got.done()
        anna.now += WINDOW * 2 / 5  # not exactly its end: sums of floats depend on the uptime of the machine
        assert len(sent(store, lambda: anna.does(lock.release))) >= 1
        assert got.result(TIMEOUT)
        ben.does(Lock(Pool(), "a").release)
    assert not in_store()


def test_reacquiring_after_the_window_sends_requests(anna: RetainingOwner, store: Meddler) -> None:
    """After the window, the owner releases the retained lock and acquires it from the store."""
    lock = Lock(Pool(), "a")
    anna.retains(lock)
    anna.now += WINDOW
    assert len(sent(store, lambda: anna.does(lock.acquire))) == 2
    anna.does(lock.release)
    assert not in_store()


def test_a_window_is_limited_by_its_tokens(anna: RetainingOwner) -> None:
    """A window ends when its tokens are used up, each for one grant."""
    lock = Lock(Pool(), "a")
    anna.acquires_with_window(lock)
    tokens = {anna.does(lambda: lock.token)}
    for _ in range(retention_module._MOST):
        anna.does(lock.release)
        assert retained()
        anna.does(lock.acquire)
        tokens.add(anna.does(lambda: lock.token))
    anna.does(lock.release)
    assert not retained()
    assert len(tokens) == retention_module._MOST + 1
    with lock:
        assert lock.token == max(token or 0 for token in tokens) + 1


def test_a_lock_with_the_first_token_of_a_tree_is_not_retained(anna: RetainingOwner, store: Meddler) -> None:
    """If the store has lost its counter, no tokens are reserved: the lock has a new token and is not retained."""
    lock, other = Lock(Pool(), "a"), Lock(Pool(), "a")
    anna.reacquires(lock, 4)
    with other:
        got = anna.begins(lock.acquire)
        waiting(1)
        store.inner.execute(Transaction(writes=(Delete(Key("f", ()), Scope.BELOW),)))
    assert got.result(TIMEOUT)
    token = anna.does(lambda: lock.token or 0)
    anna.does(lock.release)
    assert not in_store()
    with other:
        assert (other.token or 0) == token + 1


# Locks that are not retained


def test_an_uncontended_lock_is_not_retained(anna: RetainingOwner, store: Meddler) -> None:
    """Without contention, each acquisition and each release is one request, and a release frees at once."""
    lock = Lock(Pool(), "a")
    anna.reacquires(lock, 1)
    for _ in range(10):
        assert len(sent(store, lambda: anna.does(lock.acquire))) == 1
        assert len(sent(store, lambda: anna.does(lock.release))) == 1
        assert not in_store()


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_lock_is_retained_only_after_three_reacquisitions(anna: RetainingOwner, times: int) -> None:
    """Without three reacquisitions at once in a row, a lock is not retained, though its owner had to wait."""
    lock = Lock(Pool(), "a")
    anna.reacquires(lock, times)
    if times == 3:
        anna.now += SOON * 1.1
    anna.waits(lock)
    anna.does(lock.release)
    assert not in_store()


def test_alternating_locks_are_not_retained(anna: RetainingOwner) -> None:
    """An owner that alternates between two locks retains neither."""
    locks = Lock(Pool(), "a"), Lock(Pool(), "b")
    for _ in range(4):
        for lock in locks:
            anna.reacquires(lock, 1)
    anna.waits(locks[0])
    anna.does(locks[0].release)
    assert not in_store()


def test_reacquisitions_are_counted_per_database(anna: RetainingOwner) -> None:
    """A lock on the same path in another store is another lock."""
    other = Lock(MemoryBackend(), "a")
    anna.reacquires(other, 4)
    lock = Lock(Pool(), "a")
    anna.waits(lock)
    anna.does(lock.release)
    assert not in_store()


NOT_RETAINED: Final[dict[str, Callable[[], Lock]]] = {
    "shared": lambda: Lock(Pool(), "a", shared=True),
    "a short lease": lambda: Lock(Pool(), "a", 0.999),
    "renewed": lambda: Lock(Pool(), "a", renew=True),
    "with a callback": lambda: Lock(Pool(), "a", on_loss=lambda _: None),
}


@pytest.mark.parametrize("make", NOT_RETAINED.values(), ids=NOT_RETAINED)
def test_some_locks_are_not_retained(anna: RetainingOwner, make: Callable[[], Lock]) -> None:
    """Shared locks, locks with a short lease, and watched ones are not retained."""
    lock = make()
    anna.acquires_with_window(lock)
    anna.does(lock.release)
    assert not in_store()


@pytest.mark.parametrize("setting", [{"mandatory_locks": True}, {"lock_retention": 0}])
def test_some_settings_disable_retention(anna: RetainingOwner, setting: dict[str, Any]) -> None:
    """With mandatory locks, or with windows of length 0, no lock is retained."""
    Pool().reload(cfg={"backend": "memory", **setting})
    anna.use_pool()
    lock = Lock(Pool(), "a")
    anna.acquires_with_window(lock)
    anna.does(lock.release)
    assert not in_store()


def test_the_length_of_a_window_is_a_setting(anna: RetainingOwner) -> None:
    """``lock_retention`` is in seconds."""
    Pool().reload(cfg={"backend": "memory", "lock_retention": 0.5})
    anna.use_pool()
    lock = Lock(Pool(), "a")
    anna.acquires_with_window(lock)
    anna.now += 0.49
    anna.does(lock.release)
    assert retained()
    anna.does(lock.acquire)
    anna.now += 0.01
    anna.does(lock.release)
    assert not in_store()


@pytest.mark.parametrize("wrong", [-0.001, 1.001, "0.1", True, None, float("nan")])
def test_a_length_that_is_not_valid_is_refused(wrong: object) -> None:
    """``lock_retention`` must be a number of seconds from 0 to 1."""
    with pytest.raises(WrongField, match="lock_retention"):
        Pool().reload(cfg={"backend": "memory", "lock_retention": wrong})
    assert Pool().settings.lock_retention == WINDOW


def test_only_the_last_release_retains(anna: RetainingOwner) -> None:
    """A lock that another acquisition relies on is held; the last release retains it."""
    outer, inner = Lock(Pool(), "a"), Lock(Pool(), "a.b")
    anna.acquires_with_window(outer)
    anna.does(inner.acquire)
    anna.does(outer.release)
    assert not retained()
    assert anna.does(lambda: inner.held)
    anna.does(inner.release)
    assert retained() == ["'a'"]


def test_a_lock_is_retained_only_with_most_of_its_lease(anna: RetainingOwner, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a reacquisition, at least nine tenths of the lease are left, however long windows are."""
    Pool().reload(cfg={"backend": "memory", "lock_retention": 1})
    anna.use_pool()
    lock = Lock(Pool(), "a", 4)
    anna.acquires_with_window(lock)
    anna.now += 0.3
    anna.does(lock.release)
    assert retained()
    anna.does(lock.acquire)
    anna.now += 0.2
    anna.does(lock.release)
    assert not in_store()


# Retained locks are released for their owner


def test_a_retained_lock_is_released_for_its_owner(anna: RetainingOwner, store: Meddler) -> None:
    """It is not held, cannot be released again, and guards no write, which succeeds even if the lock is lost."""
    lock = Lock(Pool(), "a")
    anna.retains(lock)
    assert not anna.does(lambda: lock.held)
    assert anna.does(lambda: lock.token) is None
    for call in (lock.release, lock.ensure_held, lock.extend, Proxy("a").release):
        with pytest.raises(NotHeld):
            anna.does(call)
    store.inner.execute(Transaction(writes=(Delete(Key("h", ()), Scope.BELOW),)))
    (write,) = sent(store, lambda: anna.does(Proxy("a").set, "x", 1))
    assert not write.checks or "h" not in {check.key.space for check in write.checks}
    assert Proxy("a.x").val() == 1


INSPECTIONS: Final[dict[str, Callable[[], object]]] = {
    "is_locked": lambda: Lock(Pool(), "a").is_locked(),
    "is_locked of a proxy": lambda: Proxy("a").is_locked(),
    "holders": lambda: Lock(Pool(), "").holders(),
    "waiters": lambda: Lock(Pool(), "").waiters(),
    "break_locks": lambda: Lock(Pool(), "").break_locks(),
}


@pytest.mark.parametrize("look", INSPECTIONS.values(), ids=INSPECTIONS)
def test_inspecting_locks_releases_retained_ones(anna: RetainingOwner, look: Callable[[], object]) -> None:
    """Inspecting the locks of a tree finds no retained lock, and leaves none in the store."""
    anna.retains(Lock(Pool(), "a"))
    assert not look()
    assert not in_store()


def test_an_attempt_without_waiting_finds_retained_locks_free(anna: RetainingOwner) -> None:
    """Another thread that does not wait acquires a path with a retained lock."""
    anna.retains(Lock(Pool(), "a"))
    lock = Lock(Pool(), "a.b")
    assert lock.acquire(blocking=False)
    lock.release()
    assert not in_store()


def test_inspecting_another_database_leaves_retained_locks(anna: RetainingOwner, store: Meddler) -> None:
    """Inspecting locks releases only the retained locks of the same database."""
    anna.retains(Lock(Pool(), "a"))
    assert not sent(store, Lock(MemoryBackend(), "a").holders)
    assert retained()


def test_inspecting_locks_waits_for_a_release_in_the_background(anna: RetainingOwner, store: Meddler) -> None:
    """A lock that another thread is releasing in the store is free before it is inspected."""
    anna.retains(Lock(Pool(), "a"))
    begun, go_on = threading.Event(), threading.Event()

    def hold_up(number: int) -> bool:
        if number == 0:
            begun.set()
            assert go_on.wait(TIMEOUT)
        return False

    store.begin()
    store.fails = hold_up
    anna.now += SOON
    with Somebody("worker") as worker, Somebody("ben") as ben:
        given_back = worker.begins(anna.check)
        assert begun.wait(TIMEOUT)
        looked = ben.begins(Lock(Pool(), "a").is_locked)
        assert not looked.done()
        go_on.set()
        given_back.result(TIMEOUT)
        assert looked.result(TIMEOUT) is False


# Other reasons to release a retained lock


OTHERS: Final[dict[str, Callable[[], Lock]]] = {
    "another path": lambda: Lock(Pool(), "b"),
    "above": lambda: Lock(Pool(), ""),
    "below": lambda: Lock(Pool(), "a.b"),
    "shared": lambda: Lock(Pool(), "a", shared=True),
    "a longer lease": lambda: Lock(Pool(), "a", 40),
    "a shorter lease": lambda: Lock(Pool(), "a", 20),
    "one more": lambda: Lock(Pool(), "a").all(Lock(Pool(), "b")),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_acquiring_another_lock_releases_the_retained_one(
    anna: RetainingOwner, store: Meddler, make: Callable[[], Lock]
) -> None:
    """An owner releases its retained lock before it acquires any other lock, so it never waits while it retains one."""
    anna.retains(Lock(Pool(), "a"))
    other = make()
    store.begin()
    anna.does(other.acquire)
    first, second = store.transactions
    assert [write.key.space for write in first.writes if isinstance(write, Delete)] == ["h"]
    assert not [write for write in second.writes if isinstance(write, Delete)]
    assert not retained()
    assert len(in_store()["h"]) == (2 if other.key == "a, b" else 1)
    anna.does(other.release)
    assert not in_store()


def test_releasing_another_lock_releases_the_retained_one(anna: RetainingOwner) -> None:
    """An owner retains at most one lock: the one that it released last."""
    other, lock = Lock(Pool(), "b"), Lock(Pool(), "a")
    anna.does(other.acquire)
    anna.retains(lock)
    anna.does(other.release)
    assert not in_store()


def test_retained_locks_cause_no_deadlock(anna: RetainingOwner) -> None:
    """Anna retains ``a`` and wants ``b``, ben holds ``b`` and wants ``a``: anna releases ``a``, so no cycle forms."""
    anna.retains(Lock(Pool(), "a"))
    with Somebody("ben") as ben:
        ben.does(Lock(Pool(), "b").acquire)
        got = anna.begins(Lock(Pool(), "b").acquire)
        assert ben.does(Lock(Pool(), "a").acquire)
        ben.does(Lock(Pool(), "b").release)
        assert got.result(TIMEOUT)
        ben.does(Lock(Pool(), "a").release)
    anna.does(Lock(Pool(), "b").release)
    assert not in_store()


def test_a_reload_ends_retention(anna: RetainingOwner, store: Meddler) -> None:
    """A reload releases retained locks before it closes the store; later releases there are not retained."""
    held = Lock(Pool(), "z")
    tree = Pool().database()
    anna.does(held.acquire)
    anna.retains(Lock(Pool(), "a"))
    closed: list[object] = []
    inner = store.inner
    store.close = lambda: closed.append(dict(tree.locks.retention.retained))  # type: ignore[method-assign]
    Pool().reload(cfg={"backend": "memory"})
    assert closed == [{}]
    assert [path[0] for path in in_store(tree)["h"]] == ["/z"]
    assert tree.locks.retention.seconds == 0
    inner.close()


# The background thread


def test_the_background_thread_releases_after_a_millisecond(anna: RetainingOwner) -> None:
    """If its owner does not reacquire it, a retained lock is released after a millisecond, and a waiter gets it."""
    lock = Lock(Pool(), "a")
    anna.acquires_with_window(lock)
    with Somebody("ben") as ben:
        got = ben.begins(Lock(Pool(), "a").acquire)
        waiting(1)
        anna.does(lock.release)
        anna.now += SOON * 0.9
        anna.check()
        assert retained()
        anna.does(lock.acquire)
        anna.does(lock.release)
        anna.now += SOON * 0.9
        anna.check()
        assert not got.done()
        assert retained()
        anna.now += SOON * 0.2
        anna.check()
        assert got.result(TIMEOUT)
        assert not anna.watched
        ben.does(Lock(Pool(), "a").release)
    assert not in_store()


def test_the_background_thread_checks_a_window_once_a_millisecond(anna: RetainingOwner) -> None:
    """The thread is notified once per window, and each check schedules the next one."""
    lock = Lock(Pool(), "a")
    anna.retains(lock)
    (window,) = anna.watched
    checks = 0
    while anna.watched:
        anna.does(lock.acquire)
        anna.now += SOON / 10
        anna.does(lock.release)
        if window.look_at <= anna.now:
            checks += 1
            anna.check()
            assert not anna.watched or window.look_at >= anna.now + SOON * 0.8
    assert checks <= WINDOW / SOON * 1.5
    assert not in_store()


def test_a_window_that_is_over_is_not_watched(anna: RetainingOwner) -> None:
    """If the owner holds the lock beyond its window, the background thread has nothing more to do."""
    lock = Lock(Pool(), "a")
    anna.retains(lock)
    anna.does(lock.acquire)
    for _ in range(6):
        anna.now += SOON
        anna.check()
    assert not anna.watched
    assert anna.does(lambda: lock.held)
    anna.does(lock.release)
    assert not in_store()


def test_an_unused_retention_resets_the_count(anna: RetainingOwner) -> None:
    """After a retention without a reacquisition, the owner must reacquire three times in a row again."""
    lock = Lock(Pool(), "a")
    anna.retains(lock)
    anna.now += SOON * 1.1
    anna.check()
    anna.waits(lock)
    anna.does(lock.release)
    assert not in_store()


def test_the_background_thread_exits_after_the_last_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real thread and clock, a retained lock is released, and the thread exits."""
    with monkeypatch.context() as patch, RetainingOwner(patch) as anna:
        anna.use_pool()
        anna.acquires_with_window(Lock(Pool(), "a"))
        patch.undo()
        anna.does(Lock(Pool(), "a").release)
        nothing_is_left()
    no_thread_is_left()


def test_the_background_thread_stays_between_windows() -> None:
    """One thread handles the items of the idle time; none is started for each."""
    threads: list[threading.Thread] = []
    handled = threading.Semaphore(0)

    def handle(items: list[str]) -> None:
        threads.append(threading.current_thread())
        for item in items:
            worker.discard(item)
        handled.release()

    worker: Scheduler[str] = Scheduler("stays", lambda _: 0.0, handle, stays=TIMEOUT)
    for item in ("first", "second", "third"):
        worker.add(item)
        assert handled.acquire(timeout=TIMEOUT)
    assert len(set(threads)) == 1


# Failures


def test_a_failed_release_of_a_retained_lock_is_repeated(
    anna: RetainingOwner, store: Meddler, caplog: pytest.LogCaptureFixture
) -> None:
    """If the store fails while a retained lock is released, nothing is raised, and it is released later."""
    caplog.set_level(logging.INFO, "redicts.locks")
    for give_back in (anna.check, Lock(Pool(), "a").holders, lambda: anna.does(Lock(Pool(), "b").acquire)):
        anna.retains(Lock(Pool(), "a"))
        anna.now += SOON
        store.begin()
        store.fails = lambda number: number == 0
        give_back()
        assert store.failed == 1
        store.fails = lambda _: False
        if anna.does(lambda: Lock(Pool(), "b").held):
            anna.does(Lock(Pool(), "b").release)
        nothing_is_left()
        anna.now += SOON
    assert not caplog.records


def test_ctrl_c_during_the_release_of_a_retained_lock_leaves_nothing(anna: RetainingOwner, store: Meddler) -> None:
    """The interruption is raised, and the lock is released later, also if another lock is acquired or retained."""

    def interrupt(number: int) -> bool:
        if number == 0:
            raise KeyboardInterrupt
        return False

    for place in ("b", "a.b"):
        anna.retains(Lock(Pool(), "a"))
        store.begin()
        store.fails = interrupt
        with pytest.raises(KeyboardInterrupt):
            anna.does(Lock(Pool(), place).acquire)
        store.fails = lambda _: False
        nothing_is_left()
    other, lock = Lock(Pool(), "b"), Lock(Pool(), "a")
    anna.does(other.acquire)
    anna.retains(lock)
    store.begin()
    store.fails = interrupt
    with pytest.raises(KeyboardInterrupt):
        anna.does(other.release)
    store.fails = lambda _: False
    nothing_is_left()


def test_without_a_background_thread_no_lock_is_retained(anna: RetainingOwner, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no thread can be started to release it in time, a lock is not retained."""

    def refuse(_window: RetentionWindow) -> None:
        raise RuntimeError("can't start new thread")

    lock = Lock(Pool(), "a")
    anna.acquires_with_window(lock)
    monkeypatch.setattr(retention()._windows, "add", refuse)
    anna.does(lock.release)
    assert not in_store()


def test_losing_a_retained_lock_logs_nothing(
    anna: RetainingOwner, store: Meddler, caplog: pytest.LogCaptureFixture
) -> None:
    """An owner that released in time is not warned about a later loss, and the next owner is not affected."""
    caplog.set_level(logging.INFO, "redicts.locks")
    anna.retains(Lock(Pool(), "a"))
    store.inner.execute(Transaction(writes=(Delete(Key("h", ()), Scope.BELOW),)))
    with Somebody("ben") as ben:
        ben.does(Lock(Pool(), "a").acquire)
        anna.now += SOON
        anna.check()
        assert len(in_store()["h"]) == 1
        ben.does(Lock(Pool(), "a").release)
    assert not caplog.records


def test_a_lost_lock_is_not_retained(anna: RetainingOwner, caplog: pytest.LogCaptureFixture) -> None:
    """The release of a lock that is lost logs a warning, as without retention."""
    lock = Lock(Pool(), "a")
    anna.acquires_with_window(lock)
    acquired = anna.does(lambda: current(*lock._releases()))
    assert acquired is not None
    Pool().database().locks.renewal.lose(acquired.lock)
    anna.does(lock.release)
    assert "was lost before it was released" in caplog.text
    assert not in_store()


def test_reacquiring_after_the_lease_sends_requests(anna: RetainingOwner, store: Meddler) -> None:
    """A process that was stopped right after its release does not reacquire a lock whose lease is over."""
    lock = Lock(Pool(), "a", 2)
    anna.retains(lock)
    anna.now += 60
    assert len(sent(store, lambda: anna.does(lock.acquire))) == 2
    anna.does(lock.release)


# Exit of a process


def test_retained_locks_are_released_at_exit(anna: RetainingOwner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a process ends, its retained locks are released, and none is retained after that."""
    monkeypatch.setattr(retention(), "_can_retain", True)
    lock = Lock(Pool(), "a")
    anna.retains(lock)
    retention().end_all()
    assert not in_store()
    anna.acquires_with_window(lock)
    anna.does(lock.release)
    assert not in_store()


LAST: Final = """
import multiprocessing, sys, threading
from redicts import Pool, Proxy
from redicts.locks import owner, retention as module

retention = None

def work(end):
    place = Proxy("a", lock_acquire_timeout=60)
    while not retention.retained:
        with place:
            place["n"].add(1)
    print("retained", flush=True)
    end()

owner.AT_ONCE_SECS = module.AT_ONCE_SECS = 10  # longer than the process runs, so that only its exit releases the lock
Pool().reload(cfg={{**{configuration!r}, "lock_retention": 1}})
retention = Pool().database().locks.retention
{how}
"""

ENDS: Final = {
    "in order": "work(int)",
    "by an exit": "work(sys.exit)",
    "by an error": "work(lambda: 1 / 0)",
    "with its last thread": "threading.Thread(target=work, args=(int,)).start()",
    "forked": "p = multiprocessing.get_context('fork').Process(target=work, args=(int,)); p.start(); p.join()",
}


@pytest.mark.parametrize("how", ENDS.values(), ids=ENDS)
def test_a_process_that_ends_right_after_its_release_leaves_nothing(server: RedisServer, how: str) -> None:
    """A process that ends in order releases its retained lock before."""
    configuration = {"backend": "redis", "host": server.host, "port": server.port}
    Pool().reload(cfg={**configuration, "lock_retention": 0})
    stop = threading.Event()

    def rival() -> None:
        while not stop.is_set():
            with Lock(Pool(), "a", acquire_timeout=60):
                pass

    with Somebody("ben") as ben:
        rivals = ben.begins(rival)
        try:
            program = LAST.format(configuration=configuration, how=how)
            command = [sys.executable, "-c", program]
            ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, text=True)
            assert ended.stdout == "retained\n"
        finally:
            stop.set()
        rivals.result(TIMEOUT)  # less than the lease
    nothing_is_left()


COUNTING: Final = """
import sys
from redicts import Pool, Proxy
Pool().reload(cfg={configuration!r})
place = Proxy("a", lock_acquire_timeout=60)
sys.stdin.readline()
for _ in range({rounds}):
    with place:
        token = place.lock().token
        assert place.get("token").val(0) < token
        place.update({{"n": place.get("n").val(0) + 1, "token": token}})
"""


def test_processes_under_contention_lose_no_count(server: RedisServer) -> None:
    """Processes that read and write under one lock as fast as they can lose no count, and no token is granted twice."""
    configuration = {"backend": "redis", "host": server.host, "port": server.port}
    Pool().reload(cfg=configuration)
    command = [sys.executable, "-c", COUNTING.format(configuration=configuration, rounds=300)]
    with contextlib.ExitStack() as running:
        counting = [
            running.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(3)
        ]
        for process in counting:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in counting:
            process.wait(4 * TIMEOUT)
            assert process.returncode == 0
    assert Proxy("a.n").val() == 900
    nothing_is_left()


def test_threads_under_contention_lose_no_count(any_store: Store) -> None:
    """On every store, threads that read and write under one lock lose no count, and tokens increase."""
    place = Proxy("a", lock_acquire_timeout=60)

    def count() -> None:
        for _ in range(50):
            with place:
                token = place.lock().token or 0
                assert place.get("token").val(0) < token
                place.update({"n": place.get("n").val(0) + 1, "token": token})

    together(count, count, count)
    assert place.get("n").val() == 150
    nothing_is_left()


def test_a_forked_child_retains_nothing(anna: RetainingOwner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child has no retained lock of its parent, and retains none, because it may end without exit callbacks."""
    anna.retains(Lock(Pool(), "a"))

    def child() -> None:
        assert not retention().retained
        assert in_store()
        assert not before_exit(lambda: None)

    with ForkedChild(child, TIMEOUT) as running:
        running.finish()
    assert retained()
