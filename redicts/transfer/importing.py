"""Import leaves from lines, in batches, and continue after the last batch of an interrupted run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from redicts.api.opened import OpenedDatabase
from redicts.core.minitransaction import Path
from redicts.transfer.checkpoints import Checkpoint
from redicts.transfer.leaves import Leaf
from redicts.transfer.lines import HEAD, IncompleteInput, LineError, parse_line
from redicts.transfer.losses import Losses
from redicts.transfer.storing import BATCH, BATCH_BYTES, store


@dataclass(slots=True)
class Import:
    """The progress of an import, and its result."""

    lines: int = 0
    """Lines that were read, including those that an earlier run handled."""
    bytes: int = 0
    """The bytes of these lines."""
    resumed: int = 0
    """Leaves that an earlier, interrupted run stored."""
    stored: int = 0
    """Leaves that this run stored."""
    entries: int = 0
    """Lines with entries that are not leaves, such as records of locks that were rescued. They are not stored."""
    complete: bool = True
    """False if the input does not have the last line of the format: it was cut off."""

    @property
    def leaves(self) -> int:
        """How many leaves are stored, by earlier runs too."""
        return self.resumed + self.stored


def import_lines(
    database: OpenedDatabase,
    lines: Iterable[bytes],
    to: Path = (),
    *,
    batch: int = BATCH,
    restart: bool = False,
    progress: Callable[[Import], object] | None = None,
    confirm: Callable[[int], object] | None = None,
) -> Import:
    """Store the leaves of lines (see ``redicts.transfer.lines``) below a path, over what is there; leave the rest.

    A run that was interrupted is continued by the next one to the same path whose lines are the same so far, unless
    ``restart`` is true. ``batch`` is how many leaves one transaction stores, 1 to 1,000. ``progress`` is called after
    each batch; what it raises ends the run. ``confirm`` is called before a batch that removes or replaces stored
    leaves, with their number so far; what it raises ends the run.

    Raises :class:`~redicts.transfer.LineError` for a line that is not valid, or if the first line is not that of the
    format: the batches before it are stored, its own is not, and once the line is corrected the next run continues.
    The error says how many leaves are stored. An input whose end is missing is stored, and the result says so. Raises
    :class:`~redicts.errors.StoreError` if the store fails.

    Cost: one round trip and memory for each batch.
    """
    if isinstance(batch, bool) or not 1 <= batch <= BATCH:
        raise ValueError(f"batch must be a number of leaves from 1 to {BATCH}; got {batch!r}")
    importer = _Importer(database, to, batch, progress or (lambda _: None), Losses(database, to, confirm))
    return importer.run(iter(lines), restart=restart)


class _Batch:
    """Leaves that one transaction can store: no path comes twice, and none is above another."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.clear()

    def clear(self) -> None:
        """Start an empty batch."""
        self.leaves: dict[Path, Leaf] = {}
        self._above: set[Path] = set()
        self._bytes = 0

    def takes(self, leaf: Leaf) -> bool:
        """Add a leaf, or return false if the batch must be stored first."""
        above = [leaf.path[:depth] for depth in range(len(leaf.path))]
        if (
            len(self.leaves) >= self._size
            or self._bytes > BATCH_BYTES
            or leaf.path in self.leaves
            or leaf.path in self._above
            or not self.leaves.keys().isdisjoint(above)
        ):
            return False
        self.leaves[leaf.path] = leaf
        self._above.update(above)
        self._bytes += len(leaf.data)
        return True


class _Importer:
    """One run of an import."""

    def __init__(
        self,
        database: OpenedDatabase,
        to: Path,
        batch: int,
        progress: Callable[[Import], object],
        losses: Losses,
    ) -> None:
        self._report = Import()
        self._database = database
        self._to = to
        self._losses = losses
        self._batch = _Batch(batch)
        self._progress = progress
        self._digest = hashlib.sha256()
        self._leaves = 0

    def run(self, lines: Iterator[bytes], *, restart: bool) -> Import:
        """Store the leaves of all lines."""
        first = list(islice(lines, 2))
        # The first line is the same for all inputs; the second tells them apart.
        name = f"import {self._to!r} {hashlib.sha256(b''.join(first)).hexdigest()[:16]}"
        self._checkpoint = Checkpoint(name, self._database.backend.capabilities)
        if restart:
            self._database.run(self._checkpoint.remove())
        unhandled = self._unhandled(chain(first, lines))
        try:
            self._report.complete = self._take(unhandled)
        except LineError as error:
            stored = self._report.leaves
            kept = f"{stored} leaves before it are stored" if stored else "nothing is stored"
            raise type(error)(f"{error}; {kept}") from None
        self._store()
        self._database.run(self._checkpoint.remove())
        return self._report

    def _take(self, lines: Iterator[bytes]) -> bool:
        """Store the leaves of all lines but those of the last batch, and return whether the last line was there."""
        begun, ended = self._report.lines > 0, False
        for text in lines:
            number = self._report.lines + 1
            if ended and text.strip():
                raise LineError(f"line {number} comes after the last line of the format")
            line = parse_line(self._database, text, number, self._to)
            if not (begun or line.head) and text.strip():
                raise IncompleteInput(
                    f"line {number} must be the first one of the format, {json.dumps(HEAD)}; the beginning of the "
                    "input is missing, or it is not an export in lines"
                )
            if line.leaf is not None:
                if not self._batch.takes(line.leaf):
                    self._store()
                    self._batch.takes(line.leaf)
                self._leaves += 1
            elif line.end is not None:
                if line.end != self._leaves:
                    raise LineError(
                        f"line {number} announces {line.end} leaves, and {self._leaves} came before it; the input was "
                        "changed or is incomplete"
                    )
                self._store()  # now, so that no checkpoint is after this line, and the next run finds it again
            self._note(text)
            self._report.entries += line.entry
            begun, ended = begun or line.head, ended or line.end is not None
        if not begun:
            raise IncompleteInput("the input is empty: it does not even have the first line of the format")
        return ended

    def _unhandled(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the lines that no earlier run has handled."""
        state = self._database.run(self._checkpoint.load())
        try:
            handled, leaves, digest = int(state["lines"]), int(state["done"]), str(state["digest"])
        except (TypeError, KeyError, ValueError, OverflowError):
            return lines
        if handled < 0 or leaves < 0:  # something else wrote it
            return lines
        for text in islice(lines, handled):
            self._note(text)
        if self._digest.hexdigest() != digest:
            raise LineError(
                f"the first {handled} lines must be those of the earlier, interrupted run, and differ from them; pass "
                "the same input, or start again with a restart"
            )
        self._report.resumed = self._leaves = leaves
        return lines

    def _note(self, text: bytes) -> None:
        self._report.lines += 1
        self._report.bytes += len(text)
        self._digest.update(text)

    def _store(self) -> None:
        if not self._batch.leaves:
            return
        leaves = list(self._batch.leaves.values())
        self._losses.before(leaves)
        state = {
            "kind": "import",
            "lines": self._report.lines,
            "done": self._leaves,
            "digest": self._digest.hexdigest(),
        }
        store(self._database, self._to, leaves, self._checkpoint.save(state))
        self._report.stored += len(leaves)
        self._batch.clear()
        self._progress(self._report)
