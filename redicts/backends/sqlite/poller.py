"""The poller: finds out which listeners other processes have notified, by looking at the file at growing intervals.

Processes that share a file cannot push, but a look is cheap: ``PRAGMA data_version`` compares the file with what the
same connection saw before, without reading a page. Only if another connection has committed something is the
notification log read. After the connection was replaced, because of a fork or an error, there is nothing to compare
with, and every listener may have been notified.

The intervals start over when a listener was notified, here or elsewhere, because more notifications are likely to
follow. Other commits do not shorten them: otherwise each waiting process would look at a busy file a thousand times a
second.
"""

from __future__ import annotations

import contextlib
import sqlite3
from time import monotonic
from typing import Final, NamedTuple

from redicts.backends.sqlite import notification_log
from redicts.backends.sqlite.connections import Connection
from redicts.backends.sqlite.notification_log import Call
from redicts.errors import RedictsError
from redicts.randomness import RANDOM

_FIRST_INTERVAL_SECS: Final = 0.001
_LONGEST_INTERVAL_SECS: Final = 0.05
_LEAST_OF_INTERVAL: Final = 0.7
"""The shortest part of an interval that is waited, at random, so that processes do not look in step."""

_DATA_VERSION: Final = "PRAGMA data_version"


class _Seen(NamedTuple):
    """What a look has shown: with which cursor, at which version of the file, after how many notifications."""

    cursor: sqlite3.Cursor
    version: int
    total: int


class News(NamedTuple):
    """The notifications since the last look, or ``None`` if every listener may have been notified."""

    calls: tuple[Call, ...] | None
    seen: _Seen | None
    has_changes: bool = True
    """Whether anything was committed."""


class DataVersionPoller:
    """Looks at one file for all waiting threads of this process. One thread at a time looks."""

    def __init__(self, path: str) -> None:
        self._connection = Connection(path)
        self.begin()

    def begin(self) -> None:
        """Know nothing, as at first and in the child of a fork, so that the first look notifies every listener."""
        self._seen: _Seen | None = None
        self._interval = _FIRST_INTERVAL_SECS
        self.due = monotonic() + self._interval

    def hasten(self) -> None:
        """Start over with short intervals, for a new listener."""
        self._interval = _FIRST_INTERVAL_SECS
        self.due = min(self.due, monotonic() + self._interval)

    def look(self) -> News:
        """Look, and set the time ``due`` of the next look. If the look fails, every listener may have been notified.

        News count as unseen until they are passed to :meth:`delivered`, so an interruption loses none.

        Cost: about 10 microseconds, and 10 more if something was committed.
        """
        seen, self._seen = self._seen, None
        connection = self._connection
        try:
            with connection.lock:
                news = _compare(connection.open(), seen)
                connection.running = False
        except BaseException as error:
            with contextlib.suppress(RedictsError):
                connection.settle(error)
            news = News(None, None)
        is_lively = news.seen is not None and news.calls != ()
        self._interval = _FIRST_INTERVAL_SECS if is_lively else min(2 * self._interval, _LONGEST_INTERVAL_SECS)
        share = RANDOM.uniform(_LEAST_OF_INTERVAL, 1.0)
        self.due = monotonic() + share * self._interval
        return news

    def delivered(self, news: News) -> None:
        """Continue from these news at the next look."""
        self._seen = news.seen

    def close(self) -> None:
        """Close the file."""
        self._connection.close_unused()


def _compare(cursor: sqlite3.Cursor, seen: _Seen | None) -> News:
    (version,) = cursor.execute(_DATA_VERSION).fetchone()
    if seen is not None and seen.cursor is cursor:
        if seen.version == version:
            return News((), seen, has_changes=False)
        found = notification_log.read(cursor)
        return News(found.since(seen.total), _Seen(cursor, version, found.total))
    return News(None, _Seen(cursor, version, notification_log.read(cursor).total))
