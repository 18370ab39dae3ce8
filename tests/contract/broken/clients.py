"""Clients that do not see each other, or disturb each other when they leave."""

from __future__ import annotations

import threading

from redicts.contract import SharedBackend
from redicts.core.backend import Backend
from redicts.core.minitransaction import (
    Add,
    Answer,
    AnyRead,
    Delete,
    Entries,
    Outcome,
    Put,
    Read,
    ReadNames,
    Status,
    Transaction,
    Write,
)
from redicts.errors import StoreError
from tests.contract.broken.register import broken_client
from tests.contract.broken.rendezvous import wait_until
from tests.contract.reference_model import DictBackend, PlainBackend


@broken_client("clients.writes_are_seen_at_once", of=DictBackend)
class ReadsAreCached(SharedBackend):
    """A client answers a read that it has seen before as it did then, until it writes itself."""

    def __init__(self, shared: Backend) -> None:
        super().__init__(shared)
        self.cache: dict[AnyRead, Answer] = {}

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        if transaction.writes:
            self.cache.clear()
            return outcome
        fresh = zip(transaction.reads, outcome.answers)
        return outcome._replace(answers=tuple([self.cache.setdefault(read, answer) for read, answer in fresh]))


@broken_client("clients.writes_are_seen_at_once", of=DictBackend)
class WritesAreHeldBack(SharedBackend):
    """A client sends mere writes only with its next call."""

    def __init__(self, shared: Backend) -> None:
        super().__init__(shared)
        self.held: list[Write] = []

    def execute(self, transaction: Transaction, /) -> Outcome:
        if transaction.writes and all(isinstance(write, (Put, Delete)) for write in transaction.writes):
            self.held += transaction.writes
            return Outcome(Status.APPLIED)
        held, self.held = self.held, []
        super().execute(Transaction(writes=tuple(held)))
        return super().execute(transaction)


@broken_client("clients.ttls_are_seen_by_all", of=PlainBackend, alone=True)
class TTLsAreTheClientsOwn(SharedBackend):
    """A client tells only the TTLs of values that it wrote itself."""

    def __init__(self, shared: Backend) -> None:
        super().__init__(shared)
        self.written: set[tuple[str, ...]] = set()

    def execute(self, transaction: Transaction, /) -> Outcome:
        self.written |= {write.key.path for write in transaction.writes}
        outcome = super().execute(transaction)
        answers = [self.own(read, answer) for read, answer in zip(transaction.reads, outcome.answers)]
        return outcome._replace(answers=tuple(answers))

    def own(self, read: AnyRead, answer: Answer) -> Answer:
        if isinstance(read, Read) and isinstance(answer, Entries):
            ttls = {path: ttl for path, ttl in answer.ttls.items() if read.key.path + path in self.written}
            return answer._replace(ttls=ttls)
        return answer


@broken_client("clients.a_client_may_leave", of=DictBackend)
class ClosingTwiceFails(SharedBackend):
    """Closing a client a second time raises an error."""

    closed = False

    def close(self) -> None:
        if self.closed:
            raise StoreError("closed already")
        self.closed = True


@broken_client("clients.a_client_may_leave", of=DictBackend, alone=True)
class ClosingEmptiesTheStore(SharedBackend):
    """A client that leaves takes everything along."""

    def close(self) -> None:
        assert isinstance(self.shared, DictBackend)
        self.shared.spaces = {}


@broken_client("clients.calls_under_way_finish", of=DictBackend, alone=True)
class ClosingCutsCallsShort(SharedBackend):
    """A call under way fails when its client is closed."""

    closed = False

    def __init__(self, shared: Backend) -> None:
        super().__init__(shared)
        self.threads: set[int] = set()

    def execute(self, transaction: Transaction, /) -> Outcome:
        if len(transaction.writes) < 100:
            return super().execute(transaction)
        thread = threading.get_ident()
        if thread in self.threads and wait_until(lambda: self.closed, 0.5):  # not in its first call, for which all wait
            raise StoreError("closed")
        self.threads.add(thread)
        return super().execute(transaction)

    def close(self) -> None:
        self.closed = True


@broken_client("clients.writes_are_seen_at_once", of=PlainBackend)
class NamesAreCached(SharedBackend):
    """A client that lists nothing but names gets those that it listed first."""

    def __init__(self, shared: Backend) -> None:
        super().__init__(shared)
        self.known: dict[ReadNames, Answer] = {}

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        read = transaction.reads[0] if len(transaction.reads) == 1 else None
        if transaction.writes or not isinstance(read, ReadNames) or read.limit is not None:
            return outcome
        return outcome._replace(answers=(self.known.setdefault(read, outcome.answers[0]),))


@broken_client("clients.writes_are_seen_at_once", of=PlainBackend, alone=True)
class NamesAreCachedUntilAWrite(NamesAreCached):
    """A client that lists nothing but names gets those that it listed first, until it writes without counting."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if transaction.writes and not any(isinstance(write, Add) for write in transaction.writes):
            self.known.clear()
        return super().execute(transaction)
