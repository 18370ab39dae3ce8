"""Backends whose faults break locks first: in prefixes, siblings, TTLs and counters."""

from __future__ import annotations

import threading
from collections.abc import Callable

from redicts.contract import SharedBackend
from redicts.core.backend import Backend
from redicts.core.minitransaction import (
    Add,
    Check,
    Delete,
    Equals,
    Expire,
    Key,
    Outcome,
    Path,
    Put,
    Scope,
    StartsWith,
    Transaction,
    Write,
)
from tests.contract.broken.register import broken_client, broken_store
from tests.contract.broken.rendezvous import MeetingBackend
from tests.contract.reference_model import DictBackend, HeldLocks, PlainBackend, Spaces

# Checks


@broken_store("conditions.starts_with_compares_its_scope")
class OnlyTheFirstIsChecked(DictBackend):
    """StartsWith looks at the first value that it finds in its scope."""

    def holds(self, check: Check, now: float) -> bool:
        if isinstance(check, Equals):
            return super().holds(check, now)
        found = list(self.found(self.spaces, check.key, check.scope, now, "StartsWith").values())
        return all(self.starts(held.value, check.prefix) for held in found[:1])


@broken_store("conditions.prefixes_are_bytes")
class StartsWithLooksOnlyAtTheKey(DictBackend):
    """StartsWith looks at the key itself, whatever its scope."""

    def covers(self, scope: Scope, relative: Path, what: str) -> bool:
        return scope.covers(relative) and (what != "StartsWith" or not relative)


@broken_store("conditions.prefixes_are_bytes")
class NothingLiesBelowTheRoot(DictBackend):
    """StartsWith of what is below the root finds nothing."""

    def holds(self, check: Check, now: float) -> bool:
        return (isinstance(check, StartsWith) and not check.key.path) or super().holds(check, now)


@broken_store("conditions.one_failed_check_stops_all_writes")
class StartsWithMeansEqual(DictBackend):
    """StartsWith holds if each value is the prefix, and nothing more."""

    def starts(self, value: bytes, prefix: bytes) -> bool:
        return value == prefix


@broken_store("conditions.one_failed_check_stops_all_writes", "conditions.each_of_many_prefixes_is_compared")
class OnlyTheFirstCheckCounts(DictBackend):
    """Of several checks, the first is evaluated."""

    def failed(self, checks: tuple[Check, ...], now: float) -> int | None:
        return super().failed(checks[:1], now)


@broken_store("names.names_are_kept_apart")
class SegmentsAreNothingButGlobs(DictBackend):
    """Segments of a key are patterns that need not match their own text."""

    def relative(self, path: Path, base: Path) -> Path | None:
        odd = any(bracket in segment for segment in base for bracket in "[]")
        return None if odd and path != base else super().relative(path, base)


@broken_store("counters.only_canonical_text_is_a_counter")
class LongValuesAreNeverEqual(DictBackend):
    """Equals fails for values of more than a hundred bytes, as where a column is too short."""

    def holds(self, check: Check, now: float) -> bool:
        if isinstance(check, Equals) and any(len(value) > 100 for value in check.entries.values()):
            return False
        return super().holds(check, now)


@broken_store("conditions.equals_compares_its_scope")
class EqualsSeesTheSiblings(DictBackend):
    """Equals of one key fails where another one lies directly beside it."""

    def holds(self, check: Check, now: float) -> bool:
        if isinstance(check, Equals) and check.scope is Scope.NODE and check.entries:
            beside = self.found(self.spaces, Key(check.key.space, check.key.path[:-1]), Scope.BELOW, now, "")
            return super().holds(check, now) and sum(len(path) == 1 for path in beside) == 1
        return super().holds(check, now)


