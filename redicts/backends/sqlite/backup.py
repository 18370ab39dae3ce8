"""Backups of a live store: one consistent copy, complete or absent, that never replaces another file."""

from __future__ import annotations

import contextlib
import os
import sqlite3

from redicts.backends.sqlite.errors import translated
from redicts.errors import RedictsError, Unreachable


def back_up(cursor: sqlite3.Cursor, path: str) -> None:
    """Copy the file of a connection to a path, atomically.

    The copy is made under another name in the same directory, forced to the disk, and then given its name, which fails
    if the name is taken.
    """
    _refuse_existing(path)
    partial = f"{path}.{os.urandom(4).hex()}.partial"
    try:
        _copy(cursor.connection, partial, path)
        _publish(partial, path)
    except OSError as error:
        if isinstance(error, (FileExistsError, RedictsError)):
            raise
        raise Unreachable(f"SQLite backup {path!r}: {error.strerror}; nothing was left there") from error
    finally:
        for name in (partial, partial + "-journal", partial + "-wal", partial + "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(name)


def _copy(source: sqlite3.Connection, partial: str, path: str) -> None:
    target: sqlite3.Connection | None = None
    try:
        target = sqlite3.connect(partial, timeout=0, isolation_level=None)
        # In one step: otherwise it would start over after each write by another connection, and perhaps never end.
        source.backup(target, pages=-1)
        # A store that opens the copy starts a new log.
        target.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise translated(error, path) from error
    finally:
        if target is not None:
            target.close()
    _force_to_disk(partial)


def _publish(partial: str, path: str) -> None:
    try:
        os.link(partial, path)
    except FileExistsError:
        _refuse_existing(path)
        raise
    except OSError:
        # A file system without hard links. A file that is created under this name just now is replaced.
        _refuse_existing(path)
        os.rename(partial, path)
    with contextlib.suppress(OSError):
        _force_to_disk(os.path.dirname(path))


def _refuse_existing(path: str) -> None:
    if os.path.lexists(path):
        raise FileExistsError(f"{path!r} exists already and was left as it is; name another file for the backup")


def _force_to_disk(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
