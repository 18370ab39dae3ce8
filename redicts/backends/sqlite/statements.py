"""The SQL of the store: its tables, its index, and every statement that runs on them.

The texts are constants, so that ``sqlite3`` finds each prepared statement in its cache. Each statement finds its rows
through the primary key, or expired ones through the index of deadlines.
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
)
"""Name and text of each object that a version of the layout adds to the versions before it.

``key`` is encoded as in ``keys.py``. ``deadline`` is the first millisecond of the store's time at which the value is
gone, or null. The one row of ``clock`` is explained in ``clock.py``, documents in ``documents.py``."""

SCHEMA_VERSION: Final = len(LAYOUTS)
"""The version of new files, as kept in ``PRAGMA user_version``."""

_IN_RANGE: Final = "key > ? AND key < ?"
_LIVE: Final = "(deadline IS NULL OR deadline > ?)"

BEGIN_READING: Final = "BEGIN"
BEGIN_WRITING: Final = "BEGIN IMMEDIATE"
COMMIT: Final = "COMMIT"
ROLLBACK: Final = "ROLLBACK"

HAS_DOCUMENTS: Final = "SELECT EXISTS (SELECT 1 FROM documents)"
"""The first read of a transaction, which takes its snapshot."""

READ_NODE: Final = "SELECT value, deadline FROM entries WHERE key = ?"
READ_RANGE: Final = f"SELECT key, value, deadline FROM entries WHERE {_IN_RANGE} AND {_LIVE} ORDER BY key LIMIT ?"
READ_KEYS: Final = f"SELECT key FROM entries WHERE {_IN_RANGE} AND {_LIVE} ORDER BY key LIMIT ?"
READ_OTHER_PREFIX: Final = (
    f"SELECT 1 FROM entries WHERE {_IN_RANGE} AND {_LIVE} AND ifnull(substr(value, 1, ?), x'') <> ? LIMIT 1"
)
"""Any value that does not start with these bytes. The ``substr`` of no bytes is null."""

_DOCUMENT_FROM: Final = "key, document, deadline FROM documents"

READ_DOCUMENT: Final = "SELECT document, deadline FROM documents WHERE key = ?"
READ_DOCUMENT_BEFORE: Final = f"SELECT {_DOCUMENT_FROM} WHERE key < ? ORDER BY key DESC LIMIT 1"
READ_DOCUMENTS: Final = f"SELECT {_DOCUMENT_FROM} WHERE {_IN_RANGE} AND {_LIVE} ORDER BY key LIMIT ?"

READ_CLOCK: Final = "SELECT start, ahead, latest FROM clock WHERE id = 1"
SET_CLOCK: Final = "INSERT OR REPLACE INTO clock (id, start, ahead, latest) VALUES (1, ?, ?, ?)"
RECORD_TIME: Final = "UPDATE clock SET latest = ? WHERE id = 1 AND latest < ?"

PUT: Final = (
    "INSERT INTO entries (key, value, deadline) VALUES (?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, deadline = excluded.deadline"
)
PUT_KEEPING_TTL: Final = (
    "INSERT INTO entries (key, value, deadline) VALUES (?, ?, NULL) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, "
    "deadline = CASE WHEN deadline > ? THEN deadline END"
)
"""Takes the same parameters as :data:`PUT`, with the present time in place of the deadline. The TTL of an expired value
is not kept."""

OVERWRITE: Final = "UPDATE entries SET value = ? WHERE key = ? AND deadline IS NULL"
"""Replaces a persistent value by a persistent one. Spaces are prefix-free, so nothing else is to be cleared."""

PUT_DOCUMENT: Final = "INSERT OR REPLACE INTO documents (key, document, deadline) VALUES (?, ?, ?)"
OVERWRITE_DOCUMENT: Final = "UPDATE documents SET document = ? WHERE key = ? AND deadline IS NULL"
"""As :data:`OVERWRITE`: nothing else exists above or below the key of a document."""

DELETE_RANGE: Final = f"DELETE FROM entries WHERE {_IN_RANGE}"
DELETE_NODE: Final = "DELETE FROM entries WHERE key = ?"
EXPIRE_RANGE: Final = f"UPDATE entries SET deadline = ? WHERE {_IN_RANGE} AND {_LIVE}"
READ_EXPIRED: Final = "SELECT key FROM entries WHERE deadline <= ? ORDER BY deadline LIMIT ?"
DELETE_DOCUMENT: Final = "DELETE FROM documents WHERE key = ?"
DELETE_DOCUMENTS: Final = f"DELETE FROM documents WHERE {_IN_RANGE}"
EXPIRE_DOCUMENTS: Final = f"UPDATE documents SET deadline = ? WHERE {_IN_RANGE} AND {_LIVE}"
READ_EXPIRED_DOCUMENTS: Final = "SELECT key FROM documents WHERE deadline <= ? ORDER BY deadline LIMIT ?"
