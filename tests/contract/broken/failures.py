"""Failures that are not told, or not truly, and that leave something behind."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from functools import partial
from typing import Any, Final, cast

from redicts.backends.fakeredis import FakeRedisBackend
from redicts.backends.redis.connections import Connections
from redicts.backends.redis.options import RedisOptions
from redicts.backends.sqlite import SqliteBackend
from redicts.contract import SharedBackend
from redicts.core.backend import Backend
from redicts.core.listener import Listener
from redicts.core.minitransaction import Delete, Key, Notify, Outcome, Put, Read, Scope, Status, Transaction, Write
from redicts.errors import CorruptData, StoreBusy, StoreError, StoreFull, StoreTimeout, Unreachable
from tests.contract.broken.register import (
    broken_client,
    broken_fakeredis,
    broken_network_client,
    broken_shared_store,
    broken_store,
)
from tests.contract.broken.shared import OnSqlite, in_memory
from tests.contract.harnesses import NetworkHarness
from tests.contract.networks import Network, NetworkClient, Number, ReplyLost
from tests.contract.reference_model import HeldLocks, PlainBackend

_PASSWORD: Final = NetworkHarness.secrets[0]

# What cannot work.


class _Connecting(NetworkClient):
    """Fails in its own way where no server is."""

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        if not self.network.has_server:
            self.fail()
        return super().execute_until(transaction, deadline)

    def fail(self) -> None:
        raise NotImplementedError


@broken_network_client("failures.what_cannot_work_says_so", of=PlainBackend, alone=True)
class ErrorsAreThoseOfTheSystem(_Connecting):
    """An error of the operating system comes through."""

    def fail(self) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")


@broken_network_client("failures.what_cannot_work_says_so", of=PlainBackend)
class PasswordsAreInErrors(_Connecting):
    """The message repeats the URL with the password."""

    def fail(self) -> None:
        raise Unreachable(f"no server at table://me:{_PASSWORD}@localhost")


@broken_network_client("failures.what_cannot_work_says_so", of=PlainBackend)
class PasswordsAreInCauses(_Connecting):
    """The message is clean, but the error that caused it names the password."""

    def fail(self) -> None:
        try:
            raise OSError(f"cannot connect with options {{'password': {_PASSWORD!r}}}")
        except OSError as error:
            raise Unreachable("no server there") from error


@broken_network_client("failures.what_cannot_work_says_so", of=in_memory)
class WhatWasNotSentIsInDoubt(_Connecting):
    """Whatever fails is said to be in doubt, what was never sent too."""

    def fail(self) -> None:
        raise Unreachable("no server there", maybe_applied=True)


@broken_network_client("failures.what_cannot_work_says_so", of=PlainBackend)
class FailedConnectionsStayOpen(_Connecting):
    """The socket of a connection that could not be made is not closed."""

    sockets: Final[list[int]] = []

    def fail(self) -> None:
        self.sockets.append(os.open(os.devnull, os.O_RDONLY))
        raise Unreachable("no server there")

    def close(self) -> None:
        while self.sockets:
            os.close(self.sockets.pop())


@broken_network_client("failures.what_cannot_work_says_so", of=in_memory)
class FailedConnectionsCount(_Connecting):
    """A connection that could not be made still counts for the most that there may be."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.permits: Final = threading.Semaphore(10)

    def fail(self) -> None:
        if not self.permits.acquire(blocking=False):
            raise StoreTimeout("all 10 connections are in use")
        raise Unreachable("no server there")


@broken_shared_store("failures.what_cannot_work_says_so")
class ErrorsOfSqliteComeThrough(OnSqlite):
    """An error of the database's library is raised as it is."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        try:
            return super().execute(transaction)
        except StoreError as error:
            raise sqlite3.OperationalError(str(error)) from None


@broken_shared_store("failures.what_cannot_work_says_so", alone=True)
class ErrorsOfAFastPathComeThrough(OnSqlite):
    """An error of the database's library is raised as it is where a document is fetched."""

    def fetch_document(self, key: Key, /) -> bytes | None:
        try:
            return self.store.fetch_document(key)
        except StoreError as error:
            raise sqlite3.OperationalError(str(error)) from None


