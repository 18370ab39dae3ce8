"""A thread that does things when they are due, and is there only while there are any, or were a moment ago."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

_log: Final = logging.getLogger("redicts.locks")

_Item = TypeVar("_Item")

_LONGEST_WAIT_SECS: Final = 3600.0
"""No platform's clock fails at a wait of this length."""


class Scheduler(Generic[_Item]):
    """Handles items when they are due, all that are due at once, in one daemon thread that no exception ends.

    ``due`` tells when an item is due, in seconds of ``time.monotonic``; ``handle`` must change that, or discard it.
    After the last item the thread stays for ``stays`` seconds, where to start another would take too long. A forked
    child starts with none.
    """

    def __init__(
        self, name: str, due: Callable[[_Item], float], handle: Callable[[list[_Item]], None], stays: float = 0
    ) -> None:
        self._name = name
        self._due = due
        self._handle = handle
        self._stays = stays
        self._start()

    def _start(self) -> None:
        self._items: dict[_Item, None] = {}
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        # Last: another thread of a child that sees it takes the rest for its own.
        self._owner = os.getpid()

    def add(self, item: _Item) -> None:
        """Handle an item from now on, or look again when it is due."""
        if self._owner != os.getpid():
            self._start()
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                thread.start()
                self._thread = thread
            self._items[item] = None
            self._changed.notify()

    def items(self) -> list[_Item]:
        """Return all that is handled, due or not."""
        with self._changed:
            return list(self._items)

    def discard(self, item: _Item) -> None:
        """Handle an item no more. It may be in hand at this moment."""
        if self._owner == os.getpid():
            with self._changed:
                self._items.pop(item, None)
                self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._items, self._stays):
                    self._thread = None
                    return
                now = time.monotonic()
                due = [item for item in self._items if self._due(item) <= now]
                if not due:
                    self._changed.wait(min(_LONGEST_WAIT_SECS, min(self._due(item) for item in self._items) - now))
                    continue
            try:
                self._handle(due)
            except Exception:
                _log.exception("%s failed; it goes on", self._name)
                time.sleep(0.1)
