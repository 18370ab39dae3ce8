"""Clocks that are read at another moment than the state, and TTLs that end too early or too late."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

from redicts.backends.sqlite import SqliteBackend, statements
from redicts.backends.sqlite.backend import _on_connection
from redicts.backends.sqlite.snapshot import Snapshot
from redicts.contract.form import entries_of
from redicts.core.minitransaction import Answer, Entries, Key, Outcome, Put, Read, Status, Transaction
from redicts.errors import StoreBusy
from tests.contract.broken.register import broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import HeldLocks, KeepingBackend, PlainBackend


class _Early(PlainBackend):
    """Executes a transaction at a time that was read before it waited for the lock."""

    def late(self, transaction: Transaction, now: float) -> Outcome:
        with self.lock:
            if self.deciding:
                raise StoreBusy("called in the midst of another call of the same thread")
            self.deciding = True
            try:
                return self.decide(transaction, now)
            finally:
                self.deciding = False


@broken_store("clock.a_write_sees_one_moment", alone=True)
class WritersReadTheClockFirst(_Early):
    """A transaction that writes reads the clock, and then waits for the lock."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if not transaction.writes:
            return super().execute(transaction)
        return self.late(transaction, self.clock())


@broken_store("clock.a_read_sees_one_moment", alone=True)
class ReadersReadTheClockFirst(_Early):
    """A transaction that only reads does so for the clock, and then waits for the lock."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if transaction.writes:
            return super().execute(transaction)
        return self.late(transaction, self.clock())


@broken_store("clock.a_read_sees_one_moment")
class ReadersReadTheClockLast(PlainBackend):
    """A transaction that only reads takes the state without the lock, and then reads the clock."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if transaction.writes or transaction.checks:
            return super().execute(transaction)
        reader = PlainBackend(self.clock)
        reader.spaces = self.spaces
        return reader.decide(transaction, self.clock())


@broken_store("clock.a_ttl_ends_at_its_end", alone=True)
class TTLsEndInSteps(PlainBackend):
    """Deadlines are compared in steps of four milliseconds, so that values end up to that much early."""

    def alive(self, held: HeldLocks, now: float, what: str) -> bool:
        return held.deadline is None or int(held.deadline * 250) > int(now * 250)


@broken_store("clock.a_ttl_ends_at_its_end")
class TextsEndLater(KeepingBackend):
    """The text of a document is there for the moment of its end."""

    def kept(self, key: Key) -> HeldLocks | None:
        held = self.spaces.get(self.texts(key), {}).get(key.path)
        return held if held is not None and (held.deadline is None or held.deadline >= self.clock()) else None


@broken_shared_store("clock.a_write_sees_one_moment", "clock.a_read_sees_one_moment")
class TheClockIsReadBeforeTheFileIsLocked(SqliteBackend):
    """A transaction reads the clock before it begins."""

    def __init__(self, path: str, database: int = 0) -> None:
        super().__init__(path, database)
        self.of_thread = threading.local()
        self._now = self.early

    def early(self) -> int:
        now: int | None = getattr(self.of_thread, "now", None)
        return self._clock.now() if now is None else now

    def execute(self, transaction: Transaction, /, deadline: float | None = None) -> Outcome:
        self.of_thread.now = self._clock.now()
        try:
            return super().execute(transaction, deadline)
        finally:
            self.of_thread.now = None


@broken_shared_store("clock.a_read_sees_one_moment")
class TheClockIsReadAfterTheSnapshot(SqliteBackend):
    """A transaction that only reads takes its snapshot, and then reads the clock once."""

    @_on_connection()
    def _read(self: SqliteBackend, cursor: sqlite3.Cursor, transaction: Transaction) -> Outcome:
        cursor.execute(statements.BEGIN_READING)
        cursor.execute(statements.CONTENTS).fetchone()
        snapshot = Snapshot(cursor, self._database, self._now())
        failed_index = snapshot.first_failed(transaction.checks)
        answers = tuple(map(snapshot.answer, transaction.reads))
        cursor.execute(statements.COMMIT)
        status = Status.APPLIED if failed_index is None else Status.CHECK_FAILED
        return Outcome(status, answers, failed_index=failed_index)


@broken_shared_store("clock.a_ttl_ends_at_its_end")
class TTLsEndForTheWay(SqliteBackend):
    """Fifteen milliseconds of a TTL are taken off for the time that the request takes."""

    def execute(self, transaction: Transaction, /, deadline: float | None = None) -> Outcome:
        writes: list[Any] = [
            write._replace(ttl=max(1, write.ttl - 15)) if isinstance(write, Put) and write.ttl else write
            for write in transaction.writes
        ]
        return super().execute(transaction._replace(writes=tuple(writes)), deadline)


@broken_shared_store("clock.a_ttl_ends_at_its_end")
class ValuesStayForAWhile(SqliteBackend):
    """A read of one key still finds its value for some milliseconds after its end."""

    @_on_connection()
    def fetch(self: SqliteBackend, cursor: sqlite3.Cursor, key: Any, /) -> bytes | None:
        found = Snapshot(cursor, self._database, self._now() - 8).answer(Read(key))
        return entries_of(found).values.get(())


@broken_store("clock.the_wall_clock_changes_no_ttl", alone=True)
class TTLsFollowTheWallClock(PlainBackend):
    """Deadlines are times of the machine's wall clock, which can be set."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.ahead = 0.0
        super().__init__(lambda: clock() + self.ahead)


@broken_shared_store("clock.the_wall_clock_changes_no_ttl")
class TheFileFollowsTheWallClock(SqliteBackend):
    """The store's time is that of the machine's wall clock."""

    def __init__(self, path: str, database: int = 0) -> None:
        super().__init__(path, database)
        self._now = lambda: time.time_ns() // 1_000_000


@broken_store("clock.a_ttl_ends_at_its_end")
class AliveAtTheVeryEnd(PlainBackend):
    """A value is there until the moment after its end."""

    def alive(self, held: HeldLocks, now: float, what: str) -> bool:
        return held.deadline is None or held.deadline >= now


@broken_shared_store("clock.a_ttl_ends_at_its_end", alone=True)
class LastMillisecondsAreNotTold(OnSqlite):
    """The leaves of a document have no TTL any more in the last two milliseconds before its end."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        return outcome._replace(answers=tuple(map(self.told, outcome.answers)))

    def told(self, answer: Answer) -> Answer:
        if not isinstance(answer, Entries) or not answer.ttls or max(map(len, answer.ttls)) < 2:
            return answer
        return answer if max(answer.ttls.values()) > 2 else answer._replace(ttls={})