class _Raising(Listener):
    """Reads the store first, so that a wait raises what that raises."""

    def __init__(self, store: OnSqlite, listener: Listener) -> None:
        self.store = store
        self.listener = listener

    def wait(self, seconds: float, /) -> bool:
        self.store.execute(Transaction(reads=(Read(Key("t", ())),)))
        return self.listener.wait(seconds)

    def close(self) -> None:
        self.listener.close()


@broken_shared_store("failures.what_cannot_work_says_so", "failures.what_another_program_stored_stays")
class WaitsRaise(OnSqlite):
    """A wait raises the error of a file that cannot be read, instead of ending."""

    def listen(self, name: str, /) -> Listener:
        return _Raising(self, super().listen(name))


# Disks that are full.


@broken_shared_store("failures.a_full_disk_is_told", alone=True)
class FullDisksAreNotTold(OnSqlite):
    """A write of nothing but values for which there is no room is said to be applied."""

    has_worked = False

    def execute(self, transaction: Transaction, /) -> Outcome:
        try:
            outcome = super().execute(transaction)
        except StoreError:
            others = [write for write in transaction.writes if not isinstance(write, Put)]
            if transaction.checks or transaction.reads or others or not self.has_worked:
                raise
            return Outcome(Status.APPLIED)
        self.has_worked = True
        return outcome


@broken_shared_store("failures.a_full_disk_is_told")
class AFullDiskIsForEver(OnSqlite):
    """A client that once found no room refuses all later writes."""

    is_full = False

    def execute(self, transaction: Transaction, /) -> Outcome:
        if self.is_full and transaction.writes:
            raise StoreFull("there is no room")
        try:
            return super().execute(transaction)
        except StoreError:
            self.is_full = True
            raise


# Replies that are lost.


@broken_network_client("failures.a_write_in_doubt_says_so", of=PlainBackend, alone=True)
class DoubtIsNotTold(NetworkClient):
    """A write to which no reply came is said not to be applied."""

    def given_up(self, maybe_applied: bool) -> StoreError:
        return super().given_up(False)


@broken_network_client("failures.a_write_in_doubt_says_so", of=in_memory)
class ReadsAreInDoubt(NetworkClient):
    """A mere read to which no reply came is said to be maybe applied."""

    def given_up(self, maybe_applied: bool) -> StoreError:
        return super().given_up(True)


