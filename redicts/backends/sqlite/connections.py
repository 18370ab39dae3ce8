"""Connections to one file: reused, each by one thread at a time, and never carried across a fork.

*Fork.* SQLite keeps a table of the locks that its process holds on each file, and POSIX locks are not inherited. If a
child opened the file while its copy of that table still names the parent's connections, it would rely on locks that it
does not hold. After the parent has closed the file, the child's commits would be lost; after a fork during a
write, the child would never find the file unlocked. Leaving the inherited connections alone is not enough. So a fork
waits until no thread is inside a transaction and closes all connections first; parent and child open new ones when they
next need them. (See "How To Corrupt An SQLite Database File", section 2, on sqlite.org.)

*Deleted and replaced files.* SQLite goes on using a file that was deleted, or replaced by another one of its name, and
nobody else sees these writes. So each write first compares the file at the path with the one that its connection has
open, and so does a read if the last comparison is older than ``LOOK_SECS``. (Nothing cheaper is sure: a directory above
may be moved, a link may be turned, and several changes may share a time of modification.) If they differ, the
connection is dropped and another one opens the file that is there: a lock that was in the former file is not held
there, so writes under it are refused. The last connection to a file deletes its log by name, which may be that of the
new file by now. So one connection to the former file is kept open.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sqlite3
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final
from weakref import WeakSet

from redicts.backends.sqlite.errors import LOCKED, is_busy, is_read_only, why_not_open
from redicts.backends.sqlite.files import MEMORY, alone_in, log_of, open_store
from redicts.backends.sqlite.interruptions import interrupting, release
from redicts.errors import CorruptData, RedictsError, StoreBusy, Unreachable
from redicts.forks import stack

log: Final = logging.getLogger("redicts.sqlite")

LOOK_SECS: Final = 0.002
"""How long a read relies on the last comparison of the file at the path with the open one, a write on that of the log,
and a writer on having found no queue. A comparison takes one to three microseconds."""

_Identity = tuple[int, int]
"""The inode and the device of a file, as ``os.stat(path)[1:3]``."""

_MAX_IDLE: Final = 16
"""How many idle connections are kept; each may hold two megabytes of cached pages."""


class Connection:
    """One connection with its one cursor, opened when first used; forks wait until it is not in use.

    A call holds ``lock`` and sets ``running`` while it uses the cursor. The lock is re-entrant, because a signal
    handler or a finalizer may interrupt a call of its own thread. If an exception interrupts a call even while it
    cleans up, ``running`` stays set, and the next call finds out by :meth:`is_interrupted` that nobody uses the cursor.
    """

    __slots__ = (
        "__weakref__",
        "_connect",
        "_names",
        "_path",
        "cursor",
        "file",
        "lock",
        "log",
        "log_name",
        "look_due",
        "running",
    )

    def __init__(self, path: str, connect: Callable[[str], sqlite3.Connection] = open_store) -> None:
        self._path = path
        self._connect = connect
        self.cursor: sqlite3.Cursor | None = None
        self.lock = threading.RLock()
        self.running = False
        """Whether the thread that holds ``lock`` uses the cursor."""
        self.file: _Identity | None = None
        """The open file."""
        self.log: _Identity | None = None
        self.log_name = path
        """Its write-ahead log, and the path of that."""
        self.look_due = math.inf if path == MEMORY else 0.0
        """The time from which on a read compares the file at the path with the open one."""
        self._names: dict[str, _Identity | None] = {}
        """The names of the open file, its log and its index of the log, past symbolic links, and what has them."""
        with _registry_lock:
            _registry.add(self)

    def open(self) -> sqlite3.Cursor:
        """Return the cursor; the caller holds ``lock``, and has the connection in a local variable of that name."""
        if self.running:
            if self.is_interrupted():
                raise interrupting(self._path)
            self.reset()
        # Before the cursor is made, so that no call that interrupts this one makes another store in memory.
        self.running = True
        return self._open()

    def is_interrupted(self) -> bool:
        """Tell whether another call of this thread, which the running one interrupts, uses the cursor.

        Both have the connection in a local variable of this name.
        """
        found = [frame.f_locals for frame in stack() if "connection" in frame.f_code.co_varnames]
        return len([each for each in found if each.get("connection") is self and "problem" not in each]) > 1

    def settle(self, error: BaseException) -> sqlite3.Error | OverflowError:
        """Clean up after a call that raised: return the error that :class:`Retry` looks at, or raise any other."""
        is_interrupted = self.is_interrupted()
        try:
            with self.lock:
                if isinstance(error, OSError) and not isinstance(error, RedictsError) and not self.running:
                    # The file or its log is not at its path.
                    self._look()
                    error = sqlite3.OperationalError(LOCKED)
                elif not (is_interrupted and isinstance(error, StoreBusy)):
                    self.reset(error)
                    if (
                        isinstance(error, sqlite3.Error)
                        and is_read_only(error)
                        and self.file not in (None, _identity(self._path))
                    ):
                        # SQLite refuses to write to a file that was moved, and has written nothing.
                        error = sqlite3.OperationalError(f"{LOCKED}: {error}")
        finally:
            if not is_interrupted:
                # An exception may come between a block and its end.
                release(self.lock)
        if isinstance(error, (sqlite3.Error, OverflowError)):
            return error
        raise error

    def _open(self) -> sqlite3.Cursor:
        if self.cursor is not None and self._path != MEMORY:
            self._look()
        if self.cursor is None:
            if self._path in _spoiled:
                raise Unreachable(
                    f"SQLite file {self._path!r}: this process was forked inside a call that used the file, "
                    "and SQLite cannot open it here; fork elsewhere, or start the process by 'spawn'"
                )
            if self._path == MEMORY:
                self.cursor = self._connect(self._path).cursor()
            else:
                self._open_file()
        assert self.cursor is not None
        return self.cursor

    def _open_file(self) -> None:
        """Open the file, and remember which one it is.

        While others replace it, or remove the log of the one before, the call is to be repeated.
        """
        before = _identity(self._path)
        try:
            connection = self._connect(self._path)
        except sqlite3.OperationalError as error:
            replaced = self._path in _replaced or _identity(self._path) != before
            if replaced and why_not_open(self._path) is None:
                raise sqlite3.OperationalError(f"{LOCKED}: {error}") from error
            raise
        self.file = _identity(self._path)
        if self.file is None or before not in (None, self.file):
            connection.close()
            raise sqlite3.OperationalError(f"{LOCKED}: the file was replaced just when it was opened")
        name = log_of(self._path)
        self.log_name = name
        self.log = _identity(name)
        if self.log is None:
            # Without a log, the file itself is compared twice.
            self.log_name, self.log = self._path, self.file
        real = name.removesuffix("-wal")
        self._names = {each: _identity(each) for each in (real, name, f"{real}-shm")}
        self.look_due = monotonic() + LOOK_SECS
        self.cursor = connection.cursor()

    def _look(self) -> None:
        """Drop the connection if its file is not at the path any more; raise an error if it cannot be used."""
        try:
            status = os.stat(self._path)
        except OSError:
            status = None
        found = status and status[1:3]
        if status is None or found != self.file:
            log.warning(
                "the SQLite file %r was %s while it was open: locks and values in it are lost to this process, which "
                "continues with the file that is there now",
                self._path,
                "deleted" if found is None else "replaced",
            )
            _replaced.add(self._path)
            self.close()
            return
        if not status.st_size:
            raise CorruptData(
                f"SQLite file {self._path!r}: another program emptied it while it was open; stop all programs that "
                "use it, remove the files with -wal and -shm added to its name, and restore it from a copy"
            )
        if _identity(self.log_name) != self.log:
            raise Unreachable(
                f"SQLite file {self._path!r}: another program removed its write-ahead log (-wal) while it was open, so "
                "nobody else would see what is written; stop all programs that use the file, the last one saves what "
                "was committed"
            )
        self.look_due = monotonic() + LOOK_SECS

    def reset(self, error: BaseException | None = None) -> None:
        """Leave no transaction open after an error; unless the file was only locked, also close the connection."""
        try:
            self._reset(error)
        except BaseException:
            # A signal handler raised meanwhile.
            self._reset(error)
            raise

    def _reset(self, error: BaseException | None) -> None:
        if self.cursor is not None:
            if self._path != MEMORY and not (isinstance(error, sqlite3.Error) and is_busy(error)):
                self.close()
            elif self.cursor.connection.in_transaction:
                self.cursor.execute("ROLLBACK")
        self.running = False

    def close(self) -> None:
        """Roll back what has been begun, and close the connection.

        The cursor and the transaction end first: while a statement still exists, and an exception's traceback can hold
        one for long, SQLite only marks the connection as closed and keeps its locks.
        """
        cursor = self.cursor
        if cursor is None:
            return
        connection = cursor.connection
        with contextlib.suppress(sqlite3.ProgrammingError):  # the connection is closed, if an exception came after that
            cursor.close()
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.rollback()
        if self._path != MEMORY and self._must_stay(connection):
            _make_immortal(connection)
        else:
            connection.close()
        # At last: after an exception on the way this is called again.
        self.cursor = None

    def _must_stay(self, connection: sqlite3.Connection) -> bool:
        """Tell whether closing the connection could delete the log of a file that has replaced its own."""
        names = iter(self._names.items())
        name, file = next(names)
        if file is None or _identity(name) == file or _kept.get(file, connection) is not connection:
            # With one connection that is kept, no other is the last.
            return False
        if _identity(name) is None:
            try:
                # This fails if another connection has the file open, and else saves the log and deletes it.
                connection.execute("PRAGMA journal_mode = DELETE")
                return False
            except sqlite3.Error as error:
                if not is_busy(error):
                    return False
        if _kept.setdefault(file, connection) is not connection:
            return False
        with contextlib.suppress(sqlite3.Error, OSError), alone_in(os.path.dirname(name)):
            for name, identity in names:
                if identity is not None and _identity(name) == identity:
                    os.unlink(name)
        return True

    def close_unused(self) -> None:
        """Close the connection unless a call uses it."""
        connection = self
        if connection.running and self.is_interrupted():
            return
        try:
            if self.lock.acquire(blocking=False):
                self.close()
        finally:
            release(self.lock)

    def _renew(self) -> None:
        """Start over in a child, which owns a copy of a store in memory, and nothing of a file."""
        self.lock = threading.RLock()
        if self._path != MEMORY and (self.running or self.cursor is not None):
            # The fork interrupts a call, which uses the file or is about to open it.
            _spoiled.add(self._path)
            _make_immortal(self.cursor)
            self.cursor = None


class Pool:
    """The connections of one backend to a file, or its only one to a store in memory (``path`` is ``":memory:"``).

    A call pops a connection from ``idle``, or else asks :meth:`another`. Afterwards it puts it back there, or passes it
    to :meth:`give_back` if ``most_idle`` are there.
    """

    def __init__(self, path: str, connect: Callable[[str], sqlite3.Connection]) -> None:
        self.path = path
        self.closed = False
        self.most_idle = 0 if path == MEMORY else _MAX_IDLE
        """How many connections a call may leave in ``idle``: none in a closed pool."""
        self.idle: list[Connection] = []
        self._connect = connect
        # It is never idle, so that every thread waits for it.
        self._only = Connection(path, connect) if path == MEMORY else None

    def another(self) -> Connection:
        """Return a connection when none is idle."""
        return self._only or Connection(self.path, self._connect)

    def give_back(self, connection: Connection) -> None:
        """Close a connection that is not to be idle."""
        if connection is not self._only:
            connection.close_unused()

    def close(self) -> None:
        """Close idle connections now, and from now on each one as soon as the call that uses it ends."""
        self.closed, self.most_idle = True, 0
        for each in [*self.idle, *([self._only] if self._only else [])]:
            each.close_unused()


def _make_immortal(user: sqlite3.Connection | sqlite3.Cursor | None) -> None:
    """Keep a connection open that this is or uses, even when the interpreter ends."""
    import ctypes  # noqa: PLC0415  (hardly ever needed)

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(user))


def _identity(path: str) -> _Identity | None:
    """Return what identifies the file at a path, or ``None`` if there is none that can be reached."""
    try:
        return os.stat(path)[1:3]
    except OSError:
        return None


_registry: Final[WeakSet[Connection]] = WeakSet()
_registry_lock = threading.RLock()
_paused: Final[list[Connection]] = []

_kept: Final[dict[_Identity, sqlite3.Connection]] = {}
"""Files that are no longer at their paths, to each of which one connection is kept open."""

_replaced: Final[set[str]] = set()
"""Paths at which there was another file than the open one."""

_spoiled: Final[set[str]] = set()
"""Files that this process must not open, because it was forked while a call used them."""


def _before_fork() -> None:
    _registry_lock.acquire()
    for connection in list(_registry):
        # This waits until no other thread uses the connection, and keeps them out.
        connection.lock.acquire()
        _paused.append(connection)
        # A call that the fork interrupts may have looked at the cursor, and is to set ``running``.
        if not connection.is_interrupted():
            connection.reset()


def _after_fork_in_parent() -> None:
    while _paused:
        with contextlib.suppress(RuntimeError):  # a finalizer has closed it meanwhile, and released the lock
            _paused.pop().lock.release()
    _registry_lock.release()


def _after_fork_in_child() -> None:
    global _registry_lock  # noqa: PLW0603  (the parent's may be held by a thread that is not here)
    _registry_lock = threading.RLock()
    while _paused:
        _paused.pop()._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
