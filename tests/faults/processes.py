"""Processes that do as they are told: one thing after the other, until they are stopped, continued or killed."""

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

from tests.faults.actions import SOON, begin
from tests.support import reaper
from tests.support.waiting import TIMEOUT, eventually

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from typing_extensions import Self

    from redicts.core.locks.acquisition import Timing

Result = TypeVar("Result")

# Forked from a process that has no threads and has imported everything: as clean as spawned, and much cheaper.
_context: Final = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["pytest", "tests.faults.actions"])


class Process:
    """A process with one client of a store, and one thread that does what it is told.

    ``directory`` is removed if the test process is killed.
    """

    def __init__(self, cfg: Mapping[str, Any], directory: Path, timing: Timing = SOON, *, deaf: bool = False) -> None:
        self._pipe, theirs = _context.Pipe()
        self._process: BaseProcess = _context.Process(target=_obey, args=(theirs, dict(cfg), timing, deaf), daemon=True)
        self._process.start()
        theirs.close()
        reaper.watch(self.pid, directory)

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def begins(self, deed: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Let it begin to do something; :meth:`result` waits for the end."""
        self._pipe.send((deed, arguments, options))

    def result(self, within: float = TIMEOUT) -> Any:
        """Return or raise what came of what it began."""
        assert self._pipe.poll(within), f"not within {within:g} seconds: the process ends what it does"
        succeeded, result = self._pipe.recv()
        if not succeeded:
            raise result
        return result

    def does(self, deed: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        """Let it do something, and return or raise what comes of it."""
        self.begins(deed, *arguments, **options)
        result: Result = self.result()
        return result

    @property
    def is_done(self) -> bool:
        """Whether it has ended what it began."""
        return self._pipe.poll()

    def stop(self) -> None:
        """Stop it in its tracks (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)
        eventually(lambda: _state(self.pid).startswith("T"), "the process stands still")

    def go_on(self) -> None:
        """Let it go on after :meth:`stop`."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once (SIGKILL). No effect if that is done."""
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


def let_run(processes: list[Process], deed: Callable[..., Any], *arguments: Any, within: float = TIMEOUT) -> list[Any]:
    """Let processes do the same at the same time, and return what comes of it."""
    for process in processes:
        process.begins(deed, *arguments)
    return results(processes, within)


def results(processes: list[Process], within: float = TIMEOUT) -> list[Any]:
    """Return what comes of what processes began."""
    deadline = time.monotonic() + within
    return [process.result(max(0.0, deadline - time.monotonic())) for process in processes]


def _state(pid: int) -> str:
    return subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout


def _obey(pipe: Connection, cfg: dict[str, Any], timing: Timing, deaf: bool) -> None:
    begin(cfg, timing, deaf=deaf)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            deed, arguments, options = pipe.recv()
            try:
                answer = True, deed(*arguments, **options)
            except Exception as error:
                answer = False, error
            pipe.send(answer)
