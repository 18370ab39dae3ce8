"""The laws, one module per subject. Importing this package registers all of them."""

from __future__ import annotations

from redicts.contract.laws import (
    checks,
    claims,
    clients,
    counters,
    expired,
    forks,
    life,
    model,
    names,
    pages,
    processes,
    reads,
    replies,
    sizes,
    threads,
    unclaimed,
    writes,
)

__all__ = [
    "checks",
    "claims",
    "clients",
    "counters",
    "expired",
    "forks",
    "life",
    "model",
    "names",
    "pages",
    "processes",
    "reads",
    "replies",
    "sizes",
    "threads",
    "unclaimed",
    "writes",
]
