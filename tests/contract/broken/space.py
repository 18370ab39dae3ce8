"""Stores that grow: what expired is not freed, and something is kept of what is over."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
import uuid
from typing import Any, Final

from redicts.backends.sqlite import SqliteBackend, statements
from redicts.backends.sqlite.backend import _on_connection
from redicts.backends.sqlite.snapshot import Snapshot
from redicts.contract import SharedBackend
from redicts.contract.fixture import LONG
from redicts.core.backend import Backend
from redicts.core.listener import Listener
from redicts.core.minitransaction import (
    RECORDS,
    Delete,
    Entries,
    Key,
    Notify,
    Outcome,
    Put,
    Scope,
    Status,
    Transaction,
    Write,
)
from redicts.errors import StoreBusy
from tests.contract.broken.commits import InAFile
from tests.contract.broken.register import broken_client, broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import DictBackend, DictListener, PlainBackend, Spaces


class _Freeing(PlainBackend):
    """Frees the expired values that are the first to be found, up to some number."""

    def free_some(self, spaces: Spaces, most: int, now: float) -> None:
        for name, entries in spaces.items():
            gone = [path for path, held in entries.items() if held.deadline is not None and held.deadline <= now]
            spaces[name] = {path: held for path, held in entries.items() if path not in set(gone[:most])}


@broken_store("space.streams_of_short_ttls_are_freed", alone=True)
class SixtyFourAreFreed(_Freeing):
    """A transaction frees 64 expired values, however many it adds."""

    def free(self, spaces: Spaces, writes: tuple[Write, ...], now: float) -> None:
        self.free_some(spaces, 64, now)


@broken_store("space.streams_of_short_ttls_are_freed", alone=True)
class TwoHundredAreFreed(_Freeing):
    """A transaction frees 200 expired values, however many it adds."""

    def free(self, spaces: Spaces, writes: tuple[Write, ...], now: float) -> None:
        self.free_some(spaces, 200, now)


@broken_store("space.every_kind_of_write_frees_what_expired", alone=True)
class PutsFreeAndOthersDoNot(PlainBackend):
    """Only a transaction that puts frees what has expired."""

    def free(self, spaces: Spaces, writes: tuple[Write, ...], now: float) -> None:
        if any(isinstance(write, Put) for write in writes):
            super().free(spaces, writes, now)


@broken_store("space.reads_change_nothing", alone=True)
class ReadsFree(_Freeing):
    """A transaction that only reads frees what has expired."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if not transaction.writes and transaction.reads and not transaction.checks:
            spaces = dict(self.spaces)
            self.free_some(spaces, 64, now)
            self.spaces = spaces
        return outcome


class _Staying(DictListener):
    """Is still known when it is closed."""

    def close(self) -> None:
        self.called = False


@broken_store("space.nothing_is_kept_of_what_is_over", alone=True)
class ClosedListenersStay(PlainBackend):
    """The store keeps its listeners after they are closed."""

    def listen(self, name: str, /) -> Listener:
        return _Staying(self, name.encode("ascii"))


@broken_store("space.nothing_is_kept_of_what_is_over")
class WatchedPathsStay(DictBackend):
    """Who listened to changes at a path is kept with it after that has ended."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.watched: dict[tuple[str, ...], list[str]] = {}

    def listen_to_changes(self, name: str, path: tuple[str, ...], /) -> Listener:
        self.watched.setdefault(path, []).append(name)
        return super().listen_to_changes(name, path)


@broken_store("space.nothing_is_kept_of_what_is_over")
class EveryPathIsRemembered(PlainBackend):
    """Each path that was ever used stays in a cache."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.known: dict[tuple[str, ...], tuple[str, ...]] = {}

    def path(self, path: tuple[str, ...]) -> tuple[str, ...]:
        return self.known.setdefault(path, path)


