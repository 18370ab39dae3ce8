"""Kills a process between two of its operations on files, where a file may be that nobody else knows."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from typing import Any, Final

_BEGINNINGS: Final = ("fcntl.", "mmap.", "os.", "shutil.", "sqlite3.connect", "tempfile.")
"""How the names of audit events begin that are about files."""

_LOOKS: Final = frozenset({"os.fwalk", "os.listdir", "os.putenv", "os.scandir", "os.unsetenv", "os.walk"})
"""Those that change none."""

_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def kill_at(number: int) -> None:
    """Kill this process just before the operation of this number, the first one from now on being 0.

    Operations are those that Python's audit events name: code in C that opens files by itself has none. No audit hook
    can be removed, so this is for a child that ends soon.
    """
    numbers = itertools.count()

    def audit(event: str, details: tuple[Any, ...]) -> None:
        if _is_operation(event, details) and next(numbers) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)


def _is_operation(event: str, details: tuple[Any, ...]) -> bool:
    if event == "open":
        return bool(details[2] & _WRITES)
    return event.startswith(_BEGINNINGS) and event not in _LOOKS
