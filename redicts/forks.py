"""Locks and a one-thread event that survive ``os.fork``, even if a thread that the child lacks holds them."""

from __future__ import annotations

import contextlib
import os
import threading
from types import TracebackType
from typing import Final
from weakref import WeakSet


class _Lock:
    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


class ForkSafeLock(_Lock):
    """A lock that is free in every forked child, for data that a child may find half changed: caches, counters."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        _freed.add(self)


class WholeCopyLock(_Lock):
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


class ResetInChild:
    """Base of an object with state that a forked child must not take over: :meth:`reset_in_child` clears it."""

    __slots__ = ("__weakref__",)

    def __init__(self) -> None:
        _reset.add(self)

    def reset_in_child(self) -> None:
        """Clear what belongs to the parent. Called in the child, before any other code of it runs."""
        raise NotImplementedError


_reset: WeakSet[ResetInChild] = WeakSet()
_freed: WeakSet[ForkSafeLock] = WeakSet()
_waited_for: WeakSet[WholeCopyLock] = WeakSet()
_held: list[WholeCopyLock] = []
_forking: Final = threading.Lock()


def _before_fork() -> None:
    # Without this, two threads that fork at once would wait for each other's locks.
    _forking.acquire()
    for lock in list(_waited_for):
        lock._lock.acquire()
        _held.append(lock)


def _after_fork() -> None:
    while _held:
        _held.pop()._lock.release()
    _forking.release()


def _after_fork_in_child() -> None:
    _after_fork()
    for lock in list(_freed):
        lock._lock = threading.Lock()
    for each in list(_reset):
        each.reset_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
