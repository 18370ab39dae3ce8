"""Validation of outcomes: the properties of every answer, whatever the transaction."""

from __future__ import annotations

from collections.abc import Mapping

from redicts.contract.requirements import CheckFailed, require, shortened
from redicts.core.minitransaction import (
    SMALL_PAGE,
    Add,
    Answer,
    AnyRead,
    Entries,
    Names,
    Outcome,
    Path,
    Read,
    Status,
    Transaction,
)


def examine_form(transaction: Transaction, outcome: Outcome) -> None:
    """Raise ``CheckFailed`` if the outcome is not a valid one for the transaction."""
    if not isinstance(outcome, Outcome):
        raise CheckFailed(f"execute must return an Outcome, got {shortened(outcome)}")
    require(isinstance(outcome.status, Status), f"the status must be a Status, got {outcome.status!r}")
    _examine_failed_index(transaction, outcome)
    _examine_counters(transaction, outcome)
    expected = 0 if outcome.status is Status.TOO_LARGE else len(transaction.reads)
    if not isinstance(outcome.answers, tuple):
        raise CheckFailed(f"the answers must be a tuple, got {shortened(outcome.answers)}")
    require(
        len(outcome.answers) == expected,
        f"{len(outcome.answers)} answers for {len(transaction.reads)} reads, status {outcome.status.name}",
    )
    for read, answer in zip(transaction.reads, outcome.answers):
        _examine_answer(read, answer)


def entries_of(answer: Answer) -> Entries:
    """Return a validated answer to a :class:`Read`."""
    assert isinstance(answer, Entries)
    return answer


def names_of(answer: Answer) -> Names:
    """Return a validated answer to a :class:`ReadNames`."""
    assert isinstance(answer, Names)
    return answer


def _examine_failed_index(transaction: Transaction, outcome: Outcome) -> None:
    failed_index = outcome.failed_index
    if outcome.status is Status.APPLIED:
        require(failed_index is None, f"an applied transaction has the failed index {failed_index!r}")
    elif outcome.status is Status.CHECK_FAILED:
        known = isinstance(failed_index, int) and 0 <= failed_index < len(transaction.checks)
        require(known, f"the failed index {failed_index!r} is not an index among {len(transaction.checks)} conditions")
    elif outcome.status is Status.NOT_A_COUNTER:
        adds = [index for index, write in enumerate(transaction.writes) if isinstance(write, Add)]
        require(
            failed_index in adds,
            f"the failed index {failed_index!r} is not the index of an Add among the writes (those: {adds})",
        )


def _examine_counters(transaction: Transaction, outcome: Outcome) -> None:
    adds = sum(isinstance(write, Add) for write in transaction.writes)
    expected = adds if outcome.applied else 0
    if not isinstance(outcome.counters, tuple):
        raise CheckFailed(f"the counters must be a tuple, got {shortened(outcome.counters)}")
    require(
        len(outcome.counters) == expected,
        f"{len(outcome.counters)} counters for {adds} Adds, status {outcome.status.name}",
    )
    if not all(type(each) is int for each in outcome.counters):
        raise CheckFailed(f"the counters must be integers, got {shortened(outcome.counters)}")


def _examine_answer(read: AnyRead, answer: Answer) -> None:
    if isinstance(read, Read):
        if not isinstance(answer, Entries):
            raise CheckFailed(f"a Read was answered by {shortened(answer)}")
        _examine_entries(read, answer)
        size = len(answer.values)
    else:
        if not isinstance(answer, Names):
            raise CheckFailed(f"a ReadNames was answered by {shortened(answer)}")
        _examine_names(answer)
        size = len(answer.names)
    if read.limit is None:
        require(answer.cursor is None, f"a read without a limit was answered with the cursor {answer.cursor!r}")
    else:
        most = max(read.limit, SMALL_PAGE)
        require(size <= most, f"a page of {size} for the limit {read.limit}; it may hold {most}")
        require(answer.cursor is None or isinstance(answer.cursor, bytes), f"the cursor {answer.cursor!r} is not bytes")


def _examine_entries(read: Read, answer: Entries) -> None:
    # Most answers are as they should be, so texts are made for the others only.
    if not isinstance(answer.values, Mapping):
        raise CheckFailed(f"the values must be a mapping, got {shortened(answer.values)}")
    for path, value in answer.values.items():
        if not _is_path(path):
            raise CheckFailed(f"a path in an answer must be a tuple of non-empty text, got {shortened(path)}")
        if not read.scope.covers(path):
            raise CheckFailed(f"the path {shortened(path)} is outside the scope {read.scope.name}")
        if not isinstance(value, bytes):
            raise CheckFailed(f"a value in an answer must be bytes, got {shortened(value)}")
    if not isinstance(answer.ttls, Mapping):
        raise CheckFailed(f"the TTLs must be a mapping, got {shortened(answer.ttls)}")
    require(read.ttls or not answer.ttls, "a read without ttls was answered with TTLs")
    for path, ttl in answer.ttls.items():
        if path not in answer.values:
            raise CheckFailed(f"a TTL without a value, at {shortened(path)}")
        if type(ttl) is not int or ttl < 1:
            raise CheckFailed(f"a remaining TTL must be a positive integer, got {ttl!r}")


def _examine_names(answer: Names) -> None:
    names = answer.names
    if not isinstance(names, tuple):
        raise CheckFailed(f"the names must be a tuple, got {shortened(names)}")
    if not all(isinstance(name, str) and name for name in names):
        raise CheckFailed(f"the names must be non-empty text, got {shortened(names)}")
    if len(set(names)) != len(names):
        raise CheckFailed(f"the names must be distinct, got {shortened(names)}")


def _is_path(path: Path) -> bool:
    return isinstance(path, tuple) and all(isinstance(segment, str) and segment for segment in path)
