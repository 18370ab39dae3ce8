"""The SQL of the store: its tables, its index, and every statement that runs on them.

The texts are constants, so that ``sqlite3`` finds each prepared statement in its cache. Each statement finds its rows
through the primary key, or expired ones through the index of deadlines.

*Long values.* SQLite keeps the rows of a table without rowid in the tree that a search compares with, and to compare
with a row that does not fit into its page it copies the whole row. So a value or document longer than
``MOST_INLINE_BYTES`` or ``MOST_INLINE_DOCUMENT_BYTES`` is a row of ``long_values``, and its row in the tree contains
the number of that row, an integer, in place of the bytes. The tree stays small, whatever else the file contains.
"""

# ruff: noqa: S608  (the texts are composed of constants)

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x72646374
"""Identifies a SQLite file as a redicts store (the letters ``rdct``), see ``PRAGMA application_id``."""

LAYOUTS: Final[tuple[dict[str, str], ...]] = (
    {
        "entries": (
            "CREATE TABLE entries (key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL, deadline INTEGER) WITHOUT ROWID"
        ),
        "entries_by_deadline": "CREATE INDEX entries_by_deadline ON entries (deadline) WHERE deadline IS NOT NULL",
    },
    {
        "clock": (
            "CREATE TABLE clock (id INTEGER PRIMARY KEY CHECK (id = 1), start TEXT NOT NULL, "
            "ahead INTEGER NOT NULL, latest INTEGER NOT NULL)"
        ),
    },
    {
        "documents": (
            "CREATE TABLE documents (key BLOB NOT NULL PRIMARY KEY, document BLOB NOT NULL, deadline INTEGER) "
            "WITHOUT ROWID"
        ),
        "documents_by_deadline": (
            "CREATE INDEX documents_by_deadline ON documents (deadline) WHERE deadline IS NOT NULL"
        ),
    },
    {
        "long_values": "CREATE TABLE long_values (id INTEGER PRIMARY KEY, value BLOB NOT NULL)",
        "notification_log": "CREATE TABLE notification_log (id INTEGER PRIMARY KEY CHECK (id = 1), log BLOB NOT NULL)",
    },
)
"""Name and text of each object that a version of the layout adds to the versions before it.

``key`` is encoded as in ``keys.py``. ``value`` and ``document`` are bytes, or the ``id`` of a row of ``long_values``.
``deadline`` is the first millisecond of the store's time at which the value is gone, or null. The one row of ``clock``
is explained in ``clock.py``, that of ``notification_log`` in ``notification_log.py``, documents in ``documents.py``."""

SCHEMA_VERSION: Final = len(LAYOUTS)
"""The version of new files, as kept in ``PRAGMA user_version``."""

MOST_INLINE_BYTES: Final = 1_000
"""The length up to which a value is kept in the tree of keys. A page of 8 KiB holds eight rows of this size."""

MOST_INLINE_DOCUMENT_BYTES: Final = 2_000
"""The same for documents, which have a tree of their own: a dict of a hundred numbers fits. Longer rows overflow."""

_IN_RANGE: Final = "key > ? AND key < ?"
_LIVE: Final = "(deadline IS NULL OR deadline > ?)"
# Integers sort before all bytes. If another program removed the long value, it reads as no bytes, which core reports.
_LONG: Final = "ifnull((SELECT long_values.value FROM long_values WHERE id = {}), x'')"
_VALUE: Final = f"CASE WHEN value >= x'' THEN value ELSE {_LONG.format('entries.value')} END"
_DOCUMENT: Final = f"CASE WHEN document >= x'' THEN document ELSE {_LONG.format('document')} END"

BEGIN_READING: Final = "BEGIN"
BEGIN_WRITING: Final = "BEGIN IMMEDIATE"
COMMIT: Final = "COMMIT"
ROLLBACK: Final = "ROLLBACK"

CONTENTS: Final = (
    "SELECT (SELECT min(key) FROM documents), (SELECT max(key) FROM documents), EXISTS (SELECT 1 FROM long_values)"
)
"""The first read of a transaction that only reads, which takes its snapshot."""
LOOK: Final = (
    f"SELECT (SELECT max(value < x'') FROM entries WHERE {_IN_RANGE}), (SELECT max(key) FROM documents WHERE key < ?)"
)
"""What there is to change in a range of keys: 1 if long values are in it, 0 if only others are, null if nothing is; and
the last document before the end of the range, wherever it begins."""
LAST_DOCUMENT: Final = "SELECT max(key) FROM documents WHERE key < ?1"

