"""Stores that show one thing and hold another."""

from __future__ import annotations

from collections.abc import Callable

from redicts.core.minitransaction import Entries, Key, Outcome, Read, Scope, Transaction
from tests.contract.broken.register import broken_store
from tests.contract.reference_model import PlainBackend, Spaces


@broken_store("raw.what_is_written_lies_in_the_store", alone=True)
class WrittenOneTransactionLate(PlainBackend):
    """What a transaction writes reaches the store with the next one; until then it lies with the backend."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.written: Spaces = {}

    def execute(self, transaction: Transaction, /) -> Outcome:
        self.written = self.spaces
        return super().execute(transaction)

    def lying(self) -> Spaces:
        return self.written


@broken_store("raw.what_lies_in_the_store_is_read", alone=True)
class AnsweredFromMemory(PlainBackend):
    """A value that was read is answered again from memory, until this backend writes something."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.remembered: dict[Key, Entries] = {}

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if transaction.writes:
            self.remembered = {}
        return outcome

    def entries(self, read: Read, now: float) -> Entries:
        if read.scope is not Scope.NODE or read.ttls:
            return super().entries(read, now)
        answer = self.remembered.get(read.key) or super().entries(read, now)
        self.remembered[read.key] = answer
        return Entries(dict(answer.values))
