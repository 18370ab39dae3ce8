"""Failures around a lock: exceptions in blocks, a failing store, Ctrl-C, and replaced settings."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from redicts import (
    Deadlock,
    Lock,
    LockLost,
    LockTimeout,
    NotHeld,
    Pool,
    Proxy,
    StoreError,
    Unreachable,
)
from redicts.core.listener import Listener
from redicts.core.minitransaction import Delete, Key, Scope, Transaction
from redicts.locks import owner
from tests.locks.locking import Meddler, Somebody, break_locks, in_store, meddler, nothing_is_left, try_lock, waiting
from tests.support.stores import Store, together
from tests.support.waiting import TIMEOUT, eventually


@pytest.fixture(autouse=True)
def fresh_owner() -> Iterator[None]:
    """Let no test inherit what another one failed to release."""
    yield
    owner._renew_after_fork()


# Blocks


class Ours(Exception):
    """What the body of a block raises."""


def test_a_block_that_raises_releases(any_store: Store) -> None:
    """However a ``with`` block ends, its lock is released, and its error passed on."""
    for error in (Ours(), KeyboardInterrupt(), SystemExit(), GeneratorExit()):
        for lock in (Proxy("a"), Lock(Pool(), "a"), Lock(Pool(), "a").all(Lock(Pool(), "b"))):
            with pytest.raises(type(error)) as raised, lock:
                raise error
            assert raised.value is error
            assert not in_store()


def test_a_failing_release_does_not_hide_the_error_of_the_block(
    any_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """If the store fails at the end of a block that raised, the block's error is the one that is seen."""
    caplog.set_level(logging.WARNING, "redicts.locks")
    store = meddler()
    for lock in (Proxy("a"), Lock(Pool(), "a")):
        caplog.clear()
        with pytest.raises(Ours), lock:  # noqa: PT012
            store.begin()
            store.fails = lambda number: number < 1
            raise Ours
        assert "could not be released" in caplog.text
        nothing_is_left()


def test_a_release_of_what_the_block_released_does_not_hide_its_error() -> None:
    """A block that released its lock itself and then raised is left with its own error."""
    for place in (Proxy("a"), Lock(Pool(), "a")):
        with pytest.raises(Ours), place:  # noqa: PT012
            place.release()
            raise Ours


def test_a_failing_release_is_raised_by_a_block_that_did_not(any_store: Store) -> None:
    """If the block went well, that its lock could not be released is raised."""
    store = meddler()
    with pytest.raises(Unreachable), Proxy("a"):  # noqa: PT012
        store.begin()
        store.fails = lambda number: number < 1
    nothing_is_left()


def test_a_loss_in_a_block_does_not_hide_its_error(any_store: Store) -> None:
    """A block that lost its lock and raised is left with its own error."""
    with pytest.raises(Ours), Proxy("a"):  # noqa: PT012
        break_locks("a")
        raise Ours
    with pytest.raises(LockLost), Proxy("a") as place:  # noqa: PT012
        break_locks("a")
        place.set("x", 1)
    assert not in_store()


def test_a_timeout_between_nested_blocks_releases_the_outer_ones(any_store: Store) -> None:
    """When an inner lock cannot be had in time, the outer ones are released as the error passes."""
    with Somebody() as ben, Proxy("c"):

        def work() -> None:
            inner = Lock(Pool(), "c", acquire_timeout=0.05)
            with Proxy("a"), Lock(Pool(), "b", shared=True), inner, Proxy("d"):
                raise AssertionError("the lock on 'c' is not free")

        with pytest.raises(LockTimeout):
            ben.does(work)
        assert [path[0] for path in in_store()["h"]] == ["/c"]
        with pytest.raises(NotHeld):
            ben.does(Proxy("a").release)


def test_what_is_refused_leaves_what_is_held(any_store: Store) -> None:
    """A failed attempt changes nothing about the locks that the thread holds already."""
    with Somebody() as ben, Proxy("c"):

        def work() -> None:
            with Proxy("a") as place:
                with pytest.raises(LockTimeout):
                    Lock(Pool(), "c", acquire_timeout=0.05).acquire()
                place.set("x", 1)
                assert Lock(Pool(), "a").held

        ben.does(work)


# A store that fails

Scenario = Callable[[], None]


def alone() -> None:
    """Acquire a free lock and release it."""
    with Lock(Pool(), "a"):
        Proxy("a").set("x", 1)


def several() -> None:
    """Acquire several places together."""
    with Lock(Pool(), "a").all(Lock(Pool(), "b.c")):
        pass


