"""Listeners to changes on a cluster, subscribed on the nodes that have the sections they are about.

A change is published to the node that has its section (``SPUBLISH``), so that a write does not concern the other nodes.
A process has a connection, and a thread that reads it, for each node with a section that is watched. One more thread
subscribes again where a slot was moved to or a replica was promoted, and to new sections for those who watch the root.
A server before Redis 7.0 publishes to all nodes, and is asked for the same channels by ``SUBSCRIBE``.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Final
from weakref import ref

from redicts.backends.redis.pubsub import BellListener, RedisListener, Subscriptions, pause
from redicts.core.minitransaction import Path
from redicts.errors import RedictsError

Channels = Sequence[tuple[str, tuple[bytes, ...]]]
"""Addresses of nodes, each with channels that it has."""

_LOOK_SECS: Final = 0.5
"""How often it is looked whether all listeners are subscribed, and how long a thread reads at a time."""

_REFRESH_SECS: Final = 10.0
"""How often those who watch the root ask for the sections, in case the message of a new one was lost."""

_SETTLES_SECS: Final = 1.0
"""How long after a subscription was lost a listener is notified again. Until the nodes agree, messages may be lost."""

_ATTEMPTS: Final = 5
"""How often a listener tries to subscribe, because a slot may be moved meanwhile."""


class ClusterListener(BellListener):
    """A listener to the changes of one path, with one inner listener for each node that has a part of it."""

    __slots__ = ("_process", "channels", "due", "inner", "is_closed", "name", "path")

    def __init__(self, name: str, path: Path) -> None:
        super().__init__()
        self.name: Final = name
        self.path: Final = path
        self.inner: tuple[RedisListener, ...] = ()
        """The listeners on the nodes, none before it is subscribed."""
        self.is_closed = False
        self.channels: Channels = ()
        """Where it listens, in the same order."""
        self.due = math.inf
        """When it is looked whether it listens where it should, by ``time.monotonic``."""
        self._process = os.getpid()

    def wait(self, seconds: float, /) -> bool:
        """Return true when notified, or false after this many seconds."""
        if self._process != os.getpid():
            return pause(seconds)
        deadline = time.monotonic() + seconds
        while not self.notified:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.pause(left)
        self.notified = False
        return True

    @property
    def is_live(self) -> bool:
        """Whether each node has confirmed the subscription, on a connection that is there."""
        inner = self.inner
        return bool(inner) and all(listener.is_live for listener in inner)

    def close(self) -> None:
        """Stop listening."""
        self.is_closed = True
        if self._process == os.getpid():
            _close_all(self.inner)


class ClusterChanges:
    """The listeners to changes of one process.

    ``channels`` returns the channels of a path, as far as the map of slots is right, and ``look`` corrects the map. The
    first of those of the root tells of new sections. ``subscriptions`` makes those of one node.
    """

    def __init__(
        self,
        channels: Callable[[Path, bool], Channels],
        look: Callable[[], object],
        subscriptions: Callable[[str], Subscriptions],
    ) -> None:
        self._channels = channels
        self._look = look
        self._make = subscriptions
        self._is_sharded = True
        self._closed = False
        self._subscriptions: dict[str, Subscriptions] = {}
        self._listeners: dict[int, ref[ClusterListener]] = {}
        self._readers: dict[str, _Worker] = {}
        self._follower: Final = _Worker(lambda: bool(self._listening()), self._follow)
        self._woken: Final = threading.Event()
        self._numbers: Final = count()

    def listen(self, name: str, path: Path) -> ClusterListener:
        """Return a new listener, subscribed. Raises an error below :class:`~redicts.errors.StoreError`."""
        listener = ClusterListener(name, path)
        me = id(listener)
        self._listeners[me] = ref(listener, lambda _: self._listeners.pop(me, None))
        self._open(listener)
        listener.due = _next_due(listener)
        self._follower.start()
        return listener

    def close(self) -> None:
        """End the threads and connections: now if there are no listeners, else when the last one is closed."""
        self._closed = True
        self._woken.set()
        for subscriptions in list(self._subscriptions.values()):
            subscriptions.close()
            if not self._listening():
                subscriptions.interrupt()

    def _open(self, listener: ClusterListener) -> None:
        """Subscribe to the channels where they are now, in place of where they were."""
        attempt = 0
        while True:
            try:
                channels = self._channels(listener.path, self._is_sharded)
                opened = self._subscribed(listener, channels)
                break
            except RedictsError as error:
                attempt += 1
                if self._is_sharded and "unknown command" in str(error.__cause__).lower():
                    self._is_sharded = False
                elif attempt == _ATTEMPTS:
                    raise
                else:
                    pause(_LOOK_SECS)
                    self._look()
        before = listener.inner
        listener.channels, listener.inner = channels, opened
        _close_all(opened if listener.is_closed else before)
        for address, _ in channels:
            reader = self._readers.get(address)
            if reader is None:
                made = _Worker(partial(self._is_read, address), partial(self._read, address, listener.name))
                reader = self._readers.setdefault(address, made)
            reader.start()

    def _subscribed(self, listener: ClusterListener, channels: Channels) -> tuple[RedisListener, ...]:
        """Return the inner listeners. The first one of the root has the follower look for new sections."""
        me = ref(listener)
        opened: list[RedisListener] = []

        def notify() -> None:
            found = me()
            if found is not None:
                if not found.is_live:
                    self._woken.set()
                found.notify()

        def find_sections() -> None:
            found = me()
            if found is not None:
                found.due = 0.0
                self._woken.set()

        try:
            for address, names in channels:
                name = self._new_name(listener.name)
                opened.append(self._at(address).listen_to_changes(name, listener.path, names))
                opened[-1].ring(notify if listener.path or len(opened) > 1 else find_sections)
        except BaseException:
            _close_all(opened)
            raise
        return tuple(opened)

    def _at(self, address: str) -> Subscriptions:
        found = self._subscriptions.get(address)
        if found is None:
            found = self._subscriptions.setdefault(address, self._make(address))
        if self._closed:
            found.close()
        return found

    def _listening(self) -> list[ClusterListener]:
        found = [reference() for reference in list(self._listeners.values())]
        return [listener for listener in found if listener is not None and not listener.is_closed]

    def _new_name(self, name: str) -> str:
        """Return a name that no other listener has, which one that was just closed may still be known by."""
        return f"{name}/{next(self._numbers)}"

    def _is_read(self, address: str) -> bool:
        return any(address == where for listener in self._listening() for where, _ in listener.channels)

    def _read(self, address: str, name: str) -> None:
        """Read the connection to one node, while anyone listens there."""
        try:
            with self._at(address).listen(self._new_name(name)) as reader:
                while self._is_read(address):
                    reader.wait(_LOOK_SECS)
            self._at(address).close_unused()
        except RedictsError:
            self._woken.set()
            pause(_LOOK_SECS)

    def _follow(self) -> None:
        """Subscribe listeners again that are not subscribed any more, and those to the root to new sections."""
        self._woken.wait(_LOOK_SECS)
        self._woken.clear()
        has_looked = False
        for listener in self._listening():
            is_lost = bool(listener.inner) and not listener.is_live
            if not is_lost and listener.due > time.monotonic():
                continue
            listener.due = time.monotonic() + _SETTLES_SECS if is_lost else _next_due(listener)
            with suppress(RedictsError):  # the watchers look, and get the error of the store
                if not has_looked:
                    self._look()
                    has_looked = True
                if is_lost or self._channels(listener.path, self._is_sharded) != listener.channels:
                    self._open(listener)
            listener.notify()


def _next_due(listener: ClusterListener) -> float:
    """Return when a listener that is subscribed is looked at again."""
    return math.inf if listener.path else time.monotonic() + _REFRESH_SECS


class _Worker:
    """A thread that does some work again and again while it is needed."""

    def __init__(self, is_needed: Callable[[], bool], work: Callable[[], None]) -> None:
        self._is_needed = is_needed
        self._work = work
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="redicts-cluster-changes", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            while self._is_needed():
                self._work()
            self._thread = None
            # A call that needs it from now on starts another one. A call before that has not.
            if not self._is_needed() or self._thread is not None:
                return
            self._thread = threading.current_thread()


def _close_all(listeners: Iterable[RedisListener]) -> None:
    for listener in listeners:
        listener.close()
