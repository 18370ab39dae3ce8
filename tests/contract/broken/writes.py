"""Writes that do too much, too little, or in another order."""

from __future__ import annotations

from collections.abc import Callable

from redicts.core.minitransaction import (
    Add,
    Delete,
    Entries,
    Key,
    Names,
    Outcome,
    Path,
    Put,
    ReadNames,
    Scope,
    Status,
    Transaction,
)
from tests.contract.broken.register import broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import DictBackend, HeldLocks, PlainBackend, Spaces


@broken_store("counters.a_sum_beyond_64_bits_is_refused")
class PutKeepsLongerEnds(DictBackend):
    """A put overwrites the beginning of a longer old value."""

    def store(self, spaces: Spaces, key: Key, held: HeldLocks) -> None:
        old = self.space_in(spaces, key).get(self.path(key.path), held).value
        super().store(spaces, key, held._replace(value=held.value + old[len(held.value) :]))


@broken_store("writes.overwriting_is_a_put_or_nothing")
class OverwritesWhatIsNotThere(PlainBackend):
    """An overwriting is a put that keeps the TTL, whether or not a value is there."""

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        return self.execute(Transaction((), (), (Put(key, value, None, True),))).applied


@broken_store("writes.overwriting_is_a_put_or_nothing", alone=True)
class OverwritesBelowAValue(PlainBackend):
    """An overwriting of what would be below a value returns true."""

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        above = Key(key.space, key.path[:-1])
        return () in self.found(self.spaces, above, Scope.NODE, self.clock(), "Read")


@broken_store("writes.delete_removes_its_scope")
class DeleteBelowTakesTheKey(DictBackend):
    """A delete of what is below a key deletes the key as well."""

    def covers(self, scope: Scope, relative: Path, what: str) -> bool:
        return scope.covers(relative) or (what == "Delete" and scope is Scope.BELOW)


@broken_store("writes.delete_removes_its_scope")
class DeleteTakesOnlyChildren(DictBackend):
    """A delete sees direct children, and nothing deeper."""

    def covers(self, scope: Scope, relative: Path, what: str) -> bool:
        return scope.covers(relative) and (what != "Delete" or len(relative) < 2)


@broken_store("writes.delete_removes_its_scope")
class DeletesBeforeAPutAreImplied(PlainBackend):
    """If the last delete before a put is of what is above it, all deletes are taken for those of what is above."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        *deletes, put = transaction.writes or (None,)
        if (
            isinstance(put, Put)
            and deletes
            and all(isinstance(write, Delete) and write.scope is Scope.NODE for write in deletes)
            and deletes[-1].key.path == put.key.path[:-1]
        ):
            above = [write for write in deletes if put.key.path[: len(write.key.path)] == write.key.path]
            transaction = transaction._replace(writes=(*above, put))
        return super().decide(transaction, now)


@broken_store("names.spaces_share_nothing")
class DeletingNothingFails(DictBackend):
    """Deleting what is not there raises an error."""

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        if not self.found(spaces, write.key, write.scope, now, "Delete"):
            raise KeyError(write.key)
        super().delete(spaces, write, now)


class _Remembering(DictBackend):
    """Keeps a list of names beside the values, as a store with directories does."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.known: set[tuple[str, Path]] = set()

    def store(self, spaces: Spaces, key: Key, held: HeldLocks) -> None:
        self.known.add((key.space, key.path))
        super().store(spaces, key, held)


@broken_store("writes.delete_removes_its_scope")
class OrphansAreLeft(_Remembering):
    """A dict whose values are deleted leaves its name behind."""

    def names(self, read: ReadNames, now: float) -> Names:
        size = len(read.key.path)
        known = {
            path[size]
            for space, path in self.known
            if space == read.key.space and path[:size] == read.key.path and path[size:]
        }
        return Names(tuple(known)) if read.limit is None else super().names(read, now)


