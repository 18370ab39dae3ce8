"""Turns: an owner that comes back at once to a lock that others want has it again; when it does not, nobody notices.

The clock stands still unless a test moves it, and the background thread looks when it is told to.
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

from redicts import Lock, NotHeld, Pool, Proxy, WrongField
from redicts.backends.memory import MemoryBackend
from redicts.contract.forked import ForkedChild
from redicts.core.minitransaction import Delete, Key, Scope, Transaction
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

TURN: Final = 0.005
SOON: Final = 0.001


class Stage:
    """An owner, anna, who comes back again and again, on a clock that stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, anna: Somebody) -> None:
        self.now = time.monotonic()
        self.anna = anna
        self.watched: dict[RetentionWindow, None] = {}
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(retention_module, "time", SimpleNamespace(monotonic=self.clock))

    def clock(self) -> float:
        return self.now

    def _add(self, window: RetentionWindow) -> None:
        self.watched[window] = None

    def _discard(self, window: RetentionWindow) -> None:
        self.watched.pop(window, None)

    def opened(self) -> Meddler:
        """Let what the pool has opened live by this clock, and count its transactions."""
        Pool().database().store.clock = self.clock
        scheduler = SimpleNamespace(add=self._add, discard=self._discard)
        self._monkeypatch.setattr(retention(), "_windows", scheduler)
        return meddler()

    def look(self) -> None:
        """Let the background thread look at what is due."""
        due = [turn for turn in self.watched if turn.look_at <= self.now]
        if due:
            retention()._check(due)

    def comes_back(self, lock: Lock | Proxy, times: int) -> None:
        """Let anna acquire and release a lock that nobody else wants."""
        for _ in range(times):
            self.anna.does(lock.acquire)
            self.anna.does(lock.release)

    def waits(self, lock: Lock | Proxy) -> None:
        """Let anna wait for a lock, and get it."""
        other = Lock(Pool(), "a")
        other.acquire()
        got = self.anna.begins(lock.acquire)
        eventually(Lock(Pool(), "").waiters, "anna waits")
        other.release()
        assert got.result(TIMEOUT)

    def in_turn(self, lock: Lock | Proxy) -> None:
        """Let anna hold a lock in a turn of hers."""
        self.comes_back(lock, 4)
        self.waits(lock)

    def keeps(self, lock: Lock | Proxy) -> None:
        """Let anna have released a lock in a turn of hers."""
        self.in_turn(lock)
        self.anna.does(lock.release)
        assert kept() == ["'a'"]


def retention() -> Retention:
    """Return what the process retains in the pool's database."""
    return Pool().database().locks.retention


