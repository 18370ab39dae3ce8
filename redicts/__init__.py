"""Nested dicts under dotted paths, shared between threads, processes and hosts."""

from __future__ import annotations

from redicts.core.leaves import ABSENT, Packed
from redicts.errors import (
    AccessDenied,
    Conflict,
    Damaged,
    Deadlock,
    InternalError,
    LeafError,
    Locked,
    LockError,
    LockLost,
    LockTimeout,
    NotHeld,
    PathError,
    ReadOnly,
    RedictsError,
    SettingsError,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreTimeout,
    Unreachable,
    Unsupported,
)
from redicts.front.lock import Lock, LockInfo
from redicts.front.pool import Pool
from redicts.front.proxy import Proxy, Transaction, root, section

__all__ = [
    "ABSENT",
    "AccessDenied",
    "Conflict",
    "Damaged",
    "Deadlock",
    "InternalError",
    "LeafError",
    "Lock",
    "LockError",
    "LockInfo",
    "LockLost",
    "LockTimeout",
    "Locked",
    "NotHeld",
    "Packed",
    "PathError",
    "Pool",
    "Proxy",
    "ReadOnly",
    "RedictsError",
    "SettingsError",
    "StoreBusy",
    "StoreError",
    "StoreFull",
    "StoreTimeout",
    "Transaction",
    "Unreachable",
    "Unsupported",
    "root",
    "section",
]
