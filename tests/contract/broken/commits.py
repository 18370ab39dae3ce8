"""Stores whose commits fail untruly or leave something behind, and stores that only ever append."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pickle
import sqlite3
import time
import uuid
from typing import Any, Final

from redicts.core.backend import Capabilities
from redicts.core.listener import Listener, Poller
from redicts.core.minitransaction import Entries, Equals, Key, Outcome, Put, Read, Scope, Transaction, Write
from redicts.errors import CorruptData, StoreBusy, StoreError, StoreFull, Unreachable
from redicts.forks import ForkSafeLock
from redicts.handles import SharedByName
from tests.contract.broken.register import broken_shared_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import PlainBackend, Spaces

_LONG: Final = 150
"""Values of more bytes are long."""

_MAGIC: Final = b"a store in a file\n"


_LOCKS: Final = SharedByName[ForkSafeLock]()


class InAFile(PlainBackend):
    """A correct store in one file, which each transaction reads, and replaces in one step if it writes."""

    declared = Capabilities(ttl=True, processes=True, durable=True, atomic_entries=None)
    fails: Final[list[bool]] = []
    """Whether the next commits fail when they are stored, or before."""

    def __init__(self, path: str) -> None:
        super().__init__(time.monotonic)
        self.file: Final = self.resolved(path)
        self.own: Final = self.lock_of_thread()

    def execute(self, transaction: Transaction, /) -> Outcome:
        if os.path.isdir(self.file):
            raise StoreError("the store must be a file, and is a directory; give another path")
        if self.own.is_mine():
            raise StoreBusy("called in the midst of another call of the same thread")
        with self.own, open(f"{self.file}.lock", "ab") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            try:
                self.load()
                outcome = super().execute(transaction)
                if transaction.writes and outcome.applied:
                    self.commit(pickle.dumps(self.spaces))
                return outcome
            finally:
                self.unlock(door.fileno())  # a child that was forked meanwhile has a copy of the file, and keeps it

    def resolved(self, path: str) -> str:
        """Return the path of the file itself, for a link would be replaced."""
        return os.path.realpath(path)

    def lock_of_thread(self) -> ForkSafeLock:
        """Return the lock of all instances of this process that use the file."""
        return _LOCKS.get(self.file, ForkSafeLock)

    def unlock(self, door: int) -> None:
        fcntl.flock(door, fcntl.LOCK_UN)

    def listen(self, name: str, /) -> Listener:
        return Poller()

    def free(self, spaces: Spaces, writes: tuple[Write, ...], now: float) -> None:
        for name, entries in spaces.items():
            spaces[name] = {path: held for path, held in entries.items() if self.alive(held, now, "free")}

    def load(self) -> None:
        self.spaces = {}
        if os.path.exists(self.file):
            with open(self.file, "rb") as file:
                is_own = file.read(len(_MAGIC)) == _MAGIC
                self.spaces = pickle.load(file) if is_own else self.load_foreign()

    def load_foreign(self) -> Spaces:
        """Answer for a file that another program wrote."""
        raise CorruptData("this is the file of another program; choose another path")

    def commit(self, data: bytes) -> None:
        written = f"{self.file}.new"
        _write(written, _MAGIC + data)
        try:
            self.replace(written)
        except OSError as error:
            raise StoreError("the disk has failed, and the writes may be stored", maybe_applied=True) from error

    def replace(self, written: str) -> None:
        late = self.fails.pop() if self.fails else None
        if late is not False:
            os.replace(written, self.file)
        if late is not None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def _write(path: str, data: bytes) -> None:
    """Write a file, or raise ``StoreFull`` and leave none."""
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        os.remove(path)
        raise StoreFull("there is no room for the store; make some") from error


@broken_shared_store("clients.a_link_leads_to_the_same_store", alone=True)
class LinksAreReplaced(InAFile):
    """The first write through a symbolic link replaces the link by a file, which from then on is another store."""

    def resolved(self, path: str) -> str:
        return os.path.abspath(path)


@broken_shared_store("failures.a_full_disk_is_told")
class CopiesFailAfterTheCommit(InAFile):
    """A copy is written after the commit. If there is no room for it, the error says that nothing is applied."""

    def commit(self, data: bytes) -> None:
        super().commit(data)
        _write(f"{self.file}.copy", data * 3)


@broken_shared_store("failures.a_full_disk_is_told")
class WhatWasNotCommittedIsRead(InAFile):
    """A client reads the file again only if another one wrote it, so that it sees its own writes that failed."""

    seen = 0.0

    def load(self) -> None:
        changed = os.stat(self.file).st_mtime_ns if os.path.exists(self.file) else 0.0
        if changed != self.seen:
            super().load()
            self.seen = changed


@broken_shared_store("failures.a_full_disk_is_told")
class AFailedCommitKeepsItsLock(InAFile):
    """The lock of a transaction whose commit fails is not released."""

    keeps = False

    def commit(self, data: bytes) -> None:
        self.keeps = True
        super().commit(data)
        self.keeps = False

    def unlock(self, door: int) -> None:
        if self.keeps:
            os.dup(door)
        else:
            super().unlock(door)


@broken_shared_store("failures.a_full_disk_is_told")
class JournalsFailAfterTheCommit(OnSqlite):
    """A journal is written after the commit. If there is no room for it, the error says that nothing is applied."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.journal: Final = f"{path}.{uuid.uuid4().hex}"

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        if transaction.writes:
            _write(self.journal, repr(transaction).encode() * 15)
        return outcome

    def close(self) -> None:
        super().close()
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.journal)


