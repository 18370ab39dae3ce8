"""Stores a batch of leaves, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from redicts.api.opened import OpenedDatabase
from redicts.core.driver import Steps
from redicts.core.leaves import refuse_root
from redicts.core.minitransaction import Path, Put, Status, Transaction, Write
from redicts.core.paths import described, joined
from redicts.core.plans import merging
from redicts.errors import Unsupported
from redicts.transfer.leaves import Leaf

BATCH: Final = 1_000
"""How many leaves are stored in one transaction at most."""

BATCH_BYTES: Final = 4 * 2**20
"""How many bytes of values they have at most, unless it is a single leaf."""


def store(tree: OpenedDatabase, to: Path, leaves: Sequence[Leaf], mark: Write | None = None) -> None:
    """Store leaves below a path over what is there, and leave the rest, together with a mark in another space.

    What is in their way gives way, as with :meth:`redicts.Proxy.set`. None of the leaves lies below another. One
    transaction; more if the leaves are large, or so much is in their way that the store does not change it at once.
    The mark comes with the last.

    Raises what a write raises: :class:`~redicts.errors.StoreError`, and :class:`~redicts.errors.Locked` with mandatory
    locks.
    """
    if any(leaf.ttl is not None for leaf in leaves) and not tree.backend.capabilities.ttl:
        leaf = next(leaf for leaf in leaves if leaf.ttl is not None)
        raise Unsupported(f"{described(to + leaf.path)} has a TTL, and the target keeps none; leave lives out")
    for number, part in enumerate(parts := list(_parts(leaves))):
        tree.write(_storing(tree, to, part, mark if number == len(parts) - 1 else None), to)


def _parts(leaves: Sequence[Leaf]) -> list[list[Leaf]]:
    """Return the leaves in parts that are not too large for one transaction."""
    parts: list[list[Leaf]] = [[]]
    size = 0
    for leaf in leaves:
        size += len(leaf.data)
        if parts[-1] and (size > BATCH_BYTES or len(parts[-1]) >= BATCH):
            parts.append([])
            size = len(leaf.data)
        parts[-1].append(leaf)
    return parts


def _storing(tree: OpenedDatabase, to: Path, leaves: Sequence[Leaf], mark: Write | None) -> Steps[None]:
    also = () if mark is None else (mark,)
    outcome = yield Transaction((), (), (*_writes(to, leaves), *also))
    if outcome.status is not Status.TOO_LARGE:
        return
    if len(leaves) > 1:
        middle = len(leaves) // 2
        yield from _storing(tree, to, leaves[:middle], None)
        yield from _storing(tree, to, leaves[middle:], mark)
        return
    # A tree of others is in its way, larger than what the store changes at once.
    yield from tree.store.delete(joined(to, leaves[0].path))
    outcome = yield Transaction((), (), (*_writes(to, leaves), *also))
    if not outcome.applied:
        raise Unsupported(f"{described(to + leaves[0].path)} cannot be stored: the store takes no transaction so large")


def _writes(to: Path, leaves: Sequence[Leaf]) -> list[Write]:
    ttls: dict[Path, int] = {leaf.path: leaf.ttl for leaf in leaves if leaf.ttl is not None}
    for leaf in leaves:
        refuse_root(joined(to, leaf.path))
    writes: list[Write] = []
    for each in merging({leaf.path: leaf.data for leaf in leaves}, to, None):
        if isinstance(each, Put) and ttls:
            ttl = ttls.get(each.key.path[len(to) :])
            writes.append(each._replace(ttl=ttl))
        else:
            writes.append(each)
    return writes