@broken_network_client("failures.a_write_in_doubt_says_so", of=PlainBackend)
class PermitsAreNotGivenBack(NetworkClient):
    """A call that gives up keeps its permit for one of a few connections."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.permits: Final = threading.Semaphore(4)

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        if not self.permits.acquire(blocking=False):
            raise StoreTimeout("all 4 connections are in use")
        outcome = super().execute_until(transaction, deadline)
        self.permits.release()
        return outcome


@broken_network_client("failures.a_write_in_doubt_says_so", of=in_memory)
class TimeoutsAreThoseOfTheSystem(NetworkClient):
    """A call that gives up raises the ``TimeoutError`` of its socket."""

    def given_up(self, maybe_applied: bool) -> Any:
        return TimeoutError("timed out")


@broken_network_client("failures.a_deadline_ends_a_call", of=PlainBackend, alone=True)
class DeadlinesAreLookedAtInBetween(NetworkClient):
    """A call looks at its deadline before it sends, and waits for the reply for as long as any other one does."""

    def send(self, number: Number, transaction: Transaction) -> Outcome:
        try:
            return super().send(number, transaction)
        except ReplyLost as lost:
            time.sleep(lost.seconds)
            raise ReplyLost(0.0) from lost


@broken_network_client("failures.a_deadline_ends_a_call", of=in_memory)
class DeadlinesAreForTheFirstAttempt(NetworkClient):
    """A request that was given up is sent once more, without its deadline."""

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        try:
            return super().execute_until(transaction, deadline)
        except StoreTimeout:
            if self.network.held is None:
                raise
            time.sleep(0.15)
            return super().execute_until(transaction, time.monotonic() + 0.15)


@broken_shared_store("failures.a_deadline_ends_the_wait_for_others", alone=True)
class DeadlinesAreLookedAtFirst(OnSqlite):
    """A call looks at its deadline before it begins, and waits for another process for as long as any other one."""

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        if time.monotonic() >= deadline:
            raise StoreTimeout("the deadline is over, and nothing was written")
        return self.execute(transaction)


class _LateAnswers(NetworkClient):
    """Goes on with a connection on which the answer to a read is still to come."""

    awaited: Number | None = None

    def send(self, number: Number, transaction: Transaction) -> Outcome:
        if transaction.writes or len(transaction.reads) != 1:
            return super().send(number, transaction)
        awaited, self.awaited = self.awaited, None
        late = None if awaited is None else self.network.server.outcomes.get(awaited)
        if late is not None and self.fits(late, transaction):
            return late
        try:
            return super().send(number, transaction)
        except ReplyLost:
            self.awaited = number if self.network.held is not None else None
            raise

    def fits(self, late: Outcome, transaction: Transaction) -> bool:
        return len(late.answers) == len(transaction.reads)


@broken_network_client("failures.a_late_answer_is_nobodys", of=PlainBackend, alone=True)
class LateAnswersAreTaken(_LateAnswers):
    """A connection is used again after a read gave up on it, and the next read gets the answer to that one."""


@broken_network_client("failures.a_late_answer_is_nobodys", of=in_memory)
class LateAnswersOfOneKindAreTaken(_LateAnswers):
    """An answer that comes late is taken by the next read of the same kind."""

    def fits(self, late: Outcome, transaction: Transaction) -> bool:
        return super().fits(late, transaction) and type(transaction.reads[0]).__name__ == "Read"


# Stores without room.


class _Full(PlainBackend):
    """Has no room at times."""

    is_full = False

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        if self.is_full and any(self.needs_room(write) for write in transaction.writes):
            raise self.failure()
        return super().decide(transaction, now)

    def needs_room(self, write: Write) -> bool:
        return not isinstance(write, (Delete, Notify))

    def failure(self) -> Exception:
        return StoreFull("there is no room for the store; make some")


@broken_store("failures.a_full_store_lets_go", alone=True)
class DeletesNeedRoom(_Full):
    """A store without room refuses every write, so that nothing can be removed."""

    def needs_room(self, write: Write) -> bool:
        return True


@broken_store("failures.a_full_store_lets_go")
class FullStoresRaiseErrorsOfTheSystem(_Full):
    """A store without room raises an error of the system."""

    def failure(self) -> Exception:
        return OSError(errno.ENOSPC, "no space left on device")


@broken_store("failures.a_full_store_lets_go")
class FullStoresDropWrites(SqliteBackend):
    """A store without room drops what needs some, and says nothing."""

    is_full = False

    def __init__(self, clock: Any) -> None:
        super().__init__(":memory:", clock=clock)

    def execute(self, transaction: Transaction, /, deadline: float | None = None) -> Outcome:
        if self.is_full:
            writes = [write for write in transaction.writes if isinstance(write, (Delete, Notify))]
            transaction = transaction._replace(writes=tuple(writes))
        return super().execute(transaction, deadline)


# What another program damaged.


class _Damaged(PlainBackend):
    """Some values are damaged, of which it tells."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.damaged: set[Key] = set()

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        for asked in (*transaction.checks, *transaction.reads, *transaction.writes):
            if any(self.touches(asked, key) for key in self.damaged):
                raise self.failure(transaction)
        return super().decide(transaction, now)

    def touches(self, asked: Any, key: Key) -> bool:
        path, scope = key.path, getattr(asked, "scope", Scope.NODE)
        is_below = path[: len(asked.key.path)] == asked.key.path
        return asked.key.space == key.space and is_below and scope.covers(path[len(asked.key.path) :])

    def failure(self, transaction: Transaction) -> Exception:
        return CorruptData("another program has written here")


