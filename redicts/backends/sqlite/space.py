"""Space: what deleted and expired values have left is given back to the file system, bit by bit, by those who write.

The file is made with ``auto_vacuum = INCREMENTAL``, so SQLite can move the last page of the file into a free one and
cut the file. Some free pages stay, for the next values. How much a transaction moves is in proportion to what it
changed itself, so no write pays for the past.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import Final

USUAL_LOG_BYTES: Final = 4 * 2**20
"""What the write-ahead log needs in general: it is moved into the file at 500 pages, and SQLite begins it again."""

_LONG_LOG_BYTES: Final = 16 * 2**20

_LOG_TIMEOUT_MS: Final = 100

_CHANGES_PER_LOOK: Final = 64
"""So many rows are changed between two looks at the number of free pages."""

_CHANGES_PER_LOOK_AT_THE_LOG: Final = 500

_PAGES_AT_LEAST: Final = 32

_KEPT_PAGES: Final = 32
_KEPT_SHARE: Final = 8
"""Free pages that stay: so many, or one of so many of the file's pages if that is more."""


class Space:
    """Keeps one file small, for all who write to it in one process."""

    def __init__(self, log: str) -> None:
        self._log = log
        self._unseen = 0
        self._more = False
        self._unchecked_log = 0

    def tidy_up(self, cursor: sqlite3.Cursor, changes: int) -> None:
        """Let the file and its log be as short as they are meant to be, after a transaction that changed so many rows.

        Errors are left to the next transaction, as the last one is committed.
        """
        self._unseen += changes
        self._unchecked_log += changes
        if self._unseen >= _CHANGES_PER_LOOK or self._more:
            self._unseen = 0
            with contextlib.suppress(sqlite3.Error):
                self._give_back(cursor, changes)
        if self._unchecked_log >= _CHANGES_PER_LOOK_AT_THE_LOG:
            self._unchecked_log = 0
            self._shorten_log(cursor)

    def _give_back(self, cursor: sqlite3.Cursor, changes: int) -> None:
        """Cut free pages off the file, in a transaction of its own."""
        free = _number(cursor, "freelist_count")
        excess = 0
        if free > _KEPT_PAGES:
            excess = free - max(_KEPT_PAGES, (_number(cursor, "page_count") - free) // _KEPT_SHARE)
        if excess <= 0:
            self._more = False
            return
        most = _PAGES_AT_LEAST + changes
        # As a script, because each step of the statement cuts one page, and an ordinary call takes a single step.
        cursor.executescript(f"PRAGMA incremental_vacuum({min(excess, most)})")
        # Nothing can be cut off a file of an earlier version that could not be made again.
        self._more = excess > most and _number(cursor, "freelist_count") < free
        if not self._more:
            # The file itself is cut when the log is moved into it.
            cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def _shorten_log(self, cursor: sqlite3.Cursor) -> None:
        """Begin the write-ahead log again, if it has become long.

        SQLite does so by itself, but only at a moment without any reader. While reads overlap all the time there is
        none, and the log grows by every write. Here the writers wait until those readers are done that use the log;
        readers that come meanwhile find all in the file.

        Cost: mostly a look at the size of the log.
        """
        with contextlib.suppress(OSError, sqlite3.Error):
            if os.path.getsize(self._log) > _LONG_LOG_BYTES:
                cursor.execute(f"PRAGMA busy_timeout = {_LOG_TIMEOUT_MS}")
                try:
                    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                finally:
                    cursor.execute("PRAGMA busy_timeout = 0")


def _number(cursor: sqlite3.Cursor, name: str) -> int:
    found: int = cursor.execute(f"PRAGMA {name}").fetchone()[0]
    return found
