"""Lock owners: the running task of asyncio or trio, a call that runs in a copy of its context, or else the thread.

An owner is found by the running task, and outside of tasks by the context of ``contextvars``. So a call that runs in a
copy of a context, as ``asyncio.to_thread`` runs it in a worker thread, knows whose copy it is. It does not become that
owner, because several such calls may run at the same time: it is an owner of its own that relies on the locks of its
*caller*. So are the tasks of any framework that gives each a context. A new thread has no caller, also where it
inherits the context of the thread that starts it.

The names of owners begin with a random client id, which a forked child renews. Process ids and thread numbers are not
unique: they repeat between hosts and containers, and in one process after a thread has ended.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar, Token, copy_context
from functools import cached_property
from sys import modules
from types import TracebackType
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary, ref

from redicts.core.locks.records import Owner
from redicts.core.minitransaction import Path
from redicts.errors import NotHeld
from redicts.locks.namespaces import pid_namespace

Paths = tuple[Path, ...]

AT_ONCE_SECS: Final = 0.001
"""The longest time between a release and a reacquisition "at once". A lock that is retained for longer is released."""

_Result = TypeVar("_Result")


class _Process:
    """The identity of one process: a unique client id, a counter, and the owners of its threads and tasks."""

    def __init__(self) -> None:
        self.client_id = os.urandom(8).hex()
        self.numbers = itertools.count(1)
        self.threads = threading.local()
        """The :class:`_Thread` of each thread, as ``here``."""
        self.tasks: WeakKeyDictionary[Any, LockOwner] = WeakKeyDictionary()
        self.is_here = True
        """Whether this is the running process, and not the one that forked it."""

    @cached_property
    def where(self) -> str:
        """The host, the process id and its namespace, for reports about locks."""
        return f"{os.uname().nodename}:{os.getpid()}@{pid_namespace()}"


def request_name() -> str:
    """Return a unique name for a :class:`~redicts.core.locks.records.Request`."""
    return f"{_process.client_id}/{next(_process.numbers)}"


class LockOwner:
    """A thread, a task, or a call in a copy of a context, that may hold locks, with its acquisitions.

    ``runs`` returns whether it has not ended. ``caller`` is the owner in whose context a call was made.
    """

    __slots__ = (
        "__weakref__",
        "_released",
        "_token",
        "acquired",
        "books",
        "caller",
        "comebacks",
        "entering",
        "lent",
        "owner",
        "process",
        "runs",
    )

    def __init__(
        self, kind: str, runs: Callable[[], bool], caller: LockOwner | None = None, *, runs_in_one_thread: bool = True
    ) -> None:
        self.owner = Owner(f"{_process.client_id}.{next(_process.numbers)}", f"{_process.where}:{kind}")
        self.process = _process
        self.runs = runs
        self._token: Callable[[], OwnerToken | None] = _no_token
        self.caller = caller
        self.books = None if runs_in_one_thread else threading.RLock()
        """Held while its acquisitions and held locks are changed, if several threads may act for it."""
        self.acquired: dict[Paths, list[Any]] = {}
        """Its acquisitions that are not released yet, see :mod:`redicts.locks.manager`."""
        self.entering: list[Any] | None = None
        """Where the exit of the ``with`` block that it is about to enter expects the acquisition."""
        self.lent: dict[object, LockOwner] = {}
        """The call that uses an exclusive lock of this task, by the lock: one at a time."""
        self.comebacks = 0
        """How often in a row it reacquired at once the lock that it had released, see
        :mod:`redicts.locks.retention`."""
        self._released: tuple[object, Paths, float] = (None, (), 0.0)
        """The last release: what stands for the database, the paths of the lock, and the time of
        ``time.monotonic``."""

    def is_alive(self) -> bool:
        """Return whether it has not ended, has a lock of a block that has not ended, or has handed itself over."""
        if self.runs() or self._token() is not None:
            return True
        return any(acquired.in_block for stack in list(self.acquired.values()) for acquired in stack)

    def asks(self, database: object, paths: Paths) -> None:
        """Count an acquisition that follows at once on the release of the same lock.

        ``database`` stands for the database: it is kept, so it must not be the database itself.
        """
        released_in, released, at = self._released
        came_back = released_in is database and released == paths and time.monotonic() - at <= AT_ONCE_SECS
        self.comebacks = self.comebacks + 1 if came_back else 0

    def releases(self, database: object, paths: Paths) -> None:
        """Record a release."""
        released_in, released, _ = self._released
        if released_in is not database or released != paths:
            self.comebacks = 0
        self._released = (database, paths, time.monotonic())

    def token(self) -> OwnerToken:
        """Return the token with which other threads and tasks can act for this owner."""
        found = self._token()
        self.books = self.books or threading.RLock()
        if found is None:
            found = OwnerToken(self)
            self._token = ref(found)
        return found


def _no_token() -> None:
    return None


class OwnerToken:
    """Hands a lock owner over: a ``with`` block acts for the owner, in whichever thread or task it runs.

    :meth:`Lock.owner_token` returns it. Renewal of the owner's locks continues for as long as the token exists, also
    after the thread or task has ended.

    >>> import threading
    >>> from redicts import Lock, Pool
    >>> Pool().reload(cfg={"backend": "memory"})
    >>> lock = Lock(Pool(), "jobs.import")
    >>> lock.acquire()
    True
    >>> owner = lock.owner_token()
    >>> def finish():
    ...     with owner:
    ...         lock.release()
    >>> thread = threading.Thread(target=finish)
    >>> thread.start()
    >>> thread.join()
    >>> lock.held
    False
    """

    __slots__ = ("__weakref__", "owner")

    def __init__(self, owner: LockOwner) -> None:
        self.owner = owner

    def __enter__(self) -> OwnerToken:
        if not self.owner.process.is_here:
            raise NotHeld(f"{self!r} belongs to the process that forked this one; acquire the locks in this process")
        _here.set(_Here(self.owner, _thread(), _running_task(), acts=True, outer=_here.get()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        here = _here.get()
        if here is not None and here.acts and here.owner is self.owner:
            _here.set(here.outer)

    def __repr__(self) -> str:
        return f"<OwnerToken {self.owner.owner.label}>"


class _Thread:
    """One thread, also one that the module ``threading`` does not know."""

    __slots__ = ("end", "owner")

    def __init__(self, end: ref[_End]) -> None:
        self.end = end
        """What exists until the thread ends."""
        self.owner: LockOwner | None = None
        """The owner of its calls outside of tasks."""


class _End:
    """Exists until a thread ends: only its ``threading.local`` refers to it."""

    __slots__ = ("__weakref__",)


class _Here:
    """The owner in one context, and the thread and the task for which it was recorded.

    ``acts`` means that the thread or task acts for another owner, and ``outer`` is what was recorded before.
    """

    __slots__ = ("__weakref__", "acts", "mark", "outer", "owner", "task", "thread")

    def __init__(
        self, owner: LockOwner, thread: _Thread, task: Any, *, acts: bool = False, outer: _Here | None = None
    ) -> None:
        self.owner = owner
        self.thread = thread
        self.task = None if task is None else ref(task)
        self.acts = acts
        self.outer = outer
        self.mark: Token[None] = _mark.set(None)
        """Tells the context in which this was recorded from its copies."""


_here: Final[ContextVar[_Here | None]] = ContextVar("redicts_lock_owner", default=None)
_mark: Final[ContextVar[None]] = ContextVar("redicts_context")

_process = _Process()


def _renew_after_fork() -> None:
    global _process  # noqa: PLW0603  (the child is another process)
    _process.is_here = False
    _process = _Process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_after_fork)


def current_owner() -> LockOwner:
    """Return the running lock owner."""
    here = _here.get()
    # If asyncio is not imported, or not completely, none of its tasks can run.
    asyncio: Any = modules.get("asyncio")
    running = getattr(asyncio, "_get_running_loop", None)
    if here is not None and here.thread is getattr(_process.threads, "here", None):
        if running is None or running() is None:
            if "trio" not in modules:
                return here.owner
        elif here.task is not None and here.task() is asyncio.current_task():
            return here.owner
    return _find_owner(here)


def acquiring_owner() -> LockOwner:
    """Return the running lock owner for an acquisition: in a copy of its context, a new owner that relies on it."""
    owner, here = current_owner(), _here.get()
    if here is None or here.owner is not owner or here.task is not None or here.acts:
        return owner
    try:
        _mark.reset(here.mark)
    except ValueError:  # another context; each callback of a loop has one
        return owner if _is_on_loop() else _new_owner(here.thread, owner)
    except RuntimeError:  # an exception came before the next line
        pass
    here.mark = _mark.set(None)
    return owner


def task_owner() -> LockOwner | None:
    """Return the running lock owner if it is a task, and record it in the context, where worker threads find it."""
    running: Any = getattr(modules.get("asyncio"), "_get_running_loop", None)
    if (running is None or running() is None) and "trio" not in modules:
        return None
    return None if _running_task() is None else current_owner()


def act_for(owner: LockOwner, call: Callable[..., _Result], *arguments: Any, **options: Any) -> _Result:
    """Run a call for a task, unless it runs in a task, which acts for itself."""
    if _running_task() is not None:
        return call(*arguments, **options)

    def act() -> _Result:
        _here.set(_Here(owner, _thread(), None, acts=True))
        return call(*arguments, **options)

    # In a copy of the context, so that no exception can leave the thread acting for another owner.
    return copy_context().run(act)


def owners_on_this_loop() -> set[str]:
    """Return the names of the tasks that have locked anything and run on the event loop of this thread.

    It is empty in a thread without a running loop.
    """
    task = _running_task()
    if task is None:
        return set()
    owners = list(_process.tasks.items())
    if not hasattr(task, "get_loop"):  # of trio, which runs one loop in a process, as a rule
        return {owner.owner.name for each, owner in owners if not hasattr(each, "get_loop")}
    loop = task.get_loop()
    return {owner.owner.name for each, owner in owners if hasattr(each, "get_loop") and each.get_loop() is loop}


def _running_task() -> Any:
    """Return the task of asyncio or trio that runs in this thread, or ``None``."""
    asyncio, trio = modules.get("asyncio"), modules.get("trio")
    task = asyncio.current_task() if asyncio is not None and _is_on_loop() else None
    if task is None and trio is not None:
        try:
            task = trio.lowlevel.current_task()
        except (RuntimeError, AttributeError):  # trio does not run here, or is not imported completely
            return None
    return task


def _is_on_loop() -> bool:
    """Return whether this thread runs an event loop of asyncio."""
    running = getattr(modules.get("asyncio"), "_get_running_loop", None)
    return running is not None and running() is not None


def _find_owner(here: _Here | None) -> LockOwner:
    """Return the running owner, and record it in the context."""
    thread, task = _thread(), _running_task()
    is_known = here is not None and here.thread is thread and task is (None if here.task is None else here.task())
    if here is not None and is_known and (task is not None or here.acts or not _is_on_loop()):
        return here.owner
    if task is not None:
        found = _process.tasks.get(task)
        if found is None:
            made = LockOwner(f"task {_name(task)}", _is_undone(ref(task)), runs_in_one_thread=False)
            found = _process.tasks.setdefault(task, made)
        _here.set(_Here(found, thread, task))
        return found
    if _is_on_loop():
        # A callback. Each has a context of its own, but they run one after the other.
        return thread.owner or _new_owner(thread, None)
    caller = None if here is None else here.owner if here.task is not None else here.owner.caller
    return _new_owner(thread, caller if caller is not None and caller.process.is_here else None)


def _new_owner(thread: _Thread, caller: LockOwner | None) -> LockOwner:
    """Record a new owner in the context: a thread, or a call in a worker thread for a task."""
    running = threading.current_thread()
    owner = LockOwner(running.name, _exist(thread.end), caller)
    here = _Here(owner, thread, None)
    _here.set(here)
    # From Python 3.14 on, a thread may run in a copy of the context of the thread that started it.
    inherited = getattr(running, "_context", None)
    if inherited is not None and inherited.get(_here) is here:
        owner.caller = caller = None
    if caller is not None:
        owner.runs = _exist(thread.end, ref(here))
    elif thread.owner is None:
        thread.owner = owner
    return owner


def _thread() -> _Thread:
    """Return the identity of the running thread."""
    found: _Thread | None = getattr(_process.threads, "here", None)
    if found is None:
        _process.threads.end = end = _End()
        found = _process.threads.here = _Thread(ref(end))
    return found


def _exist(*references: ref[Any]) -> Callable[[], bool]:
    return lambda: all(reference() is not None for reference in references)


def _name(task: Any) -> str:
    return str(task.get_name() if hasattr(task, "get_name") else task.name)


def _is_undone(task: ref[Any]) -> Callable[[], bool]:
    def is_undone() -> bool:
        found = task()
        # A task of trio does not tell, but its coroutine has no frame any more.
        if found is None or not hasattr(found, "done"):
            return found is not None and found.coro.cr_frame is not None
        return not found.done() and not found.get_loop().is_closed()

    return is_undone
