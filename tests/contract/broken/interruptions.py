"""Stores that an exception tears or locks, or that wait for themselves when they are called in the midst of a call."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

from redicts.core.backend import Backend
from redicts.core.listener import Listener
from redicts.core.minitransaction import Key, Outcome, Status, Transaction
from redicts.errors import StoreBusy, Unreachable
from redicts.forks import ForkSafeLock
from tests.contract.broken.commits import InAFile
from tests.contract.broken.register import broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import DictListener, PlainBackend


@broken_store("interruptions.an_exception_leaves_a_transaction_whole", alone=True)
class LocksStayHeld(PlainBackend):
    """The lock of a write is released after an error, but not after an exception that is no error."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.own = {os.getpid(): threading.RLock()}

    def execute(self, transaction: Transaction, /) -> Outcome:
        if not transaction.writes:
            return super().execute(transaction)
        own = self.own.setdefault(os.getpid(), threading.RLock())
        own.acquire()
        try:
            outcome = super().execute(transaction)
        except Exception:
            own.release()
            raise
        own.release()
        return outcome


@broken_shared_store("interruptions.an_exception_leaves_a_transaction_whole")
class TheInstanceKeepsItsLock(OnSqlite):
    """After an exception, a lock stays held, which only the same instance gets again."""

    holders: Final[dict[str, Backend]] = {}

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path: Final = path

    def execute(self, transaction: Transaction, /) -> Outcome:
        deadline = time.monotonic() + 1.0
        while self.holders.setdefault(self.path, self) is not self:
            if time.monotonic() > deadline:
                raise StoreBusy("another instance has the lock")
            time.sleep(0.001)
        try:
            outcome = super().execute(transaction)
        except Exception:
            self.holders.pop(self.path, None)
            raise
        self.holders.pop(self.path, None)
        return outcome


@broken_store("interruptions.an_exception_leaves_a_transaction_whole", alone=True)
class TransactionsAreTorn(PlainBackend):
    """Writes are applied one after the other, and an exception stops between two of them."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        before = self.spaces
        outcome = super().decide(transaction, now)
        if not outcome.applied or len(transaction.writes) < 2:
            return outcome
        self.spaces = before
        for write in transaction.writes:
            super().decide(Transaction(writes=(write,)), now)
        return outcome


@broken_store("interruptions.an_exception_leaves_a_transaction_whole", alone=True)
class ExceptionsAreSwallowed(PlainBackend):
    """An exception that ends a transaction with writes is reported as a failed check."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        before = self.spaces
        try:
            return super().execute(transaction)
        except Exception:
            raise
        except BaseException:
            if not transaction.writes:
                raise
            self.spaces = before
            return Outcome(Status.CHECK_FAILED, failed_index=0)


@broken_store("interruptions.a_call_in_between_works_or_is_refused", alone=True)
class CallsWaitForThemselves(PlainBackend):
    """A lock is taken that its own thread cannot take again."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.own = {os.getpid(): threading.Lock()}

    def execute(self, transaction: Transaction, /) -> Outcome:
        with self.own.setdefault(os.getpid(), threading.Lock()):
            return super().execute(transaction)


@broken_store("interruptions.a_call_in_between_works_or_is_refused", alone=True)
class CallsInBetweenAreLost(PlainBackend):
    """A call in the midst of another one is carried out, and then overwritten by it."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        with self.lock:
            return self.decide(transaction, self.clock())


@broken_store("interruptions.a_fork_in_between_leaves_a_call_alone", alone=True)
class ForksEndTheCall(PlainBackend):
    """A fork waits for the calls of other threads, and ends the one that it interrupts."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.forks = 0
        _ended_by_forks.add(self)

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        forks = self.forks
        outcome = super().decide(transaction, now)
        if self.forks != forks:
            raise Unreachable("the connection was closed for a fork")
        return outcome


_ended_by_forks: Final[WeakSet[ForksEndTheCall]] = WeakSet()


def _end_calls() -> None:
    for store in list(_ended_by_forks):
        with store.lock:
            store.forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_end_calls)


class _Taking(DictListener):
    """Takes the names of all who are notified, and tells those of them that wait in other threads or later."""

    def wait(self, seconds: float, /) -> bool:
        store = self.store
        assert isinstance(store, OneTakesTheNamesOfAll)
        with store.bell:
            notified = store.bell.wait_for(self._is_called, min(max(0.0, seconds), threading.TIMEOUT_MAX))
            self.called = False
        return notified

    def _is_called(self) -> bool:
        store = self.store
        assert isinstance(store, OneTakesTheNamesOfAll)
        while store.messages:
            name = store.messages.pop()
            for listener in store.listeners:
                listener.called |= listener.name == name
            store.bell.notify_all()
        return self.called


@broken_store("interruptions.an_exception_in_a_wait_disturbs_no_other", alone=True)
class OneTakesTheNamesOfAll(PlainBackend):
    """One of the threads that wait takes the names of all who are notified, and forgets them at an exception."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.messages: list[bytes] = []

    def call(self, names: list[bytes]) -> None:
        with self.bell:
            self.messages += [name for name in names if any(listener.name == name for listener in self.listeners)]
            self.bell.notify_all()

    def listen(self, name: str, /) -> Listener:
        return _Taking(self, name.encode())


