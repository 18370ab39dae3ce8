"""Spawned processes, which open the store and run functions of checks."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, Final

from redicts.contract.client import Client
from redicts.contract.requirements import CheckFailed, require
from redicts.core.backend import Backend

_STARTING: Final = 60.0
"""Seconds in which a new interpreter must have started, also on a busy machine."""

_LEAVING: Final = 1.0
"""Seconds in which a process ends that is not needed any more, before it is killed."""

Work = Callable[..., Any]
"""A module-level function, called with a client of the other process and the arguments sent with it."""


class OtherProcess:
    """A spawned process with one client, which runs one function at a time."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        try:
            # In a thread, which no signal interrupts: a process that was started in part would print a traceback.
            with ThreadPoolExecutor(1) as starting:
                starting.submit(self._process.start).result()
        except BaseException:
            self._ours.close()
            if self._process.pid is not None:
                self._process.kill()
            raise
        finally:
            theirs.close()
        self._timeout = _STARTING
        self._is_opening = False

    def open(self, opener: Callable[[], Backend], timeout: float) -> None:
        """Have it open a client; return at once. Every later answer must come within ``timeout`` seconds."""
        self._timeout = timeout
        self._is_opening = True
        self._ours.send(("open", (opener,)))

    def start(self, work: Work, *details: object) -> None:
        """Start a function in the other process."""
        self._await_opening()
        self._ours.send(("run", (work, *details)))

    def result(self) -> Any:
        """Wait for the result; raises ``CheckFailed`` with an error of the other process."""
        return self._receive(self._timeout)

    def call(self, work: Work, *details: object) -> Any:
        """Run a function in the other process and return its result."""
        self.start(work, *details)
        return self.result()

    def wait_for_report(self) -> Any:
        """Wait for a value that the running function sends by :func:`report`."""
        return self._receive(self._timeout)

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.join(self._timeout)
        require(self._process.exitcode is not None, "a killed process does not end")

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.is_alive()

    def close(self) -> None:
        """Have it close its client."""
        self._await_opening()
        self._ours.send(("close", ()))
        self._receive(self._timeout)

    def end(self) -> None:
        """End the process, by force if it does not end by itself."""
        self._ours.close()  # the other side takes this as the end
        self._process.join(_LEAVING)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()

    def _await_opening(self) -> None:
        if self._is_opening:
            self._receive(_STARTING)
            self._is_opening = False

    def _receive(self, seconds: float) -> Any:
        require(self._ours.poll(seconds), f"another process gave no answer within {seconds:g} seconds")
        try:
            went_well, result = self._ours.recv()
        except EOFError:
            self._process.join(1)
            raise CheckFailed(f"another process ended without an answer, exit code {self._process.exitcode}") from None
        require(went_well, f"in another process: {result}")
        return result


class ProcessPool:
    """Spawned processes that serve one check after the other, since an interpreter starts slowly."""

    def __init__(self) -> None:
        self._idle: list[OtherProcess] = []

    @contextlib.contextmanager
    def lend(self, opener: Callable[[], Backend], count: int, timeout: float) -> Iterator[list[OtherProcess]]:
        """Yield processes that open the store. They close it with the block, and end if there was an error."""
        lent: list[OtherProcess] = []
        try:
            for _ in range(count):
                lent.append(self._idle.pop() if self._idle else OtherProcess())
                lent[-1].open(opener, timeout)
            yield list(lent)
            while lent:
                if lent[-1].is_running:
                    lent[-1].close()
                    self._idle.append(lent.pop())
                else:
                    lent.pop().end()
        finally:
            for process in lent:
                process.end()

    def prepare(self, count: int) -> None:
        """Start processes for later, and return while their interpreters start."""
        while len(self._idle) < count:
            self._idle.append(OtherProcess())

    def close(self) -> None:
        """End all processes."""
        while self._idle:
            self._idle.pop().end()


_pipe: list[Connection] = []


def report(value: object) -> None:
    """Send a value to the check, from a function that runs in another process."""
    _pipe[0].send((True, value))


class _Serving:
    """The other process: one method for each message."""

    def __init__(self) -> None:
        self._backend: Backend | None = None

    def open(self, opener: Callable[[], Backend]) -> None:
        self._backend = opener()

    def run(self, work: Work, *details: object) -> Any:
        assert self._backend is not None
        return work(Client(self._backend), *details)

    def close(self) -> None:
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()


def _serve(theirs: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one handles Ctrl-C
    _pipe.append(theirs)
    serving = _Serving()
    try:
        while True:
            received = theirs.recv_bytes()
            try:
                method, details = pickle.loads(received)  # noqa: S301  (from the process that started this one)
                answer = (True, getattr(serving, method)(*details))
            except Exception as error:
                answer = (False, f"{type(error).__name__}: {error}")
            theirs.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError, pickle.PicklingError):
        pass
    finally:
        serving.close()
