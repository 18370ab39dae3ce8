"""What the checks of ``doctor`` find, and the limits that they compare with."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple


class Status(Enum):
    """How serious a finding is."""

    OK = "ok"
    NOTICE = "notice"
    """Worth knowing, but not wrong."""
    WRONG = "wrong"
    FAILED = "failed"
    """The store did not answer."""


class Finding(NamedTuple):
    """The result of one check."""

    name: str
    status: Status
    text: str
    data: dict[str, Any] = {}  # noqa: RUF012  (nobody changes it)


class Limits(NamedTuple):
    """What is still right, as the caller says; ``None`` for no limit."""

    latency_ms: float | None = None
    """The median of a round trip."""
    waiters: int | None = None
    lock_age_secs: float | None = None
    """For how long a lock may be held."""
    memory_percent: float | None = None
    """The part of the server's ``maxmemory``."""
