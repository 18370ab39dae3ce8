"""Checkpoints: how far a copy or an import has come, stored in the target together with each batch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from redicts.core.backend import Capabilities
from redicts.core.driver import Steps
from redicts.core.minitransaction import Delete, Key, Put, Read, Scope, Transaction, Write
from redicts.transfer.leaves import read_all

SPACE: Final = "c"
"""The space of the checkpoints, which are no values of the tree."""

WORK: Final = ("work",)
"""The path below which they are: one section, because a cluster keeps the name of each in a list."""

_TTL: Final = 7 * 24 * 3600 * 1000
"""A checkpoint expires after a week, in milliseconds. The work then starts from its beginning, which does no harm."""


class Checkpoint:
    """The checkpoint of the work with this name, in a store with these capabilities."""

    def __init__(self, name: str, capabilities: Capabilities) -> None:
        self._key = Key(SPACE, (*WORK, name))
        self._ttl = _TTL if capabilities.ttl else None

    def load(self) -> Steps[Mapping[str, Any]]:
        """Return the last state that was saved; it is empty if there is none or it is not readable."""
        (found,) = yield from read_all([Read(self._key)])
        return _state(found.values.get((), b""))

    def save(self, state: Mapping[str, Any]) -> Write:
        """Return the write that saves a state."""
        return Put(self._key, json.dumps(state).encode(), self._ttl)

    def remove(self) -> Steps[None]:
        """Remove the checkpoint."""
        yield Transaction(writes=(Delete(self._key, Scope.NODE),))


def unfinished() -> Steps[dict[str, Mapping[str, Any]]]:
    """Return the states of all work that is unfinished, by its name."""
    states: dict[str, Mapping[str, Any]] = {}
    read: Read | None = Read(Key(SPACE, WORK), Scope.BELOW, 1_000)
    while read is not None:
        (found,) = yield from read_all([read])
        states.update({path[0]: _state(data) for path, data in found.values.items()})
        read = None if found.cursor is None else read._replace(cursor=found.cursor)
    return states


def _state(data: bytes) -> Mapping[str, Any]:
    try:
        state = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}
