"""Minitransactions: the requests that a backend executes, with their checks, reads and writes, and the outcome.

A *minitransaction* (Aguilera et al., "Sinfonia: a new paradigm for building scalable distributed systems", SOSP 2007)
states its checks, reads and writes together, so that a store evaluates and applies it atomically in one round trip.
Every operation of redicts consists of minitransactions.

All types here are immutable. They are named tuples, which are created three times as fast as dataclasses: a write of a
thousand leaves creates a thousand of them.

How a transaction is executed
    1. The checks are evaluated on one state of the store.
    2. The reads are answered from the same state, whether or not the checks hold.
    3. If every check holds, the writes are applied in the given order, each on the result of the one before. No other
       client sees an intermediate state. If one write cannot be applied, none is.

Expiry
    An expired value is *absent* for every check, read, page and write, from the end of its TTL by the store's clock.
    Bytes that the store has not removed yet must not be observable. The store must read its clock together with its
    state. A store that reads the clock, waits for a lock and then reads the state would treat a value as expired that
    was renewed meanwhile.

Prefix-free spaces
    redicts keeps every space prefix-free: a key that holds a live value has no live values below it. A backend may
    rely on this between transactions. Within a transaction, the writes that remove conflicting values come first.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple, Union

Path = tuple[str, ...]
"""Segments from the root down. Each is non-empty text; dots, globs, spaces, NUL and lone surrogates are data."""

MAX_DEPTH: Final = 128
"""The maximum number of segments in a path."""

VALUES: Final = "v"
"""The space of the values of the tree."""

NOTHING: Final[Mapping[Path, bytes]] = MappingProxyType({})
"""An empty mapping: ``Equals(key, scope, NOTHING)`` checks that a scope is empty."""


SMALL_PAGE: Final = 1_000
"""The number of values that a page may hold even if its limit is lower."""


RECORDS: Final = frozenset("hwnd")
"""The first letters of the names of *record spaces*, such as those of locks.

