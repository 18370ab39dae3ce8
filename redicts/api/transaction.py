"""Transaction: commits changes to several paths atomically."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from threading import get_ident
from types import TracebackType
from typing import Any

from redicts.api.opened import OpenedDatabase
from redicts.core.changes import Changes
from redicts.core.minitransaction import Path
from redicts.core.paths import described
from redicts.core.ttl import milliseconds
from redicts.errors import WrongUse


class CollectsChanges:
    """The changes of a transaction, and the state of its block: all of it but the block itself, which commits them."""

    __slots__ = ("_below", "_changes", "_database", "_has_ended", "_owner")

    def __init__(self, database: OpenedDatabase, below: Callable[[str | Iterable[str]], Path]) -> None:
        self._database = database
        self._below = below
        self._changes: Changes = database.store.begin()
        self._owner: tuple[int, int] | None = None
        """The process and the thread that entered the block."""
        self._has_ended = False

    def expect(self, key: str | Iterable[str], value: Any) -> None:
        """Commit only if this value is at ``key``; ``ABSENT`` expects nothing. Encoded values are compared."""
        self._collected().expect(self._below(key), value)

    def set(self, key: str | Iterable[str], value: Any, expire: float | None = None) -> None:
        """Replace the value at ``key``. ``expire`` is in seconds."""
        self._collected().write(self._below(key), value, milliseconds(expire))

    def delete(self, key: str | Iterable[str]) -> None:
        """Remove the value at ``key``."""
        self._collected().delete(self._below(key))

    def add(self, key: str | Iterable[str], count: int) -> None:
        """Add to the 64-bit integer at ``key``, which is 0 if absent.

        If a dict is there, the transaction fails, unless it has set or deleted this key or one above it before.
        """
        self._collected().add(self._below(key), count)

    def expire(self, key: str | Iterable[str], seconds: float | None) -> None:
        """Set the TTL of the value at ``key`` in seconds; ``None`` removes the expiry."""
        self._collected().expire(self._below(key), milliseconds(seconds))

    def __repr__(self) -> str:
        """Return the path, the number of changes and the state of the block. No round trip, no value."""
        count = len(self._changes.paths)
        state = "ended" if self._has_ended else "not begun" if self._owner is None else "in its block"
        return f"<Transaction on {described(self._below(()))}: {count} change{'' if count == 1 else 's'}, {state}>"

    def _begin(self) -> None:
        if self._owner is not None:
            raise WrongUse("a transaction has one with block; begin another one with transaction()")
        self._owner = os.getpid(), get_ident()

    def _end(self, commits: bool) -> Changes | None:
        """End the block, and return the changes to commit."""
        changes = self._collected() if commits else None
        self._has_ended = True
        return changes

    def _collected(self) -> Changes:
        """Return the changes so far. Raises :class:`~redicts.errors.WrongUse` except in the block and its thread."""
        if self._has_ended:
            raise WrongUse("the with block of this transaction has ended; begin another one with transaction()")
        if self._owner is None:
            raise WrongUse("a transaction collects changes only in its block: with p.transaction() as changes: ...")
        if self._owner != (os.getpid(), get_ident()):
            raise WrongUse("a transaction can be used in the process and thread of its with block only; use it there")
        return self._changes


class Transaction(CollectsChanges):
    """Collects changes below a path, and commits them atomically at the end of the ``with`` block.

    Keys are relative to the path. An exception in the block discards the changes. Raises
    :class:`~redicts.errors.Conflict`, and changes nothing, if an expected value is not there. One round trip.

    A transaction has one block, in one thread. Any other use of it raises :class:`~redicts.errors.WrongUse`.

    >>> from redicts import Pool, root
    >>> Pool().reload(cfg={"backend": "memory"})
    >>> root().set("account", {"anna": 10, "ben": 0}).val()
    {'account': {'anna': 10, 'ben': 0}}
    >>> with root().get("account").transaction() as changes:
    ...     changes.expect("anna", 10)
    ...     changes.add("anna", -3)
    ...     changes.add("ben", 3)
    >>> root().val()
    {'account': {'anna': 7, 'ben': 3}}
    """

    __slots__ = ()

    def __enter__(self) -> Transaction:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        changes = self._end(kind is None)
        if changes is not None:
            self._database.write(self._database.store.commit(changes), *dict.fromkeys(changes.paths))
