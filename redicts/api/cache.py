"""Cache: values that this process has read, kept until the store tells of a change.

A value is kept only while the store tells of the changes in its section, and is dropped as soon as it tells of one. So
is everything when notifications may have been lost, as with a connection. In any case a value is read again after ten
seconds, for writers whose notifications do not arrive, and when its first TTL ends. Writes of this process drop what
they concern before they return.

To drop is to replace the token of a section, which is one step: no exception comes between. An entry counts as long as
its token is that of its section. A token that was taken before a read shows afterwards whether it may be kept. Without
a token nothing is kept: nobody tells of changes in the section, or not yet.
"""

from __future__ import annotations

import marshal
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable
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


class _Section:
    """A section as it is listened to, or the whole tree, and the token of what is kept of it."""

    __slots__ = ("listener", "token")

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.token: object = None


class _Entry:
    """A value as it is kept: itself if it is immutable, or else what a new copy is made of."""

    __slots__ = ("data", "kind", "section", "size", "token", "until")

    def __init__(self, value: Any, leaves: Any, section: _Section, token: object, until: float) -> None:
        self.section, self.token, self.until = section, token, until
        self.data = value
        if type(value) in _IMMUTABLE:
            self.kind, size = "itself", sys.getsizeof(value)
        elif type(value) is dict and _IMMUTABLE.issuperset(map(type, value.values())):
            self.kind, self.data = "flat", value.copy()  # the reader gets the other one
            size = sum(map(sys.getsizeof, (value, *value, *value.values())))
        else:
            try:
                self.kind, self.data = "copy", marshal.dumps(value)
                size = len(self.data)
            except ValueError:  # it has objects of other types, which its codec makes again
                self.kind, self.data = "leaves", leaves
                size = sum([_OVERHEAD_BYTES + len(data) for data in leaves.values()])
        self.size = size + _OVERHEAD_BYTES

    def is_like(self, other: _Entry) -> bool:
        """Tell whether another entry holds the same value, of the same types."""
        if self.kind == other.kind == "flat":
            return marshal.dumps(self.data) == marshal.dumps(other.data)
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
        self._sections: dict[Path, _Section] = {}
        self.reset_in_child()

    def reset_in_child(self) -> None:
        """Keep nothing: the listeners are those of the parent."""
        for section in self._sections.values():
            section.token = None  # for a read that was under way when a signal handler forked
        self._sections = {}
        self._entries: OrderedDict[Path, _Entry] = OrderedDict()
        self._waiter: dict[str, threading.Thread] = {}
        self._bytes = self._hits = self._misses = self._invalidations = 0

    def get(self, path: Path) -> Any:
        """Return the value at a path, one that nobody else has, or :data:`MISSED`."""
        # Written out: a read takes no longer than some calls.
        entries = self._entries
        entry = entries.get(path)
        if entry is None or entry.section.token is not entry.token or entry.until <= monotonic():
            self._misses += 1
            return MISSED
        self._hits += 1
        try:  # noqa: SIM105  (a context manager would take as long as all the rest)
            entries.move_to_end(path)
        except KeyError:  # another thread has removed it
            pass
        if entry.kind == "itself":
            return entry.data
        if entry.kind == "flat":
            return entry.data.copy()
        if entry.kind == "copy":
            return marshal.loads(entry.data)  # noqa: S302  (made by this object)
        return nest(entry.data, path, self._store.form)

    def read(self, path: Path) -> Steps[object]:
        """Read the value at a path, or ``ABSENT``, and keep it."""
        section = self._sections.get(path[:1])
        token = None if section is None else section.token
        if section is None or token is None or section.listener is None:
            self._listen(path[:1])
            return (yield from self._store.read(path))
        listener = section.listener
        is_live, since = listener.is_live, monotonic()
        leaves, ttl = yield from self._store.leaves_and_ttl(path)
        value = nest(leaves, path, self._store.form)
        if is_live and listener.is_live:
            secs = _LONGEST_SECS if ttl is None else min(_LONGEST_SECS, (ttl - 1) / 1000)
            self._keep(path, _Entry(value, leaves, section, token, since + secs))
        return value

    def _keep(self, path: Path, entry: _Entry) -> None:
        if entry.size > self._most_bytes or entry.section.token is not entry.token:
            return
        with self._lock:
            old = self._entries.get(path)
            if old is not None and old.token is entry.token and not old.is_like(entry) and old.until > monotonic():
                # Two reads at once have found different values, of which either may be the later one.
                self._drop(entry.section)
                return
            self._entries[path] = entry
            self._entries.move_to_end(path)
            self._bytes += entry.size - (0 if old is None else old.size)
            while self._bytes > self._most_bytes and self._entries:
                _, least = self._entries.popitem(last=False)
                self._bytes -= least.size

    def forget(self, writes: Iterable[Write]) -> None:
        """Drop what writes of this process concern."""
        if self._sections:
            for name in {write.key.path[:1] for write in writes if write.key.space == VALUES}:
                self.forget_path(name)

    def forget_path(self, path: Path) -> None:
        """Drop what a write of this process at a path concerns: its section, and what was read at the root."""
        sections = self._sections
        for name in (path[:1], ()) if path else list(sections):
            section = sections.get(name)
            if section is not None:
                self._drop(section)

    def _drop(self, section: _Section) -> None:
        """Drop all values of a section."""
        if section.token is not None:
            section.token = object()
            self._invalidations += 1

    def info(self) -> CacheInfo:
        """Return the counters. No round trip."""
        return CacheInfo(self._hits, self._misses, self._invalidations, len(self._entries), self._bytes)

    def close(self) -> None:
        """Keep nothing any more, and stop listening."""
        self._is_closed = True
        sections, self._sections = list(self._sections.values()), {}
        self._entries.clear()
        self._bytes = 0
        for section in sections:
            section.token, listener = None, section.listener
            if listener is not None:
                listener.close()

    # Listening, in threads: the event loop of a task must not wait for it.

    def _listen(self, name: Path) -> None:
        """Begin to listen to the changes of a section, unless that has begun."""
        if self._is_closed or name in self._sections or len(self._sections) >= _MOST_SECTIONS:
            return
        section = _Section()
        if self._sections.setdefault(name, section) is section:
            begin = partial(self._begin, name, section)
            try:
                threading.Thread(target=begin, name="redicts-cache-begin", daemon=True).start()
            except RuntimeError:  # no thread can be started: the interpreter ends
                self._sections.pop(name, None)

    def _begin(self, name: Path, section: _Section) -> None:
        try:
            listener = driver.listen_to_changes(self._backend, request_name(), name)
        except RedictsError:
            # The next read tries again.
            self._sections.pop(name, None)
            return
        if not self._backend.capabilities.changes or not listener.ring(partial(self._drop, section)) or self._is_closed:
            listener.close()  # and the section stays without a token, so that no other read tries
            return
        section.listener = listener
        section.token = object()
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
