"""The state of the store inside one SQL transaction: evaluates checks, answers reads and applies writes."""

from __future__ import annotations

import heapq
import sqlite3
from itertools import islice
from operator import itemgetter
from typing import Any, Final, Union

from redicts.backends.sqlite import statements
from redicts.backends.sqlite.documents import (
    Document,
    Leaf,
    Row,
    document_above,
    document_covering,
    leaf_in_document,
    rows_in_range,
)
from redicts.backends.sqlite.keys import LOCK_SPACES, below
from redicts.backends.sqlite.lock_checks import PREPARED, ChecksOfLock, prepared, removed_record
from redicts.core.minitransaction import (
    Add,
    Answer,
    AnyRead,
    Check,
    Delete,
    Entries,
    Equals,
    Expire,
    Names,
    Notify,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Write,
    canonical_counter,
    fits_counter,
)
from redicts.core.ordered_keys import bounds, decode_all, encode, past

_FIRST_BATCH: Final = 16
_LARGEST_BATCH: Final = 1024

_LARGEST_INTEGER: Final = 2**63 - 1
"""The largest integer of SQLite. Longer TTLs end there, in 292 million years."""

_MIN_RECLAIMED: Final = 64
_RECLAIMED_PER_WRITE: Final = 2

_MOST_SUMS: Final = 64

_last_sums: Final[dict[bytes, int]] = {}
"""The last sums of a few counters by key, in any file. Only a statement that compares relies on them."""

_key_of: Final = itemgetter(0)

_Stored = tuple[bytes, Union[bytes, int], Union[int, None]]
"""A row as the tree of keys contains it: with a value, or the number of a long one."""