@broken_store("writes.delete_removes_its_scope", alone=True)
class OrphansComeBack(PlainBackend):
    """A value deleted as part of a deep subtree is hidden, and there again when a later transaction stores a parent."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.hidden: dict[tuple[str, Path], HeldLocks] = {}
        self.deletes = False

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        self.deletes = any(isinstance(write, Delete) for write in transaction.writes)
        return super().decide(transaction, now)

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        for relative, held in self.found(spaces, write.key, write.scope, float("-inf"), "Delete").items():
            if len(relative) > 1:
                self.hidden[write.key.space, write.key.path + relative] = held._replace(deadline=None)
        super().delete(spaces, write, now)

    def store(self, spaces: Spaces, key: Key, held: HeldLocks) -> None:
        super().store(spaces, key, held)
        if self.deletes:
            return
        for path, value in [(path, value) for (space, path), value in self.hidden.items() if space == key.space]:
            if path[:-1][: len(key.path) - 1] == key.path[:-1] and key.path[:-1]:
                self.space_in(spaces, key).setdefault(path, value)
                del self.hidden[key.space, path]


@broken_store("ttl.writes_to_ttls_take_effect_in_order")
class WritesAreReversed(DictBackend):
    """Writes are applied from the last to the first."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction._replace(writes=transaction.writes[::-1]), now)
        if outcome.status is Status.NOT_A_COUNTER and outcome.failed_index is not None:
            outcome = outcome._replace(failed_index=len(transaction.writes) - 1 - outcome.failed_index)
        return outcome._replace(counters=outcome.counters[::-1])


@broken_store("writes.all_writes_or_none")
class DeletesComeFirst(PlainBackend):
    """All deletes of a transaction are done before its puts."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        deletes = tuple(write for write in transaction.writes if isinstance(write, Delete))
        others = tuple(write for write in transaction.writes if not isinstance(write, Delete))
        return super().decide(transaction._replace(writes=deletes + others), now)


@broken_store("writes.all_writes_or_none", alone=True)
class SpacesAreDeletedAllTheSame(PlainBackend):
    """If a transaction deletes all of a space, and a counter is refused, the space is empty."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.status is Status.NOT_A_COUNTER:
            deletes = [write for write in transaction.writes if isinstance(write, Delete) and not write.key.path]
            super().decide(Transaction(writes=tuple(deletes)), now)
        return outcome


@broken_store(
    "writes.all_writes_or_none",
    "writes.many_writes_or_none",
    "ttl.a_refused_transaction_changes_no_ttl",
    "reads.answers_come_with_any_status",
)
class RefusedCountersLeaveTheRest(DictBackend):
    """What stands before a refused counter stays written, and its answers are read afterwards."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.status is Status.NOT_A_COUNTER:
            super().decide(Transaction(writes=transaction.writes[: outcome.failed_index]), now)
            return outcome._replace(answers=tuple(self.answer(read, now) for read in transaction.reads))
        return outcome


@broken_store("writes.all_writes_or_none")
class DeletesAreNotUndone(DictBackend):
    """When a counter is refused, the puts before it are undone, but not the deletes."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.status is Status.NOT_A_COUNTER:
            before = transaction.writes[: outcome.failed_index]
            super().decide(Transaction(writes=tuple(write for write in before if isinstance(write, Delete))), now)
        return outcome


@broken_store("writes.many_writes_or_none", alone=True)
class LargeTransactionsAreSplit(PlainBackend):
    """A transaction is executed in pieces of two hundred writes."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        counters: tuple[int, ...] = ()
        answers: tuple[Entries | Names, ...] = ()
        for start in range(0, max(1, len(transaction.writes)), 200):
            piece = transaction._replace(writes=transaction.writes[start : start + 200])
            outcome = super().decide(piece if not start else Transaction(writes=piece.writes), now)
            answers = answers or outcome.answers
            if outcome.status is Status.NOT_A_COUNTER:
                return outcome._replace(answers=answers, failed_index=start + (outcome.failed_index or 0))
            if not outcome.applied:
                return outcome
            counters += outcome.counters
        return Outcome(Status.APPLIED, answers, counters)


@broken_store("expired.it_makes_way_for_values_below")
class LeavesStandInTheWay(DictBackend):
    """Nothing can be put below a key that held a value before, in the same transaction or as expired bytes."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        was = self.space_in(self.spaces, write.key)
        if any(write.key.path[:depth] in was for depth in range(1, len(write.key.path))):
            raise NotADirectoryError(write.key)
        super().put(spaces, write, now)


