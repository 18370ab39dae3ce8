"""The backup of a live store: one consistent copy, whole or not there at all, and never in place of something else."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3

from redicts.backends.sqlite.errors import translated


def back_up(cursor: sqlite3.Cursor, path: str) -> None:
    """Copy the file of a connection to a path, as it is atomically.

    The copy is made under another name in the same directory, forced to the disk, and then given its name, which fails
    if the name is taken.
    """
    _refuse_what_is_there(path)
    partial = f"{path}.{secrets.token_hex(4)}.partial"
    try:
        _copy(cursor.connection, partial, path)
        _publish(partial, path)
    finally:
        for name in (partial, partial + "-journal", partial + "-wal", partial + "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(name)


def _copy(source: sqlite3.Connection, partial: str, path: str) -> None:
    target: sqlite3.Connection | None = None
    try:
        target = sqlite3.connect(partial, timeout=0, isolation_level=None)
        # In one step: else it would begin again after each write of somebody else, and perhaps never end.
        source.backup(target, pages=-1)
        # The log is for a store that is used; who opens this one begins a log.
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
        raise _taken(path) from None
    except OSError:
        # A file system without hard links. Who makes a file of that name at this very moment loses it.
        _refuse_what_is_there(path)
        os.rename(partial, path)
    with contextlib.suppress(OSError):
        _force_to_disk(os.path.dirname(path))


def _refuse_what_is_there(path: str) -> None:
    if os.path.lexists(path):
        raise _taken(path)


def _taken(path: str) -> FileExistsError:
    return FileExistsError(f"{path!r} is there already and was left as it is; name another file for the backup")


def _force_to_disk(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