@broken_shared_store("space.streams_of_short_ttls_are_freed")
class TheFileOutgrowsItsStream(SqliteBackend):
    """A SQL transaction frees 64 expired rows, however many it adds."""

    @_on_connection(writes=True)
    def _write(self: SqliteBackend, cursor: sqlite3.Cursor, transaction: Transaction) -> Outcome:
        cursor.execute(statements.BEGIN_WRITING)
        snapshot = Snapshot(cursor, self._database, self._now())
        failed_index = snapshot.first_failed(transaction.checks)
        answers = tuple(map(snapshot.answer, transaction.reads))
        counters: list[int] = []
        status = Status.APPLIED if failed_index is None else Status.CHECK_FAILED
        if failed_index is None:
            counters, _, failed_index = snapshot.apply(transaction.writes)
            status = status if failed_index is None else Status.NOT_A_COUNTER
        if failed_index is not None:
            cursor.execute(statements.ROLLBACK)
            return Outcome(status, answers, failed_index=failed_index)
        snapshot.reclaim(0)
        cursor.execute(statements.COMMIT)
        return Outcome(status, answers, tuple(counters))


@broken_shared_store("space.every_kind_of_write_frees_what_expired")
class OverwritingsFreeNothing(SqliteBackend):
    """The fast path never makes way for the long one, which frees what has expired."""

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        self._unreclaimed = 0
        return super().overwrite(key, value)


@broken_shared_store("space.reads_change_nothing")
class ReadsOfAFileFree(OnSqlite):
    """After a read, a transaction frees what has expired."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        if not transaction.writes and transaction.reads:
            super().execute(Transaction(writes=(Delete(Key("nothing", ()), Scope.SUBTREE),)))
        return outcome


@broken_shared_store("space.nothing_is_kept_of_what_is_over")
class RequestsAreRecorded(OnSqlite):
    """Each request that writes leaves a record in the store, by which it would be applied once."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if transaction.writes:
            record = Put(Key("sessions", (uuid.uuid4().hex,)), b"applied, no counters, no answers, no failed index")
            transaction = transaction._replace(writes=(*transaction.writes, record))
        return super().execute(transaction)


@broken_shared_store("space.nothing_is_kept_of_what_is_over")
class NotificationsStayInTheLog(OnSqlite):
    """Notifications for other processes stay in the store for ever."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        notifies = [write for write in transaction.writes if isinstance(write, Notify)]
        names = [write.value for write in transaction.writes if isinstance(write, Put) and notifies]
        log = [Put(Key("log", (uuid.uuid4().hex,)), name) for name in names]
        return super().execute(transaction._replace(writes=(*transaction.writes, *log)))


@broken_store("space.long_values_are_freed", alone=True)
class PiecesOfLongValuesStay(PlainBackend):
    """A long value is stored in pieces, and a delete removes the record that names them."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.pieces: list[bytes] = []

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        for held in self.found(spaces, write.key, write.scope, now, "Delete").values():
            if len(held.value) > 5_000:
                self.pieces += [held.value[start : start + 50] for start in range(0, len(held.value), 50)]
        super().delete(spaces, write, now)


@broken_shared_store("space.an_open_client_stays_small", alone=True)
class InstancesKeepTheirListeners(OnSqlite):
    """An instance keeps its listeners until it is closed itself."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.listeners: Final[list[Listener]] = []

    def listen(self, name: str, /) -> Listener:
        listener = super().listen(name)
        self.listeners.append(listener)
        return listener

    def close(self) -> None:
        super().close()
        self.listeners.clear()


@broken_shared_store("space.long_values_are_freed")
class LongValuesOfAFileStay(OnSqlite):
    """A long value is stored twice, and once after it was deleted."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        long = [write for write in transaction.writes if isinstance(write, Put) and len(write.value) > 5_000]
        copies = [Put(Key("long", (uuid.uuid4().hex,)), write.value, write.ttl) for write in long]
        return super().execute(transaction._replace(writes=(*transaction.writes, *copies)))


@broken_shared_store("space.long_values_are_freed", alone=True)
class LongRecordsOfAFileStay(OnSqlite):
    """A long value in a record space is stored twice, and once after it was deleted."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        copies = [
            Put(Key("long", (uuid.uuid4().hex,)), write.value, write.ttl)
            for write in transaction.writes
            if isinstance(write, Put) and len(write.value) > 5_000 and write.key.space[0] in RECORDS
        ]
        return super().execute(transaction._replace(writes=(*transaction.writes, *copies)))


class _Remembering(OnSqlite):
    """Remembers some keys until it is closed."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.known: Final[set[Key]] = set()

    def close(self) -> None:
        super().close()
        self.known.clear()


