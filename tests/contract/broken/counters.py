"""Counters that take what is none, or count wrongly."""

from __future__ import annotations

from redicts.core.minitransaction import Add, Delete, Key, Outcome, Put, Scope, Status, Transaction, Write
from tests.contract.broken.register import broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import DictBackend, HeldLocks, PlainBackend, Refused, Spaces


@broken_store("counters.add_counts_from_nothing", alone=True)
class AbsentCountersStayAbsent(DictBackend):
    """Adding 0 to an absent counter leaves it absent."""

    def add(self, spaces: Spaces, write: Add, now: float) -> int:
        if write.amount == 0 and self.old(spaces, write.key, now, "Add") is None:
            return 0
        return super().add(spaces, write, now)


@broken_store("counters.add_counts_on", alone=True)
class PositiveCountersHaveASign(DictBackend):
    """The text of a sum is not canonical once it had been negative."""

    def add(self, spaces: Spaces, write: Add, now: float) -> int:
        old = self.old(spaces, write.key, now, "Add")
        total = super().add(spaces, write, now)
        if old is not None and old.value.startswith(b"-") and total >= 0:
            super().put(spaces, Put(write.key, b"+%d" % total, keep_ttl=True), now)
        return total


@broken_store("counters.add_counts_on")
class CountersAreFloats(DictBackend):
    """Sums are made with floating point numbers."""

    def sum(self, value: bytes, amount: int) -> int:
        total = super().sum(value, amount)
        return int(float(int(value)) + amount) if abs(total) < 2**62 else total


@broken_store("notifications.answers_and_counters_are_those_of_the_others")
class OneSumPerKey(DictBackend):
    """All Adds to one key are told the last sum."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        keys = [write.key for write in transaction.writes if isinstance(write, Add)]
        last = dict(zip(keys, outcome.counters))
        return outcome._replace(counters=tuple(last[key] for key in keys)) if outcome.applied else outcome


@broken_store("counters.only_canonical_text_is_a_counter", alone=True)
class AnyIntegerCounts(DictBackend):
    """Whatever Python takes for an integer is a counter."""

    def sum(self, value: bytes, amount: int) -> int:
        try:
            count = int(value)
        except ValueError:
            raise Refused from None
        return super().sum(b"%d" % count, amount)


@broken_store("counters.only_canonical_text_is_a_counter")
class LeadingZerosCount(DictBackend):
    """A decimal with leading zeros is a counter."""

    def sum(self, value: bytes, amount: int) -> int:
        return super().sum(value.lstrip(b"0") or b"0" if value.isdigit() else value, amount)


@broken_store("counters.only_canonical_text_is_a_counter")
class EmptyCountsAsZero(DictBackend):
    """The empty bytes are a counter at 0."""

    def sum(self, value: bytes, amount: int) -> int:
        return super().sum(value or b"0", amount)


@broken_store("counters.a_sum_beyond_64_bits_is_refused", alone=True)
class CountersWrap(PlainBackend):
    """A sum beyond 64 bits wraps around."""

    def sum(self, value: bytes, amount: int) -> int:
        try:
            return super().sum(value, amount)
        except Refused:
            if not value.lstrip(b"-").isdigit() or super().sum(value, 0) is None:
                raise
            return (int(value) + amount + 2**63) % 2**64 - 2**63


@broken_store("counters.a_sum_beyond_64_bits_is_refused", "counters.add_counts_on")
class CountersSaturate(DictBackend):
    """A sum at or beyond the ends of 64 bits stays just within them."""

    def sum(self, value: bytes, amount: int) -> int:
        total = super().sum(value, 0) + amount
        return max(-(2**63) + 1, min(2**63 - 2, total))


@broken_store("writes.all_writes_or_none")
class FailedIndexAmongAdds(DictBackend):
    """The failed index is the index of the refused Add among the Adds, not among the writes."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.status is Status.NOT_A_COUNTER:
            before = transaction.writes[: outcome.failed_index]
            return outcome._replace(failed_index=sum(isinstance(write, Add) for write in before))
        return outcome


@broken_store("notifications.a_refused_transaction_clears_nothing", alone=True)
class CountersComeBeforeChecks(DictBackend):
    """A refused counter is told although a check failed."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        if not transaction.checks:
            return super().decide(transaction, now)
        before = self.spaces
        alone = super().decide(transaction._replace(checks=()), now)
        self.spaces = before
        return alone if alone.status is Status.NOT_A_COUNTER else super().decide(transaction, now)


@broken_store("counters.add_counts_from_what_is_left", "pairs.each_write_sees_the_one_before")
class CountersSurviveDeletesAbove(DictBackend):
    """An Add counts on from a value that a Delete of a dict above it has deleted in the same transaction."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        self.dropped: dict[Key, HeldLocks] = {}
        return super().decide(transaction, now)

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        space, base = write.key
        if write.scope is not Scope.NODE:
            for relative, held in self.found(spaces, write.key, write.scope, now, "Delete").items():
                self.dropped[Key(space, base + relative)] = held
        super().delete(spaces, write, now)

    def old(self, spaces: Spaces, key: Key, now: float, what: str) -> HeldLocks | None:
        found = super().old(spaces, key, now, what)
        return self.dropped.get(key) if found is None and what == "Add" else found


@broken_store("counters.add_counts_from_what_is_left", alone=True)
class WhatAConditionMissedIsAbsentBelow(PlainBackend):
    """An Add counts from 0 if it is below a key of which a condition has found that exactly there is no value."""

    absent: tuple[Key, ...] = ()

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        asked = [check.key for check in transaction.checks if check.scope is Scope.NODE and check.key.path]
        self.absent = tuple([key for key in asked if self.old(self.spaces, key, now, "Read") is None])
        return super().decide(transaction, now)

    def old(self, spaces: Spaces, key: Key, now: float, what: str) -> HeldLocks | None:
        if what == "Add" and any(key.space == space and key.path[: len(at)] == at for space, at in self.absent):
            return None
        return super().old(spaces, key, now, what)


@broken_shared_store("counters.add_counts_from_what_is_left", alone=True)
class DeletesInOtherSpacesResetCounters(OnSqlite):
    """An Add counts from 0 if its transaction has deleted the same path in another space."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        deleted: list[Key] = []
        writes: list[Write] = []
        for write in transaction.writes:
            elsewhere = [key for key in deleted if key.path == write.key.path and key.space != write.key.space]
            if isinstance(write, Add) and elsewhere:
                writes.append(Delete(write.key, Scope.NODE))
                deleted.clear()
            if isinstance(write, Delete) and write.scope is not Scope.BELOW:
                deleted.append(write.key)
            writes.append(write)
        return super().execute(transaction._replace(writes=tuple(writes)))


@broken_shared_store("counters.a_sum_beyond_64_bits_is_refused", alone=True)
class SumsOfAddsHaveNoEnd(OnSqlite):
    """A counter that only Adds of one client have changed counts on beyond 64 bits."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.sums: dict[Key, int] = {}

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        if len(transaction.writes) != 1 or not isinstance(add := transaction.writes[0], Add):
            if transaction.writes:
                self.sums.clear()
            return outcome
        if outcome.applied:
            self.sums[add.key] = outcome.counters[0]
        elif outcome.status is Status.NOT_A_COUNTER and add.key in self.sums:
            added = self.sums[add.key] + add.amount
            super().execute(Transaction(writes=(Put(add.key, b"%d" % added),)))
            return Outcome(Status.APPLIED, outcome.answers, (added,))
        return outcome
