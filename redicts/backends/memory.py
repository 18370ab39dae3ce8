"""The reference backend: a tree of nodes in the memory of this process, protected by one lock.

It is the shortest implementation of the rules of a minitransaction, and the model that the contract suite compares
every other backend with. It is also a store for tests and for programs of one process.
"""

from __future__ import annotations

import heapq
import itertools
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from redicts.core.backend import Backend, BackendPlugin, Capabilities
from redicts.core.documents import leaves_in
from redicts.core.hooks import hookimpl
from redicts.core.listener import Listener
from redicts.core.minitransaction import (
    Add,
    Answer,
    AnyRead,
    Check,
    Delete,
    Entries,
    Equals,
    Expire,
    Key,
    Names,
    Notify,
    Outcome,
    Path,
    Put,
    PutDocument,
    ReadNames,
    Scope,
    Status,
    Transaction,
    Write,
    canonical_counter,
    fits_counter,
)
from redicts.core.ordered_keys import below, decode
from redicts.core.watchers import Watchers, changed_paths
from redicts.errors import StoreBusy
from redicts.forks import Bell, ForkSafeLock

_CAPABILITIES: Final = Capabilities(
    ttl=True, processes=False, durable=False, atomic_entries=None, push=True, documents=True, changes=True
)

_EXTRA_RECLAIMED: Final = 16
"""How many more expired values than it writes a transaction removes, so that a backlog shrinks."""

_MOST_STALE: Final = 64
"""How many deadlines of values that were replaced may be kept besides twice as many as there are live ones."""

_Entry = tuple[bytes, "float | None"]
"""A value, and the time when it expires."""

_Item = TypeVar("_Item")


class _Node:
    """A node of the tree: it may have an entry and nodes below it. Empty nodes are removed."""

    __slots__ = ("_sorted", "below", "entry")

    def __init__(self) -> None:
        self.entry: _Entry | None = None
        self.below: dict[str, _Node] = {}
        self._sorted: list[str] | None = None

    def names_after(self, name: str | None) -> Iterator[str]:
        """Yield the names below that sort after this one, in order: the rest of a walk in pages."""
        if self._sorted is None:
            self._sorted = sorted(self.below)
        start = 0 if name is None else bisect_right(self._sorted, name)
        return itertools.islice(self._sorted, start, None)

    def attach(self, names: Sequence[str], entry: _Entry) -> None:
        """Add new nodes, one below the other, and the entry of the last one, in one step."""
        node = _Node()
        node.entry = entry
        for name in reversed(names[1:]):
            above = _Node()
            above.below[name] = node
            node = above
        self._sorted = None
        self.below[names[0]] = node

    def detach(self, name: str) -> None:
        """Remove the node below with this name, and everything below it."""
        self._sorted = None
        del self.below[name]


class MemoryListener(Listener):
    """A listener in this process."""

    __slots__ = ("__weakref__", "_bell", "_listeners", "_name", "_ring")

    def __init__(self, name: bytes, listeners: WeakValueDictionary[bytes, MemoryListener]) -> None:
        self._name = name
        self._listeners = listeners
        self._bell = Bell()
        self._ring: Callable[[], object] = self._bell.ring
        listeners[name] = self

    def notify(self) -> None:
        """End a call of :meth:`wait`, the current one or the next."""
        self._ring()

    def ring(self, bell: Callable[[], object], /) -> bool:
        """Call a function in place of ending :meth:`wait`."""
        self._ring = bell
        return True

    def wait(self, seconds: float, /) -> bool:
        """Return true when notified, or false after this many seconds."""
        return self._bell.wait(seconds)

    def close(self) -> None:
        """Stop listening."""
        if self._listeners.get(self._name) is self:
            self._listeners.pop(self._name, None)


