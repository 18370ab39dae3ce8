"""Path index of listeners to changes: finds those that a write at, above or below their path concerns.

A backend that tells of changes has one for its process. It holds listeners weakly, so none stays that nobody uses.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import chain
from typing import Any, Final, Protocol
from weakref import ref

from redicts.core.minitransaction import VALUES, Path, Write


class Notified(Protocol):
    """A listener that can be told."""

    def notify(self) -> object:
        """End a wait, the current one or the next."""


_MOST_REMEMBERED: Final = 1024
"""How many paths of writes are remembered with their listeners, because programs write at the same ones again."""


class _Index:
    """The listeners as they were at one version: by path, and by each path at or above theirs."""

    __slots__ = ("_at", "_below", "_remembered", "version")

    def __init__(self, version: object, listeners: Iterable[tuple[Path, Any]]) -> None:
        self.version: Final = version
        self._at: Final[dict[Path, list[Any]]] = {}
        self._below: Final[dict[Path, list[Any]]] = {}
        self._remembered: Final[dict[Path, dict[Any, None]]] = {}
        for path, found in listeners:
            self._at.setdefault(path, []).append(found)
            for depth in range(len(path) + 1):
                self._below.setdefault(path[:depth], []).append(found)

    def concerned_by(self, path: Path) -> dict[Any, None]:
        """Return the listeners that a write at a path concerns."""
        found = self._remembered.get(path)
        if found is None:
            above = [self._at.get(path[:depth], ()) for depth in range(len(path))]
            found = dict.fromkeys(chain(self._below.get(path, ()), *above))
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[path] = found
        return found


class Watchers:
    """The listeners to changes of one process in one database.

    Threads, signal handlers and finalizers may use it at any time: each change is one step. The index is made again
    after a change, when it is needed.

    >>> class Printer:
    ...     def notify(self):
    ...         print("changed")
    >>> watchers, printer = Watchers(), Printer()
    >>> watchers.add(printer, ("garage", "car"))
    >>> watchers.notify([("garage",), ("shop",)])
    changed
    """

    __slots__ = ("_index", "_version", "listeners")

    def __init__(self) -> None:
        self.listeners: Final[dict[int, tuple[Path, Any]]] = {}
        """Weak references to the listeners, with their paths. A writer looks here first: it is false without any."""
        self._version: object = object()
        self._index: _Index | None = None

    def add(self, listener: Notified, path: Path) -> None:
        """Let a listener be told of changes at, above and below a path, until it is discarded or nobody holds it."""
        number = id(listener)
        self.listeners[number] = path, ref(listener, partial(self._forget, number))
        # After the listener is there. An index that was begun before has another version.
        self._version = object()

    def discard(self, listener: Notified) -> None:
        """Forget a listener."""
        self._forget(id(listener))

    def _forget(self, number: int, _: object = None) -> None:
        self.listeners.pop(number, None)
        self._version = object()

    def notify(self, paths: Iterable[Path]) -> None:
        """Notify the listeners that writes at these paths concern."""
        index = self._index
        if index is None or index.version is not self._version:
            index = self._index = _Index(self._version, list(self.listeners.values()))
        found: dict[Any, None] = {}
        for path in paths:
            found.update(index.concerned_by(path))
        _notify(found)

    def notify_all(self) -> None:
        """Notify every listener, because changes may have been missed."""
        _notify([found for _, found in list(self.listeners.values())])

    def all(self) -> list[Any]:
        """Return the listeners."""
        found = [reference() for _, reference in list(self.listeners.values())]
        return [listener for listener in found if listener is not None]


def _notify(references: Iterable[Any]) -> None:
    for reference in references:
        listener = reference()
        if listener is not None:
            listener.notify()


def changed_paths(writes: Iterable[Write]) -> set[Path]:
    """Return the paths in the tree of values at, or below, which these writes change something."""
    return {write.key.path for write in writes if write.key.space == VALUES}
