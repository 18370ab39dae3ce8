"""Checks and reads inside of one SQL transaction, atomically."""

from __future__ import annotations

import heapq
import sqlite3
from itertools import islice
from operator import itemgetter
from typing import Final, NamedTuple

from redicts.backends.sqlite import statements
from redicts.backends.sqlite.documents import Row, above, in_range, rows_in_range
from redicts.backends.sqlite.paths import bounds, decode_all, encode, past
from redicts.core.minitransaction import (
    Answer,
    AnyRead,
    Check,
    Entries,
    Equals,
    Key,
    Names,
    Read,
    ReadNames,
    Scope,
    StartsWith,
)

_FEW_ROWS: Final = 16
_MANY_ROWS: Final = 1024
_NO_LIMIT: Final = -1
_ANY_NUMBER: Final = 2**63 - 1

Leaf = tuple[bytes, int | None]
"""A value and its deadline."""

_key_of: Final = itemgetter(0)


class Instant:
    """Where and when to look: a cursor in a transaction, the number of the database, the time in milliseconds."""

    __slots__ = ("cursor", "database", "has_documents", "now")

    def __init__(self, cursor: sqlite3.Cursor, database: str, now: int, has_documents: bool) -> None:
        self.cursor: Final = cursor
        self.database: Final = database
        self.now: Final = now
        self.has_documents = has_documents
        """Whether there are documents in the file, so that a leaf may be found, or be in the way, without a row."""

    def rows(self, lower: bytes, upper: bytes, limit: int) -> list[Row]:
        """Return the live leaves in a range of keys, in order and at most so many; -1 is no limit."""
        cursor, now = self.cursor, self.now
        found: list[Row] = cursor.execute(statements.READ_RANGE, (lower, upper, now, limit)).fetchall()
        if not self.has_documents:
            return found
        others = rows_in_range(cursor, lower, upper, now)
        return list(islice(heapq.merge(found, others, key=_key_of), None if limit < 0 else limit))

    def keys(self, lower: bytes, upper: bytes, limit: int) -> list[bytes]:
        """Return the keys in a range of live leaves, or of the documents that they are in; in order, at most so many.

        A document that begins before the range is there with each of its leaves.
        """
        cursor, now = self.cursor, self.now
        rows = cursor.execute(statements.READ_KEYS, (lower, upper, now, limit)).fetchall()
        found = [key for (key,) in rows]
        if not self.has_documents:
            return found
        for document in islice(in_range(cursor, lower, upper, now), limit):
            if document.key > lower:
                found.append(document.key)
            else:
                found += [key for key, _, _ in document.rows() if lower < key < upper]
        return sorted(found)[:limit]


def first_failed(instant: Instant, checks: tuple[Check, ...]) -> int | None:
    """Return the index of the first check that does not hold, or ``None`` if all do."""
    for index, check in enumerate(checks):
        holds = _is_equals(instant, check) if isinstance(check, Equals) else _is_starts_with(instant, check)
        if not holds:
            return index
    return None


def answer(instant: Instant, read: AnyRead) -> Answer:
    """Return what a read asks for."""
    if isinstance(read, ReadNames):
        return _names(instant, read)
    if read.scope is Scope.NODE:
        return entries_of_leaf(stored_leaf(instant, read.key), read.ttls, instant.now)
    asked = Range.of(instant.database, read)
    return asked.entries(instant.rows(asked.lower, asked.upper, asked.most_rows), instant.now)


def stored_leaf(instant: Instant, key: Key) -> Leaf | None:
    """Return what is stored at exactly this key, be it expired."""
    encoded = encode(instant.database, key)
    row: Leaf | None = instant.cursor.execute(statements.READ_NODE, (encoded,)).fetchone()
    if row is None and instant.has_documents:
        return leaf_in_document(instant.cursor, encoded)
    return row


def leaf_in_document(cursor: sqlite3.Cursor, key: bytes) -> Leaf | None:
    """Return what is stored at exactly this key in a document that lies above it, be it expired."""
    document = above(cursor, key)
    if document is None:
        return None
    value = document.leaf(key)
    return None if value is None else (value, document.deadline)


