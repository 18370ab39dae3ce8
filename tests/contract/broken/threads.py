"""Transactions that are not one instant when threads meet, and instances that do not survive a fork."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from redicts.core.minitransaction import Add, Answer, Outcome, Status, Transaction, Write
from tests.contract.broken.register import broken_store
from tests.contract.reference_model import DictBackend, PlainBackend, Spaces


def _let_others_run() -> None:
    time.sleep(0)


@broken_store("threads.adds_of_many_threads_sum_up")
class UpdatesAreLost(DictBackend):
    """The state that a transaction works on is fetched, changed and put back without a lock."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        return self.decide(transaction, self.clock())

    def draft(self, writes: tuple[Write, ...]) -> Spaces:
        spaces = super().draft(writes)
        _let_others_run()
        return spaces


@broken_store("threads.adds_of_many_threads_sum_up", alone=True)
class AddsAreLost(PlainBackend):
    """The value that a single Add counts on from is fetched before the lock is taken."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.fetched: Spaces | None = None

    def execute(self, transaction: Transaction, /) -> Outcome:
        if transaction.checks or transaction.reads or [type(write) for write in transaction.writes] != [Add]:
            return super().execute(transaction)
        before = self.spaces
        _let_others_run()
        with self.lock:
            self.fetched = before
            try:
                return super().execute(transaction)
            finally:
                self.fetched = None

    def add(self, spaces: Spaces, write: Add, now: float) -> int:
        if self.fetched is not None:
            held = self.old(self.fetched, write.key, now, "Add")
            if held is not None:
                self.store(spaces, write.key, held)
        return super().add(spaces, write, now)


@broken_store("threads.one_of_many_writers_finds_absence")
class ChecksAreOutsideOfTheLock(DictBackend):
    """Checks are evaluated first, and the writes applied later."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        with self.lock:
            checked = self.decide(transaction._replace(writes=()), self.clock())
        _let_others_run()
        if not checked.applied or not transaction.writes:
            return checked
        return super().execute(transaction._replace(checks=()))._replace(answers=checked.answers)


@broken_store("threads.no_reader_sees_half_a_subtree", alone=True)
class WritesAreSeenOneByOne(PlainBackend):
    """Each write is atomic, the transaction is not."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        with self.lock:
            before = self.spaces
            outcome = self.decide(transaction, self.clock())
            if not outcome.applied or len(transaction.writes) < 2:
                return outcome
            self.spaces = before
        for write in transaction.writes:
            super().execute(Transaction(writes=(write,)))
            _let_others_run()
        return outcome


@broken_store("threads.a_refused_transaction_is_never_seen", alone=True)
class RefusedWritesAreSeen(PlainBackend):
    """What a refused counter undoes is seen until it is undone."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        before = self.spaces
        outcome = super().decide(transaction, now)
        if outcome.status is Status.NOT_A_COUNTER:
            super().decide(Transaction(writes=transaction.writes[: outcome.failed_index]), now)
            self.lock.release()
            _let_others_run()
            self.lock.acquire()
            self.spaces = before
        return outcome


@broken_store("listeners.no_call_is_lost_in_a_race")
class AnswersAreShared(DictBackend):
    """An instance keeps the answers of its last call where the next one may overwrite them."""

    answers: tuple[Answer, ...] = ()

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        self.answers = outcome.answers
        _let_others_run()
        same = len(self.answers) == len(transaction.reads)
        return outcome._replace(answers=self.answers if same else outcome.answers)


@broken_store("forks.a_fork_amid_waits_is_harmless")
class LocksAreNeverReleased(DictBackend):
    """A lock that another thread holds at a fork is never free in the child."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.own = threading.Lock()

    def execute(self, transaction: Transaction, /) -> Outcome:
        with self.own:
            _let_others_run()
            return super().execute(transaction)


@broken_store("forks.a_child_has_its_own_copy", alone=True)
class ChildrenStartEmpty(PlainBackend):
    """A forked child has none of what its parent stored."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.process = os.getpid()

    def execute(self, transaction: Transaction, /) -> Outcome:
        if self.process != os.getpid():
            self.process = os.getpid()
            self.spaces = {}
        return super().execute(transaction)