@broken_store("threads.one_of_many_writers_finds_absence", alone=True)
class ChecksAreEvaluatedEarlier(MeetingBackend):
    """Checks see the state of some time before the writes, and others commit in between."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        with self.lock:
            before = self.written
            checked = self.decide(transaction._replace(writes=()), self.clock())
        if not checked.applied or not transaction.checks or not transaction.writes:
            return super().execute(transaction)
        self.let_others_write(before)
        return super().execute(transaction._replace(checks=()))


# Reads


@broken_store("threads.of_two_transactions_one_sees_the_other", alone=True)
class ReadsAreAnsweredEarlier(MeetingBackend):
    """Reads see the state of some time before the writes, and others commit in between."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        with self.lock:
            before = self.written
            read = self.decide(Transaction(reads=transaction.reads), self.clock())
        if not transaction.reads or not transaction.writes:
            return super().execute(transaction)
        self.let_others_write(before)
        return super().execute(transaction)._replace(answers=read.answers)


# TTLs


@broken_store("clients.ttls_are_seen_by_all")
class PutForgetsTheTTL(DictBackend):
    """A put value has no expiry, whatever its TTL."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        super().put(spaces, write if write.keep_ttl else write._replace(ttl=None), now)


@broken_store("expired.a_refused_transaction_cannot_bring_it_back")
class TTLsAreTheDicts(DictBackend):
    """A TTL that is given to one key is that of all directly beside it."""

    def store(self, spaces: Spaces, key: Key, held: HeldLocks) -> None:
        super().store(spaces, key, held)
        if held.deadline is not None:
            entries = self.space_in(spaces, key)
            for path, other in entries.items():
                if path[:-1] == key.path[:-1]:
                    entries[path] = other._replace(deadline=held.deadline)


class _Touching(DictBackend):
    """Begins TTLs again that something touches."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.given: dict[Key, int] = {}

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        self.given[write.key] = write.ttl or 0
        super().put(spaces, write, now)

    def expire(self, spaces: Spaces, write: Expire, now: float) -> None:
        for path in self.found(spaces, write.key, write.scope, now, "Expire"):
            self.given[Key(write.key.space, write.key.path + path)] = write.ttl or 0
        super().expire(spaces, write, now)

    def touch(self, spaces: Spaces, key: Key, scope: Scope, now: float) -> None:
        for path, held in self.found(spaces, key, scope, now, "").items():
            touched = Key(key.space, key.path + path)
            ttl = self.given.get(touched, 0)
            if held.deadline is not None and ttl:
                self.store(spaces, touched, held._replace(deadline=now + ttl / 1000))


@broken_store("ttl.keep_ttl_keeps_it")
class LookingProlongs(_Touching):
    """A TTL begins again when its value meets a check, as in a cache."""

    def holds(self, check: Check, now: float) -> bool:
        self.touch(self.spaces, check.key, check.scope, now)
        return super().holds(check, now)


