"""Listeners of this process: notified at once by its own transactions, and by those of others through a poller.

All instances of this process that use the same file share one :class:`Listeners`; a store in memory has its own. No
background thread runs: one of the waiting threads polls for all of them, and passes this on when it leaves. While the
poller rests, that thread waits for an event of the file.

Listeners to changes are notified after each commit of this process, of what it wrote, and after each commit of another
process, which says nothing of what that wrote.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from functools import lru_cache
from time import monotonic
from typing import Any, Final

from redicts.backends.sqlite.file_events import Alarm
from redicts.backends.sqlite.interruptions import is_under_way
from redicts.backends.sqlite.notification_log import Call
from redicts.backends.sqlite.poller import DataVersionPoller
from redicts.core.listener import Listener
from redicts.core.minitransaction import Path
from redicts.core.watchers import Watchers
from redicts.forks import Bell, ResetInChild
from redicts.handles import SharedByName

_POLLING: Final = "polling"

watched: Final[dict[int, Any]] = {}
"""Weak references to all listeners to changes of this process, in any file, until they are freed. A writer looks here
first: it is false without any."""


class Listeners(ResetInChild):
    """All listeners of this process to one store."""

    def __init__(self, poller: DataVersionPoller | None) -> None:
        self._poller = poller
        self.reset_in_child()
        super().__init__()

    def reset_in_child(self) -> None:
        """Let nobody listen: the threads that did are the parent's."""
        self._by_call: dict[Call, SqliteListener] = {}
        self._waiting: dict[SqliteListener, None] = {}
        self._watchers: dict[str, Watchers] = {}
        # The listener whose thread polls, under the one key. `dict.setdefault` decides atomically which comes first.
        self._polling: dict[str, SqliteListener] = {}
        if self._poller is not None:
            self._poller.begin()

    def add(self, call: Call, listener: SqliteListener) -> None:
        """Let a listener be notified under this name."""
        self._by_call[call] = listener
        if self._poller is not None:
            self._poller.hasten()

    def watch(self, database: str, path: Path, listener: SqliteListener) -> None:
        """Let a listener be notified of changes at, above and below a path of a database."""
        number = id(listener)
        watched[number] = weakref.ref(listener, lambda _: watched.pop(number, None))
        self._watchers.setdefault(database, Watchers()).add(listener, path)

    def notify_changes(self, database: str, paths: Iterable[Path]) -> None:
        """Notify the listeners to changes that writes at these paths concern."""
        watchers = self._watchers.get(database)
        if watchers is not None:
            watchers.notify(paths)

    def remove(self, call: Call, listener: SqliteListener) -> None:
        """Forget a listener and its name."""
        self._by_call.pop(call, None)
        for watchers in list(self._watchers.values()):
            watchers.discard(listener)

    def __contains__(self, call: Call) -> bool:
        return call in self._by_call

    def notify(self, calls: Iterable[Call]) -> None:
        """Notify those of these listeners that are in this process."""
        for call in calls:
            listener = self._by_call.get(call)
            if listener is not None:
                listener.notify()

    def wait(self, listener: SqliteListener, deadline: float) -> None:
        """Return when the listener is notified or the deadline has passed.

        A thread that leaves removes itself from the waiting ones before it checks whether another thread polls. A
        thread that stops polling says so before it wakes a successor among the waiting ones. So a successor that is
        woken just when it leaves wakes the next one.
        """
        thread = threading.get_ident()
        try:
            self._waiting[listener] = None
            listener.thread = thread
            while not listener.notified:
                until = deadline
                poller = self._poller if self._poller is not None and self._polls(listener) else None
                if poller is not None:
                    if poller.due <= monotonic():
                        self._poll(poller)
                        continue
                    until = min(deadline, poller.due)
                remaining = until - monotonic()
                if remaining > 0:
                    listener.pause(remaining, poller)
                elif until == deadline:
                    break
        finally:
            self._waiting.pop(listener, None)
            if self._polling.get(_POLLING) is listener:
                del self._polling[_POLLING]
            if self._poller is not None and not self._polling:
                for successor in list(self._waiting)[:1]:
                    successor.wake()

    def _polls(self, listener: SqliteListener) -> bool:
        """Tell whether this listener's thread polls, or let it poll if the one that polls cannot.

        That one is the same thread, which polls itself, or which a signal handler has interrupted that waits. Or it has
        been ended by an exception before it could pass the polling on.
        """
        other = self._polling.setdefault(_POLLING, listener)
        if other.thread == listener.thread or not other.is_waiting():
            self._polling[_POLLING] = other = listener
        return other is listener

    def _poll(self, poller: DataVersionPoller) -> None:
        news = poller.look()
        if news.calls is None:
            for listener in (*list(self._by_call.values()), *list(self._waiting)):
                listener.notify()
        else:
            self.notify(news.calls)
            if news.has_changes:
                for watchers in list(self._watchers.values()):
                    watchers.notify_all()
        poller.delivered(news)


