"""Clocks of a store: milliseconds that never run backwards, even if the clock of the machine is set.

While a machine runs, the store's time advances with the time since boot, which includes sleep and cannot be set. The
file records the offset between the two for the current boot. So all processes agree, and setting the wall clock
forwards or back changes no TTL.

The system identifies each boot. After a new boot the wall clock is read once: the store's time continues from there, or
from the latest time recorded in the file if the wall clock shows an earlier one. Writers record the time, at most once
a second.

Where the system does not identify its boots (other systems than Linux), each process reads the wall clock when it first
opens the file, and continues by the monotonic clock.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from redicts.backends.sqlite import statements
from redicts.backends.sqlite.errors import is_read_only

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_TIME_NAMESPACE: Final = "/proc/self/ns/time"
_RECORD_INTERVAL_MS: Final = 1_000
_NS_PER_MS: Final = 1_000_000


class Machine(NamedTuple):
    """What a machine tells of the time, in nanoseconds."""

    wall: Callable[[], int]
    """Since the epoch; it can be set."""

    running: Callable[[], int]
    """Since boot; it cannot be set."""

    boot: str
    """Identifies this boot; empty where the system has no name for it."""


class Clock:
    """The clock of a store in memory: the wall clock at first, then the time since boot."""

    record_due: float = float("inf")
    """The store's time from which on a writer calls :meth:`record`."""

    def __init__(self, machine: Machine) -> None:
        self._running = machine.running
        self._offset = machine.wall() // _NS_PER_MS - machine.running() // _NS_PER_MS

    def now(self) -> int:
        """Return the store's time in milliseconds."""
        return self._running() // _NS_PER_MS + self._offset

    def begin(self, connection: sqlite3.Connection) -> None:
        """Learn the file's time from a new connection, outside any transaction."""

    def record(self, cursor: sqlite3.Cursor, now: int) -> None:
        """Record the time in the file, inside a transaction that writes."""


class FileClock(Clock):
    """The clock of a file, as described above."""

    record_due = 0.0

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._machine = machine
        self._is_set = False

    def begin(self, connection: sqlite3.Connection) -> None:
        """Read the offset from the file, or record it there if this boot is a new one."""
        if self._is_known(connection):
            return
        try:
            connection.execute(statements.BEGIN_WRITING)
            if not self._is_known(connection):
                self._read_the_wall(connection)
                connection.execute(statements.SET_CLOCK, (self._machine.boot, self._offset, self.now()))
            connection.execute(statements.COMMIT)
        except sqlite3.OperationalError as error:
            connection.rollback()  # a file that is moved meanwhile becomes read-only inside the transaction
            if not is_read_only(error):
                raise
            self._read_the_wall(connection)

    def record(self, cursor: sqlite3.Cursor, now: int) -> None:
        """Record the time, and when to do so next."""
        cursor.execute(statements.RECORD_TIME, (now, now))
        self.record_due = now + _RECORD_INTERVAL_MS

    def _is_known(self, connection: sqlite3.Connection) -> bool:
        if not self._machine.boot:
            return self._is_set
        boot, offset, _ = _row(connection)
        if boot != self._machine.boot:
            return False
        self._offset, self._is_set = offset, True
        return True

    def _read_the_wall(self, connection: sqlite3.Connection) -> None:
        _, _, latest = _row(connection)
        if self._is_set:
            # Another machine has set the clock meanwhile; time must not run backwards in this process.
            latest = max(latest, self.now())
        wall, running = self._machine.wall(), self._running()
        self._offset, self._is_set = max(wall // _NS_PER_MS, latest) - running // _NS_PER_MS, True


class GivenClock(Clock):
    """Seconds since the epoch from a function that tests control."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds

    def now(self) -> int:
        """Return the time, rounded so that 0.3 seconds are 300 milliseconds."""
        return round(self._seconds() * 1000)


def this_machine() -> Machine:
    """Return the clocks of this machine and the name of its boot."""
    boot = ""
    if hasattr(time, "CLOCK_BOOTTIME"):
        with contextlib.suppress(OSError):
            boot = _BOOT_ID.read_text(encoding="ascii").strip()
        with contextlib.suppress(OSError):
            # A container may have its own time since boot.
            boot = boot and f"{boot} {os.readlink(_TIME_NAMESPACE)}"
    running = partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME) if boot else time.monotonic_ns
    return Machine(time.time_ns, running, boot)


def _row(connection: sqlite3.Connection) -> tuple[str, int, int]:
    row: tuple[str, int, int] | None = connection.execute(statements.READ_CLOCK).fetchone()
    return row or ("", 0, 0)
