"""Transactions that are not one instant when threads meet, and instances that do not survive a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from redicts.backends.memory import MemoryBackend
from redicts.core.minitransaction import Add, Answer, Key, Outcome, Put, Read, Scope, Status, Transaction, Write
from tests.contract.broken.register import broken_shared_store, broken_store
from tests.contract.broken.rendezvous import Forks, MeetingBackend
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import DictBackend, HeldLocks, PlainBackend, Spaces


@broken_store("threads.adds_of_many_threads_sum_up")
class UpdatesAreLost(MeetingBackend):
    """The state that a transaction works on is fetched, changed and put back without a lock."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        return self.decide(transaction, self.clock())

    def draft(self, writes: tuple[Write, ...]) -> Spaces:
        before = self.written
        spaces = super().draft(writes)
        if writes:
            self.let_others_write(before)
        return spaces


@broken_shared_store("threads.overwrites_of_many_threads_are_there", alone=True)
class OverwritesThatMeetAreLost(OnSqlite):
    """An overwriting says that it wrote, and did not if another thread overwrote at the same time."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.busy = threading.Lock()

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        if not self.busy.acquire(blocking=False):
            return True
        try:
            return self.store.overwrite(key, value)
        finally:
            self.busy.release()


@broken_store("threads.adds_of_many_threads_sum_up", alone=True)
class AddsAreLost(MeetingBackend, PlainBackend):
    """The value that a single Add counts on from is fetched before the lock is taken."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.fetched: Spaces | None = None

    def execute(self, transaction: Transaction, /) -> Outcome:
        if transaction.checks or transaction.reads or [type(write) for write in transaction.writes] != [Add]:
            return super().execute(transaction)
        before, written = self.spaces, self.written
        self.let_others_write(written)
        with self.lock:
            self.fetched = before
            try:
                return super().execute(transaction)
            finally:
                self.fetched = None

    def add(self, spaces: Spaces, write: Add, now: float) -> int:
        if self.fetched is not None:
            held = self.old(self.fetched, write.key, now, "Add")
            self.store(spaces, write.key, held or HeldLocks(b"0"))
        return super().add(spaces, write, now)


@broken_store("threads.one_of_many_writers_finds_absence")
class ChecksAreOutsideOfTheLock(MeetingBackend):
    """Checks are evaluated first, and the writes applied later."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        with self.lock:
            before = self.written
            checked = self.decide(transaction._replace(writes=()), self.clock())
        if not checked.applied or not transaction.writes:
            return checked
        self.let_others_write(before)
        return super().execute(transaction._replace(checks=()))._replace(answers=checked.answers)


@broken_store("threads.no_reader_sees_half_a_subtree", alone=True)
class WritesAreSeenOneByOne(MeetingBackend, PlainBackend):
    """Each write of a transaction with deep paths is atomic, the transaction is not."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if max([0, *[len(write.key.path) for write in transaction.writes]]) < 4:
            return super().execute(transaction)
        with self.lock:
            before = self.spaces
            try:
                outcome = super().execute(transaction)
                if outcome.applied:
                    self.write_one_by_one(transaction, before)
            except BaseException:
                self.spaces = before
                raise
        return outcome

    def write_one_by_one(self, transaction: Transaction, before: Spaces) -> None:
        """Replace the state by the one before, and then by that after each write, which others see."""
        self.spaces = before
        for write in transaction.writes:
            super().execute(Transaction(writes=(write,)))
            self.lock.release()
            try:
                self.let_others_look(Scope.SUBTREE)
            finally:
                self.lock.acquire()


@broken_store("threads.a_refused_transaction_is_never_seen", alone=True)
class RefusedWritesAreSeen(MeetingBackend, PlainBackend):
    """What a refused counter undoes is seen until it is undone."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        before = self.spaces
        outcome = super().decide(transaction, now)
        if outcome.status is Status.NOT_A_COUNTER:
            super().decide(Transaction(writes=transaction.writes[: outcome.failed_index]), now)
            self.deciding = False
            self.lock.release()
            self.let_others_look(Scope.SUBTREE)
            self.lock.acquire()
            self.spaces, self.deciding = before, True
        return outcome


@broken_store("listeners.no_call_is_lost_in_a_race")
class AnswersAreShared(MeetingBackend):
    """An instance keeps the answer to a read of one value where the next read may overwrite it."""

    answers: tuple[Answer, ...] = ()

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        if not outcome.answers:
            return outcome
        self.answers = outcome.answers
        read = transaction.reads[0]
        if not isinstance(read, Read) or read.scope is not Scope.NODE:
            return outcome
        return outcome._replace(answers=self.gap.wait_until(lambda: self.overwritten(outcome)) or outcome.answers)

    def overwritten(self, outcome: Outcome) -> tuple[Answer, ...] | None:
        """Return the answers that are kept, if they are those of another call, and as many."""
        kept = self.answers
        return kept if kept != outcome.answers and len(kept) == len(outcome.answers) else None


@broken_store("forks.a_fork_amid_waits_is_harmless")
class LocksAreNeverReleased(DictBackend):
    """A lock that another thread holds at a fork is never free in the child."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.own = threading.Lock()
        self.forks = Forks()

    def execute(self, transaction: Transaction, /) -> Outcome:
        with self.own:
            self.forks.wait_for_one()
            return super().execute(transaction)


@broken_store("forks.a_child_has_its_own_copy", alone=True)
class ChildrenStartWithoutLeaves(PlainBackend):
    """A forked child has none of the values that its parent stored directly below the root."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.process = os.getpid()

    def execute(self, transaction: Transaction, /) -> Outcome:
        if self.process != os.getpid():
            self.process = os.getpid()
            self.spaces = {
                space: {path: held for path, held in entries.items() if len(path) > 1}
                for space, entries in self.spaces.items()
            }
        return super().execute(transaction)


@broken_store("threads.a_refused_transaction_is_never_seen", alone=True)
class FetchesTakeNoLock(MemoryBackend):
    """The fast path to a value takes no lock, and finds what a transaction under way may take back."""

    def fetch(self, key: Key, /) -> bytes | None:
        node = self._find(key)
        entry = None if node is None else node.entry
        return entry[0] if entry is not None and (entry[1] is None or entry[1] > self._clock()) else None


@broken_shared_store("threads.a_refused_transaction_is_never_seen", alone=True)
class FetchesFindDrafts(OnSqlite):
    """The fast path to a value finds what a transaction of the same client is about to put."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.drafts: dict[Key, bytes] = {}

    def execute(self, transaction: Transaction, /) -> Outcome:
        if not any(isinstance(write, Add) for write in transaction.writes[1:]):
            return super().execute(transaction)
        puts = {write.key: write.value for write in transaction.writes if isinstance(write, Put) and write.ttl is None}
        self.drafts.update(puts)
        try:
            return super().execute(transaction)
        finally:
            for key in puts:
                self.drafts.pop(key, None)

    def fetch(self, key: Key, /) -> bytes | None:
        return self.drafts.get(key)