class SqliteListener(Listener):
    """A listener on one database of a SQLite file, or of a store in memory."""

    __slots__ = ("__weakref__", "_alarm", "_bell", "_call", "_listeners", "_ring", "notified", "thread")

    def __init__(self, listeners: Listeners, database: str, name: str) -> None:
        self.notified = False
        self._bell: Final = Bell()
        self._ring: Callable[[], object] = self._bell.ring
        self._alarm: Alarm | None = None
        self.thread = 0
        """The thread that waits, or waited last."""
        self._call = database, name.encode()
        self._listeners = listeners
        listeners.add(self._call, self)

    def watch(self, path: Path) -> None:
        """Be notified of changes at, above and below a path, too."""
        self._listeners.watch(self._call[0], path, self)

    def wait(self, seconds: float, /) -> bool:
        """Return true when notified, or false after this many seconds."""
        self._listeners.wait(self, monotonic() + seconds)
        # A notification between these two steps precedes the end of this call, so it counts as the same one.
        notified, self.notified = self.notified, False
        return notified

    def is_waiting(self) -> bool:
        """Tell whether its thread is inside :meth:`Listeners.wait` with this listener."""
        return is_under_way(self.thread, "listener", self)

    def pause(self, seconds: float, poller: DataVersionPoller | None) -> None:
        """Wait until it is notified or woken, or for so many seconds; also for the poller, while that rests."""
        if poller is None or not poller.is_resting:
            self._bell.wait(seconds)
            return
        try:
            # A new one each time: a signal handler that waits inside of this wait must not take its ringing.
            self._alarm = alarm = Alarm()
            if not self.notified:
                poller.rest(alarm, seconds)
        except OSError:  # the process has no free descriptor
            self._bell.wait(seconds)
        finally:
            self._alarm = None

    def notify(self) -> None:
        """End a call of :meth:`wait`, the current one or the next."""
        self.notified = True
        self.wake()

    def wake(self) -> None:
        """End a pause, the current one or the next."""
        self._ring()
        alarm = self._alarm
        if alarm is not None:
            alarm.ring()

    def ring(self, bell: Callable[[], object], /) -> bool:
        """Call a function in place of ending :meth:`wait`, while another thread waits or this process notifies."""
        self._ring = bell
        return True

    def close(self) -> None:
        """Stop listening."""
        self._listeners.remove(self._call, self)


def listeners_at(path: str) -> Listeners | None:
    """Return the listeners of this process to a file, if a listener or a backend still holds them.

    A symbolic link is followed once, because that takes as long as a write. Listeners to what it leads to later are
    notified as by another process.
    """
    return _by_file.find(_real_path(path))


def shared_listeners(path: str) -> Listeners:
    """Return the listeners of this process to a file, the same for every path that leads to it.

    The poller closes the file when neither an open listener nor a backend holds them.
    """

    def make() -> Listeners:
        poller = DataVersionPoller(path)
        listeners = Listeners(poller)
        weakref.finalize(listeners, poller.close)
        return listeners

    return _by_file.get(os.path.realpath(path), make)


_real_path: Final = lru_cache(maxsize=128)(os.path.realpath)

_by_file: Final = SharedByName[Listeners]()