@broken_shared_store("space.nothing_is_kept_of_paths", alone=True)
class FetchedPathsStay(_Remembering):
    """Where a document was fetched is remembered while the instance is open."""

    def fetch_document(self, key: Key, /) -> bytes | None:
        self.known.add(key)
        return super().fetch_document(key)


@broken_shared_store("space.nothing_is_kept_of_paths", alone=True)
class ComparedPathsStay(_Remembering):
    """What a condition has compared is remembered while the instance is open."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        self.known.update(check.key for check in transaction.checks)
        return super().execute(transaction)


@broken_shared_store("space.killed_processes_leave_nothing", "space.a_killed_process_leaves_no_file")
class JournalsStay(OnSqlite):
    """A client writes each large transaction to a journal of its own first, which is deleted when it is closed."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.journal = f"{path}.{uuid.uuid4().hex}"

    def execute(self, transaction: Transaction, /) -> Outcome:
        if len(transaction.writes) > 100:
            journal = f"{self.journal}.{os.getpid()}"
            with open(journal, "wb") as file:
                file.write(repr(transaction).encode())
        return super().execute(transaction)

    def close(self) -> None:
        super().close()
        journal = f"{self.journal}.{os.getpid()}"
        if os.path.exists(journal):
            os.remove(journal)


@broken_shared_store("space.killed_processes_leave_nothing", alone=True)
class JournalsInTheStoreStay(OnSqlite):
    """A client keeps its last large transaction in the store until it is closed."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.journals: dict[int, Key] = {}

    def execute(self, transaction: Transaction, /) -> Outcome:
        if len(transaction.writes) > 100:
            journal = self.journals.setdefault(os.getpid(), Key("journals", (uuid.uuid4().hex,)))
            super().execute(Transaction(writes=(Put(journal, repr(transaction).encode()),)))
        return super().execute(transaction)

    def close(self) -> None:
        journal = self.journals.pop(os.getpid(), None)
        if journal is not None:
            super().execute(Transaction(writes=(Delete(journal, Scope.NODE),)))
        super().close()


@broken_shared_store("space.a_killed_process_leaves_no_file", alone=True)
class NewFilesStay(InAFile):
    """Each commit writes a new file with a name of its own, which then replaces the store."""

    def commit(self, data: bytes) -> None:
        super().commit(data)
        descriptor, name = tempfile.mkstemp(dir=os.path.dirname(self.file))
        os.close(descriptor)
        shutil.copy(self.file, name)
        os.replace(name, self.file)


@broken_shared_store("space.a_killed_process_leaves_no_file")
class LocksOfTheKilledStay(InAFile):
    """A process that commits makes a file which excludes the others, and removes it."""

    def commit(self, data: bytes) -> None:
        busy = f"{self.file}.busy"
        try:
            os.close(os.open(busy, os.O_CREAT | os.O_EXCL))
        except FileExistsError as error:
            raise StoreBusy("another process commits") from error
        try:
            super().commit(data)
        finally:
            os.remove(busy)


@broken_shared_store("space.a_killed_process_leaves_no_file", alone=True)
class LongValuesAreSpilled(OnSqlite):
    """A long value lies in a temporary file while it is written."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        long = [write for write in transaction.writes if isinstance(write, Put) and len(write.value) > 50_000]
        if not long:
            return super().execute(transaction)
        with tempfile.NamedTemporaryFile() as spilled:
            spilled.writelines(write.value for write in long)
            return super().execute(transaction)


@broken_shared_store("space.a_killed_process_leaves_no_file")
class DirectoriesOfTheOpenStay(OnSqlite):
    """A client has a directory of its own until it is closed."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.directory: Final = tempfile.mkdtemp()

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.directory, ignore_errors=True)


@broken_client("space.what_a_client_keeps_ends", of=PlainBackend, alone=True)
class SessionsStay(SharedBackend):
    """A client writes a record of its session with its first write, which has no TTL and is never deleted."""

    has_session = False

    def execute(self, transaction: Transaction, /) -> Outcome:
        if transaction.writes and not self.has_session:
            self.has_session = True
            super().execute(Transaction(writes=(Put(Key("sessions", (uuid.uuid4().hex,)), b"1"),)))
        return super().execute(transaction)


@broken_shared_store("space.what_a_client_keeps_ends")
class ListenersOfAFileStay(InAFile):
    """A client writes the name under which it listens to the store, and leaves it there."""

    def listen(self, name: str, /) -> Listener:
        self.execute(Transaction(writes=(Put(Key("listeners", (name,)), b"1"),)))
        return super().listen(name)


class _Recording(PlainBackend):
    """Keeps a record of some calls."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.records: list[bytearray] = []

    def record(self) -> None:
        self.records.append(bytearray(200))


