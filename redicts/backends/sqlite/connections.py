"""Connections to one file: reused, each by one thread at a time, none of them carried across a fork.

*Fork.* SQLite keeps a table of the locks that its process holds on each file, and POSIX locks are not inherited. A
child that opened the file while its copy of that table still names the parent's connections would believe to hold locks
that it does not hold: after the parent has closed the file, the child's commits are lost; and if the fork happened in
the midst of a write, the child finds the file locked for ever. Leaving the inherited connections alone is not enough.
So a fork waits until no transaction is under way in any thread and closes all connections first; parent and child open
new ones when they next need them. (See "How To Corrupt An SQLite Database File", section 2, on sqlite.org.)

*Waiting.* A file that others have locked can only be tried again. This is done here, between two attempts at the whole
transaction, and not by SQLite in the midst of one: so a fork need not wait for it, and no wait is longer than a few
milliseconds. Writers that have waited for long get into a queue, see ``turns.py``.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
from collections.abc import Callable
from time import monotonic, sleep
from typing import Final, TypeVar
from weakref import WeakSet

from redicts.backends.sqlite.errors import is_busy, translated
from redicts.backends.sqlite.files import MEMORY, open_store
from redicts.backends.sqlite.write_queue import Turns, turns_at
from redicts.errors import StoreBusy, Unreachable, Unsupported

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")

_MAX_IDLE: Final = 16
"""How many idle connections are kept; each may hold two megabytes of cached pages."""

_FIRST_DELAY_SECS: Final = 0.0005
_LONGEST_DELAY_SECS: Final = 0.005

_IMPATIENT_AFTER_SECS: Final = 0.05
"""How long a writer tries its luck before it queues. Nobody is overtaken for longer than that, and what the others in
the queue take."""

_FIRST_IN_LINE_DELAY_SECS: Final = 0.0002


class _Handle:
    """Perhaps a connection, with its one cursor. Only who holds ``lock`` uses, opens or closes it."""

    __slots__ = ("cursor", "lock", "running")

    def __init__(self) -> None:
        self.cursor: sqlite3.Cursor | None = None
        self.lock = threading.RLock()
        self.running = False

    def close(self) -> None:
        """Roll back what has been begun, and close the connection.

        The cursor and the transaction are ended first: SQLite only marks a connection as closed, and keeps its locks,
        while a statement of it is still there, and an exception's traceback can hold one for long.
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


