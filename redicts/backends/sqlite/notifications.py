"""Those who listen in this process: notified by its own transactions at once, by those of others through a lookout.

All instances in this process that use the same file share one :class:`Listeners`; a store in memory has one of its own.
There is no thread in the background: of the threads that wait, one at a time keeps the lookout for all of them, and
hands this on when it leaves.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable
from time import monotonic
from typing import Final
from weakref import WeakSet, WeakValueDictionary

from redicts.backends.sqlite.notification_log import Call
from redicts.backends.sqlite.poller import DataVersionPoller
from redicts.core.listener import Listener
from redicts.forks import Bell

_KEEPER: Final = "keeper"


class Listeners:
    """All who listen in this process to one store."""

    def __init__(self, poller: DataVersionPoller | None) -> None:
        self._poller = poller
        self._begin()
        _everywhere.add(self)

    def _begin(self) -> None:
        """Set up what belongs to one process: nobody listens."""
        self._by_name: dict[Call, SqliteListener] = {}
        self._waiting: dict[SqliteListener, None] = {}
        # Under its one key, the listener whose thread keeps the lookout. A dict settles in one step who comes first.
        self._keeper: dict[str, SqliteListener] = {}
        if self._poller is not None:
            self._poller.begin()

    def add(self, call: Call, listener: SqliteListener) -> None:
        """Have a listener notified by this call."""
        self._by_name[call] = listener
        if self._poller is not None:
            self._poller.hasten()

    def remove(self, call: Call) -> None:
        """Forget a listener, if it is there."""
        self._by_name.pop(call, None)

    def __contains__(self, call: Call) -> bool:
        return call in self._by_name

    def notify(self, calls: Iterable[Call]) -> None:
        """Wake those who are called and listen here."""
        for call in calls:
            listener = self._by_name.get(call)
            if listener is not None:
                listener.notify()

    def wait(self, listener: SqliteListener, deadline: float) -> None:
        """Return when the listener is notified or the time is over.

        Who leaves takes himself off the list before he looks whether somebody keeps the lookout, and who keeps it gives
        that up before he picks a successor from the list. So whoever is picked just when he leaves sees that he must
        pick another.
        """
        self._waiting[listener] = None
        try:
            while not listener.notified:
                until = deadline
                if self._poller is not None and self._keeper.setdefault(_KEEPER, listener) is listener:
                    if self._poller.due <= monotonic():
                        self._look(self._poller)
                        continue
                    until = min(deadline, self._poller.due)
                remaining = until - monotonic()
                if remaining > 0:
                    listener.bell.wait(remaining)
                elif until == deadline:
                    break
        finally:
            self._waiting.pop(listener, None)
            if self._keeper.get(_KEEPER) is listener:
                del self._keeper[_KEEPER]
            if self._poller is not None and not self._keeper:
                for successor in list(self._waiting)[:1]:
                    successor.bell.ring()

    def _look(self, poller: DataVersionPoller) -> None:
        news = poller.look()
        if news.calls is None:
            for listener in (*list(self._by_name.values()), *list(self._waiting)):
                listener.notify()
        else:
            self.notify(news.calls)
        poller.delivered(news)


class SqliteListener(Listener):
    """A listener on one database of a SQLite file, or of a store in memory."""

    __slots__ = ("_call", "_listeners", "bell", "notified")

    def __init__(self, listeners: Listeners, database: str, name: str) -> None:
        self.notified = False
        self.bell: Final = Bell()
        self._call = database, name.encode()
        self._listeners = listeners
        listeners.add(self._call, self)

    def wait(self, seconds: float, /) -> bool:
        """Return true when notified, or false after so many seconds."""
        self._listeners.wait(self, monotonic() + seconds)
        # What calls between these two comes before this call returns, and so it counts as the same notification.
        notified, self.notified = self.notified, False
        return notified

    def notify(self) -> None:
        """Let a call of :meth:`wait` return, this one or the next."""
        self.notified = True
        self.bell.ring()

    def close(self) -> None:
        """Stop listening."""
        self._listeners.remove(self._call)


def listeners_at(path: str) -> Listeners | None:
    """Return those who listen in this process to this file, if it was ever listened to by who still uses it."""
    return _at_files.get(os.path.realpath(path))


def shared_listeners(path: str) -> Listeners:
    """Return those who listen in this process to this file, by whatever path they know it.

    The file is let go of when nobody has them any more: neither a listener that is open, nor a backend.
    """
    with _growing:
        listeners = listeners_at(path)
        if listeners is None:
            poller = DataVersionPoller(path)
            listeners = _at_files[os.path.realpath(path)] = Listeners(poller)
            weakref.finalize(listeners, poller.close)
        return listeners


_everywhere: Final[WeakSet[Listeners]] = WeakSet()
_at_files: Final[WeakValueDictionary[str, Listeners]] = WeakValueDictionary()
_growing = threading.RLock()


def _after_fork_in_child() -> None:
    """Begin again: the threads that listen are the parent's."""
    global _growing  # noqa: PLW0603  (the parent's may be held by a thread that is not here)
    _growing = threading.RLock()
    for listeners in list(_everywhere):
        listeners._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