def nested() -> None:
    """Acquire a place, a longer lease of it, and what is above it."""
    with Lock(Pool(), "a.b", 20), Lock(Pool(), "a.b.c", 25), Lock(Pool(), "a"):
        pass


def upgrade() -> None:
    """Share a place, and then hold it exclusively."""
    with Lock(Pool(), "a", shared=True), Lock(Pool(), "a"):
        pass


def in_vain() -> None:
    """Try to get what somebody else holds, without waiting."""
    with Lock(Pool(), "a"):
        assert not Lock(Pool(), "held.by.another").acquire(blocking=False)


def too_late() -> None:
    """Wait for what somebody else holds until the time is over."""
    with pytest.raises(LockTimeout):
        Lock(Pool(), "held.by.another", acquire_timeout=0.02).acquire()


SCENARIOS: list[Scenario] = [alone, several, nested, upgrade, in_vain, too_late]


def waits_or_is_done(future: Future[None]) -> None:
    """Wait until somebody waits for a lock, or what was begun has ended."""
    eventually(lambda: future.done() or in_store().get("w"), "somebody waits, or has failed")


def forget_tokens() -> None:
    """Let the next lock be the first one of its tree."""
    Pool().database().backend.execute(Transaction(writes=(Delete(Key("f", ()), Scope.BELOW),)))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_store_that_fails_once_leaves_nothing(any_store: Store, scenario: Scenario) -> None:
    """Whichever transaction fails, before or after it was applied, known or not, no lock and no waiter is left."""
    with Somebody("ben") as ben, Somebody("anna") as anna:
        for applies, maybe_applied in ((False, False), (False, True), (True, True)):
            for failing in range(40):
                anna.does(Lock(Pool(), "held").acquire)
                forget_tokens()
                store = meddler()
                thread = ben.does(threading.get_ident)
                store.victim = lambda thread=thread: threading.get_ident() == thread  # type: ignore[misc]
                store.applies, store.maybe_applied = applies, maybe_applied
                store.fails = lambda number, failing=failing: number == failing  # type: ignore[misc]
                try:
                    ben.does(scenario)
                except StoreError:
                    assert store.failed
                Pool().database().backend = store.inner
                anna.does(Lock(Pool(), "held").release)
                nothing_is_left()
                if not store.failed:
                    break
            else:
                raise AssertionError("this scenario has no end")
            assert failing >= 2, "hardly anything was tried"


def test_a_store_that_fails_for_a_while_leaves_nothing(any_store: Store) -> None:
    """If the store fails several times in a row, what may be left is removed as soon as it can be reached."""
    for scenario in (alone, several, upgrade):
        for applies in (False, True):
            for failing in range(6):
                forget_tokens()
                store = meddler()
                store.applies = applies
                store.fails = lambda number, first=failing: first <= number < first + 3  # type: ignore[misc]
                try:
                    scenario()
                except StoreError:
                    assert store.failed
                Pool().database().backend = store.inner
                nothing_is_left()


def test_a_store_that_fails_while_waiting_leaves_nothing(any_store: Store) -> None:
    """Whichever transaction of a waiter fails, nothing is left, and later waiters get the lock."""
    with Somebody("ben") as ben:
        for applies in (False, True):
            for failing in range(12):
                store = meddler()
                thread = ben.does(threading.get_ident)
                store.victim = lambda thread=thread: threading.get_ident() == thread  # type: ignore[misc]
                store.applies = applies
                store.fails = lambda number, failing=failing: number == failing  # type: ignore[misc]
                with Proxy("a"):
                    got = ben.begins(alone)
                    waits_or_is_done(got)
                error = got.exception(TIMEOUT)
                assert error is None or isinstance(error, StoreError)
                Pool().database().backend = store.inner
                nothing_is_left()
                assert try_lock("a")
                if not store.failed:
                    break
            assert failing >= 4, "hardly anything was tried"


def test_the_first_error_is_the_one_that_is_raised(any_store: Store) -> None:
    """What went wrong first is raised, not what went wrong when cleaning up after it."""
    store = meddler()

    def fail(number: int) -> bool:
        if number:
            raise Unreachable("the store is still away")
        return True

    store.fails = fail
    with pytest.raises(Unreachable, match="cannot be reached"):
        Proxy("a").acquire()
    assert store.count >= 2
    store.fails = lambda _: False
    nothing_is_left()


# Ctrl-C


class Interrupted(Listener):
    """A listener during whose wait somebody presses Ctrl-C, the second time that it waits."""

    def __init__(self, inner: Listener) -> None:
        self._inner = inner
        self._waits = 0

    def wait(self, seconds: float, /) -> bool:
        self._waits += 1
        if self._waits > 1:
            raise KeyboardInterrupt
        return True

    def close(self) -> None:
        self._inner.close()


