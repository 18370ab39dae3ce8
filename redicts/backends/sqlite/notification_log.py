"""The notification log: one row of the file that names the listeners of other processes that were notified last.

SQLite tells a process *that* another one has committed something, see ``PRAGMA data_version``, but not what. If each
commit woke every waiter, waiters that look again and write while doing so would wake each other without end. So a
transaction that notifies a listener outside its own process appends the name here, and only the process of that
listener reacts. The row holds the number of names ever appended, then the last few of them, oldest first, one per line.
The number shows which names are new; a process that missed some cannot know whether its own were among them.

The row is in a table of its own, because it is as long as many values and written often.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Final, NamedTuple

from redicts.backends.sqlite import statements

Call = tuple[str, bytes]
"""A database, and the name of a listener in it."""

_KEPT: Final = 32
"""How many names are kept: more than are usually appended between two polls, few enough to be written each time."""

_NAME: Final = re.compile(rb"[\x00-\x09\x0b-\x7f]{1,100}")
"""A short line of ASCII text, without the separator of lines."""


class NotificationLog(NamedTuple):
    """The number of notifications ever, and the last few of them."""

    total: int
    calls: tuple[Call, ...]

    def since(self, total: int) -> tuple[Call, ...] | None:
        """Return the notifications after the first ``total``, or ``None`` if some of them are no longer kept."""
        new = self.total - total
        if not 0 <= new <= len(self.calls):
            return None
        return self.calls[len(self.calls) - new :]


def read(cursor: sqlite3.Cursor) -> NotificationLog:
    """Return the contents of the log."""
    row: tuple[bytes] | None = cursor.execute(statements.READ_LOG).fetchone()
    if row is None:
        return NotificationLog(0, ())
    total, *lines = row[0].split(b"\n")
    if not total.isdigit() or not row[0].isascii():
        # Another program wrote this. The next notification repairs it; until then every waiter looks for itself.
        return NotificationLog(0, ())
    parted = [line.partition(b" ") for line in lines]
    return NotificationLog(int(total[:18]), tuple([(database.decode(), name) for database, _, name in parted]))


def append(cursor: sqlite3.Cursor, calls: list[Call]) -> None:
    """Append notifications, inside a transaction that writes. Bytes that cannot name a listener are skipped."""
    calls = [call for call in calls if _NAME.fullmatch(call[1])]
    if not calls:
        return
    total, earlier = read(cursor)
    lines = [b"%s %s" % (database.encode(), name) for database, name in (*earlier, *calls)[-_KEPT:]]
    text = b"\n".join([b"%d" % (total + len(calls)), *lines])
    cursor.execute(statements.WRITE_LOG, (text,))
