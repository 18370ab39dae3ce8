"""Runs scheduled items; its thread exits when idle."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Final, Generic, TypeVar

from redicts.forks import Bell, ResetInChild

_log: Final = logging.getLogger("redicts.locks")

_Item = TypeVar("_Item")

_LONGEST_WAIT_SECS: Final = 3600.0
"""The longest wait that every platform supports."""

_PAUSE_SECS: Final = 0.1
"""The pause after an exception."""

_RUNNING: Final = "running"


class Scheduler(ResetInChild, Generic[_Item]):
    """Handles items when they are due, in batches, in one daemon thread that continues after every exception.

    ``due`` returns the time of ``time.monotonic`` when an item is due. ``handle`` must change that time, or discard the
    item. If it raises an exception, it is called again for the whole batch. The thread exits when it has had no items
    for ``stays`` seconds. A forked child starts without items.

    Between any two steps of a method, an exception may come, or a signal handler or a finalizer that calls a method. So
    there is no lock, and each change is one step of a dict.
    """

    def __init__(
        self, name: str, due: Callable[[_Item], float], handle: Callable[[list[_Item]], None], stays: float = 0
    ) -> None:
        super().__init__()
        self._name = name
        self._due = due
        self._handle = handle
        self._stays = stays
        self.reset_in_child()

    def reset_in_child(self) -> None:
        """Forget the items of the parent process, and its thread, even if the running thread is a copy of that."""
        self._items: dict[_Item, None] = {}
        self._bell = Bell()
        self._waits_until = inf
        """The time when the thread looks at the items again without being woken: the end of time while it looks."""
        # The running thread, under the one key. `dict.setdefault` decides atomically which of two comes first.
        self._threads: dict[str, threading.Thread] = {}

    def add(self, item: _Item) -> None:
        """Add an item, or read its due time again.

        Raises ``RuntimeError`` if no thread can be started. Then the item stays, and the next call tries again.
        """
        try:
            self._items[item] = None
            self._wake(item)
        except BaseException:
            with suppress(RuntimeError):
                self._wake(item)  # an interrupted call must not leave an item for which no thread waits
            raise

    def items(self) -> list[_Item]:
        """Return all items, due or not."""
        return list(self._items)

    def discard(self, item: _Item) -> None:
        """Remove an item, which may be in ``handle`` now."""
        self._items.pop(item, None)
        if not self._items:
            self._bell.ring()

    @property
    def runs_here(self) -> bool:
        """Whether the running thread is the one of this scheduler. It is false in a child that the thread forked."""
        return self._threads.get(_RUNNING) is threading.current_thread()

    def _wake(self, item: _Item) -> None:
        """Let the thread look at an item in time, and start it if it does not run.

        The thread says that it looks before it looks, and that it has ended before it looks for the last time.
        """
        thread = self._threads.get(_RUNNING)
        if thread is None or not thread.is_alive():
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        elif self._due(item) < self._waits_until:
            self._bell.ring()

    def _run(self) -> None:
        try:
            me = threading.current_thread()
            other = self._threads.setdefault(_RUNNING, me)
            if other is not me and not other.is_alive():
                self._threads[_RUNNING] = me
            while self.runs_here:
                try:
                    if not self._is_needed():
                        break
                    self._handle_due()
                except BaseException:
                    with suppress(BaseException):  # a logging handler may raise anything
                        _log.exception("%s failed; continuing", self._name)
                    time.sleep(_PAUSE_SECS)
        finally:
            if self.runs_here:
                del self._threads[_RUNNING]
            for item in self.items()[:1]:
                with suppress(RuntimeError):  # no thread can be started: the next item tries again
                    self._wake(item)

    def _is_needed(self) -> bool:
        """Return whether there are items, or false when there have been none for ``stays`` seconds."""
        self._waits_until = inf
        leaves_at = time.monotonic() + self._stays
        while not self._items:
            remaining = leaves_at - time.monotonic()
            if remaining <= 0:
                return False
            self._bell.wait(remaining)
        return True

    def _handle_due(self) -> None:
        """Wait until the first item is due, or until woken. Handle the items that are due then."""
        now = time.monotonic()
        times = {item: self._due(item) for item in self.items()}
        due = [item for item, at in times.items() if at <= now]
        if due:
            try:
                self._handle(due)
            except BaseException:
                self._items.update(dict.fromkeys(due))
                raise
            return
        self._waits_until = min(times.values(), default=now)
        del times
        self._bell.wait(min(_LONGEST_WAIT_SECS, self._waits_until - now))
