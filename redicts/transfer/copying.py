"""Copies a subtree from one store to another, whatever they are."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from redicts.api.opened import OpenedDatabase
from redicts.core.minitransaction import Path
from redicts.core.paths import described
from redicts.errors import LeafError, SettingsError
from redicts.transfer.checkpoints import Checkpoint
from redicts.transfer.leaves import UNREADABLE, Leaf, Page, pages, same
from redicts.transfer.storing import store

MOST_TOLD: Final = 1_000
"""How many leaves that could not be copied are named; the others are counted."""


@dataclass(slots=True)
class Copy:
    """What a copy has done. While it goes on, the numbers grow."""

    resumed: int = 0
    """Leaves that an earlier run, which did not end, has dealt with."""
    stored: int = 0
    """Leaves that this run stored."""
    gone: int = 0
    """Leaves whose TTL ended on the way."""
    skipped: int = 0
    """Leaves that could not be copied, because they are damaged or the target's codec refuses them."""
    reasons: list[str] = field(default_factory=list)
    """Why, for the first thousand of them; each names the path."""

    @property
    def done(self) -> int:
        """How many leaves were dealt with, in earlier runs too."""
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
    """Copy all leaves at and below ``at`` to below ``to`` in another tree, over what is there, and leave the rest.

    ``name`` stands for source, target and both places: a run that did not end is continued by the next one of the same
    name, unless ``restart`` is true. Without ``ttls`` all leaves are kept for ever. ``progress`` is called after each
    batch; what it raises ends the run.

    What others change in the source meanwhile may or may not be copied; see :func:`~redicts.transfer.verify`. Raises
    :class:`~redicts.errors.StoreError` if one of the stores fails, and :class:`~redicts.errors.Unsupported` if leaves
    have lives and the target keeps none.

    Cost: one round trip to each side for every thousand leaves, and memory for so many.
    """
    if source is target and (at[: len(to)] == to or to[: len(at)] == at):
        raise SettingsError("source and target are the same place, or one is below the other")
    mark = Checkpoint(target, name)
    report = Copy()
    cursor: bytes | None = None
    if restart:
        mark.remove()
    elif (state := _understood(mark.load())) is not None:
        cursor, report.resumed, report.skipped = state
    for page in pages(source, at, cursor):
        leaves = _carried(source, target, at, to, page.leaves, report)
        leaves = _alive(page, leaves, report) if ttls else [leaf._replace(ttl=None) for leaf in leaves]
        report.stored += len(leaves)
        done = report.done - report.skipped
        state_now = {"kind": "copy", "cursor": _text(page.cursor), "done": done, "skipped": report.skipped}
        if leaves:
            store(target, to, leaves, mark.saying(state_now))
        if progress is not None:
            progress(report)
    mark.remove()
    return report


def _understood(state: Any) -> tuple[bytes, int, int] | None:
    """Return what a mark says, or ``None`` if it says nothing that is understood."""
    try:
        return base64.b64decode(state["cursor"], validate=True), int(state["done"]), int(state["skipped"])
    except (TypeError, KeyError, ValueError):
        return None


def _text(cursor: bytes | None) -> str | None:
    return None if cursor is None else base64.b64encode(cursor).decode()


def _carried(
    source: OpenedDatabase, target: OpenedDatabase, at: Path, to: Path, leaves: list[Leaf], report: Copy
) -> list[Leaf]:
    """Return the leaves as the target is to store them, without those that it cannot."""
    found = []
    for leaf in leaves:
        try:
            value = source.store.decoded(at + leaf.path, leaf.data)
            data = _written(target, to + leaf.path, value, leaf.data)
        except UNREADABLE as error:
            report.skipped += 1
            if len(report.reasons) < MOST_TOLD:
                report.reasons.append(f"{described(at + leaf.path)} is not copied: {error}")
            continue
        found.append(leaf if data is leaf.data else leaf._replace(data=data))
    return found


def _written(target: OpenedDatabase, path: Path, value: object, data: bytes) -> bytes:
    """Return what the target stores for a value, such that it reads the same value again.

    That is what its own codec writes, if that does not change the value; else the bytes of the source, if the target
    can read them. Raises one of :data:`UNREADABLE` if neither is so.
    """
    refusal = LeafError("the target's codec changes it")
    try:
        own = target.store.encoded(path, value)
        if own == data or same(target.store.decoded(path, own), value):
            return own
    except LeafError as error:
        refusal = error
    try:
        kept = same(target.store.decoded(path, data), value)
    except UNREADABLE:
        kept = False
    if not kept:
        raise refusal
    return data


def _alive(page: Page, leaves: list[Leaf], report: Copy) -> list[Leaf]:
    """Return the leaves with the TTLs that are left now, without those that have none left."""
    if all(leaf.ttl is None for leaf in leaves):
        return leaves
    found = []
    for leaf in leaves:
        ttl = page.ttl_now(leaf)
        if ttl is None or ttl > 0:
            found.append(leaf._replace(ttl=ttl))
        else:
            report.gone += 1
    return found
