"""Conditions that are not looked at, or looked at wrongly."""

from __future__ import annotations

from collections.abc import Mapping

from redicts.core.minitransaction import (
    RECORDS,
    Check,
    Delete,
    Entries,
    Equals,
    Outcome,
    Path,
    Read,
    Scope,
    StartsWith,
    Status,
    Transaction,
)
from tests.contract.broken.register import broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import DictBackend, HeldLocks, PlainBackend


@broken_store("conditions.one_failed_check_stops_all_writes")
class ChecksIgnored(DictBackend):
    """Checks are not evaluated."""

    def failed(self, checks: tuple[Check, ...], now: float) -> int | None:
        return None


@broken_store("conditions.equals_compares_its_scope")
class ExtraEntriesIgnored(DictBackend):
    """Equals is content if the entries are among those that are there."""

    def equal(self, found: Mapping[Path, bytes], wanted: Mapping[Path, bytes]) -> bool:
        return all(found.get(path) == value for path, value in wanted.items())


@broken_store("conditions.equals_compares_its_scope")
class MissingEntriesIgnored(PlainBackend):
    """Equals is content if nothing else is there."""

    def equal(self, found: Mapping[Path, bytes], wanted: Mapping[Path, bytes]) -> bool:
        return all(wanted.get(path) == value for path, value in found.items())


@broken_store("conditions.equals_compares_its_scope", alone=True)
class SomeOfThemAreEnough(PlainBackend):
    """Equals is content if some of the values are there and nothing else."""

    def equal(self, found: Mapping[Path, bytes], wanted: Mapping[Path, bytes]) -> bool:
        return bool(found) == bool(wanted) and all(wanted.get(path) == value for path, value in found.items())


@broken_store("conditions.equals_compares_its_scope")
class EntriesOutsideAreOverlooked(PlainBackend):
    """Equals passes over the entries that are outside of its scope."""

    def holds(self, check: Check, now: float) -> bool:
        if isinstance(check, Equals):
            inside = {path: value for path, value in check.entries.items() if check.scope.covers(path)}
            check = check._replace(entries=inside)
        return super().holds(check, now)


@broken_store("conditions.equals_compares_its_scope")
class OneValueIsThatOfTheKey(PlainBackend):
    """Equals with one value compares it with the one that is there, wherever they are."""

    def equal(self, found: Mapping[Path, bytes], wanted: Mapping[Path, bytes]) -> bool:
        if len(found) == len(wanted) == 1:
            return list(found.values()) == list(wanted.values())
        return super().equal(found, wanted)


@broken_store("conditions.equals_compares_its_scope")
class ValuesNotCompared(DictBackend):
    """Equals compares which entries there are, and of their values only the lengths."""

    def equal(self, found: Mapping[Path, bytes], wanted: Mapping[Path, bytes]) -> bool:
        return {path: len(value) for path, value in found.items()} == {
            path: len(value) for path, value in wanted.items()
        }


@broken_store("conditions.equals_compares_its_scope")
class LargeScopesNeverMatch(DictBackend):
    """Equals fails for more than three entries."""

    def equal(self, found: Mapping[Path, bytes], wanted: Mapping[Path, bytes]) -> bool:
        return len(found) <= 3 and found == wanted


@broken_store("conditions.equals_compares_its_scope")
class EqualsLooksOnlyAtTheKey(DictBackend):
    """Equals looks at the key itself, whatever the scope."""

    def covers(self, scope: Scope, relative: Path, what: str) -> bool:
        return not relative and scope is not Scope.BELOW if what == "Equals" else scope.covers(relative)


@broken_store("conditions.starts_with_compares_its_scope")
class StartsWithLooksOnlyAtChildren(DictBackend):
    """StartsWith sees direct children, and nothing deeper."""

    def covers(self, scope: Scope, relative: Path, what: str) -> bool:
        return scope.covers(relative) and (what != "StartsWith" or len(relative) < 2)


@broken_store("conditions.starts_with_compares_its_scope")
class StartsWithWantsAValue(DictBackend):
    """StartsWith fails where there is nothing."""

    def holds(self, check: Check, now: float) -> bool:
        found = self.found(self.spaces, check.key, check.scope, now, "StartsWith")
        return super().holds(check, now) and (isinstance(check, Equals) or bool(found))


@broken_store("conditions.starts_with_compares_its_scope", alone=True)
class OneOfMineIsEnough(PlainBackend):
    """StartsWith holds if any value in the scope starts with the prefix."""

    def holds(self, check: Check, now: float) -> bool:
        if isinstance(check, StartsWith):
            found = self.found(self.spaces, check.key, check.scope, now, "StartsWith").values()
            return not found or any(held.value.startswith(check.prefix) for held in found)
        return super().holds(check, now)


