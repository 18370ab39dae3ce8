"""Edit: reads a value under its lock, lets a block change it in place, and stores the changes as it releases the lock.

Where nobody waits, that takes two round trips. The lock is acquired and released as every other one, by the lock
manager, which also carries out the read and the writes, see :meth:`LockManager.read` and
:func:`redicts.locks.manager.release`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar, cast

from redicts.api.acquisitions import log_failed_release
from redicts.api.blocks import AtExit, BlockExit, Exit, entered
from redicts.api.lock import LockBase
from redicts.api.lockable import acquire, for_task
from redicts.api.opened import OpenedDatabase
from redicts.core.driver import Steps
from redicts.core.edits import refuse_unchangeable
from redicts.core.leaves import ABSENT, Packed
from redicts.core.minitransaction import Entries
from redicts.core.original import Original
from redicts.errors import LockError, RedictsError, StoreError, WrongUse
from redicts.locks import manager
from redicts.locks.manager import Acquired
from redicts.locks.owner import current_owner

_Function = TypeVar("_Function", bound=Callable[..., None])


class _EditExit(BlockExit):
    """The exit of the block of an edit, which was not called."""

    __slots__ = ()

    def __call__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Store the changes and release the lock."""
        try:
            self._held._finish(error)
            self.__class__ = Exit  # type: ignore[assignment]  # as Exit.__call__ does: it has no finalizer
        except BaseException:
            for acquired in self.begun:
                abandon(acquired)
            self.__class__ = Exit  # type: ignore[assignment]  # as Exit.__call__ does: it has no finalizer
            raise


def _at_exit(function: _Function) -> _Function:
    return cast("_Function", AtExit(function.__doc__, _EditExit, lambda: function))


class EditsValue:
    """The value of an edit under its lock: all of it but the block itself. Its methods return steps."""

    __slots__ = ("__weakref__", "_default", "_lock", "_opened", "_unused")

    def __init__(self, lock: LockBase[Any], default: object) -> None:
        self._lock = lock
        self._default = default
        self._unused = [None]
        """Empty when the block has begun: an item can be removed only once."""
        self._opened: list[tuple[Acquired, Original]] = []
        """The acquisition and the value, within the block."""
        if default is not ABSENT and not self._reads_only:
            value = default.value if isinstance(default, Packed) else default
            (path,) = lock._wanted.paths
            refuse_unchangeable(value, path, "default")

    @property
    def _reads_only(self) -> bool:
        return self._lock._is_shared

    def _begin(self) -> tuple[OpenedDatabase, Acquired]:
        """Begin the block, and return the database and the acquisition of the lock, which reads the value."""
        try:
            self._unused.pop()
        except IndexError:
            raise WrongUse("an edit has one with block; begin another one with edit()") from None
        owner = current_owner()
        database, acquired = self._lock._attempt(None if owner.entering is None else owner)
        (path,) = acquired.paths
        acquired.reads = (database.store.edit_read(path),)
        entered(acquired)
        return database, acquired

    def _open(self, acquired: Acquired) -> Steps[Any]:
        """Return the value under the acquired lock, which is released if there is none to edit."""
        store, (path,) = acquired.manager.store, acquired.paths
        try:
            since, (first,) = yield from acquired.manager.read(acquired)
            original = yield from store.open_edit(path, cast("Entries", first), since, self._default)
            if not self._reads_only:
                refuse_unchangeable(original.value, path, "value")
        except RedictsError as error:
            yield from released(acquired, error)
            raise
        self._opened.append((acquired, original))
        return original.value

    def _close(self, error: BaseException | None) -> tuple[Acquired, Steps[None]] | None:
        """End the block. Return the acquisition, and the steps that store the changes and release it, if it is held."""
        try:
            acquired, original = self._opened.pop()
        except IndexError:
            raise WrongUse("the with block of this edit has not begun, or has ended; begin another one") from None
        if not acquired.is_current:
            # In a forked child, or the block itself has released the lock.
            if error is None:
                raise manager.not_held(acquired.paths, acquired.owner)
            return None
        store, (path,) = acquired.manager.store, acquired.paths
        close = store.close_read if self._reads_only else store.close_edit
        last = close(path, original) if error is None else None
        return acquired, released(acquired, error, last)

    def __repr__(self) -> str:
        return f"<Edit {self._lock.key!r}>"


class Edit(EditsValue):
    """A block that changes the value at a path in place, under its lock: see :meth:`Proxy.edit`.

    It has one block. Any other use of it raises :class:`~redicts.errors.WrongUse`. The block may end in another thread
    or task than it began.
    """

    __slots__ = ()

    @for_task
    def __enter__(self) -> Any:
        """Acquire the lock and return the value."""
        database, acquired = self._begin()
        try:
            acquire(database, acquired, self._lock._acquire_timeout)
            return database.run(self._open(acquired))
        except BaseException:
            acquired.manager.abandon(acquired)
            raise

    @_at_exit
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Store the changes and release the lock, or only that after an error."""
        self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        closing = self._close(error)
        if closing is not None:
            acquired, steps = closing
            try:
                acquired.manager.run(steps)
            except BaseException:
                abandon(acquired)
                raise


def released(acquired: Acquired, error: BaseException | None, last: Steps[None] | None = None) -> Steps[None]:
    """Carry out a last operation and release the lock. An error is not replaced by one of the release."""
    try:
        yield from manager.release(acquired, last)
    except (StoreError, LockError):
        if error is None:
            raise
        log_failed_release()


def abandon(acquired: Acquired) -> None:
    """Let a background thread release the lock, if it is not released. A forked child has no locks."""
    if acquired.owner.process.is_here:
        acquired.manager.abandon(acquired)
