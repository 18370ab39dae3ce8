"""Transaction: commits changes to several paths atomically, at the end of an ``async with`` block."""

from __future__ import annotations

from types import TracebackType

from redicts.aio.loops import write
from redicts.aio.twins import Call, twin_of
from redicts.api import transaction
from redicts.api.transaction import CollectsChanges


@twin_of(transaction.Transaction)
class Transaction(CollectsChanges):
    """Collects changes below a path, and commits them atomically at the end of the ``async with`` block.

    Keys are relative to the path. The methods only collect, so they are not awaited. An exception in the block discards
    the changes. Raises :class:`~redicts.errors.Conflict`, and changes nothing, if an expected value is not there. One
    round trip.

    A transaction has one block, in one thread. Any other use of it raises :class:`~redicts.errors.WrongUse`.
    """

    __slots__ = ()

    async def __aenter__(self) -> Transaction:
        self._begin()
        return self

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Call[None]:
        changes = self._end(kind is None)
        database = self._database
        if changes is None:
            return _nothing()
        return write(database, database.store.commit(changes), *dict.fromkeys(changes.paths))


async def _nothing() -> None:
    """Commit nothing."""
