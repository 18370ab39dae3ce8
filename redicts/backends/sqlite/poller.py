"""The lookout: sees by looks at the file, at growing intervals, whom other processes have notified.

There is no push between processes that share a file. What there is, is cheap: ``PRAGMA data_version`` compares the file
with what the same connection saw before, without reading a page. Only when another connection has committed something
is the bulletin read. A connection that is not the one of the last look, because the file was closed for a fork or after
an error, has nothing to compare with: then everybody may have been notified.

The intervals begin short again when somebody was called, here or elsewhere, since then more calls are likely to follow.
Other commits leave them as they are: else each process that waits would look a thousand times a second at a busy file.
"""

from __future__ import annotations

import random
import sqlite3
from time import monotonic
from typing import Final, NamedTuple

from redicts.backends.sqlite import notification_log
from redicts.backends.sqlite.connections import Connections
from redicts.backends.sqlite.notification_log import Call
from redicts.errors import RedictsError

_FIRST_INTERVAL_SECS: Final = 0.001
_LONGEST_INTERVAL_SECS: Final = 0.05
_LEAST_OF_INTERVAL: Final = 0.7
"""An interval is between this part of it and all of it, so that processes do not look in step."""

_DATA_VERSION: Final = "PRAGMA data_version"


class _Seen(NamedTuple):
    """What a look has shown: with which connection, at which version of the file, after how many calls."""

    cursor: sqlite3.Cursor
    version: int
    total: int


class News(NamedTuple):
    """Who was called since the last look, or ``None`` if everybody may have been."""

    calls: tuple[Call, ...] | None
    seen: _Seen | None


class DataVersionPoller:
    """Looks at one file for all who wait in this process. One thread at a time looks."""

    def __init__(self, path: str) -> None:
        self._connections = Connections(path, 0.0)
        self.begin()

    def begin(self) -> None:
        """Know nothing, as at first and in the child of a fork; the first look finds that all may have been called."""
        self._seen: _Seen | None = None
        self._interval = _FIRST_INTERVAL_SECS
        self.due = monotonic() + self._interval

    def hasten(self) -> None:
        """Begin with short intervals again, for somebody who has just come."""
        self._interval = _FIRST_INTERVAL_SECS
        self.due = min(self.due, monotonic() + self._interval)

    def look(self) -> News:
        """Look, and set the time at which the next look is ``due``. A failure is no error: all may have been called.

        The news count as unseen until they are handed back to :meth:`delivered`, so an interruption loses none.

        Cost: about 10 microseconds, and 10 more if something was committed.
        """
        seen, self._seen = self._seen, None
        try:
            news = self._connections.run(_compare, seen)
        except RedictsError:
            news = News(None, None)
        lively = news.seen is not None and news.calls != ()
        self._interval = _FIRST_INTERVAL_SECS if lively else min(2 * self._interval, _LONGEST_INTERVAL_SECS)
        share = random.uniform(_LEAST_OF_INTERVAL, 1.0)  # noqa: S311  (it only keeps rivals out of step)
        self.due = monotonic() + share * self._interval
        return news

    def delivered(self, news: News) -> None:
        """Go on from these news at the next look."""
        self._seen = news.seen

    def close(self) -> None:
        """Let go of the file."""
        self._connections.close()


def _compare(cursor: sqlite3.Cursor, seen: _Seen | None) -> News:
    (version,) = cursor.execute(_DATA_VERSION).fetchone()
    if seen is not None and seen.cursor is cursor:
        if seen.version == version:
            return News((), seen)
        found = notification_log.look(cursor)
        return News(found.since(seen.total), _Seen(cursor, version, found.total))
    return News(None, _Seen(cursor, version, notification_log.look(cursor).total))
