"""Operations on the items directly below a path, for mappings over the tree, as steps without I/O.

An item is a leaf, or an inner node. Of an inner node no value is returned, but an empty dict: so reading one of its
items costs the same, however much is below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from redicts.core.driver import Fetch, Steps
from redicts.core.leaves import ABSENT, clearing_above, leaves_of, nest, replacing
from redicts.core.minitransaction import (
    NOTHING,
    VALUES,
    Delete,
    Entries,
    Equals,
    Key,
    Names,
    Path,
    Read,
    ReadNames,
    Scope,
    Status,
    Transaction,
    Write,
)
from redicts.core.values import ValueOperations
from redicts.randomness import RANDOM

_CHOICE: Final = 100
"""The number of names among which one is chosen to be removed, so that several clients rarely choose the same."""


class ItemOperations(ValueOperations):
    """Operations on items, and those on values: one half of :class:`redicts.core.store.TreeStore`."""

    def item(self, path: Path) -> Steps[object]:
        """Return the leaf at a path, an empty dict for an inner node, or ``ABSENT``. One transaction.

        If the fast path returns the leaf, no transaction is needed.
        """
        if self.fetches is not None:
            data: bytes | None = yield Fetch(Key(VALUES, path))
            if data is not None:
                return self.decoded(path, data)
        return self._item_in((yield from self._first(path)), path)

    def item_or_default(self, path: Path, default: object, ttl: int | None = None) -> Steps[object]:
        """Store a value if nothing is at a path, and return the item that is then there. One transaction."""
        key = Key(VALUES, path)
        leaves = leaves_of(default, path, self._format)
        checks, reads = (Equals(key, Scope.SUBTREE, NOTHING),), (Read(key, Scope.SUBTREE, 1),)
        while True:
            outcome = yield Transaction(checks, reads, replacing(leaves, path, ttl))
            if outcome.applied:
                return self._item_in(Entries(leaves), path)
            item: object = ABSENT
            for answer in outcome.answers:  # there is none if the default is too large
                assert isinstance(answer, Entries)
                item = self._item_in(answer, path)
            if item is ABSENT:
                item = yield from self.item(path)
            if item is not ABSENT:
                return item
            if outcome.status is Status.TOO_LARGE:
                raise self._too_large(path)

    def items(self, path: Path) -> Steps[dict[str, object]]:
        """Return the items directly below a path by name. One transaction per page of the leaves below."""
        found: dict[str, object] = {}
        for below, data in (yield from self.leaves(path)).items():
            if len(below) == 1:
                found[below[0]] = self.decoded(path + below, data)
            elif below:
                found[below[0]] = {}
        return found

    def tree(self, path: Path) -> Steps[dict[str, object]]:
        """Return everything below a path as a dict, which is empty if a leaf or nothing is there.

        One transaction per page.
        """
        leaves = yield from self.leaves(path)
        found = ABSENT if () in leaves else nest(leaves, path, self._format)
        return found if isinstance(found, dict) else {}

    def put_items(self, path: Path, items: Mapping[str, object], ttl: int | None = None) -> Steps[None]:
        """Replace the items of some names, and preserve all others. One transaction."""
        writes: list[Write] = []
        for name, value in items.items():
            at = (*path, name)
            above = clearing_above(at)
            found = replacing(leaves_of(value, at, self._format), at, ttl)
            writes += found[len(above) :] if writes else found  # the leaves above are the same for all
        yield from self._apply(path, tuple(writes))

    def take_any(self, path: Path) -> Steps[tuple[str, object] | None]:
        """Remove one of the items below a path, and return its name and value; ``None`` if there are none.

        Two transactions, and two more each time that another client removed the chosen item meanwhile.
        """
        cursor: bytes | None = None
        while True:
            (answer,) = (yield Transaction(reads=(ReadNames(Key(VALUES, path), _CHOICE, cursor),))).answers
            assert isinstance(answer, Names)
            cursor = answer.cursor
            if answer.names:
                name = RANDOM.choice(answer.names)
                value = yield from self.take((*path, name))
                if value is not ABSENT:
                    return name, value
                cursor = None
            elif cursor is None:
                return None

    def clear_items(self, path: Path) -> Steps[None]:
        """Remove everything below a path. One transaction."""
        yield from self._apply(path, (Delete(Key(VALUES, path), Scope.BELOW),))

    def _item_in(self, found: Entries, path: Path) -> object:
        """Return the item of which these are the first leaves; ``ABSENT`` for none."""
        if not found.values:
            return ABSENT
        return self.decoded(path, found.values[()]) if () in found.values else {}