class MemoryBackend(Backend):
    """A store in the memory of this process, shared by its threads. A forked child gets its own copy.

    An exception of a signal handler, or a fork by another thread, may come between any two instructions. So each change
    of the tree is one step, and the old entries are recorded before. A call that finds such records rolls them back,
    because their transaction was not finished. A call by a signal handler or a finalizer that interrupted another one
    is refused.

    ``clock`` returns the store's time in seconds; tests pass one that they control.
    """

    may_wait = False

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spaces: dict[str, _Node] = {}
        self._undo: list[tuple[Key, _Entry | None]] = []
        """The old entries of the transaction under way, or of one that was interrupted."""
        self._deadlines: list[tuple[float, Key]] = []  # a heap; items of values that were replaced are stale
        self._most_deadlines = _MOST_STALE
        self._listeners: WeakValueDictionary[bytes, MemoryListener] = WeakValueDictionary()
        self._watchers = Watchers()
        self._lock = ForkSafeLock()

    @property
    def capabilities(self) -> Capabilities:
        """Everything that does not need a second process."""
        return _CAPABILITIES

    def execute(self, transaction: Transaction, /) -> Outcome:
        """Decide and apply one minitransaction under the lock of the store.

        Raises :class:`~redicts.errors.StoreBusy` if it interrupts another call of this thread.
        """
        lock = self._lock
        if lock.is_mine():
            raise StoreBusy(
                "the store in memory: called by a signal handler or a finalizer that interrupted another call of the "
                "same thread; do such work in another thread"
            )
        try:
            with lock:
                if self._undo:
                    self._roll_back()
                now = self._clock()
                failed_index = self._first_failed(transaction.checks, now)
                answers = tuple([self._answer(read, now) for read in transaction.reads])
                if failed_index is not None:
                    return Outcome(Status.CHECK_FAILED, answers, failed_index=failed_index)
                return self._apply(transaction.writes, answers, now)
        except BaseException:
            lock.release_if_mine()
            raise

    def _apply(self, writes: tuple[Write, ...], answers: tuple[Answer, ...], now: float) -> Outcome:
        """Apply writes in order, or none of them if an :class:`Add` meets no counter; notify listeners."""
        counters: list[int] = []
        notified: list[bytes] = []
        for index, write in enumerate(writes):
            if isinstance(write, Notify):
                notified += [value for _, (value, _) in self._live(write.key, write.scope, now)]
            for key, entry in self._assignments(write, now):
                if entry is not None:
                    self._put(key, entry)
                    if isinstance(write, Add):
                        counters.append(int(entry[0]))
                elif isinstance(write, Add):
                    self._roll_back()
                    return Outcome(Status.NOT_A_COUNTER, answers, failed_index=index)
                else:
                    self._remove(key)
        # Before the end of the transaction, so that no exception comes between: they wait for the lock to look.
        if notified:
            self._notify(notified)
        if writes:
            if self._watchers.listeners:
                self._watchers.notify(changed_paths(writes))
            changed = len(self._undo)
            self._undo.clear()
            self._reclaim(now, changed + _EXTRA_RECLAIMED)
        return Outcome(Status.APPLIED, answers, tuple(counters))

    def _notify(self, names: list[bytes]) -> None:
        for name in names:
            listener = self._listeners.get(name)
            if listener is not None:
                listener.notify()

    def _roll_back(self) -> None:
        """Restore the old entries, and forget them. If this is interrupted, the next call continues it."""
        undo = self._undo
        while undo:
            key, entry = undo[-1]
            if entry is None:
                self._remove(key, record=False)
            else:
                self._put(key, entry, record=False)
            undo.pop()

    def listen(self, name: str, /) -> MemoryListener:
        """Listen in this process."""
        return MemoryListener(name.encode(), self._listeners)

    def listen_to_changes(self, name: str, path: Path, /) -> MemoryListener:
        """Listen for changes of this process."""
        listener = MemoryListener(name.encode(), self._listeners)
        self._watchers.add(listener, path)
        return listener

    def _first_failed(self, checks: tuple[Check, ...], now: float) -> int | None:
        for index, check in enumerate(checks):
            if self._find(check.key) is None and not (isinstance(check, Equals) and check.entries):
                continue  # nothing is there, as with most checks of locks
            live = self._live(check.key, check.scope, now)
            if isinstance(check, Equals):
                holds = {path: value for path, (value, _) in live} == check.entries
            else:
                holds = all(value.startswith(check.prefix) for _, (value, _) in live)
            if not holds:
                return index
        return None

    def _answer(self, read: AnyRead, now: float) -> Answer:
        after = None if read.cursor is None else decode(read.cursor)
        if isinstance(read, ReadNames):
            names, more = _page(self._live_names(read.key, now, after), read.limit)
            return Names(tuple(names), below(b"", (names[-1],)) if more else None)
        entries, more = _page(self._live(read.key, read.scope, now, after), read.limit)
        values = {path: value for path, (value, _) in entries}
        ttls = {
            # Rounded first: in floating point, now + ttl - now is not always ttl.
            path: max(1, ceil(round((deadline - now) * 1000, 3)))
            for path, (_, deadline) in entries
            if read.ttls and deadline is not None
        }
        return Entries(values, ttls, below(b"", entries[-1][0]) if more else None)

    def _assignments(self, write: Write, now: float) -> Iterator[tuple[Key, _Entry | None]]:
        """Yield the effect of a write: for each key its new entry, or none to remove it."""
        if isinstance(write, PutDocument):
            yield from self._assignments(Delete(write.key, Scope.SUBTREE), now)
            for path, value in leaves_in(write.document).items():
                yield Key(write.key.space, write.key.path + path), (value, _deadline(write.ttl, now))
            return
        if isinstance(write, (Delete, Expire, Notify)):
            for path, (value, _) in list(self._live(write.key, write.scope, now)):
                key = Key(write.key.space, write.key.path + path)
                yield key, (value, _deadline(write.ttl, now)) if isinstance(write, Expire) else None
            return
        old = next((entry for _, entry in self._live(write.key, Scope.NODE, now)), None)
        kept = None if old is None else old[1]
        if isinstance(write, Put):
            yield write.key, (write.value, kept if write.keep_ttl else _deadline(write.ttl, now))
            return
        count = 0 if old is None else canonical_counter(old[0])
        fits = count is not None and fits_counter(count + write.amount)
        yield write.key, (b"%d" % (count + write.amount), kept) if count is not None and fits else None

    def _live(self, key: Key, scope: Scope, now: float, after: Path | None = None) -> Iterator[tuple[Path, _Entry]]:
        """Yield the live entries of a scope by relative path, in order, beginning after the path ``after``."""
        node = self._find(key)
        if node is None:
            return
        for path, found in [((), node)] if scope is Scope.NODE else _walk(node, (), after):
            entry = found.entry
            if entry is None or (entry[1] is not None and entry[1] <= now):
                continue
            if scope.covers(path) and path != after:
                yield path, entry

    def _live_names(self, key: Key, now: float, after: Path | None) -> Iterator[str]:
        node = self._find(key)
        if node is None:
            return
        for name in node.names_after(None if after is None else after[0]):
            below = Key(key.space, (*key.path, name))
            if next(self._live(below, Scope.SUBTREE, now), None) is not None:
                yield name

    def _find(self, key: Key) -> _Node | None:
        node = self._spaces.get(key.space)
        for segment in key.path:
            if node is None:
                return None
            node = node.below.get(segment)
        return node

    def _put(self, key: Key, entry: _Entry, *, record: bool = True) -> None:
        """Replace the entry of exactly this key, in one step."""
        space, path = key
        node = self._spaces.get(space)
        if node is None:
            node = self._spaces[space] = _Node()
        missing: Path = ()
        for depth, name in enumerate(path):
            below = node.below.get(name)
            if below is None:
                missing = path[depth:]
                break
            node = below
        if entry[1] is not None:
            heapq.heappush(self._deadlines, (entry[1], key))
        if record:
            self._undo.append((key, None if missing else node.entry))
        if missing:
            node.attach(missing, entry)
        else:
            node.entry = entry

    def _remove(self, key: Key, *, record: bool = True) -> None:
        """Remove the entry of exactly this key, and the nodes that are empty then, in one step."""
        node = root = self._spaces.get(key.space)
        staying, name = root, ""
        for segment in key.path:
            if node is None:
                return
            if node is root or node.entry is not None or len(node.below) > 1:
                staying, name = node, segment
            node = node.below.get(segment)
        if node is None or staying is None:
            return
        if record:
            self._undo.append((key, node.entry))
        if node.below or not name:
            node.entry = None
        else:
            staying.detach(name)

    def _reclaim(self, now: float, limit: int) -> None:
        """Remove up to ``limit`` expired values, so that their memory is freed without any read of them."""
        deadlines = self._deadlines
        for _ in range(limit):
            if not deadlines or deadlines[0][0] > now:
                break
            deadline, key = deadlines[0]
            node = self._find(key)
            if node is not None and node.entry is not None and node.entry[1] == deadline:
                self._remove(key, record=False)
            heapq.heappop(deadlines)
        if len(deadlines) > self._most_deadlines:
            live = [
                (node.entry[1], Key(space, path))
                for space, root in self._spaces.items()
                for path, node in _walk(root, (), None)
                if node.entry is not None and node.entry[1] is not None
            ]
            self._deadlines = sorted(live)  # which is a heap
            self._most_deadlines = _MOST_STALE + 2 * len(live)


def _walk(node: _Node, path: Path, after: Path | None) -> Iterator[tuple[Path, _Node]]:
    """Yield a node and all nodes below it in order, except those before the relative path ``after``."""
    yield path, node
    resumed = after[0] if after else None
    if resumed is not None and resumed in node.below:
        yield from _walk(node.below[resumed], (*path, resumed), after[1:] if after else None)
    for name in node.names_after(resumed):
        yield from _walk(node.below[name], (*path, name), None)


def _page(found: Iterator[_Item], limit: int | None) -> tuple[list[_Item], bool]:
    """Return the items of one page, and whether more follow."""
    page = list(itertools.islice(found, limit))
    return page, next(found, None) is not None


def _deadline(ttl: int | None, now: float) -> float | None:
    return None if ttl is None else now + ttl / 1000


def _open(_settings: object, _database: int) -> MemoryBackend:
    return MemoryBackend()


plugin: Final = BackendPlugin(
    "memory", None, _open, contract=1, summary="in this process only, for tests and programs of one process"
)


@hookimpl
def redicts_backends() -> list[BackendPlugin]:
    """Return the backend ``memory``."""
    return [plugin]
