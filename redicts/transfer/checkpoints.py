"""The mark of how far a piece of work has come: kept in the target, and written with each batch that it speaks of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from redicts.api.opened import OpenedDatabase
from redicts.core.minitransaction import Delete, Entries, Key, Put, Read, Scope, Transaction, Write

SPACE: Final = "c"
"""The space of the marks: nothing in it is a value of the tree."""

TTL: Final = 7 * 24 * 3600 * 1000
"""A mark is forgotten after a week, in milliseconds; the work then begins from its start, which does no harm."""

_ROOT: Final = Key(SPACE, ())


class Checkpoint:
    """The mark of one piece of work, by its name, in the store that it writes to."""

    def __init__(self, tree: OpenedDatabase, name: str) -> None:
        self._tree = tree
        self._key = Key(SPACE, (name,))
        self._ttl = TTL if tree.backend.capabilities.ttl else None

    def load(self) -> Mapping[str, Any] | None:
        """Return what was last said, or ``None``. One round trip."""
        (answer,) = self._tree.backend.execute(Transaction((), (Read(self._key),))).answers
        assert isinstance(answer, Entries)
        data = answer.values.get(())
        try:
            found = None if data is None else json.loads(data)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def saying(self, state: Mapping[str, Any]) -> Write:
        """Return the write that leaves a mark."""
        return Put(self._key, json.dumps(state).encode(), self._ttl)

    def remove(self) -> None:
        """Forget it. One round trip."""
        self._tree.backend.execute(Transaction(writes=(Delete(self._key, Scope.NODE),)))


def unfinished(tree: OpenedDatabase) -> dict[str, Mapping[str, Any]]:
    """Return the marks of work that was begun in a store and not ended, by name. One round trip."""
    (answer,) = tree.backend.execute(Transaction((), (Read(_ROOT, Scope.BELOW),))).answers
    assert isinstance(answer, Entries)
    found: dict[str, Mapping[str, Any]] = {}
    for path in answer.values:
        state = Checkpoint(tree, path[0]).load()
        found[path[0]] = state or {}
    return found
