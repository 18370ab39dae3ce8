"""Moves the data of redicts 1.0 into a tree of today: :func:`from_1_0`.

1.0 kept each leaf under a Redis key of its own. What it left is read from there, checked, and stored in any store that
redicts can open, with values and lives as they were; what cannot be moved is reported and left alone.
"""

from __future__ import annotations

from redicts.migration.moving import from_1_0
from redicts.migration.report import Migration, Reason, Skipped

__all__ = ["Migration", "Reason", "Skipped", "from_1_0"]