@broken_store("conditions.starts_with_compares_its_scope", alone=True)
class StartsWithGivesUp(PlainBackend):
    """StartsWith fails where there are more than three hundred values."""

    def holds(self, check: Check, now: float) -> bool:
        found = self.found(self.spaces, check.key, check.scope, now, "StartsWith")
        return super().holds(check, now) and (isinstance(check, Equals) or len(found) <= 300)


@broken_shared_store("conditions.starts_with_compares_its_scope", alone=True)
class StartsWithTakesAPage(OnSqlite):
    """StartsWith compares a page of values, and those behind it only if one of the page starts otherwise."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        checks = tuple([check for check in transaction.checks if not self.starts(check)])
        return super().execute(transaction._replace(checks=checks))

    def starts(self, check: Check) -> bool:
        if isinstance(check, Equals):
            return False
        page = self.store.execute(Transaction(reads=(Read(check.key, check.scope, 150),))).answers[0]
        starts = isinstance(page, Entries) and all(value.startswith(check.prefix) for value in page.values.values())
        return starts and page.cursor is not None


@broken_store("conditions.prefixes_are_bytes", alone=True)
class PrefixesAreText(DictBackend):
    """Prefixes are compared as text, in which some bytes are all the same."""

    def starts(self, value: bytes, prefix: bytes) -> bool:
        return value.decode(errors="ignore").startswith(prefix.decode(errors="ignore"))


@broken_store("conditions.prefixes_are_bytes")
class PrefixesArePatterns(DictBackend):
    """A prefix is taken for a pattern, as LIKE does."""

    def starts(self, value: bytes, prefix: bytes) -> bool:
        size = len(prefix.rstrip(b"%"))
        return len(value) >= size and all(own in (each, ord("_")) for each, own in zip(value, prefix[:size]))


@broken_store("conditions.equals_compares_its_scope", "reads.values_come_back_as_they_were")
class EmptyMeansAbsent(DictBackend):
    """The empty bytes are taken for no value."""

    def alive(self, held: HeldLocks, now: float, what: str) -> bool:
        return bool(held.value) and super().alive(held, now, what)


@broken_store("conditions.one_failed_check_stops_all_writes")
class WrongFailedIndex(DictBackend):
    """The failed index is counted from one."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.status is Status.CHECK_FAILED and outcome.failed_index is not None:
            return outcome._replace(failed_index=outcome.failed_index + 1)
        return outcome


@broken_store("conditions.one_failed_check_stops_all_writes")
class ChecksComeLast(DictBackend):
    """Checks look at the state after the writes."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        before = self.spaces
        outcome = super().decide(transaction._replace(checks=()), now)
        failed_index = self.failed(transaction.checks, now)
        if failed_index is None or not outcome.applied:
            return outcome
        self.spaces = before
        return Outcome(Status.CHECK_FAILED, outcome.answers, failed_index=failed_index)


@broken_store("reads.answers_come_with_any_status")
class NoAnswersOnFailure(DictBackend):
    """No answers come when a check fails."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        return outcome._replace(answers=()) if outcome.status is Status.CHECK_FAILED else outcome


@broken_store("conditions.each_of_many_prefixes_is_compared", alone=True)
class SixPrefixesAreCompared(PlainBackend):
    """Of several StartsWith with one prefix, the first six are compared."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        checks = transaction.checks
        if len(checks) > 6 and all(isinstance(check, StartsWith) for check in checks):
            transaction = transaction._replace(checks=checks[:6])
        return super().execute(transaction)


class _FewAreAlike(OnSqlite):
    """Takes two to sixteen StartsWith for ones that differ in nothing but their keys."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        checks = transaction.checks
        if 1 < len(checks) <= 16 and isinstance(checks[0], StartsWith):
            alike = [self.like(checks[0], each) if isinstance(each, StartsWith) else each for each in checks]
            transaction = transaction._replace(checks=tuple(alike))
        return super().execute(transaction)

    def like(self, first: StartsWith, other: StartsWith) -> StartsWith:
        return other._replace(prefix=first.prefix)


@broken_shared_store("conditions.each_of_many_prefixes_is_compared", alone=True)
class FewPrefixesAreTakenForOne(_FewAreAlike):
    """A few StartsWith are compared with the prefix of the first one."""


@broken_shared_store("conditions.each_of_many_prefixes_is_compared")
class FewScopesAreTakenForBelow(_FewAreAlike):
    """A few StartsWith are compared with what is below their keys, and not with the values at them."""

    def like(self, first: StartsWith, other: StartsWith) -> StartsWith:
        return other._replace(scope=Scope.BELOW)


