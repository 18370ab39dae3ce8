"""One SQLite file: make it a redicts store if it is new, bring an older one up to date, refuse anything else untouched.

Each version of the layout adds to the one before it, see ``statements.LAYOUTS``. So a new file is one of version 0, and
what is missing is added in one transaction: who is killed meanwhile leaves the version that was there.
"""

from __future__ import annotations

import os
import sqlite3
from enum import Enum
from typing import Final
from urllib.parse import quote

from redicts.backends.sqlite import statements
from redicts.backends.sqlite.errors import is_busy, why_not_open
from redicts.backends.sqlite.space import USUAL_LOG_BYTES
from redicts.errors import CorruptData

MEMORY: Final = ":memory:"
"""The path that stands for a store in the memory of this process."""


class Durability(str, Enum):
    """What a commit promises."""

    NONE = "none"
    PROCESS = "process"
    MACHINE = "machine"


_PAGE_BYTES: Final = 8192
"""Of a new file. A value of more than a quarter of a page lies on further ones, and each write of it moves those: with
SQLite's usual 4096, a packed dict of a hundred numbers would take three times as long."""

_LOGGED_PAGES: Final = 500
"""So many pages of the write-ahead log are moved into the file at once; as many bytes as SQLite moves by itself."""

_VACUUM: Final = "VACUUM"

_SYNCHRONOUS: Final = {
    # With and without a write-ahead log. Without one, NORMAL may leave a damaged file after a power cut.
    Durability.NONE: ("OFF", "OFF"),
    Durability.PROCESS: ("NORMAL", "FULL"),
    Durability.MACHINE: ("FULL", "EXTRA"),
}


def open_store(path: str, durability: Durability = Durability.PROCESS) -> sqlite3.Connection:
    """Return a new connection to the store in this file, which is made if it is missing or empty.

    Raises :class:`~redicts.errors.StoreError` if the file is no store or cannot be one, and ``sqlite3.Error`` for
    what :func:`~redicts.backends.sqlite.errors.translated` explains; locks that others hold are not waited for.

    Cost: about a millisecond.
    """
    if path != MEMORY:
        _refuse_what_is_no_file(path)
        _refuse_foreign_log(path)
    connection = _connect(path)
    try:
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("BEGIN")
        version = _version(connection, path)
        connection.execute("ROLLBACK")
        if version == 0:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        elif version < statements.SCHEMA_VERSION:
            _make_shrinkable(connection)
        if version < statements.SCHEMA_VERSION:
            _bring_up_to_date(connection, path)
        if path != MEMORY:
            _log_ahead(connection, durability)
    except BaseException:
        connection.close()
        raise
    return connection


def log_of(path: str) -> str:
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
        if os.path.getsize(log_of(path)) == 0:
            return
    except OSError:
        return
    connection = _connect(f"file:{quote(os.fsencode(path))}?mode=ro", uri=True)
    try:
        connection.execute("BEGIN")
        _version(connection, path)
    finally:
        connection.close()


def _version(connection: sqlite3.Connection, path: str) -> int:
    """Return, inside of a transaction, the version of the layout, 0 for an empty file; or raise ``CorruptData``."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    objects = dict(connection.execute("SELECT name, sql FROM sqlite_master"))
    if not application and not version and not objects:
        return 0
    if application != statements.APPLICATION_ID:
        raise CorruptData(
            f"SQLite file {path!r}: this is the database of another program, and was left as it is; choose another path"
        )
    if version > statements.SCHEMA_VERSION:
        raise CorruptData(
            f"SQLite file {path!r}: written by a newer redicts (layout {version}, this one knows "
            f"{statements.SCHEMA_VERSION}), and was left as it is; upgrade redicts"
        )
    if version < 1 or any(not layout.items() <= objects.items() for layout in statements.LAYOUTS[:version]):
        raise CorruptData(
            f"SQLite file {path!r}: this was a redicts store, but its tables were altered; restore it from a copy, or "
            "choose another path"
        )
    return version


def _bring_up_to_date(connection: sqlite3.Connection, path: str) -> None:
    """Add what later versions of the layout have, in one transaction, unless another process was faster."""
    connection.execute("BEGIN IMMEDIATE")
    for layout in statements.LAYOUTS[_version(connection, path) :]:
        for text in layout.values():
            connection.execute(text)
    connection.execute(f"PRAGMA application_id = {statements.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {statements.SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _make_shrinkable(connection: sqlite3.Connection) -> None:
    """Make the file of a version that could not shrink again, such that it can: all of it or nothing.

    Where that fails, for want of room on the disk say, the store works as it is.
    """
    if connection.execute("PRAGMA auto_vacuum").fetchone() == (0,):
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        try:
            connection.execute(_VACUUM)
        except sqlite3.Error as error:
            if is_busy(error):
                raise


def _log_ahead(connection: sqlite3.Connection, durability: Durability) -> None:
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
    with_log, without = _SYNCHRONOUS[durability]
    connection.execute(f"PRAGMA synchronous = {with_log if mode == 'wal' else without}")
    if durability is Durability.MACHINE:
        # On macOS a sync by itself does not empty the cache of the disk.
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOGGED_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {USUAL_LOG_BYTES}")
