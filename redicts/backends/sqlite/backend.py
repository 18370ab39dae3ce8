"""Minitransactions as SQL transactions, one for one.

*One instant.* A transaction that writes holds SQLite's write lock before it looks at the clock, so nobody else's write
lies between the state that it sees and the time that it goes by. One that only reads takes its snapshot between two
looks at the clock which show the same millisecond: then no life ended between the snapshot and the time.

*Expiry.* Deadlines are milliseconds of the machine's clock, which all processes that open the file share. Every
transaction that writes also removes a bounded number of expired values, found through the index of deadlines, and
always more than it may have added; so a stream of short-lived values keeps the file bounded.

*Waking.* Whom a transaction wakes in this process is woken after the commit. Those who listen in other processes find
their names in the file, see ``bulletin.py`` and ``lookout.py``.
"""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Final

from redicts.backends.sqlite import bulletin, statements
from redicts.backends.sqlite.connections import Connections
from redicts.backends.sqlite.failures import is_io_error, translated
from redicts.backends.sqlite.files import MEMORY, shorten_log
from redicts.backends.sqlite.listening import Listeners, SqliteListener, listeners_at, shared_listeners
from redicts.backends.sqlite.paths import encode
from redicts.backends.sqlite.reading import Instant, answer, entries_of_leaf, first_failed
from redicts.backends.sqlite.writing import apply, reclaim
from redicts.core.backend import Backend, Capabilities
from redicts.core.transaction import Outcome, Read, Scope, Transaction, Verdict

_LOOKS_AT_THE_CLOCK: Final = 100
"""How often to try for a snapshot within one millisecond, before one that took longer must do."""

_WRITES_PER_LOOK_AT_THE_LOG: Final = 500


