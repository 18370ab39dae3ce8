"""The findings of ``doctor``: what one check found, and how serious that is."""

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