def entries_of_leaf(leaf: Leaf | None, ttls: bool, now: int) -> Entries:
    """Return the answer to a read of one key at which this is stored."""
    if leaf is None:
        return Entries({})
    value, deadline = leaf
    if deadline is None:
        return Entries({(): value})
    if deadline <= now:
        return Entries({})
    return Entries({(): value}, {(): deadline - now} if ttls else {})


def _is_equals(instant: Instant, check: Equals) -> bool:
    """Compare, reading at most one row more than there should be."""
    base = encode(instant.database, check.key)
    lower, upper = bounds(base, check.scope)
    rows = instant.rows(lower, upper, len(check.entries) + 1)
    paths = decode_all([path[len(base) :] for path, _, _ in rows])
    return dict(zip(paths, [value for _, value, _ in rows])) == dict(check.entries)


def _is_starts_with(instant: Instant, check: StartsWith) -> bool:
    """Look for a value that starts otherwise."""
    lower, upper = bounds(encode(instant.database, check.key), check.scope)
    other = instant.cursor.execute(
        statements.READ_OTHER_PREFIX,
        (lower, upper, instant.now, len(check.prefix), check.prefix),
    ).fetchone()
    if other is not None:
        return False
    if not instant.has_documents:
        return True
    rows = rows_in_range(instant.cursor, lower, upper, instant.now)
    return all(value.startswith(check.prefix) for _, value, _ in rows)


class Range(NamedTuple):
    """A range of keys that is read, or a page of it: the cursor is the rest of the last page's last key."""

    read: Read
    skip: int
    lower: bytes
    upper: bytes

    @classmethod
    def of(cls, database: str, read: Read) -> Range:
        """Return what a read asks for."""
        base = encode(database, read.key)
        lower, upper = bounds(base, read.scope)
        return cls(read, len(base), lower if read.cursor is None else base + read.cursor, upper)

    @property
    def most_rows(self) -> int:
        """How many rows the page may have, and one more, which tells that there is another page; -1 is no limit."""
        return _NO_LIMIT if self.read.limit is None else min(self.read.limit + 1, _ANY_NUMBER)

    def entries(self, rows: list[Row], now: int) -> Entries:
        """Return the answer that the rows make up."""
        skip = self.skip
        cursor = None
        if self.read.limit is not None and len(rows) > self.read.limit:
            rows.pop()
            cursor = rows[-1][0][skip:]
        elif len(rows) == 1 and len(rows[0][0]) == skip and not self.read.ttls:
            return Entries({(): rows[0][1]})
        paths = decode_all([row[0][skip:] for row in rows])
        values = dict(zip(paths, [row[1] for row in rows]))
        if not self.read.ttls:
            return Entries(values, cursor=cursor)
        deadlines = zip(paths, [row[2] for row in rows])
        return Entries(values, {path: last - now for path, last in deadlines if last is not None}, cursor)


def _names(instant: Instant, read: ReadNames) -> Names:
    """Read names by jumping, from the last key of a batch, past all keys that begin with the same name.

    A batch that brought nothing but new names is followed by a larger one, any other by a single row. So a flat dict
    is read almost as fast as its rows, and of a deep one only a few rows per name.
    """
    base = encode(instant.database, read.key)
    skip = len(base)
    lower, upper = bounds(base, Scope.BELOW)
    if read.cursor is not None:
        lower = past(base + read.cursor)
    wanted = None if read.limit is None else read.limit + 1
    names: list[bytes] = []
    batch = _FEW_ROWS
    while True:
        asked = batch if wanted is None else min(batch, wanted - len(names))
        keys = instant.keys(lower, upper, asked)
        found = dict.fromkeys([key[skip : key.index(0, skip) + 1] for key in keys])
        names.extend(found)
        if len(keys) < asked or len(names) == wanted:
            break
        lower = past(base + names[-1])
        batch = min(2 * batch, _MANY_ROWS) if len(found) == len(keys) else 1
    cursor = None
    if wanted is not None and len(names) == wanted:
        names.pop()
        cursor = names[-1]
    return Names(tuple([name for (name,) in decode_all(names)]), cursor)
