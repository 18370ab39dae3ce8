"""The exits of ``with`` blocks.

The exit of a ``with`` block is looked up when the block is entered. So it releases the lock for the owner that entered
the block, in whichever thread or task the block ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from redicts.api.acquisitions import give_up, log_failed_release, release
from redicts.errors import LockError, StoreError
from redicts.locks import manager
from redicts.locks.manager import Acquired
from redicts.locks.owner import LockOwner, acquiring_owner

_Function = TypeVar("_Function", bound=Callable[..., Any])


class AtExit:
    """The method ``__exit__``, which acts for the owner that enters the ``with`` block.

    ``of_object`` makes the exit of a block when it is looked up in the object, and ``of_class`` when in the class.
    """

    def __init__(self, doc: str | None, of_object: Callable[[Any], Exit], of_class: Callable[[], Any]) -> None:
        self.__doc__ = doc
        self._of_object = of_object
        self._of_class = of_class

    def __get__(self, found: Any, kind: type) -> Callable[..., Any]:
        return self._of_class() if found is None else self._of_object(found)


class Exit:
    """The exit of one ``with`` block, for the owner that enters it. Python looks it up before it enters the block.

    ``held`` is the lock or the proxy, which has a method ``_releases``.
    """

    __slots__ = ("_held", "_owner", "begun")

    def __init__(self, held: Any) -> None:
        self.begun: list[Acquired] = []
        """The acquisition at the begin of the block, if there was one since."""
        self._held = held
        self._owner = owner = acquiring_owner()
        owner.entering = self.begun

    def __call__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Release the lock. An exception of the block is not replaced by one of the release."""
        found = self.begun
        try:
            try:
                if found and found[0].is_current:
                    found[0].manager.run(manager.release(found[0]))
                else:
                    found.clear()
                    location, locked = self._held._releases()
                    release(location, locked, found, self._owner)
            except (StoreError, LockError):
                if error is None:
                    raise
                log_failed_release()
            self.__class__ = Exit
        except BaseException:
            location, locked = self._held._releases()
            give_up(location, locked, found, self._owner)
            self.__class__ = Exit
            raise


class BlockExit(Exit):
    """An exit that was not called.

    Python drops it with the block, also if an exception comes after the lock was granted and before the block, or after
    the block and before the call. Then it lets a background thread release the lock. What was called has no finalizer,
    because an exception in a finalizer is lost.
    """

    __slots__ = ()

    def __del__(self) -> None:
        owner: LockOwner | None = getattr(self, "_owner", None)
        if owner is None or not owner.process.is_here:
            return  # an exception came before the owner was known, or this is a copy in a forked child
        if owner.entering is self.begun:
            owner.entering = None
        for acquired in self.begun:
            acquired.manager.abandon(acquired)


class _BlockExitOfClass:
    """The exit of a block that is looked up in the class before the block is entered, as ``ExitStack`` does."""

    __slots__ = ("_exit",)

    def __init__(self) -> None:
        self._exit = BlockExit(None)

    def __call__(self, held: Any, kind: object, error: BaseException | None, trace: object) -> None:
        """Release a lock: for the owner that entered the block, or else for the running one."""
        found = self._exit
        try:
            if not any(each.is_current for each in _of(found.begun, held)):
                found = BlockExit(held)
            found._held = held
            found(kind, error, trace)
        except BaseException:
            location, locked = held._releases()
            give_up(location, locked, _of(found.begun, held), found._owner)
            raise


def _of(begun: list[Acquired], held: Any) -> list[Acquired]:
    """Return the acquisitions that a release of this lock may end."""
    return [each for each in begun if (each.location, each.paths) == held._releases()]


def entered(acquired: Acquired) -> None:
    """Tell the exit that was looked up last, if it is not dropped, which acquisition its block begins with."""
    owner = acquired.owner
    begun = owner.entering
    if begun is not None:
        owner.entering = None
        acquired.in_block = True
        begun.append(acquired)


def at_exit(function: _Function) -> _Function:
    """Let a method ``__exit__`` act for the owner that enters the ``with`` block."""
    return cast("_Function", AtExit(function.__doc__, BlockExit, _BlockExitOfClass))
