"""Documents: dicts that lie whole in one row, and look to every transaction as if each of their leaves had its own.

A document is put by one row and read by one. Whoever reads a part of one finds its leaves here, as the rows that they
would be. Whoever changes a part has it taken apart before, in the same transaction; from then on the leaves are rows.

The keys of documents and of entries together are prefix-free. So nothing lies between the key of a document and a key
below it, and the document that covers a key is the last one before it, or there is none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final, NamedTuple, Union

from redicts.backends.sqlite import statements
from redicts.backends.sqlite.paths import below, bounds, decode
from redicts.core.documents import leaves_in
from redicts.core.minitransaction import Scope

_FEW: Final = 4
_MANY: Final = 256

Row = tuple[bytes, bytes, Union[int, None]]
"""A key, its value and its deadline."""


class Document(NamedTuple):
    """A row of the documents: its key, its text and its deadline."""

    key: bytes
    text: bytes
    deadline: int | None

    def is_live(self, now: int) -> bool:
        """Tell whether it has not expired."""
        return self.deadline is None or self.deadline > now

    def rows(self) -> list[Row]:
        """Return the rows that its leaves would be, in order.

        What somebody else has made of it may be no document: that is a value at its key, of which core will say so.
        """
        try:
            leaves = leaves_in(self.text)
        except ValueError:
            return [self]
        return sorted([(below(self.key, path), value, self.deadline) for path, value in leaves.items()])

    def leaf(self, key: bytes) -> bytes | None:
        """Return the value at a key below its own, or ``None`` if there is no leaf there."""
        try:
            return leaves_in(self.text).get(decode(key[len(self.key) :]))
        except ValueError:
            return None


def above(cursor: sqlite3.Cursor, key: bytes) -> Document | None:
    """Return the document that a key lies below, expired or not."""
    row = cursor.execute(statements.READ_DOCUMENT_BEFORE, (key,)).fetchone()
    return Document(*row) if row is not None and key.startswith(row[0]) else None


def at_or_above(cursor: sqlite3.Cursor, key: bytes) -> Document | None:
    """Return the document that lies at a key, or that the key lies below, expired or not."""
    return above(cursor, key + b"\x00")


def in_range(cursor: sqlite3.Cursor, lower: bytes, upper: bytes, now: int) -> Iterator[Document]:
    """Yield the live documents that have leaves in a range of keys, in order: some of the first one, all of others.

    The range ends where a subtree does. More and more are read at once, for who asks may soon have enough.
    """
    first = at_or_above(cursor, lower)
    if first is not None and first.is_live(now):
        yield first
    batch = _FEW
    while True:
        rows = cursor.execute(statements.READ_DOCUMENTS, (lower, upper, now, batch)).fetchall()
        for row in rows:
            yield Document(*row)
        if len(rows) < batch:
            return
        lower, batch = rows[-1][0], min(2 * batch, _MANY)


def rows_in_range(cursor: sqlite3.Cursor, lower: bytes, upper: bytes, now: int) -> Iterator[Row]:
    """Yield the rows that live leaves of documents would be in a range of keys, in order."""
    for document in in_range(cursor, lower, upper, now):
        for row in document.rows():
            if lower < row[0] < upper:
                yield row


def take_apart(cursor: sqlite3.Cursor, document: Document | None, now: int) -> None:
    """Put the leaves of a document, if there is one, into rows of their own."""
    if document is None:
        return
    cursor.execute(statements.DELETE_DOCUMENT, (document.key,))
    if document.is_live(now):
        cursor.executemany(statements.PUT, document.rows())


def put(cursor: sqlite3.Cursor, document: Document) -> None:
    """Put a document in place of all entries and documents at and below its key."""
    lower, upper = bounds(document.key, Scope.SUBTREE)
    cursor.execute(statements.DELETE_RANGE, (lower, upper))
    cursor.execute(statements.DELETE_DOCUMENTS, (lower, upper))
    cursor.execute(statements.PUT_DOCUMENT, document)
