"""The reference backend: a tree of nodes in the memory of this process, protected by one lock.

It is the shortest implementation of the rules of a minitransaction, and the model that the contract suite compares
every other backend with. It is also a store for tests and for programs of one process.
"""

from __future__ import annotations

import heapq
import itertools
import json
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from math import ceil
from typing import Final, TypeVar

from redicts.core.backend import Backend, BackendPlugin, BackendSettings, Capabilities
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
from redicts.forks import Bell, WholeCopyLock

_CAPABILITIES: Final = Capabilities(
    ttl=True, processes=False, durable=False, atomic_entries=None, push=True, documents=True
)

_EXTRA_RECLAIMED: Final = 16
"""How many more expired values than it writes a transaction removes, so that a backlog shrinks."""

_Item = TypeVar("_Item")


class MemorySettings(BackendSettings):
    """The settings of the backend ``memory``: none."""

    @classmethod
    def fields_of_url(cls, url: str) -> dict[str, object]:
        """Accept only ``memory://``."""
        if url != "memory://":
            raise ValueError("the URL of this backend is memory:// and nothing more")
        return {}


class _Node:
    """A node of the tree: it may have a value and nodes below it. Empty nodes are removed."""

    __slots__ = ("_sorted", "below", "deadline", "value")

    def __init__(self) -> None:
        self.value: bytes | None = None
        self.deadline: float | None = None
        self.below: dict[str, _Node] = {}
        self._sorted: list[str] | None = None

    def names_after(self, name: str | None) -> Iterator[str]:
        """Yield the names below that sort after this one, in order: the rest of a walk in pages."""
        if self._sorted is None:
            self._sorted = sorted(self.below)
        start = 0 if name is None else bisect_right(self._sorted, name)
        return itertools.islice(self._sorted, start, None)

    def child(self, name: str) -> _Node:
        """Return the node below with this name, created if it is missing."""
        node = self.below.get(name)
        if node is None:
            node = self.below[name] = _Node()
            self._sorted = None
        return node

    def drop(self, name: str) -> None:
        """Remove the node below with this name."""
        del self.below[name]
        self._sorted = None


class MemoryListener(Listener):
    """A listener in this process."""

    __slots__ = ("_bell", "_listeners", "_name")

    def __init__(self, name: bytes, listeners: dict[bytes, MemoryListener]) -> None:
        self._name = name
        self._listeners = listeners
        self._bell = Bell()
        listeners[name] = self

    def notify(self) -> None:
        """End a call of :meth:`wait`, the current one or the next."""
        self._bell.ring()

    def wait(self, seconds: float, /) -> bool:
        """Return true when notified, or false after this many seconds."""
        return self._bell.wait(seconds)

    def close(self) -> None:
        """Stop listening."""
        if self._listeners.get(self._name) is self:
            del self._listeners[self._name]


