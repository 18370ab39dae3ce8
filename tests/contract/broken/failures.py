"""Failures that are not told, or not truly, and that leave something behind."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from typing import Any, Final

from redicts.backends.sqlite import SqliteBackend
from redicts.contract import SharedBackend
from redicts.core.backend import Backend
from redicts.core.minitransaction import Key, Outcome, Put, Status, Transaction
from redicts.errors import StoreError, StoreFull, StoreTimeout, Unreachable
from tests.contract.broken.register import broken_client, broken_network_client, broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite, in_memory
from tests.contract.harnesses import NetworkHarness
from tests.contract.networks import Network, NetworkClient, Number, ReplyLost
from tests.contract.reference_model import PlainBackend

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