class Connections:
    """The connections to one file, or the one connection to a store in memory (``path`` is ``":memory:"``).

    ``timeout`` is how many seconds to wait for locks that others hold; ``connect`` opens a connection. The locks in
    here are re-entrant because a signal handler or a finalizer may call in the midst of another call of its thread.
    """

    def __init__(self, path: str, timeout: float, connect: Callable[[str], sqlite3.Connection] = open_store) -> None:
        self.path = path
        self._connect = connect
        self._turns = None if path == MEMORY else turns_at(path)
        self._timeout = timeout
        self._only = _Handle() if path == MEMORY else None
        self._closed = False
        self._start()
        with _registry_lock:
            _registry.add(self)

    def _start(self) -> None:
        """Set up what belongs to one process: nothing open, no lock held."""
        self._growing = threading.RLock()
        self._idle: list[_Handle] = []
        self._handles = set() if self._only is None else {self._only}
        self._held: list[_Handle] = []

    def run(self, job: Callable[[sqlite3.Cursor, _Argument], _Result], argument: _Argument) -> _Result:
        """Return ``job(cursor, argument)``, run again as long as SQLite finds the file locked.

        The job begins and ends its transaction itself; if it raises, the transaction is rolled back. Errors of SQLite
        come out as those of redicts.
        """
        deadline: float | None = None
        delay = _FIRST_DELAY_SECS
        while True:
            try:
                return self._attempt(job, argument)
            except sqlite3.Error as error:
                now = monotonic()
                deadline = now + self._timeout if deadline is None else deadline
                if now >= deadline or not is_busy(error):
                    raise translated(error, self.path) from error
            except OverflowError as error:
                raise self._too_large(error) from error
            _doze(delay, deadline - now)
            delay = min(2 * delay, _LONGEST_DELAY_SECS)

    def write(self, job: Callable[[sqlite3.Cursor, _Argument], _Result], argument: _Argument) -> _Result:
        """Do what :meth:`run` does for a job that writes: it waits for its turn.

        Nobody who comes later is let in before it for much longer than a twentieth of a second.
        """
        turns = self._turns
        try:
            if turns is None or turns.mine():
                return self._attempt(job, argument)
        except sqlite3.Error as error:
            if not is_busy(error):
                raise translated(error, self.path) from error
        except OverflowError as error:
            raise self._too_large(error) from error
        return self.run(job, argument) if turns is None else self._write_in_turn(turns, job, argument)

    def _write_in_turn(
        self, turns: Turns, job: Callable[[sqlite3.Cursor, _Argument], _Result], argument: _Argument
    ) -> _Result:
        deadline = monotonic() + self._timeout
        delay = _FIRST_DELAY_SECS
        # Only what it waits while it might write counts against its timeout: else all would end up in the queue, and
        # a lock that is handed from one sleeping process to the next serves a tenth of the writers.
        waited, is_next = 0.0, True
        queues = False
        problem: sqlite3.Error = sqlite3.OperationalError("database is locked")
        try:
            while True:
                now = monotonic()
                if now >= deadline:
                    raise translated(problem, self.path) from problem
                if not queues and waited >= _IMPATIENT_AFTER_SECS:
                    queues = turns.join(deadline - now)
                _doze(delay, deadline - now)
                if is_next:
                    waited += monotonic() - now
                is_next = turns.first() if queues else turns.mine()
                if is_next:
                    try:
                        return self._attempt(job, argument)
                    except sqlite3.Error as error:
                        if not is_busy(error):
                            raise translated(error, self.path) from error
                        problem = error
                    except OverflowError as error:
                        raise self._too_large(error) from error
                delay = _FIRST_IN_LINE_DELAY_SECS if queues else min(2 * delay, _LONGEST_DELAY_SECS)
        finally:
            if queues:
                turns.leave()

    def _too_large(self, error: OverflowError) -> Unsupported:
        return Unsupported(
            f"SQLite file {self.path!r}: a value, path or number is larger than SQLite can hold ({error}); "
            "nothing was written"
        )

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    def close(self) -> None:
        """Close what is idle now, and from now on each connection as soon as the call that uses it ends."""
        self._closed = True
        for handle in list(self._handles):
            self._close_unused(handle)

    def _attempt(self, job: Callable[[sqlite3.Cursor, _Argument], _Result], argument: _Argument) -> _Result:
        try:
            handle = self._idle.pop()
        except IndexError:
            handle = self._another()
        try:
            with handle.lock:
                if handle.running:
                    raise StoreBusy(
                        f"SQLite file {self.path!r}: called by a signal handler or a finalizer that interrupted "
                        "another call of the same thread; do such work elsewhere"
                    )
                cursor = handle.cursor or self._open(handle)
                handle.running = True
                try:
                    return job(cursor, argument)
                except BaseException as error:
                    self._clean(handle, cursor, error)
                    raise
                finally:
                    handle.running = False
        finally:
            if len(self._idle) < _MAX_IDLE and not self._closed and self._only is None:
                self._idle.append(handle)
            else:
                self._give(handle)

    def _another(self) -> _Handle:
        """Return a new handle, which no other thread has, or the only one, which is never idle."""
        if self._only is not None:
            return self._only
        with self._growing:
            handle = _Handle()
            self._handles.add(handle)
            return handle

    def _give(self, handle: _Handle) -> None:
        if len(self._idle) >= _MAX_IDLE:
            with handle.lock:
                handle.close()
            self._handles.discard(handle)
            return
        if self._only is None:
            self._idle.append(handle)
        if self._closed:
            self._close_unused(handle)

    def _open(self, handle: _Handle) -> sqlite3.Cursor:
        if self.path in _spoiled:
            raise Unreachable(
                f"SQLite file {self.path!r}: this process was forked in the midst of a call that used the file, and "
                "SQLite cannot open it here; fork elsewhere, or start the process by 'spawn'"
            )
        handle.cursor = self._connect(self.path).cursor()
        return handle.cursor

    def _clean(self, handle: _Handle, cursor: sqlite3.Cursor, error: BaseException) -> None:
        """Leave no transaction open; after anything but a lock, rather begin with a new connection."""
        if self._only is None and not (isinstance(error, sqlite3.Error) and is_busy(error)):
            handle.close()
        elif cursor.connection.in_transaction:
            cursor.execute("ROLLBACK")

    def _close_unused(self, handle: _Handle) -> None:
        if handle.lock.acquire(blocking=False):
            try:
                if not handle.running:
                    handle.close()
            finally:
                handle.lock.release()

    def _pause(self) -> None:
        """Wait until no other thread is inside of a call, keep them all out, and close the file."""
        for handle in list(self._handles):
            handle.lock.acquire()
            self._held.append(handle)
            if self._only is None and not handle.running:
                handle.close()

    def _resume(self) -> None:
        while self._held:
            self._held.pop().lock.release()
        self._growing.release()

    def _renew(self) -> None:
        """Begin again in a child, which owns a copy of a store in memory, and nothing of a file."""
        for handle in self._handles:
            if self._only is not None:
                handle.lock = threading.RLock()
            elif handle.cursor is not None:
                _spoiled.add(self.path)
                _make_immortal(handle)
        self._start()


def _doze(delay: float, most: float) -> None:
    """Let about so many seconds pass."""
    jitter = random.uniform(0.5, 1.5)  # noqa: S311  (it only keeps rivals out of step)
    sleep(max(0.0, min(delay * jitter, most)))


def _make_immortal(handle: _Handle) -> None:
    """See to it that a connection of the parent is never closed in a child, not even when its interpreter ends."""
    import ctypes  # noqa: PLC0415  (hardly ever needed)

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))


_registry: Final[WeakSet[Connections]] = WeakSet()
_registry_lock = threading.RLock()
_paused: Final[list[Connections]] = []

_spoiled: Final[set[str]] = set()
"""Files that this process must not open, because it was forked while it had them open."""


def _before_fork() -> None:
    _registry_lock.acquire()
    for connections in list(_registry):
        connections._growing.acquire()
        _paused.append(connections)
        connections._pause()


def _after_fork_in_parent() -> None:
    while _paused:
        _paused.pop()._resume()
    _registry_lock.release()


def _after_fork_in_child() -> None:
    global _registry_lock  # noqa: PLW0603  (the parent's may be held by a thread that is not here)
    _registry_lock = threading.RLock()
    _paused.clear()
    for connections in list(_registry):
        connections._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
