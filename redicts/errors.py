"""Every exception that redicts raises on purpose, in one tree.

::

    RedictsError
    ├── InternalError                   redicts or the store broke its own rules
    ├── PathError        (ValueError)   a path or a dict key is not valid
    ├── LeafError        (ValueError)   a value cannot be stored, read or added to
    │   ├── UnreadableHere                  this program cannot read it, and another one may
    │   │   ├── CodecUnknown                    its codec is not installed
    │   │   ├── TypeUnknown                     its type is not registered
    │   │   └── ValidationFailed                its registered type refuses it
    │   └── ReadRefused                     the settings refuse to read it
    │       ├── CodecRefused                    they do not accept its codec
    │       └── BadSignature                    none of their keys signed it for its path
    ├── SettingsError    (ValueError)   a configuration is not valid
    │   ├── PluginMissing                   no backend or codec of this name is installed
    │   ├── PluginBroken                    the backend or codec of this name does not work
    │   └── WrongField                      a field is unknown, missing, or not valid
    ├── Unsupported                     the store lacks a capability
    ├── Conflict                        an expected value was not there
    ├── WrongUse         (RuntimeError) an object was used outside of its block, or twice
    ├── LockError                       a lock cannot be acquired, or is not held
    │   ├── LockTimeout  (TimeoutError)     it was not free before the timeout
    │   ├── Deadlock                        owners wait for each other in a cycle
    │   ├── LockLost                        its lease ran out, or it was broken
    │   ├── NotHeld                         this thread or task does not hold it
    │   └── Locked                          another owner's mandatory lock refuses this write
    └── StoreError                      the store failed
        ├── Unreachable  (ConnectionError)  no connection, or it broke
        │   └── StoreTimeout (TimeoutError) no answer before the timeout
        ├── AccessDenied                wrong password, or missing permission
        ├── ReadOnly                    the store refuses writes
        ├── NotReplicated               too few replicas have a write
        ├── StoreFull                   no memory or disk space left
        ├── StoreBusy                   the store is busy; try again later
        └── CorruptData                 the structure of stored bytes proves them corrupt
            └── Truncated                   they end too early

A stored value that cannot be read has one of three kinds of errors. :class:`UnreadableHere` says what this program
lacks: a class, a codec, a key, or a limit of its interpreter that is high enough. :class:`ReadRefused` says which
setting refuses the value. Only :class:`CorruptData` says that the bytes are damaged, so only these may be removed.

A backend maps the exceptions of its client library to subclasses of :class:`StoreError`. So a program catches them
without importing that library.
"""

from __future__ import annotations


class RedictsError(Exception):
    """Base class of all exceptions of redicts."""


class InternalError(RedictsError):
    """A backend broke its contract, or redicts has a bug."""


class PathError(RedictsError, ValueError):
    """A path, a segment of a path or a key of a dict is not valid. Nothing was written."""


class LeafError(RedictsError, ValueError):
    """A value cannot be encoded, decoded or added to. Nothing was written."""


class UnreadableHere(LeafError):
    """A stored value cannot be read in this program, and nothing proves it corrupt.

    For instance, a class is missing, or the interpreter limits digits or nesting. Another program may read the value.
    """


class CodecUnknown(UnreadableHere):
    """The codec of a stored value is not installed. It was not decoded."""


class TypeUnknown(UnreadableHere):
    """The type of a value is not registered in this program (see :mod:`redicts.types`)."""


class ValidationFailed(UnreadableHere):
    """The registered type of a stored value refuses it."""


class ReadRefused(LeafError):
    """The settings refuse to read a stored value. It was not decoded."""


class CodecRefused(ReadRefused):
    """The settings do not accept the codec of a stored value. It was not decoded."""


class BadSignature(ReadRefused):
    """A stored value has no signature by a key of the settings. It was not decoded.

    Its key may be missing in the settings, or someone without a key wrote the value.
    """


class SettingsError(RedictsError, ValueError):
    """A configuration is not valid. The current settings stay current."""


class PluginMissing(SettingsError):
    """No backend or codec of this name is installed and enabled, or a library that it needs is not installed."""


class PluginBroken(SettingsError):
    """The installed backend or codec of this name does not work; the message names its distribution."""


class WrongField(SettingsError):
    """A field of a configuration is unknown, missing, or has a value that is not valid."""


class Unsupported(RedictsError):
    """The store lacks a capability that this call needs (see ``Capabilities``). Nothing was written."""


class Conflict(RedictsError):
    """A stored value was not the expected one. Nothing was written."""


class WrongUse(RedictsError, RuntimeError):
    """A transaction or a database was used outside of its block, in another thread, or again. Nothing was written."""


class LockError(RedictsError):
    """A lock cannot be acquired, or is not held."""


class LockTimeout(LockError, TimeoutError):
    """A lock did not become free before the timeout. The attempt leaves nothing in the store."""


class Deadlock(LockError):
    """Waiting for a lock would never end, because lock owners wait for each other in a cycle.

    In each cycle, only the owner with the latest request gets this error. The attempt leaves nothing in the store. The
    owner still holds its other locks.
    """


class LockLost(LockError):
    """A lock is no longer held, because its lease ran out or an operator broke it. Nothing was written."""


class NotHeld(LockError):
    """The running thread or task tried to release, extend or rely on a lock that it does not hold."""


class Locked(LockError):
    """With mandatory locks: a lock of another owner covers a path of this write. Nothing was written."""


class StoreError(RedictsError):
    """The store failed.

    ``maybe_applied`` is true if the writes of the failed call may have been applied: the request was sent, and no
    answer arrived.
    """

    def __init__(self, message: str, *, maybe_applied: bool = False) -> None:
        super().__init__(message)
        self.maybe_applied = maybe_applied


class Unreachable(StoreError, ConnectionError):
    """A connection to the store cannot be made, or it broke and cannot be made again."""


class StoreTimeout(Unreachable, TimeoutError):
    """No answer arrived, or no connection of the pool became free, before the timeout."""


class AccessDenied(StoreError):
    """The store refused the user or the password, or the user lacks a permission."""


class ReadOnly(StoreError):
    """The store refuses writes, as a read-only replica or file does."""


class NotReplicated(StoreError):
    """Fewer replicas acknowledged a write in time than the settings require.

    The primary has applied it, so ``maybe_applied`` is true. A failover may lose it.
    """


class StoreFull(StoreError):
    """The store has no memory or disk space left for a write."""


class StoreBusy(StoreError):
    """The store is busy (loading, locked by a writer, running a script); try again later."""


class CorruptData(StoreError):
    """The structure of the bytes at a key proves that redicts did not write them so, or a file is not a store."""


class Truncated(CorruptData):
    """A stored value ends too early."""
