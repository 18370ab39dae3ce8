"""The words of the backend contract: a minitransaction, its checks, reads and writes, and its outcome.

A *minitransaction* (Aguilera et al., "Sinfonia: a new paradigm for building scalable distributed systems", SOSP 2007)
says all at once what must hold, what to read and what to write, so that a store can decide and apply it at one
instant, in one round trip. Everything that redicts does is made of them.

All types here are immutable. They are named tuples and not dataclasses because a write of a thousand leaves makes a
thousand of them, and a named tuple is made three times as fast.

How a transaction is executed
    1. The checks are evaluated, on one state of the store.
    2. The reads are answered, from the same state, whether or not the checks hold.
    3. If every check holds, the writes are applied in the order given, each seeing the ones before it. No other client
       sees a state between two of them, and if one of them cannot be applied, none is.

Expiry
    A value whose TTL has run out is *gone*: for every check, read, page and write, from the instant at which it ends
    by the clock of the store. That its bytes are still there must not be observable. Clock and state belong to one
    moment: a store that looks at the clock, waits for a lock and then reads would take for gone what was renewed.

Prefix-free spaces
    Whoever sends transactions keeps every space prefix-free: a key that holds a live value has no live values below.
    A backend may rely on it between transactions; within one, writes that clear the way come first.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple, Union

Path = tuple[str, ...]
"""Segments from the root down. Each is non-empty text; dots, globs, blanks, NUL and lone surrogates are data."""

MAX_DEPTH: Final = 128
"""The most segments that a path may have."""

VALUES: Final = "v"
"""The space that holds the tree's values."""

NOTHING: Final[Mapping[Path, bytes]] = MappingProxyType({})
"""No entries: ``Equals(key, scope, NOTHING)`` checks that a scope is empty."""


SMALL_PAGE: Final = 1_000
"""How many values a page may hold however small its limit is."""


class Scope(Enum):
    """Which keys an element of a transaction speaks of."""

    NODE = "="
    """Exactly this key."""
    BELOW = ">"
    """Every key below this one, at any depth, and not this one."""
    SUBTREE = "*"
    """This key and every key below it."""

    def covers(self, relative: Path) -> bool:
        """Tell whether a path, given relative to the key, lies in this scope."""
        if self is Scope.SUBTREE:
            return True
        return bool(relative) is (self is Scope.BELOW)


class Key(NamedTuple):
    """Where a value lives: a space (short ASCII text, chosen by core) and a path in it.

    Spaces share nothing: the same path in two spaces names two values. The empty path is the root; it holds no value
    itself, so whatever speaks of exactly the root finds and changes nothing.
    """

    space: str
    path: Path


class Equals(NamedTuple):
    """Check: the live values in a scope are exactly these, no more and no fewer.

    ``entries`` maps paths *relative* to the key to values. With one scope of one key this says "equal to these
    bytes"; with :data:`NOTHING` it says "absent". Lives do not matter.
    """

    key: Key
    scope: Scope
    entries: Mapping[Path, bytes]


class StartsWith(NamedTuple):
    """Check: each live value in a scope starts with these bytes, or there is none.

    One such check says "free, or mine" of a key or of a whole subtree.
    """

    key: Key
    scope: Scope
    prefix: bytes


class Read(NamedTuple):
    """Read the live values in a scope, as :class:`Entries`.

    Without ``limit`` the answer is complete, and one snapshot. With it, the answer may be a page: at most that many
    values, or :data:`SMALL_PAGE` if that is more, for a store that walks in pieces need not cut a small one. If more
    may follow, the page carries a cursor, and the same read with that cursor goes on from there. It may hold fewer
    values than its limit, even none, and still have a cursor. Over the pages of one walk, each value that is there
    from the first to the last appears at least once, and exactly once if nothing in the scope changed meanwhile. A
    cursor serves every client of the store, for the same key and scope; ``limit`` is 1 or more. An
    answer without a cursor to a read without one is complete, and one snapshot.

    With ``ttls`` the answer tells the remaining TTL of the values that have one.
    """

    key: Key
    scope: Scope = Scope.NODE
    limit: int | None = None
    cursor: bytes | None = None
    ttls: bool = False


class ReadNames(NamedTuple):
    """Read the names directly below a key, as :class:`Names`: the first segments of all live values below it.

    ``limit`` and ``cursor`` work as in :class:`Read`, with names for values.
    """

    key: Key
    limit: int | None = None
    cursor: bytes | None = None


