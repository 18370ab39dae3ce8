"""One SQLite file: creates a store in a new one, migrates an older one, and refuses any other file unchanged.

Each version of the layout adds to the one before it, see ``statements.LAYOUTS``. So a new file counts as version 0, and
the missing objects are added, and long values moved, in one transaction: a process that is killed meanwhile leaves the
old version.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final
from urllib.parse import quote

from redicts.backends.sqlite import statements
from redicts.backends.sqlite.errors import LOCKED, is_busy, why_not_open
from redicts.backends.sqlite.vacuum import LOG_BYTES
from redicts.errors import CorruptData

MEMORY: Final = ":memory:"
"""The path that stands for a store in the memory of this process."""


class Durability(str, Enum):
    """What a commit survives."""

    NONE = "none"
    PROCESS = "process"
    MACHINE = "machine"


_PAGE_BYTES: Final = 8192
"""The page size of a new file. A value larger than a quarter of a page overflows to further ones, and each write moves
those: with SQLite's default of 4096, a dict of a hundred numbers in one value would take three times as long."""

_LONG_VALUES_APART: Final = 4
"""The first version of the layout that keeps long values out of the tree."""

_LOG_PAGES: Final = 500
"""How many pages of the write-ahead log are copied into the file at once; as many bytes as by SQLite's default."""

_SYNCHRONOUS: Final = {
    # With and without a write-ahead log. Without one, NORMAL may leave a damaged file after a power cut.
    Durability.NONE: ("OFF", "OFF"),
    Durability.PROCESS: ("NORMAL", "FULL"),
    Durability.MACHINE: ("FULL", "EXTRA"),
}


def open_store(path: str, durability: Durability = Durability.PROCESS) -> sqlite3.Connection:
    """Return a new connection to the store in this file, which is created if the file is missing or empty.

    Raises :class:`~redicts.errors.StoreError` if the file is not a store and cannot become one, and ``sqlite3.Error``
    for what :func:`~redicts.backends.sqlite.errors.translated` explains. It does not wait for locks of others.

    Cost: about a millisecond.
    """
    if path != MEMORY:
        if os.path.exists(path) and not os.path.isfile(path):
            # Before SQLite tries to open a directory or a device.
            reason = why_not_open(path)
            if reason is not None:
                raise reason
        _clear_after_deletion(os.path.realpath(path))
        _refuse_single_byte(path)
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
            _migrate(connection, path)
        if path != MEMORY:
            _use_log(connection, durability)
    except BaseException:
        connection.close()
        raise
    return connection


def log_of(path: str) -> str:
    """Return the path of the write-ahead log, which is next to the target of symbolic links."""
    return os.path.realpath(path) + "-wal"


@contextlib.contextmanager
def alone_in(directory: str) -> Iterator[None]:
    """Exclude other processes that remove or create files of a store in this directory, where locks are supported."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise sqlite3.OperationalError(f"{LOCKED}: another program has locked the directory") from error
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def _clear_after_deletion(file: str) -> None:
    """Remove the log and its index if the file is missing, and create an empty file, so that only one process does so.

    SQLite would use the index together with processes that have the deleted file open.
    """
    left = [f"{file}-wal", f"{file}-shm"]
    if os.path.exists(file) or not any(map(os.path.exists, left)):
        return
    with contextlib.suppress(OSError), alone_in(os.path.dirname(file)):
        if not os.path.exists(file):
            for each in left:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(each)
            os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644))


def examined(path: str) -> dict[str, Any]:
    """Return the size of a file, and what SQLite finds to be wrong in it. Reads the file as a whole."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=ro", uri=True)) as connection:
            found: list[str] = [text for (text,) in connection.execute("PRAGMA quick_check")]
        size = os.path.getsize(path)
    except (sqlite3.Error, OSError) as error:
        return {"problem": str(error)}
    return {"bytes": size, "problem": None if found == ["ok"] else found[0]}


def _connect(path: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False, uri=uri)


def _refuse_single_byte(path: str) -> None:
    """Refuse a file of one byte, which SQLite takes for an empty one and writes over."""
    with contextlib.suppress(OSError):
        if os.path.getsize(path) == 1:
            raise _foreign(path, "file")


def _refuse_foreign_log(path: str) -> None:
    """Examine a file with a write-ahead log through a connection that cannot write.

    An ordinary connection would copy the log into the file when it is closed, even if it only read. (Reading the header
    without SQLite is not an alternative: closing the file again would drop all locks that any other connection of this
    process has on it.)
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
    """Return, inside a transaction, the version of the layout, 0 for an empty file; or raise ``CorruptData``."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    objects = dict(connection.execute("SELECT name, sql FROM sqlite_master"))
    if not application and not version and not objects:
        return 0
    if application != statements.APPLICATION_ID:
        raise _foreign(path, "database")
    if version > statements.SCHEMA_VERSION:
        raise CorruptData(
            f"SQLite file {path!r}: written by a newer redicts (layout {version}, this one reads up to "
            f"{statements.SCHEMA_VERSION}), and was left as it is; upgrade redicts"
        )
    if version < 1 or any(not layout.items() <= objects.items() for layout in statements.LAYOUTS[:version]):
        raise CorruptData(
            f"SQLite file {path!r}: this was a redicts store, but its tables were altered; restore it from a copy, or "
            "choose another path"
        )
    return version


def _foreign(path: str, what: str) -> CorruptData:
    return CorruptData(
        f"SQLite file {path!r}: this is the {what} of another program, and was left as it is; choose another path"
    )


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the file to the current version in one transaction, unless another process was faster."""
    connection.execute("BEGIN IMMEDIATE")
    version = _version(connection, path)
    for layout in statements.LAYOUTS[version:]:
        for text in layout.values():
            connection.execute(text)
    if 0 < version < _LONG_VALUES_APART:
        _move_long_values(connection)
    connection.execute(f"PRAGMA application_id = {statements.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {statements.SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _move_long_values(connection: sqlite3.Connection) -> None:
    """Move long values and documents out of their trees. Cost: in proportion to their bytes, and to the rows."""
    connection.execute(statements.DELETE_OLD_LOG)
    for find, move in (
        (statements.FIND_LONG, statements.MOVE_LONG),
        (statements.FIND_LONG_DOCUMENTS, statements.MOVE_LONG_DOCUMENT),
    ):
        for key in connection.execute(find).fetchall():
            for statement in move:
                connection.execute(statement, key)


def _make_shrinkable(connection: sqlite3.Connection) -> None:
    """Rewrite the file of an early version, whole or not at all, so that it can shrink.

    Where that fails, for want of room on the disk for example, the store works without shrinking.
    """
    if connection.execute("PRAGMA auto_vacuum").fetchone() == (0,):
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        try:
            connection.execute("VACUUM")
        except sqlite3.Error as error:
            if is_busy(error):
                raise


def _use_log(connection: sqlite3.Connection, durability: Durability) -> None:
    """Write commits to a write-ahead log, so that readers and the writer do not wait for each other.

    Where a log is impossible (a read-only copy, a file system without shared memory) the store works without, slower.
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
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