class MemoryBackend(Backend):
    """A store in the memory of this process, shared by its threads. A forked child gets its own copy.

    ``clock`` returns the store's time in seconds; tests pass one that they control.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spaces: dict[str, _Node] = {}
        self._deadlines: list[tuple[float, Key]] = []  # a heap; entries of values that were replaced are stale
        self._expiring = 0
        self._listeners: dict[bytes, MemoryListener] = {}
        self._lock = WholeCopyLock()

    @property
    def capabilities(self) -> Capabilities:
        """Everything that does not need a second process."""
        return _CAPABILITIES

    def execute(self, transaction: Transaction, /) -> Outcome:
        """Decide and apply one minitransaction under the lock of the store."""
        with self._lock:
            now = self._clock()
            failed_index = self._first_failed(transaction.checks, now)
            answers = tuple([self._answer(read, now) for read in transaction.reads])
            if failed_index is not None:
                return Outcome(Status.CHECK_FAILED, answers, failed_index=failed_index)
            return self._apply(transaction.writes, answers, now)

    def _apply(self, writes: tuple[Write, ...], answers: tuple[Answer, ...], now: float) -> Outcome:
        """Apply writes in order, or none of them if an :class:`Add` meets no counter; then notify listeners."""
        undo: list[tuple[Key, bytes | None, float | None]] = []
        counters: list[int] = []
        notified: list[bytes] = []
        for index, write in enumerate(writes):
            if isinstance(write, Notify):
                notified += [_value(node) for _, node in self._live(write.key, write.scope, now)]
            for key, value, deadline in self._assignments(write, now):
                if value is None and isinstance(write, Add):
                    for step in reversed(undo):
                        self._assign(*step)
                    return Outcome(Status.NOT_A_COUNTER, answers, failed_index=index)
                undo.append(self._assign(key, value, deadline))
                if isinstance(write, Add) and value is not None:
                    counters.append(int(value))
        for name in notified:
            listener = self._listeners.get(name)
            if listener is not None:
                listener.notify()
        if writes:
            self._reclaim(now, len(undo) + _EXTRA_RECLAIMED)
        return Outcome(Status.APPLIED, answers, tuple(counters))

    def listen(self, name: str, /) -> MemoryListener:
        """Listen in this process."""
        return MemoryListener(name.encode(), self._listeners)

    def _first_failed(self, checks: tuple[Check, ...], now: float) -> int | None:
        for index, check in enumerate(checks):
            live = self._live(check.key, check.scope, now)
            if isinstance(check, Equals):
                holds = {path: node.value for path, node in live} == check.entries
            else:
                holds = all(_value(node).startswith(check.prefix) for _, node in live)
            if not holds:
                return index
        return None

    def _answer(self, read: AnyRead, now: float) -> Answer:
        after = None if read.cursor is None else _path_in(read.cursor)
        if isinstance(read, ReadNames):
            names, more = _page(self._live_names(read.key, now, after), read.limit)
            return Names(tuple(names), _cursor((names[-1],)) if more else None)
        entries, more = _page(self._live(read.key, read.scope, now, after), read.limit)
        values = {path: _value(node) for path, node in entries}
        ttls = {
            # Rounded first: in floating point, now + ttl - now is not always ttl.
            path: max(1, ceil(round((node.deadline - now) * 1000, 3)))
            for path, node in entries
            if read.ttls and node.deadline is not None
        }
        return Entries(values, ttls, _cursor(entries[-1][0]) if more else None)

    def _assignments(self, write: Write, now: float) -> Iterator[tuple[Key, bytes | None, float | None]]:
        """Yield the effect of a write: for each key a value and a deadline, or no value to remove it."""
        if isinstance(write, PutDocument):
            yield from self._assignments(Delete(write.key, Scope.SUBTREE), now)
            for path, value in leaves_in(write.document).items():
                yield Key(write.key.space, write.key.path + path), value, _deadline(write.ttl, now)
            return
        if isinstance(write, (Delete, Expire, Notify)):
            for path, node in list(self._live(write.key, write.scope, now)):
                key = Key(write.key.space, write.key.path + path)
                if isinstance(write, Expire):
                    yield key, node.value, _deadline(write.ttl, now)
                else:
                    yield key, None, None
            return
        old = next((node for _, node in self._live(write.key, Scope.NODE, now)), None)
        kept = None if old is None else old.deadline
        if isinstance(write, Put):
            yield write.key, write.value, kept if write.keep_ttl else _deadline(write.ttl, now)
            return
        count = 0 if old is None else canonical_counter(_value(old))
        fits = count is not None and fits_counter(count + write.amount)
        yield write.key, b"%d" % (count + write.amount) if count is not None and fits else None, kept

    def _live(self, key: Key, scope: Scope, now: float, after: Path | None = None) -> Iterator[tuple[Path, _Node]]:
        """Yield the live nodes of a scope by relative path, in order, beginning after the path ``after``."""
        node = self._find(key)
        if node is None:
            return
        for path, found in [((), node)] if scope is Scope.NODE else _walk(node, (), after):
            expired = found.deadline is not None and found.deadline <= now
            if found.value is not None and not expired and scope.covers(path) and path != after:
                yield path, found

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

    def _assign(self, key: Key, value: bytes | None, deadline: float | None) -> tuple[Key, bytes | None, float | None]:
        """Set the value and deadline of exactly this key, or remove both, and return the old ones."""
        if value is None and self._find(key) is None:
            return key, None, None
        nodes = [self._spaces.setdefault(key.space, _Node())]
        for segment in key.path:
            nodes.append(nodes[-1].child(segment))
        node = nodes[-1]
        old = key, node.value, node.deadline
        self._expiring += (deadline is not None) - (node.deadline is not None)
        node.value, node.deadline = value, deadline
        if deadline is not None:
            heapq.heappush(self._deadlines, (deadline, key))
        for parent, name in zip(reversed(nodes[:-1]), reversed(key.path)):
            if node.value is not None or node.below:
                break
            parent.drop(name)
            node = parent
        return old

    def _reclaim(self, now: float, limit: int) -> None:
        """Remove up to ``limit`` expired values, so that their memory is freed without any read of them."""
        for _ in range(limit):
            if not self._deadlines or self._deadlines[0][0] > now:
                break
            deadline, key = heapq.heappop(self._deadlines)
            node = self._find(key)
            if node is not None and node.deadline == deadline:
                self._assign(key, None, None)
        if len(self._deadlines) > 64 + 2 * self._expiring:
            self._deadlines = [
                (node.deadline, Key(space, path))
                for space, root in self._spaces.items()
                for path, node in _walk(root, (), None)
                if node.deadline is not None
            ]
            heapq.heapify(self._deadlines)


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
    return page, limit is not None and next(found, None) is not None


def _cursor(last: Path) -> bytes:
    # As hexadecimal bytes, because JSON would join two lone surrogates into one character.
    return json.dumps([segment.encode("utf-8", "surrogatepass").hex() for segment in last]).encode()


def _path_in(cursor: bytes) -> Path:
    return tuple([bytes.fromhex(segment).decode("utf-8", "surrogatepass") for segment in json.loads(cursor)])


def _deadline(ttl: int | None, now: float) -> float | None:
    return None if ttl is None else now + ttl / 1000


def _value(node: _Node) -> bytes:
    assert node.value is not None  # _live yields only nodes with a value
    return node.value


def _open(_settings: MemorySettings, _database: int) -> MemoryBackend:
    return MemoryBackend()


plugin: Final = BackendPlugin(
    "memory", MemorySettings, _open, contract=1, summary="in this process only, for tests and programs of one process"
)


@hookimpl
def redicts_backends() -> list[BackendPlugin]:
    """Return the backend ``memory``."""
    return [plugin]