@broken_shared_store("conditions.each_of_many_prefixes_is_compared", alone=True)
class PrefixesOfOneSpaceAreCompared(OnSqlite):
    """Of several StartsWith, those in the space of the first one are compared."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        checks = transaction.checks
        if len(checks) > 1 and all(isinstance(check, StartsWith) for check in checks):
            checks = tuple([check for check in checks if check.key.space == checks[0].key.space])
        return super().execute(transaction._replace(checks=checks))


@broken_store("conditions.what_is_expected_can_be_deleted", alone=True)
class ExpectedValuesAreDeletedByTheirBeginning(PlainBackend):
    """A condition on what the first write deletes compares as many bytes as the shorter of both values has."""

    def failed(self, checks: tuple[Check, ...], now: float) -> int | None:
        found = super().failed(checks, now)
        writes = self.under_way.writes
        if found == 0 and isinstance(checks[0], Equals) and writes and isinstance(writes[0], Delete):
            check = checks[0]
            old = self.old(self.spaces, check.key, now, "Equals")
            if old is not None and writes[0].key == check.key and check.entries.get((), b"?").startswith(old.value):
                return None
        return found

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        self.under_way = transaction
        return super().decide(transaction, now)


@broken_shared_store("conditions.what_is_expected_can_be_deleted", alone=True)
class ConditionsOnWhatIsDeletedAreIgnored(OnSqlite):
    """A transaction that deletes what its only condition expects is applied, whether or not the condition holds."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if len(transaction.checks) == 1 and len(transaction.writes) == 2:
            check, write = transaction.checks[0], transaction.writes[0]
            if isinstance(check, Equals) and isinstance(write, Delete) and (check.key, check.scope) == write:
                transaction = transaction._replace(checks=())
        return super().execute(transaction)


@broken_shared_store("conditions.what_is_expected_can_be_deleted", alone=True)
class ConditionsBesideWhatIsDeletedAreIgnored(OnSqlite):
    """Of two conditions, of which the first is on what the first write deletes, only that one is compared."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if len(transaction.checks) == 2 and transaction.writes:
            check, write = transaction.checks[0], transaction.writes[0]
            if isinstance(check, Equals) and isinstance(write, Delete) and (check.key, check.scope) == write:
                transaction = transaction._replace(checks=(check,))
        return super().execute(transaction)


@broken_shared_store("conditions.what_is_expected_can_be_deleted", alone=True)
class ReadsFollowTheDeleteOfWhatIsExpected(OnSqlite):
    """A transaction that deletes what its only condition expects answers its reads afterwards."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        if outcome.applied and transaction.reads and len(transaction.checks) == 1:
            check, write = transaction.checks[0], next(iter(transaction.writes), None)
            if isinstance(check, Equals) and isinstance(write, Delete) and (check.key, check.scope) == write:
                outcome = outcome._replace(answers=super().execute(Transaction(reads=transaction.reads)).answers)
        return outcome


@broken_shared_store("conditions.what_is_expected_can_be_deleted", alone=True)
class WritesBeforeTheDeleteOfWhatIsExpectedAreLost(OnSqlite):
    """Of two writes, of which the second deletes what the only condition expects, the first is left out."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if len(transaction.checks) == 1 and len(transaction.writes) == 2 and not transaction.reads:
            check, write = transaction.checks[0], transaction.writes[1]
            if isinstance(check, Equals) and isinstance(write, Delete) and (check.key, check.scope) == write:
                transaction = transaction._replace(writes=(write,))
        return super().execute(transaction)


@broken_shared_store("conditions.one_failed_check_stops_all_writes", alone=True)
class PrefixesInBetweenAreSkipped(OnSqlite):
    """Between two StartsWith of one prefix, one of another prefix is not compared."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        checks = transaction.checks
        if len(checks) > 4 and isinstance(checks[2], StartsWith) and isinstance(checks[4], StartsWith):
            between = checks[3]
            if isinstance(between, StartsWith) and between.prefix != checks[2].prefix == checks[4].prefix:
                checks = (*checks[:3], *checks[4:])
        return super().execute(transaction._replace(checks=checks))


@broken_store("conditions.starts_with_compares_its_scope")
class LongValuesStartOtherwise(PlainBackend):
    """StartsWith compares the number under which a value of more than a kibibyte is stored elsewhere."""

    def starts(self, value: bytes, prefix: bytes) -> bool:
        return super().starts(value if len(value) <= 1024 else b"17", prefix)


@broken_store("conditions.each_of_many_prefixes_is_compared", alone=True)
class OtherKindsOfSpacesAreNotCompared(PlainBackend):
    """A StartsWith in a record space holds if one before it has the same prefix and scope in a space of values."""

    def failed(self, checks: tuple[Check, ...], now: float) -> int | None:
        asked: set[tuple[Scope, bytes]] = set()
        for index, check in enumerate(checks):
            skipped = False
            if isinstance(check, StartsWith) and check.key.space[:1] in RECORDS:
                skipped = (check.scope, check.prefix) in asked
            elif isinstance(check, StartsWith):
                asked.add((check.scope, check.prefix))
            if not skipped and not self.holds(check, now):
                return index
        return None
