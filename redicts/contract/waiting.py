"""Waiting for locks step by step: acquisitions that a check lets go on in whatever order it likes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from redicts.contract.check import require, shortened
from redicts.contract.clock import ManualClock
from redicts.contract.fixture import LONG, Fixture
from redicts.contract.locking import UNHURRIED, Locker, lock_spaces
from redicts.core.driver import Await
from redicts.core.driver import Request as Asked
from redicts.core.locks.acquisition import Grant, Timing
from redicts.core.locks.records import WAITERS, Record, records_in
from redicts.core.minitransaction import Entries, Outcome, Path, Put, Transaction

if TYPE_CHECKING:
    from typing_extensions import Self


class Waiter:
    """One acquisition that goes on only when it is told to: it waits for nobody, and nobody has to wake it.

    ``grant`` is set once it has the lock, ``error`` once it has failed. ``calls`` is what it has sent to the store.
    """

    def __init__(self, locker: Locker, *paths: Path, shared: bool = False, timeout: float | None = None) -> None:
        self.locker: Final = locker
        self.request: Final = locker.request(*paths, shared=shared)
        self.calls: Final[list[tuple[Transaction, Outcome]]] = []
        self.grant: Grant | None = None
        self.error: BaseException | None = None
        self._steps: Final = locker.protocol.acquire(self.request, LONG, timeout, list(locker.own))
        self._asked: Asked | None = None
        self._advance(lambda: next(self._steps))

    @property
    def done(self) -> bool:
        """Whether it has ended, in one way or the other."""
        return self._asked is None

    def go(self, calls: int = 1_000) -> Self:
        """Go on until it waits or has ended, or was answered so many times by the store."""
        for _ in range(calls):
            while self._asked is not None and not isinstance(self._asked, (Transaction, Await)):
                self._advance(lambda: self._steps.send(None))
            if not isinstance(self._asked, Transaction):
                return self
            self._call(self._asked)
        require(calls < 1_000, f"an attempt to lock {shortened(self.request.paths)} goes on and on without waiting")
        return self

    def look(self) -> Self:
        """Look for itself, as whoever is notified does, and go on until it waits again or has ended."""
        if isinstance(self._asked, Await):
            self._advance(lambda: self._steps.send(None))
        return self.go()

    def interrupt(self, error: BaseException) -> None:
        """Be interrupted by an error where it is, and tidy up."""
        self._advance(lambda: self._steps.throw(error))
        self.go()

    def die(self) -> None:
        """End where it is without tidying up, as a process does that is killed."""
        self._steps.close()
        self._asked = None

    @property
    def ticket(self) -> set[str]:
        """The names of the requests that it found waiting when it queued."""
        for transaction, outcome in self.calls:
            if any(isinstance(write, Put) and write.key.space == WAITERS for write in transaction.writes):
                return {record.request for record in _waiting_among(transaction, outcome)} - {self.request.name}
        return set()

    def _call(self, transaction: Transaction) -> None:
        try:
            outcome = self.locker.execute(transaction)
        except BaseException as error:
            thrown = error
            self._advance(lambda: self._steps.throw(thrown))
            return
        self.calls.append((transaction, outcome))
        self._advance(lambda: self._steps.send(outcome))

    def _advance(self, advance: Callable[[], Asked]) -> None:
        try:
            self._asked = advance()
        except StopIteration as stop:
            self._asked = None
            self.grant = stop.value
            if self.grant is not None:
                self.locker.own.append(self.request)
        except BaseException as error:
            self._asked = None
            self.error = error


def stepping(fixture: Fixture, count: int, timing: Timing = UNHURRIED) -> tuple[list[Locker], ManualClock]:
    """Return owners for :class:`Waiter`, in one tree, on two clients in turn, and the clock by which they wait."""
    clock, spaces, clients = ManualClock(1000.0), lock_spaces(fixture), (fixture.store, fixture.client())
    return [Locker(clients[number % 2], spaces, clock, timing) for number in range(count)], clock


def _waiting_among(transaction: Transaction, outcome: Outcome) -> Iterable[Record]:
    for read, answer in zip(transaction.reads, outcome.answers):
        if read.key.space == WAITERS and isinstance(answer, Entries):
            yield from records_in(read.key, answer)