class SqliteBackend(Backend):
    """One database of a SQLite file, or of the memory of this process if the path is ``":memory:"``.

    ``clock`` returns seconds since the epoch; tests pass one that they can move.
    """

    def __init__(
        self, path: str, database: int = 0, busy_timeout_secs: float = 10.0, clock: Callable[[], float] = time.time
    ) -> None:
        shared = path != MEMORY
        self._capabilities = Capabilities(
            life=True, processes=shared, durable=shared, atomic_entries=None, push=not shared
        )
        self._database = str(database)
        self._clock = clock
        # Absolute, because connections are opened at any time, and the process may change its directory.
        self._connections = Connections(os.path.abspath(path) if shared else path, busy_timeout_secs)
        self._shared = shared
        self._listeners = None if shared else Listeners(None)
        self._unchecked_writes = 0
        weakref.finalize(self, self._connections.close)

    @property
    def capabilities(self) -> Capabilities:
        """All but ``push``, for a file; a store in memory ends with its process and is not shared, so it can push."""
        return self._capabilities

    def execute(self, transaction: Transaction, /) -> Outcome:
        """Decide and apply one minitransaction as one SQL transaction.

        Cost: tens of microseconds, and in proportion to the values in the scopes that it names. A reader waits for
        nobody; a writer waits for other writers of the same file, up to ``busy_timeout_secs``.
        """
        checks, reads, writes = transaction
        if writes:
            return self._connections.run(self._write, transaction)
        if len(reads) == 1 and not checks:
            read = reads[0]
            if isinstance(read, Read) and read.scope is Scope.NODE:
                return self._connections.run(self._read_leaf, read)
        return self._connections.run(self._read, transaction)

    def listen(self, name: str, /) -> SqliteListener:
        """Listen in this process: woken at once from here, and from others that share the file within 50 milliseconds.

        Cost: some microseconds, and about a millisecond for the first look of the first who waits.
        """
        listeners = self._listeners or shared_listeners(self._connections.path)
        self._listeners = listeners
        if self._connections.closed:
            self._forget_listeners()
        return SqliteListener(listeners, self._database, name)

    def about(self) -> Mapping[str, str]:
        """Return the version of SQLite. Costs nothing."""
        return {"SQLite": sqlite3.sqlite_version}

    def close(self) -> None:
        """Let go of the file. Of a store in memory this is the end: a call that comes later finds it empty."""
        self._connections.close()
        self._forget_listeners()

    def _forget_listeners(self) -> None:
        """Let go of what this instance has in common with others that use the file."""
        if self._shared:
            self._listeners = None

    def _now(self) -> int:
        """Return the store's time in whole milliseconds, rounded so that a clock set to 0.3 seconds shows 300."""
        return round(self._clock() * 1000)

    def _read_leaf(self, cursor: sqlite3.Cursor, read: Read) -> Outcome:
        """Answer the most frequent transaction, the read of one value, by a single statement."""
        key = (encode(self._database, read.key),)
        for _ in range(_LOOKS_AT_THE_CLOCK):
            now = self._now()
            leaf = cursor.execute(statements.READ_NODE, key).fetchone()
            if leaf is None or leaf[1] is None or self._now() == now:
                break
        return Outcome(Verdict.APPLIED, (entries_of_leaf(leaf, read.lives, now),))

    def _read(self, cursor: sqlite3.Cursor, transaction: Transaction) -> Outcome:
        instant = self._begin_reading(cursor)
        culprit = first_failed(instant, transaction.checks)
        answers = tuple([answer(instant, read) for read in transaction.reads])
        cursor.execute(statements.COMMIT)
        return Outcome(Verdict.APPLIED if culprit is None else Verdict.CHECK_FAILED, answers, culprit=culprit)

    def _begin_reading(self, cursor: sqlite3.Cursor) -> Instant:
        for _ in range(_LOOKS_AT_THE_CLOCK):
            cursor.execute(statements.BEGIN_READING)
            now = self._now()
            cursor.execute(statements.TAKE_SNAPSHOT).fetchone()
            if self._now() == now:
                break
            cursor.execute(statements.COMMIT)
        else:
            cursor.execute(statements.BEGIN_READING)
        return Instant(cursor, self._database, now)

    def _write(self, cursor: sqlite3.Cursor, transaction: Transaction) -> Outcome:
        checks, reads, writes = transaction
        cursor.execute(statements.BEGIN_WRITING)
        instant = Instant(cursor, self._database, self._now())
        culprit = first_failed(instant, checks)
        answers = tuple([answer(instant, read) for read in reads])
        if culprit is not None:
            cursor.execute(statements.ROLLBACK)
            return Outcome(Verdict.CHECK_FAILED, answers, culprit=culprit)
        sums, woken, culprit = apply(instant, writes)
        if culprit is not None:
            cursor.execute(statements.ROLLBACK)
            return Outcome(Verdict.NOT_A_COUNTER, answers, culprit=culprit)
        reclaim(instant, len(writes))
        if woken:
            self._wake_and_commit(cursor, woken)
        else:
            self._commit(cursor)
        self._unchecked_writes += len(writes)
        if self._unchecked_writes > _WRITES_PER_LOOK_AT_THE_LOG:
            self._unchecked_writes = 0
            shorten_log(cursor, self._connections.path)
        return Outcome(Verdict.APPLIED, answers, tuple(sums))

    def _wake_and_commit(self, cursor: sqlite3.Cursor, woken: list[bytes]) -> None:
        """Commit, with the names of those who do not listen here, and wake those who do."""
        calls = [(self._database, name) for name in woken]
        listeners = self._listeners or listeners_at(self._connections.path)
        if self._shared:
            bulletin.post(cursor, [call for call in calls if listeners is None or call not in listeners])
        self._commit(cursor)
        if listeners is not None:
            listeners.wake(calls)

    def _commit(self, cursor: sqlite3.Cursor) -> None:
        """Commit; if the disk fails just now, who next opens the file may or may not find the writes in its log."""
        try:
            cursor.execute(statements.COMMIT)
        except sqlite3.OperationalError as error:
            if not is_io_error(error):
                raise
            raise translated(error, self._connections.path, maybe_applied=True) from error
