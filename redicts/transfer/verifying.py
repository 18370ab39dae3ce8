"""Compare two subtrees leaf by leaf, whatever databases they are in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from redicts.api.opened import OpenedDatabase
from redicts.core.minitransaction import Path
from redicts.core.paths import described
from redicts.transfer.leaves import UNREADABLE, Leaf, count, leaves_at, pages, same

_MOST_PATHS: Final = 100

_ENDING: Final = 5_000
"""A leaf with a shorter TTL, in milliseconds, may have expired on one side and not yet on the other."""


@dataclass(slots=True)
class Verification:
    """The result of a comparison: numbers of leaves, and the paths of those that differ."""

    source: int = 0
    target: int = 0
    equal: int = 0
    missing: int = 0
    """Leaves of the source that the target does not have."""
    different: int = 0
    """Leaves whose values differ, or of which only one has a TTL."""
    ending: int = 0
    """Leaves that the target does not have, and that expire in the source within seconds."""
    paths: list[str] = field(default_factory=list)
    """The first hundred of the leaves that are missing or different."""

    @property
    def extra(self) -> int:
        """How many leaves of the target have no counterpart in the source."""
        return max(0, self.target - self.equal - self.different)

    @property
    def holds(self) -> bool:
        """Whether the target has every leaf of the source."""
        return self.missing == self.different == 0


def verify(
    source: OpenedDatabase,
    target: OpenedDatabase,
    *,
    at: Path = (),
    to: Path = (),
    ttls: bool = True,
    progress: Callable[[Verification], object] | None = None,
) -> Verification:
    """Compare all leaves at and below ``at`` in one database with those below ``to`` in another, and count both.

    Leaves are equal if their stored bytes are; only others are decoded. Their values are equal if Python says so and
    their types are the same. Of TTLs only their presence is compared, and without ``ttls`` not even that. ``progress``
    is called after each page.

    Raises :class:`~redicts.errors.StoreError` if one of the stores fails.

    Cost: one round trip to the source, two to the target, and memory for every thousand leaves.
    """
    found = Verification()
    for page in pages(source, at):
        found.source += len(page.leaves)
        others = target.run(leaves_at([to + leaf.path for leaf in page.leaves], target.store.sharded))
        for leaf, other in zip(page.leaves, others):
            if other is None and leaf.ttl is not None and leaf.ttl < _ENDING:
                found.ending += 1
                continue
            if other is not None and _are_equal(source, target, at, leaf, other, ttls=ttls):
                found.equal += 1
                continue
            found.missing += other is None
            found.different += other is not None
            if len(found.paths) < _MOST_PATHS:
                found.paths.append(described(at + leaf.path))
        if progress is not None:
            progress(found)
    found.target = count(target, to)
    return found


def _are_equal(
    source: OpenedDatabase, target: OpenedDatabase, at: Path, leaf: Leaf, other: Leaf, *, ttls: bool
) -> bool:
    if ttls and (leaf.ttl is None) is not (other.ttl is None):
        return False
    if leaf.data == other.data:
        codec = source.store.form.codec_of(leaf.data)[1]
        if at + leaf.path == other.path or codec is None or not codec.binds_path:
            return True
    try:
        one = source.store.decoded(at + leaf.path, leaf.data)
        return same(one, target.store.decoded(other.path, other.data))
    except UNREADABLE:
        return False
