"""Locks, a one-thread event and the stack, for code that signal handlers, finalizers and forks interrupt.

A signal handler or a finalizer runs between two instructions of the thread that it interrupts, and a handler may raise.
So a lock must be re-entrant, and nothing may stand between acquiring it and the block that releases it: in ``with
lock``, an exception can come only before or after if ``__enter__`` and ``__exit__`` are those of the interpreter.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from _thread import RLock
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Final
from weakref import WeakSet


class _Lock(RLock):  # type: ignore[misc]  # it is not final when Python runs
    """A re-entrant lock. It has no ``__enter__`` or ``__exit__`` in Python, which an exception could interrupt."""

    __slots__ = ()

    if TYPE_CHECKING:

        def is_mine(self) -> bool:
            """Return whether the running thread holds it."""

        def _at_fork_reinit(self) -> None: ...
    else:
        is_mine = RLock._is_owned

    def release_if_mine(self) -> None:
        """Release it if the running thread holds it: after an exception on the way out of a ``with`` block."""
        if self.is_mine():
            self.release()


class ForkSafeLock(_Lock):  # type: ignore[misc]
    """A lock that is free in every forked child, for data that a child may find half changed: caches, counters."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        _freed.add(self)


class WholeCopyLock(_Lock):  # type: ignore[misc]
    """A lock that a fork waits for, so that the child never copies half-changed data."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        _waited_for.add(self)


class Bell:
    """An event that one thread waits for and others set by :meth:`ring`; each wait resets it.

    It is a lock that is held until it is rung. ``threading.Event`` has an inner lock, which a fork may leave held in
    the child, and which deadlocks if a signal handler or a finalizer takes it twice.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """End a call of :meth:`wait`, the current one or the next."""
        with contextlib.suppress(RuntimeError):  # it was rung already
            self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Return true when it is rung, or false after this many seconds."""
        return self._lock.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))


def stack(thread: int | None = None) -> Iterator[FrameType]:
    """Yield the frames of this thread, or of another one, from the innermost on outwards.

    In a signal handler or a finalizer, the frames of the code that it interrupts are among them.
    """
    frame = sys._getframe() if thread is None else _innermost(thread)
    while frame is not None:
        yield frame
        frame = frame.f_back


if sys.version_info >= (3, 12):

    def _innermost(thread: int) -> FrameType | None:
        return sys._current_frames().get(thread)

else:

    def _innermost(thread: int) -> FrameType | None:
        """Return the innermost frame of a thread, while nothing is collected.

        A collection inside of ``sys._current_frames`` would deadlock with other threads, for it waits for the global
        lock while it holds the interpreter's list of threads (CPython issue 106883).
        """
        with _looking:
            collects = gc.isenabled()
            try:
                gc.disable()
                return sys._current_frames().get(thread)
            finally:
                if collects:
                    gc.enable()


class ResetInChild:
    """Base of an object with state that a forked child must not take over: :meth:`reset_in_child` clears it."""

    __slots__ = ("__weakref__",)

    def __init__(self) -> None:
        _reset.add(self)

    def reset_in_child(self) -> None:
        """Clear what belongs to the parent. Called in the child, before any other code of it runs.

        An exception of a signal handler may interrupt it. Then it is called again.
        """
        raise NotImplementedError


_reset: WeakSet[ResetInChild] = WeakSet()
_freed: WeakSet[ForkSafeLock] = WeakSet()
_waited_for: WeakSet[WholeCopyLock] = WeakSet()
_looking: Final = ForkSafeLock()
_held: Final[list[WholeCopyLock | None]] = []
"""The locks that forks under way hold, and ``None`` where each began: a signal handler may fork during a fork."""
_forking: Final = _Lock()


def _before_fork() -> None:
    # Without this, two threads that fork at once would wait for each other's locks.
    _forking.acquire()
    _held.append(None)
    for lock in list(_waited_for):
        # The thread that forks continues in parent and child, so a lock of its own protects the data in both.
        if not lock.is_mine():
            _held.append(lock)
            lock.acquire()


def _release_held() -> None:
    while _held:
        lock = _held[-1]
        if lock is not None:
            lock.release_if_mine()
        _held.pop()
        if lock is None:
            break
    _forking.release_if_mine()


def _after_fork() -> None:
    try:
        _release_held()
    except BaseException:
        _release_held()
        raise


def _reset_all() -> None:
    for lock in list(_freed):
        if not lock.is_mine():
            lock._at_fork_reinit()
    for each in list(_reset):
        each.reset_in_child()


def _after_fork_in_child() -> None:
    try:
        _after_fork()
    finally:
        try:
            _reset_all()
        except BaseException:
            _reset_all()
            raise


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
