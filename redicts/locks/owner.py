"""Lock owners: each thread of this process and each asyncio task.

Their names begin with a random client id, which a forked child renews. Process ids and thread numbers are not unique:
they repeat between hosts and containers, and in one process after a thread has ended.
"""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

from redicts.core.locks.records import Owner
from redicts.core.minitransaction import Path
from redicts.locks.namespaces import pid_namespace

Paths = tuple[Path, ...]


class _Process:
    """The identity of one process: a unique client id, and a counter."""

    def __init__(self) -> None:
        self.client_id = secrets.token_hex(8)
        self.numbers = itertools.count(1)
        self.where = f"{socket.gethostname()}:{os.getpid()}@{pid_namespace()}"


_process = _Process()


def _renew_after_fork() -> None:
    global _process  # noqa: PLW0603  (the child is another process)
    _process = _Process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_after_fork)


def request_name() -> str:
    """Return a unique name for a :class:`~redicts.core.locks.records.Request`."""
    return f"{_process.client_id}/{next(_process.numbers)}"


class LockOwner:
    """A thread or task that may hold locks, with its acquisitions. Only the thread or task itself changes them."""

    __slots__ = ("acquired", "comebacks", "is_alive", "owner", "process", "released")

    def __init__(self, kind: str, is_alive: Callable[[], bool]) -> None:
        self.process = _process
        self.owner = Owner(f"{_process.client_id}.{next(_process.numbers)}", f"{_process.where}:{kind}")
        self.is_alive = is_alive
        self.acquired: dict[object, list[Any]] = {}
        """Its acquisitions that are not released yet, see :mod:`redicts.locks.manager`."""
        self.comebacks = 0
        """How often in a row it reacquired at once the lock that it had released, see
        :mod:`redicts.locks.retention`."""
        self.released: tuple[object, Paths, float] = (None, (), 0.0)
        """The last release: a reference to the retention, the paths of the lock, and the time of
        ``time.monotonic``."""


_threads: Final = threading.local()
_tasks: Final[WeakKeyDictionary[Any, LockOwner]] = WeakKeyDictionary()


def current_owner() -> LockOwner:
    """Return the running lock owner."""
    # If asyncio is not imported, or not completely, no task can run.
    asyncio: Any = sys.modules.get("asyncio")
    running = getattr(asyncio, "_get_running_loop", None)
    task = None if running is None or running() is None else asyncio.current_task()
    if task is not None:
        found = _tasks.get(task)
        if found is None or found.process is not _process:
            found = _tasks[task] = LockOwner(f"task {task.get_name()}", _is_undone(ref(task)))
        return found
    found = getattr(_threads, "owner", None)
    if found is None or found.process is not _process:
        thread = threading.current_thread()
        found = _threads.owner = LockOwner(thread.name, _is_alive(ref(thread)))
    return found


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
