"""Conditions that are not looked at, or looked at wrongly."""

from __future__ import annotations

from collections.abc import Mapping

from redicts.core.transaction import Check, Exactly, Outcome, Path, Prefixed, Scope, Transaction, Verdict
from tests.contract.broken.register import broken_store
from tests.contract.dicts import DictBackend, Held


@broken_store(
    "checks.one_failed_check_stops_all_writes",
    "checks.checks_come_before_writes",
    "checks.checks_and_reads_see_one_state",
    "counters.a_failed_check_stops_counters",
    "model.the_store_answers_as_the_model",
)
class ChecksIgnored(DictBackend):
    """Checks are not evaluated."""

    def failed(self, checks: tuple[Check, ...], now: float) -> int | None:
        return None


@broken_store("checks.exactly_refuses_extra_entries", "checks.exactly_nothing_says_absent")
class ExtraEntriesIgnored(DictBackend):
    """Exactly is content if the entries are among those that are there."""

    def equal(self, found: Mapping[Path, bytes], wanted: Mapping[Path, bytes]) -> bool:
        return all(found.get(path) == value for path, value in wanted.items())


@broken_store("checks.exactly_refuses_missing_entries")
class MissingEntriesIgnored(DictBackend):
    """Exactly is content if nothing else is there."""

    def equal(self, found: Mapping[Path, bytes], wanted: Mapping[Path, bytes]) -> bool:
        return all(wanted.get(path) == value for path, value in found.items())


@broken_store("checks.exactly_refuses_other_values")
class ValuesNotCompared(DictBackend):
    """Exactly compares which entries there are, and of their values only the lengths."""

    def equal(self, found: Mapping[Path, bytes], wanted: Mapping[Path, bytes]) -> bool:
        return {path: len(value) for path, value in found.items()} == {
            path: len(value) for path, value in wanted.items()
        }


@broken_store("checks.exactly_holds_for_what_is_there")
class LargeScopesNeverMatch(DictBackend):
    """Exactly fails for more than three entries."""

    def equal(self, found: Mapping[Path, bytes], wanted: Mapping[Path, bytes]) -> bool:
        return len(found) <= 3 and found == wanted


@broken_store("checks.exactly_refuses_extra_entries", "checks.exactly_nothing_says_absent")
class ExactlyLooksOnlyAtTheKey(DictBackend):
    """Exactly looks at the key itself, whatever the scope."""

    def covers(self, scope: Scope, relative: Path, what: str) -> bool:
        return not relative and scope is not Scope.BELOW if what == "Exactly" else scope.covers(relative)


@broken_store("checks.prefixed_refuses_foreign_values")
class PrefixedLooksOnlyAtChildren(DictBackend):
    """Prefixed sees direct children, and nothing deeper."""

    def covers(self, scope: Scope, relative: Path, what: str) -> bool:
        return scope.covers(relative) and (what != "Prefixed" or len(relative) < 2)


@broken_store("checks.prefixed_holds_for_free_and_mine")
class PrefixedWantsAValue(DictBackend):
    """Prefixed fails where there is nothing."""

    def holds(self, check: Check, now: float) -> bool:
        found = self.found(self.spaces, check.key, check.scope, now, "Prefixed")
        return super().holds(check, now) and (isinstance(check, Exactly) or bool(found))


@broken_store("checks.prefixed_refuses_foreign_values")
class OneOfMineIsEnough(DictBackend):
    """Prefixed holds if any value in the scope starts with the prefix."""

    def holds(self, check: Check, now: float) -> bool:
        if isinstance(check, Prefixed):
            found = self.found(self.spaces, check.key, check.scope, now, "Prefixed").values()
            return not found or any(held.value.startswith(check.prefix) for held in found)
        return super().holds(check, now)


@broken_store("checks.prefixes_are_bytes")
class PrefixesAreText(DictBackend):
    """Prefixes are compared as text, in which some bytes are all the same."""

    def starts(self, value: bytes, prefix: bytes) -> bool:
        return value.decode(errors="ignore").startswith(prefix.decode(errors="ignore"))


@broken_store("checks.prefixes_are_bytes")
class PrefixesArePatterns(DictBackend):
    """A prefix is taken for a pattern, as LIKE does."""

    def starts(self, value: bytes, prefix: bytes) -> bool:
        size = len(prefix.rstrip(b"%"))
        return len(value) >= size and all(own in (each, ord("_")) for each, own in zip(value, prefix[:size]))


@broken_store("checks.exactly_tells_empty_bytes_from_absent", "reads.values_come_back_as_they_were")
class EmptyMeansAbsent(DictBackend):
    """The empty bytes are taken for no value."""

    def alive(self, held: Held, now: float, what: str) -> bool:
        return bool(held.value) and super().alive(held, now, what)


@broken_store("checks.one_failed_check_stops_all_writes", "model.the_store_answers_as_the_model")
class WrongCulprit(DictBackend):
    """The culprit is counted from one."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.verdict is Verdict.CHECK_FAILED and outcome.culprit is not None:
            return outcome._replace(culprit=outcome.culprit + 1)
        return outcome


@broken_store("checks.checks_come_before_writes")
class ChecksComeLast(DictBackend):
    """Checks look at the state after the writes."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        before = self.spaces
        outcome = super().decide(transaction._replace(checks=()), now)
        culprit = self.failed(transaction.checks, now)
        if culprit is None or not outcome.applied:
            return outcome
        self.spaces = before
        return Outcome(Verdict.CHECK_FAILED, outcome.answers, culprit=culprit)


@broken_store("checks.checks_and_reads_see_one_state", "reads.answers_come_when_a_check_fails")
class NoAnswersOnFailure(DictBackend):
    """No answers come when a check fails."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        return outcome._replace(answers=()) if outcome.verdict is Verdict.CHECK_FAILED else outcome
