"""Transaction: commits changes to several paths atomically."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from redicts.api.opened import OpenedDatabase
from redicts.core.changes import Changes
from redicts.core.minitransaction import Path
from redicts.core.ttl import milliseconds


class Transaction:
    """Collects changes below a path, and commits them atomically at the end of the ``with`` block.

    Keys are relative to the path. An exception in the block discards the changes. Raises
    :class:`~redicts.errors.Conflict`, and changes nothing, if an expected value is not there. One round trip.

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

    __slots__ = ("_below", "_changes", "_database")

    def __init__(self, database: OpenedDatabase, below: Callable[[str | Iterable[str]], Path]) -> None:
        self._database = database
        self._below = below
        self._changes: Changes = database.store.begin()

    def expect(self, key: str | Iterable[str], value: Any) -> None:
        """Commit only if this value is at ``key``; ``ABSENT`` expects nothing. Encoded values are compared."""
        self._changes.expect(self._below(key), value)

    def set(self, key: str | Iterable[str], value: Any, expire: float | None = None) -> None:
        """Replace the value at ``key``. ``expire`` is in seconds."""
        self._changes.write(self._below(key), value, milliseconds(expire))

    def delete(self, key: str | Iterable[str]) -> None:
        """Remove the value at ``key``."""
        self._changes.delete(self._below(key))

    def add(self, key: str | Iterable[str], count: int) -> None:
        """Add to the 64-bit integer at ``key``, which is 0 if absent.

        If a dict is there, the transaction fails, unless it has set or deleted this key or one above it before.
        """
        self._changes.add(self._below(key), count)

    def expire(self, key: str | Iterable[str], seconds: float | None) -> None:
        """Set the TTL of the value at ``key`` in seconds; ``None`` removes the expiry."""
        self._changes.expire(self._below(key), milliseconds(seconds))

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            steps = self._database.store.commit(self._changes)
            self._database.write(steps, *dict.fromkeys(self._changes.paths))
