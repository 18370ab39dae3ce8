"""The backend ``log``: a file to which each transaction appends one line, and an index of it in each process."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from functools import partial
from typing import Final

from redicts.errors import CorruptData, StoreBusy
from redicts.plugin import (
    Backend,
    BackendPlugin,
    BackendSettings,
    Capabilities,
    ErrorMapping,
    FilePath,
    ForkSafeLock,
    OrderedState,
    Outcome,
    PerProcess,
    SharedByName,
    Status,
    Transaction,
    hookimpl,
)

_MAGIC: Final = b"redicts-log 1\n"
_MIN_BYTES: Final = 4096
_Row = tuple[str, "str | None", "int | None"]
"""A key and its value as hexadecimal digits, and the millisecond at which it is gone. No value deletes the key."""


class Index(OrderedState):
    """What this process has read of a file. A transaction changes it, and appends the changes to the file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._open()

    def _open(self) -> None:
        self._file = open(self._path, "ab+", buffering=0)  # noqa: SIM115  (closed when it is freed)
        self.forget()

    def forget(self) -> None:
        """Read all of the file next time: the index has changes that are not in the file, or is half changed."""
        self._read = self._live = 0  # bytes
        self._values: dict[bytes, tuple[bytes, int | None]] = {}
        self._keys: list[bytes] = []
        self._ends: list[tuple[int, bytes]] = []
        self._changes: list[_Row] = []

    def between(self, lower: bytes, upper: bytes) -> Iterator[tuple[bytes, bytes, int | None]]:
        """Yield a part of the sorted keys, with their values."""
        for index in range(bisect_right(self._keys, lower), bisect_left(self._keys, upper)):
            key = self._keys[index]
            yield (key, *self._values[key])

    def put(self, key: bytes, value: bytes, end: int | None) -> None:
        """Change a value."""
        self._change((key.hex(), value.hex(), end))

    def delete(self, key: bytes) -> None:
        """Remove a value."""
        self._change((key.hex(), None, None))

    def expired(self, now: int, most: int) -> list[bytes]:
        """Read the beginning of the sorted ends."""
        return [key for _, key in self._ends[: min(most, bisect_left(self._ends, (now + 1, b"")))]]

    def _change(self, row: _Row) -> None:
        self._apply(*row)
        self._changes.append(row)

    def _apply(self, name: str, value: str | None, end: int | None) -> None:
        key = bytes.fromhex(name)
        if key in self._values:
            old, old_end = self._values.pop(key)
            self._live -= _bytes_of(name) + 2 * len(old)
            if old_end is not None:
                del self._ends[bisect_left(self._ends, (old_end, key))]
            if value is None:
                del self._keys[bisect_left(self._keys, key)]
        elif value is not None:
            insort(self._keys, key)
        if value is not None:
            self._values[key] = bytes.fromhex(value), end
            self._live += _bytes_of(name) + len(value)
            if end is not None:
                insort(self._ends, (end, key))

    def load(self) -> None:
        """Read what others have appended. Raises ``ValueError`` for a file of another kind."""
        if os.stat(self._path).st_ino != os.fstat(self._file.fileno()).st_ino:
            self._open()  # another process has written a shorter one
        self._file.seek(self._read)
        text = self._file.readall()
        if not self._read and text[: len(_MAGIC)] != _MAGIC[: len(text)]:
            raise ValueError(text[: len(_MAGIC)])
        for line in text.splitlines(keepends=True):
            if line.endswith(b"\n"):  # the last line has no end if its process was killed
                for row in json.loads(line) if self._read else ():
                    self._apply(*row)
                self._read += len(line)

    def save(self) -> None:
        """Append one line, or replace the file by a shorter one if most of it is out of date."""
        if self._read > _MIN_BYTES + 2 * self._live:
            rows = [(key.hex(), value.hex(), end) for key, (value, end) in self._values.items()]
            with open(self._path + ".new", "wb") as file:
                file.write(_MAGIC + json.dumps(rows).encode() + b"\n")
            os.replace(self._path + ".new", self._path)
            return
        line = (b"" if self._read else _MAGIC) + json.dumps(self._changes).encode() + b"\n"
        self._file.truncate(self._read)
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._read += len(line)
        self._changes = []


def _bytes_of(name: str) -> int:
    return len(name) + 32  # for punctuation and the end


class _File:
    """What all instances of a process share of a file. A child reads it again, with a position of its own."""

    def __init__(self, path: str) -> None:
        self.lock = ForkSafeLock()
        self.index = PerProcess(partial(Index, path), keep_inherited=False)


_files: Final = SharedByName[_File]()


class LogBackend(Backend):
    """One database in a file. One transaction at a time writes; a process executes one at a time."""

    def __init__(self, path: str, database: int = 0) -> None:
        self._path = os.path.realpath(path)
        self._database = database
        self._errors = ErrorMapping(f"file {self._path!r}")
        self._file: _File | None = None
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        """All that needs no notifications."""
        return Capabilities(ttl=True, processes=True, durable=True, atomic_entries=None)

    def execute(self, transaction: Transaction, /) -> Outcome:
        """Decide and apply a minitransaction. Cost: what others have appended is read, and one line is written."""
        file = self._file or _files.get(self._path, partial(_File, self._path))
        self._file = None if self._closed else file
        if file.lock.is_mine():
            raise self._errors.error(StoreBusy, "a signal handler or a finalizer interrupted another call; try later")
        try:
            with file.lock, open(self._path + ".lock", "ab") as guard:
                fcntl.flock(guard, fcntl.LOCK_EX if transaction.writes else fcntl.LOCK_SH)
                try:
                    return self._execute(file.index.get(), transaction)
                finally:
                    fcntl.flock(guard, fcntl.LOCK_UN)  # a child that was forked meanwhile has the file open
        except OSError as error:
            raise self._errors.of_system(error) from error
        except ValueError as error:
            raise self._errors.error(CorruptData, "it is not a store of this backend; choose another") from error

    def _execute(self, index: Index, transaction: Transaction) -> Outcome:
        is_saved = False
        try:
            index.load()
            outcome = index.execute(transaction, time.time_ns() // 1_000_000, self._database)
            if outcome.applied and transaction.writes:
                index.save()
            is_saved = outcome.status is not Status.NOT_A_COUNTER
            return outcome
        finally:
            if not is_saved:
                index.forget()

    def close(self) -> None:
        """Close the file when the last instance is closed and the last call ends."""
        self._closed = True
        self._file = None


class LogSettings(BackendSettings):
    """Where the file is."""

    path: FilePath

    @classmethod
    def fields_of_url(cls, url: str) -> dict[str, object]:
        """Parse ``log:///var/state.log``."""
        return {"path": url.removeprefix("log://")}


def open_log(settings: LogSettings, database: int) -> LogBackend:
    """Open one database of a file."""
    return LogBackend(settings.path, database)


@hookimpl
def redicts_backends() -> list[BackendPlugin]:
    """Offer the backend."""
    return [BackendPlugin("log", LogSettings, open_log, contract=1, summary="a file with one line a transaction")]
