"""Lockable: acquire, release and ``with``, for locks and for proxies.

A method that acquires or releases acts for the task in which it is *looked up*. So ``asyncio.to_thread(lock.acquire)``
acquires the lock for the task.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MethodType, TracebackType
from typing import Any, Generic, NoReturn, TypeVar, cast

from redicts.api.acquisitions import Location, give_up, release
from redicts.api.blocks import at_exit, entered
from redicts.api.opened import OpenedDatabase
from redicts.api.timeouts import wait_of
from redicts.core import paths
from redicts.core.driver import run
from redicts.errors import LockTimeout
from redicts.locks.held import NO_OPTIONS, LockOptions
from redicts.locks.manager import Acquired, Wanted
from redicts.locks.owner import LockOwner, Paths, act_for, current_owner, task_owner
from redicts.locks.stalls import without_stall

_Entered_co = TypeVar("_Entered_co", covariant=True)
_Function = TypeVar("_Function", bound=Callable[..., Any])


class _ForTask:
    """A method that acts for the task in which it is looked up, also in a worker thread to which it is passed.

    If an exception comes during the look-up of a method that ``releases``, the lock does not stay held.
    """

    def __init__(self, function: Callable[..., Any], *, releases: bool) -> None:
        self._function = function
        self._releases = releases
        self.__doc__ = function.__doc__

    def __get__(self, found: Any, kind: type) -> Callable[..., Any]:
        try:
            if found is None:
                return self._function
            owner = task_owner()
            return (
                MethodType(self._function, found) if owner is None else partial(act_for, owner, self._function, found)
            )
        except BaseException:
            if self._releases and found is not None:
                location, locked = found._releases()
                give_up(location, locked, [])
            raise


def for_task(function: _Function) -> _Function:
    """Let a method act for the task in which it is looked up."""
    return cast("_Function", _ForTask(function, releases=False))


def to_release(function: _Function) -> _Function:
    """Let a method ``release`` act for the task in which it is looked up."""
    return cast("_Function", _ForTask(function, releases=True))


class Acquirable:
    """What it takes to acquire and to release a lock: shared by blocking locks and proxies, and those of tasks."""

    __slots__ = ()

    _acquire_timeout: float | None
    _has_options = False
    """Whether its acquisitions have options."""

    @property
    def _wanted(self) -> Wanted:
        """What each acquisition asks for."""
        raise NotImplementedError

    def _attempt(self, owner: LockOwner | None = None) -> tuple[OpenedDatabase, Acquired]:
        """Return the database, and an acquisition to begin, by default for the running owner."""
        wanted = self._wanted
        source, name = wanted.location
        database: OpenedDatabase = source.databases[name]
        options = self._options() if self._has_options else NO_OPTIONS
        return database, Acquired(database.locks, wanted, options, owner)

    def _options(self) -> LockOptions:
        """Return the options of one acquisition."""
        raise NotImplementedError

    def _releases(self) -> tuple[Location, Paths]:
        """Return what a release names: where the lock is, and its paths."""
        return self._wanted[:2]


class Lockable(Acquirable, Generic[_Entered_co]):
    """Acquires and releases a lock for the running thread or task. A ``with`` block gives this object by default."""

    __slots__ = ()

    @for_task
    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Acquire the lock, waiting for it if necessary, and return true.

        The arguments are those of ``threading.Lock.acquire``. With ``blocking=False`` it does not wait, and with a
        ``timeout`` it waits for at most so many seconds, or without limit if that is -1. If the lock is not free in
        time, both return false. Without either, it waits for as long as the lock or the proxy was made for, and then
        raises :class:`~redicts.errors.LockTimeout`.

        The lock is granted first come, first served, except that an owner may reacquire it within its retention window:
        see the page on locks. Raises :class:`~redicts.errors.Deadlock` if owners wait for each other in a cycle. A
        failed attempt leaves nothing in the store.

        Cost: one round trip if the lock is free; none if this thread holds it, or reacquires it within its retention
        window; otherwise three before waiting, and one for the grant.
        """
        is_usual = blocking is True and timeout is None
        most = self._acquire_timeout if is_usual else wait_of(blocking, timeout, self._acquire_timeout)
        database, acquired = self._attempt()
        try:
            return acquire(database, acquired, most, blocking=is_usual or most != 0)
        except LockTimeout:
            if is_usual:
                raise
            return False
        except BaseException:  # one that comes as the call above returns
            acquired.manager.abandon(acquired)
            raise

    @to_release
    def release(self) -> None:
        """Release one acquisition; the last release frees the lock in the store, unless it is retained.

        Acquisitions may be released in any order. Locks on paths below this one stay. If the lock was lost meanwhile,
        this logs a warning, and does not affect the lock of its current owner. Raises
        :class:`~redicts.errors.NotHeld` if this thread did not acquire it.
        """
        found: list[Acquired] = []
        try:
            release(*self._releases(), found)
        except BaseException:
            give_up(*self._releases(), found)
            raise

    @for_task
    def __enter__(self) -> _Entered_co:
        # The exit was looked up before. If an exception comes before the block, it is dropped and releases the lock.
        owner = current_owner()
        database, acquired = self._attempt(None if owner.entering is None else owner)
        entered(acquired)
        try:
            acquire(database, acquired, self._acquire_timeout)
            return self  # type: ignore[return-value]  # a class that gives something else says so
        except BaseException:  # the traceback may keep the exit, as that of ExitStack.enter_context does
            acquired.manager.abandon(acquired)
            raise

    @at_exit
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock for the owner that entered the block."""


class NotAsynchronous(TypeError, AttributeError):
    """An object whose calls block was used by ``async with``.

    It is an ``AttributeError`` too, so ``hasattr`` still tells frameworks that there is no such method.
    """


class _NoAsyncWith:
    """Explains ``async with`` when Python looks up ``__aenter__``, which nothing else finds."""

    def __get__(self, found: object | None, kind: type) -> NoReturn:
        if found is None:
            raise AttributeError(f"type object {kind.__name__!r} has no attribute '__aenter__'")
        raise NotAsynchronous(
            f"async with needs an asynchronous lock, and the calls of {found!r} block; use that of redicts.aio, as in: "
            "from redicts.aio import Proxy"
        )


Lockable.__aenter__ = _NoAsyncWith()  # type: ignore[attr-defined]  # it is not a method to type checkers


def acquire(database: OpenedDatabase, acquired: Acquired, timeout: float | None, blocking: bool = True) -> bool:
    """Acquire a lock, and return true. Without ``blocking`` it returns false at once if the lock is not free."""
    most = timeout if blocking else 0
    steps = database.locks.acquire(acquired, most)
    if acquired.owner.books is not None:  # it may be a task
        steps = without_stall(steps, acquired)
    try:
        if run(steps, database.backend, most):
            return True
    except BaseException:
        acquired.manager.abandon(acquired)
        raise
    if blocking:
        raise not_free(acquired)
    return False


def not_free(acquired: Acquired) -> LockTimeout:
    """Return the error for a lock that is not free where the timeout is 0."""
    named = ", ".join([paths.described(path) for path in acquired.paths])
    return LockTimeout(f"the lock on {named} is not free, and acquire_timeout is 0")
