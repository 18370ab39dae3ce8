"""Forked children, which run one function with the instance of their parent."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final

from redicts.contract.requirements import CheckFailed, require

if TYPE_CHECKING:
    from typing_extensions import Self

_DONE: Final = b"done"


class Killed(CheckFailed):
    """A child ended by a signal."""


class ForkedChild:
    """Forks at once; the child calls ``work`` and exits. ``with`` kills a child that hangs.

    The child never returns into the code of its parent and writes to no inherited stream. It calls exit handlers, as
    a program does at its end, only if it ``exits``: those of whatever process forks, so that should have few.
    """

    def __init__(self, work: Callable[[], object], timeout: float, *, exits: bool = False) -> None:
        self._timeout = timeout
        self._result, writing = os.pipe()
        with warnings.catch_warnings():
            # From Python 3.12 on, forking with threads warns. The checks examine exactly that.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            _work_and_exit(work, writing, exits)
        os.close(writing)
        self._ended = False

    def finish(self) -> None:
        """Wait for the child; raises ``CheckFailed`` with its error, or if it does not end in time."""
        told = b""
        deadline = time.monotonic() + self._timeout
        while True:
            ready, _, _ = select.select([self._result], [], [], max(0.0, deadline - time.monotonic()))
            require(ready, f"a forked child did not finish within {self._timeout:g} seconds; is it waiting for a lock?")
            part = os.read(self._result, 65536)
            if not part:
                break
            told += part
        _, status = os.waitpid(self._pid, 0)
        self._ended = True
        if os.WIFSIGNALED(status):
            raise Killed(f"a forked child died of signal {os.WTERMSIG(status)}")
        require(told == _DONE, f"in a forked child: {told.decode(errors='replace') or 'it ended without a result'}")

    def __enter__(self) -> Self:
        return self

    def was_killed(self) -> bool:
        """Wait for the child, and tell whether it was killed; raises ``CheckFailed`` as :meth:`finish` does."""
        try:
            self.finish()
        except Killed:
            return True
        return False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._result)
        if not self._ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


def _work_and_exit(work: Callable[[], object], writing: int, exits: bool) -> None:
    told = _DONE
    try:
        work()
        if exits:
            atexit._run_exitfuncs()
    except BaseException as error:
        told = _in_one_line(error).encode(errors="backslashreplace")
    finally:
        with contextlib.suppress(OSError):
            os.write(writing, told[:4000])
        os._exit(0)


def _in_one_line(error: BaseException) -> str:
    text = "".join(traceback.format_exception_only(type(error), error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else text