class Snapshot:
    """The state that an open SQL transaction sees, at one time of the store; writes change it in place."""

    __slots__ = (
        "_cleared",
        "_has_looked",
        "cursor",
        "database",
        "first_document",
        "has_long",
        "last_document",
        "now",
    )

    def __init__(self, cursor: sqlite3.Cursor, database: str, now: int, *, looks: bool = True) -> None:
        self.cursor: Final = cursor
        self.database: Final = database
        self.now: Final = now
        # The keys of the first and the last document: in that range a leaf may exist without a row of its own. And
        # whether there are long values, which are to be deleted with the rows that name them.
        self.first_document: bytes | None = None
        self.last_document = b""
        self.has_long = False
        # A key that this transaction has deleted with all below it, so that no document is there or above it any more.
        self._cleared: bytes | tuple[()] = ()
        self._has_looked = False
        if looks:
            self.look()

    def look(self) -> None:
        """Learn what the file contains. A transaction without keys of values does so only if it deletes anything."""
        self.first_document, self.last_document, self.has_long = self.cursor.execute(statements.CONTENTS).fetchone()
        self._has_looked = True

    def has_documents(self, lower: bytes, upper: bytes) -> bool:
        """Tell whether leaves in a range are parts of documents. Those of locks never are, whatever values are."""
        if self.first_document is None or not self.may_have_documents(lower, upper):
            return False
        (last,) = self.cursor.execute(statements.LAST_DOCUMENT, (upper,)).fetchone()
        # None if this transaction has taken the last one before the end of the range apart, or deleted it.
        return last is not None and (lower < last or lower.startswith(last))

    def may_have_documents(self, lower: bytes, upper: bytes) -> bool:
        """Tell whether the range overlaps with that of all documents, for callers that look for a single one next."""
        first, last = self.first_document, self.last_document
        return first is not None and first < upper and (lower < last or lower.startswith(last))

    def first_failed(self, checks: tuple[Check, ...]) -> int | None:
        """Return the index of the first check that does not hold, or ``None`` if all do."""
        of_lock = PREPARED.get(id(checks))
        if of_lock is None or of_lock.database != self.database:
            is_alike = len(checks) > 1 and isinstance(checks[-1], StartsWith)
            of_lock = prepared(self.database, checks) if is_alike else None
        if of_lock is not None:
            return self._first_held(of_lock)
        index = 0
        while index < len(checks):
            check = checks[index]
            if isinstance(check, Equals):
                if not self._equals(check):
                    return index
                index += 1
                continue
            # Checks of the same prefix, which differ in the scope.
            prefix = check.prefix
            ranges: list[int | bytes] = [self.now, prefix]
            for other in checks[index : index + statements.MOST_RANGES]:
                if not isinstance(other, StartsWith) or other.prefix != prefix:
                    break
                if other.scope is Scope.BELOW:
                    ranges += below(self.database, other.key)
                else:
                    ranges += bounds(encode(self.database, other.key), other.scope)
            failed = self._other_prefix(prefix, ranges)
            if failed is not None:
                return index + failed
            index += len(ranges) // 2 - 1
        return None

    def _first_held(self, checks: ChecksOfLock) -> int | None:
        """Return the index of the first check of a lock that does not hold.

        Usually there is no record anywhere near, which takes two searches. Otherwise each of the scopes takes one.
        """
        found = self.cursor.execute(checks.near, checks.outer).fetchone()
        for has_any, (first, ranges) in zip(found, checks.spaces):
            if has_any:
                failed = self._other_prefix(checks.prefix, [self.now, checks.prefix, *ranges])
                if failed is not None:
                    return first + failed
        return None

    def delete_checked(self, check: Check, write: Write) -> bool:
        """Delete a value if it is as a check says, where this write deletes it; return whether it did.

        So a lock is released by one statement instead of three. If this returns false, nothing was changed.
        """
        record = removed_record(check, write)
        if record is None:
            return False
        key, value = record
        row = (encode(self.database, key), value, self.now)
        return self.cursor.execute(statements.DELETE_EQUAL, row).rowcount == 1

    def _other_prefix(self, prefix: bytes, ranges: list[Any]) -> int | None:
        """Return the index of a range with a live value that does not start with a prefix, or ``None``.

        ``ranges`` are the parameters of the statement: time and prefix, and then the bounds of each range.
        """
        count = len(ranges) // 2 - 1
        found: tuple[int] | None = self.cursor.execute(statements.READ_OTHER_PREFIX[count - 1], ranges).fetchone()
        if found is not None:
            return found[0]
        if self.first_document is not None:
            for index in range(count):
                lower, upper = ranges[2 * index + 2 : 2 * index + 4]
                if self.has_documents(lower, upper):
                    rows = rows_in_range(self.cursor, lower, upper, self.now)
                    if not all(value.startswith(prefix) for _, value, _ in rows):
                        return index
        return None

    def answer(self, read: AnyRead) -> Answer:
        """Return the answer to one read."""
        if isinstance(read, ReadNames):
            return self._names(read)
        base = encode(self.database, read.key)
        if read.scope is Scope.NODE:
            leaf: Leaf | None = self.cursor.execute(statements.READ_NODE, (base,)).fetchone()
            if leaf is None and self.first_document is not None:
                leaf = self._leaf_of_document(base)
            return Entries({}) if leaf is None else entries_of_leaf(leaf, read.ttls, self.now)
        return self._entries(read, base)

    def apply(self, writes: tuple[Write, ...]) -> tuple[list[int], list[bytes], int | None]:
        """Apply writes in order; consecutive puts of one kind are passed to SQLite together.

        Return the sums of counters, the listeners to notify after the commit, and the index of the first Add that met
        no counter; the writes from there on are not applied.
        """
        counters: list[int] = []
        notified: list[bytes] = []
        rows: list[_Stored] = []
        statement = statements.PUT
        now = self.now
        for index, write in enumerate(writes):
            if isinstance(write, Put):
                key, value, ttl, keep_ttl = write
                needed = statements.PUT_KEEPING_TTL if keep_ttl else statements.PUT
                if rows and needed != statement:
                    self._put(statement, rows)
                statement = needed
                encoded = encode(self.database, key)
                if (
                    self.first_document is not None
                    and not encoded.startswith(self._cleared)
                    and self.may_have_documents(encoded, encoded + b"\x00")
                ):
                    self._split(document_covering(self.cursor, encoded))
                deadline = now if keep_ttl else None if ttl is None else min(now + ttl, _LARGEST_INTEGER)
                if len(value) <= statements.MOST_INLINE_BYTES:
                    rows.append((encoded, value, deadline))
                else:
                    self._put_long(statement, (encoded, value, deadline), rows)
                continue
            if rows:
                self._put(statement, rows)
            if isinstance(write, (Delete, Expire)):
                self._change_scope(write)
            elif not self._apply_other(write, counters, notified):
                return counters, notified, index
        if rows:
            self._put(statement, rows)
        return counters, notified, None

    def reclaim(self, writes: int) -> bool:
        """Remove expired values of any database, the oldest first, and tell whether more may be left.

        It removes more than this many writes can add.
        """
        self.look()
        limit = _MIN_RECLAIMED + _RECLAIMED_PER_WRITE * writes
        expired = self.cursor.execute(statements.READ_EXPIRED, (self.now, limit)).fetchall()
        if expired:
            if self.has_long:
                self.cursor.executemany(statements.FREE_NODE, expired)
            self.cursor.executemany(statements.DELETE_NODE, expired)
        if self.first_document is None:
            return len(expired) == limit
        whole = self.cursor.execute(statements.READ_EXPIRED_DOCUMENTS, (self.now, limit)).fetchall()
        if whole:
            self._delete_documents(whole)
        return limit in (len(expired), len(whole))

    def _leaf_of_document(self, key: bytes) -> Leaf | None:
        """Return the leaf at a key without a row of its own, expired or not."""
        return leaf_in_document(self.cursor, key) if self.may_have_documents(key, key + b"\x00") else None

    def _rows(self, lower: bytes, upper: bytes, limit: int | None = None) -> list[Row]:
        """Return the live leaves in a range of keys, in order and at most ``limit``."""
        cursor, now = self.cursor, self.now
        most = -1 if limit is None else limit
        found: list[Row] = cursor.execute(statements.READ_RANGE, (lower, upper, now, most)).fetchall()
        if self.first_document is None or not self.has_documents(lower, upper):
            return found
        others = rows_in_range(cursor, lower, upper, now)
        return list(islice(heapq.merge(found, others, key=_key_of), limit))

    def _keys(self, lower: bytes, upper: bytes, limit: int) -> list[bytes]:
        """Return the keys in a range of live leaves, or of the documents that contain them, in order.

        There are at most ``limit``. A document that begins before the range is represented by each of its leaves.
        """
        cursor, now = self.cursor, self.now
        rows = cursor.execute(statements.READ_KEYS, (lower, upper, now, limit)).fetchall()
        found = [key for (key,) in rows]
        if not self.has_documents(lower, upper):
            return found
        document = document_covering(cursor, lower)
        if document is not None and document.is_live(now):
            found += [key for key, _, _ in document.rows() if lower < key < upper]
        found += [key for (key,) in cursor.execute(statements.READ_DOCUMENT_KEYS, (lower, upper, now, limit))]
        return sorted(found)[:limit]

    def _equals(self, check: Equals) -> bool:
        """Compare, reading at most one row more than expected."""
        base = encode(self.database, check.key)
        if check.scope is Scope.NODE:
            leaf: Leaf | None = self.cursor.execute(statements.READ_NODE, (base,)).fetchone()
            if leaf is None and self.first_document is not None:
                leaf = self._leaf_of_document(base)
            is_live = leaf is not None and (leaf[1] is None or leaf[1] > self.now)
            return check.entries == ({(): leaf[0]} if leaf is not None and is_live else {})
        lower, upper = bounds(base, check.scope)
        rows = self._rows(lower, upper, len(check.entries) + 1)
        paths = decode_all([path[len(base) :] for path, _, _ in rows])
        return dict(zip(paths, [value for _, value, _ in rows])) == dict(check.entries)

    def _entries(self, read: Read, base: bytes) -> Entries:
        """Read a range of keys, or a page of it: the cursor is the relative part of the last page's last key."""
        lower, upper = below(self.database, read.key) if read.scope is Scope.BELOW else bounds(base, read.scope)
        if read.cursor is not None:
            lower = base + read.cursor
        skip, limit, cursor = len(base), read.limit, None
        # One row more than the page may have tells that another page follows.
        rows = self._rows(lower, upper, None if limit is None else min(limit + 1, _LARGEST_INTEGER))
        if not rows:
            return Entries({})
        key, value, _ = rows[0]
        if limit is not None and len(rows) > limit:
            rows.pop()
            cursor = rows[-1][0][skip:]
        elif len(rows) == 1 and key == base and not read.ttls:
            return Entries({(): value})
        paths = decode_all([row[0][skip:] for row in rows])
        values = dict(zip(paths, [row[1] for row in rows]))
        if not read.ttls:
            return Entries(values, cursor=cursor)
        deadlines = zip(paths, [row[2] for row in rows])
        return Entries(values, {path: last - self.now for path, last in deadlines if last is not None}, cursor)

    def _names(self, read: ReadNames) -> Names:
        """Read names by jumping from the last key of a batch past all keys that begin with the same name.

        A batch that contained only new names is followed by a larger one, any other by a single row. So a flat dict is
        read almost as fast as its rows, and a deep one with a few rows per name.
        """
        base = encode(self.database, read.key)
        skip = len(base)
        lower, upper = bounds(base, Scope.BELOW)
        if read.cursor is not None:
            lower = past(base + read.cursor)
        wanted = None if read.limit is None else read.limit + 1
        names: list[bytes] = []
        batch = _FIRST_BATCH
        while True:
            asked = batch if wanted is None else min(batch, wanted - len(names))
            keys = self._keys(lower, upper, asked)
            found = dict.fromkeys([key[skip : key.index(0, skip) + 1] for key in keys])
            names.extend(found)
            if len(keys) < asked or len(names) == wanted:
                break
            lower = past(base + names[-1])
            batch = min(2 * batch, _LARGEST_BATCH) if len(found) == len(keys) else 1
        cursor = None
        if wanted is not None and len(names) == wanted:
            names.pop()
            cursor = names[-1]
        return Names(tuple([name for (name,) in decode_all(names)]), cursor)

    def _apply_other(self, write: Add | Notify | PutDocument, counters: list[int], notified: list[bytes]) -> bool:
        """Apply a less frequent write; return false for an Add that met no counter."""
        if isinstance(write, Add):
            count = self._add(write)
            if count is None:
                return False
            counters.append(count)
        elif isinstance(write, Notify):
            notified += self._clear(write)
        else:
            self._put_document(write)
        return True

    def _put(self, statement: str, rows: list[_Stored]) -> None:
        """Store the collected rows, and empty the list. If one of them replaces a long value, store them again."""
        cursor, count = self.cursor, len(rows)
        if count == 1:
            cursor.execute(statement, rows[0])
        else:
            cursor.executemany(statement, rows)
        if cursor.rowcount != count:
            keys = [row[:1] for row in rows]
            cursor.executemany(statements.FREE_NODE, keys)
            cursor.executemany(statements.EMPTY_NODE, keys)
            cursor.executemany(statement, rows)
        rows.clear()

    def _put_long(self, statement: str, row: Row, before: list[_Stored]) -> None:
        """Store a row whose value is long, by itself, after the rows that were collected before it."""
        if before:
            self._put(statement, before)
        key, value, deadline = row
        self._put(statement, [(key, self._long(value), deadline)])

    def _long(self, value: bytes) -> int:
        """Store a long value apart, and return the number that its row in the tree contains."""
        self.has_long = True
        number = self.cursor.execute(statements.PUT_LONG, (value,)).lastrowid
        assert number is not None  # the statement inserts
        return number

    def _split(self, document: Document | None) -> None:
        """Split a document, if there is one, into leaves with rows of their own."""
        if document is None:
            return
        self._delete_documents([(document.key,)])
        if document.is_live(self.now):
            self._put_rows(document.rows())

    def _put_rows(self, rows: list[Row]) -> None:
        """Store the leaves of a document in rows of their own."""
        short: list[_Stored] = []
        for row in rows:
            if len(row[1]) <= statements.MOST_INLINE_BYTES:
                short.append(row)
            else:
                self._put_long(statements.PUT, row, short)
        if short:
            self._put(statements.PUT, short)

    def _delete_documents(self, keys: list[tuple[bytes]]) -> None:
        """Delete the documents at these keys."""
        if self.has_long:
            self.cursor.executemany(statements.FREE_DOCUMENT, keys)
        self.cursor.executemany(statements.DELETE_DOCUMENT, keys)

    def _put_document(self, write: PutDocument) -> None:
        """Store a document in place of all entries and documents at and below its key. One of locks is split."""
        key = encode(self.database, write.key)
        if write.key.space[:1] in LOCK_SPACES:
            self._change_scope(Delete(write.key, Scope.SUBTREE))
            self._put_rows(Document(key, write.document, self._deadline(write.ttl)).rows())
            return
        if self.first_document is not None:
            self._split(document_above(self.cursor, key))
        subtree = bounds(key, Scope.SUBTREE)
        if self.has_long:
            self.cursor.execute(statements.FREE_RANGE, subtree)
            self.cursor.execute(statements.FREE_DOCUMENTS, subtree)
        self.cursor.execute(statements.DELETE_RANGE, subtree)
        self.cursor.execute(statements.DELETE_DOCUMENTS, subtree)
        text: bytes | int = write.document
        if len(write.document) > statements.MOST_INLINE_DOCUMENT_BYTES:
            text = self._long(write.document)
        self.cursor.execute(statements.PUT_DOCUMENT, (key, text, self._deadline(write.ttl)))
        self._cleared = ()
        self.first_document = min(self.first_document or key, key)
        self.last_document = max(self.last_document or key, key)

    def _add(self, write: Add) -> int | None:
        """Add to a counter and return the sum, or ``None`` if the value is not a counter or the sum too large.

        A counter to which only this process adds takes one statement: it is what it was after the last time.
        """
        key = encode(self.database, write.key)
        count = _last_sums.get(key)
        if count is not None:
            new = count + write.amount
            row = (b"%d" % new, key, b"%d" % count)
            if abs(new) < _LARGEST_INTEGER and self.cursor.execute(statements.OVERWRITE_EQUAL, row).rowcount == 1:
                _last_sums[key] = new
                return new
            _last_sums.pop(key, None)
        count = self._sum(write, key)
        if count is not None:
            self._put(statements.PUT_KEEPING_TTL, [(key, b"%d" % count, self.now)])
            if len(_last_sums) >= _MOST_SUMS:
                _last_sums.clear()
            _last_sums[key] = count
        return count

    def _sum(self, write: Add, key: bytes) -> int | None:
        """Return the sum of a counter and what is added, or ``None``. A document that the counter is in is split."""
        if self.first_document is not None and self.has_documents(key, key + b"\x00"):
            self._split(document_covering(self.cursor, key))
        leaf: Leaf | None = self.cursor.execute(statements.READ_NODE, (key,)).fetchone()
        is_live = leaf is not None and (leaf[1] is None or leaf[1] > self.now)
        count = canonical_counter(leaf[0]) if leaf is not None and is_live else 0
        return None if count is None or not fits_counter(count + write.amount) else count + write.amount

    def _clear(self, write: Notify) -> list[bytes]:
        """Delete the values in a scope and return them. Usually there are none, which one read shows."""
        listed = [value for _, value, _ in self._rows(*bounds(encode(self.database, write.key), write.scope))]
        if listed:
            self._change_scope(Delete(write.key, write.scope))
        return listed

    def _change_scope(self, write: Delete | Expire) -> None:
        """Delete, or change the TTL of, what is in a scope; one statement if the file has no documents or long values.

        Otherwise one tells what there is to change. So it costs one more at most, however much else is in the file.
        """
        if not self._has_looked:
            self.look()
        key = encode(self.database, write.key)
        if self.first_document is None and not self.has_long:
            # Written out, because each set deletes what may be above it.
            if isinstance(write, Expire):
                self._change_entries(write, key, False)
            elif write.scope is Scope.NODE:
                self.cursor.execute(statements.DELETE_NODE, (key,))
            else:
                self.cursor.execute(statements.DELETE_RANGE, bounds(key, write.scope))
            return
        has_long, has_entries, has_documents = self._contents_of(write, key)
        if has_entries:
            self._change_entries(write, key, has_long)
        if has_documents:
            self._change_documents(write, bounds(key, Scope.SUBTREE))
        if write.scope is not Scope.NODE and isinstance(write, Delete):
            self._cleared = key

    def _contents_of(self, write: Delete | Expire, key: bytes) -> tuple[bool, bool, bool]:
        """Return what may be in a scope: long values, any entries, documents. One that is partly in it is split."""
        lower, upper = bounds(key, write.scope)
        if not self.has_long and not self.may_have_documents(lower, upper):
            return self.has_long, True, False
        found, last = self.cursor.execute(statements.LOOK, (lower, upper, upper)).fetchone()
        is_node = write.scope is Scope.NODE
        if last is not None and key.startswith(last) and (is_node or last != key):
            self._split(document_covering(self.cursor, key))
            return self.has_long, True, False
        # The leaves of a document at the key itself are all below it, so it stays whole.
        return found == 1, found is not None, not is_node and last is not None and last >= key

    def _change_entries(self, write: Delete | Expire, key: bytes, has_long: bool) -> None:
        execute = self.cursor.execute
        if isinstance(write, Expire):
            execute(statements.EXPIRE_RANGE, (self._deadline(write.ttl), *bounds(key, write.scope), self.now))
        elif write.scope is Scope.NODE:
            if has_long:
                execute(statements.FREE_NODE, (key,))
            execute(statements.DELETE_NODE, (key,))
        else:
            scope = bounds(key, write.scope)
            if has_long:
                execute(statements.FREE_RANGE, scope)
            execute(statements.DELETE_RANGE, scope)

    def _change_documents(self, write: Delete | Expire, subtree: tuple[bytes, bytes]) -> None:
        execute = self.cursor.execute
        if isinstance(write, Expire):
            execute(statements.EXPIRE_DOCUMENTS, (self._deadline(write.ttl), *subtree, self.now))
            return
        if self.has_long:
            execute(statements.FREE_DOCUMENTS, subtree)
        execute(statements.DELETE_DOCUMENTS, subtree)

    def _deadline(self, ttl: int | None) -> int | None:
        return None if ttl is None else min(self.now + ttl, _LARGEST_INTEGER)


def entries_of_leaf(leaf: Leaf, ttls: bool, now: int) -> Entries:
    """Return the answer to a read of one key at which this leaf is stored."""
    value, deadline = leaf
    if deadline is None:
        return Entries({(): value})
    if deadline <= now:
        return Entries({})
    return Entries({(): value}, {(): deadline - now} if ttls else {})
