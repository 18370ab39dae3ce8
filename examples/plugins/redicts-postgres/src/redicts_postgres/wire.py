"""Converts transactions to the parameters of the SQL functions, and their results to outcomes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from redicts.errors import InternalError, Unsupported
from redicts.plugin import (
    VALUES,
    Add,
    Answer,
    AnyRead,
    Check,
    Delete,
    Entries,
    Equals,
    Expire,
    Key,
    Names,
    Outcome,
    Path,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    Status,
    Transaction,
    Write,
    ordered_keys,
)

_NONE: Final = -1
"""Means no limit, or no TTL."""

_LONGEST_TTL: Final = 2**62
_LARGEST_LIMIT: Final = 2**62
_MOST_SECTIONS: Final = 64
"""The most sections of a space that a transaction locks one by one. With more, it locks the space."""

_MOST_TOLD: Final = 16
"""The most paths of which a transaction tells. With more, it tells of their sections, or that everything may have
changed."""
_LONGEST_TOLD: Final = 7_000
"""The longest text of a notification. PostgreSQL accepts 7,999 bytes."""

_STATUSES: Final = {"A": Status.APPLIED, "C": Status.CHECK_FAILED, "N": Status.NOT_A_COUNTER}


class Steps:
    """Steps for one of the functions: a list for each part of a step, and the items that some steps have."""

    __slots__ = ("amounts", "details", "highs", "item_keys", "item_ttls", "item_values", "kinds", "lows", "origins")

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.lows: list[bytes] = []
        self.highs: list[bytes] = []
        self.details: list[bytes] = []
        self.amounts: list[int] = []
        self.origins: list[int] = []
        """For each writing step, the index of the first write that it covers."""
        self.item_keys: list[bytes] = []
        self.item_values: list[bytes] = []
        self.item_ttls: list[int] = []

    def add(self, kind: str, limits: tuple[bytes, bytes], detail: bytes = b"", amount: int = _NONE) -> None:
        """Add a step."""
        self.kinds.append(kind)
        self.lows.append(limits[0])
        self.highs.append(limits[1])
        self.details.append(detail)
        self.amounts.append(amount)

    def parameters(self) -> tuple[list[Any], ...]:
        """Return the lists in the order in which the functions take them."""
        return self.kinds, self.lows, self.highs, self.details, self.amounts


def looks_of(checks: Iterable[Check], reads: Iterable[AnyRead], database: int) -> Steps:
    """Return the steps of checks and reads."""
    steps = Steps()
    for check in checks:
        base = ordered_keys.encode(database, check.key)
        if isinstance(check, Equals):
            for path, value in check.entries.items():
                steps.item_keys.append(ordered_keys.encode(database, Key(check.key.space, check.key.path + path)))
                steps.item_values.append(value)
            steps.add("x", ordered_keys.bounds(base, check.scope), amount=len(check.entries))
        else:
            steps.add("f", ordered_keys.bounds(base, check.scope), check.prefix)
    for read in reads:
        base = ordered_keys.encode(database, read.key)
        # One more than the limit tells whether there are more.
        amount = _NONE if read.limit is None else min(read.limit, _LARGEST_LIMIT) + 1
        if isinstance(read, ReadNames):
            low, high = ordered_keys.bounds(base, Scope.BELOW)
            steps.add("n", (low if read.cursor is None else ordered_keys.past(base + read.cursor), high), base, amount)
        else:
            low, high = ordered_keys.bounds(base, read.scope)
            steps.add("r", (low if read.cursor is None else base + read.cursor, high), base, amount)
    return steps


def writes_of(writes: Iterable[Write], database: int) -> Steps:
    """Return the steps of writes. Consecutive puts on distinct keys are one step."""
    steps = Steps()
    group: set[bytes] = set()
    for index, write in enumerate(writes):
        key = ordered_keys.encode(database, write.key)
        if isinstance(write, Put):
            kind = "k" if write.keep_ttl else "p"
            if not group or steps.kinds[-1] != kind or key in group:
                group = set()
                steps.add(kind, (b"", b""), amount=0)
                steps.origins.append(index)
            group.add(key)
            steps.amounts[-1] += 1
            steps.item_keys.append(key)
            steps.item_values.append(write.value)
            steps.item_ttls.append(_ttl(write.ttl))
            continue
        group = set()
        steps.origins.append(index)
        if isinstance(write, Add):
            steps.add("a", ordered_keys.bounds(key, Scope.NODE), key, write.amount)
        elif isinstance(write, PutDocument):
            raise Unsupported("this store does not support documents; put their leaves")
        elif isinstance(write, Expire):
            steps.add("e", ordered_keys.bounds(key, write.scope), amount=_ttl(write.ttl))
        else:
            steps.add("d" if isinstance(write, Delete) else "w", ordered_keys.bounds(key, write.scope))
    return steps


def changed_by(writes: Iterable[Write]) -> list[str]:
    """Return where values change, as the listeners to changes are told: few paths, which include all others."""
    paths = {write.key.path for write in writes if write.key.space == VALUES}
    for depth in (1, 0):
        if len(paths) > _MOST_TOLD:
            paths = {path[:depth] for path in paths}
    return sorted({_told(path) for path in paths})


def _told(path: Path) -> str:
    """Return the text that stands for a path, or for one above it if that is too long for a notification."""
    for part in (path, path[:1]):
        text = ordered_keys.below(b"", part).hex()
        if len(text) <= _LONGEST_TOLD:
            return text
    return ""


def path_told(text: str) -> Path:
    """Return the path that a text of :func:`changed_by` stands for."""
    return ordered_keys.decode(bytes.fromhex(text))


class Locks(NamedTuple):
    """Advisory locks, in ascending order, which prevents deadlocks."""

    numbers: list[int]
    exclusive: list[bool]


def locks_of(transaction: Transaction, session: bytes, store: str, database: int) -> Locks:
    """Return the locks of a transaction that writes.

    A section is the part of a space below one first segment. A transaction locks the sections that it names, shared if
    it does not write there, and their spaces shared. If it names the root of a space, or many of its sections, it locks
    the whole space (Gray et al., "Granularity of locks in a shared data base", VLDB 1975).
    """
    sections: dict[str, dict[str | None, bool]] = {}
    for named, writes in ((transaction.checks, False), (transaction.reads, False), (transaction.writes, True)):
        for each in named:
            space, path = each.key
            names = sections.setdefault(space, {})
            name = path[0] if path else None
            names[name] = names.get(name, False) or writes
    locks = {_number("session", store, session.hex()): True}
    for space, names in sections.items():
        whole = _number("space", store, database, space)
        if None in names or len(names) > _MOST_SECTIONS:
            locks[whole] = any(names.values())
            continue
        locks[whole] = False
        for name, writes in names.items():
            locks[_number("section", store, database, space, name)] = writes
    numbers = sorted(locks)
    return Locks(numbers, [locks[number] for number in numbers])


def _number(*parts: object) -> int:
    text = "\x00".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)


class Reply(NamedTuple):
    """The row that a function returns: the number of items for each read, and all items."""

    status: str
    failed_index: int | None
    counters: list[int]
    counts: list[int]
    found: list[bytes]
    stored: list[bytes]
    ttls: list[int | None]


def outcome_of(reply: Reply, transaction: Transaction) -> Outcome:
    """Return the outcome of a transaction from its reply."""
    if reply.status not in _STATUSES:
        raise InternalError(
            "the server has seen a later request of the same session; processes must not share a session"
        )
    answers: list[Answer] = []
    start = 0
    for read, count in zip(transaction.reads, reply.counts):
        part = slice(start, start + count)
        start += count
        if isinstance(read, ReadNames):
            answers.append(_names(read, reply.found[part]))
        else:
            answers.append(_entries(read, reply.found[part], reply.stored[part], reply.ttls[part]))
    return Outcome(_STATUSES[reply.status], tuple(answers), tuple(reply.counters), reply.failed_index)


def _names(read: ReadNames, found: list[bytes]) -> Names:
    cursor = None
    if read.limit is not None and len(found) > read.limit:
        found = found[: read.limit]
        cursor = found[-1]
    return Names(tuple([ordered_keys.decode(name)[0] for name in found]), cursor)


def _entries(read: Read, found: list[bytes], stored: list[bytes], ttls: list[int | None]) -> Entries:
    cursor = None
    if read.limit is not None and len(found) > read.limit:
        found = found[: read.limit]
        cursor = found[-1]
    paths = [ordered_keys.decode(key) for key in found]
    left: Mapping[Path, int] = {}
    if read.ttls:
        left = {path: ttl for path, ttl in zip(paths, ttls) if ttl is not None}
    return Entries(dict(zip(paths, stored)), left, cursor)


def _ttl(ttl: int | None) -> int:
    return _NONE if ttl is None else min(ttl, _LONGEST_TTL)
