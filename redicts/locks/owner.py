"""Owners of locks: each thread of this process, and each asyncio task, is one of its own.

Names are random per process and made again in a forked child. Process ids and thread numbers would not do: they repeat
between hosts, between containers, and in one process as soon as a thread has ended.
"""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, ref

from redicts.core.locks.records import Owner
from redicts.locks.retention import Habit

if TYPE_CHECKING:
    from redicts.api.tree import Tree
    from redicts.locks.held import Acquired, HeldLocks, Paths


class _Process:
    """One process: a name that no other process ever has, and numbers."""

    def __init__(self) -> None:
        self.client_id = secrets.token_hex(8)
        self.numbers = itertools.count(1)
        self.where = f"{socket.gethostname()}:{os.getpid()}"


_process = _Process()


def _begin_anew() -> None:
    global _process  # noqa: PLW0603  (it is what a fork changes)
    _process = _Process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def request_name() -> str:
    """Return a name for a request, as :class:`redicts.core.locks.records.Request` wants it."""
    return f"{_process.client_id}/{next(_process.numbers)}"


class LockOwner:
    """An owner, and what it has acquired. Only the thread or task itself changes that."""

    __slots__ = ("acquired", "habit", "held", "is_alive", "owner", "process")

    def __init__(self, kind: str, is_alive: Callable[[], bool]) -> None:
        self.process = _process
        self.owner = Owner(f"{_process.client_id}.{next(_process.numbers)}", f"{_process.where}:{kind}")
        self.is_alive = is_alive
        self.habit = Habit()
        self.held: dict[Tree, HeldLocks] = {}
        """The locks that it has in each store."""
        self.acquired: dict[tuple[object, Paths], list[Acquired]] = {}
        """By place and paths, what it has acquired and not yet released; several times, perhaps, on one lock."""


_threads: Final = threading.local()
_tasks: Final[WeakKeyDictionary[Any, LockOwner]] = WeakKeyDictionary()


def current_owner() -> LockOwner:
    """Return the owner that is running."""
    task = _current_task()
    if task is not None:
        found = _tasks.get(task)
        if found is None or found.process is not _process:
            found = _tasks[task] = LockOwner(f"task {task.get_name()}", _is_undone(ref(task)))
        return found
    found = getattr(_threads, "current_owner", None)
    if found is None or found.process is not _process:
        thread = threading.current_thread()
        found = _threads.current_owner = LockOwner(thread.name, _is_alive(ref(thread)))
    return found


def _current_task() -> Any:
    # Where nobody has imported asyncio, or has only begun to, no task can run.
    asyncio: Any = sys.modules.get("asyncio")
    running = getattr(asyncio, "_get_running_loop", None)
    return None if running is None or running() is None else asyncio.current_task()


def _is_alive(thread: ref[threading.Thread]) -> Callable[[], bool]:
    def is_alive() -> bool:
        found = thread()
        return found is not None and found.is_alive()

    return is_alive


def _is_undone(task: ref[Any]) -> Callable[[], bool]:
    def is_undone() -> bool:
        found = task()
        return found is not None and not found.done()

    return is_undone
