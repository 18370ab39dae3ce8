"""Writes inside of one SQL transaction, atomically, and the removal of what has expired."""

from __future__ import annotations

from typing import Final, NamedTuple

from redicts.backends.sqlite import documents, statements
from redicts.backends.sqlite.documents import Document, Row, above, at_or_above
from redicts.backends.sqlite.paths import bounds, encode
from redicts.backends.sqlite.reading import Instant, stored_leaf
from redicts.core.minitransaction import (
    Add,
    Delete,
    Expire,
    Notify,
    Put,
    PutDocument,
    Scope,
    Write,
    canonical_counter,
    fits_counter,
)

_LAST_DEADLINE: Final = 2**63 - 1
"""The largest integer of SQLite: longer TTLs end here, in 292 million years."""

_RECLAIMED_AT_LEAST: Final = 64
_RECLAIMED_PER_WRITE: Final = 2


class Effects(NamedTuple):
    """What writes bring about beside what they store: sums of counters, and values that name whom to wake.

    ``failed_index`` is the index of an Add that met no counter; then the writes from there on are not applied.
    """

    counters: list[int]
    notified: list[bytes]
    failed_index: int | None = None


def apply(instant: Instant, writes: tuple[Write, ...]) -> Effects:
    """Apply writes in order, until an Add meets no counter. Puts that follow each other are handed to SQLite together.

    Nobody is notified yet, as the transaction can still fail.
    """
    counters: list[int] = []
    notified: list[bytes] = []
    rows: list[Row] = []
    statement = statements.PUT
    for index, write in enumerate(writes):
        if isinstance(write, Put):
            key, value, ttl, keep_ttl = write
            wanted = statements.PUT_KEEPING_TTL if keep_ttl else statements.PUT
            if wanted != statement:
                _put(instant, statement, rows)
                statement = wanted
            last = instant.now if keep_ttl else _deadline(ttl, instant.now)
            encoded = encode(instant.database, key)
            if instant.has_documents:
                _take_apart(instant, encoded)
            rows.append((encoded, value, last))
            continue
        _put(instant, statement, rows)
        if isinstance(write, Add):
            count = _count(instant, write)
            if count is None:
                return Effects(counters, notified, index)
            counters.append(count)
        elif isinstance(write, Notify):
            notified += _clear(instant, write)
        elif isinstance(write, PutDocument):
            _put_document(instant, write)
        else:
            _change_scope(instant, write)
    _put(instant, statement, rows)
    return Effects(counters, notified)


def reclaim(instant: Instant, writes: int) -> bool:
    """Remove some expired values of any database, those that expired first, and tell whether there may be more.

    They are more than so many writes can add.
    """
    most = _RECLAIMED_AT_LEAST + _RECLAIMED_PER_WRITE * writes
    expired = instant.cursor.execute(statements.READ_EXPIRED, (instant.now, most)).fetchall()
    if expired:
        instant.cursor.executemany(statements.DELETE_NODE, expired)
    if not instant.has_documents:
        return len(expired) == most
    whole = instant.cursor.execute(statements.READ_EXPIRED_DOCUMENTS, (instant.now, most)).fetchall()
    if whole:
        instant.cursor.executemany(statements.DELETE_DOCUMENT, whole)
    return most in (len(expired), len(whole))


def _put(instant: Instant, statement: str, rows: list[Row]) -> None:
    """Store what has been collected, and begin to collect again."""
    if len(rows) == 1:
        instant.cursor.execute(statement, rows[0])
    elif rows:
        instant.cursor.executemany(statement, rows)
    rows.clear()


def _put_document(instant: Instant, write: PutDocument) -> None:
    key = encode(instant.database, write.key)
    if instant.has_documents:
        _take_apart_above(instant, key)
    documents.put(instant.cursor, Document(key, write.document, _deadline(write.ttl, instant.now)))
    instant.has_documents = True


def _take_apart(instant: Instant, key: bytes) -> None:
    """Make rows of the document that lies at a key or above it, before something is changed at just this key."""
    documents.take_apart(instant.cursor, at_or_above(instant.cursor, key), instant.now)


def _take_apart_above(instant: Instant, key: bytes) -> None:
    """Make rows of the document that lies above a key, before something is changed from there on."""
    documents.take_apart(instant.cursor, above(instant.cursor, key), instant.now)


def _count(instant: Instant, add: Add) -> int | None:
    """Add to a counter and return the sum, or return ``None`` if there is no counter or no room in it."""
    if instant.has_documents:
        _take_apart(instant, encode(instant.database, add.key))
    leaf = stored_leaf(instant, add.key)
    live = leaf is not None and (leaf[1] is None or leaf[1] > instant.now)
    count = canonical_counter(leaf[0]) if leaf is not None and live else 0
    if count is None or not fits_counter(count + add.amount):
        return None
    count += add.amount
    row = (encode(instant.database, add.key), b"%d" % count, instant.now)
    instant.cursor.execute(statements.PUT_KEEPING_TTL, row)
    return count


def _clear(instant: Instant, write: Notify) -> list[bytes]:
    """Delete what is in a scope, and return it. Mostly there is nothing, and one look is all."""
    lower, upper = bounds(encode(instant.database, write.key), write.scope)
    listed = [value for _, value, _ in instant.rows(lower, upper, -1)]
    if listed:
        _change_scope(instant, Delete(write.key, write.scope))
    return listed


def _change_scope(instant: Instant, write: Delete | Expire) -> None:
    key = encode(instant.database, write.key)
    scopes = [(bounds(key, write.scope), statements.DELETE_RANGE, statements.EXPIRE_RANGE)]
    if instant.has_documents:
        if write.scope is Scope.NODE:
            _take_apart(instant, key)
        else:
            # The leaves of a document at the key itself are all below it.
            _take_apart_above(instant, key)
            scopes.append((bounds(key, Scope.SUBTREE), statements.DELETE_DOCUMENTS, statements.EXPIRE_DOCUMENTS))
    for (lower, upper), delete, expire in scopes:
        if isinstance(write, Delete):
            instant.cursor.execute(delete, (lower, upper))
        else:
            deadline = _deadline(write.ttl, instant.now)
            instant.cursor.execute(expire, (deadline, lower, upper, instant.now))


def _deadline(ttl: int | None, now: int) -> int | None:
    return None if ttl is None else min(now + ttl, _LAST_DEADLINE)
