"""Backends that are each wrong in one way, and the checks that refuse them.

Importing this package collects all of them in :data:`BROKEN`. Each is derived from a correct store and differs from it
in what its docstring says, and in nothing else, so a refusal is due to that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from redicts.contract import Harness
from tests.contract.broken import (
    capabilities,
    changes,
    clients,
    clock,
    commits,
    conditions,
    counters,
    databases,
    documents,
    expiry,
    failures,
    fast_paths,
    forks,
    interruptions,
    listeners,
    locks,
    names,
    network,
    notifications,
    paging,
    paging_meanwhile,
    pairs,
    raw,
    reads,
    sections,
    segments,
    servers,
    shared,
    space,
    tasks,
    threads,
    ttls,
    waits,
    writes,
)
from tests.contract.broken.register import Broken, registered

__all__ = [
    "BROKEN",
    "Broken",
    "capabilities",
    "changes",
    "clients",
    "clock",
    "commits",
    "conditions",
    "counters",
    "databases",
    "documents",
    "expiry",
    "failures",
    "fast_paths",
    "forks",
    "interruptions",
    "listeners",
    "locks",
    "names",
    "network",
    "notifications",
    "paging",
    "paging_meanwhile",
    "pairs",
    "raw",
    "reads",
    "sections",
    "segments",
    "servers",
    "shared",
    "space",
    "tasks",
    "threads",
    "ttls",
    "waits",
    "writes",
]

BROKEN: Final[tuple[Broken, ...]] = registered()


def __getattr__(name: str) -> Callable[[], Harness]:
    """Return what makes the harness of a broken backend: ``--harness tests.contract.broken:ItsName``."""
    for broken in BROKEN:
        if broken.name == name:
            return broken.harness
    raise AttributeError(name)
