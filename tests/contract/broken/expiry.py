"""Values that have expired, and are still there for somebody."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from redicts.core.minitransaction import Add, Delete, Expire, Key, Outcome, Path, Put, Scope, Status, Transaction, Write
from tests.contract.broken.register import broken_store
from tests.contract.reference_model import DictBackend, HeldLocks, PlainBackend, Spaces


class _Blind(PlainBackend):
    """Does not look at the end of TTLs in some words."""

    blind: ClassVar[frozenset[str]]

    def alive(self, held: HeldLocks, now: float, what: str) -> bool:
        return what in self.blind or super().alive(held, now, what)


@broken_store("ttl.expire_ends_its_scope")
class ExpiredIsReadable(_Blind):
    """Read answers with expired values."""

    blind = frozenset({"Read"})


@broken_store("expired.a_refused_transaction_cannot_bring_it_back")
class ExpiredIsReadableInScopes(DictBackend):
    """Read of a whole scope answers with expired values, though Read of a single key does not."""

    def found(self, spaces: Spaces, key: Key, scope: Scope, now: float, what: str) -> dict[Path, HeldLocks]:
        sees_all = what == "Read" and scope is not Scope.NODE
        return super().found(spaces, key, scope, float("-inf") if sees_all else now, what)


@broken_store("expired.an_expired_value_is_absent")
class ExpiredCountsInEquals(_Blind):
    """Equals sees expired values."""

    blind = frozenset({"Equals"})


@broken_store("expired.an_expired_value_is_absent", alone=True)
class ExpiredCountsInStartsWith(DictBackend):
    """StartsWith of more than exactly a key sees expired values."""

    def found(self, spaces: Spaces, key: Key, scope: Scope, now: float, what: str) -> dict[Path, HeldLocks]:
        sees_all = what == "StartsWith" and scope is not Scope.NODE
        return super().found(spaces, key, scope, float("-inf") if sees_all else now, what)


@broken_store("expired.a_refused_transaction_cannot_bring_it_back")
class ExpiredIsNamed(_Blind):
    """Names of expired values are listed."""

    blind = frozenset({"ReadNames"})


@broken_store("expired.pages_do_not_show_it", alone=True)
class ExpiredIsOnPages(_Blind):
    """Pages hold expired values."""

    blind = frozenset({"Page"})


@broken_store("expired.it_makes_way_for_values_below")
class ExpireRevives(_Blind):
    """Expire gives expired values a new TTL."""

    blind = frozenset({"Expire"})


@broken_store("expired.it_makes_way_for_values_below", alone=True)
class ExpireOfASubtreeRevives(PlainBackend):
    """Expire of a key and all below gives expired values a new TTL."""

    def found(self, spaces: Spaces, key: Key, scope: Scope, now: float, what: str) -> dict[Path, HeldLocks]:
        sees_all = what == "Expire" and scope is Scope.SUBTREE
        return super().found(spaces, key, scope, float("-inf") if sees_all else now, what)


@broken_store("expired.it_makes_way_for_a_value_above", alone=True)
class FreeingTakesWhatIsAbove(DictBackend):
    """A value that is freed takes the values above it along, as a tree removes a node with all that is empty."""

    def free(self, spaces: Spaces, writes: tuple[Write, ...], now: float) -> None:
        for entries in {id(found): found for found in (self.space_in(spaces, write.key) for write in writes)}.values():
            for path in [path for path, held in entries.items() if held.deadline is not None and held.deadline <= now]:
                for depth in range(1, len(path) + 1):
                    entries.pop(path[:depth], None)


@broken_store("expired.keep_ttl_keeps_none_of_it")
class KeepTTLKeepsTheDead(_Blind):
    """Put with keep_ttl over an expired value makes one that has expired."""

    blind = frozenset({"keep_ttl"})


@broken_store("expired.keep_ttl_keeps_none_of_it", alone=True)
class KeepTTLTakesTheNewOne(PlainBackend):
    """Put with keep_ttl and a TTL over an expired value gives it that TTL."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        old = self.space_in(spaces, write.key).get(write.key.path)
        is_over = old is not None and not self.alive(old, now, "")
        super().put(spaces, write._replace(keep_ttl=False) if is_over and write.ttl else write, now)


@broken_store("expired.a_refused_transaction_cannot_bring_it_back")
class UndoingRevives(PlainBackend):
    """When a transaction over expired values is undone, they come back without the TTL they had."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.status is Status.NOT_A_COUNTER:
            for write in transaction.writes:
                held = self.space_in(self.spaces, write.key).get(write.key.path)
                if held is not None and not self.alive(held, now, ""):
                    self.store(self.spaces, write.key, HeldLocks(held.value))
        return outcome


@broken_store("expired.a_refused_transaction_cannot_bring_it_back", alone=True)
class UndoingADeleteRevives(PlainBackend):
    """When a delete of a key and all below is undone, expired values below come back without the TTL they had."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.status is Status.NOT_A_COUNTER:
            for write in transaction.writes:
                if isinstance(write, Delete) and write.scope is Scope.SUBTREE:
                    self._revive(write.key, now)
        return outcome

    def _revive(self, key: Key, now: float) -> None:
        for path, held in self.space_in(self.spaces, key).items():
            if self.relative(path, key.path) and not self.alive(held, now, ""):
                self.store(self.spaces, Key(key.space, path), HeldLocks(held.value))


