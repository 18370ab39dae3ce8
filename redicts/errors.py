"""Every exception that redicts raises on purpose, in one tree.

::

    RedictsError
    ├── InternalError                   redicts or the store broke its own rules
    ├── PathError        (ValueError)   a path or a key of a dict is not usable
    ├── LeafError        (ValueError)   a value cannot be stored, read or counted
    │   ├── CodecRefused                    it is of a codec that the settings do not accept
    │   ├── CodecUnknown                    it is of a codec that is not installed
    │   ├── TypeUnknown                     it is of a type that is not registered
    │   └── ValidationFailed                its registered type does not take it any more
    ├── SettingsError    (ValueError)   a configuration is wrong
    │   ├── PluginMissing                   no backend or codec of this name can be had
    │   ├── PluginBroken                    there is one, and it does not work
    │   └── WrongField                      a field is unknown, missing, or has a wrong value
    ├── Unsupported                     the chosen store cannot do what was asked
    ├── Conflict                        an expected value was not there
    ├── LockError                       a lock is not as the caller needs it
    │   ├── LockTimeout  (TimeoutError)     it was not free in time
    │   ├── Deadlock                        waiting for it would never end
    │   ├── LockLost                        its lease ran out, or it was broken
    │   ├── NotHeld                         this thread does not hold it
    │   └── Locked                          somebody else's lock forbids this write
    └── StoreError                      the store failed, not the caller
        ├── Unreachable  (ConnectionError)  no connection, or it broke
        │   └── StoreTimeout (TimeoutError) no answer in time
        ├── AccessDenied                wrong password, missing permission
        ├── ReadOnly                    the store refuses writes
        ├── StoreFull                   no memory or no disk left
        ├── StoreBusy                   the store is occupied; trying later helps
        └── CorruptData                 what is stored is not what redicts wrote
            ├── Truncated                   it ends too early
            └── BadSignature                it was not written by one who knows the key

A backend maps the exceptions of its client library to the branch below :class:`StoreError` at its border, so nobody
has to import that library in order to catch its errors.
"""

from __future__ import annotations


class RedictsError(Exception):
    """Base of all exceptions of this package."""


class InternalError(RedictsError):
    """The store answered something that the contract rules out, or redicts has a fault."""


class PathError(RedictsError, ValueError):
    """A dotted path, a segment of a path or a key of a stored dict is not usable. Nothing was written."""


class LeafError(RedictsError, ValueError):
    """A value cannot be encoded, decoded or counted with. Nothing was written."""


class CodecRefused(LeafError):
    """A value was written with a codec that the settings do not accept. Nothing of it was decoded."""


class CodecUnknown(LeafError):
    """A value was written with a codec that is not installed here. Nothing of it was decoded."""


class TypeUnknown(LeafError):
    """A value is of a type that this program has not registered (see :mod:`redicts.types`)."""


class ValidationFailed(LeafError):
    """A value was written with a registered type which does not take it any more."""


class SettingsError(RedictsError, ValueError):
    """A configuration is wrong. The settings that were current stay current."""


class PluginMissing(SettingsError):
    """No backend or codec of this name is installed and switched on, or what it needs is not installed."""


class PluginBroken(SettingsError):
    """A backend or codec of this name is installed, and does not work; the message names its distribution."""


class WrongField(SettingsError):
    """A field of a configuration is unknown, missing, or has a value that it cannot have."""


class Unsupported(RedictsError):
    """The chosen store does not offer what this call needs (see ``Capabilities``). Nothing was written."""


class Conflict(RedictsError):
    """A value was not what the caller expected, so nothing was written."""


class LockError(RedictsError):
    """A lock is not as the caller needs it."""


class LockTimeout(LockError, TimeoutError):
    """A lock did not become free in time. Nothing is left of the attempt."""


class Deadlock(LockError):
    """Waiting for a lock would never end: everybody in a circle of owners waits for the next one.

    Of each circle one owner gets this error, the one that came last. Nothing is left of its attempt; the locks that it
    holds already are still its own.
    """


class LockLost(LockError):
    """A lock is no longer held: its lease ran out, or an operator broke it. Nothing was written."""


class NotHeld(LockError):
    """The running thread or task does not hold the lock that it wants to release, extend or rely on."""


class Locked(LockError):
    """With mandatory locks: somebody else's lock covers what was to be written. Nothing was written."""


class StoreError(RedictsError):
    """The store failed.

    ``maybe_applied`` tells whether the writes of the failed call may have happened all the same: it is true only
    when the request was sent and no answer came back.
    """

    def __init__(self, message: str, *, maybe_applied: bool = False) -> None:
        super().__init__(message)
        self.maybe_applied = maybe_applied


class Unreachable(StoreError, ConnectionError):
    """There is no connection to the store, or it broke and could not be made again."""


class StoreTimeout(Unreachable, TimeoutError):
    """The store gave no answer in time, or no connection of the pool became free in time."""


class AccessDenied(StoreError):
    """The store refused the user, the password or the permission."""


class ReadOnly(StoreError):
    """The store refuses writes: a read-only replica, a read-only file."""


class StoreFull(StoreError):
    """The store has no memory or no disk left for a write."""


class StoreBusy(StoreError):
    """The store is occupied (loading, locked by a writer, running a script); the same call may work later."""


class CorruptData(StoreError):
    """The store holds something at our keys that redicts did not write, or a file that is not a store."""


class Truncated(CorruptData):
    """The store holds the beginning of a value, and not the rest."""


class BadSignature(CorruptData):
    """The store holds a value that nobody has written there who knows a key of the settings. Nothing of it was run."""
