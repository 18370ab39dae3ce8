"""Error mapping: translates each error of SQLite into one of redicts, with the file's name and a remedy."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from typing import Final, NamedTuple

from redicts.core.error_mapping import ErrorMapping
from redicts.errors import (
    AccessDenied,
    CorruptData,
    InternalError,
    ReadOnly,
    RedictsError,
    StoreBusy,
    StoreError,
    StoreFull,
    Unreachable,
    Unsupported,
)


class _Meaning(NamedTuple):
    """A result code of SQLite, the text of its errors (Python 3.10 hides the code), and what they mean to a caller."""

    code: int
    text: str
    error: type[RedictsError]
    advice: str


LOCKED: Final = "database is locked"
"""The text of the error that asks to repeat a call."""

_BUSY: Final = 5
_IO_ERROR: Final = 10
_CANNOT_OPEN: Final = 14

_MEANINGS: Final = (
    _Meaning(1, "no such table", CorruptData, "the tables of redicts were removed; restore the file or choose another"),
    _Meaning(3, "access permission denied", AccessDenied, "give this user the right to read and write it"),
    _Meaning(
        _BUSY,
        LOCKED,
        StoreBusy,
        "another program holds its lock; try later, or set a larger busy_timeout_secs",
    ),
    _Meaning(6, "database table is locked", StoreBusy, "another connection holds its lock; try later"),
    _Meaning(
        8,
        "attempt to write a readonly database",
        ReadOnly,
        "make the file writable, the directory, and the files there with -wal and -shm added to the name; SQLite "
        "needs these even to read, if the file is not a copy",
    ),
    _Meaning(
        _IO_ERROR,
        "disk I/O error",
        Unreachable,
        "the operating system failed to read or write it; check the system's log, quotas and limits of file size",
    ),
    _Meaning(
        11,
        "database disk image is malformed",
        CorruptData,
        "restore it from a copy, or salvage it with the command 'sqlite3 FILE .recover'",
    ),
    _Meaning(13, "database or disk is full", StoreFull, "free some space on its disk"),
    _Meaning(
        _CANNOT_OPEN,
        "unable to open database file",
        Unreachable,
        "it, or the files with -wal and -shm added to its name, could not be opened",
    ),
    _Meaning(15, "locking protocol", StoreBusy, "too many programs contend for its locks; try later"),
    _Meaning(
        18,
        "string or blob too big",
        Unsupported,
        "a value or path is larger than SQLite can hold (by default 1,000,000,000 bytes); nothing was written",
    ),
    _Meaning(
        26, "file is not a database", CorruptData, "it is not a SQLite file, and was left as it is; choose another path"
    ),
)
_UNKNOWN: Final = _Meaning(0, "", Unreachable, "SQLite failed")


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether the same call may succeed when others have released the file's locks."""
    return _meaning(error).error is StoreBusy


def is_read_only(error: sqlite3.Error) -> bool:
    """Tell whether the file may be read but not written."""
    return _meaning(error).error is ReadOnly


def is_io_error(error: sqlite3.Error) -> bool:
    """Tell whether the operating system failed to read or write the file."""
    return _meaning(error).code == _IO_ERROR


def translated(error: sqlite3.Error, path: str, *, maybe_applied: bool = False) -> RedictsError:
    """Return the error to raise in place of one of SQLite."""
    if isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError)):
        return InternalError(f"SQLite file {path!r}: redicts misused SQLite, please report it ({error})")
    meaning = _meaning(error)
    if meaning.code == _CANNOT_OPEN:
        reason = why_not_open(path)
        if reason is not None:
            return reason
    text = f"{meaning.advice} (SQLite says: {error})"
    return ErrorMapping(f"SQLite file {path!r}").error(meaning.error, text, maybe_applied=maybe_applied)


def why_not_open(path: str) -> StoreError | None:
    """Return the reason why a file cannot be opened, which SQLite does not tell, or ``None`` if none is found."""
    directory = os.path.dirname(path)
    try:
        if not stat.S_ISDIR(os.stat(directory).st_mode):
            return Unreachable(f"SQLite file {path!r}: {directory!r} is not a directory; correct the path")
        if os.path.exists(path) and not os.path.isfile(path):
            return Unreachable(f"SQLite file {path!r}: this is a directory or a device, not a file; correct the path")
    except FileNotFoundError:
        return Unreachable(f"SQLite file {path!r}: the directory {directory!r} does not exist; create it")
    except PermissionError:
        return AccessDenied(f"SQLite file {path!r}: this user may not look into {directory!r}; allow it")
    except OSError as error:
        return Unreachable(f"SQLite file {path!r}: {error.strerror}; correct the path")
    if os.path.exists(path) and not os.access(path, os.R_OK):
        return AccessDenied(f"SQLite file {path!r}: this user may not read it; give the right to read and write it")
    if not os.access(directory, os.W_OK | os.X_OK):
        return AccessDenied(
            f"SQLite file {path!r}: this user may not create files in {directory!r}, and SQLite needs to keep files "
            "with -wal and -shm added to the name there; allow it, or choose another directory"
        )
    try:
        os.close(os.open(directory, os.O_RDONLY))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return Unreachable(f"SQLite file {path!r}: too many files are open; close some, or allow more (ulimit -n)")
    return None


def _meaning(error: sqlite3.Error) -> _Meaning:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    text = str(error)
    for meaning in _MEANINGS:
        if code == meaning.code if code > 1 else text.startswith(meaning.text):
            return meaning
    return _UNKNOWN
