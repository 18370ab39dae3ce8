"""Connections to one file: reused, each by one thread at a time, and never carried across a fork.

*Fork.* SQLite keeps a table of the locks that its process holds on each file, and POSIX locks are not inherited. If a
child opened the file while its copy of that table still names the parent's connections, it would rely on locks that it
does not hold. After the parent has closed the file, the child's commits would be lost; after a fork during a
write, the child would never find the file unlocked. Leaving the inherited connections alone is not enough. So a fork
waits until no thread is inside a transaction and closes all connections first; parent and child open new ones when they
next need them. (See "How To Corrupt An SQLite Database File", section 2, on sqlite.org.)
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final
from weakref import WeakSet

from redicts.backends.sqlite.errors import is_busy
from redicts.backends.sqlite.files import MEMORY, open_store
from redicts.errors import StoreBusy, Unreachable

MAX_IDLE: Final = 16
"""How many idle connections are kept; each may hold two megabytes of cached pages."""


class Connection:
    """One connection with its one cursor, opened when first used; forks wait until it is not in use.

    As a context it gives the cursor to one thread. The lock is re-entrant, because a signal handler or a finalizer may
    interrupt a call of its own thread.
    """

    __slots__ = ("__weakref__", "_connect", "_path", "cursor", "lock", "running")

    def __init__(self, path: str, connect: Callable[[str], sqlite3.Connection] = open_store) -> None:
        self._path = path
        self._connect = connect
        self.cursor: sqlite3.Cursor | None = None
        self.lock = threading.RLock()
        self.running = False
        """Whether the thread that holds ``lock`` uses the cursor."""
        with _registry_lock:
            _registry.add(self)

    def __enter__(self) -> sqlite3.Cursor:
        self.lock.acquire()
        try:
            cursor = self.open()
        except BaseException:
            self.lock.release()
            raise
        self.running = True
        return cursor

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self.reset(error)
        finally:
            self.running = False
            self.lock.release()

    def open(self) -> sqlite3.Cursor:
        """Return the cursor; the caller holds ``lock``."""
        if self.running:
            raise StoreBusy(
                f"SQLite file {self._path!r}: called by a signal handler or a finalizer that interrupted another call "
                "of the same thread; do such work elsewhere"
            )
        if self.cursor is None:
            if self._path in _spoiled:
                raise Unreachable(
                    f"SQLite file {self._path!r}: this process was forked inside a call that used the file, "
                    "and SQLite cannot open it here; fork elsewhere, or start the process by 'spawn'"
                )
            self.cursor = self._connect(self._path).cursor()
        return self.cursor

    def reset(self, error: BaseException) -> None:
        """Leave no transaction open after an error; unless the file was only locked, also close the connection."""
        if self.cursor is None:
            return
        if self._path != MEMORY and not (isinstance(error, sqlite3.Error) and is_busy(error)):
            self.close()
        elif self.cursor.connection.in_transaction:
            self.cursor.execute("ROLLBACK")

    def close(self) -> None:
        """Roll back what has been begun, and close the connection.

        The cursor and the transaction end first: while a statement still exists, and an exception's traceback can hold
        one for long, SQLite only marks the connection as closed and keeps its locks.
        """
        if self.cursor is None:
            return
        cursor, self.cursor = self.cursor, None
        connection = cursor.connection
        cursor.close()
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.rollback()
        connection.close()

    def close_unused(self) -> None:
        """Close the connection unless a call uses it."""
        if self.lock.acquire(blocking=False):
            try:
                if not self.running:
                    self.close()
            finally:
                self.lock.release()

    def _renew(self) -> None:
        """Start over in a child, which owns a copy of a store in memory, and nothing of a file."""
        self.lock = threading.RLock()
        if self._path != MEMORY:
            self.running = False
            if self.cursor is not None:
                _spoiled.add(self._path)
                _make_immortal(self.cursor)
                self.cursor = None


class Pool:
    """The connections of one backend to a file, or its only one to a store in memory (``path`` is ``":memory:"``).

    A call pops a connection from ``idle``, or else asks :meth:`another`, and afterwards passes it to :meth:`give_back`.
    """

    def __init__(self, path: str, connect: Callable[[str], sqlite3.Connection]) -> None:
        self.path = path
        self.closed = False
        self.idle: list[Connection] = []
        self._connect = connect
        # It is never idle, so that every thread waits for it.
        self._only = Connection(path, connect) if path == MEMORY else None

    def another(self) -> Connection:
        """Return a connection when none is idle."""
        return self._only or Connection(self.path, self._connect)

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next call, or close it."""
        if connection is self._only or len(self.idle) >= MAX_IDLE:
            if self.closed or connection is not self._only:
                connection.close_unused()
            return
        self.idle.append(connection)
        if self.closed:
            connection.close_unused()

    def close(self) -> None:
        """Close idle connections now, and from now on each one as soon as the call that uses it ends."""
        self.closed = True
        for connection in [*self.idle, *([self._only] if self._only else [])]:
            connection.close_unused()


def _make_immortal(cursor: sqlite3.Cursor) -> None:
    """Keep a connection of the parent open in a child, even when the child's interpreter ends."""
    import ctypes  # noqa: PLC0415  (hardly ever needed)

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(cursor))


_registry: Final[WeakSet[Connection]] = WeakSet()
_registry_lock = threading.RLock()
_paused: Final[list[Connection]] = []

_spoiled: Final[set[str]] = set()
"""Files that this process must not open, because it was forked while a call used them."""


def _before_fork() -> None:
    _registry_lock.acquire()
    for connection in list(_registry):
        # This waits until no other thread uses the connection, and keeps them out.
        connection.lock.acquire()
        _paused.append(connection)
        if connection._path != MEMORY and not connection.running:
            connection.close()


def _after_fork_in_parent() -> None:
    while _paused:
        _paused.pop().lock.release()
    _registry_lock.release()


def _after_fork_in_child() -> None:
    global _registry_lock  # noqa: PLW0603  (the parent's may be held by a thread that is not here)
    _registry_lock = threading.RLock()
    while _paused:
        _paused.pop()._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