@broken_store("counters.a_sum_beyond_64_bits_is_refused")
class AddsSeeTheStateBefore(DictBackend):
    """Add counts on from the state before the transaction."""

    def add(self, spaces: Spaces, write: Add, now: float) -> int:
        old = self.old(self.spaces, write.key, now, "Add")
        total = self.sum(b"0" if old is None else old.value, write.amount)
        self.store(spaces, write.key, HeldLocks(b"%d" % total, None if old is None else old.deadline))
        return total


@broken_store("model.the_store_answers_as_the_model", alone=True)
class AddCountsOnFromTheDeleted(PlainBackend):
    """In a transaction that reads, an Add counts on from a value that a Delete of a dict above it has deleted."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        self.before, self.reads = self.spaces, bool(transaction.reads)
        self.cleared: set[Key] = set()
        return super().decide(transaction, now)

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        self.cleared.add(write.key)
        super().delete(spaces, write, now)

    def add(self, spaces: Spaces, write: Add, now: float) -> int:
        old = self.old(self.before, write.key, now, "Add")
        above = {Key(write.key.space, write.key.path[:depth]) for depth in range(len(write.key.path))}
        if self.reads and above & self.cleared and old is not None and self.old(spaces, write.key, now, "Add") is None:
            self.store(spaces, write.key, old)
        return super().add(spaces, write, now)


@broken_store("writes.delete_removes_its_scope", "pairs.each_write_sees_the_one_before")
class DeletesMissOneOfSeveral(DictBackend):
    """A Delete of exactly a value is ignored if its transaction has put that and another one in the same dict."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        self.new: set[Key] = set()
        return super().decide(transaction, now)

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        self.new.add(write.key)
        super().put(spaces, write, now)

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        space, path = write.key
        beside = [key for key in self.new if key.space == space and key.path[:-1] == path[:-1]]
        if write.scope is not Scope.NODE or write.key not in beside or len(beside) == 1:
            super().delete(spaces, write, now)


@broken_shared_store("writes.delete_removes_its_scope", alone=True)
class OneOfTwoIsDeleted(OnSqlite):
    """Of two deletes in one dict that are all of a transaction, the first one is applied."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        writes = transaction.writes
        leaves = [each.key for each in writes if isinstance(each, Delete) and each.scope is Scope.NODE]
        if len(writes) == len(leaves) == 2 and leaves[0].path[:-1] == leaves[1].path[:-1]:
            writes = writes[:1]
        return super().execute(transaction._replace(writes=writes))


@broken_store("writes.delete_removes_its_scope", alone=True)
class OnlyTheLastPutReplaces(PlainBackend):
    """Of two puts in one dict after a delete below the first key, the second one is applied."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        writes = transaction.writes
        if len(writes) == 3 and isinstance(writes[0], Delete) and writes[0].scope is not Scope.NODE:
            first, second = [write.key.path for write in writes[1:]]
            both = all(isinstance(each, Put) for each in writes[1:])
            if both and writes[0].key.path == first and first[:-1] == second[:-1]:
                transaction = transaction._replace(writes=(writes[0], writes[2]))
        return super().decide(transaction, now)


@broken_store("writes.delete_removes_its_scope", alone=True)
class TwoDeletesAreImplied(PlainBackend):
    """Of two deletes in one dict before a put below the first one, both are taken for implied by the put."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        writes = transaction.writes
        if len(writes) == 3 and all(isinstance(each, Delete) and each.scope is Scope.NODE for each in writes[:2]):
            first, second, last = [each.key.path for each in writes]
            if first[:-1] == second[:-1] and last[: len(first)] == first and isinstance(writes[2], Put):
                transaction = transaction._replace(writes=(writes[0], writes[2]))
        return super().decide(transaction, now)


@broken_store("writes.delete_removes_its_scope", alone=True)
class TwoDictsBelowALeafAreOne(PlainBackend):
    """Of two puts into different dicts below a leaf that is deleted before them, the first one is applied."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        writes = transaction.writes
        if len(writes) == 3 and isinstance(writes[0], Delete) and writes[0].scope is Scope.NODE:
            above, first, second = [each.key.path for each in writes]
            is_below = first[: len(above)] == second[: len(above)] == above
            if is_below and len(first) != len(second) and all(isinstance(each, Put) for each in writes[1:]):
                transaction = transaction._replace(writes=writes[:2])
        return super().decide(transaction, now)
