"""Databases that are not apart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from redicts.backends.sqlite import SqliteBackend
from redicts.backends.sqlite.keys import EncodedKeys
from redicts.contract import SharedBackend
from redicts.core.async_backend import AsyncBackend
from redicts.core.backend import Backend
from redicts.core.listener import Listener
from redicts.core.minitransaction import Delete, Key, Outcome, Put, Scope, Transaction
from tests.contract.broken.register import broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.broken.tasks import InTasks
from tests.contract.reference_model import DictBackend, PlainBackend, Spaces


class _Numbered(PlainBackend):
    """Several databases, each with spaces of its own."""

    def __init__(self, clock: Callable[[], float], number: int = 0, first: _Numbered | None = None) -> None:
        super().__init__(clock)
        self.number = number
        self.total = 0
        self.all: dict[int, _Numbered] = first.all if first else {}
        self.all[number] = self
        if first is None:
            for other in (1, 10):
                type(self)(clock, other, self)

    @property
    def others(self) -> Sequence[Backend]:
        """The databases but this one."""
        return [SharedBackend(each) for each in self.all.values() if each is not self]


@broken_store("databases.they_share_nothing", alone=True)
class DeletesGoByTheFirstDigit(_Numbered):
    """A Delete of a root also empties the databases whose numbers begin with the same digits."""

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        super().delete(spaces, write, now)
        if not write.key.path and write.scope is Scope.SUBTREE:
            for number, other in self.all.items():
                if other is not self and str(number).startswith(str(self.number)):
                    other.spaces = {**other.spaces, write.key.space: {}}


@broken_store("databases.they_share_nothing")
class CountersAreForAll(_Numbered):
    """All databases add to one counter."""

    def sum(self, value: bytes, amount: int) -> int:
        self.all[0].total += super().sum(b"0", amount)
        return self.all[0].total


@broken_store("databases.ttls_are_of_one_database", alone=True)
class TheDeadOfOneAreFreedInAll(_Numbered):
    """A write frees what has expired by a list of all databases, and frees these paths in its own."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        if transaction.writes:
            gone = [
                Key(space, path)
                for other in self.all.values()
                for space, entries in other.spaces.items()
                for path, held in entries.items()
                if not self.alive(held, now, "")
            ]
            for key in gone:
                self.spaces.get(key.space, {}).pop(key.path, None)
        return super().decide(transaction, now)


@broken_store("databases.a_notify_is_for_one_database", alone=True)
class NotifiesAreHeardInAll(_Numbered):
    """A Notify reaches the listeners of its name in all databases."""

    def call(self, names: list[bytes]) -> None:
        for other in self.all.values():
            DictBackend.call(other, names)


@broken_store("databases.a_notify_is_for_one_database")
class OneListenerPerName(_Numbered):
    """Of listeners of the same name in several databases, only the last one is notified."""

    def listen(self, name: str, /) -> Listener:
        for other in self.all.values():
            other.listeners[:] = [each for each in other.listeners if each.name != name.encode()]
        return super().listen(name)


@broken_shared_store("databases.they_share_nothing")
class FastPathsForgetTheNumber(SqliteBackend):
    """The fast paths read and write the values of database 0, whatever the number."""

    def __init__(self, path: str, database: int = 0) -> None:
        super().__init__(path, database)
        self._encoded = EncodedKeys("0")


@broken_shared_store("databases.ttls_are_of_one_database")
class TTLsArePutInTheFirst(SqliteBackend):
    """A put with a TTL takes the place of the value in every database."""

    def execute(self, transaction: Transaction, /, deadline: float | None = None) -> Outcome:
        outcome = super().execute(transaction, deadline)
        puts = [write for write in transaction.writes if isinstance(write, Put) and write.ttl]
        if puts and outcome.applied and self._database != "0":
            number, self._database = self._database, "0"
            try:
                super().execute(Transaction(writes=tuple(puts)))
            finally:
                self._database = number
        return outcome


@broken_shared_store("databases.they_share_nothing")
class ThereAreSixteenDatabases(OnSqlite):
    """Databases are numbered modulo 16."""

    def __init__(self, path: str, database: int = 0) -> None:
        super().__init__(path, database % 16)


@broken_store("databases.they_share_nothing")
class NumbersHaveSixteenBits(_Numbered):
    """The number of a database is stored in two bytes."""

    @property
    def others(self) -> Sequence[Backend]:
        return [*super().others, SharedBackend(self)]


@broken_shared_store("databases.they_share_nothing")
class NumbersHaveThirtyTwoBits(OnSqlite):
    """Of the number of a database, 32 bits count."""

    def __init__(self, path: str, database: int = 0) -> None:
        super().__init__(path, database & 0xFFFFFFFF)


@broken_shared_store("databases.they_share_nothing")
class ValuesAreRememberedByKey(OnSqlite):
    """A process remembers what it has fetched by database and key, until it writes, whichever file it uses."""

    known: ClassVar[dict[tuple[int, Key], bytes | None]] = {}

    def __init__(self, path: str, database: int = 0) -> None:
        super().__init__(path, database)
        self.number = database

    def execute(self, transaction: Transaction, /) -> Outcome:
        if transaction.writes:
            for at in [at for at in self.known if at[0] == self.number]:
                self.known.pop(at, None)
        return super().execute(transaction)

    def fetch(self, key: Key, /) -> bytes | None:
        at = self.number, key
        if at not in self.known:
            self.known[at] = self.store.fetch(key)
        return self.known[at]


@broken_shared_store("databases.they_share_nothing")
class ConditionsAreRemembered(OnSqlite):
    """The outcome of conditions is remembered for the same tuple of them, whichever database they are asked in."""

    held: ClassVar[list[tuple[object, Outcome]]] = []

    def execute(self, transaction: Transaction, /) -> Outcome:
        if len(transaction.checks) < 2 or transaction.reads or transaction.writes:
            return super().execute(transaction)
        if self.held and self.held[0][0] is transaction.checks:
            return self.held[0][1]
        outcome = super().execute(transaction)
        self.held[:] = [(transaction.checks, outcome)]
        return outcome

    def __init__(self, path: str, database: int = 0) -> None:
        super().__init__(path, database)


@broken_store("databases.every_connection_is_to_its_own", alone=True)
class TasksUseTheFirst(_Numbered):
    """The part for asyncio of every database is that of the first one."""

    def for_asyncio(self) -> AsyncBackend:
        return InTasks(self.all[0])


@broken_store("databases.every_connection_is_to_its_own", alone=True)
class SecondConnectionsAreToTheFirst(_Numbered):
    """A call that finds another one under way makes a connection, which is to the first database."""

    def __init__(self, clock: Callable[[], float], number: int = 0, first: _Numbered | None = None) -> None:
        super().__init__(clock, number, first)
        self.idle = threading.Semaphore(1)

    def execute(self, transaction: Transaction, /) -> Outcome:
        if not self.idle.acquire(blocking=False):
            return PlainBackend.execute(self.all[0], transaction)
        try:
            time.sleep(0.0005 if self.number else 0.0)
            return super().execute(transaction)
        finally:
            self.idle.release()
