"""The SQL of the store: its one table, its one index, and every statement that runs on them.

The texts are constants, so that ``sqlite3`` finds each prepared statement in its cache. Each statement touches only
rows that it finds through the primary key, or expired ones through the index of deadlines.
"""

# ruff: noqa: S608  (the texts are put together of constants)

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x72646374
"""What marks a SQLite file as a redicts store (the letters ``rdct``), see ``PRAGMA application_id``."""

SCHEMA_VERSION: Final = 1
"""The layout below, as kept in ``PRAGMA user_version``."""

SCHEMA: Final = {
    "entries": (
        "CREATE TABLE entries (key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL, deadline INTEGER) WITHOUT ROWID"
    ),
    "entries_by_deadline": "CREATE INDEX entries_by_deadline ON entries (deadline) WHERE deadline IS NOT NULL",
}
"""Name and text of each object. ``key`` is encoded as in ``paths.py``; ``deadline`` is the first millisecond since
the epoch at which the value is gone, or null."""

_IN_RANGE: Final = "key > ? AND key < ?"
_LIVE: Final = "(deadline IS NULL OR deadline > ?)"

BEGIN_READING: Final = "BEGIN"
BEGIN_WRITING: Final = "BEGIN IMMEDIATE"
COMMIT: Final = "COMMIT"
ROLLBACK: Final = "ROLLBACK"

TAKE_SNAPSHOT: Final = "PRAGMA user_version"
"""The cheapest read there is: after it, a transaction keeps seeing the state of this moment."""

READ_NODE: Final = "SELECT value, deadline FROM entries WHERE key = ?"
READ_RANGE: Final = f"SELECT key, value, deadline FROM entries WHERE {_IN_RANGE} AND {_LIVE} ORDER BY key LIMIT ?"
READ_VALUES: Final = f"SELECT value FROM entries WHERE {_IN_RANGE} AND {_LIVE} ORDER BY key"
READ_KEYS: Final = f"SELECT key FROM entries WHERE {_IN_RANGE} AND {_LIVE} ORDER BY key LIMIT ?"
READ_OTHER_PREFIX: Final = (
    f"SELECT 1 FROM entries WHERE {_IN_RANGE} AND {_LIVE} AND ifnull(substr(value, 1, ?), x'') <> ? LIMIT 1"
)
"""Any value that does not start with these bytes. The ``substr`` of no bytes is null."""


PUT: Final = (
    "INSERT INTO entries (key, value, deadline) VALUES (?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, deadline = excluded.deadline"
)
PUT_KEEPING_LIFE: Final = (
    "INSERT INTO entries (key, value, deadline) VALUES (?, ?, NULL) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, "
    "deadline = CASE WHEN deadline > ? THEN deadline END"
)
"""Takes the same parameters as :data:`PUT`, with the present time in place of the deadline. The life of a value that
has expired is not kept."""

DELETE_RANGE: Final = f"DELETE FROM entries WHERE {_IN_RANGE}"
DELETE_NODE: Final = "DELETE FROM entries WHERE key = ?"
EXPIRE_RANGE: Final = f"UPDATE entries SET deadline = ? WHERE {_IN_RANGE} AND {_LIVE}"
READ_EXPIRED: Final = "SELECT key FROM entries WHERE deadline <= ? ORDER BY deadline LIMIT ?"
