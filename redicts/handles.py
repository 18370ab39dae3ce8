"""Handles that each process opens for itself: connections, files and environments that a forked child must not use.

A child inherits what its parent has open. If both use a socket, each may read the other's replies. Engines with file
locks or mapped memory (LMDB, SQLite) forbid the use in a child, because it relies on locks that it does not hold. The
child must not close the handle either, since that can end the session of its parent. So it opens again, at its first
use after the fork.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar
from weakref import WeakValueDictionary

from redicts.errors import StoreBusy
from redicts.forks import ForkSafeLock, ResetInChild

_Handle = TypeVar("_Handle")


class PerProcess(ResetInChild, Generic[_Handle]):
    """A handle that each process opens when it first needs it.

    ``open`` returns an object that closes when Python frees it, as most clients and engines do. Without ``close``,
    :meth:`close` drops the handle, which then closes when the calls under way have finished. A pool that lets its calls
    finish passes its own ``close``.

    A child keeps the handle of its parent untouched until it ends. With ``keep_inherited=False`` it frees the handle,
    which must do no more than close the child's copy.

    >>> import socket
    >>> sockets = PerProcess(socket.socket)
    >>> mine = sockets.get()
    >>> sockets.get() is mine  # a forked child gets another one
    True
    >>> sockets.close()
    >>> mine.close()
    """

    __slots__ = ("_close", "_closed", "_keep_inherited", "_lock", "_open", "current")

    def __init__(
        self,
        open: Callable[[], _Handle],  # noqa: A002  (what it does)
        close: Callable[[_Handle], object] | None = None,
        *,
        keep_inherited: bool = True,
    ) -> None:
        self._open = open
        self._close = close
        self._keep_inherited = keep_inherited
        self._closed = False
        self._lock = ForkSafeLock()
        self.current: _Handle | None = None
        """The handle of this process, if it is open: ``handles.current or handles.get()`` saves most calls."""
        super().__init__()

    def get(self) -> _Handle:
        """Return the handle of this process; open it if there is none. After :meth:`close`, it is closed again.

        Threads that need it at the same time get the same one. Raises what ``open`` raises, and
        :class:`~redicts.errors.StoreBusy` in a signal handler or a finalizer that interrupts the opening.
        """
        handle = self.current
        if handle is not None:
            return handle
        lock = self._lock
        if lock.is_mine():
            raise StoreBusy(
                "the store is being opened by the call that this signal handler or finalizer has interrupted; use it "
                "in another thread, or later"
            )
        try:
            with lock:
                handle = self.current
                if handle is None:
                    handle = self.current = self._open()
        except BaseException:
            lock.release_if_mine()
            raise
        if self._closed:
            self.close()
        return handle

    def close(self) -> None:
        """Close the handle of this process, and from now on each one that :meth:`get` opens, after its use."""
        self._closed = True
        handle = self.current
        if self._close is None:
            self.current = None
        elif handle is not None:
            self._close(handle)

    def reset_in_child(self) -> None:
        """Leave the handle to the parent."""
        if self._keep_inherited and self.current is not None:
            _inherited.append(self.current)
        self.current = None


_inherited: Final[list[Any]] = []
"""The handles of parents, which this process keeps open and does not use."""


class SharedByName(Generic[_Handle]):
    """The objects that all instances of a backend in this process share by name, each while at least one holds it.

    An engine that must not open a file twice in a process (LMDB, SQLite's locks) has one handle for each file here, and
    a backend keeps what it gets until it is closed.

    >>> environments = SharedByName[PerProcess[object]]()
    >>> one = environments.get("/var/a.db", lambda: PerProcess(object))
    >>> environments.get("/var/a.db", lambda: PerProcess(object)) is one
    True
    >>> del one
    >>> environments.find("/var/a.db") is None
    True
    """

    __slots__ = ("_by_name", "_lock")

    def __init__(self) -> None:
        self._by_name: WeakValueDictionary[str, _Handle] = WeakValueDictionary()
        self._lock = ForkSafeLock()

    def get(self, name: str, make: Callable[[], _Handle]) -> _Handle:
        """Return the object of this name, and make it if nobody holds one. ``make`` must be quick, and open nothing."""
        lock = self._lock
        try:
            with lock:
                found = self._by_name.get(name)
                # A signal handler may make one meanwhile.
                return self._by_name.setdefault(name, make()) if found is None else found
        except BaseException:
            lock.release_if_mine()
            raise

    def find(self, name: str) -> _Handle | None:
        """Return the object of this name, or ``None`` if nobody holds one."""
        return self._by_name.get(name)
