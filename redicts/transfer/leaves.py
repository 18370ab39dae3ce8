"""Leaves in transit: read from a store as encoded bytes, in pages or by path."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from redicts.api.opened import OpenedDatabase
from redicts.core.driver import Steps
from redicts.core.minitransaction import VALUES, AnyRead, Entries, Key, Path, Read, Transaction
from redicts.core.sections import by_section
from redicts.errors import CorruptData, LeafError

UNREADABLE: Final = (CorruptData, LeafError)
"""Raised for a leaf that cannot be decoded: it is corrupt, or the settings do not accept its codec."""


class Leaf(NamedTuple):
    """A leaf as its codec wrote it. Its path is relative to the node that is transferred."""

    path: Path
    data: bytes
    ttl: int | None = None
    """The milliseconds that were left when it was read, ``None`` without expiry."""


class Page(NamedTuple):
    """Leaves that were read atomically, and the cursor of the next page, ``None`` after the last one."""

    leaves: list[Leaf]
    cursor: bytes | None
    read_at: float
    """The monotonic time just before the read."""


def pages(database: OpenedDatabase, path: Path, cursor: bytes | None = None) -> Iterator[Page]:
    """Yield all leaves at and below a path, starting at a cursor. Each page is read when it is asked for.

    A leaf that exists throughout comes at least once, and exactly once if nothing is changed meanwhile. One round trip
    per thousand leaves.
    """
    while True:
        read_at = time.monotonic()
        found = database.run(database.store.page(path, cursor))
        leaves = [Leaf(below, data, found.ttls.get(below)) for below, data in found.values.items()]
        cursor = found.cursor
        yield Page(leaves, cursor, read_at)
        if cursor is None:
            return


def count(database: OpenedDatabase, path: Path) -> int:
    """Return how many leaves are at and below a path. One round trip per thousand."""
    return sum(len(page.leaves) for page in pages(database, path))


def read_all(reads: Sequence[AnyRead]) -> Steps[list[Entries]]:
    """Return the answers to reads of values. One transaction."""
    outcome = yield Transaction(reads=tuple(reads))
    return [answer for answer in outcome.answers if isinstance(answer, Entries)]


def leaves_at(paths: Sequence[Path], sharded: bool) -> Steps[list[Leaf | None]]:
    """Return the leaves at exactly these paths, of which there are at most a thousand.

    One transaction, and one for each section of a sharded store.
    """
    reads = [Read(Key(VALUES, path), ttls=True) for path in paths]
    answers: dict[Path, Entries] = {}
    for part in by_section(reads, lambda read: read.key) if sharded else [reads]:
        if part:
            answers.update(zip([read.key.path for read in part], (yield from read_all(part))))
    found = [answers[path] for path in paths]
    return [
        Leaf(path, entries.values[()], entries.ttls.get(())) if () in entries.values else None
        for path, entries in zip(paths, found)
    ]


def ttl_left(ttl: int | None, read_at: float) -> int | None:
    """Return what is left now of a TTL that was read at a monotonic time: 0 or less if the leaf has expired."""
    return None if ttl is None else ttl - int((time.monotonic() - read_at) * 1000)


def same(one: object, other: object) -> bool:
    """Tell whether two values have the same type and are equal; values unequal to themselves, as NaN, by their repr."""
    return type(one) is type(other) and (one == other or repr(one) == repr(other))
