"""Minitransactions as SQL transactions, one for one.

*Atomicity.* A transaction that writes takes SQLite's write lock before it reads the clock, so no other write happens
between the state that it sees and the time that it uses. One that only reads takes its snapshot between two looks at
the clock that show the same millisecond: no TTL ended between the snapshot and the time.

*Fast path.* A statement outside a transaction is a transaction of its own. So reading a value takes one statement, and
a snapshot only if its TTL has ended by then. Overwriting a persistent leaf with a persistent one takes one statement,
which needs no clock. The same holds for documents, see ``documents.py``.

*Expiry.* Deadlines are milliseconds of the store's clock, see ``clock.py``. A transaction that writes also removes a
bounded number of expired values, found through the index of deadlines, if the last one that did so is a second
or 64 writes ago, and always more than these may have added. So a stream of short-lived values keeps the file bounded.
None takes the fast path while more is to be reclaimed. Free pages are returned, see ``vacuum.py``.

*Notifications.* Listeners of this process are notified after the commit. Other processes find the names of theirs in
the file, see ``notification_log.py`` and ``poller.py``.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from os import F_OK, access, stat
from time import monotonic
from typing import Final, TypeVar

from redicts.backends.sqlite import notification_log, statements
from redicts.backends.sqlite.backup import back_up
from redicts.backends.sqlite.clock import Clock, FileClock, GivenClock, Machine, this_machine
from redicts.backends.sqlite.connections import LOOK_SECS, Pool
from redicts.backends.sqlite.documents import Leaf, document_covering, leaf_in_document
from redicts.backends.sqlite.errors import LOCKED, is_busy, is_io_error, translated
from redicts.backends.sqlite.file_systems import warn_of_network
from redicts.backends.sqlite.files import MEMORY, Durability, examined, log_of, open_store
from redicts.backends.sqlite.interruptions import interrupting
from redicts.backends.sqlite.keys import LOCK_SPACES, EncodedKeys
from redicts.backends.sqlite.notifications import Listeners, SqliteListener, listeners_at, shared_listeners, watched
from redicts.backends.sqlite.snapshot import Snapshot, entries_of_leaf
from redicts.backends.sqlite.vacuum import DUE_AFTER, Vacuum
from redicts.backends.sqlite.write_queue import Retry, shared_queue
from redicts.core.backend import Backend, Capabilities, ServerState
from redicts.core.minitransaction import Key, Outcome, Path, Read, Scope, Status, Transaction
from redicts.core.ordered_keys import encode
from redicts.core.watchers import changed_paths
from redicts.errors import StoreTimeout, Unreachable, Unsupported
from redicts.forks import stack

_SNAPSHOT_ATTEMPTS: Final = 100
"""How often to try for a snapshot within one millisecond, before a longer one is accepted."""

_RECLAIM_AFTER: Final = 64
"""After so many writes a transaction reclaims expired values: more than these may have added."""

_RECLAIM_INTERVAL_MS: Final = 1_000
"""A transaction that comes so long after the last one that reclaimed does so, too."""

_KNOWN_DOCUMENTS: Final = 1024
"""How many keys are remembered at which a document was found."""

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")

_Job = Callable[["SqliteBackend", sqlite3.Cursor, _Argument], _Result]


def _on_connection(*, writes: bool = False) -> Callable[[_Job[_Argument, _Result]], Callable[..., _Result]]:
    """Decorate a method that takes a cursor: give it that of a connection, and repeat it while the file is locked.

    The repetition ends at a deadline, a time of ``time.monotonic``, if the caller gives one after the argument.

    The method begins and ends its SQL transaction itself; if it raises, the transaction is rolled back. Errors of
    SQLite are raised as those of redicts. All of it is written out, for each call of the store passes here. There is no
    ``try`` inside the ``with``: its own first instruction would be outside of every handler.
    """

    def decorate(job: _Job[_Argument, _Result]) -> Callable[..., _Result]:
        @wraps(job)
        def call(
            self: SqliteBackend, argument: _Argument, deadline: float | None = None, /, *, repeated: bool = False
        ) -> _Result:
            pool = self._pool
            queue = self._queue if writes else None
            now = monotonic()
            if queue is not None and now >= queue.look_due and not repeated:
                if access(queue.path, F_OK) and not queue.admits_others():
                    return self._repeat(call, argument, writes, sqlite3.OperationalError(LOCKED), repeated, deadline)
                queue.look_due = now + LOOK_SECS
            try:
                connection = pool.idle.pop()
            except IndexError:
                connection = pool.another()
            try:
                with connection.lock:
                    cursor = connection.cursor
                    # Is its file still at the path? See connections.py; inline, because a call takes as long as this.
                    due = now >= connection.look_due
                    if (
                        cursor is None
                        or connection.running
                        or (
                            (due or queue is not None)
                            and (
                                (found := stat(pool.path))[1:3] != connection.file
                                or not found[6]
                                or (due and stat(connection.log_name)[1:3] != connection.log)
                            )
                        )
                    ):
                        cursor = connection.open()
                    if due:
                        connection.look_due = now + LOOK_SECS
                    connection.running = True
                    result = job(self, cursor, argument)
                    connection.running = False
                    return result
            except BaseException as error:
                problem = connection.settle(error)
            finally:
                if len(pool.idle) < pool.most_idle:
                    pool.idle.append(connection)
                else:
                    pool.give_back(connection)
            return self._repeat(call, argument, writes, problem, repeated, deadline)

        return call

    return decorate


class SqliteBackend(Backend):
    """One database of a SQLite file, or of the memory of this process if the path is ``":memory:"``.

    ``clock`` returns seconds since the epoch, and ``machine`` holds the sources of the file's clock; tests pass some
    that they control.
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
        self._is_shared = shared
        self._capabilities = Capabilities(
            ttl=True,
            processes=shared,
            durable=shared,
            atomic_entries=None,
            push=not shared,
            documents=True,
            changes=True,
        )
        self._database = str(database)
        self._encoded = EncodedKeys(self._database)
        if clock is not None:
            self._clock: Clock = GivenClock(clock)
        else:
            self._clock = (FileClock if shared else Clock)(machine or this_machine())
        self._now = self._clock.now
        # Absolute, because connections are opened at any time, and the process may change its directory.
        try:
            path = os.path.abspath(path) if shared else path
        except OSError as error:
            raise Unreachable(
                f"SQLite file {path!r}: the working directory cannot be found ({error.strerror}); give an absolute path"
            ) from error
        self._pool = Pool(path, _opener(durability, self._clock))
        self._queue = shared_queue(path) if shared else None
        self._timeout = busy_timeout_secs
        self._vacuum = Vacuum(log_of(path))
        self._listeners = None if shared else Listeners(None)
        self._unreclaimed = 0
        self._reclaim_due = 0
        self._known_documents: set[bytes] = set()
        weakref.finalize(self, self._pool.close)

    @property
    def capabilities(self) -> Capabilities:
        """All but ``push`` for a file; a store in memory ends with its process and is not shared, so it can push."""
        return self._capabilities

    def execute(self, transaction: Transaction, /, deadline: float | None = None) -> Outcome:
        """Decide and apply one minitransaction as one SQL transaction.

        Cost: tens of microseconds, and in proportion to the values in the scopes that it names. A reader waits for
        nobody; a writer waits for other writers of the same file, up to ``busy_timeout_secs`` and to the deadline.
        """
        checks, reads, writes = transaction
        if deadline is not None and monotonic() >= deadline:
            raise self._too_late()
        if writes:
            return self._write(transaction, deadline)
        if len(reads) == 1 and not checks and isinstance(reads[0], Read) and reads[0].scope is Scope.NODE:
            outcome = self._read_leaf(reads[0], deadline)
            if outcome is not None:
                return outcome
        return self._read(transaction, deadline)

    execute_until = execute

    @_on_connection()
    def fetch(self, cursor: sqlite3.Cursor, key: Key, /) -> bytes | None:
        """Return a value by one statement. Cost: some microseconds, of which SQLite has more than half."""
        encoded = self._encoded[key]
        row = cursor.execute(statements.READ_ROW, (encoded,)).fetchone()
        leaf: Leaf | None = row
        if row is None:
            leaf = leaf_in_document(cursor, encoded)
        elif type(row[0]) is int:
            leaf = cursor.execute(statements.READ_NODE, (encoded,)).fetchone()
        return leaf[0] if leaf is not None and (leaf[1] is None or leaf[1] > self._now()) else None

    def fetch_document(self, argument: Key, /, *, repeated: bool = False) -> bytes | None:
        """Return a value or a document, by one statement if the key holds the same kind as the last time.

        The steps of :func:`_on_connection` are written out once more, for the most frequent call of all.
        """
        encoded = self._encoded[argument]
        known = encoded in self._known_documents
        pool = self._pool
        now = monotonic()
        try:
            connection = pool.idle.pop()
        except IndexError:
            connection = pool.another()
        try:
            with connection.lock:
                cursor = connection.cursor
                due = now >= connection.look_due
                if (
                    cursor is None
                    or connection.running
                    or (
                        due
                        and (
                            (found := stat(pool.path))[1:3] != connection.file
                            or not found[6]
                            or stat(connection.log_name)[1:3] != connection.log
                        )
                    )
                ):
                    cursor = connection.open()
                if due:
                    connection.look_due = now + LOOK_SECS
                connection.running = True
                statement = statements.READ_DOCUMENT_ROW if known else statements.READ_ROW
                row = cursor.execute(statement, (encoded,)).fetchone()
                leaf: Leaf | None = row
                if row is None or type(row[0]) is int:
                    leaf = self._find(cursor, encoded, known, row)
                connection.running = False
            return leaf[0] if leaf is not None and (leaf[1] is None or leaf[1] > self._now()) else None
        except BaseException as error:
            problem = connection.settle(error)
        finally:
            if len(pool.idle) < pool.most_idle:
                pool.idle.append(connection)
            else:
                pool.give_back(connection)
        return self._repeat(SqliteBackend.fetch_document, argument, False, problem, repeated, None)

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        """Replace a persistent value by a persistent one by one statement, unless more is to be reclaimed."""
        long = len(value) > statements.MOST_INLINE_BYTES
        statement = statements.OVERWRITE_LONG if long else statements.OVERWRITE
        try:
            return self._unreclaimed < _RECLAIM_AFTER and self._overwrite((statement, (value, self._encoded[key])))
        finally:
            if watched:
                self._notify_changes((key.path,))

    def overwrite_document(self, key: Key, document: bytes, /) -> bool:
        """Replace a persistent document by a persistent one in the same way."""
        long = len(document) > statements.MOST_INLINE_DOCUMENT_BYTES
        statement = statements.OVERWRITE_LONG_DOCUMENT if long else statements.OVERWRITE_DOCUMENT
        try:
            return self._unreclaimed < _RECLAIM_AFTER and self._overwrite((statement, (document, self._encoded[key])))
        finally:
            if watched:
                self._notify_changes((key.path,))

    @_on_connection()
    def _back_up(self, cursor: sqlite3.Cursor, path: str) -> None:
        back_up(cursor, path)

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the whole file, all its databases, atomically, while others go on writing.

        The copy appears when it is complete and on the disk, and is a store like any other. It is made in the directory
        of its path. The log of the store grows while it is copied. A fork of this process waits for the end.

        Raises ``FileExistsError`` if something exists at the path, which is left as it is, and
        :class:`~redicts.errors.StoreError` if the store or the copy fails; then nothing is left behind.

        Cost: in proportion to the file, some hundred megabytes per second.
        """
        self._back_up(os.path.abspath(path))

    def listen(self, name: str, _deadline: float | None = None, /) -> SqliteListener:
        """Listen: notified at once by this process, within 50 milliseconds by others that share the file.

        Cost: some microseconds, and about a millisecond for the first poll of the first thread that waits.
        """
        listeners = self._listeners or shared_listeners(self._pool.path)
        self._listeners = listeners
        if self._pool.closed:
            # Other instances that use the file share them.
            self._listeners = None
        return SqliteListener(listeners, self._database, name)

    listen_until = listen

    def listen_to_changes(self, name: str, path: Path, /) -> SqliteListener:
        """Listen: notified at once by this process, within 50 milliseconds by others that share the file."""
        listener = self.listen(name)
        listener.watch(path)
        return listener

    def about(self) -> Mapping[str, str]:
        """Return the version of SQLite. Costs nothing."""
        return {"SQLite": sqlite3.sqlite_version}

    def servers(self) -> Mapping[str, ServerState]:
        """Return the state of the file, which SQLite reads as a whole to find damage."""
        path = self._pool.path
        return {path: ServerState("", True, {"file": examined(path)})} if self._is_shared else {}

    def close(self) -> None:
        """Close the file. A store in memory stays open while this object exists, so that later calls lose nothing."""
        if self._is_shared:
            self._pool.close()
            self._listeners = None

    @_on_connection()
    def _read_leaf(self, cursor: sqlite3.Cursor, read: Read) -> Outcome | None:
        """Answer the most frequent transaction, the read of one value, by one statement if it has a row of its own.

        A value that has expired by now may have been replaced since it was read, so it takes a snapshot to tell.
        """
        leaf = cursor.execute(statements.READ_NODE, (encode(self._database, read.key),)).fetchone()
        if leaf is None:
            return None
        answer = entries_of_leaf(leaf, read.ttls, self._now())
        return Outcome(Status.APPLIED, (answer,)) if answer.values else None

    def _find(self, cursor: sqlite3.Cursor, key: bytes, known: bool, number: object) -> Leaf | None:
        """Return what is at a key, expired or not, where one statement found a long value's number or nothing."""
        if number is not None:
            leaf: Leaf | None = cursor.execute(
                statements.READ_DOCUMENT if known else statements.READ_NODE, (key,)
            ).fetchone()
            return leaf
        if known:
            self._known_documents.discard(key)
            leaf = cursor.execute(statements.READ_NODE, (key,)).fetchone()
            if leaf is not None:
                return leaf
        document = document_covering(cursor, key)
        if document is None or document.key != key:
            return None if document is None else document.leaf(key)
        if len(self._known_documents) >= _KNOWN_DOCUMENTS:
            self._known_documents.clear()
        self._known_documents.add(key)
        return document.text, document.deadline

    @_on_connection()
    def _read(self, cursor: sqlite3.Cursor, transaction: Transaction) -> Outcome:
        checks, reads, _ = transaction
        for attempt in range(_SNAPSHOT_ATTEMPTS):
            cursor.execute(statements.BEGIN_READING)
            snapshot = Snapshot(cursor, self._database, self._now())
            if self._now() == snapshot.now or attempt == _SNAPSHOT_ATTEMPTS - 1:
                break
            cursor.execute(statements.COMMIT)
        failed_index = snapshot.first_failed(checks) if checks else None
        answers = tuple(map(snapshot.answer, reads))
        cursor.execute(statements.COMMIT)
        return Outcome(
            Status.APPLIED if failed_index is None else Status.CHECK_FAILED, answers, failed_index=failed_index
        )

    @_on_connection(writes=True)
    def _write(self, cursor: sqlite3.Cursor, transaction: Transaction) -> Outcome:
        checks, reads, writes = transaction
        cursor.execute(statements.BEGIN_WRITING)
        before = cursor.connection.total_changes
        # Records of locks are never parts of documents. Mostly the first write tells.
        looks = writes[0].key.space[:1] not in LOCK_SPACES or not LOCK_SPACES.issuperset(
            [each.key.space[:1] for part in transaction for each in part]
        )
        snapshot = Snapshot(cursor, self._database, self._now(), looks=looks)
        if len(checks) == 1 and not reads and snapshot.delete_checked(*checks, writes[0]):
            checks, writes = (), writes[1:]
        failed_index = snapshot.first_failed(checks) if checks else None
        answers = tuple(map(snapshot.answer, reads)) if reads else ()
        if failed_index is not None:
            cursor.execute(statements.ROLLBACK)
            return Outcome(Status.CHECK_FAILED, answers, failed_index=failed_index)
        counters, notified, failed_index = snapshot.apply(writes)
        if failed_index is not None:
            cursor.execute(statements.ROLLBACK)
            return Outcome(Status.NOT_A_COUNTER, answers, failed_index=failed_index)
        self._unreclaimed += len(writes)
        if self._unreclaimed >= _RECLAIM_AFTER or snapshot.now >= self._reclaim_due:
            # If more is left, each write reclaims, and none takes the fast path.
            self._unreclaimed = _RECLAIM_AFTER if snapshot.reclaim(self._unreclaimed) else 0
            self._reclaim_due = snapshot.now + _RECLAIM_INTERVAL_MS
        if snapshot.now >= self._clock.record_due:
            self._clock.record(cursor, snapshot.now)
        calls = [(self._database, name) for name in notified] if notified else ()
        listeners = self._listeners_here(cursor, calls) if calls else None
        try:
            cursor.execute(statements.COMMIT)
        except sqlite3.OperationalError as error:
            listeners = None
            raise self._maybe_committed(error) from error
        finally:
            # Also if a signal handler raises right after the commit.
            if listeners is not None:
                listeners.notify(calls)
            if watched:
                self._notify_changes(changed_paths(writes))
        changes = cursor.connection.total_changes - before
        self._vacuum.pending += changes
        if self._vacuum.pending >= DUE_AFTER:
            self._vacuum.run(cursor, changes)
        return Outcome(Status.APPLIED, answers, tuple(counters))

    @_on_connection(writes=True)
    def _overwrite(self, cursor: sqlite3.Cursor, request: tuple[str, tuple[bytes, bytes]]) -> bool:
        """Overwrite a persistent value or document by one statement, and tell whether there was one."""
        try:
            if cursor.execute(*request).rowcount != 1:
                return False
        except sqlite3.OperationalError as error:
            raise self._maybe_committed(error) from error
        self._unreclaimed += 1
        return True

    def _listeners_here(self, cursor: sqlite3.Cursor, calls: list[notification_log.Call]) -> Listeners | None:
        """Return the listeners of this process, after the names of all others are written to the notification log."""
        listeners = self._listeners or listeners_at(self._pool.path)
        if self._is_shared:
            notification_log.append(cursor, [call for call in calls if listeners is None or call not in listeners])
        return listeners

    def _notify_changes(self, paths: Iterable[Path]) -> None:
        """Notify those of this process that listen to changes at, above or below these paths."""
        listeners = self._listeners or listeners_at(self._pool.path)
        if listeners is not None:
            listeners.notify_changes(self._database, paths)

    def _maybe_committed(self, error: sqlite3.OperationalError) -> Exception:
        """Translate a failure of the disk: the next client may or may not find the writes in the log."""
        return translated(error, self._pool.path, maybe_applied=True) if is_io_error(error) else error

    def _repeat(
        self,
        call: Callable[..., _Result],
        argument: object,
        writes: bool,
        problem: sqlite3.Error | OverflowError,
        repeated: bool,
        deadline: float | None,
    ) -> _Result:
        """Repeat a call while the file is locked; raise any other problem as an error of redicts."""
        if repeated:
            raise problem
        timeout = self._timeout if deadline is None else min(self._timeout, deadline - monotonic())
        retry = Retry(timeout, self._queue if writes else None)
        try:
            while isinstance(problem, sqlite3.Error) and is_busy(problem):
                if self._interrupts_another():
                    raise interrupting(self._pool.path) from problem
                if not retry.wait():
                    if timeout < self._timeout:
                        raise self._too_late() from problem
                    break
                try:
                    return call(self, argument, repeated=True)
                except (sqlite3.Error, OverflowError) as error:
                    problem = error
        finally:
            retry.end()
        if isinstance(problem, OverflowError):
            raise Unsupported(
                f"SQLite file {self._pool.path!r}: a value, path or number is larger than SQLite can hold ({problem}); "
                "nothing was written"
            ) from problem
        raise translated(problem, self._pool.path) from problem

    def _too_late(self) -> StoreTimeout:
        return StoreTimeout(
            f"SQLite file {self._pool.path!r}: the timeout of the operation ended before the file could be used, and "
            "this request wrote nothing; another program may hold its lock; try later, or with a longer timeout"
        )

    def _interrupts_another(self) -> bool:
        """Tell whether this call interrupts another one of its thread that uses the file and that it may wait for."""
        outer = [frame.f_locals for frame in stack() if frame.f_code.co_varnames[:2] == ("self", "argument")]
        return any(
            "problem" not in each and "connection" in each and each["connection"].running
            for each in outer
            if each["self"]._pool.path == self._pool.path
        )


def _opener(durability: Durability, clock: Clock) -> Callable[[str], sqlite3.Connection]:
    """Return a function that opens connections; it does not hold the backend, whose end closes them."""

    def connect(path: str) -> sqlite3.Connection:
        warn_of_network(path)
        connection = open_store(path, durability)
        try:
            clock.begin(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    return connect
