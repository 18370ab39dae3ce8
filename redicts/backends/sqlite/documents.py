"""Documents: dicts stored whole in one row, which every transaction sees as if each leaf had its own row.

A document is written as one row and read as one. Reads of a part take its leaves from here, as the rows that they would
be. A write that changes a part first splits the document into leaves, in the same transaction; from then on the leaves
are rows.

The keys of documents and entries together are prefix-free. So no other key is between that of a document and a
key below it, and the only document that can cover a key is the last one before it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final, NamedTuple, Union

from redicts.backends.sqlite import statements
from redicts.core.documents import leaves_in
from redicts.core.minitransaction import Path
from redicts.core.ordered_keys import below, decode

_FIRST_BATCH: Final = 4
_LARGEST_BATCH: Final = 256

Leaf = tuple[bytes, Union[int, None]]
"""A value and its deadline."""

Row = tuple[bytes, bytes, Union[int, None]]
"""A key, its value and its deadline."""


class Document(NamedTuple):
    """A row of the table of documents."""

    key: bytes
    text: bytes
    deadline: int | None

    def is_live(self, now: int) -> bool:
        """Tell whether it has not expired."""
        return self.deadline is None or self.deadline > now

    def rows(self, within: Path = ()) -> list[Row]:
        """Return the rows that its leaves at and below a relative path would be, in order.

        A text that another program altered need not be a document. It counts as a value at its key; core reports it.
        """
        try:
            leaves = leaves_in(self.text)
        except ValueError:
            return [self]
        if within in leaves:
            return [(below(self.key, within), leaves[within], self.deadline)]
        depth = len(within)
        found = [path for path in leaves if path[:depth] == within] if within else leaves
        return sorted([(below(self.key, path), leaves[path], self.deadline) for path in found])

    def leaf(self, key: bytes) -> Leaf | None:
        """Return the leaf at a key below its own, expired or not."""
        try:
            value = leaves_in(self.text).get(decode(key[len(self.key) :]))
        except ValueError:
            return None
        return None if value is None else (value, self.deadline)


def document_above(cursor: sqlite3.Cursor, key: bytes) -> Document | None:
    """Return the document that a key lies below, expired or not."""
    row = cursor.execute(statements.READ_DOCUMENT_BEFORE, (key,)).fetchone()
    if row is None or not key.startswith(row[0]):
        return None
    if type(row[1]) is int:
        long: Leaf | None = cursor.execute(statements.READ_DOCUMENT, row[:1]).fetchone()
        return None if long is None else Document(row[0], *long)
    return Document(*row)


def document_covering(cursor: sqlite3.Cursor, key: bytes) -> Document | None:
    """Return the document at a key, or that the key lies below, expired or not."""
    return document_above(cursor, key + b"\x00")


def leaf_in_document(cursor: sqlite3.Cursor, key: bytes) -> Leaf | None:
    """Return the leaf at exactly this key of a document above it, expired or not."""
    document = document_above(cursor, key)
    return None if document is None else document.leaf(key)


def documents_in_range(cursor: sqlite3.Cursor, lower: bytes, upper: bytes, now: int) -> Iterator[Document]:
    """Yield the live documents with leaves in a range of keys, in order: some leaves of the first, all of the others.

    The range ends where a subtree does. The batches grow, because the caller may need only a few.
    """
    first = document_covering(cursor, lower)
    if first is not None and first.is_live(now):
        yield first
    batch = _FIRST_BATCH
    while True:
        rows = cursor.execute(statements.READ_DOCUMENTS, (lower, upper, now, batch)).fetchall()
        for row in rows:
            yield Document(*row)
        if len(rows) < batch:
            return
        lower, batch = rows[-1][0], min(2 * batch, _LARGEST_BATCH)


def rows_in_range(cursor: sqlite3.Cursor, lower: bytes, upper: bytes, now: int) -> Iterator[Row]:
    """Yield the rows that the live leaves of documents in a range of keys would be, in order."""
    for document in documents_in_range(cursor, lower, upper, now):
        for row in document.rows(_part_in_range(document.key, lower, upper)):
            if lower < row[0] < upper:
                yield row


def _part_in_range(key: bytes, lower: bytes, upper: bytes) -> Path:
    """Return a path relative to a key, at and below which everything is that is below the key and in a range.

    It is that of the range if that is a subtree, or what is left of one, below the key: see ``ordered_keys.bounds``.
    """
    stem = upper[:-1]
    if stem.startswith(key) and lower.startswith(stem) and upper == stem + b"\x01":
        return decode(stem[len(key) :] + b"\x00")
    return ()
