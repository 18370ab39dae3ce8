"""One SQLite file: make it a redicts store if it is new, and refuse it untouched if it is anything else."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import Final
from urllib.parse import quote

from redicts.backends.sqlite import statements
from redicts.backends.sqlite.failures import why_not_open
from redicts.errors import Damaged

MEMORY: Final = ":memory:"
"""The path that stands for a store in the memory of this process."""

_USUAL_LOG_BYTES: Final = 4 * 2**20
"""What the write-ahead log needs in general: SQLite moves it into the file at 1,000 pages, and begins it anew."""

_LONG_LOG_BYTES: Final = 16 * 2**20

_LOG_PATIENCE_MS: Final = 100


def open_store(path: str) -> sqlite3.Connection:
    """Return a new connection to the store in this file, which is made if it is missing or empty.

    Raises :class:`~redicts.errors.StoreError` if the file is no store or cannot be one, and ``sqlite3.Error`` for
    what :func:`~redicts.backends.sqlite.failures.translated` explains; locks that others hold are not waited for.

    Cost: about a millisecond.
    """
    if path != MEMORY:
        _refuse_what_is_no_file(path)
        _refuse_foreign_log(path)
    connection = _connect(path)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("BEGIN")
        new = _is_new(connection, path)
        connection.execute("ROLLBACK")
        if new:
            _create(connection, path)
        if path != MEMORY:
            _log_ahead(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def shorten_log(cursor: sqlite3.Cursor, path: str) -> None:
    """Begin the write-ahead log anew, if it has become long.

    SQLite does so by itself, but only at a moment without any reader. While reads overlap all the time there is none,
    and the log grows by every write. Here the writers wait until those readers are done that use the log; readers that
    come meanwhile find all in the file.

    Cost: mostly a look at the size of the log. Errors are left to the next transaction, as the last one is committed.
    """
    with contextlib.suppress(OSError, sqlite3.Error):
        if os.path.getsize(_log(path)) > _LONG_LOG_BYTES:
            cursor.execute(f"PRAGMA busy_timeout = {_LOG_PATIENCE_MS}")
            try:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                cursor.execute("PRAGMA busy_timeout = 0")


def _log(path: str) -> str:
    """Return the path of the write-ahead log, which lies where symbolic links lead to."""
    return os.path.realpath(path) + "-wal"


def _connect(path: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False, uri=uri)


def _refuse_what_is_no_file(path: str) -> None:
    """Refuse directories and devices, before SQLite tries to make something of them."""
    if os.path.exists(path) and not os.path.isfile(path):
        reason = why_not_open(path)
        if reason is not None:
            raise reason


def _refuse_foreign_log(path: str) -> None:
    """Look at a file with a write-ahead log through a connection that cannot write.

    An ordinary connection would move the log's contents into the file when it is closed, even if it only looked.
    (Reading the header without SQLite is no way either: closing the file again would drop all locks that any other
    connection of this process has on it.)
    """
    try:
        if os.path.getsize(_log(path)) == 0:
            return
    except OSError:
        return
    connection = _connect(f"file:{quote(os.fsencode(path))}?mode=ro", uri=True)
    try:
        connection.execute("BEGIN")
        _is_new(connection, path)
    finally:
        connection.close()


def _is_new(connection: sqlite3.Connection, path: str) -> bool:
    """Tell, inside of a transaction, an empty file from a store, and raise ``Damaged`` if it is neither."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    objects = dict(connection.execute("SELECT name, sql FROM sqlite_master"))
    if not application and not version and not objects:
        return True
    if application != statements.APPLICATION_ID:
        raise Damaged(
            f"SQLite file {path!r}: this is the database of another program, and was left as it is; choose another path"
        )
    if version > statements.SCHEMA_VERSION:
        raise Damaged(
            f"SQLite file {path!r}: written by a newer redicts (layout {version}, this one knows "
            f"{statements.SCHEMA_VERSION}), and was left as it is; upgrade redicts"
        )
    if version != statements.SCHEMA_VERSION or not statements.SCHEMA.items() <= objects.items():
        raise Damaged(
            f"SQLite file {path!r}: this was a redicts store, but its tables were altered; restore it from a copy, or "
            "choose another path"
        )
    return False


def _create(connection: sqlite3.Connection, path: str) -> None:
    """Make an empty file a store, in one transaction, unless another process was faster."""
    connection.execute("BEGIN IMMEDIATE")
    if _is_new(connection, path):
        for text in statements.SCHEMA.values():
            connection.execute(text)
        connection.execute(f"PRAGMA application_id = {statements.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {statements.SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Have commits go to a write-ahead log, so that readers and the writer do not wait for each other.

    Where there can be no log (a read-only copy, a file system without shared memory) the store works without, slower.
    """
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if "readonly" not in str(error):
                raise
    if mode != "wal":
        connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_USUAL_LOG_BYTES}")
