"""Compares two subtrees, leaf by leaf, whatever stores they are in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from redicts.api.opened import OpenedDatabase
from redicts.core.minitransaction import VALUES, Entries, Key, Path, Read, Status, Transaction
from redicts.core.paths import described
from redicts.errors import InternalError
from redicts.transfer.leaves import UNREADABLE, Leaf, count, pages, same

_MOST_TOLD: Final = 100

_SLACK: Final = 5_000
"""Milliseconds: what has less life left than this may be over on one side and not yet on the other."""


@dataclass(slots=True)
class Verification:
    """What a comparison found. ``source`` and ``target`` are numbers of leaves."""

    source: int = 0
    target: int = 0
    equal: int = 0
    missing: int = 0
    """Leaves of the source that the target does not have."""
    different: int = 0
    """Leaves whose values differ, or of which one has a TTL and the other none."""
    ending: int = 0
    """Leaves that the target does not have, and whose TTL in the source is over within seconds."""
    paths: list[str] = field(default_factory=list)
    """The first hundred of those that are missing or different."""

    @property
    def extra(self) -> int:
        """How many leaves of the target have none in the source beside them."""
        return max(0, self.target - self.equal - self.different)

    @property
    def holds(self) -> bool:
        """Whether everything of the source is in the target."""
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
    """Compare all leaves at and below ``at`` in one tree with those below ``to`` in another, and count both.

    Values are compared as Python compares them, with their types at the top; of lives only whether there is one, and
    with ``ttls`` false not even that. ``progress`` is called after each page.

    Raises :class:`~redicts.errors.StoreError` if one of the stores fails.

    Cost: one round trip to the source and two to the target for every thousand leaves, and memory for so many.
    """
    found = Verification()
    for page in pages(source, at):
        found.source += len(page.leaves)
        others = _there(target, [to + leaf.path for leaf in page.leaves])
        for leaf, other in zip(page.leaves, others):
            _compare(source, target, at, to, leaf, other, ttls, found)
        if progress is not None:
            progress(found)
    found.target = count(target, to)
    return found


def _there(tree: OpenedDatabase, wanted: list[Path]) -> list[Leaf | None]:
    """Return what is at some paths. One transaction, more if the store does not read so many at once."""
    if not wanted:
        return []
    outcome = tree.backend.execute(Transaction((), tuple([Read(Key(VALUES, path), ttls=True) for path in wanted])))
    if outcome.status is Status.TOO_LARGE:
        middle = len(wanted) // 2
        if not middle:
            raise InternalError("the store does not read a single leaf in a transaction")
        return _there(tree, wanted[:middle]) + _there(tree, wanted[middle:])
    found: list[Leaf | None] = []
    for path, answer in zip(wanted, outcome.answers):
        assert isinstance(answer, Entries)
        data = answer.values.get(())
        found.append(None if data is None else Leaf(path, data, answer.ttls.get(())))
    return found


def _compare(
    source: OpenedDatabase,
    target: OpenedDatabase,
    at: Path,
    to: Path,
    leaf: Leaf,
    other: Leaf | None,
    ttls: bool,
    found: Verification,
) -> None:
    if other is None:
        if leaf.ttl is not None and leaf.ttl < _SLACK:
            found.ending += 1
            return
        found.missing += 1
    elif (not ttls or (leaf.ttl is None) is (other.ttl is None)) and _same(source, target, at, to, leaf, other):
        found.equal += 1
        return
    else:
        found.different += 1
    if len(found.paths) < _MOST_TOLD:
        found.paths.append(described(at + leaf.path))


def _same(source: OpenedDatabase, target: OpenedDatabase, at: Path, to: Path, leaf: Leaf, other: Leaf) -> bool:
    try:
        one = source.store.decoded(at + leaf.path, leaf.data)
        two = target.store.decoded(to + leaf.path, other.data)
    except UNREADABLE:
        return False
    return same(one, two)
