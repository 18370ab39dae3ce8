"""Checks and reads inside of one SQL transaction, at one instant."""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple, Union

from redicts.backends.sqlite import statements
from redicts.backends.sqlite.paths import bounds, decode_all, encode, past
from redicts.core.transaction import (
    Answer,
    AnyRead,
    Check,
    Entries,
    Exactly,
    Key,
    Names,
    Prefixed,
    Read,
    ReadNames,
    Scope,
)

_FEW_ROWS: Final = 16
_MANY_ROWS: Final = 1024
_NO_LIMIT: Final = -1
_ANY_NUMBER: Final = 2**63 - 1

Leaf = tuple[bytes, int | None]
"""A value and its deadline."""

_Row = tuple[bytes, bytes, Union[int, None]]
"""A key, its value and its deadline."""


class Instant(NamedTuple):
    """Where and when to look: a cursor in a transaction, the number of the database, the time in milliseconds."""

    cursor: sqlite3.Cursor
    database: str
    now: int


def first_failed(instant: Instant, checks: tuple[Check, ...]) -> int | None:
    """Return the index of the first check that does not hold, or ``None`` if all do."""
    for index, check in enumerate(checks):
        holds = _is_exactly(instant, check) if isinstance(check, Exactly) else _is_prefixed(instant, check)
        if not holds:
            return index
    return None


def answer(instant: Instant, read: AnyRead) -> Answer:
    """Return what a read asks for."""
    if isinstance(read, ReadNames):
        return _names(instant, read)
    if read.scope is Scope.NODE:
        return entries_of_leaf(stored_leaf(instant, read.key), read.lives, instant.now)
    asked = Range.of(instant.database, read)
    return asked.entries(asked.rows(instant.cursor, instant.now), instant.now)


def stored_leaf(instant: Instant, key: Key) -> Leaf | None:
    """Return what is stored at exactly this key, be it expired."""
    row: Leaf | None = instant.cursor.execute(statements.READ_NODE, (encode(instant.database, key),)).fetchone()
    return row


def entries_of_leaf(leaf: Leaf | None, lives: bool, now: int) -> Entries:
    """Return the answer to a read of one key at which this is stored."""
    if leaf is None:
        return Entries({})
    value, deadline = leaf
    if deadline is None:
        return Entries({(): value})
    if deadline <= now:
        return Entries({})
    return Entries({(): value}, {(): deadline - now} if lives else {})


def _is_exactly(instant: Instant, check: Exactly) -> bool:
    """Compare, reading at most one row more than there should be."""
    base = encode(instant.database, check.key)
    lower, upper = bounds(base, check.scope)
    rows = instant.cursor.execute(
        statements.READ_RANGE,
        (lower, upper, instant.now, len(check.entries) + 1),
    ).fetchall()
    paths = decode_all([path[len(base) :] for path, _, _ in rows])
    return dict(zip(paths, [value for _, value, _ in rows])) == dict(check.entries)


def _is_prefixed(instant: Instant, check: Prefixed) -> bool:
    """Look for a value that starts otherwise."""
    lower, upper = bounds(encode(instant.database, check.key), check.scope)
    other = instant.cursor.execute(
        statements.READ_OTHER_PREFIX,
        (lower, upper, instant.now, len(check.prefix), check.prefix),
    ).fetchone()
    return other is None


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

    def rows(self, cursor: sqlite3.Cursor, now: int) -> list[_Row]:
        """Return what is there, and one row more than the page has if there is one."""
        limit = _NO_LIMIT if self.read.limit is None else min(self.read.limit + 1, _ANY_NUMBER)
        return cursor.execute(statements.READ_RANGE, (self.lower, self.upper, now, limit)).fetchall()

    def entries(self, rows: list[_Row], now: int) -> Entries:
        """Return the answer that the rows make up."""
        skip = self.skip
        cursor = None
        if self.read.limit is not None and len(rows) > self.read.limit:
            rows.pop()
            cursor = rows[-1][0][skip:]
        elif len(rows) == 1 and len(rows[0][0]) == skip and not self.read.lives:
            return Entries({(): rows[0][1]})
        paths = decode_all([row[0][skip:] for row in rows])
        values = dict(zip(paths, [row[1] for row in rows]))
        if not self.read.lives:
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
        rows = instant.cursor.execute(statements.READ_KEYS, (lower, upper, instant.now, asked)).fetchall()
        found = dict.fromkeys([path[skip : path.index(0, skip) + 1] for (path,) in rows])
        names.extend(found)
        if len(rows) < asked or len(names) == wanted:
            break
        lower = past(base + names[-1])
        batch = min(2 * batch, _MANY_ROWS) if len(found) == len(rows) else 1
    cursor = None
    if wanted is not None and len(names) == wanted:
        names.pop()
        cursor = names[-1]
    return Names(tuple([name for (name,) in decode_all(names)]), cursor)
