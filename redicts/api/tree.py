"""An opened database: a backend, and what can be done with the values and the locks on it."""

from __future__ import annotations

import time
from typing import Final, TypeVar

from redicts.core import driver
from redicts.core.backend import Backend
from redicts.core.driver import Steps
from redicts.core.envelope import LeafFormat
from redicts.core.locks.protocol import Protocol
from redicts.core.minitransaction import VALUES, Key, Path
from redicts.core.store import TreeStore

_Result = TypeVar("_Result")

LOCK_RETENTION_SECS: Final = 0.005
"""How long a turn lasts unless the settings say otherwise: see :mod:`redicts.locks.retention`."""


class Tree:
    """One opened database: its backend, the operations on its values and those on its locks.

    With ``mandatory_locks`` a write that somebody else's lock covers is refused. ``lock_retention`` is in seconds.
    """

    __slots__ = (
        "__weakref__",
        "_fetch",
        "backend",
        "can_overwrite",
        "lock_retention",
        "locks",
        "mandatory_locks",
        "store",
    )

    def __init__(
        self,
        backend: Backend,
        form: LeafFormat,
        *,
        mandatory_locks: bool = False,
        lock_retention: float = LOCK_RETENTION_SECS,
    ) -> None:
        self.backend = backend
        claims = backend.capabilities
        self.store = TreeStore(form, claims.atomic_entries, documents=claims.documents)
        whole = claims.documents and form.reads_documents
        self._fetch = backend.fetch_document if whole else backend.fetch
        self.locks = Protocol(time.monotonic, time.time)
        self.mandatory_locks = mandatory_locks
        self.lock_retention = lock_retention
        # A networked store would encode every leaf for a question that it always answers with no.
        self.can_overwrite = not mandatory_locks and type(backend).overwrite is not Backend.overwrite

    def read(self, path: Path) -> object:
        """Return the value at a path, a dict for an inner node, or ``ABSENT``. It is fetched, if the store can."""
        data = self._fetch(Key(VALUES, path))
        if data is None:
            return driver.run(self.store.read(path), self.backend)
        return self.store.decoded(path, data)

    def run(self, steps: Steps[_Result]) -> _Result:
        """Run an operation against the backend."""
        return driver.run(steps, self.backend)
