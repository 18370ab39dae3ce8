"""TreeStore: the backend-agnostic interface to one tree, its values and its locks, as steps that do no I/O."""

from __future__ import annotations

import time
from collections.abc import Callable

from redicts.core.envelope import LeafFormat
from redicts.core.locks.acquisition import Timing
from redicts.core.locks.operations import LockOperations
from redicts.core.values import FastPaths, ValueOperations


class TreeStore(ValueOperations, LockOperations):
    """Every operation on one tree: paths, leaves and hierarchical locks mean the same on each backend.

    Each method returns steps; :func:`redicts.core.driver.run` carries them out.

    Args:
        form: How leaves are encoded, and which codecs may be read.
        atomic_entries: How many values one transaction may touch, ``None`` for any number, as in ``Capabilities``.
        documents: Whether dicts may be written as documents, as in ``Capabilities``.
        fast_paths: Which fast paths of the backend are worth a request.
        clock: Monotonic, in seconds: measures timeouts.
        wall_clock: Seconds since the epoch, for people to read; it orders nothing.
        timing: The intervals of waiting for a lock.

    """

    def __init__(
        self,
        form: LeafFormat,
        atomic_entries: int | None = None,
        *,
        documents: bool = False,
        fast_paths: FastPaths = FastPaths(),  # noqa: B008  (it is immutable)
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        timing: Timing = Timing(),  # noqa: B008  (it is immutable)
    ) -> None:
        ValueOperations.__init__(self, form, atomic_entries, documents=documents, fast_paths=fast_paths)
        LockOperations.__init__(self, clock, wall_clock, timing)