def test_ctrl_c_while_waiting_leaves_nothing(any_store: Store) -> None:
    """An interrupted waiter leaves the queue at once; later waiters wait only for the owner."""
    store = meddler()
    with Somebody("ben") as ben, Somebody("cleo") as cleo:
        with Proxy("a.b"):
            before = in_store()
            store.hear = Interrupted
            with pytest.raises(KeyboardInterrupt):
                ben.does(Proxy("a").acquire)
            assert in_store() == before
            store.hear = lambda listener: listener
            assert cleo.does(try_lock, "a.c")
            with pytest.raises(NotHeld):
                ben.does(Proxy("a").release)
        assert ben.does(try_lock, "a")
    assert not in_store()


def test_ctrl_c_at_any_transaction_leaves_nothing(any_store: Store) -> None:
    """An interruption during whichever transaction of an acquisition or a release leaves nothing."""
    with Somebody("ben") as ben:
        thread = ben.does(threading.get_ident)
        for applies in (False, True):
            for failing in range(12):
                forget_tokens()
                store = meddler()
                store.victim = lambda: threading.get_ident() == thread

                def interrupt(
                    number: int, failing: int = failing, applies: bool = applies, store: Meddler = store
                ) -> bool:
                    if number != failing:
                        return False
                    if applies:
                        store.inner.execute(store.transactions[-1])
                    store.failed += 1
                    raise KeyboardInterrupt

                store.fails = interrupt
                with Proxy("a"):
                    got = ben.begins(alone)
                    waits_or_is_done(got)
                error = got.exception(TIMEOUT)
                assert error is None or isinstance(error, KeyboardInterrupt)
                Pool().database().backend = store.inner
                nothing_is_left()
                if not store.failed:
                    break
            assert failing >= 4, "hardly anything was tried"


# Settings that are replaced


def test_a_held_lock_is_released_in_the_store_before_a_reload(any_store: Store) -> None:
    """After a reload, a held lock is released in the old store, and new locks are in the new one."""
    place, lock = Proxy("a"), Lock(Pool(), "b")
    with Somebody() as ben:
        place.acquire()
        lock.acquire()
        old = Pool().database()
        any_store.reload(default=1)
        new = Pool().database()
        assert new is not old
        assert len(in_store(old)["h"]) == 2
        assert not place.is_locked()
        assert not lock.is_locked()
        assert ben.does(try_lock, "a")
        ben.does(place.set, "x", 1)
        assert place.acquire(blocking=False)
        assert not ben.does(try_lock, "a")
        place.set("x", 2)
        place.release()
        assert ben.does(try_lock, "a")
        assert len(in_store(old)["h"]) == 2
        place.release()
        lock.release()
        assert not in_store(old)
        assert not in_store(new)
        with pytest.raises(NotHeld):
            place.release()
        old.backend.close()
        Proxy("a").clear()


def test_a_waiter_during_a_reload_gets_the_lock_of_the_old_store(any_store: Store) -> None:
    """A waiter gets the lock in the old store, and releases it there."""
    with Somebody() as ben:
        Proxy("a").acquire()
        got = ben.begins(Proxy("a").acquire)
        waiting(1)
        old = Pool().database()
        any_store.reload(default=1)
        Proxy("a").release()
        assert got.result(TIMEOUT)
        assert in_store(old)
        ben.does(Proxy("a").release)
        assert not in_store(old)
        old.backend.close()


def test_a_renewed_lock_outlives_its_settings() -> None:
    """A lock that is renewed is so in the old store, after a reload."""
    lock = Lock(Pool(), "a", 2, renew=True)
    lock.acquire()
    old = Pool().database()
    Pool().reload(cfg={"backend": "memory"})
    there = Lock(old.backend, "a")
    (first,) = there.holders()
    assert lock.held
    eventually(lambda: (there.holders()[0].until - first.until).total_seconds() > 1, "it is renewed twice")
    lock.release()
    assert not in_store(old)


def test_a_deadlock_leaves_nothing_but_held_locks() -> None:
    """Of two upgraders at full speed one fails, every time, and nothing is left."""
    ready = threading.Barrier(2)

    def work() -> str:
        with Lock(Pool(), "a", shared=True):
            ready.wait(TIMEOUT)
            try:
                with Lock(Pool(), "a", acquire_timeout=None):
                    return "got it"
            except Deadlock:
                return "deadlock"

    assert sorted(together(work, work)) == ["deadlock", "got it"]
    nothing_is_left()
