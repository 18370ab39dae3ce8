"""TTLs that are lost, kept, given or told wrongly."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import ceil

from redicts.core.minitransaction import (
    Add,
    Delete,
    Entries,
    Expire,
    Key,
    Outcome,
    Path,
    Put,
    Read,
    Scope,
    Status,
    Transaction,
    Write,
)
from tests.contract.broken.register import broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import DictBackend, HeldLocks, PlainBackend, Spaces


@broken_store("clients.ttls_are_seen_by_all")
class TTLsAreSeconds(DictBackend):
    """TTLs are cut to whole seconds, and what is cut to none has no expiry."""

    def deadline(self, ttl: int | None, now: float) -> float | None:
        return None if ttl is None or ttl < 1000 else now + ttl // 1000 + 1


@broken_store("ttl.a_ttl_may_be_a_century", alone=True)
class TTLsEndAtSomeTime(PlainBackend):
    """A TTL ends after 2**31 milliseconds at the latest."""

    def deadline(self, ttl: int | None, now: float) -> float | None:
        return super().deadline(None if ttl is None else min(ttl, 2**31), now)


@broken_store("ttl.a_ttl_may_be_a_century")
class RemainingTTLsAreSeconds(DictBackend):
    """Remaining TTLs are told in seconds."""

    def remaining(self, deadline: float, now: float) -> int:
        return max(1, round(deadline - now))


@broken_store("ttl.remaining_ttls_are_never_more_than_given", alone=True)
class RemainingTTLsAreRoundedUp(PlainBackend):
    """Remaining TTLs are rounded up, and with them the error of floating point numbers."""

    def remaining(self, deadline: float, now: float) -> int:
        return ceil((deadline - now) * 1000)


@broken_store("clients.ttls_are_seen_by_all", "pages.pages_tell_ttls")
class TTLsOfTheKeyOnly(DictBackend):
    """TTLs are told of the key itself, not of what is below it."""

    def entries(self, read: Read, now: float) -> Entries:
        answer = super().entries(read, now)
        return answer._replace(ttls={path: ttl for path, ttl in answer.ttls.items() if not path})


@broken_store("pages.pages_tell_ttls")
class PagesTellNoTTLs(PlainBackend):
    """TTLs are told in complete answers only."""

    def entries(self, read: Read, now: float) -> Entries:
        return super().entries(read if read.limit is None else read._replace(ttls=False), now)


@broken_store("pages.pages_tell_ttls", alone=True)
class LaterPagesTellNoTTLs(PlainBackend):
    """TTLs are told in complete answers and first pages only."""

    def entries(self, read: Read, now: float) -> Entries:
        return super().entries(read if read.cursor is None else read._replace(ttls=False), now)


@broken_store("expired.an_expired_value_is_absent")
class TTLsAreAlwaysTold(DictBackend):
    """TTLs are told without being asked for."""

    def entries(self, read: Read, now: float) -> Entries:
        return super().entries(read._replace(ttls=True), now)


@broken_store("ttl.writes_to_ttls_take_effect_in_order")
class PutKeepsTheOldTTL(DictBackend):
    """Put leaves the TTL that the old value had, and looks for a TTL of its own only in place of one."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        old = self.old(spaces, write.key, now, "")
        keep = old is not None and old.deadline is not None
        super().put(spaces, write._replace(keep_ttl=True) if keep else write, now)


@broken_store("ttl.keep_ttl_keeps_it")
class KeepTTLIsIgnored(DictBackend):
    """Put with keep_ttl makes the value persistent."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        super().put(spaces, write._replace(ttl=None, keep_ttl=False) if write.keep_ttl else write, now)


@broken_store("ttl.keep_ttl_keeps_it")
class KeepTTLLooksAtTTL(DictBackend):
    """Put with keep_ttl gives a new value the TTL that stands beside it."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        keep = write.keep_ttl and self.old(spaces, write.key, now, "") is not None
        super().put(spaces, write._replace(keep_ttl=keep), now)


@broken_store("ttl.keep_ttl_keeps_it")
class TheFirstOfSeveralKeepsItsTTL(DictBackend):
    """Of several puts with keep_ttl of a transaction, the first one keeps the TTL."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        self.kept = 0
        return super().decide(transaction, now)

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        self.kept += write.keep_ttl
        super().put(spaces, write._replace(ttl=None, keep_ttl=False) if self.kept > 1 else write, now)


@broken_shared_store("ttl.keep_ttl_keeps_it", alone=True)
class OneOfADictKeepsItsTTL(OnSqlite):
    """Of puts with keep_ttl of one dict that follow each other, the last one keeps the TTL."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        writes = list(transaction.writes)
        for index, (write, after) in enumerate(pairwise(transaction.writes)):
            if not (isinstance(write, Put) and isinstance(after, Put) and write.keep_ttl and after.keep_ttl):
                continue
            if write.key.path[:-1] == after.key.path[:-1] != ():
                writes[index] = write._replace(ttl=None, keep_ttl=False)
        return super().execute(transaction._replace(writes=tuple(writes)))


