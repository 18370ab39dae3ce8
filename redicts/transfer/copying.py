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
from redicts.errors import SettingsError
from redicts.transfer.checkpoints import Checkpoint
from redicts.transfer.leaves import UNREADABLE, Leaf, pages, same, ttl_left
from redicts.transfer.losses import Losses
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
    """Leaves that were not copied: they are signed for their path, and cannot be signed for another one."""
    reasons: list[str] = field(default_factory=list)
    """Why leaves were skipped, each with its path; the first thousand."""
    foreign: dict[str, int] = field(default_factory=dict)
    """How many leaves this run stored whose codec the settings of the target do not accept, by the codec's name."""

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
    confirm: Callable[[int], object] | None = None,
) -> Copy:
    """Copy all leaves at and below ``at`` to below ``to`` in another database, over what is there; leave the rest.

    Stored bytes are copied as they are, without being decoded, also those of codecs, types and keys that this process
    lacks. Leaves are decoded in two cases: if the target does not accept their codec, its own writes them where it
    preserves the value; if their codec signs them for their path and the paths differ, they are signed again.

    ``name`` identifies the copy: source, target and both paths. A run that was interrupted is continued by the next
    one with the same name, unless ``restart`` is true. Without ``ttls`` all leaves are stored without expiry.
    ``progress`` is called after each batch; what it raises ends the run. ``confirm`` is called before a batch that
    removes or replaces leaves of the target, with their number so far; what it raises ends the run.

    What others change in the source meanwhile may or may not be copied; see :func:`~redicts.transfer.verify`. Raises
    :class:`~redicts.errors.StoreError` if one of the stores fails, and :class:`~redicts.errors.Unsupported` if leaves
    have a TTL and the target keeps none.

    Cost: one round trip to each side and memory for every thousand leaves; with ``confirm``, about one more to a
    target that has something at ``to``.
    """
    if source is target:
        refuse_overlap(at, to)
    checkpoint = Checkpoint(name, target.backend.capabilities)
    report = Copy()
    losses = Losses(target, to, confirm)
    cursor = None
    if restart:
        target.run(checkpoint.remove())
    else:
        cursor = _resume(target.run(checkpoint.load()), report)
    for page in pages(source, at, cursor):
        leaves = _moved(source, target, at, to, page.leaves, report)
        leaves = [leaf._replace(ttl=ttl_left(leaf.ttl, page.read_at) if ttls else None) for leaf in leaves]
        alive = [leaf for leaf in leaves if leaf.ttl is None or leaf.ttl > 0]
        losses.before(alive)
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
    except (TypeError, KeyError, ValueError, OverflowError):
        return None
    return cursor


def _moved(
    source: OpenedDatabase, target: OpenedDatabase, at: Path, to: Path, leaves: list[Leaf], report: Copy
) -> list[Leaf]:
    """Return the leaves as the target stores them, without those that nothing could read there."""
    found = []
    for leaf in leaves:
        name, wrote = source.store.form.codec_of(leaf.data)
        accepted = target.store.form.codec_of(leaf.data)[1] is not None
        bound = at != to and wrote is not None and wrote.binds_path
        if bound or (wrote is not None and not accepted):
            data = _recoded(source, target, at + leaf.path, to + leaf.path, leaf.data)
            if data is not None:
                found.append(leaf._replace(data=data))
                continue
        if bound:
            report.skipped += 1
            if len(report.reasons) < _MOST_REASONS:
                report.reasons.append(
                    f"{described(at + leaf.path)} is not copied: the codec {name} signs it for its path; let {name} "
                    "be the codec of the target and give both stores its keys, or copy it to the same path"
                )
            continue
        if not accepted:
            report.foreign[name] = report.foreign.get(name, 0) + 1
        found.append(leaf)
    return found


def _recoded(source: OpenedDatabase, target: OpenedDatabase, at: Path, to: Path, data: bytes) -> bytes | None:
    """Return bytes from which the target reads the value of a leaf at another path; ``None`` if its codec has none."""
    try:
        value = source.store.decoded(at, data)
        own = target.store.encoded(to, value)
        return own if own == data or same(target.store.decoded(to, own), value) else None
    except UNREADABLE:
        return None