READ_NODE: Final = f"SELECT {_VALUE}, deadline FROM entries WHERE key = ?"
READ_ROW: Final = "SELECT value, deadline FROM entries WHERE key = ?"
"""As :data:`READ_NODE`, but with the number of a long value in place of its bytes; faster."""
READ_RANGE: Final = f"SELECT key, {_VALUE}, deadline FROM entries WHERE {_IN_RANGE} AND {_LIVE} ORDER BY key LIMIT ?"
READ_KEYS: Final = f"SELECT key FROM entries WHERE {_IN_RANGE} AND {_LIVE} ORDER BY key LIMIT ?"
HAVE_ROWS: Final = tuple(
    ["SELECT " + ", ".join([f"EXISTS (SELECT 1 FROM entries WHERE {_IN_RANGE})"] * count) for count in (1, 2)]
)
"""Whether there are any rows, live or not, in one range and in two."""
MOST_RANGES: Final = 16
"""The maximum number of ranges in one statement of :data:`READ_OTHER_PREFIX`."""
READ_OTHER_PREFIX: Final = tuple(
    [
        " UNION ALL ".join(
            [
                f"SELECT {index} FROM entries WHERE key > ?{2 * index + 3} AND key < ?{2 * index + 4} "
                f"AND (deadline IS NULL OR deadline > ?1) AND ifnull(substr({_VALUE}, 1, length(?2)), x'') <> ?2"
                for index in range(count + 1)
            ]
        )
        + " LIMIT 1"
        for count in range(MOST_RANGES)
    ]
)
"""For each number of ranges, from 1 on, the index of one with a value that does not start with these bytes.

A lock needs two ranges for each level of its path, and one statement takes half the time of six. The ``substr`` of no
bytes is null."""

READ_DOCUMENT: Final = f"SELECT {_DOCUMENT}, deadline FROM documents WHERE key = ?"
READ_DOCUMENT_ROW: Final = "SELECT document, deadline FROM documents WHERE key = ?"
READ_DOCUMENT_BEFORE: Final = "SELECT key, document, deadline FROM documents WHERE key < ?1 ORDER BY key DESC LIMIT 1"
"""The last document before a key, with the number of a long one in place of its bytes."""
READ_DOCUMENTS: Final = (
    f"SELECT key, {_DOCUMENT}, deadline FROM documents WHERE {_IN_RANGE} AND {_LIVE} ORDER BY key LIMIT ?"
)
READ_DOCUMENT_KEYS: Final = f"SELECT key FROM documents WHERE {_IN_RANGE} AND {_LIVE} ORDER BY key LIMIT ?"

READ_CLOCK: Final = "SELECT start, ahead, latest FROM clock WHERE id = 1"
SET_CLOCK: Final = "INSERT OR REPLACE INTO clock (id, start, ahead, latest) VALUES (1, ?, ?, ?)"
RECORD_TIME: Final = "UPDATE clock SET latest = ? WHERE id = 1 AND latest < ?"

READ_LOG: Final = "SELECT log FROM notification_log WHERE id = 1"
WRITE_LOG: Final = "INSERT OR REPLACE INTO notification_log (id, log) VALUES (1, ?)"

PUT: Final = (
    "INSERT INTO entries (key, value, deadline) VALUES (?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, deadline = excluded.deadline WHERE value >= x''"
)
"""Stores a value, but changes nothing if a long one is to be replaced, which the count of changed rows shows."""
PUT_KEEPING_TTL: Final = (
    "INSERT INTO entries (key, value, deadline) VALUES (?, ?, NULL) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, "
    "deadline = CASE WHEN deadline > ? THEN deadline END WHERE value >= x''"
)
"""Takes the same parameters as :data:`PUT`, with the present time in place of the deadline. The TTL of an expired value
is not kept."""

