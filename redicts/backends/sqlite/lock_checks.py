"""Transactions on records of locks, recognized: the backend executes them with fewer statements than any others.

Records are in spaces of their own, where no documents are. The transaction that acquires a lock checks up to a dozen
scopes, and usually nothing is near any of them. The one that releases it deletes what it checks.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from redicts.backends.sqlite import statements
from redicts.backends.sqlite.keys import LOCK_SPACES, below
from redicts.core.minitransaction import (
    Check,
    Delete,
    Equals,
    Key,
    Scope,
    StartsWith,
    Write,
)
from redicts.core.ordered_keys import CACHED


class ChecksOfLock(NamedTuple):
    """The checks of a lock, prepared: those of each space of records have one prefix and differ in the scope."""

    checks: tuple[Check, ...]
    database: str
    prefix: bytes
    near: str
    """The statement that tells for each space whether any record is near, and its parameters."""
    outer: list[bytes]
    spaces: list[tuple[int, list[bytes]]]
    """The index of the first check of each space, and the bounds of the ranges of all."""


PREPARED: Final[dict[int, ChecksOfLock]] = {}
"""Prepared checks by the identity of the tuple, which they keep: the same lock has the same one each time."""


def prepared(database: str, checks: tuple[Check, ...]) -> ChecksOfLock | None:
    """Prepare several checks, or return ``None`` if they are not those of a lock."""
    first = checks[0]
    if not isinstance(first, StartsWith) or len(checks) > statements.MOST_RANGES:
        return None
    spaces: dict[str, tuple[int, list[bytes]]] = {}
    for index, check in enumerate(checks):
        if not isinstance(check, StartsWith) or check.prefix != first.prefix or check.scope is not Scope.BELOW:
            return None
        if check.key.space[:1] not in LOCK_SPACES:
            return None
        start, ranges = spaces.setdefault(check.key.space, (index, []))
        if len(ranges) != 2 * (index - start):
            return None
        ranges += below(database, check.key)
    if len(spaces) > len(statements.HAVE_ROWS):
        return None
    if len(PREPARED) >= CACHED:
        PREPARED.clear()
    outer = [bound for _, ranges in spaces.values() for bound in (min(ranges), max(ranges))]
    near = statements.HAVE_ROWS[len(spaces) - 1]
    PREPARED[id(checks)] = made = ChecksOfLock(checks, database, first.prefix, near, outer, list(spaces.values()))
    return made


def removed_record(check: Check, write: Write) -> tuple[Key, bytes] | None:
    """Return key and value of the record that a check expects and a write deletes, if it is the same."""
    if (
        isinstance(check, Equals)
        and isinstance(write, Delete)
        and check.scope is write.scope is Scope.NODE
        and check.key == write.key
        and check.key.space[:1] in LOCK_SPACES
        and len(check.entries) == 1
    ):
        return write.key, check.entries[()]
    return None