@broken_store("interruptions.an_exception_in_a_read_holds_nothing_up", alone=True)
class ReadsHoldTheLock(PlainBackend):
    """A transaction that only reads releases its lock at its end, and not after an exception."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.own = ForkSafeLock()

    def execute(self, transaction: Transaction, /) -> Outcome:
        if transaction.writes or transaction.checks or self.own.is_mine():
            return super().execute(transaction)
        self.own.acquire()
        outcome = super().execute(transaction)
        self.own.release()
        return outcome


@broken_shared_store("interruptions.an_exception_in_a_read_holds_nothing_up", alone=True)
class FetchesHoldTheLock(OnSqlite):
    """The fast path to a value releases its lock at its end, and not after an exception."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.own = ForkSafeLock()

    def fetch(self, key: Key, /) -> bytes | None:
        if self.own.is_mine():
            return None
        self.own.acquire()
        value = self.store.fetch(key)
        self.own.release()
        return value


@broken_shared_store("interruptions.an_exception_in_a_read_holds_nothing_up", alone=True)
class FetchesOfDocumentsHoldTheLock(OnSqlite):
    """The fast path to a document releases its lock at its end, and not after an exception."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.own = ForkSafeLock()

    def fetch_document(self, key: Key, /) -> bytes | None:
        if self.own.is_mine():
            return None
        self.own.acquire()
        text = self.store.fetch_document(key)
        self.own.release()
        return text


@broken_store("interruptions.an_exception_in_a_read_holds_nothing_up", alone=True)
class ListeningHoldsTheLock(PlainBackend):
    """``listen`` releases its lock at its end, and not after an exception."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.own = ForkSafeLock()

    def listen(self, name: str, /) -> Listener:
        self.own.acquire()
        listener = super().listen(name)
        self.own.release()
        return listener


class _Swallowing(DictListener):
    def wait(self, seconds: float, /) -> bool:
        if self.called:
            return super().wait(seconds)
        try:
            return super().wait(seconds)
        except BaseException:
            return True


@broken_store("interruptions.an_exception_in_a_wait_disturbs_no_other", alone=True)
class WaitsSwallowExceptions(PlainBackend):
    """An exception while nothing is to be told ends a wait as a notification does, and is not raised."""

    def listen(self, name: str, /) -> Listener:
        return _Swallowing(self, name.encode())


class _Sleeping(Listener):
    """Waits as it should, unless its thread waits already."""

    def __init__(self, store: WaitsInBetweenSleep, listener: Listener) -> None:
        self.store = store
        self.listener = listener

    def wait(self, seconds: float, /) -> bool:
        thread = threading.get_ident()
        if thread in self.store.waiting:
            time.sleep(seconds)
            return False
        try:
            self.store.waiting.add(thread)
            return self.listener.wait(seconds)
        finally:
            self.store.waiting.discard(thread)

    def close(self) -> None:
        self.listener.close()


@broken_shared_store("interruptions.a_wait_in_between_is_notified", alone=True)
class WaitsInBetweenSleep(OnSqlite):
    """A wait in the midst of another one of its thread relies on that one to look."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.waiting: Final[set[int]] = set()

    def listen(self, name: str, /) -> Listener:
        return _Sleeping(self, super().listen(name))


@broken_shared_store("interruptions.a_call_in_between_works_or_is_refused")
class EachInstanceHasALock(InAFile):
    """A call in the midst of one by another instance for the same file waits for its own thread."""

    def lock_of_thread(self) -> ForkSafeLock:
        return ForkSafeLock()
