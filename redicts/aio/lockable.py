"""Lockable: acquire, release and ``async with``, for locks and proxies of tasks.

The exit of a block is looked up when the block is entered, as with blocking locks, see :mod:`redicts.api.blocks`. So it
releases the lock for the task that entered the block, in whichever task the block ends.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from redicts.aio.loops import is_running, loops_of, run_for
from redicts.aio.refusals import NoWith
from redicts.aio.twins import Call, twin_of
from redicts.api import lockable
from redicts.api.acquisitions import give_up, latest
from redicts.api.blocks import BlockExit, Exit, entered
from redicts.api.edit import released
from redicts.api.lockable import Acquirable, not_free
from redicts.api.opened import OpenedDatabase
from redicts.api.timeouts import wait_of
from redicts.core.driver import Steps
from redicts.errors import LockTimeout
from redicts.locks import manager
from redicts.locks.manager import Acquired
from redicts.locks.owner import current_owner

_Entered_co = TypeVar("_Entered_co", covariant=True)
_Function = TypeVar("_Function", bound=Callable[..., Any])
_Result = TypeVar("_Result")


async def run_in(acquired: Acquired, steps: Steps[_Result]) -> _Result:
    """Carry out steps in the database of an acquisition that a task has made. After an exception, it is undone."""
    try:
        return await run_for(acquired.manager, steps)
    except BaseException:
        abandon(acquired)
        raise


def abandon(acquired: Acquired) -> None:
    """Let a background thread release a lock, if it is not released. A forked child has no locks."""
    if acquired.owner.process.is_here:
        acquired.manager.abandon(acquired)


async def acquire(database: OpenedDatabase, acquired: Acquired, timeout: float | None, blocking: bool = True) -> bool:
    """Acquire a lock, and return true. Without ``blocking`` it returns false at once if the lock is not free."""
    acquired.retains = False
    most = timeout if blocking else 0
    try:
        if await loops_of(database).acquire(acquired, most):
            return True
    except BaseException:
        acquired.manager.abandon(acquired)
        raise
    if blocking:
        raise not_free(acquired)
    return False


class AwaitedExit(BlockExit):
    """The exit of an ``async with`` block. If it is dropped before it is awaited, a thread releases the lock."""

    __slots__ = ()

    def __call__(self, _kind: object, error: BaseException | None, _trace: object) -> Any:
        """Return a coroutine that releases the lock."""
        return self._leave(error) if is_running() else self._drop()

    async def _drop(self) -> None:
        """Let a background thread release the lock: the block is closed after its loop, with its coroutine."""
        for acquired in self.begun:
            abandon(acquired)
        self.__class__ = Exit  # type: ignore[assignment]  # it has no finalizer

    async def _leave(self, error: BaseException | None) -> None:
        found = self.begun
        try:
            if not (found and found[0].is_current):
                found.clear()
                location, locked = self._held._releases()
                found.append(latest(location, locked, self._owner))
            await run_in(found[0], released(found[0], error))
        except BaseException:
            location, locked = self._held._releases()
            give_up(location, locked, found, self._owner)
            raise
        finally:
            self.__class__ = Exit  # type: ignore[assignment]  # it has no finalizer


class _ExitOfClass:
    """The exit of a block that is looked up in the class before the block is entered, as ``AsyncExitStack`` does."""

    __slots__ = ("_exit", "_kind")

    def __init__(self, kind: type[AwaitedExit]) -> None:
        self._kind = kind
        self._exit = kind(None)

    def __call__(self, held: Any, kind: object, error: BaseException | None, trace: object) -> Any:
        """Release a lock: for the owner that entered the block, or else for the running one."""
        found = self._exit
        if not any(each.is_current and (each.location, each.paths) == held._releases() for each in found.begun):
            found = self._kind(held)
        found._held = held
        return found(kind, error, trace)


class _AtExit:
    """The method ``__aexit__``, which acts for the owner that enters the block."""

    def __init__(self, function: Callable[..., Any], kind: type[AwaitedExit]) -> None:
        self._kind = kind
        self.__doc__ = function.__doc__

    def __get__(self, found: Any, kind: type) -> Callable[..., Any]:
        return _ExitOfClass(self._kind) if found is None else self._kind(found)


def at_exit(kind: type[AwaitedExit]) -> Callable[[_Function], _Function]:
    """Let a method ``__aexit__`` act for the owner that enters the block."""

    def decorate(function: _Function) -> _Function:
        return cast("_Function", _AtExit(function, kind))

    return decorate


@twin_of(lockable.Lockable)
class Lockable(Acquirable, Generic[_Entered_co]):
    """Acquires and releases a lock for the running task. An ``async with`` block gives this object by default."""

    __slots__ = ()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> Call[bool]:
        is_usual = blocking is True and timeout is None
        most = self._acquire_timeout if is_usual else wait_of(blocking, timeout, self._acquire_timeout)
        database, acquired = self._attempt()
        return _acquire(database, acquired, most, is_usual)

    def release(self) -> Call[None]:
        acquired = latest(*self._releases())
        return run_in(acquired, manager.release(acquired))

    def __aenter__(self) -> Call[_Entered_co]:
        # The exit was looked up before. If an exception comes before the block, it is dropped and releases the lock.
        owner = current_owner()
        database, acquired = self._attempt(None if owner.entering is None else owner)
        entered(acquired)
        return self._enter(database, acquired)

    async def _enter(self, database: OpenedDatabase, acquired: Acquired) -> _Entered_co:
        await acquire(database, acquired, self._acquire_timeout)
        return self._entered()

    def _entered(self) -> _Entered_co:
        """Return what the block gets."""
        return cast("_Entered_co", self)

    @at_exit(AwaitedExit)
    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Call[None]:
        """Release the lock for the owner that entered the block."""
        raise NotImplementedError  # the exit does it


Lockable.__enter__ = NoWith()  # type: ignore[attr-defined]  # it is not a method to type checkers


async def _acquire(database: OpenedDatabase, acquired: Acquired, most: float | None, is_usual: bool) -> bool:
    try:
        return await acquire(database, acquired, most, blocking=is_usual or most != 0)
    except LockTimeout:
        if is_usual:
            raise
        return False