@broken_store("failures.damage_is_told", alone=True)
class DamageIsNothing(_Damaged):
    """What is damaged is passed over, as if nothing were there."""

    def touches(self, asked: Any, key: Key) -> bool:
        return False

    def alive(self, held: HeldLocks, now: float, what: str) -> bool:
        damaged = {self.spaces[key.space][key.path] for key in self.damaged}
        return super().alive(held, now, what) and held not in damaged


@broken_store("failures.damage_is_told")
class DamageIsAnErrorOfTheLibrary(_Damaged):
    """What is damaged raises the error of a parser."""

    def failure(self, transaction: Transaction) -> Exception:
        return ValueError("invalid literal")


class _StaysUnread(Connections):
    """Raises the first error among the replies to a packet, before the others are read."""

    def _read_all(self, connection: Any, count: int) -> Any:
        return [connection.read_response() for _ in range(count)]


@broken_fakeredis("failures.damage_is_told", alone=True)
class RepliesAfterAnErrorStayUnread(FakeRedisBackend):
    """After an error in a packet, the next request gets the replies that were left."""

    def __init__(self, settings: RedisOptions, database: int) -> None:
        super().__init__(settings, database)
        opening = cast("Any", self._connections)
        opening._open = partial(_StaysUnread, *opening._open.args)


# What is left behind.


@broken_store("interruptions.an_exception_leaves_a_transaction_whole")
class FilesStayOpenAfterAnException(PlainBackend):
    """A file is closed at the end of a call, and not if an exception ends it."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        file = os.open(os.devnull, os.O_RDONLY)
        outcome = super().execute(transaction)
        os.close(file)
        return outcome


@broken_client("clients.a_call_after_close_leaves_nothing_open", of=PlainBackend, alone=True)
class EachCallAfterCloseOpensAFile(SharedBackend):
    """A client that was closed opens its file again for each call, and never closes it."""

    closed = False

    def execute(self, transaction: Transaction, /) -> Outcome:
        if self.closed:
            os.open(os.devnull, os.O_RDONLY)
        return super().execute(transaction)

    def close(self) -> None:
        self.closed = True


@broken_shared_store("clients.a_call_after_close_leaves_nothing_open")
class EachCallAfterCloseOpensTheStore(OnSqlite):
    """A client that was closed opens the store again for each call, and keeps all of them."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path: Final = path
        self.opened: Final[list[Backend]] = []
        self.closed = False

    def execute(self, transaction: Transaction, /) -> Outcome:
        if not self.closed:
            return super().execute(transaction)
        self.opened.append(SqliteBackend(self.path))
        return self.opened[-1].execute(transaction)

    def close(self) -> None:
        self.closed = True
        super().close()


@broken_client("clients.a_call_after_close_leaves_nothing_open", of=PlainBackend)
class ListeningAfterCloseStartsThreads(SharedBackend):
    """Each listener of a client that was closed starts a thread that does not end with it."""

    closed = False
    over: Final = threading.Event()

    def listen(self, name: str, /) -> Any:
        if self.closed:
            threading.Thread(target=self.over.wait, args=(3,), daemon=True).start()
        return super().listen(name)

    def close(self) -> None:
        self.closed = True


@broken_network_client("failures.a_write_in_doubt_says_so", of=in_memory)
class TheLastAttemptDecides(NetworkClient):
    """A write whose reply was lost is said not to be applied, if no connection could be made after that."""

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        try:
            return super().execute_until(transaction, deadline)
        except StoreError as error:
            if self.network.is_cut:
                raise self.given_up(False) from error
            raise


@broken_network_client("failures.what_cannot_work_says_so", of=in_memory)
class PlacesOfRefusedConnectionsStayTaken(NetworkClient):
    """A client may have six connections, and one that was refused counts for ever."""

    refused = 0

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        if self.refused >= 6:
            raise StoreBusy("no connection is free")
        self.refused += not self.network.has_server
        return super().execute_until(transaction, deadline)


@broken_network_client("failures.a_deadline_ends_a_call", of=in_memory)
class ListeningHasNoDeadline(NetworkClient):
    """A call that listens waits for its reply, whatever its deadline."""

    def listen_until(self, name: str, deadline: float, /) -> Listener:
        self.execute(Transaction())
        return super().listen(name)
