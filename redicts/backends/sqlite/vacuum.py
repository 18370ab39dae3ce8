"""Vacuum: writers return the room of deleted and expired values to the file system, a little at a time.

The file is created with ``auto_vacuum = INCREMENTAL``, so SQLite can move the last page of the file into a free one and
truncate the file. Some free pages stay for the next values. A transaction moves pages in proportion to what it changed,
so no write pays for earlier ones.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import Final

LOG_BYTES: Final = 4 * 2**20
"""The usual size of the write-ahead log: it is copied into the file at 500 pages, and then SQLite restarts it."""

_LONG_LOG_BYTES: Final = 16 * 2**20
_LOG_TIMEOUT_MS: Final = 100

DUE_AFTER: Final = 64
"""How many rows are changed between two runs."""

_CHANGES_PER_LOG_CHECK: Final = 500

_MIN_PAGES_PER_RUN: Final = 32

_KEPT_PAGES: Final = 32
_KEPT_SHARE: Final = 8
"""Free pages that stay: ``_KEPT_PAGES``, or one in ``_KEPT_SHARE`` of the used pages if that is more."""


class Vacuum:
    """Keeps one file and its log small, for all threads of a process that write to it."""

    def __init__(self, log: str) -> None:
        self.pending = 0
        """Rows changed since the last run. Writers count them here, and call :meth:`run` from ``DUE_AFTER`` on."""
        self._log = log
        self._unchecked_log = 0

    def run(self, cursor: sqlite3.Cursor, changes: int) -> None:
        """Truncate the file, and the log if it is long, after a transaction that changed this many rows.

        The transaction is committed, so errors are left to the next one.
        """
        self._unchecked_log += self.pending
        self.pending = 0
        with contextlib.suppress(sqlite3.Error):
            self._return_pages(cursor, _MIN_PAGES_PER_RUN + changes)
        if self._unchecked_log >= _CHANGES_PER_LOG_CHECK:
            self._unchecked_log = 0
            self._restart_log(cursor)

    def _return_pages(self, cursor: sqlite3.Cursor, limit: int) -> None:
        """Cut free pages off the file, in a transaction of its own."""
        free = _number(cursor, "freelist_count")
        excess = free - max(_KEPT_PAGES, (_number(cursor, "page_count") - free) // _KEPT_SHARE)
        if excess <= 0:
            return
        # As a script: each step of the statement frees one page, and an ordinary call takes a single step.
        cursor.executescript(f"PRAGMA incremental_vacuum({min(excess, limit)})")
        # A file of an early version that could not be rewritten cannot shrink.
        if excess > limit and _number(cursor, "freelist_count") < free:
            # More is to be returned, so the next transaction runs this again.
            self.pending = DUE_AFTER
        else:
            # The file itself is truncated when the log is copied into it.
            cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def _restart_log(self, cursor: sqlite3.Cursor) -> None:
        """Empty the write-ahead log if it is long.

        SQLite does so by itself, but only while nobody reads. Where reads always overlap, the log grows with every
        write. Here writers wait until the readers that use the log are done; later readers find everything in the file.

        Cost: usually one look at the size of the log.
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
