"""Reports about stores: logs requests that are sent again or refused, and calls observers outside of background work.

A request that is sent again may be one of a thread that renews locks, and handlers of logging are code of users, which
may sleep or raise anything. So a thread of its own writes the logs. It exits when it has written them.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

from redicts.forks import ResetInChild

_log: Final = logging.getLogger("redicts.store")

QUIET_SECS: Final = 10.0
"""The same message about the same store is logged once in so many seconds, with how often it came."""

_OURS: Final = "redicts-"
"""The beginning of the names of threads that do background work."""

_RUNNING: Final = "running"

Report = Callable[[], object]


class Repeats:
    """Counts the requests that one operation sent again."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


REPEATS: Final[ContextVar[Repeats | None]] = ContextVar("redicts.repeats", default=None)
"""The counter of the running operation, if anybody observes it."""


class _Reporter(ResetInChild):
    """Makes reports in one thread, in their order. A forked child starts without those of its parent."""

    def __init__(self) -> None:
        super().__init__()
        self.reset_in_child()

    def reset_in_child(self) -> None:
        """Forget the reports of the parent process and its thread."""
        self._pending: deque[Report] = deque()
        self._threads: dict[str, threading.Thread] = {}
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def add(self, report: Report) -> None:
        """Make a report soon. It is dropped if no thread can be started."""
        self._pending.append(report)
        if _RUNNING in self._threads:
            return
        thread = threading.Thread(target=self._run, name="redicts-reports", daemon=True)
        try:
            if self._threads.setdefault(_RUNNING, thread) is thread:
                thread.start()
        except BaseException as error:
            self._threads.clear()  # else a thread that never started would stand in the way of the next report
            if not isinstance(error, RuntimeError):
                raise

    def _run(self) -> None:
        while self._pending:
            while self._pending:
                with suppress(BaseException):  # a handler of logging, and an observer, may raise anything
                    self._pending.popleft()()
            self._threads.pop(_RUNNING, None)
            if not self._pending or self._threads.setdefault(_RUNNING, threading.current_thread()) is not (
                threading.current_thread()
            ):
                return
        self._threads.pop(_RUNNING, None)

    def log(self, level: int, what: str, text: str) -> None:
        """Log a message about a store, unless the same kind of message was logged a moment ago."""
        now = time.monotonic()
        key = what, text
        said_at, hidden = self._said.get(key, (0.0, 0))
        if said_at and now - said_at < QUIET_SECS:
            self._said[key] = said_at, hidden + 1
            return
        if len(self._said) > _MOST_KEPT:
            self._said.clear()
        self._said[key] = now, 0
        more = f" ({hidden} times more in the last {now - said_at:.0f} seconds)" if hidden else ""
        self.add(lambda: _log.log(level, "%s: %s%s", what, text, more))


_MOST_KEPT: Final = 1000
_reporter: Final = _Reporter()


class _Here(threading.local):
    """What is the same for all operations of a thread."""

    def __init__(self) -> None:
        self.is_background = threading.current_thread().name.startswith(_OURS)
        """Whether it does background work, such as renewals."""


HERE: Final = _Here()

report_later: Final = _reporter.add
"""Has a function called in the thread of reports: what a user gave is not called by background work."""


def call_observers(observers: Iterable[Callable[[Any], object]], seen: object) -> None:
    """Call observers, and log what they raise."""
    for observer in tuple(observers):
        try:
            observer(seen)
        except Exception:
            text = traceback.format_exc()
            _reporter.add(partial(_log.error, "an observer failed\n%s", text))


def sent_again(error: Exception) -> None:
    """Report that a request failed, for a reason whose text has no secret, and is sent again."""
    repeats = REPEATS.get()
    if repeats is not None:
        repeats.count += 1
    _reporter.log(logging.WARNING, "a request is sent again", str(error))


def answered_again(where: str, attempts: int) -> None:
    """Report that a store answers after attempts that failed."""
    count = f"{attempts} attempt{'' if attempts == 1 else 's'}"
    _reporter.log(logging.INFO, "a store answers again", f"{where}, after {count} that failed")


def notifications_interrupted(where: str) -> None:
    """Report that the connection for notifications is lost, or cannot be made again yet. Waits go on, and look."""
    _reporter.log(logging.WARNING, "notifications are interrupted", f"{where}; the connection for them is made again")


def given_up(error: Exception) -> None:
    """Report that a request was refused, or failed for the last time. Its caller gets the error too."""
    _reporter.log(logging.WARNING, "a request failed", str(error))
