"""Cache: values that this process has read, kept until the store tells of a change.

A value is kept only while the store tells of the changes in its section, and is dropped as soon as it tells of one. So
is everything when notifications may have been lost, as with a connection. In any case a value is read again after ten
seconds, for writers whose notifications do not arrive, and when its first TTL ends. Writes of this process drop what
they concern before they return.

To drop is to replace the token of a section, which is one step: no exception comes between. An entry counts as long as
its token is that of its section. A token that was taken before a read shows afterwards whether it may be kept.
"""

from __future__ import annotations

import marshal
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Final, NamedTuple

from redicts.core import driver
from redicts.core.backend import Backend
from redicts.core.driver import Steps
from redicts.core.leaves import ABSENT, nest
from redicts.core.listener import Listener
from redicts.core.minitransaction import VALUES, Path, Write
from redicts.core.store import TreeStore
from redicts.errors import RedictsError
from redicts.forks import ForkSafeLock, ResetInChild
from redicts.locks.owner import request_name

MISSED: Final = object()
"""What :meth:`Cache.get` returns if the value is not kept."""

_LONGEST_SECS: Final = 10.0
"""How long a value is kept at most."""

_WAIT_SECS: Final = 1.0
_PAUSE_SECS: Final = 0.2
_OVERHEAD_BYTES: Final = 300
"""About what an entry takes besides its value."""

_IMMUTABLE: Final = frozenset({str, int, float, bool, bytes, type(None), type(ABSENT)})
_MOST_SECTIONS: Final = 1_000
"""How many sections are listened to at most. Values in others are not kept."""


class CacheInfo(NamedTuple):
    """What a cache has done so far, and what it holds."""

    hits: int
    """The reads that it answered."""
    misses: int
    """The reads that the store answered."""
    invalidations: int
    """How often a section was dropped: one for each change, and one for each time that changes may have been lost."""
    entries: int
    bytes: int


class _Entry:
    """A value as it is kept: itself if it is immutable, or else what a new copy is made of."""

    __slots__ = ("data", "kind", "size", "token", "until")

    def __init__(self, value: Any, leaves: Any, token: object, until: float) -> None:
        self.token, self.until = token, until
        self.data = value
        if type(value) in _IMMUTABLE:
            self.kind, size = "itself", sys.getsizeof(value)
        else:
            try:
                self.kind, self.data = "copy", marshal.dumps(value)
                size = len(self.data)
            except ValueError:  # it has objects of other types, which its codec makes again
                self.kind, self.data = "leaves", leaves
                size = sum([_OVERHEAD_BYTES + len(data) for data in leaves.values()])
        self.size = size + _OVERHEAD_BYTES

    def is_like(self, other: _Entry) -> bool:
        """Tell whether another entry holds the same value."""
        return self.kind == other.kind and type(self.data) is type(other.data) and bool(self.data == other.data)