OVERWRITE: Final = "UPDATE entries SET value = ? WHERE key = ? AND deadline IS NULL AND value >= x''"
"""Replaces a persistent value by a persistent one. Spaces are prefix-free, so nothing else is to be cleared."""
OVERWRITE_EQUAL: Final = "UPDATE entries SET value = ? WHERE key = ? AND value = ? AND deadline IS NULL"
"""Replaces a persistent value by a persistent one, unless it is another one than expected, or long."""
OVERWRITE_LONG: Final = (
    "UPDATE long_values SET value = ? "
    "WHERE id = (SELECT value FROM entries WHERE key = ? AND deadline IS NULL AND value < x'')"
)

PUT_DOCUMENT: Final = "INSERT INTO documents (key, document, deadline) VALUES (?, ?, ?)"
OVERWRITE_DOCUMENT: Final = "UPDATE documents SET document = ? WHERE key = ? AND deadline IS NULL AND document >= x''"
"""As :data:`OVERWRITE`: nothing else exists above or below the key of a document."""
OVERWRITE_LONG_DOCUMENT: Final = (
    "UPDATE long_values SET value = ? "
    "WHERE id = (SELECT document FROM documents WHERE key = ? AND deadline IS NULL AND document < x'')"
)

PUT_LONG: Final = "INSERT INTO long_values (value) VALUES (?)"
FREE_NODE: Final = "DELETE FROM long_values WHERE id = (SELECT value FROM entries WHERE key = ? AND value < x'')"
"""Deletes what the row of a long value names, before that row is deleted or emptied."""
FREE_RANGE: Final = f"DELETE FROM long_values WHERE id IN (SELECT value FROM entries WHERE {_IN_RANGE} AND value < x'')"
FREE_DOCUMENT: Final = (
    "DELETE FROM long_values WHERE id = (SELECT document FROM documents WHERE key = ? AND document < x'')"
)
FREE_DOCUMENTS: Final = (
    f"DELETE FROM long_values WHERE id IN (SELECT document FROM documents WHERE {_IN_RANGE} AND document < x'')"
)
EMPTY_NODE: Final = "UPDATE entries SET value = x'' WHERE key = ? AND value < x''"

DELETE_RANGE: Final = f"DELETE FROM entries WHERE {_IN_RANGE}"
DELETE_NODE: Final = "DELETE FROM entries WHERE key = ?"
DELETE_EQUAL: Final = f"DELETE FROM entries WHERE key = ? AND value = ? AND {_LIVE}"
"""Deletes a live value, unless it is another one than expected, or long."""
EXPIRE_RANGE: Final = f"UPDATE entries SET deadline = ? WHERE {_IN_RANGE} AND {_LIVE}"
READ_EXPIRED: Final = "SELECT key FROM entries WHERE deadline <= ? ORDER BY deadline LIMIT ?"
DELETE_DOCUMENT: Final = "DELETE FROM documents WHERE key = ?"
DELETE_DOCUMENTS: Final = f"DELETE FROM documents WHERE {_IN_RANGE}"
EXPIRE_DOCUMENTS: Final = f"UPDATE documents SET deadline = ? WHERE {_IN_RANGE} AND {_LIVE}"
READ_EXPIRED_DOCUMENTS: Final = "SELECT key FROM documents WHERE deadline <= ? ORDER BY deadline LIMIT ?"

FIND_LONG: Final = f"SELECT key FROM entries WHERE length(value) > {MOST_INLINE_BYTES}"
MOVE_LONG: Final = (
    "INSERT INTO long_values (value) SELECT value FROM entries WHERE key = ?",
    "UPDATE entries SET value = last_insert_rowid() WHERE key = ?",
)
FIND_LONG_DOCUMENTS: Final = f"SELECT key FROM documents WHERE length(document) > {MOST_INLINE_DOCUMENT_BYTES}"
MOVE_LONG_DOCUMENT: Final = (
    "INSERT INTO long_values (value) SELECT document FROM documents WHERE key = ?",
    "UPDATE documents SET document = last_insert_rowid() WHERE key = ?",
)
DELETE_OLD_LOG: Final = "DELETE FROM entries WHERE key = x'77616b657300'"
"""What migration runs: before the fourth version all values were in the tree, and the notification log was an entry."""
