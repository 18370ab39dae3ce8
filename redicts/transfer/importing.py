"""Stores the leaves that lines speak of, a batch at a time, and goes on where an earlier run ended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from redicts.api.opened import OpenedDatabase
from redicts.core.minitransaction import Path
from redicts.transfer.checkpoints import Checkpoint
from redicts.transfer.leaves import Leaf
from redicts.transfer.lines import Line, LineError, understood
from redicts.transfer.storing import BATCH, BATCH_BYTES, store


@dataclass(slots=True)
class Import:
    """What an import has done. While it goes on, the numbers grow."""

    lines: int = 0
    """Lines that were read, in earlier runs too."""
    bytes: int = 0
    """And their bytes."""
    resumed: int = 0
    """Leaves that an earlier run, which did not end, has stored."""
    stored: int = 0
    """Leaves that this run stored."""
    complete: bool = True
    """Whether the last line was there, if the first one was: else the input was cut off."""

    @property
    def leaves(self) -> int:
        """All leaves that were in the lines."""
        return self.resumed + self.stored


class _Batch:
    """Leaves that can be stored together: none is above another, and none comes twice."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.clear()

    def clear(self) -> None:
        """Begin again."""
        self.leaves: dict[Path, Leaf] = {}
        self._above: set[Path] = set()
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether it is to be stored before another leaf comes."""
        return len(self.leaves) >= self._size or self._bytes > BATCH_BYTES

    def takes(self, leaf: Leaf) -> bool:
        """Take a leaf, or tell that it cannot be stored together with those that are in here."""
        above = [leaf.path[:depth] for depth in range(len(leaf.path))]
        if leaf.path in self.leaves or leaf.path in self._above or not self.leaves.keys().isdisjoint(above):
            return False
        self.leaves[leaf.path] = leaf
        self._above.update(above)
        self._bytes += len(leaf.data)
        return True


def import_lines(
    tree: OpenedDatabase,
    lines: Iterable[bytes],
    to: Path = (),
    *,
    batch: int = BATCH,
    restart: bool = False,
    progress: Callable[[Import], object] | None = None,
) -> Import:
    """Store the leaves of lines (see ``redicts.transfer.lines``) below a path, over what is there; leave the rest.

    A run that did not end is continued by the next one to the same place whose lines are the same so far, unless
    ``restart`` is true. ``batch`` is how many leaves are stored in one transaction, 1 to 1,000.

    Raises :class:`~redicts.transfer.lines.LineError` for a line that is wrong: batches before it are stored, nothing of
    its own is, and with the line put right the next run goes on. Raises :class:`~redicts.errors.StoreError` if the
    store fails.

    Cost: one round trip for each batch, and memory for one.
    """
    if isinstance(batch, bool) or not 1 <= batch <= BATCH:
        raise ValueError(f"a batch is a number of leaves from 1 to {BATCH}, not {batch!r}")
    return _Importer(tree, to, batch, restart, progress or (lambda _: None)).run(iter(lines))


class _Importer:
    """One run."""

    def __init__(
        self, tree: OpenedDatabase, to: Path, size: int, restart: bool, progress: Callable[[Import], object]
    ) -> None:
        self.report = Import()
        self._tree = tree
        self._to = to
        self._batch = _Batch(size)
        self._restart = restart
        self._progress = progress
        self._digest = hashlib.sha256()
        self._leaves = 0

    def run(self, lines: Iterator[bytes]) -> Import:
        """Store all lines."""
        first = list(islice(lines, 2))
        # Two lines tell one input from another: the first is the same for all.
        self._mark = Checkpoint(self._tree, f"import {self._to!r} {hashlib.sha256(b''.join(first)).hexdigest()[:16]}")
        if self._restart:
            self._mark.remove()
        begun = ended = False
        for text in self._unknown(chain(first, lines)):
            begun, ended = self._take(text, begun, ended)
        self._store()
        self._mark.remove()
        self.report.complete = ended or not begun
        return self.report

    def _unknown(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the lines that no earlier run has dealt with."""
        state = _understood(self._mark.load())
        if state is not None:
            known, leaves, digest = state
            for text in islice(lines, known):
                self._note(text)
            if self._digest.hexdigest() != digest:
                raise LineError(
                    f"the first {known} lines are not those of the earlier run, which did not end; to begin again, ask "
                    "for a restart"
                )
            self.report.resumed = self._leaves = leaves
        yield from lines

    def _take(self, text: bytes, begun: bool, ended: bool) -> tuple[bool, bool]:
        """Deal with one line, and tell whether the first and the last one were there by now."""
        number = self.report.lines + 1
        if ended and text.strip():
            raise LineError(f"line {number} comes after the last one")
        line = understood(self._tree, text, number, self._to) if text.strip() else Line()
        if line.leaf is not None:
            if self._batch.full or not self._batch.takes(line.leaf):
                self._store()
                self._batch.takes(line.leaf)
            self._leaves += 1
        elif line.end is not None and line.end != self._leaves:
            raise LineError(
                f"line {number} says that there are {line.end} leaves, and there were {self._leaves}; the input was "
                "changed or is incomplete"
            )
        self._note(text)
        return begun or line.head, ended or line.end is not None

    def _note(self, text: bytes) -> None:
        self.report.lines += 1
        self.report.bytes += len(text)
        self._digest.update(text)

    def _store(self) -> None:
        if not self._batch.leaves:
            return
        leaves = list(self._batch.leaves.values())
        state = {"kind": "import", "lines": self.report.lines, "done": self._leaves, "digest": self._digest.hexdigest()}
        store(self._tree, self._to, leaves, self._mark.saying(state))
        self.report.stored += len(leaves)
        self._batch.clear()
        self._progress(self.report)


def _understood(state: Any) -> tuple[int, int, str] | None:
    """Return what a mark says, or ``None`` if it says nothing that is understood."""
    try:
        return int(state["lines"]), int(state["done"]), str(state["digest"])
    except (TypeError, KeyError, ValueError):
        return None
