"""SQLite connections whose commits can be made to fail, before or after SQLite has stored them."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable
from typing import Any, Final
from unittest import mock

from redicts.core.backend import Backend
from redicts.core.minitransaction import Transaction

FAILS: Final[list[bool]] = []
"""Whether the next commit of such a connection fails after it is stored, or before."""


def with_failing_commits(opener: Callable[[], Backend]) -> Backend:
    """Open a client on SQLite whose commits fail as :data:`FAILS` says."""
    connect = functools.partial(sqlite3.connect, factory=_Connection)
    with mock.patch.object(sqlite3, "connect", connect):
        backend = opener()
        backend.execute(Transaction())
    return backend


class _Cursor(sqlite3.Cursor):
    def execute(self, sql: str, *parameters: Any) -> Any:
        commits = sql == "COMMIT" or (sql.startswith("UPDATE") and not self.connection.in_transaction)
        if not commits or not FAILS:
            return super().execute(sql, *parameters)
        if FAILS.pop():
            super().execute(sql, *parameters)
        error: Any = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = 10  # as SQLite does from Python 3.11 on
        raise error


class _Connection(sqlite3.Connection):
    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)