Their values are small, and most are written and removed soon. A store may lay these spaces out for that. They follow
the same rules as all others."""


class Scope(Enum):
    """Which keys a check, read or write applies to."""

    NODE = "="
    """Exactly this key."""
    BELOW = ">"
    """Every key below this one, at any depth, and not this one."""
    SUBTREE = "*"
    """This key and every key below it."""

    def covers(self, relative: Path) -> bool:
        """Return whether a path, relative to the key, is in this scope."""
        if self is Scope.SUBTREE:
            return True
        return bool(relative) is (self is Scope.BELOW)


class Key(NamedTuple):
    """The address of a value: a space (short ASCII text, chosen by redicts) and a path in it.

    Spaces are independent: the same path in two spaces addresses two values. The empty path is the root, which holds no
    value itself. So a check, read or write of exactly the root finds and changes nothing.
    """

    space: str
    path: Path


class Equals(NamedTuple):
    """Check: the live values in a scope are exactly these entries.

    ``entries`` maps paths *relative* to the key to values. An entry at ``()`` with ``Scope.NODE`` checks the value of
    one key; :data:`NOTHING` checks that the scope is empty. An entry outside of the scope makes the check fail, also if
    that value is stored. TTLs are not compared.
    """

    key: Key
    scope: Scope
    entries: Mapping[Path, bytes]


class StartsWith(NamedTuple):
    """Check: every live value in a scope starts with these bytes. It also holds if there is no value.

    For locks, one such check means "free, or held by this owner", for a key or a whole subtree.
    """

    key: Key
    scope: Scope
    prefix: bytes


class Read(NamedTuple):
    """Read the live values in a scope, answered by :class:`Entries`.

    Without ``limit`` the answer is a complete snapshot. With ``limit``, which is 1 or more, it may be a page of at most
    ``limit`` values, or of :data:`SMALL_PAGE` if that is more. A page with a cursor may have successors, even if it has
    fewer values than its limit or none: the same read with that cursor returns the next page. If neither the read nor
    its answer has a cursor, the answer is a complete snapshot.

    A value that is there while all pages are read appears at least once, and exactly once if nothing in the scope
    changes meanwhile. A cursor is valid for every client of the store, for the same key and scope.

    With ``ttls`` the answer includes the remaining TTLs.
    """

    key: Key
    scope: Scope = Scope.NODE
    limit: int | None = None
    cursor: bytes | None = None
    ttls: bool = False


class ReadNames(NamedTuple):
    """Read the names directly below a key, answered by :class:`Names`: the first segments of all live values below it.

    ``limit`` and ``cursor`` work as in :class:`Read`, and count names.
    """

    key: Key
    limit: int | None = None
    cursor: bytes | None = None


class Put(NamedTuple):
    """Write: store these bytes, possibly empty, at exactly this key, and replace a value that is there.

    ``ttl`` is a positive number of milliseconds; ``None`` means no expiry. With ``keep_ttl`` the new value has the
    remaining TTL of the one that it replaces, no expiry if there is none, and ``ttl`` is ignored.
    """

    key: Key
    value: bytes
    ttl: int | None = None
    keep_ttl: bool = False


class PutDocument(NamedTuple):
    """Write: replace everything at and below this key, which is not the root, by the leaves of a document.

    A *document* is the JSON text of a dict, see :mod:`redicts.core.documents`. The write is equivalent to
    ``Delete(key, Scope.SUBTREE)`` and one :class:`Put` with this TTL for each leaf. A store that keeps the text as one
    value writes and reads a whole dict as fast as one leaf.

    It requires ``Capabilities.documents``.
    """

    key: Key
    document: bytes
    ttl: int | None = None


class Delete(NamedTuple):
    """Write: remove all values in a scope. An empty scope is not an error."""

    key: Key
    scope: Scope


class Expire(NamedTuple):
    """Write: set the TTL of all live values in a scope, in milliseconds; ``None`` removes the expiry."""

    key: Key
    scope: Scope
    ttl: int | None


class Add(NamedTuple):
    """Write: add to the counter at exactly this key, and preserve its TTL.

    A counter is the canonical decimal text of a signed 64-bit integer (``b"0"``, ``b"-17"``). An absent counter is 0
    without expiry. The amount is in the same range. If the value is not a counter, or the sum is out of range, the
    transaction has the status :attr:`Status.NOT_A_COUNTER`, and nothing is written.
    """

    key: Key
    amount: int


class Notify(NamedTuple):
    """Write: notify the listeners whose names are stored in a scope, and delete these names.

    Each live value in the scope is the ASCII name of a listener (see :meth:`redicts.core.backend.Backend.listen`).
    Names without a listener in any process, and values that are not names, are ignored. The values are deleted as by
    :class:`Delete`. Listeners are notified only after the transaction is applied, so they see what it wrote.
    """

    key: Key
    scope: Scope


Check = Union[Equals, StartsWith]
AnyRead = Union[Read, ReadNames]
Write = Union[Put, PutDocument, Delete, Expire, Add, Notify]


class Transaction(NamedTuple):
    """One minitransaction. The docstring of this module has the rules of its execution."""

    checks: tuple[Check, ...] = ()
    reads: tuple[AnyRead, ...] = ()
    writes: tuple[Write, ...] = ()


class Entries(NamedTuple):
    """The answer to a :class:`Read`: values by path relative to the key, in no particular order.

    ``ttls`` has the remaining milliseconds, at least 1, of the values with a TTL, if the read requested them.
    """

    values: Mapping[Path, bytes]
    ttls: Mapping[Path, int] = MappingProxyType({})
    cursor: bytes | None = None


class Names(NamedTuple):
    """The answer to a :class:`ReadNames`: distinct names, in no particular order."""

    names: tuple[str, ...]
    cursor: bytes | None = None


Answer = Union[Entries, Names]


class Status(Enum):
    """The result of a transaction: applied, or the reason why not."""

    APPLIED = "applied"
    """Every check held, and every write was applied."""
    CHECK_FAILED = "check failed"
    """A check failed; nothing was written. ``failed_index`` is the index of a failed check."""
    NOT_A_COUNTER = "not a counter"
    """An :class:`Add` found a value that is not a counter, or its sum is out of range; nothing was written.
    ``failed_index`` is its index among the writes."""
    TOO_LARGE = "too large"
    """The transaction touches more values than ``Capabilities.atomic_entries``; nothing was read or written.
    ``failed_index`` is ``None``."""


class Outcome(NamedTuple):
    """The outcome of a transaction: its status, one answer per read and one sum per :class:`Add`, both in order.

    ``counters`` is empty unless the status is ``APPLIED``. ``answers`` is empty if it is ``TOO_LARGE``.
    """

    status: Status
    answers: tuple[Answer, ...] = ()
    counters: tuple[int, ...] = ()
    failed_index: int | None = None

    @property
    def applied(self) -> bool:
        """Whether the writes were applied. Also true of a transaction without writes whose checks hold."""
        return self.status is Status.APPLIED


_LONGEST_COUNTER: Final = len(str(-(2**63)))


def canonical_counter(value: bytes) -> int | None:
    """Parse the bytes of a counter (see :class:`Add`); return ``None`` if they are not one."""
    try:
        number = int(value) if len(value) <= _LONGEST_COUNTER else 0
    except ValueError:
        return None
    return number if b"%d" % number == value and fits_counter(number) else None


def fits_counter(number: int) -> bool:
    """Return whether an integer is in the range of a counter, signed 64 bits."""
    return -(2**63) <= number < 2**63
