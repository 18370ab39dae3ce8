"""What calls may leave behind in this process: open files and sockets, and threads."""

from __future__ import annotations

import gc
import os
import threading
import time
from typing import Final

from redicts.contract.requirements import require

_DIRECTORY: Final = next((each for each in ("/proc/self/fd", "/dev/fd") if os.path.isdir(each)), None)


class Leftovers:
    """Counts the open files, sockets and threads of this process from its creation on."""

    def __init__(self) -> None:
        self._files: Final = _open_files()
        self._threads: Final = threading.active_count()

    def require_few(self, most: int, what: str, seconds: float) -> None:
        """Require that at most so many are left after so many seconds, for some end by themselves.

        Pools and threads that serve later calls are no fault. ``what`` names what might have left them.
        """
        deadline = time.monotonic() + seconds
        while max(files := self._files_left(), threads := self._threads_left()) > most and time.monotonic() < deadline:
            gc.collect()  # errors may hold what their frames used
            time.sleep(_PAUSE_SECS)
        require(files <= most, f"{what} leave {files} more files or sockets open")
        require(threads <= most, f"{what} leave {threads} more threads running")

    def _files_left(self) -> int:
        return _open_files() - self._files

    def _threads_left(self) -> int:
        return threading.active_count() - self._threads


_PAUSE_SECS: Final = 0.01


def _open_files() -> int:
    return 0 if _DIRECTORY is None else len(os.listdir(_DIRECTORY))