@broken_store("ttl.keep_ttl_keeps_it", alone=True)
class KeepTTLOfNothingTakesTheNewOne(PlainBackend):
    """Put with keep_ttl and a TTL gives the TTL to a value where nothing was."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        is_new = write.key.path not in self.space_in(spaces, write.key)
        super().put(spaces, write._replace(keep_ttl=False) if is_new and write.ttl else write, now)


@broken_store("ttl.keep_ttl_keeps_it")
class WritesProlong(_Touching):
    """A write begins again all TTLs in its space."""

    def write(self, spaces: Spaces, write: Write, now: float, counters: list[int]) -> None:
        super().write(spaces, write, now, counters)
        self.touch(spaces, Key(write.key.space, ()), Scope.BELOW, now)


@broken_store("ttl.writes_to_ttls_take_effect_in_order", alone=True)
class TTLsAreNeverShortened(DictBackend):
    """Expire changes a TTL that its transaction has given only if that makes it longer."""

    def expire(self, spaces: Spaces, write: Expire, now: float) -> None:
        stored = self.found(self.spaces, write.key, write.scope, now, "Expire")
        found = self.found(spaces, write.key, write.scope, now, "Expire")
        before = {path: held for path, held in found.items() if stored.get(path) is not held}
        super().expire(spaces, write, now)
        for path, held in before.items():
            new = self.space_in(spaces, write.key)[write.key.path + path].deadline
            if held.deadline is not None and new is not None and new < held.deadline:
                self.store(spaces, Key(write.key.space, write.key.path + path), held)


@broken_store("ttl.expire_ends_its_scope")
class ExpireTakesTheSiblings(DictBackend):
    """Expire of one key gives its TTL to all directly beside it."""

    def expire(self, spaces: Spaces, write: Expire, now: float) -> None:
        super().expire(spaces, write._replace(key=write.key._replace(path=write.key.path[:-1]), scope=Scope.BELOW), now)


# Writes


@broken_store("clients.writes_are_seen_at_once")
class DeleteTakesTheSiblings(DictBackend):
    """Delete of one key deletes all directly beside it as well."""

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        super().delete(spaces, write, now)
        if write.scope is Scope.NODE:
            entries, parent = self.space_in(spaces, write.key), write.key.path[:-1]
            for path in [path for path in entries if path[:-1] == parent]:
                del entries[path]


@broken_store("ttl.ttls_are_the_values_own")
class WhatIsMortalIsNotDeleted(PlainBackend):
    """Delete leaves what has a TTL to its end."""

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        entries = self.space_in(spaces, write.key)
        for relative, held in self.found(spaces, write.key, write.scope, now, "Delete").items():
            if held.deadline is None:
                del entries[write.key.path + relative]


@broken_store("ttl.ttls_are_the_values_own", alone=True)
class TTLsOutlastTheirSpace(PlainBackend):
    """When all of a space is deleted, TTLs stay, and are those of values that are put there next."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.left: dict[Key, float] = {}

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        if not write.key.path:
            for path, held in self.space_in(spaces, write.key).items():
                if held.deadline is not None and held.deadline > now:
                    self.left[Key(write.key.space, path)] = held.deadline
        super().delete(spaces, write, now)

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        super().put(spaces, write, now)
        deadline = self.left.pop(write.key, None)
        if deadline is not None and write.ttl is None:
            self.store(spaces, write.key, HeldLocks(write.value, deadline))


# Counters


@broken_client("clients.writes_are_seen_at_once", of=DictBackend)
class CountersAreTakenInBlocks(SharedBackend):
    """A client takes ten numbers of a counter at a time, and gives them out itself."""

    def __init__(self, shared: Backend) -> None:
        super().__init__(shared)
        self.left: dict[Key, list[int]] = {}
        self.lock = threading.Lock()

    def execute(self, transaction: Transaction, /) -> Outcome:
        with self.lock:
            return self.given_out(transaction)

    def given_out(self, transaction: Transaction) -> Outcome:
        adds = [write for write in transaction.writes if isinstance(write, Add) and write.amount == 1]
        if len(adds) != 1:
            return super().execute(transaction)
        left = self.left.setdefault(adds[0].key, [])
        amount = 0 if left else 10
        writes = [write._replace(amount=amount) if write is adds[0] else write for write in transaction.writes]
        outcome = super().execute(transaction._replace(writes=tuple(writes)))
        if not outcome.applied:
            return outcome
        if amount:
            left += range(outcome.counters[0] - 9, outcome.counters[0] + 1)
        return outcome._replace(counters=(left.pop(0),))


@broken_store("counters.add_counts_from_nothing")
class EveryFifthSumIsThatBefore(DictBackend):
    """Of five Adds, the last is told the sum of the one before it."""

    adds = 0

    def add(self, spaces: Spaces, write: Add, now: float) -> int:
        total = super().add(spaces, write, now)
        self.adds += 1
        return total if self.adds % 5 else total - write.amount


# Calls


@broken_store("listeners.a_client_that_leaves_takes_no_listener_along")
class SomebodyElseIsCalled(DictBackend):
    """Called is who began to listen after the one who is listed."""

    def call(self, names: list[bytes]) -> None:
        listening = [listener.name for listener in self.listeners]
        others = [listening[(listening.index(name) + 1) % len(listening)] for name in names if name in listening]
        super().call([other for name, other in zip(names, others) if other != name])
