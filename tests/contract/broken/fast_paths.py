"""Fast paths to values that are not quite what a transaction is."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from redicts.backends.sqlite import SqliteBackend, statements
from redicts.core.minitransaction import Key, Outcome, Put, Read, Scope, Transaction
from tests.contract.broken.register import broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import HeldLocks, PlainBackend


class _Fast(PlainBackend):
    """A correct store that overrides both fast paths."""

    def fetch(self, key: Key, /) -> bytes | None:
        with self.lock:
            old = self.old(self.spaces, key, self.clock(), "fetch")
        return None if old is None else old.value

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        with self.lock:
            old = self.old(self.spaces, key, self.clock(), "fetch")
            return old is not None and self.replaced(key, old, value)

    def replaced(self, key: Key, old: HeldLocks, value: bytes) -> bool:
        return self.execute(Transaction(writes=(Put(key, value),))).applied


@broken_store("fast_paths.they_equal_a_transaction", alone=True)
class OverwritesKeepTheTTL(_Fast):
    """A value that is overwritten keeps its TTL."""

    def replaced(self, key: Key, old: HeldLocks, value: bytes) -> bool:
        return self.execute(Transaction(writes=(Put(key, value, keep_ttl=True),))).applied


@broken_store("fast_paths.they_equal_a_transaction", alone=True)
class LongOverwritesOfLongValuesKeepTheTTL(_Fast):
    """A value of more than four kibibytes keeps its TTL when a value of more than four kibibytes overwrites it."""

    def replaced(self, key: Key, old: HeldLocks, value: bytes) -> bool:
        keeps = min(len(old.value), len(value)) > 4096
        return self.execute(Transaction(writes=(Put(key, value, keep_ttl=keeps),))).applied


@broken_store("fast_paths.they_equal_a_transaction")
class LongOverwritesAreCut(_Fast):
    """A value of more than eight kibibytes is cut when it is overwritten."""

    def replaced(self, key: Key, old: HeldLocks, value: bytes) -> bool:
        return super().replaced(key, old, value[:8192])


@broken_store("fast_paths.they_equal_a_transaction")
class OneOverwriteInTwelveIsLost(_Fast):
    """Each twelfth overwriting does nothing and says that it did."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.count = 0

    def replaced(self, key: Key, old: HeldLocks, value: bytes) -> bool:
        self.count += 1
        return self.count % 12 == 0 or super().replaced(key, old, value)


@broken_store("fast_paths.they_equal_a_transaction")
class ExpiredValuesAreOverwritten(_Fast):
    """A value is overwritten whose TTL is over."""

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        with self.lock:
            old = self.space_in(self.spaces, key).get(key.path)
            return old is not None and self.replaced(key, old, value)


class _Statements(SqliteBackend):
    """Overwrites with one statement of its own."""

    statement: ClassVar[str]

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        return self._overwrite((self.statement, value, key))


class _OnStatements(OnSqlite):
    made_of: ClassVar[type[SqliteBackend]]

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.store.close()
        self.store = self.made_of(path)  # type: ignore[misc]

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        return self.store.overwrite(key, value)

    def fetch(self, key: Key, /) -> bytes | None:
        return self.store.fetch(key)


class _Mortal(_Statements):
    statement = statements.OVERWRITE.replace("AND deadline IS NULL ", "")


@broken_shared_store("fast_paths.they_equal_a_transaction")
class ValuesWithATTLAreOverwritten(_OnStatements):
    """The statement that overwrites a value does not look whether it has a TTL."""

    made_of = _Mortal


@broken_shared_store("fast_paths.they_see_other_processes", alone=True)
class FetchesAreRememberedByProcess(OnSqlite):
    """A process remembers what it fetched and has no TTL until it writes itself."""

    remembered: ClassVar[dict[Key, bytes | None]] = {}

    def fetch(self, key: Key, /) -> bytes | None:
        if key not in self.remembered:
            [found] = self.store.execute(Transaction(reads=(Read(key, Scope.NODE, ttls=True),))).answers
            if getattr(found, "ttls", None):
                return self.store.fetch(key)
            self.remembered[key] = self.store.fetch(key)
        return self.remembered[key]

    def execute(self, transaction: Transaction, /) -> Outcome:
        try:
            return super().execute(transaction)
        finally:
            if transaction.writes:
                self.remembered.clear()

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        self.remembered.clear()
        return self.store.overwrite(key, value)


@broken_shared_store("fast_paths.they_see_other_processes")
class OverwritesTrustWhatWasThere(OnSqlite):
    """What a process has overwritten once is put the next time, without a look whether it is still there."""

    known: ClassVar[set[Key]] = set()

    def execute(self, transaction: Transaction, /) -> Outcome:
        if transaction.writes:
            self.known.clear()
        return super().execute(transaction)

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        if key in self.known:
            return super().execute(Transaction(writes=(Put(key, value),))).applied
        if self.store.overwrite(key, value):
            self.known.add(key)
            return True
        return False