def kept() -> list[str]:
    """Return what owners retain that is still held in the store."""
    found = [repr(lock) for lock in retention().retained.values()]
    assert len(in_store().get("h", ())) >= len(found)
    return found


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Give a stage on a memory store; whatever is kept at the end is given back."""
    with Somebody("anna") as anna:
        made = Stage(monkeypatch, anna)
        made.opened()
        yield made
        Pool().database().run(retention().end())
        assert not retention().retained
        assert not retention().is_giving_back


@pytest.fixture
def store(stage: Stage) -> Meddler:
    """Give the store of the stage."""
    backend = Pool().database().backend
    assert isinstance(backend, Meddler)
    return backend


def sent(store: Meddler, what: Callable[[], object]) -> list[Transaction]:
    """Return the transactions that something sends, of whatever thread."""
    store.begin()
    what()
    return list(store.transactions)


# Coming back


def test_who_comes_back_within_a_turn_asks_nobody(stage: Stage, store: Meddler) -> None:
    """Releases and acquisitions in a turn send nothing; the record in the store stays, and each token is a new one."""
    lock = Lock(Pool(), "a")
    stage.in_turn(lock)
    before, tokens = in_store(), [stage.anna.does(lambda: lock.token or 0)]

    def around() -> None:
        for _ in range(5):
            stage.anna.does(lock.release)
            stage.anna.does(lock.acquire)
            tokens.append(stage.anna.does(lambda: lock.token or 0))

    assert not sent(store, around)
    assert in_store() == before
    assert tokens == sorted(set(tokens))
    stage.anna.does(Proxy("a").set, "x", 1)
    stage.now += TURN
    stage.anna.does(lock.release)
    assert not in_store()
    with lock:
        assert (lock.token or 0) > tokens[-1]


def test_a_proxy_has_turns_too(stage: Stage, store: Meddler) -> None:
    """A ``Proxy`` is locked and released in turns as a ``Lock`` is."""
    place = Proxy("a")
    stage.keeps(place)
    assert not sent(store, lambda: stage.comes_back(place, 3))


def test_several_places_at_once_have_turns_too(stage: Stage, store: Meddler) -> None:
    """A lock on several places is kept and taken back as a whole, in whatever order they were named."""
    lock = Lock(Pool(), "b").all(Lock(Pool(), "a"))
    stage.in_turn(lock)
    assert not sent(store, lambda: stage.anna.does(lock.release))
    assert len(in_store()["h"]) == 2
    assert not sent(store, lambda: stage.anna.does(lock.acquire))
    stage.now += TURN
    stage.anna.does(lock.release)
    assert not in_store()


def test_a_turn_ends(stage: Stage, store: Meddler) -> None:
    """When its time is over the lock is given back by its release, in one request, and the next in line has it."""
    lock = Lock(Pool(), "a")
    stage.in_turn(lock)
    with Somebody("ben") as ben:
        got = ben.begins(Lock(Pool(), "a").acquire)
        waiting(1)
        for _ in range(4):
            stage.anna.does(lock.release)
            stage.now += TURN / 5
            stage.anna.does(lock.acquire)
        assert not got.done()
        stage.now += TURN * 2 / 5  # not exactly its end: sums of floats depend on the uptime of the machine
        assert len(sent(store, lambda: stage.anna.does(lock.release))) >= 1
        assert got.result(TIMEOUT)
        ben.does(Lock(Pool(), "a").release)
    assert not in_store()


def test_who_comes_back_when_the_turn_is_over_queues(stage: Stage, store: Meddler) -> None:
    """What was kept in time is given back if its owner comes back too late, and then asked for like anything."""
    lock = Lock(Pool(), "a")
    stage.keeps(lock)
    stage.now += TURN
    assert len(sent(store, lambda: stage.anna.does(lock.acquire))) == 2
    stage.anna.does(lock.release)
    assert not in_store()


def test_a_turn_has_an_end_by_number(stage: Stage) -> None:
    """Nobody comes back more often than there are tokens for it, and each of them is used once."""
    lock = Lock(Pool(), "a")
    stage.in_turn(lock)
    tokens = {stage.anna.does(lambda: lock.token)}
    for _ in range(retention_module._MOST):
        stage.anna.does(lock.release)
        assert kept()
        stage.anna.does(lock.acquire)
        tokens.add(stage.anna.does(lambda: lock.token))
    stage.anna.does(lock.release)
    assert not kept()
    assert len(tokens) == retention_module._MOST + 1
    with lock:
        assert lock.token == max(token or 0 for token in tokens) + 1


def test_a_lock_with_the_first_token_of_a_tree_has_no_turn(stage: Stage, store: Meddler) -> None:
    """If the store has forgotten its tokens, none were set aside: the lock has a new one, and is given back."""
    lock, other = Lock(Pool(), "a"), Lock(Pool(), "a")
    stage.comes_back(lock, 4)
    with other:
        got = stage.anna.begins(lock.acquire)
        waiting(1)
        store.inner.execute(Transaction(writes=(Delete(Key("f", ()), Scope.BELOW),)))
    assert got.result(TIMEOUT)
    token = stage.anna.does(lambda: lock.token or 0)
    stage.anna.does(lock.release)
    assert not in_store()
    with other:
        assert (other.token or 0) == token + 1


# What is not kept


def test_a_lock_that_nobody_else_wants_is_never_kept(stage: Stage, store: Meddler) -> None:
    """Without contention each acquisition is one request and each release another, and a release frees at once."""
    lock = Lock(Pool(), "a")
    stage.comes_back(lock, 1)
    for _ in range(10):
        assert len(sent(store, lambda: stage.anna.does(lock.acquire))) == 1
        assert len(sent(store, lambda: stage.anna.does(lock.release))) == 1
        assert not in_store()


@pytest.mark.parametrize("times", [0, 1, 3])
def test_who_does_not_come_back_is_not_waited_for(stage: Stage, times: int) -> None:
    """Who has not come back at once three times in a row gives the lock back, though he had to wait for it."""
    lock = Lock(Pool(), "a")
    stage.comes_back(lock, times)
    if times == 3:
        stage.now += SOON * 1.1
    stage.waits(lock)
    stage.anna.does(lock.release)
    assert not in_store()


def test_who_goes_on_with_another_lock_has_no_habit(stage: Stage) -> None:
    """Two locks in turn are no habit of either."""
    locks = Lock(Pool(), "a"), Lock(Pool(), "b")
    for _ in range(4):
        for lock in locks:
            stage.comes_back(lock, 1)
    stage.waits(locks[0])
    stage.anna.does(locks[0].release)
    assert not in_store()


def test_the_habit_is_one_of_one_store(stage: Stage) -> None:
    """The same path in another store is another lock."""
    other = Lock(MemoryBackend(), "a")
    stage.comes_back(other, 4)
    lock = Lock(Pool(), "a")
    stage.waits(lock)
    stage.anna.does(lock.release)
    assert not in_store()


UNKEPT: Final[dict[str, Callable[[], Lock]]] = {
    "shared": lambda: Lock(Pool(), "a", shared=True),
    "a short lease": lambda: Lock(Pool(), "a", 0.999),
    "renewed": lambda: Lock(Pool(), "a", renew=True),
    "with an alarm": lambda: Lock(Pool(), "a", on_loss=lambda _: None),
}


@pytest.mark.parametrize("make", UNKEPT.values(), ids=UNKEPT)
def test_some_locks_have_no_turns(stage: Stage, make: Callable[[], Lock]) -> None:
    """Shared locks, those with a short lease, and watched ones are given back by their release."""
    lock = make()
    stage.in_turn(lock)
    stage.anna.does(lock.release)
    assert not in_store()


@pytest.mark.parametrize("setting", [{"mandatory_locks": True}, {"lock_retention": 0}])
def test_some_settings_allow_no_turns(stage: Stage, setting: dict[str, Any]) -> None:
    """With mandatory locks, or with turns of no length, every release gives back."""
    Pool().reload(cfg={"backend": "memory", **setting})
    stage.opened()
    lock = Lock(Pool(), "a")
    stage.in_turn(lock)
    stage.anna.does(lock.release)
    assert not in_store()


def test_a_turn_is_as_long_as_the_settings_say(stage: Stage) -> None:
    """``lock_retention`` is in seconds."""
    Pool().reload(cfg={"backend": "memory", "lock_retention": 0.5})
    stage.opened()
    lock = Lock(Pool(), "a")
    stage.in_turn(lock)
    stage.now += 0.49
    stage.anna.does(lock.release)
    assert kept()
    stage.anna.does(lock.acquire)
    stage.now += 0.01
    stage.anna.does(lock.release)
    assert not in_store()


@pytest.mark.parametrize("wrong", [-0.001, 1.001, "0.1", True, None, float("nan")])
def test_a_wrong_length_is_refused(wrong: object) -> None:
    """A turn is a number of seconds from 0 to 1."""
    with pytest.raises(WrongField, match="lock_retention"):
        Pool().reload(cfg={"backend": "memory", "lock_retention": wrong})
    assert Pool().settings.lock_retention == TURN


def test_what_somebody_relies_on_is_not_kept(stage: Stage) -> None:
    """An inner release does nothing; the last one keeps."""
    outer, inner = Lock(Pool(), "a"), Lock(Pool(), "a.b")
    stage.in_turn(outer)
    stage.anna.does(inner.acquire)
    stage.anna.does(outer.release)
    assert not kept()
    assert stage.anna.does(lambda: inner.held)
    stage.anna.does(inner.release)
    assert kept() == ["'a'"]


def test_a_lock_is_kept_only_with_most_of_its_lease(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has come back has nine tenths of the lease left at least, however long turns are."""
    Pool().reload(cfg={"backend": "memory", "lock_retention": 1})
    stage.opened()
    lock = Lock(Pool(), "a", 4)
    stage.in_turn(lock)
    stage.now += 0.3
    stage.anna.does(lock.release)
    assert kept()
    stage.anna.does(lock.acquire)
    stage.now += 0.2
    stage.anna.does(lock.release)
    assert not in_store()


