"""Operations on the values of a tree, as steps without I/O (see :mod:`redicts.core.driver`).

Atomicity
    Each operation is one minitransaction, so other clients see all of its writes or none. If the store limits the size
    of a transaction (``Capabilities.atomic_entries``), larger values are read in pages and written in steps, and other
    clients may see the state between two steps. An operation that must be atomic raises
    :class:`~redicts.errors.Unsupported` instead. On a sharded store, an operation at the root is one minitransaction in
    each section.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from redicts.core.changes import Changes
from redicts.core.documents import DocumentLeaves, joined
from redicts.core.driver import Fetch, Overwrite, Pause, Steps, Stored
from redicts.core.envelope import EMPTY_DICT, LeafFormat
from redicts.core.leaves import (
    ABSENT,
    Packed,
    are_equal,
    clearing_above,
    documents_of,
    leaves_of,
    merging,
    nest,
    plain_dict,
    plain_number,
    putting,
    refuse_root,
    replacing,
)
from redicts.core.minitransaction import (
    NOTHING,
    VALUES,
    Add,
    Delete,
    Entries,
    Equals,
    Expire,
    Key,
    Names,
    Outcome,
    Path,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    Status,
    Transaction,
    Write,
    fits_counter,
)
from redicts.core.original import IMMUTABLE, Original
from redicts.core.paths import all_described, described, render
from redicts.core.several import grouped, split
from redicts.errors import Conflict, InternalError, LeafError, Unsupported
from redicts.randomness import RANDOM

_STEP: Final = 1_000
"""The number of values in one step of a large write, and in one page of a large read."""

_ATTEMPTS: Final = 1_000
"""The maximum number of attempts of an optimistic change under contention."""


class FastPaths(NamedTuple):
    """The fast paths that a backend overrides: see :meth:`Backend.fetch` and :meth:`Backend.overwrite`."""

    fetch: bool = False
    overwrite: bool = False


class ValueOperations:
    """Operations on values: a part of :class:`redicts.core.store.TreeStore`.

    Paths are tuples of segments that :mod:`redicts.core.paths` has checked. TTLs are in milliseconds, ``None`` for no
    expiry.
    """

    def __init__(
        self,
        form: LeafFormat,
        atomic_entries: int | None,
        *,
        documents: bool,
        ttls: bool,
        fast_paths: FastPaths,
        sharded: bool = False,
        clock: Callable[[], float],
    ) -> None:
        self._format = self.form = form
        self._atomic_entries = atomic_entries
        self._ttls = ttls
        self._clock = clock
        self._documents = documents
        self.sharded = sharded
        self.overwrites = fast_paths.overwrite
        """Whether the backend replaces most leaves at once, by such a fast path."""
        self.fetches: Callable[[Path], Fetch] | None = None
        """Returns the request that answers most reads at once, if the backend has such a fast path."""
        if fast_paths.fetch:
            self.fetches = _fetch_document if documents and form.reads_documents else _fetch

    # Reading

    def read(self, path: Path, *, fetched: bool = False) -> Steps[object]:
        """Return the value at a path, a dict for an inner node, or ``ABSENT``. One transaction per page.

        If the fast path returns the value, no transaction is needed; with ``fetched`` it has returned none.
        """
        if self.fetches is not None and not fetched:
            data: bytes | None = yield self.fetches(path)
            if data is not None:
                return self.decoded(path, data)
        leaves = yield from self.leaves(path)
        if type(leaves) is dict and len(leaves) == 1 and () in leaves:
            return self.decoded(path, leaves[()])
        return nest(leaves, path, self._format)

    def read_several(self, paths: Sequence[Path]) -> Steps[list[object]]:
        """Return the values at several paths from one snapshot, each as :meth:`read` does. One transaction.

        Raises :class:`~redicts.errors.Unsupported` if the store does not read that many paths or leaves at once.
        """
        groups = grouped(paths)
        most = self._atomic_entries
        outcome = Outcome(Status.TOO_LARGE)
        if most is None or len(groups) <= most:
            outcome = yield Transaction((), tuple([Read(Key(VALUES, top), Scope.SUBTREE) for top in groups]))
        if outcome.status is Status.TOO_LARGE:
            more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            raise Unsupported(
                f"{all_described(paths[:3])}{more} cannot be read in one snapshot: this store reads at most {most} "
                "leaves at once; read fewer paths or smaller parts, or read each with val()"
            )
        leaves: dict[Path, Mapping[Path, bytes]] = {}
        for (top, group), answer in zip(groups.items(), outcome.answers):
            leaves.update(split(_entries_in(Outcome(outcome.status, (answer,))).values, group, top))
        return [nest(leaves[path], path, self._format) for path in paths]

    def exists(self, path: Path) -> Steps[bool]:
        """Return whether a leaf or an inner node is there. One transaction."""
        return bool((yield from self._first(path)).values)

    def has_below(self, path: Path) -> Steps[bool]:
        """Return whether anything is below a path. One transaction."""
        cursor = None
        while True:
            reads = (Read(Key(VALUES, path), Scope.BELOW, 1, cursor),)
            found = _entries_in((yield Transaction((), reads)))
            if found.values or found.cursor is None:
                return bool(found.values)
            cursor = found.cursor

    def ttl(self, path: Path) -> Steps[int | None]:
        """Return the remaining TTL in milliseconds of the longest-lived leaf at or below a path.

        ``None`` means no expiry, 0 that nothing is there. One transaction per page.
        """
        longest = 0
        cursor = None
        while True:
            found = yield from self._page(path, cursor, self._atomic_entries, ttls=True)
            if len(found.ttls) < len(found.values):
                return None
            longest = max(longest, *found.ttls.values(), 0)
            cursor = found.cursor
            if cursor is None:
                return longest

    def names(self, path: Path) -> Steps[list[str]]:
        """Return the names directly below a path. One transaction per page."""
        found: dict[str, None] = {}
        cursor = None
        while True:
            reads = (ReadNames(Key(VALUES, path), self._atomic_entries, cursor),)
            (answer,) = (yield Transaction(reads=reads)).answers
            if not isinstance(answer, Names):
                raise InternalError(f"the store answered a read of names with {type(answer).__name__}")
            found.update(dict.fromkeys(answer.names))
            cursor = answer.cursor
            if cursor is None:
                return list(found)

    def leaf_page(self, path: Path, cursor: bytes | None) -> Steps[tuple[list[Path], bytes | None]]:
        """Return a page of paths of the leaves at and below a path, and the next cursor. One transaction."""
        found = yield from self._page(path, cursor, _STEP)
        return [path + below for below in found.values], found.cursor

    def leaf_paths(self, path: Path) -> Steps[list[Path]]:
        """Return the paths of all leaves at and below a path, each once. One transaction per page."""
        found: dict[Path, None] = {}
        cursor = None
        while True:
            page, cursor = yield from self.leaf_page(path, cursor)
            found.update(dict.fromkeys(page))
            if cursor is None:
                return list(found)

    def page(self, path: Path, cursor: bytes | None = None) -> Steps[Entries]:
        """Return a page of encoded leaves at and below a path, with their TTLs and the next cursor.

        Paths are relative to the given one. One transaction.
        """
        return (yield from self._page(path, cursor, _STEP, ttls=True))

    def leaves(self, path: Path) -> Steps[Mapping[Path, bytes]]:
        """Return all encoded leaves at and below a path by relative path. One transaction per page."""
        read = Read(Key(VALUES, path), Scope.SUBTREE, self._atomic_entries)
        found = _entries_in((yield Transaction((), (read,))))
        if found.cursor is None:
            return found.values
        pages = [found.values]
        while found.cursor is not None:
            found = yield from self._page(path, found.cursor, self._atomic_entries)
            pages.append(found.values)
        return joined(pages)

    def leaves_and_ttl(self, path: Path) -> Steps[tuple[Mapping[Path, bytes], int | None]]:
        """Return all encoded leaves at and below a path, and the milliseconds until the first of them expires, if any.

        One transaction per page.
        """
        pages: list[Mapping[Path, bytes]] = []
        first: int | None = None
        cursor: bytes | None = None
        while True:
            found = yield from self._page(path, cursor, self._atomic_entries, ttls=self._ttls)
            pages.append(found.values)
            if found.ttls:
                nearest = min(found.ttls.values())
                first = nearest if first is None else min(first, nearest)
            cursor = found.cursor
            if cursor is None:
                return (pages[0] if len(pages) == 1 else joined(pages)), first

    def nested(self, path: Path, leaves: Mapping[Path, bytes]) -> object:
        """Nest encoded leaves into a value; ``ABSENT`` for none. Raises ``CorruptData`` if they are not a tree."""
        return nest(leaves, path, self._format)

    def decoded(self, path: Path, data: bytes) -> object:
        """Decode one leaf.

        Raises :class:`~redicts.errors.CorruptData` for corrupt bytes, :class:`~redicts.errors.UnreadableHere` for a
        value that this program cannot read, and :class:`~redicts.errors.ReadRefused` for one that the settings refuse.
        """
        try:
            return self._format.read(data, path)
        except Exception as error:
            return self._format.recover(error, data, path)

    def encoded(self, path: Path, value: object) -> bytes:
        """Encode a value, also a dict, as one leaf.

        Raises :class:`~redicts.errors.LeafError` for a value that cannot be stored.
        """
        return leaves_of(Packed(value), path, self._format)[()]

    # Writing

    def write(self, path: Path, value: object, ttl: int | None = None, *, refused: Stored | None = None) -> Steps[None]:
        """Replace everything at and below a path by a value. One transaction, or none if the fast path writes it.

        With ``refused``, which :meth:`stored` has returned, the fast path has not written it.

        Raises :class:`~redicts.errors.LeafError`, before the first request, for a value that cannot be stored.
        """
        if refused is not None:
            leaves = refused[-1]
        elif self.overwrites:
            key, data, document, leaves = self.stored(path, value)
            if data is not None and ttl is None and (yield Overwrite(key, data, document)):
                return
        else:
            parts = documents_of(value, path, self._format) if self._documents and type(value) is dict else None
            leaves = leaves_of(value, path, self._format) if parts is None else parts
        if type(leaves) is DocumentLeaves:
            yield from self._apply(path, putting(leaves, path, ttl))
        else:
            yield from self._apply(path, replacing(leaves, path, ttl))

    def stored(self, path: Path, value: object) -> Stored:
        """Encode a value that is to be stored at a path.

        Raises :class:`~redicts.errors.LeafError` for a value that cannot be stored.
        """
        key = key_of(path)
        parts = documents_of(value, path, self._format) if self._documents and type(value) is dict else None
        if parts is not None:
            return key, parts.texts[()] if () in parts.documents else None, True, parts
        leaves = leaves_of(value, path, self._format)
        return key, leaves.get(()), False, leaves

    def delete(self, path: Path) -> Steps[None]:
        """Remove everything at and below a path. One transaction."""
        yield from self._apply(path, (Delete(Key(VALUES, path), Scope.SUBTREE),))

    def expire(self, path: Path, ttl: int | None) -> Steps[None]:
        """Set the TTL of every leaf at and below a path. One transaction."""
        yield from self._apply(path, (Expire(Key(VALUES, path), Scope.SUBTREE, ttl),))

    def merge(self, path: Path, value: Mapping[str, object], ttl: int | None = None) -> Steps[None]:
        """Store the leaves of a dict, and preserve all other leaves. One transaction, more for empty dicts.

        An empty dict in the value is stored only if no dict is at its path.
        """
        if not issubclass(type(value), Mapping):
            raise LeafError(f"the value for update() must be a dict, not {type(value).__name__}")
        value = plain_dict(value, path, self._format)
        if not value:
            return
        leaves = leaves_of(value, path, self._format)
        empty = [below for below, data in leaves.items() if data == EMPTY_DICT]
        if not empty:
            yield from self._apply(path, merging(leaves, path, ttl))
            return
        if self.sharded and not path and len(value) > 1:
            for name, item in value.items():
                yield from self.merge((), {name: item}, ttl)
            return
        for attempt in range(_ATTEMPTS):
            checks = []
            for below in empty:
                if (yield from self.has_below(path + below)):
                    leaves.pop(below, None)
                else:
                    leaves[below] = EMPTY_DICT
                    checks.append(Equals(Key(VALUES, path + below), Scope.BELOW, NOTHING))
            outcome = yield Transaction(tuple(checks), (), merging(leaves, path, ttl))
            if self._is_done(outcome, path):
                return
            yield _pause(attempt)
        raise _contended(path)

    def add(self, path: Path, amount: float) -> Steps[float]:
        """Add to the number at a path, which is 0 if absent, and return the sum. One transaction for 64-bit integers.

        Other numbers need an optimistic read and write: two transactions, and more under contention.
        """
        number = plain_number(amount)
        if number is None:
            raise LeafError(f"the amount to add to {described(path)} must be a number, not {type(amount).__name__}")
        amount = number
        refuse_root(path)
        if isinstance(amount, int) and fits_counter(amount):
            key = Key(VALUES, path)
            checks = (Equals(key, Scope.BELOW, NOTHING),)
            outcome: Outcome = yield Transaction(checks, (), (*clearing_above(path), Add(key, amount)))
            if outcome.applied:
                return outcome.counters[0]

        def added(old: object) -> object:
            if old is ABSENT:
                return amount
            stored = plain_number(old)
            if stored is None:
                raise LeafError(f"{described(path)} holds {a_kind(old)}, not a number to add to")
            try:
                return stored + amount
            except OverflowError:
                raise LeafError(f"{described(path)}: the integer is too large to add to a float") from None

        total = yield from self.change(path, added)
        assert isinstance(total, (int, float))
        return total

    def change(self, path: Path, function: Callable[[Any], object], default: object = ABSENT) -> Steps[object]:
        """Replace the value at a path by the result of a function, optimistically, and return the new value.

        The function receives the value, or ``default`` if nothing is there. If it returns ``ABSENT``, the value is
        removed. Unchanged leaves are not written. Changed leaves preserve their TTL, and new ones get the longest that
        there was. A dict that was packed stays packed. Two transactions for each attempt; an attempt fails if another
        client changes the value meanwhile. Raises :class:`~redicts.errors.Conflict` after a thousand attempts, and
        :class:`~redicts.errors.LeafError` if the function returns ``None`` and has changed what it received.
        """
        key = Key(VALUES, path)
        for attempt in range(_ATTEMPTS):
            read_at = self._clock()
            found = yield from self._all_entries(path)
            original = Original(found, path, self._format, read_at)
            argument: object = original.value
            before: Mapping[Path, bytes] | None = original.found
            if argument is ABSENT:
                argument, before = default, self._encoded_default(default, path)
            value = function(argument)
            if value is None and before is not None and original.differs(argument, before):
                raise LeafError(
                    f"the function for {described(path)} changed its argument and returned None; return the new value"
                )
            new = original.changed_to(value)
            writes = (*(clearing_above(path) if new else ()), *original.writes(new, self._clock()))
            outcome = yield Transaction((Equals(key, Scope.SUBTREE, found.values),), (), writes)
            if self._is_done(outcome, path):
                return nest(new, path, self._format) if new else value
            yield _pause(attempt)
        raise _contended(path)

    def _encoded_default(self, default: object, path: Path) -> Mapping[Path, bytes] | None:
        """Return the leaves of a default that a function could change, or ``None`` for any other one."""
        if default is ABSENT or isinstance(default, IMMUTABLE):
            return None
        try:
            return leaves_of(default, path, self._format)
        except Exception:  # the default itself is not stored, so it may be anything
            return None

    def compare_and_set(self, path: Path, expected: object, value: object, ttl: int | None = None) -> Steps[bool]:
        """Store a value if the current one equals ``expected``, and return whether it did. ``ABSENT`` means no value.

        Values are compared by Python's ``==``. One transaction, more if equal values are encoded differently.
        """
        key = Key(VALUES, path)
        wanted = NOTHING if expected is ABSENT else leaves_of(expected, path, self._format)
        leaves = {} if value is ABSENT else leaves_of(value, path, self._format)
        writes = replacing(leaves, path, ttl) if leaves else (Delete(key, Scope.SUBTREE),)
        for attempt in range(_ATTEMPTS):
            outcome = yield Transaction((Equals(key, Scope.SUBTREE, wanted),), (Read(key, Scope.SUBTREE),), writes)
            if outcome.applied:
                return True
            too_large = outcome.status is Status.TOO_LARGE
            found = (yield from self.leaves(path)) if too_large else _entries_in(outcome).values
            if not are_equal(nest(found, path, self._format), nest(wanted, path, self._format), path):
                return False
            if too_large:
                raise self._too_large(path)
            wanted = found
            yield _pause(attempt)
        raise _contended(path)

    def take(self, path: Path) -> Steps[object]:
        """Remove the value at a path and return it, or ``ABSENT``. One transaction.

        A value with more than ``atomic_entries`` leaves is read and then removed, together with leaves that other
        clients store in between.
        """
        key = Key(VALUES, path)
        outcome = yield Transaction((), (Read(key, Scope.SUBTREE),), (Delete(key, Scope.SUBTREE),))
        if outcome.applied:
            return nest(_entries_in(outcome).values, path, self._format)
        value = yield from self.read(path)
        yield from self.delete(path)
        return value

    def pop(self, path: Path, *default: object) -> Steps[object]:
        """Remove the value at a path and return it, or the default. See :meth:`take` for the cost.

        Raises ``KeyError`` if nothing is there and there is no default.
        """
        if len(default) > 1:
            raise TypeError(f"pop takes a key and at most one default, not {len(default)}")
        value = yield from self.take(path)
        if value is not ABSENT:
            return value
        if default:
            return default[0]
        raise KeyError(render(path))

    def set_default(self, path: Path, default: object, ttl: int | None = None) -> Steps[object]:
        """Store a value if nothing is there, and return the value that is then there. One transaction."""
        key = Key(VALUES, path)
        leaves = leaves_of(default, path, self._format)
        checks = (Equals(key, Scope.SUBTREE, NOTHING),)
        outcome = yield Transaction(checks, (Read(key, Scope.SUBTREE),), replacing(leaves, path, ttl))
        if outcome.applied:
            return nest(leaves, path, self._format) if leaves else {}
        if outcome.status is not Status.TOO_LARGE:
            return nest(_entries_in(outcome).values, path, self._format)
        value = yield from self.read(path)
        if value is ABSENT:
            raise self._too_large(path)
        return value

    def commit(self, changes: Changes) -> Steps[None]:
        """Apply several changes atomically. One transaction."""
        outcome = yield Transaction(tuple(changes.checks), (), tuple(changes.writes))
        if outcome.status is Status.CHECK_FAILED:
            assert outcome.failed_index is not None
            key, scope, _ = changes.checks[outcome.failed_index]
            if scope is Scope.BELOW:
                raise LeafError(f"{described(key.path)} holds a dict, not a number; none of the changes was made")
            raise Conflict(f"{described(key.path)} does not have the expected value; none of the changes was made")
        if outcome.status is Status.NOT_A_COUNTER:
            assert outcome.failed_index is not None
            path = changes.writes[outcome.failed_index].key.path
            raise LeafError(f"{described(path)} holds no 64-bit integer to add to; none of the changes was made")
        if outcome.status is Status.TOO_LARGE:
            raise Unsupported(
                f"the changes touch more values than this store changes atomically ({self._atomic_entries}); split them"
            )

    def begin(self) -> Changes:
        """Return an empty collection of changes."""
        return Changes(self._format)

    # Shared steps

    def _page(self, path: Path, cursor: bytes | None, limit: int | None, *, ttls: bool = False) -> Steps[Entries]:
        reads = (Read(Key(VALUES, path), Scope.SUBTREE, limit, cursor, ttls),)
        return _entries_in((yield Transaction((), reads)))

    def _all_entries(self, path: Path) -> Steps[Entries]:
        """Return all encoded leaves at and below a path, with their TTLs if the store has any."""
        found = yield from self._page(path, None, self._atomic_entries, ttls=self._ttls)
        values, ttls = dict(found.values), dict(found.ttls)
        while found.cursor is not None:
            found = yield from self._page(path, found.cursor, self._atomic_entries, ttls=self._ttls)
            values.update(found.values)
            ttls.update(found.ttls)
        return Entries(values, ttls)

    def _first(self, path: Path) -> Steps[Entries]:
        """Return the first leaf at or below a path, or none. One transaction, more where a page may be empty."""
        found = yield from self._page(path, None, 1)
        while not found.values and found.cursor is not None:
            found = yield from self._page(path, found.cursor, 1)
        return found

    def _apply(self, path: Path, writes: tuple[Write, ...]) -> Steps[None]:
        """Apply writes at, above and below a path, and not at the root but for a write there.

        One transaction, or one for each section at the root of shards, or several if they are too large for one.
        """
        if self.sharded and not path:
            for part in (yield from self._by_section(writes)):
                yield from self._apply(part[0].key.path, part)
            return
        if not writes or (yield Transaction((), (), writes)).status is not Status.TOO_LARGE:
            return
        if len(writes) == 1:
            if isinstance(writes[0], (Put, PutDocument, Add)) or writes[0].scope is Scope.NODE:
                raise Unsupported("the locks that guard this write are more than this store checks in one transaction")
            yield from self._apply_to_pages(writes[0])
            return
        step = min(_STEP, (len(writes) + 1) // 2)
        for start in range(0, len(writes), step):
            yield from self._apply(path, writes[start : start + step])

    def _by_section(self, writes: tuple[Write, ...]) -> Steps[list[tuple[Write, ...]]]:
        """Return writes in groups of one section each. One at the root becomes one for each section that is there."""
        groups: dict[str, list[Write]] = {}
        if not all(write.key.path for write in writes):
            groups = {name: [] for name in (yield from self.names(()))}
        for write in writes:
            if write.key.path:
                groups.setdefault(write.key.path[0], []).append(write)
            elif isinstance(write, (Delete, Expire)) and write.scope is not Scope.NODE:
                for name, group in groups.items():
                    group.append(write._replace(key=Key(VALUES, (name,)), scope=Scope.SUBTREE))
        return [tuple(group) for group in groups.values()]

    def _apply_to_pages(self, write: Write) -> Steps[None]:
        """Apply a write to the values in its scope, page by page."""
        assert isinstance(write, (Delete, Expire))  # every other write touches one value
        cursor = None
        while True:
            found = _entries_in((yield Transaction((), (Read(write.key, write.scope, _STEP, cursor),))))
            keys = [Key(write.key.space, write.key.path + below) for below in found.values]
            if isinstance(write, Delete):
                yield from self._apply(write.key.path, tuple([Delete(key, Scope.NODE) for key in keys]))
            else:
                yield from self._apply(write.key.path, tuple([Expire(key, Scope.NODE, write.ttl) for key in keys]))
            cursor = found.cursor
            if cursor is None:
                return

    def _is_done(self, outcome: Outcome, path: Path) -> bool:
        if outcome.status is Status.TOO_LARGE:
            raise self._too_large(path)
        return outcome.applied

    def _too_large(self, path: Path) -> Unsupported:
        return Unsupported(
            f"{described(path)} has more values than this store changes at once ({self._atomic_entries}); "
            "change a smaller part of it"
        )


@lru_cache(maxsize=4096)
def key_of(path: Path) -> Key:
    """Return the key of a value. It is remembered, and a backend finds the same object faster in its own memory."""
    return Key(VALUES, path)


@lru_cache(maxsize=4096)
def _fetch(path: Path) -> Fetch:
    """Return the request for a value. It is remembered: making it takes as long as finding a row."""
    return Fetch(key_of(path))


@lru_cache(maxsize=4096)
def _fetch_document(path: Path) -> Fetch:
    """Return the request for a value or a document."""
    return Fetch(key_of(path), document=True)


def _entries_in(outcome: Outcome) -> Entries:
    """Return the answer to the one read of a transaction."""
    (answer,) = outcome.answers
    if not isinstance(answer, Entries):
        raise InternalError(f"the store answered a read of values with {type(answer).__name__}")
    return answer


def _pause(attempt: int) -> Pause:
    """Return the random backoff before the next attempt of an optimistic change."""
    return Pause(RANDOM.uniform(0, min(0.05, 0.0005 * 2 ** min(attempt, 10))))


def _contended(path: Path) -> Conflict:
    return Conflict(
        f"{described(path)} was changed by other clients {_ATTEMPTS} times in a row; lock it, or try again later"
    )


def a_kind(value: object) -> str:
    """Return what a value is, for errors that must not repeat it."""
    return "a dict" if isinstance(value, dict) else f"a value of type {type(value).__name__}"
