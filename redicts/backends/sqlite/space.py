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
"""What the write-ahead log needs in general: SQLite moves it into the file at 1,000 pages, and begins it anew."""

_LONG_LOG_BYTES: Final = 16 * 2**20

_LOG_PATIENCE_MS: Final = 100

_CHANGES_PER_LOOK: Final = 64
"""So many rows are changed between two looks at the number of free pages."""

_PAGES_AT_LEAST: Final = 64
_ROWS_PER_PAGE: Final = 8
"""Rows are mostly smaller than 500 bytes; those that are larger have pages of their own, which come back sooner."""

_KEPT_PAGES: Final = 64
_KEPT_SHARE: Final = 8
"""Free pages that stay: so many, or one of so many of the file's pages if that is more."""


class Space:
    """Keeps one file small, for all who write to it in one process."""

    def __init__(self, log: str) -> None:
        self._log = log
        self._unseen = 0
        self._more = False
        self._cut = 0
        self._unchecked_log = 0

    def give_back(self, cursor: sqlite3.Cursor, changes: int) -> None:
        """Cut free pages off the file, inside of a transaction that has changed so many rows."""
        self._unseen += changes
        if self._unseen < _CHANGES_PER_LOOK and not self._more:
            return
        self._unseen = 0
        free: int = cursor.execute("PRAGMA freelist_count").fetchone()[0]
        if free <= _KEPT_PAGES:
            self._more = False
            return
        pages: int = cursor.execute("PRAGMA page_count").fetchone()[0]
        excess = free - max(_KEPT_PAGES, (pages - free) // _KEPT_SHARE)
        most = _PAGES_AT_LEAST + changes // _ROWS_PER_PAGE
        self._more = excess > most
        if excess > 0:
            # Each step of the statement cuts one page.
            cursor.execute(f"PRAGMA incremental_vacuum({min(excess, most)})").fetchall()
            cut = free - cursor.execute("PRAGMA freelist_count").fetchone()[0]
            self._cut += cut
            # Nothing can be cut off a file of an earlier version that could not be made anew.
            self._more = self._more and cut > 0

    def after_commit(self, cursor: sqlite3.Cursor, changes: int) -> None:
        """Let the file become as short as it is meant to be, and the log too.

        Errors are left to the next transaction, as the last one is committed.
        """
        self._unchecked_log += changes
        if self._cut and not self._more:
            # The file itself is cut when the log is moved into it.
            self._cut = 0
            with contextlib.suppress(sqlite3.Error):
                cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if self._unchecked_log > _CHANGES_PER_LOOK * 8:
            self._unchecked_log = 0
            self._shorten_log(cursor)

    def _shorten_log(self, cursor: sqlite3.Cursor) -> None:
        """Begin the write-ahead log anew, if it has become long.

        SQLite does so by itself, but only at a moment without any reader. While reads overlap all the time there is
        none, and the log grows by every write. Here the writers wait until those readers are done that use the log;
        readers that come meanwhile find all in the file.

        Cost: mostly a look at the size of the log.
        """
        with contextlib.suppress(OSError, sqlite3.Error):
            if os.path.getsize(self._log) > _LONG_LOG_BYTES:
                cursor.execute(f"PRAGMA busy_timeout = {_LOG_PATIENCE_MS}")
                try:
                    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                finally:
                    cursor.execute("PRAGMA busy_timeout = 0")
