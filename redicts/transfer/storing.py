"""Store batches of leaves, each together with a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from redicts.api.opened import OpenedDatabase
from redicts.core.driver import Steps
from redicts.core.leaves import merging, refuse_root
from redicts.core.minitransaction import VALUES, Key, Path, Put, Status, Transaction, Write
from redicts.core.paths import described, joined
from redicts.core.sections import by_section
from redicts.errors import Unsupported
from redicts.transfer.leaves import Leaf

BATCH: Final = 1_000
"""How many leaves one transaction stores at most."""

BATCH_BYTES: Final = 4 * 2**20
"""How many bytes of values one transaction stores at most, unless it stores a single leaf."""


def store(database: OpenedDatabase, to: Path, leaves: Sequence[Leaf], checkpoint: Write) -> None:
    """Store leaves below a path over what is there, leave the rest, and write a checkpoint into another space.

    A leaf above one of them, or a dict at its path, is replaced, as :meth:`redicts.Proxy.set` does. No leaf of the
    batch lies below another one. One transaction; more if the values are large, or if more must be removed than the
    store changes at once. The last transaction has the checkpoint. On a sharded store, each section has transactions of
    its own, and the checkpoint follows alone, so what is repeated after an interruption is at most one batch.

    Raises what a write raises: :class:`~redicts.errors.StoreError`, and :class:`~redicts.errors.Locked` with mandatory
    locks. Raises :class:`~redicts.errors.Unsupported` if a leaf has a TTL and the store has none.
    """
    if not database.backend.capabilities.ttl:
        for leaf in leaves:
            if leaf.ttl is not None:
                raise Unsupported(
                    f"{described(to + leaf.path)} has a TTL, and the target keeps none; copy without TTLs instead"
                )
    if database.store.sharded:
        for section in by_section(leaves, lambda leaf: Key(VALUES, to + leaf.path)):
            for part in _parts(section):
                database.write(_storing(database, to, part, ()), to)
        database.run(_storing(database, to, (), (checkpoint,)))
        return
    parts = list(_parts(leaves))
    for part in parts:
        also = (checkpoint,) if part is parts[-1] else ()
        database.write(_storing(database, to, part, also), to)


def _parts(leaves: Sequence[Leaf]) -> Iterator[list[Leaf]]:
    """Yield the leaves in parts that one transaction takes."""
    part: list[Leaf] = []
    size = 0
    for leaf in leaves:
        if part and (size + len(leaf.data) > BATCH_BYTES or len(part) >= BATCH):
            yield part
            part, size = [], 0
        part.append(leaf)
        size += len(leaf.data)
    yield part


def _storing(database: OpenedDatabase, to: Path, leaves: Sequence[Leaf], also: tuple[Write, ...]) -> Steps[None]:
    transaction = Transaction(writes=(*_writes(to, leaves), *also))
    if (yield transaction).status is not Status.TOO_LARGE:
        return
    if len(leaves) > 1:
        middle = len(leaves) // 2
        yield from _storing(database, to, leaves[:middle], ())
        yield from _storing(database, to, leaves[middle:], also)
        return
    # The node holds a dict with more leaves than the store changes at once.
    path = joined(to, leaves[0].path)
    yield from database.store.delete(path)
    if not (yield transaction).applied:
        raise Unsupported(f"{described(path)} cannot be stored: the store takes no transaction so large")


def _writes(to: Path, leaves: Sequence[Leaf]) -> Iterator[Write]:
    for leaf in leaves:
        refuse_root(joined(to, leaf.path))
    ttls = {to + leaf.path: leaf.ttl for leaf in leaves}
    for each in merging({leaf.path: leaf.data for leaf in leaves}, to, None):
        yield each._replace(ttl=ttls[each.key.path]) if isinstance(each, Put) else each
