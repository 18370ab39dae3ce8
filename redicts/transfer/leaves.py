"""Leaves on their way: as they lie in a store, a page at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from redicts.api.opened import OpenedDatabase
from redicts.core.minitransaction import Path
from redicts.errors import CorruptData, LeafError

UNREADABLE: Final = (CorruptData, LeafError)
"""What is raised for a leaf that cannot be decoded: it is no value, or the settings do not let it be read."""


class Leaf(NamedTuple):
    """A leaf with its path below the place that is moved, as bytes of the codec that wrote it."""

    path: Path
    data: bytes
    ttl: int | None = None
    """How many milliseconds were left when it was read; ``None`` for ever."""


class Page(NamedTuple):
    """Some leaves that were read atomically, and the cursor of those that follow, if any."""

    leaves: list[Leaf]
    cursor: bytes | None
    read_at: float
    """A time on the monotonic clock before which none of them was read."""

    def ttl_now(self, leaf: Leaf) -> int | None:
        """Return the TTL of a leaf of this page that is left now, 0 or less if it is over; ``None`` for ever."""
        if leaf.ttl is None:
            return None
        return leaf.ttl - int((time.monotonic() - self.read_at) * 1000)


def pages(tree: OpenedDatabase, path: Path, cursor: bytes | None = None) -> Iterator[Page]:
    """Yield all leaves at and below a path, page by page, from a cursor on. One round trip each, when it is asked for.

    Each leaf that is there all the time comes at least once, and once only if nobody changes anything meanwhile.
    """
    while True:
        read_at = time.monotonic()
        found = tree.run(tree.store.page(path, cursor))
        ttls = found.ttls
        leaves = [Leaf(below, data, ttls.get(below)) for below, data in found.values.items()]
        cursor = found.cursor
        yield Page(leaves, cursor, read_at)
        if cursor is None:
            return


def same(one: object, other: object) -> bool:
    """Tell whether two values are equal and of one type; what is not equal to itself, as NaN, is compared as text."""
    return type(one) is type(other) and (one == other or repr(one) == repr(other))


def count(tree: OpenedDatabase, path: Path) -> int:
    """Return how many leaves are at and below a path. One round trip per thousand."""
    return sum(len(page.leaves) for page in pages(tree, path))
