"""The clock of a store: milliseconds that never run backwards, whatever is done to the clock of the machine.

While a machine runs, the store's time goes on with the time since the machine was started (sleep included), which
nobody can set. The file says what has to be added to that, for this start of the machine. So all processes agree, and
setting the wall clock, forwards or back, changes no TTL.

A new start is seen by the name that the system gives it. Then the wall clock is asked once: the store's time goes on
from there, or from the latest time that is noted in the file if the wall clock shows an earlier one. Whoever writes
notes the time, at least a second apart.

Where the system gives its starts no name (other systems than Linux), each process asks the wall clock when it first
opens the file, and goes on from there by the monotonic clock.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from redicts.backends.sqlite import statements
from redicts.backends.sqlite.errors import is_read_only

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_TIME_NAMESPACE: Final = "/proc/self/ns/time"
_BETWEEN_NOTES_MS: Final = 1_000


class Machine(NamedTuple):
    """What a machine tells of the time, in milliseconds."""

    wall: Callable[[], int]
    """Since the epoch; it can be set."""

    running: Callable[[], int]
    """Since the machine was started; it cannot be set."""

    start: str
    """Names this start of the machine, and is empty where the system has no name for it."""


class Clock(Protocol):
    """What the backend goes by."""

    def begin(self, connection: sqlite3.Connection, /) -> None:
        """Get to know the file's time by a new connection, outside of any transaction."""

    def now(self) -> int:
        """Return the time in milliseconds."""

    def note(self, cursor: sqlite3.Cursor, now: int, /) -> None:
        """Note the time in the file, if that has not been done for long, inside of a transaction that writes."""


class GivenClock:
    """Seconds since the epoch by a function, as whole milliseconds: for tests, which move it."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds

    def begin(self, connection: sqlite3.Connection, /) -> None:
        """Go by the function alone."""

    def now(self) -> int:
        """Return the time, rounded so that 0.3 seconds are 300."""
        return round(self._seconds() * 1000)

    def note(self, cursor: sqlite3.Cursor, now: int, /) -> None:
        """Note nothing."""


class FileClock:
    """The clock of a file, see above."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._ahead: int | None = None
        self._noted = 0

    def begin(self, connection: sqlite3.Connection, /) -> None:
        """Read what is to be added to the time since the start; set it if this start of the machine is a new one."""
        if self._known(connection):
            return
        try:
            connection.execute(statements.BEGIN_WRITING)
            if not self._known(connection):
                self._ask_the_wall(connection)
                row = (self._machine.start, self._ahead, self.now())
                connection.execute(statements.SET_CLOCK, row)
            connection.execute(statements.COMMIT)
        except sqlite3.OperationalError as error:
            if not is_read_only(error):
                raise
            self._ask_the_wall(connection)

    def now(self) -> int:
        """Return the store's time."""
        assert self._ahead is not None
        return self._machine.running() + self._ahead

    def note(self, cursor: sqlite3.Cursor, now: int, /) -> None:
        """Note the time once a second."""
        if now - self._noted >= _BETWEEN_NOTES_MS:
            cursor.execute(statements.NOTE_TIME, (now, now))
            self._noted = now

    def _known(self, connection: sqlite3.Connection) -> bool:
        if not self._machine.start:
            return self._ahead is not None
        start, ahead, _ = _row(connection)
        if start != self._machine.start:
            return False
        self._ahead = ahead
        return True

    def _ask_the_wall(self, connection: sqlite3.Connection) -> None:
        _, _, latest = _row(connection)
        if self._ahead is not None:
            # Another machine has set it meanwhile. Nobody here shall see time go back.
            latest = max(latest, self.now())
        self._ahead = max(self._machine.wall(), latest) - self._machine.running()


class MemoryClock:
    """The clock of a store in memory: the wall's at first, and then it goes on by itself."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._ahead = machine.wall() - machine.running()

    def begin(self, connection: sqlite3.Connection, /) -> None:
        """Go on."""

    def now(self) -> int:
        """Return the time."""
        return self._machine.running() + self._ahead

    def note(self, cursor: sqlite3.Cursor, now: int, /) -> None:
        """Note nothing: the store ends with the process."""


def this_machine() -> Machine:
    """Return what this machine tells of the time."""
    start = ""
    if hasattr(time, "CLOCK_BOOTTIME"):
        with contextlib.suppress(OSError):
            start = _BOOT_ID.read_text(encoding="ascii").strip()
        with contextlib.suppress(OSError):
            # A container may have a time since the start of its own.
            start = start and f"{start} {os.readlink(_TIME_NAMESPACE)}"
    return Machine(_wall, _since_start if start else _monotonic, start)


def _wall() -> int:
    return time.time_ns() // 1_000_000


def _since_start() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def _monotonic() -> int:
    return time.monotonic_ns() // 1_000_000


def _row(connection: sqlite3.Connection) -> tuple[str, int, int]:
    row: tuple[str, int, int] | None = connection.execute(statements.READ_CLOCK).fetchone()
    return row or ("", 0, 0)
