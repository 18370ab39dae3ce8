"""Ends the servers that tests started if the test process dies without doing so, even by SIGKILL.

One helper process per test process reads from a pipe which processes to watch. The pipe closes when the test process
dies. The helper then kills the watched processes and removes their directories. (The kernel's parent death signal would
need code between fork and exec, which is unsafe in a threaded process, and fires when the *thread* ends.)
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

_HELPER: Final = """
import json, os, shutil, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
watched = {}
for line in sys.stdin:
    pid, directory = json.loads(line)
    if directory is None:
        watched.pop(pid, None)
    else:
        watched[pid] = directory
for pid, directory in watched.items():
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    shutil.rmtree(directory, ignore_errors=True)
"""


class _Reaper:
    """The helper of this process, started on first use and again after a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._helper: subprocess.Popen[bytes] | None = None

    def tell(self, pid: int, directory: str | None) -> None:
        """Have the helper watch a process, or (no directory) forget it."""
        with self._lock:
            if self._helper is None:
                if directory is None:
                    return
                self._helper = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _HELPER], stdin=subprocess.PIPE, start_new_session=True
                )
            pipe = self._helper.stdin
            assert pipe is not None
            pipe.write(json.dumps([pid, directory]).encode() + b"\n")
            pipe.flush()

    def end(self) -> None:
        """End the helper, which first ends what is still watched."""
        helper = self._release()
        if helper is not None:
            helper.wait()

    def leave_to_parent(self) -> None:
        """In a forked child: close the pipe, which then closes with the parent alone."""
        self._lock = threading.Lock()
        helper = self._release()
        if helper is not None:
            helper.returncode = 0  # not a child of this process: nothing to wait for, nothing to warn about

    def _release(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            helper, self._helper = self._helper, None
        if helper is not None:
            assert helper.stdin is not None
            with contextlib.suppress(OSError):
                helper.stdin.close()
        return helper


_reaper: Final = _Reaper()
atexit.register(_reaper.end)
os.register_at_fork(after_in_child=_reaper.leave_to_parent)


def watch(pid: int, directory: Path) -> None:
    """Ensure that the process ends and the directory is removed when this process ends, however it ends."""
    _reaper.tell(pid, str(directory))


def forget(pid: int) -> None:
    """Stop watching a process. Call this before the kernel can reuse its id."""
    _reaper.tell(pid, None)
