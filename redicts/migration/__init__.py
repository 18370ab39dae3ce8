"""Migrate the data of redicts 1.0 into a tree of this version: :func:`from_1_0`.

redicts 1.0 stored each leaf under a Redis key of its own. The migration reads these keys and stores the leaves, with
their values and TTLs, in any database that redicts can open. It reports the keys that it cannot migrate, and leaves
them unchanged.
"""

from __future__ import annotations

from redicts.migration.moving import from_1_0
from redicts.migration.report import Migration, Reason, Skipped

__all__ = ["Migration", "Reason", "Skipped", "from_1_0"]
