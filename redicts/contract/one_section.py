"""A client of one section of a sharded store, where it has to do what any other store does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from redicts.contract.harness import SharedBackend
from redicts.core.backend import Backend
from redicts.core.listener import Listener
from redicts.core.minitransaction import RECORDS, AnyRead, Check, Key, Outcome, Path, Transaction, Write

SECTION: Final = "se{ct.ion"
"""The name of the section."""


class InOneSection(SharedBackend):
    """Moves all keys below one section of a sharded store, so that the suite's roots are in that section.

    The harness of such a store opens all its clients so, except in :meth:`~redicts.contract.Harness.whole`. Closing it
    closes the client.
    """

    __slots__ = ()

    def execute(self, transaction: Transaction, /) -> Outcome:
        """Execute below the section."""
        return self.shared.execute(_moved(transaction))

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        """Execute below the section."""
        return self.shared.execute_until(_moved(transaction), deadline)

    def fetch(self, key: Key, /) -> bytes | None:
        """Fetch below the section."""
        return self.shared.fetch(_below(key))

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        """Overwrite below the section."""
        return self.shared.overwrite(_below(key), value)

    def fetch_document(self, key: Key, /) -> bytes | None:
        """Fetch below the section."""
        return self.shared.fetch_document(_below(key))

    def overwrite_document(self, key: Key, document: bytes, /) -> bool:
        """Overwrite below the section."""
        return self.shared.overwrite_document(_below(key), document)

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        """Listen below the section."""
        return self.shared.listen_to_changes(name, (SECTION, *path))

    def close(self) -> None:
        """Close the client."""
        self.shared.close()


def in_one_section(open_: Callable[[], Backend]) -> InOneSection:
    """Open a client in one section. Another process can do so if ``open_`` can be pickled."""
    return InOneSection(open_())


def _below(key: Key) -> Key:
    above = "/" + SECTION if key.space[:1] in RECORDS else SECTION
    return Key(key.space, (above, *key.path))


def _moved(transaction: Transaction) -> Transaction:
    checks: list[Check] = [check._replace(key=_below(check.key)) for check in transaction.checks]
    reads: list[AnyRead] = [read._replace(key=_below(read.key)) for read in transaction.reads]
    writes: list[Write] = [write._replace(key=_below(write.key)) for write in transaction.writes]
    return Transaction(tuple(checks), tuple(reads), tuple(writes))
