"""The bulletin: one row of the file that says which listeners of other processes were notified last.

SQLite tells a process *that* another one has committed something, see ``PRAGMA data_version``, but not what. If each
commit woke all who wait, those who look for themselves and write while doing so would wake each other without end. So
a transaction that notifies a listener which is not in its own process adds the name here, and only who finds its own
name
is notified. The row holds the number of names that were ever added, then the last few of them, oldest first, one per
line. The numbers tell which are new; who has missed some cannot know whether he was meant.

The row is stored under a key that belongs to no database, so no transaction of the contract ever meets it.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Final, NamedTuple

from redicts.backends.sqlite import statements

Call = tuple[str, bytes]
"""A database, and the name of a listener in it."""

_KEY: Final = b"wakes\x00"

_KEPT: Final = 32
"""How many names stay legible: more than are usually added between two looks, few enough to be written each time."""

_NAME: Final = re.compile(rb"[\x00-\x09\x0b-\x7f]{1,100}")
"""A short line of ASCII text, without the character that parts the lines."""


class NotificationLog(NamedTuple):
    """How many calls there ever were, and the last few."""

    total: int
    calls: tuple[Call, ...]

    def since(self, total: int) -> tuple[Call, ...] | None:
        """Return the calls after so many, or ``None`` if some of them are not legible any more."""
        new = self.total - total
        if not 0 <= new <= len(self.calls):
            return None
        return self.calls[len(self.calls) - new :]


def look(cursor: sqlite3.Cursor) -> NotificationLog:
    """Return what the bulletin says."""
    row: tuple[bytes, None] | None = cursor.execute(statements.READ_NODE, (_KEY,)).fetchone()
    if row is None:
        return NotificationLog(0, ())
    total, *lines = row[0].split(b"\n")
    if not total.isdigit() or not row[0].isascii():
        # Somebody else wrote this. The next call makes it legible again; until then everybody looks for himself.
        return NotificationLog(0, ())
    parted = [line.partition(b" ") for line in lines]
    return NotificationLog(int(total[:18]), tuple([(database.decode(), name) for database, _, name in parted]))


def post(cursor: sqlite3.Cursor, calls: list[Call]) -> None:
    """Add calls, inside of a transaction that writes. What can be the name of no listener is passed over."""
    calls = [call for call in calls if _NAME.fullmatch(call[1])]
    if not calls:
        return
    total, earlier = look(cursor)
    lines = [b"%s %s" % (database.encode(), name) for database, name in (*earlier, *calls)[-_KEPT:]]
    text = b"\n".join([b"%d" % (total + len(calls)), *lines])
    cursor.execute(statements.PUT, (_KEY, text, None))
