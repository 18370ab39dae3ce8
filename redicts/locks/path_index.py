"""What lies at paths, found by paths that overlap with theirs, whatever else there is."""

from __future__ import annotations

from typing import Generic, TypeVar

from redicts.core.minitransaction import Path

_Item = TypeVar("_Item")


class Overlaps(Generic[_Item]):
    """Items at paths. Adding, removing and finding cost in proportion to the depth, and to what is found."""

    __slots__ = ("_at", "_below")

    def __init__(self) -> None:
        self._at: dict[Path, list[_Item]] = {}
        self._below: dict[Path, list[_Item]] = {}

    def add(self, path: Path, item: _Item) -> None:
        """Put an item at a path."""
        self._at.setdefault(path, []).append(item)
        for depth in range(len(path)):
            self._below.setdefault(path[:depth], []).append(item)

    def remove(self, path: Path, item: _Item) -> None:
        """Take an item away from a path."""
        _remove(self._at, path, item)
        for depth in range(len(path)):
            _remove(self._below, path[:depth], item)

    def above(self, path: Path) -> list[_Item]:
        """Return what is at a path or above it."""
        if not self._at:
            return []
        return [item for depth in range(len(path) + 1) for item in self._at.get(path[:depth], ())]

    def overlapping(self, path: Path) -> list[_Item]:
        """Return what is above, at or below a path; what lies below it at several paths, several times."""
        return [*self.above(path), *self._below.get(path, ())]


def _remove(items: dict[Path, list[_Item]], path: Path, item: _Item) -> None:
    found = items[path]
    found.remove(item)
    if not found:
        del items[path]
