"""Writes that do not see what an earlier one of their transaction did to their key."""

from __future__ import annotations

from collections.abc import Callable

from redicts.core.minitransaction import (
    Add,
    Delete,
    Entries,
    Expire,
    Key,
    Notify,
    Outcome,
    Put,
    Read,
    Scope,
    Transaction,
    Write,
)
from tests.contract.broken.register import broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import HeldLocks, PlainBackend, Spaces


@broken_store("pairs.each_write_sees_the_one_before", alone=True)
class AddsCountOnAfterANotify(PlainBackend):
    """An Add counts on from a value with a TTL that a Notify of the same transaction has deleted."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.cleared: dict[Key, HeldLocks] = {}

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        self.cleared = {}
        return super().decide(transaction, now)

    def clear(self, spaces: Spaces, write: Notify, now: float) -> None:
        for path, held in self.found(spaces, write.key, write.scope, now, "Notify").items():
            if held.deadline is not None:
                self.cleared[Key(write.key.space, write.key.path + path)] = held
        super().clear(spaces, write, now)

    def old(self, spaces: Spaces, key: Key, now: float, what: str) -> HeldLocks | None:
        held = super().old(spaces, key, now, what)
        return self.cleared.get(key) if held is None and what == "Add" else held


@broken_store("pairs.each_write_sees_the_one_before")
class ExpireSeesOnlyWhatWasThere(PlainBackend):
    """Expire of a scope sets the TTL of the values that were there before the transaction."""

    def expire(self, spaces: Spaces, write: Expire, now: float) -> None:
        before = self.found(self.spaces, write.key, write.scope, now, "Expire")
        for relative in self.found(spaces, write.key, write.scope, now, "Expire"):
            if relative in before or write.scope is Scope.NODE:
                super().expire(spaces, Expire(_below(write.key, relative), Scope.NODE, write.ttl), now)


def _below(key: Key, relative: tuple[str, ...]) -> Key:
    return Key(key.space, key.path + relative)


@broken_shared_store("pairs.each_write_sees_the_one_before")
class AddsAreSummedUpFirst(OnSqlite):
    """The sums of all Adds are computed in one read before the writes, so they miss what earlier writes do."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        keys = list(dict.fromkeys(write.key for write in transaction.writes if isinstance(write, Add)))
        if not keys:
            return super().execute(transaction)
        answers = super().execute(Transaction(reads=tuple(map(Read, keys)))).answers
        values = [answer.values.get(()) for answer in answers if isinstance(answer, Entries)]
        if not all(value is None or value.isdigit() for value in values):
            return super().execute(transaction)
        sums = {key: int(value or 0) for key, value in zip(keys, values)}
        writes: list[Write] = []
        counters: list[int] = []
        for write in transaction.writes:
            if isinstance(write, Add):
                sums[write.key] += write.amount
                counters.append(sums[write.key])
                writes.append(Put(write.key, b"%d" % sums[write.key], keep_ttl=True))
            else:
                writes.append(write)
        outcome = super().execute(transaction._replace(writes=tuple(writes)))
        return outcome._replace(counters=tuple(counters)) if outcome.applied else outcome


@broken_shared_store("pairs.each_write_sees_the_one_before")
class DeletesOfScopesComeFirst(OnSqlite):
    """Deletes of whole scopes are carried out before all other writes, because that needs fewer statements."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        writes = transaction.writes
        first = [write for write in writes if isinstance(write, Delete) and write.scope is not Scope.NODE]
        rest = [write for write in writes if write not in first]
        return super().execute(transaction._replace(writes=(*first, *rest)))
