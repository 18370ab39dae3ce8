"""TreeStore: the backend-agnostic interface to one tree, its values and its locks, as steps without I/O."""

from __future__ import annotations

import time
from collections.abc import Callable

from redicts.core.edits import EditOperations
from redicts.core.envelope import LeafFormat
from redicts.core.items import ItemOperations
from redicts.core.locks.acquisition import AcquireOperations, Timing
from redicts.core.values import FastPaths


class TreeStore(EditOperations, ItemOperations, AcquireOperations):
    """Path flattening and hierarchical locks for every backend: all operations on one tree.

    Each method returns steps, which :func:`redicts.core.driver.run` carries out.

    Args:
        form: Encodes and decodes leaves.
        atomic_entries: The maximum number of values that one transaction may touch, as in ``Capabilities``.
        documents: Whether the backend takes documents, as in ``Capabilities``.
        ttls: Whether its values can have a TTL, as in ``Capabilities``.
        fast_paths: The fast paths that the backend overrides.
        sharded: Whether it keeps sections on several servers, as in ``Capabilities``.
        clock: A monotonic clock in seconds, for timeouts.
        wall_clock: Seconds since the epoch, for the times in lock records. Correctness does not depend on it.
        timing: The intervals of lock waiters.

    """

    def __init__(
        self,
        form: LeafFormat,
        atomic_entries: int | None = None,
        *,
        documents: bool = False,
        ttls: bool = True,
        fast_paths: FastPaths = FastPaths(),  # noqa: B008  (it is immutable)
        sharded: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        timing: Timing = Timing(),  # noqa: B008  (it is immutable)
    ) -> None:
        EditOperations.__init__(
            self,
            form,
            atomic_entries,
            documents=documents,
            ttls=ttls,
            fast_paths=fast_paths,
            sharded=sharded,
            clock=clock,
        )
        AcquireOperations.__init__(self, clock, wall_clock, timing, sharded=sharded)