# What is kept is released


def test_what_is_kept_is_released_as_far_as_its_owner_can_tell(stage: Stage, store: Meddler) -> None:
    """It is not held, cannot be released twice, and guards no write, which succeeds though the lock be lost."""
    lock = Lock(Pool(), "a")
    stage.keeps(lock)
    assert not stage.anna.does(lambda: lock.held)
    assert stage.anna.does(lambda: lock.token) is None
    for call in (lock.release, lock.ensure_held, lock.extend, Proxy("a").release):
        with pytest.raises(NotHeld):
            stage.anna.does(call)
    store.inner.execute(Transaction(writes=(Delete(Key("h", ()), Scope.BELOW),)))
    (write,) = sent(store, lambda: stage.anna.does(Proxy("a").set, "x", 1))
    assert not write.checks or "h" not in {check.key.space for check in write.checks}
    assert Proxy("a.x").val() == 1


LOOKS: Final[dict[str, Callable[[], object]]] = {
    "is_locked": lambda: Lock(Pool(), "a").is_locked(),
    "is_locked of a proxy": lambda: Proxy("a").is_locked(),
    "holders": lambda: Lock(Pool(), "").holders(),
    "waiters": lambda: Lock(Pool(), "").waiters(),
    "break_locks": lambda: Lock(Pool(), "").break_locks(),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_nobody_in_this_process_sees_what_is_kept(stage: Stage, look: Callable[[], object]) -> None:
    """Whoever looks at the locks of a tree finds none that was released, and none is left in the store."""
    stage.keeps(Lock(Pool(), "a"))
    assert not look()
    assert not in_store()


def test_who_tries_in_this_process_finds_free_what_is_kept(stage: Stage) -> None:
    """Another thread that tries without waiting gets what was released."""
    stage.keeps(Lock(Pool(), "a"))
    lock = Lock(Pool(), "a.b")
    assert lock.acquire(blocking=False)
    lock.release()
    assert not in_store()


def test_looking_at_another_store_leaves_what_is_kept(stage: Stage, store: Meddler) -> None:
    """Only what is kept in the same tree is given back by a look."""
    stage.keeps(Lock(Pool(), "a"))
    assert not sent(store, Lock(MemoryBackend(), "a").holders)
    assert kept()


def test_a_look_waits_for_what_is_being_given_back(stage: Stage, store: Meddler) -> None:
    """What another thread has in hand to give back is free before a look sees it."""
    stage.keeps(Lock(Pool(), "a"))
    begun, go_on = threading.Event(), threading.Event()

    def hold_up(number: int) -> bool:
        if number == 0:
            begun.set()
            assert go_on.wait(TIMEOUT)
        return False

    store.begin()
    store.fails = hold_up
    stage.now += SOON
    with Somebody("worker") as worker, Somebody("ben") as ben:
        given_back = worker.begins(stage.look)
        assert begun.wait(TIMEOUT)
        looked = ben.begins(Lock(Pool(), "a").is_locked)
        assert not looked.done()
        go_on.set()
        given_back.result(TIMEOUT)
        assert looked.result(TIMEOUT) is False


# What else gives back


OTHERS: Final[dict[str, Callable[[], Lock]]] = {
    "another place": lambda: Lock(Pool(), "b"),
    "above": lambda: Lock(Pool(), ""),
    "below": lambda: Lock(Pool(), "a.b"),
    "shared": lambda: Lock(Pool(), "a", shared=True),
    "a longer lease": lambda: Lock(Pool(), "a", 40),
    "a shorter lease": lambda: Lock(Pool(), "a", 20),
    "one more": lambda: Lock(Pool(), "a").all(Lock(Pool(), "b")),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_who_asks_for_something_else_keeps_nothing(stage: Stage, store: Meddler, make: Callable[[], Lock]) -> None:
    """Before an owner asks for any other lock it gives back what it keeps, so it never waits while it keeps."""
    stage.keeps(Lock(Pool(), "a"))
    other = make()
    store.begin()
    stage.anna.does(other.acquire)
    first, second = store.transactions
    assert not first.checks
    assert [write.key.space for write in first.writes if isinstance(write, Delete)] == ["h"]
    assert second.checks
    assert not kept()
    assert len(in_store()["h"]) == (2 if other.key == "a, b" else 1)
    stage.anna.does(other.release)
    assert not in_store()


def test_who_releases_something_else_keeps_nothing(stage: Stage) -> None:
    """An owner keeps one lock at most, the one that it released last."""
    other, lock = Lock(Pool(), "b"), Lock(Pool(), "a")
    stage.anna.does(other.acquire)
    stage.keeps(lock)
    stage.anna.does(other.release)
    assert not in_store()


def test_two_who_keep_and_want_what_the_other_keeps_do_not_lock_each_other_out(stage: Stage) -> None:
    """Anna, who keeps ``a``, and ben, who holds ``b``, want each other's: anna gives back, so there is no circle."""
    stage.keeps(Lock(Pool(), "a"))
    with Somebody("ben") as ben:
        ben.does(Lock(Pool(), "b").acquire)
        got = stage.anna.begins(Lock(Pool(), "b").acquire)
        assert ben.does(Lock(Pool(), "a").acquire)
        ben.does(Lock(Pool(), "b").release)
        assert got.result(TIMEOUT)
        ben.does(Lock(Pool(), "a").release)
    stage.anna.does(Lock(Pool(), "b").release)
    assert not in_store()


def test_settings_that_are_replaced_keep_nothing(stage: Stage, store: Meddler) -> None:
    """A reload gives back what is kept, before it closes the store; and what is released there later is given back."""
    held = Lock(Pool(), "z")
    tree = Pool().database()
    stage.anna.does(held.acquire)
    stage.keeps(Lock(Pool(), "a"))
    closed: list[object] = []
    inner = store.inner
    store.close = lambda: closed.append(dict(tree.locks.retention.retained))  # type: ignore[method-assign]
    Pool().reload(cfg={"backend": "memory"})
    assert closed == [{}]
    assert [path[0] for path in in_store(tree)["h"]] == ["/z"]
    assert tree.locks.retention.seconds == 0
    inner.close()


# The background


def test_what_its_owner_does_not_come_back_to_is_given_back(stage: Stage) -> None:
    """After a millisecond, and not before, the background thread gives back; who waits has the lock."""
    lock = Lock(Pool(), "a")
    stage.in_turn(lock)
    with Somebody("ben") as ben:
        got = ben.begins(Lock(Pool(), "a").acquire)
        waiting(1)
        stage.anna.does(lock.release)
        stage.now += SOON * 0.9
        stage.look()
        assert kept()
        stage.anna.does(lock.acquire)
        stage.anna.does(lock.release)
        stage.now += SOON * 0.9
        stage.look()
        assert not got.done()
        assert kept()
        stage.now += SOON * 0.2
        stage.look()
        assert got.result(TIMEOUT)
        assert not stage.watched
        ben.does(Lock(Pool(), "a").release)
    assert not in_store()


def test_the_background_looks_once_a_millisecond_while_a_turn_lasts(stage: Stage) -> None:
    """However often the owner comes back, the thread is told once per turn, and each look puts off the next one."""
    lock = Lock(Pool(), "a")
    stage.keeps(lock)
    (turn,) = stage.watched
    looks = 0
    while stage.watched:
        stage.anna.does(lock.acquire)
        stage.now += SOON / 10
        stage.anna.does(lock.release)
        if turn.look_at <= stage.now:
            looks += 1
            stage.look()
            assert not stage.watched or turn.look_at >= stage.now + SOON * 0.8
    assert looks <= TURN / SOON * 1.5
    assert not in_store()


def test_a_turn_that_is_over_is_watched_no_more(stage: Stage) -> None:
    """If the owner holds the lock beyond its turn, the background thread has nothing more to do."""
    lock = Lock(Pool(), "a")
    stage.keeps(lock)
    stage.anna.does(lock.acquire)
    for _ in range(6):
        stage.now += SOON
        stage.look()
    assert not stage.watched
    assert stage.anna.does(lambda: lock.held)
    stage.anna.does(lock.release)
    assert not in_store()


def test_a_turn_that_runs_out_unused_ends_the_habit(stage: Stage) -> None:
    """Who was waited for in vain is waited for again only after it has come back three times."""
    lock = Lock(Pool(), "a")
    stage.keeps(lock)
    stage.now += SOON * 1.1
    stage.look()
    stage.waits(lock)
    stage.anna.does(lock.release)
    assert not in_store()


def test_no_thread_is_left_after_the_last_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real thread and the real clock, what is kept is given back by itself, and the thread ends."""
    with Somebody("anna") as anna:
        with monkeypatch.context() as patch:
            stage = Stage(patch, anna)
            stage.opened()
            stage.in_turn(Lock(Pool(), "a"))
        anna.does(Lock(Pool(), "a").release)
        nothing_is_left()
    no_thread_is_left()


def test_the_thread_stays_between_turns() -> None:
    """One thread handles what comes soon after the last item; none is started for each."""
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


# When things go wrong


def test_what_cannot_be_given_back_is_so_later(stage: Stage, store: Meddler, caplog: pytest.LogCaptureFixture) -> None:
    """A store that fails while something is given back is nobody's trouble: it is tried again, nothing is raised."""
    caplog.set_level(logging.INFO, "redicts.locks")
    for give_back in (stage.look, Lock(Pool(), "a").holders, lambda: stage.anna.does(Lock(Pool(), "b").acquire)):
        stage.keeps(Lock(Pool(), "a"))
        stage.now += SOON
        store.begin()
        store.fails = lambda number: number == 0
        give_back()
        assert store.failed == 1
        store.fails = lambda _: False
        if stage.anna.does(lambda: Lock(Pool(), "b").held):
            stage.anna.does(Lock(Pool(), "b").release)
        nothing_is_left()
        stage.now += SOON
    assert not caplog.records


def test_ctrl_c_while_something_is_given_back_leaves_nothing(stage: Stage, store: Meddler) -> None:
    """An interruption passes, and what was to be given back is so later; also if it was to make room for another."""

    def interrupt(number: int) -> bool:
        if number == 0:
            raise KeyboardInterrupt
        return False

    for place in ("b", "a.b"):
        stage.keeps(Lock(Pool(), "a"))
        store.begin()
        store.fails = interrupt
        with pytest.raises(KeyboardInterrupt):
            stage.anna.does(Lock(Pool(), place).acquire)
        store.fails = lambda _: False
        nothing_is_left()
    other, lock = Lock(Pool(), "b"), Lock(Pool(), "a")
    stage.anna.does(other.acquire)
    stage.keeps(lock)
    store.begin()
    store.fails = interrupt
    with pytest.raises(KeyboardInterrupt):
        stage.anna.does(other.release)
    store.fails = lambda _: False
    nothing_is_left()


def test_where_no_thread_can_be_started_nothing_is_kept(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nobody could give it back in time, a lock is given back by its release."""

    def refuse(_window: RetentionWindow) -> None:
        raise RuntimeError("can't start new thread")

    lock = Lock(Pool(), "a")
    stage.in_turn(lock)
    monkeypatch.setattr(retention()._windows, "add", refuse)
    stage.anna.does(lock.release)
    assert not in_store()


def test_a_lock_that_was_lost_while_it_was_kept_is_not_told_of(
    stage: Stage, store: Meddler, caplog: pytest.LogCaptureFixture
) -> None:
    """Who released in time is not warned that the lock was broken afterwards; and harms nobody who has it now."""
    caplog.set_level(logging.INFO, "redicts.locks")
    stage.keeps(Lock(Pool(), "a"))
    store.inner.execute(Transaction(writes=(Delete(Key("h", ()), Scope.BELOW),)))
    with Somebody("ben") as ben:
        ben.does(Lock(Pool(), "a").acquire)
        stage.now += SOON
        stage.look()
        assert len(in_store()["h"]) == 1
        ben.does(Lock(Pool(), "a").release)
    assert not caplog.records


def test_a_lock_that_was_lost_before_its_release_is_not_kept(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Who knows already that the lock is lost is warned by its release, as without turns."""
    lock = Lock(Pool(), "a")
    stage.in_turn(lock)
    acquired = stage.anna.does(lambda: current(lock._location, lock._paths))
    assert acquired is not None
    Pool().database().locks.renewal.lose(acquired.lock)
    stage.anna.does(lock.release)
    assert "was lost before it was released" in caplog.text
    assert not in_store()


def test_who_comes_back_after_the_lease_asks_the_store(stage: Stage, store: Meddler) -> None:
    """A process that was stopped right after its release does not take back what has run out meanwhile."""
    lock = Lock(Pool(), "a", 2)
    stage.keeps(lock)
    stage.now += 60
    assert len(sent(store, lambda: stage.anna.does(lock.acquire))) == 2
    stage.anna.does(lock.release)


# The end of a process


def test_at_the_end_of_a_process_everything_is_given_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the process ends what is kept is given back, and nothing is kept any more."""
    monkeypatch.setattr(retention(), "_can_retain", True)
    lock = Lock(Pool(), "a")
    stage.keeps(lock)
    retention().end_all()
    assert not in_store()
    stage.in_turn(lock)
    stage.anna.does(lock.release)
    assert not in_store()


LAST: Final = """
import multiprocessing, sys, threading
from redicts import Pool, Proxy
from redicts.locks import retention as module

retention = None

def work(end):
    place = Proxy("a", lock_acquire_timeout=60)
    while not retention.retained:
        with place:
            place["n"].add(1)
    print("kept", flush=True)
    end()

module._SOON_SECS = 10  # no machine is so slow that the background gives back before the end
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
    """However a process ends in order, with something kept at that moment, it gives that back before."""
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
            assert ended.stdout == "kept\n"
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


def test_processes_that_count_in_turns_lose_nothing(server: RedisServer) -> None:
    """Processes that read and write under one lock as fast as they can lose no count, and no token comes twice."""
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


def test_threads_that_count_in_turns_lose_nothing(any_store: Store) -> None:
    """On every store, threads that read and write under one lock lose no count, and tokens rise."""
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


def test_a_forked_child_keeps_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child has nothing of what its parent keeps, and since it may end without a word it keeps nothing itself."""
    stage.keeps(Lock(Pool(), "a"))

    def child() -> None:
        assert not retention().retained
        assert in_store()
        assert not before_exit(lambda: None)

    with ForkedChild(child, TIMEOUT) as running:
        running.finish()
    assert kept()
