"""Edit: reads a value under its lock, lets a block change it, and stores the changes as it releases the lock."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from redicts.aio.lockable import AwaitedExit, abandon, acquire, at_exit, run_in
from redicts.aio.twins import Call, twin_of
from redicts.api import edit
from redicts.api.acquisitions import Location
from redicts.api.blocks import Exit
from redicts.api.edit import EditsValue
from redicts.api.opened import OpenedDatabase
from redicts.locks.manager import Acquired
from redicts.locks.owner import Paths


class _EditExit(AwaitedExit):
    """The exit of the block of an edit."""

    __slots__ = ()

    async def _leave(self, error: BaseException | None) -> None:
        try:
            closing = self._held._close(error)
            if closing is not None:
                await run_in(*closing)
        except BaseException:
            for acquired in self.begun:
                abandon(acquired)
            raise
        finally:
            self.__class__ = Exit  # type: ignore[assignment]  # it has no finalizer


@twin_of(edit.Edit)
class Edit(EditsValue):
    __slots__ = ()

    def __aenter__(self) -> Call[Any]:
        """Acquire the lock and return the value."""
        return self._enter(*self._begin())

    async def _enter(self, database: OpenedDatabase, acquired: Acquired) -> Any:
        await acquire(database, acquired, self._lock._acquire_timeout)
        return await run_in(acquired, self._open(acquired))

    @at_exit(_EditExit)
    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Call[None]:
        """Store the changes and release the lock, or only that after an error."""
        raise NotImplementedError  # the exit does it

    def _releases(self) -> tuple[Location, Paths]:
        return self._lock._releases()