class Put(NamedTuple):
    """Write: store these bytes (possibly empty) at exactly this key, over what was there.

    ``ttl`` is in milliseconds, positive; ``None`` means for ever. With ``keep_ttl`` the key keeps the TTL of the
    value that is replaced (for ever if there was none), and ``ttl`` is not looked at.
    """

    key: Key
    value: bytes
    ttl: int | None = None
    keep_ttl: bool = False


class PutDocument(NamedTuple):
    """Write: put the leaves of a document in place of everything at and below this key, which is not the root.

    A *document* is JSON text of a dict, as :mod:`redicts.core.documents` says, and stands for its leaves: this means
    what ``Delete(key, Scope.SUBTREE)`` and one :class:`Put` with this TTL for each of them would. Nobody sees a
    difference, but a store that keeps the text as one value writes and reads a whole dict as fast as one leaf.

    It needs ``Capabilities.documents``.
    """

    key: Key
    document: bytes
    ttl: int | None = None


class Delete(NamedTuple):
    """Write: remove all values in a scope. Deleting what is not there changes nothing and is no error."""

    key: Key
    scope: Scope


class Expire(NamedTuple):
    """Write: give all live values in a scope this TTL in milliseconds, or with ``None`` make them last for ever."""

    key: Key
    scope: Scope
    ttl: int | None


class Add(NamedTuple):
    """Write: add to the counter at exactly this key, and keep its TTL.

    A counter is a value that is the canonical decimal text of a signed 64-bit integer (``b"0"``, ``b"-17"``). An
    absent one counts as 0 and lives for ever. The amount is in the same range. If the value is anything else, or the
    sum leaves that range, the whole transaction is refused with :attr:`Status.NOT_A_COUNTER`.
    """

    key: Key
    amount: int


class Notify(NamedTuple):
    """Write: wake the listeners that are listed in a scope, and clear the list.

    Each live value in the scope is the name of a listener (see :meth:`redicts.core.backend.Backend.listen`) in ASCII.
    A name under which nobody listens, here or in another process, is passed over, and so is what is no name. The
    values are deleted as :class:`Delete` would. Nobody is notified unless the transaction is applied, and nobody
    before it is: whoever is notified and looks sees what it wrote.
    """

    key: Key
    scope: Scope


Check = Union[Equals, StartsWith]
AnyRead = Union[Read, ReadNames]
Write = Union[Put, PutDocument, Delete, Expire, Add, Notify]


class Transaction(NamedTuple):
    """What must hold, what to read, what to write. See the module's text for the rules of execution."""

    checks: tuple[Check, ...] = ()
    reads: tuple[AnyRead, ...] = ()
    writes: tuple[Write, ...] = ()


class Entries(NamedTuple):
    """The answer to a :class:`Read`: values by path relative to the key read, in no particular order.

    ``ttls`` holds the remaining milliseconds (at least 1) of those values that have a TTL, if it was asked for.
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
    """What became of a transaction."""

    APPLIED = "applied"
    """Every check held, every write is applied."""
    CHECK_FAILED = "check failed"
    """A check did not hold; nothing was written. ``failed_index`` is the index of one that failed."""
    NOT_A_COUNTER = "not a counter"
    """An :class:`Add` met no 64-bit decimal, or would leave that range; nothing was written. ``failed_index`` is its
    index among the writes."""
    TOO_LARGE = "too large"
    """The transaction touches more values than ``Capabilities.atomic_entries``; nothing was read or written, and
    there is no ``failed_index``."""


class Outcome(NamedTuple):
    """What came of a transaction: the status, one answer per read, one sum per :class:`Add`, both in order.

    ``counters`` is empty unless the status is ``APPLIED``; ``answers`` is empty if it is ``TOO_LARGE``.
    """

    status: Status
    answers: tuple[Answer, ...] = ()
    counters: tuple[int, ...] = ()
    failed_index: int | None = None

    @property
    def applied(self) -> bool:
        """Whether the writes were applied (true also of a transaction without writes whose checks hold)."""
        return self.status is Status.APPLIED


def canonical_counter(value: bytes) -> int | None:
    """Return the integer that a counter's bytes say, or ``None`` if they are not a counter (see :class:`Add`)."""
    digits = value[1:] if value.startswith(b"-") else value
    if not digits.isdigit() or len(digits) > 19 or (digits.startswith(b"0") and value != b"0"):
        return None
    number = int(value)
    return number if fits_counter(number) else None


def fits_counter(number: int) -> bool:
    """Tell whether an integer is in the range of a counter, signed 64 bits."""
    return -(2**63) <= number < 2**63