class Cache(ResetInChild):
    """The kept values of one database, shared by all threads and tasks of the process.

    ``most_bytes`` bounds their size. The least recently used go first.
    """

    def __init__(self, backend: Backend, store: TreeStore, most_bytes: int) -> None:
        super().__init__()
        self._backend = backend
        self._store = store
        self._most_bytes = most_bytes
        self._is_closed = False
        self._lock = ForkSafeLock()
        self.reset_in_child()

    def reset_in_child(self) -> None:
        """Keep nothing: the listeners are those of the parent."""
        self._entries: OrderedDict[Path, _Entry] = OrderedDict()
        self._tokens: dict[Path, object] = {}
        self._listeners: dict[Path, Listener | None] = {}
        self._waiter: dict[str, threading.Thread] = {}
        self._bytes = self._hits = self._misses = self._invalidations = 0

    def get(self, path: Path) -> Any:
        """Return the value at a path, one that nobody else has, or :data:`MISSED`."""
        entry = self._entries.get(path)
        if entry is None or self._tokens.get(path[:1]) is not entry.token or entry.until <= monotonic():
            self._misses += 1
            return MISSED
        self._hits += 1
        with suppress(KeyError):  # another thread has removed it
            self._entries.move_to_end(path)
        if entry.kind == "itself":
            return entry.data
        if entry.kind == "copy":
            return marshal.loads(entry.data)  # noqa: S302  (made by this object)
        return nest(entry.data, path, self._store.form)

    def read(self, path: Path) -> Steps[object]:
        """Read the value at a path, or ``ABSENT``, and keep it."""
        section = path[:1]
        token, listener = self._tokens.get(section), self._listeners.get(section)
        if token is None or listener is None:
            self._listen(section)
            return (yield from self._store.read(path))
        is_live, since = listener.is_live, monotonic()
        leaves, ttl = yield from self._store.leaves_and_ttl(path)
        value = nest(leaves, path, self._store.form)
        if is_live and listener.is_live:
            secs = _LONGEST_SECS if ttl is None else min(_LONGEST_SECS, (ttl - 1) / 1000)
            self._keep(path, _Entry(value, leaves, token, since + secs))
        return value

    def _keep(self, path: Path, entry: _Entry) -> None:
        if entry.size > self._most_bytes or self._tokens.get(path[:1]) is not entry.token:
            return
        with self._lock:
            old = self._entries.get(path)
            if old is not None and old.token is entry.token and not old.is_like(entry) and old.until > monotonic():
                # Two reads at once have found different values, of which either may be the later one.
                self._drop(path[:1])
                return
            self._entries[path] = entry
            self._entries.move_to_end(path)
            self._bytes += entry.size - (0 if old is None else old.size)
            while self._bytes > self._most_bytes and self._entries:
                _, least = self._entries.popitem(last=False)
                self._bytes -= least.size

    def forget(self, writes: Iterable[Write]) -> None:
        """Drop what writes of this process concern."""
        for section in {write.key.path[:1] for write in writes if write.key.space == VALUES}:
            self._drop(section)
            if section:
                self._drop(())
            else:
                for other in list(self._tokens):
                    self._drop(other)

    def _drop(self, section: Path) -> None:
        """Drop all values of a section."""
        if section in self._tokens:
            self._tokens[section] = object()
            self._invalidations += 1

    def info(self) -> CacheInfo:
        """Return the counters. No round trip."""
        return CacheInfo(self._hits, self._misses, self._invalidations, len(self._entries), self._bytes)

    def close(self) -> None:
        """Keep nothing any more, and stop listening."""
        self._is_closed = True
        listeners = list(self._listeners.values())
        self._tokens, self._listeners = {}, {}
        self._entries.clear()
        self._bytes = 0
        for listener in listeners:
            if listener is not None:
                listener.close()

    # Listening, in threads: the event loop of a task must not wait for it.

    def _listen(self, section: Path) -> None:
        """Begin to listen to the changes of a section, unless that has begun."""
        if self._is_closed or section in self._listeners or len(self._listeners) >= _MOST_SECTIONS:
            return
        if self._listeners.setdefault(section, None) is None:
            try:
                threading.Thread(target=self._begin, args=(section,), name="redicts-cache-begin", daemon=True).start()
            except RuntimeError:  # no thread can be started: the interpreter ends
                self._listeners.pop(section, None)

    def _begin(self, section: Path) -> None:
        try:
            listener = driver.listen_to_changes(self._backend, request_name(), section)
        except RedictsError:
            # The next read tries again.
            self._listeners.pop(section, None)
            return
        if not self._backend.capabilities.changes or not listener.ring(partial(self._drop, section)) or self._is_closed:
            listener.close()  # and the section stays marked, so that no other read tries
            return
        self._listeners[section] = listener
        self._tokens[section] = object()
        if self._is_closed:  # meanwhile, so that close() has not seen the listener
            listener.close()
        self._wait_in_thread()

    def _wait_in_thread(self) -> None:
        """Let one thread wait, because some listeners are told only while some thread does."""
        me = threading.Thread(target=self._wait, name="redicts-cache", daemon=True)
        if self._waiter.setdefault("waiter", me) is me:
            me.start()

    def _wait(self) -> None:
        while not self._is_closed:
            try:
                # By a deadline: a store that does not answer must not keep a thread of a cache that was closed.
                with driver.listen(self._backend, request_name(), monotonic() + _WAIT_SECS) as listener:
                    while not self._is_closed:
                        listener.wait(_WAIT_SECS)
            except RedictsError:
                threading.Event().wait(_PAUSE_SECS)