@broken_store("expired.add_counts_from_zero")
class AddCountsOnFromTheDead(_Blind):
    """Add counts on from an expired value."""

    blind = frozenset({"Add"})


@broken_store("expired.delete_of_it_does_nothing", alone=True)
class DeletingTheDeadFails(DictBackend):
    """Deleting an expired value raises an error."""

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        if write.key.path in self.space_in(spaces, write.key) and self.old(spaces, write.key, now, "") is None:
            raise KeyError(write.key)
        super().delete(spaces, write, now)


@broken_store("expired.delete_of_it_does_nothing")
class TheDeadAreHeirs(DictBackend):
    """When a value goes, what had expired below it is there again."""

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        super().delete(spaces, write, now)
        entries, base = self.space_in(spaces, write.key), write.key.path
        for path, held in list(entries.items()):
            if base and path[: len(base)] == base and not self.alive(held, now, ""):
                entries[path] = HeldLocks(held.value)


class _Timers(DictBackend):
    """Ends TTLs by timers that are set once and never taken back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.timers: list[tuple[float, Key]] = []

    def execute(self, transaction: Transaction, /) -> Outcome:
        now = self.clock()
        for timer in [timer for timer in self.timers if timer[0] <= now]:
            self.timers.remove(timer)
            self.space_in(self.spaces, timer[1]).pop(timer[1].path, None)
        return super().execute(transaction)

    def store(self, spaces: Spaces, key: Key, held: HeldLocks) -> None:
        if held.deadline is not None:
            self.timers.append((held.deadline, key))
        super().store(spaces, key, held)


@broken_store("ttl.ttls_are_the_values_own")
class TimersAreNotTakenBack(_Timers):
    """When the TTL that a value once had would have ended, whatever is there then is deleted."""


@broken_store("expired.put_stores_a_new_value")
class TheKeyStaysDead(PlainBackend):
    """A put over an expired value has expired as well, unless it brings a TTL."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        old = self.space_in(spaces, write.key).get(write.key.path)
        if old is not None and not self.alive(old, now, "") and write.ttl is None and not write.keep_ttl:
            self.store(spaces, write.key, HeldLocks(write.value, old.deadline))
        else:
            super().put(spaces, write, now)


@broken_store("expired.put_stores_a_new_value", alone=True)
class TheNewOneIsFreedWithTheOld(PlainBackend):
    """What frees an expired value later frees the value without a TTL that was put over it meanwhile."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.due: dict[Key, float] = {}

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        old = self.space_in(spaces, write.key).get(write.key.path)
        if old is not None and not self.alive(old, now, "") and write.ttl is None and not write.keep_ttl:
            self.due[write.key] = now
        super().put(spaces, write, now)

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        for key in [key for key, put in self.due.items() if put < now]:
            del self.due[key]
            self.space_in(self.spaces, key).pop(key.path, None)
        return super().decide(transaction, now)


@broken_store("clients.ttls_are_seen_by_all")
class EndlessTTLsAreLong(DictBackend):
    """What Expire makes lasting has a very long TTL."""

    def expire(self, spaces: Spaces, write: Expire, now: float) -> None:
        super().expire(spaces, write._replace(ttl=10**12) if write.ttl is None else write, now)


@broken_store("expired.add_counts_from_zero", alone=True)
class AddKeepsTheDeadlineOfTheDead(DictBackend):
    """Add to an expired value counts from 0, but the sum has the ended TTL of the old value."""

    def add(self, spaces: Spaces, write: Add, now: float) -> int:
        old = self.space_in(spaces, write.key).get(write.key.path)
        total = super().add(spaces, write, now)
        if old is not None and not self.alive(old, now, ""):
            self.store(spaces, write.key, HeldLocks(b"%d" % total, old.deadline))
        return total


@broken_store("expired.it_makes_way_for_values_below")
class OldEndsAreStumbledOver(PlainBackend):
    """Ends of TTLs are kept in a list, and one of a deleted value below which there are others raises an error."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.ends: list[tuple[float, Key]] = []

    def store(self, spaces: Spaces, key: Key, held: HeldLocks) -> None:
        super().store(spaces, key, held)
        if held.deadline is not None:
            self.ends.append((held.deadline, key))

    def free(self, spaces: Spaces, writes: tuple[Write, ...], now: float) -> None:
        super().free(spaces, writes, now)
        for end, key in self.ends:
            entries = spaces.get(key.space, {})
            if end <= now and key.path not in entries and any(path[: len(key.path)] == key.path for path in entries):
                raise KeyError(key)
        self.ends = [(end, key) for end, key in self.ends if end > now]