@broken_store("space.nothing_is_kept_of_what_is_over", alone=True)
class RefusalsAreRecorded(_Recording):
    """Each transaction whose condition fails leaves a record."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        if outcome.status is Status.CHECK_FAILED:
            self.record()
        return outcome


@broken_store("space.nothing_is_kept_of_what_is_over", alone=True)
class WaitsAreRecorded(_Recording):
    """Each wait that is over without a notification leaves a record."""

    def listen(self, name: str, /) -> Listener:
        record = self.record

        class Recording(DictListener):
            def wait(self, seconds: float, /) -> bool:
                notified = super().wait(seconds)
                if not notified:
                    record()
                return notified

        return Recording(self, name.encode("ascii"))


_known: list[bytearray] = []
"""What clients of files keep: it is never freed."""


@broken_shared_store("space.nothing_is_kept_of_what_is_over", alone=True)
class WalksStayOpen(OnSqlite):
    """The client keeps the position of each walk that was not finished."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        _known.extend(bytearray(200) for answer in outcome.answers if answer.cursor is not None)
        return outcome


@broken_shared_store("space.nothing_is_kept_of_what_is_over", alone=True)
class ThreadsStayKnown(OnSqlite):
    """The client keeps something for each thread that used it, also when the thread is over."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.own = threading.local()

    def execute(self, transaction: Transaction, /) -> Outcome:
        if not hasattr(self.own, "known"):
            self.own.known = bytearray(500)
            _known.append(self.own.known)
        return super().execute(transaction)


@broken_shared_store("space.nothing_is_kept_of_what_is_over", alone=True)
class AbsentPathsStayKnown(OnSqlite):
    """The client keeps each path at which it found nothing."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        for read, answer in zip(transaction.reads, outcome.answers):
            if isinstance(answer, Entries) and not answer.values and read.key.path[:1] == ("no",):
                _known.append(bytearray(200))
        return outcome


class _FreeingAsTold(_Freeing):
    """Frees as many expired values as its client says."""

    most = 64

    def free(self, spaces: Spaces, writes: tuple[Write, ...], now: float) -> None:
        self.free_some(spaces, self.most, now)


@broken_client("space.every_kind_of_write_frees_what_expired", of=_FreeingAsTold)
class FirstWritesFreeNothing(SharedBackend):
    """The first write of a client frees nothing."""

    writes = 0

    def execute(self, transaction: Transaction, /) -> Outcome:
        self.writes += bool(transaction.writes)
        store: Any = self.shared
        store.most = 64 if self.writes > 1 else 0
        return super().execute(transaction)


@broken_client("space.what_a_client_keeps_ends", of=PlainBackend)
class SessionsOfRefusalsStay(SharedBackend):
    """The record of a session ends with the client, unless its last request was refused."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        if transaction.writes and not outcome.applied:
            super().execute(Transaction(writes=(Put(Key("sessions", (uuid.uuid4().hex,)), b"1"),)))
        return outcome


@broken_store("space.nothing_is_kept_of_what_is_over")
class TTLsOfTheDeletedStay(_Recording):
    """The index of TTLs keeps what was deleted before its end."""

    def write(self, spaces: Spaces, write: Write, now: float, counters: list[int]) -> None:
        if isinstance(write, Put) and write.ttl == LONG:
            self.record()
        super().write(spaces, write, now, counters)


@broken_client("space.an_open_client_stays_small", of=PlainBackend, alone=True)
class ClientsKeepTheirListeners(SharedBackend):
    """A client keeps something for each of its listeners until it is closed."""

    def __init__(self, shared: Backend) -> None:
        super().__init__(shared)
        self.kept: list[bytearray] = []

    def listen(self, name: str, /) -> Listener:
        self.kept.append(bytearray(200))
        return super().listen(name)
