"""Waits and deadlines that are too long or too short for what they are passed to."""

from __future__ import annotations

import math
import select
import threading
import time
from collections.abc import Callable

from redicts.core.listener import Listener
from redicts.core.minitransaction import Outcome, Path, Transaction
from redicts.errors import StoreTimeout
from tests.contract.broken.register import broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import ChangeListener, DictBackend, DictListener, PlainBackend


class _Unlimited(DictListener):
    def wait(self, seconds: float, /) -> bool:
        with self.store.bell:
            notified = self.store.bell.wait_for(lambda: self.called, max(0.0, seconds))
            self.called = False
        return notified


@broken_store("waits.any_wait_is_a_wait", alone=True)
class WaitsOverflow(PlainBackend):
    """The seconds of a wait are passed on as they are, and a lock waits for three hundred years at most."""

    def listen(self, name: str, /) -> Listener:
        return _Unlimited(self, name.encode())


class _Milliseconds(DictListener):
    def wait(self, seconds: float, /) -> bool:
        if seconds == math.inf:
            return super().wait(seconds)
        milliseconds = (int(seconds * 1000) + 2**31) % 2**32 - 2**31
        return super().wait(milliseconds / 1000)


@broken_store("waits.any_wait_is_a_wait")
class WaitsAreMillisecondsOf32Bits(PlainBackend):
    """The milliseconds of a wait are kept in 32 bits with a sign, and a month overflows."""

    def listen(self, name: str, /) -> Listener:
        return _Milliseconds(self, name.encode())


class _Negative(DictListener):
    def wait(self, seconds: float, /) -> bool:
        time.sleep(min(seconds, 0.0))
        return super().wait(seconds)


@broken_store("waits.any_wait_is_a_wait")
class NegativeWaitsFail(PlainBackend):
    """A wait whose time is over raises an error."""

    def listen(self, name: str, /) -> Listener:
        return _Negative(self, name.encode())


class _Selecting(Listener):
    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def wait(self, seconds: float, /) -> bool:
        if seconds > 0 and not self.listener.wait(0):
            select.select([], [], [], 0 if seconds < 1e10 else seconds)
            return self.listener.wait(seconds)
        return seconds > 0

    def close(self) -> None:
        self.listener.close()


@broken_shared_store("waits.any_wait_is_a_wait")
class LongWaitsAreNotSelected(OnSqlite):
    """The seconds of a long wait are passed to ``select``, which refuses infinity."""

    def listen(self, name: str, /) -> Listener:
        return _Selecting(super().listen(name))


@broken_store("waits.any_deadline_is_a_deadline", alone=True)
class DeadlinesOverflow(PlainBackend):
    """The time until a deadline is passed to a lock, which takes none that is negative or longer than 300 years."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.own = threading.Lock()

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        if not self.own.acquire(timeout=deadline - time.monotonic()):
            raise StoreTimeout("the store is in use")
        try:
            return self.execute(transaction)
        finally:
            self.own.release()


@broken_store("waits.any_deadline_is_a_deadline")
class DeadlinesAreLookedAtTooLate(PlainBackend):
    """A call whose deadline is over raises, but writes before."""

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        outcome = self.execute(transaction)
        if time.monotonic() >= deadline:
            raise StoreTimeout("the deadline is over")
        return outcome


@broken_shared_store("waits.any_deadline_is_a_deadline")
class DeadlinesAreMillisecondsOfADatabase(OnSqlite):
    """The time until a deadline is made whole milliseconds of 64 bits, which infinity is not."""

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        if int((deadline - time.monotonic()) * 1000) <= 0:
            raise StoreTimeout("the deadline is over")
        return self.execute(transaction)


@broken_store("waits.any_deadline_is_a_deadline")
class LongDeadlinesForListenersAreOver(PlainBackend):
    """A listener with a deadline that is not a number of seconds is never called."""

    def listen_until(self, name: str, deadline: float, /) -> Listener:
        return self.listen(name) if deadline < math.inf else DictListener(DictBackend(self.clock), name.encode())


class _LimitedChanges(ChangeListener):
    def wait(self, seconds: float, /) -> bool:
        with self.store.bell:
            notified = self.store.bell.wait_for(lambda: self.called, 0) or self.store.bell.wait(seconds)
            self.called = False
        return notified


@broken_store("waits.any_wait_is_a_wait", alone=True)
class WaitsForChangesOverflow(DictBackend):
    """The seconds of a wait for changes are passed to a lock, which takes none that is longer than 300 years."""

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        return _LimitedChanges(self, name.encode("ascii"), path)


class _SelectingChanges(Listener):
    """A listener whose wait passes its seconds to ``select`` first."""

    def __init__(self, inner: Listener) -> None:
        self.inner = inner

    def wait(self, seconds: float, /) -> bool:
        if not self.inner.wait(0.0):
            select.select([], [], [], min(seconds, 0.001))
            return self.inner.wait(seconds)
        return True

    def close(self) -> None:
        self.inner.close()


@broken_shared_store("waits.any_wait_is_a_wait", alone=True)
class WaitsForChangesAreSelected(OnSqlite):
    """The seconds of a wait for changes are passed to ``select``, which refuses negative ones."""

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        return _SelectingChanges(self.store.listen_to_changes(name, path))
