"""Executes minitransactions on an ordered engine: the author of a backend writes four methods on bytes.

An engine that keeps keys in order (a B-tree, an LSM tree, a sorted file) needs :class:`OrderedState` and a transaction
of its own around it. The backend begins that, reads the clock, calls :meth:`OrderedState.execute`, and commits if the
outcome is applied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from redicts.core.minitransaction import (
    Add,
    Answer,
    AnyRead,
    Check,
    Entries,
    Equals,
    Expire,
    Key,
    Names,
    Outcome,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    Status,
    Transaction,
    Write,
    canonical_counter,
    fits_counter,
)
from redicts.core.ordered_keys import below, bounds, decode, decode_all, encode, past
from redicts.errors import Unsupported

Entry = tuple[bytes, bytes, "int | None"]
"""A key, its value, and the millisecond at which it is gone, or ``None``."""

_MIN_SWEPT: Final = 64
_SWEPT_PER_WRITE: Final = 2
"""A transaction frees more expired entries than it adds, so that a backlog shrinks and a stream of short-lived values
keeps the store bounded, in large transactions too."""

_LATEST_END: Final = 2**63 - 1
"""The latest end of a TTL, so that it fits into 64 bits."""

_SKIPPED_AFTER: Final = 8
"""After so many keys with the same name, the rest of them is skipped."""


class OrderedState(ABC):
    """What one transaction of an ordered engine sees and changes. Keys are those of ``redicts.plugin.ordered_keys``.

    >>> from redicts.plugin import Key, OrderedState, Put, Read, Scope, Transaction
    >>> class InADict(OrderedState):
    ...     def __init__(self, rows):
    ...         self.rows = rows
    ...     def between(self, lower, upper):
    ...         return [(key, *self.rows[key]) for key in sorted(self.rows) if lower < key < upper]
    ...     def put(self, key, value, end):
    ...         self.rows[key] = value, end
    ...     def delete(self, key):
    ...         del self.rows[key]
    ...     def expired(self, now, most):
    ...         return [key for key, (_, end) in self.rows.items() if end is not None and end <= now][:most]
    >>> state = InADict({})
    >>> state.execute(Transaction(writes=(Put(Key("v", ("a", "b")), b"1", ttl=1000),)), now=5000).applied
    True
    >>> read = Read(Key("v", ("a",)), Scope.BELOW, ttls=True)
    >>> [found] = state.execute(Transaction(reads=(read,)), now=5999).answers
    >>> found.values, found.ttls
    ({('b',): b'1'}, {('b',): 1})
    """

    __slots__ = ()

    @abstractmethod
    def between(self, lower: bytes, upper: bytes) -> Iterable[Entry]:
        """Yield the entries between two bounds, both excluded, in the order of their keys; expired ones may be there.

        They are consumed only as far as needed, and nothing is written meanwhile.
        """

    @abstractmethod
    def put(self, key: bytes, value: bytes, end: int | None) -> None:
        """Store an entry in place of the one at its key, if there is one."""

    @abstractmethod
    def delete(self, key: bytes) -> None:
        """Delete an entry, which is there."""

    @abstractmethod
    def expired(self, now: int, most: int) -> Iterable[bytes]:
        """Return the keys of up to ``most`` entries whose end is not after ``now``, in whatever database.

        For this an engine keeps an index of the ends, in order. Without one, each write would read the whole store.
        """

    def execute(self, transaction: Transaction, now: int, database: int = 0) -> Outcome:
        """Evaluate a transaction, and apply its writes. Unless the outcome is applied, the caller rolls back.

        ``now`` is the time in milliseconds, read when the engine's transaction has begun: a writer has waited for
        others until then, and no TTL may end between the snapshot of a reader and its time. Raises
        :class:`~redicts.errors.Unsupported` for a document.

        Cost: in proportion to the entries in the scopes, and to the pages that are read.
        """
        checks, reads, writes = transaction
        view = _View(self, now, database)
        answers = tuple([view.answer(read) for read in reads])
        for index, check in enumerate(checks):
            if not view.holds(check):
                return Outcome(Status.CHECK_FAILED, answers, failed_index=index)
        if writes:
            # First, so that the new entries take the space of the expired ones.
            for key in list(self.expired(now, _MIN_SWEPT + _SWEPT_PER_WRITE * len(writes))):
                self.delete(key)
        counters: list[int] = []
        for index, write in enumerate(writes):
            if not view.apply(write, counters):
                return Outcome(Status.NOT_A_COUNTER, answers, failed_index=index)
        return Outcome(Status.APPLIED, answers, tuple(counters))


class _View:
    """The live entries of one database at one time."""

    def __init__(self, state: OrderedState, now: int, database: int) -> None:
        self._state = state
        self._now = now
        self._database = database

    def _live(self, lower: bytes, upper: bytes) -> Iterator[Entry]:
        for entry in self._state.between(lower, upper):
            if entry[2] is None or entry[2] > self._now:
                yield entry

    def _in(self, key: Key, scope: Scope) -> list[Entry]:
        return list(self._live(*bounds(encode(self._database, key), scope)))

    def holds(self, check: Check) -> bool:
        """Tell whether a condition holds."""
        found = self._in(check.key, check.scope)
        if isinstance(check, Equals):
            base = encode(self._database, check.key)
            return {key: value for key, value, _ in found} == {
                below(base, path): value for path, value in check.entries.items()
            }
        return all(value.startswith(check.prefix) for _, value, _ in found)

    def answer(self, read: AnyRead) -> Answer:
        """Answer a read, or a page of it. The cursor is the end of its last key, so it stays right if that goes."""
        base = encode(self._database, read.key)
        if isinstance(read, ReadNames):
            return self._names(read, base)
        return self._entries(read, base)

    def _entries(self, read: Read, base: bytes) -> Entries:
        lower, upper = bounds(base, read.scope)
        if read.cursor is not None:
            lower = base + read.cursor
        found = list(islice(self._live(lower, upper), None if read.limit is None else read.limit + 1))
        cursor = None
        if read.limit is not None and len(found) > read.limit:
            found.pop()
            cursor = found[-1][0][len(base) :]
        paths = decode_all([key[len(base) :] for key, _, _ in found])
        ends = [(path, end) for path, (_, _, end) in zip(paths, found) if read.ttls and end is not None]
        values = {path: value for path, (_, value, _) in zip(paths, found)}
        return Entries(values, {path: end - self._now for path, end in ends}, cursor)

    def _names(self, read: ReadNames, base: bytes) -> Names:
        lower, upper = bounds(base, Scope.BELOW)
        if read.cursor is not None:
            lower = past(base + read.cursor)
        names: list[bytes] = []
        wanted = -1 if read.limit is None else read.limit + 1
        is_over = False
        while not is_over and len(names) != wanted:
            is_over, repeated = True, 0
            for key, _, _ in self._live(lower, upper):
                name = key[len(base) : key.index(0, len(base)) + 1]
                if not names or name != names[-1]:
                    names.append(name)
                    repeated = 0
                repeated += 1
                if len(names) == wanted or repeated > _SKIPPED_AFTER:
                    lower, is_over = past(base + name), False
                    break
        cursor = None
        if len(names) == wanted:
            names.pop()
            cursor = names[-1]
        return Names(tuple([decode(name)[0] for name in names]), cursor)

    def apply(self, write: Write, counters: list[int]) -> bool:
        """Apply a write; return false for an Add that met no counter."""
        if isinstance(write, PutDocument):
            raise Unsupported("this store does not support documents; put their leaves")
        state, key = self._state, encode(self._database, write.key)
        if isinstance(write, Put) and not write.keep_ttl:
            state.put(key, write.value, self._end(write.ttl))
            return True
        if isinstance(write, (Put, Add)):
            value, end = next(((value, end) for _, value, end in self._in(write.key, Scope.NODE)), (b"0", None))
            if isinstance(write, Put):
                state.put(key, write.value, end)
                return True
            count = canonical_counter(value)
            if count is None or not fits_counter(count + write.amount):
                return False
            counters.append(count + write.amount)
            state.put(key, b"%d" % counters[-1], end)
            return True
        for found, value, _ in self._in(write.key, write.scope):
            if isinstance(write, Expire):
                state.put(found, value, self._end(write.ttl))
            else:
                state.delete(found)
        return True

    def _end(self, ttl: int | None) -> int | None:
        return None if ttl is None else min(self._now + ttl, _LATEST_END)
