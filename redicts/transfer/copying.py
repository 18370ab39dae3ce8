"""Copy a subtree from one database to another, whatever their backends and codecs."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from redicts.api.opened import OpenedDatabase
from redicts.core.locks.records import overlap
from redicts.core.minitransaction import Path
from redicts.core.paths import described
from redicts.errors import LeafError, SettingsError
from redicts.transfer.checkpoints import Checkpoint
from redicts.transfer.leaves import UNREADABLE, Leaf, pages, same, ttl_left
from redicts.transfer.storing import store

_MOST_REASONS: Final = 1_000


@dataclass(slots=True)
class Copy:
    """The progress of a copy, and its result."""

    resumed: int = 0
    """Leaves that an earlier, interrupted run has handled."""
    stored: int = 0
    """Leaves that this run stored."""
    gone: int = 0
    """Leaves that expired before they could be stored."""
    skipped: int = 0
    """Leaves that were not copied: they are corrupt, or the target's codec refuses them."""
    reasons: list[str] = field(default_factory=list)
    """Why leaves were skipped, each with its path; the first thousand."""

    @property
    def done(self) -> int:
        """How many leaves were handled, in earlier runs too."""
        return self.resumed + self.stored + self.gone + self.skipped


def copy(
    source: OpenedDatabase,
    target: OpenedDatabase,
    name: str,
    *,
    at: Path = (),
    to: Path = (),
    ttls: bool = True,
    restart: bool = False,
    progress: Callable[[Copy], object] | None = None,
) -> Copy:
    """Copy all leaves at and below ``at`` to below ``to`` in another database, over what is there; leave the rest.

    ``name`` identifies the copy: source, target and both paths. A run that was interrupted is continued by the next
    one with the same name, unless ``restart`` is true. Without ``ttls`` all leaves are stored without expiry.
    ``progress`` is called after each batch; what it raises ends the run.

    What others change in the source meanwhile may or may not be copied; see :func:`~redicts.transfer.verify`. Raises
    :class:`~redicts.errors.StoreError` if one of the stores fails, and :class:`~redicts.errors.Unsupported` if leaves
    have a TTL and the target keeps none.

    Cost: one round trip to each side and memory for every thousand leaves.
    """
    if source is target:
        refuse_overlap(at, to)
    checkpoint = Checkpoint(name, target.backend.capabilities)
    report = Copy()
    cursor = None
    if restart:
        target.run(checkpoint.remove())
    else:
        cursor = _resume(target.run(checkpoint.load()), report)
    for page in pages(source, at, cursor):
        leaves = _recoded(source, target, at, to, page.leaves, report)
        leaves = [leaf._replace(ttl=ttl_left(leaf.ttl, page.read_at) if ttls else None) for leaf in leaves]
        alive = [leaf for leaf in leaves if leaf.ttl is None or leaf.ttl > 0]
        report.gone += len(leaves) - len(alive)
        report.stored += len(alive)
        if alive:
            after = None if page.cursor is None else base64.b64encode(page.cursor).decode()
            done = report.done - report.skipped
            state = {"kind": "copy", "cursor": after, "done": done, "skipped": report.skipped}
            store(target, to, alive, checkpoint.save(state))
        if progress is not None:
            progress(report)
    target.run(checkpoint.remove())
    return report


def refuse_overlap(at: Path, to: Path) -> None:
    """Raise :class:`~redicts.errors.SettingsError` if one of two paths in one database is a prefix of the other."""
    if overlap(at, to):
        raise SettingsError(
            f"source and target must not overlap within one database: {described(at)} and {described(to)} do"
        )


def _resume(state: Mapping[str, Any], report: Copy) -> bytes | None:
    """Note in the report what an earlier run did, and return its cursor, ``None`` if its state is not valid."""
    try:
        cursor = base64.b64decode(state["cursor"], validate=True)
        report.resumed, report.skipped = int(state["done"]), int(state["skipped"])
    except (TypeError, KeyError, ValueError):
        return None
    return cursor


def _recoded(
    source: OpenedDatabase, target: OpenedDatabase, at: Path, to: Path, leaves: list[Leaf], report: Copy
) -> list[Leaf]:
    """Return the leaves as the target stores them, without those that it cannot store."""
    found = []
    for leaf in leaves:
        try:
            value = source.store.decoded(at + leaf.path, leaf.data)
            found.append(leaf._replace(data=_encoded(target, to + leaf.path, value, leaf.data)))
        except UNREADABLE as error:
            report.skipped += 1
            if len(report.reasons) < _MOST_REASONS:
                report.reasons.append(f"{described(at + leaf.path)} is not copied: {error}")
    return found


def _encoded(target: OpenedDatabase, path: Path, value: object, data: bytes) -> bytes:
    """Return bytes from which the target reads this very value.

    They come from the target's codec if it preserves the value, else they are those of the source if the target can
    read them. Otherwise one of :data:`UNREADABLE` is raised.
    """
    refusal = LeafError("the target's codec changes it")
    try:
        own = target.store.encoded(path, value)
        if own == data or same(target.store.decoded(path, own), value):
            return own
    except LeafError as error:
        refusal = error
    try:
        if same(target.store.decoded(path, data), value):
            return data
    except UNREADABLE:
        pass
    raise refusal