@broken_store("clients.ttls_are_seen_by_all")
class AddDropsTheTTL(DictBackend):
    """A counter that is added to has no expiry."""

    def add(self, spaces: Spaces, write: Add, now: float) -> int:
        total = super().add(spaces, write, now)
        self.store(spaces, write.key, HeldLocks(b"%d" % total))
        return total


@broken_store("ttl.expire_ends_its_scope")
class ExpireTakesOnlyTheKey(DictBackend):
    """Expire looks at the key itself, whatever the scope."""

    def expire(self, spaces: Spaces, write: Expire, now: float) -> None:
        super().expire(spaces, write._replace(scope=Scope.NODE), now)


@broken_store("ttl.expire_ends_its_scope", alone=True)
class ExpireBelowTakesTheKey(PlainBackend):
    """Expire of what is below a key gives the key a TTL as well."""

    def covers(self, scope: Scope, relative: Path, what: str) -> bool:
        return scope.covers(relative) or (what == "Expire" and scope is Scope.BELOW)


@broken_store("clients.ttls_are_seen_by_all")
class ExpireWithNoneDoesNothing(DictBackend):
    """Expire with None leaves TTLs as they are."""

    def expire(self, spaces: Spaces, write: Expire, now: float) -> None:
        if write.ttl is not None:
            super().expire(spaces, write, now)


@broken_store("ttl.ttls_are_the_values_own")
class DeleteLeavesTheTTL(DictBackend):
    """A value put after a delete has the TTL of the one deleted, unless it brings one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.left: dict[Key, float | None] = {}

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        super().put(spaces, write, now)
        deadline = self.left.pop(write.key, None)
        if deadline is not None and write.ttl is None:
            self.store(spaces, write.key, HeldLocks(write.value, deadline))

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        old = self.old(spaces, write.key, now, "")
        self.left[write.key] = None if old is None else old.deadline
        super().delete(spaces, write, now)


@broken_store("ttl.a_refused_transaction_changes_no_ttl")
class TTLsAreNotUndone(DictBackend):
    """When a counter is refused, TTLs that were given before it stay given."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.status is Status.NOT_A_COUNTER:
            before = transaction.writes[: outcome.failed_index]
            super().decide(Transaction(writes=tuple(write for write in before if isinstance(write, Expire))), now)
        return outcome


@broken_store("expired.pages_do_not_show_it")
class OnlySomeTTLsEnd(DictBackend):
    """Of a hundred TTLs and more in one space, only the first hundred ever end."""

    def alive(self, held: HeldLocks, now: float, what: str) -> bool:
        if super().alive(held, now, what):
            return True
        mortal = [other for entries in self.spaces.values() for other in entries.values() if other.deadline is not None]
        return len(mortal) > 100 and held in mortal[100:]


@broken_store("ttl.expire_ends_its_scope", alone=True)
class LongTTLsAreNotShortened(PlainBackend):
    """Expire of a value leaves a TTL that is longer, if it was there before the transaction."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        return super().execute(_never_shortened(super().execute, transaction))


@broken_shared_store("ttl.expire_ends_its_scope", alone=True)
class LongTTLsInAFileAreNotShortened(OnSqlite):
    """Expire of a value leaves a TTL that is longer, if it was there before the transaction."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        return super().execute(_never_shortened(super().execute, transaction))


def _never_shortened(execute: Callable[[Transaction], Outcome], transaction: Transaction) -> Transaction:
    """Leave out each Expire of a key whose TTL is longer."""
    writes: list[Write] = []
    for write in transaction.writes:
        if isinstance(write, Expire) and write.scope is Scope.NODE and write.ttl is not None:
            [answer] = execute(Transaction(reads=(Read(write.key, ttls=True),))).answers
            assert isinstance(answer, Entries)
            if answer.ttls.get((), 0) > write.ttl:
                continue
        writes.append(write)
    return transaction._replace(writes=tuple(writes))


@broken_store("ttl.keep_ttl_keeps_it")
class LongValuesKeepNoTTL(PlainBackend):
    """Put with keep_ttl of a value of more than four kibibytes, which is stored elsewhere, makes it persistent."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        super().put(spaces, write._replace(keep_ttl=write.keep_ttl and len(write.value) <= 4096), now)


@broken_shared_store("ttl.keep_ttl_keeps_it")
class LongPathsKeepNoTTL(OnSqlite):
    """Put with keep_ttl at a path that is stored by its digest makes the value persistent."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        writes = [
            Put(write.key, write.value) if isinstance(write, Put) and write.keep_ttl and _is_long(write.key) else write
            for write in transaction.writes
        ]
        return super().execute(transaction._replace(writes=tuple(writes)))


def _is_long(key: Key) -> bool:
    return sum(map(len, key.path)) > 440
