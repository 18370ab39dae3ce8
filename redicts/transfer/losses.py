"""Count what storing leaves would remove, before they are stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from redicts.api.opened import OpenedDatabase
from redicts.core.driver import Steps
from redicts.core.minitransaction import VALUES, Entries, Key, Path, Read, Scope, Status, Transaction
from redicts.core.sections import by_section
from redicts.transfer.leaves import Leaf

_READS: Final = 1_500
"""How many paths one transaction looks at: usually the leaves of a batch and the nodes above them."""

_ENOUGH: Final = 1_000
"""Lost leaves are counted up to about this number in one transaction, because more of them make no difference."""


class Losses:
    """Counts the leaves that a run removes or replaces by others, and tells ``confirm`` before each batch.

    ``confirm`` gets the number so far. What it raises ends the run, before the batch is stored. Where nothing is
    stored when the run begins, nothing is counted.
    """

    def __init__(self, database: OpenedDatabase, to: Path, confirm: Callable[[int], object] | None) -> None:
        self._database = database
        self._to = to
        self._confirm = confirm
        self._lost = 0
        self._begun = False

    def before(self, leaves: Sequence[Leaf]) -> None:
        """Count what storing these leaves would remove."""
        if self._confirm is None:
            return
        if not self._begun:
            self._begun = True
            above = [self._to[:depth] for depth in range(1, len(self._to))]
            if not any(self._database.run(self._database.store.exists(path)) for path in [*above, self._to]):
                self._confirm = None
                return
        lost = self._database.run(_lost(self._to, leaves, self._database.store.sharded))
        if lost:
            self._lost += lost
            self._confirm(self._lost)


def _lost(to: Path, leaves: Sequence[Leaf], sharded: bool) -> Steps[int]:
    """Return how many stored leaves these leaves replace or remove; one that stays the same is not counted."""
    above = {(to + leaf.path)[:depth]: None for leaf in leaves for depth in range(1, len(to + leaf.path))}
    items = [*{to + leaf.path: leaf.data for leaf in leaves}.items(), *above.items()]
    lost = 0
    for part in by_section(items, lambda item: Key(VALUES, item[0])) if sharded else [items]:
        for start in range(0, len(part), _READS):
            lost += yield from _lost_to(part[start : start + _READS])
    return lost


def _lost_to(items: Sequence[tuple[Path, bytes | None]]) -> Steps[int]:
    """Count what bytes at these paths would replace or remove; ``None`` is for a path above them."""
    reads = [Read(Key(VALUES, path), Scope.NODE if data is None else Scope.SUBTREE, 1) for path, data in items]
    answers = yield from _answers(reads)
    if answers is None and len(items) > 1:  # they hold more than the store reads in one transaction
        middle = len(items) // 2
        one = yield from _lost_to(items[:middle])
        return one + (yield from _lost_to(items[middle:]))
    lost = 0
    for (path, data), found in zip(items, answers or [_UNREAD]):
        page: Entries | None = found
        while page is not None and lost < _ENOUGH:
            lost += sum([bool(below) or value != data for below, value in page.values.items()])
            page = None if page.cursor is None else (yield from _page(path, page.cursor or None))
    return lost


_UNREAD: Final = Entries({}, cursor=b"")
"""A page before the first one."""


def _page(path: Path, cursor: bytes | None) -> Steps[Entries | None]:
    answers = yield from _answers([Read(Key(VALUES, path), Scope.SUBTREE, 1_000, cursor)])
    return answers[0] if answers else None


def _answers(reads: Sequence[Read]) -> Steps[list[Entries] | None]:
    """Return the answers, or ``None`` if the store does not read so much in one transaction."""
    outcome = yield Transaction(reads=tuple(reads))
    if outcome.status is Status.TOO_LARGE:
        return None
    return [answer for answer in outcome.answers if isinstance(answer, Entries)]
