"""The limits above which ``doctor`` says that something is wrong."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """What is still right, as the caller says; ``None`` for no limit."""

    latency_ms: float | None = None
    """The median of a round trip."""
    waiters: int | None = None
    lock_age_secs: float | None = None
    """For how long a lock may be held."""
    memory_percent: float | None = None
    """The part of the server's ``maxmemory``."""