@broken_shared_store("failures.a_full_disk_is_told")
class AFailedCommitStaysOpen(OnSqlite):
    """The transaction of a commit that fails stays open, and what it wrote is committed with the next one."""

    failed: Transaction | None = None

    def execute(self, transaction: Transaction, /) -> Outcome:
        if self.failed is not None:
            failed, self.failed = self.failed, None
            super().execute(Transaction(writes=failed.writes))
        try:
            return super().execute(transaction)
        except StoreError as error:
            self.failed = transaction
            raise StoreFull("there is no room for the store; make some") from error


@broken_shared_store("failures.what_another_program_stored_stays", alone=True)
class UnknownFilesAreEmpty(InAFile):
    """A file that is not a store is taken for an empty one, and replaced by the first write."""

    def load_foreign(self) -> Spaces:
        return {}


@broken_shared_store("failures.what_another_program_stored_stays")
class UnknownFilesReadAsNothing(InAFile):
    """A file that is not a store cannot be written, and reads as if nothing were there."""

    def load_foreign(self) -> Spaces:
        return {}

    def commit(self, data: bytes) -> None:
        if os.path.exists(self.file):
            super().load_foreign()
        super().commit(data)


@broken_shared_store("failures.what_another_program_stored_stays", alone=True)
class UnreadableFilesAreMadeAnew(OnSqlite):
    """A client that finds a file unreadable removes it, so that the store can be used again."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path: Final = path

    def execute(self, transaction: Transaction, /) -> Outcome:
        try:
            return super().execute(transaction)
        except CorruptData:
            os.remove(self.path)
            return super().execute(transaction)


@broken_shared_store("failures.what_another_program_stored_stays", alone=True)
class TablesAreMadeInAnyDatabase(OnSqlite):
    """Opening a client makes a table in whatever database is at the path, and drops it again."""

    def __init__(self, path: str) -> None:
        if os.path.exists(path):
            with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute("CREATE TABLE settings (value)")
                connection.execute("DROP TABLE settings")
        super().__init__(path)


@broken_shared_store("failures.a_failed_commit_is_told", alone=True)
class FailedCommitsAreDenied(InAFile):
    """If a commit fails, the error says that nothing is applied."""

    def commit(self, data: bytes) -> None:
        try:
            super().commit(data)
        except StoreError as error:
            error.maybe_applied = False
            raise


@broken_shared_store("failures.a_failed_commit_is_told", alone=True)
class FailedOverwritesAreDenied(InAFile):
    """If the commit of an overwriting fails, the error says that nothing is written."""

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        (found,) = self.execute(Transaction(reads=(Read(key, ttls=True),))).answers
        assert isinstance(found, Entries)
        if found.ttls or not found.values:
            return False
        try:
            same = Equals(key, Scope.NODE, found.values)
            return self.execute(Transaction((same,), (), (Put(key, value),))).applied
        except StoreError as error:
            error.maybe_applied = False
            raise


@broken_shared_store("failures.a_failed_commit_is_told")
class FailedCommitsCount(InAFile):
    """If a commit fails, the call returns as if it had not."""

    def commit(self, data: bytes) -> None:
        with contextlib.suppress(StoreError):
            super().commit(data)


@broken_shared_store("failures.a_failed_commit_is_told")
class ErrorsAreRaisedAgain(OnSqlite):
    """An error of the engine is raised with another text, without what it says of the writes."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        try:
            return super().execute(transaction)
        except Unreachable as error:
            raise Unreachable("the table is out of reach") from error


@broken_shared_store("failures.a_failed_commit_is_told")
class FailedCommitsAreTriedAgain(OnSqlite):
    """A transaction whose commit fails is executed again."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        try:
            return super().execute(transaction)
        except Unreachable:
            return super().execute(transaction)


@broken_shared_store("space.nothing_is_kept_of_what_is_over")
class EveryStateStays(InAFile):
    """Each commit writes another file, and none is ever removed."""

    def commit(self, data: bytes) -> None:
        super().commit(data)
        os.link(self.file, f"{self.file}.{uuid.uuid4().hex}")


_outcomes: Final[dict[str, Outcome]] = {}
"""Of all requests of this process."""


@broken_shared_store("space.nothing_is_kept_of_what_is_over")
class OutcomesStayInTheProcess(OnSqlite):
    """A client keeps the outcome of each request, by which it would be repeated."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        return _outcomes.setdefault(uuid.uuid4().hex, outcome)


@broken_shared_store("processes.a_process_finds_what_another_wrote", alone=True)
class ChecksumsAreHashes(InAFile):
    """A long value is kept with Python's hash of it, which another interpreter computes as another number."""

    def load(self) -> None:
        super().load()
        sums: Any = self.spaces.pop("", {})
        for space, entries in self.spaces.items():
            whole = {path for path, held in entries.items() if sums.get((space, path)) in (None, hash(held.value))}
            self.spaces[space] = {path: held for path, held in entries.items() if path in whole}

    def commit(self, data: bytes) -> None:
        spaces: dict[str, Any] = pickle.loads(data)
        sums = {
            (space, path): hash(held.value)
            for space, entries in spaces.items()
            for path, held in entries.items()
            if len(held.value) > _LONG
        }
        super().commit(pickle.dumps({**spaces, "": sums}))
