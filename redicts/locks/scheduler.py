"""Runs scheduled items; its thread exits when idle."""

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
"""The longest wait that every platform supports."""


class Scheduler(Generic[_Item]):
    """Handles items when they are due, in batches, in one daemon thread that continues after exceptions.

    ``due`` returns the time of ``time.monotonic`` when an item is due. ``handle`` must change that time, or discard the
    item. The thread exits when it has had no items for ``stays`` seconds. A forked child starts without items.
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
        # Assigned last: another thread of a child that sees it relies on the rest.
        self._owner = os.getpid()

    def add(self, item: _Item) -> None:
        """Add an item, or read its due time again."""
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
        """Return all items, due or not."""
        with self._changed:
            return list(self._items)

    def discard(self, item: _Item) -> None:
        """Remove an item, which may be in ``handle`` now."""
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
                _log.exception("%s failed; continuing", self._name)
                time.sleep(0.1)
