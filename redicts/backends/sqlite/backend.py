"""Minitransactions as SQL transactions, one for one.

*One instant.* A transaction that writes holds SQLite's write lock before it looks at the clock, so nobody else's write
lies between the state that it sees and the time that it goes by. One that only reads takes its snapshot between two
looks at the clock which show the same millisecond: then no TTL ended between the snapshot and the time.

*Short ways.* One statement by itself is one SQL transaction. So the read of one value is one statement, repeated if its
life has ended meanwhile; and a lasting leaf that replaces a lasting one is one statement, which needs no clock. The
same goes for documents, see ``documents.py``.

*Expiry.* Deadlines are milliseconds of the store's clock, see ``clock.py``. Every transaction that writes also removes
a bounded number of expired values, found through the index of deadlines, and always more than it may have added; so a
stream of short-lived values keeps the file bounded. (The short way adds nothing that expires; it is closed to
one write of sixteen, and as long as there is more to reclaim.) Freed pages are given back, see ``space.py``.

*Waking.* Whom a transaction notifies in this process is notified after the commit. Those who listen in other processes
find their names in the file, see ``notification_log.py`` and ``poller.py``.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Callable, Mapping
from typing import Final

from redicts.backends.sqlite import notification_log, statements
from redicts.backends.sqlite.backup import back_up
from redicts.backends.sqlite.clock import Clock, FileClock, GivenClock, Machine, MemoryClock, this_machine
from redicts.backends.sqlite.connections import Connections
from redicts.backends.sqlite.documents import at_or_above
from redicts.backends.sqlite.errors import is_io_error, translated
from redicts.backends.sqlite.files import MEMORY, Durability, log_of, open_store
from redicts.backends.sqlite.mounts import warn_of_network
from redicts.backends.sqlite.notifications import Listeners, SqliteListener, listeners_at, shared_listeners
from redicts.backends.sqlite.paths import encode
from redicts.backends.sqlite.reading import Instant, Leaf, answer, entries_of_leaf, first_failed, leaf_in_document
from redicts.backends.sqlite.space import Space
from redicts.backends.sqlite.writing import apply, reclaim
from redicts.core.backend import Backend, Capabilities
from redicts.core.minitransaction import Key, Outcome, Read, Scope, Status, Transaction

_LOOKS_AT_THE_CLOCK: Final = 100
"""How often to try for a snapshot within one millisecond, before one that took longer must do."""

_SHORT_WAYS: Final = 16
"""One in so many writes that could go the short way goes the long one, which reclaims what has expired."""

_DOCUMENTS_SEEN: Final = 1024
"""So many keys are remembered at which a document was found."""


class SqliteBackend(Backend):
    """One database of a SQLite file, or of the memory of this process if the path is ``":memory:"``.

    ``clock`` returns seconds since the epoch, ``machine`` what the clock of the file is made of; tests pass some that
    they can move.
    """

    def __init__(
        self,
        path: str,
        database: int = 0,
        busy_timeout_secs: float = 10.0,
        durability: Durability = Durability.PROCESS,
        *,
        clock: Callable[[], float] | None = None,
        machine: Machine | None = None,
    ) -> None:
        shared = path != MEMORY
        self._capabilities = Capabilities(
            ttl=True, processes=shared, durable=shared, atomic_entries=None, push=not shared, documents=True
        )
        self._database = str(database)
        self._clock = _clock_of(shared, clock, machine)
        self._now = self._clock.now
        # Absolute, because connections are opened at any time, and the process may change its directory.
        path = os.path.abspath(path) if shared else path
        self._connections = Connections(path, busy_timeout_secs, _opener(durability, self._clock))
        self._space = Space(log_of(path))
        self._shared = shared
        self._listeners = None if shared else Listeners(None)
        self._short_ways = 0
        self._documents_seen: set[bytes] = set()
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
            return self._connections.write(self._write, transaction)
        if len(reads) == 1 and not checks and isinstance(reads[0], Read) and reads[0].scope is Scope.NODE:
            outcome = self._connections.run(self._read_leaf, reads[0])
            if outcome is not None:
                return outcome
        return self._connections.run(self._read, transaction)

    def fetch(self, key: Key, /) -> bytes | None:
        """Return a value by one statement. Cost: some microseconds, of which SQLite has more than half."""
        return self._connections.run(self._fetch, encode(self._database, key))

    def fetch_document(self, key: Key, /) -> bytes | None:
        """Return a value or a document by one statement, if it finds at a key what it found there before."""
        return self._connections.run(self._fetch_any, encode(self._database, key))

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        """Put a lasting value over a lasting one by one statement, but for one of sixteen, see above."""
        return self._go_short(statements.OVERWRITE, key, value)

    def overwrite_document(self, key: Key, document: bytes, /) -> bool:
        """Put a lasting document over a lasting one in the same way."""
        return self._go_short(statements.OVERWRITE_DOCUMENT, key, document)

    def _go_short(self, statement: str, key: Key, what: bytes) -> bool:
        row = (what, encode(self._database, key))
        if self._short_ways >= _SHORT_WAYS or not self._connections.write(self._overwrite, (statement, row)):
            return False
        self._short_ways += 1
        return True

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the whole file, all its databases, as it is atomically, while others go on writing.

        The copy appears when it is whole and on the disk, and is a store like any other. It is made in the directory
        where it is to be. The log of the store grows while it is copied. A fork of this process waits for the end.

        Raises ``FileExistsError`` if something is at the path already, which is left as it is, and
        :class:`~redicts.errors.StoreError` if the store or the copy fails; then nothing is left behind.

        Cost: in proportion to the file, some hundred megabytes per second.
        """
        self._connections.run(back_up, os.path.abspath(path))

    def listen(self, name: str, /) -> SqliteListener:
        """Listen: notified at once from this process, within 50 milliseconds from others that share the file.

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

    def _read_leaf(self, cursor: sqlite3.Cursor, read: Read) -> Outcome | None:
        """Answer the most frequent transaction, the read of one value, by a single statement if it is in a row."""
        key = (encode(self._database, read.key),)
        for _ in range(_LOOKS_AT_THE_CLOCK):
            now = self._now()
            leaf = cursor.execute(statements.READ_NODE, key).fetchone()
            if leaf is None:
                return None
            if leaf[1] is None or self._now() == now:
                break
        return Outcome(Status.APPLIED, (entries_of_leaf(leaf, read.ttls, now),))

    def _fetch(self, cursor: sqlite3.Cursor, key: bytes) -> bytes | None:
        """Return a value that lasts, or is still alive after it was read; of any other, say nothing."""
        leaf: Leaf | None = cursor.execute(statements.READ_NODE, (key,)).fetchone()
        return self._alive(leaf or leaf_in_document(cursor, key))

    def _fetch_any(self, cursor: sqlite3.Cursor, key: bytes) -> bytes | None:
        """Do so too for the text of a document, and look first for what was there the last time."""
        if key in self._documents_seen:
            document: Leaf | None = cursor.execute(statements.READ_DOCUMENT, (key,)).fetchone()
            if document is not None:
                return self._alive(document)
            self._documents_seen.discard(key)
        leaf: Leaf | None = cursor.execute(statements.READ_NODE, (key,)).fetchone()
        if leaf is not None:
            return self._alive(leaf)
        found = at_or_above(cursor, key)
        if found is None:
            return None
        if found.key == key:
            if len(self._documents_seen) >= _DOCUMENTS_SEEN:
                self._documents_seen.clear()
            self._documents_seen.add(key)
            return self._alive((found.text, found.deadline))
        value = found.leaf(key)
        return None if value is None else self._alive((value, found.deadline))

    def _alive(self, leaf: Leaf | None) -> bytes | None:
        if leaf is None:
            return None
        value, deadline = leaf
        return value if deadline is None or deadline > self._now() else None

    def _read(self, cursor: sqlite3.Cursor, transaction: Transaction) -> Outcome:
        instant = self._begin_reading(cursor)
        failed_index = first_failed(instant, transaction.checks)
        answers = tuple([answer(instant, read) for read in transaction.reads])
        cursor.execute(statements.COMMIT)
        return Outcome(
            Status.APPLIED if failed_index is None else Status.CHECK_FAILED, answers, failed_index=failed_index
        )

    def _begin_reading(self, cursor: sqlite3.Cursor) -> Instant:
        for _ in range(_LOOKS_AT_THE_CLOCK):
            cursor.execute(statements.BEGIN_READING)
            now = self._now()
            has_documents = _has_documents(cursor)
            if self._now() == now:
                break
            cursor.execute(statements.COMMIT)
        else:
            cursor.execute(statements.BEGIN_READING)
            has_documents = _has_documents(cursor)
        return Instant(cursor, self._database, now, has_documents)

    def _write(self, cursor: sqlite3.Cursor, transaction: Transaction) -> Outcome:
        checks, reads, writes = transaction
        cursor.execute(statements.BEGIN_WRITING)
        before = cursor.connection.total_changes
        instant = Instant(cursor, self._database, self._now(), _has_documents(cursor))
        failed_index = first_failed(instant, checks)
        answers = tuple([answer(instant, read) for read in reads])
        if failed_index is not None:
            cursor.execute(statements.ROLLBACK)
            return Outcome(Status.CHECK_FAILED, answers, failed_index=failed_index)
        counters, notified, failed_index = apply(instant, writes)
        if failed_index is not None:
            cursor.execute(statements.ROLLBACK)
            return Outcome(Status.NOT_A_COUNTER, answers, failed_index=failed_index)
        # The short way is open again when nothing is left to reclaim.
        self._short_ways = _SHORT_WAYS if reclaim(instant, len(writes)) else 0
        self._clock.note(cursor, instant.now)
        if notified:
            self._notify_and_commit(cursor, notified)
        else:
            self._commit(cursor)
        self._space.tidy_up(cursor, cursor.connection.total_changes - before)
        return Outcome(Status.APPLIED, answers, tuple(counters))

    def _overwrite(self, cursor: sqlite3.Cursor, asked: tuple[str, tuple[bytes, bytes]]) -> bool:
        """Put what lasts over what lasts at a key, by one of two statements, and tell whether that was there."""
        try:
            return cursor.execute(*asked).rowcount == 1
        except sqlite3.OperationalError as error:
            raise self._maybe_committed(error) from error

    def _notify_and_commit(self, cursor: sqlite3.Cursor, notified: list[bytes]) -> None:
        """Commit, with the names of those who do not listen here, and wake those who do."""
        calls = [(self._database, name) for name in notified]
        listeners = self._listeners or listeners_at(self._connections.path)
        if self._shared:
            notification_log.post(cursor, [call for call in calls if listeners is None or call not in listeners])
        self._commit(cursor)
        if listeners is not None:
            listeners.notify(calls)

    def _commit(self, cursor: sqlite3.Cursor) -> None:
        """Commit; if the disk fails just now, who next opens the file may or may not find the writes in its log."""
        try:
            cursor.execute(statements.COMMIT)
        except sqlite3.OperationalError as error:
            raise self._maybe_committed(error) from error

    def _maybe_committed(self, error: sqlite3.OperationalError) -> Exception:
        return translated(error, self._connections.path, maybe_applied=True) if is_io_error(error) else error


def _has_documents(cursor: sqlite3.Cursor) -> bool:
    return bool(cursor.execute(statements.HAS_DOCUMENTS).fetchone()[0])


def _clock_of(shared: bool, clock: Callable[[], float] | None, machine: Machine | None) -> Clock:
    if clock is not None:
        return GivenClock(clock)
    machine = machine or this_machine()
    return FileClock(machine) if shared else MemoryClock(machine)


def _opener(durability: Durability, clock: Clock) -> Callable[[str], sqlite3.Connection]:
    """Return what opens connections; it does not hold the backend, which closes them when nobody holds it any more."""

    def opened(path: str) -> sqlite3.Connection:
        warn_of_network(path)
        connection = open_store(path, durability)
        try:
            clock.begin(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    return opened
