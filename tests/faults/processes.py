"""Processes that run actions on request, one at a time, until they are stopped, continued or killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tests.faults.actions import begin
from tests.support import reaper
from tests.support.waiting import TIMEOUT, eventually

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from typing_extensions import Self

    from redicts.core.locks.acquisition import Timing

Result = TypeVar("Result")

# Forked from a server process without threads that has imported everything: as clean as spawned, and much cheaper.
_context: Final = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["pytest", "tests.faults.actions"])


class Process:
    """A process with one client of a store; its only thread runs the actions that the test sends.

    ``directory`` is removed if the test process is killed.
    """

    def __init__(self, cfg: Mapping[str, Any], directory: Path, timing: Timing, *, deaf: bool) -> None:
        self._pipe, theirs = _context.Pipe()
        self._process: BaseProcess = _context.Process(
            target=_serve, args=(theirs, dict(cfg), timing, deaf), daemon=True
        )
        self._process.start()
        theirs.close()
        reaper.watch(self.pid, directory)

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def begin(self, action: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Start an action; :meth:`result` waits for its end."""
        self._pipe.send((action, arguments, options))

    def result(self, within: float = TIMEOUT) -> Any:
        """Return the result of the action that was started, or raise its error."""
        assert self._pipe.poll(within), f"not within {within:g} seconds: the action ends"
        succeeded, result = self._pipe.recv()
        if not succeeded:
            raise result
        return result

    def call(self, action: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        """Run an action, and return its result or raise its error."""
        self.begin(action, *arguments, **options)
        result: Result = self.result()
        return result

    @property
    def is_done(self) -> bool:
        """Whether the action that was started has ended."""
        return self._pipe.poll()

    def stop(self) -> None:
        """Stop the process (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)
        eventually(lambda: _state(self.pid).startswith("T"), "the process is stopped")

    def resume(self) -> None:
        """Continue the process after :meth:`stop`."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End the process with SIGKILL. No effect if that is done."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join(TIMEOUT)
        assert not self._process.is_alive(), "a killed process ends"
        reaper.forget(self.pid)
        self._pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()


def call_all(processes: list[Process], action: Callable[..., Any], *arguments: Any, within: float = TIMEOUT) -> None:
    """Run the same action in several processes at the same time."""
    for process in processes:
        process.begin(action, *arguments)
    results(processes, within)


def results(processes: list[Process], within: float = TIMEOUT) -> list[Any]:
    """Return the results of the actions that the processes began."""
    deadline = time.monotonic() + within
    return [process.result(max(0.0, deadline - time.monotonic())) for process in processes]


def _state(pid: int) -> str:
    return subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout


def _serve(pipe: Connection, cfg: dict[str, Any], timing: Timing, deaf: bool) -> None:
    begin(cfg, timing, deaf=deaf)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            action, arguments, options = pipe.recv()
            try:
                answer = True, action(*arguments, **options)
            except Exception as error:
                answer = False, error
            pipe.send(answer)
