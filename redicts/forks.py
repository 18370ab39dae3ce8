"""Two locks that get along with ``os.fork``: a thread that only the parent has may hold one at that moment."""

from __future__ import annotations

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
    """A lock that is free again in every forked child. For what a child may find half changed: caches, counters."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        _freed.add(self)


class WholeCopyLock(_Lock):
    """A lock that a fork waits for. For data that a child gets a copy of: the copy is never half changed."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        _waited_for.add(self)


_freed: WeakSet[ForkSafeLock] = WeakSet()
_waited_for: WeakSet[WholeCopyLock] = WeakSet()
_held: list[WholeCopyLock] = []
_forking: Final = threading.Lock()


def _before_fork() -> None:
    # Two threads that fork at once would wait for each other's locks.
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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
