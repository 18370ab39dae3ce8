"""redicts: nested dicts under dotted paths on pluggable stores, with hierarchical locks."""

from __future__ import annotations

from redicts.api.database import Database, open
from redicts.api.lock import Lock
from redicts.api.lock_info import LockInfo
from redicts.api.mapping import TreeMapping
from redicts.api.pool import Pool
from redicts.api.proxy import Proxy, root, section
from redicts.api.transaction import Transaction
from redicts.api.watch import Watch
from redicts.core.leaves import ABSENT, Packed
from redicts.core.names import Name
from redicts.core.observing import Observation, observe
from redicts.errors import (
    AccessDenied,
    BadSignature,
    CodecRefused,
    CodecUnknown,
    Conflict,
    CorruptData,
    Deadlock,
    InternalError,
    LeafError,
    Locked,
    LockError,
    LockLost,
    LockTimeout,
    NotHeld,
    NotReplicated,
    PathError,
    PluginBroken,
    PluginMissing,
    ReadOnly,
    ReadRefused,
    RedictsError,
    SettingsError,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreTimeout,
    Truncated,
    TypeUnknown,
    Unreachable,
    UnreadableHere,
    Unsupported,
    ValidationFailed,
    WrongField,
    WrongUse,
)
from redicts.locks.owner import OwnerToken
from redicts.version import __version__ as __version__

__all__ = [
    "ABSENT",
    "AccessDenied",
    "BadSignature",
    "CodecRefused",
    "CodecUnknown",
    "Conflict",
    "CorruptData",
    "Database",
    "Deadlock",
    "InternalError",
    "LeafError",
    "Lock",
    "LockError",
    "LockInfo",
    "LockLost",
    "LockTimeout",
    "Locked",
    "Name",
    "NotHeld",
    "NotReplicated",
    "Observation",
    "OwnerToken",
    "Packed",
    "PathError",
    "PluginBroken",
    "PluginMissing",
    "Pool",
    "Proxy",
    "ReadOnly",
    "ReadRefused",
    "RedictsError",
    "SettingsError",
    "StoreBusy",
    "StoreError",
    "StoreFull",
    "StoreTimeout",
    "Transaction",
    "TreeMapping",
    "Truncated",
    "TypeUnknown",
    "Unreachable",
    "UnreadableHere",
    "Unsupported",
    "ValidationFailed",
    "Watch",
    "WrongField",
    "WrongUse",
    "observe",
    "open",
    "root",
    "section",
]
