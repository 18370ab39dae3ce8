"""Spawned processes, which open the store and run functions of checks."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from redicts.contract.client import Client
from redicts.contract.fixture import Fixture
from redicts.contract.requirements import CheckFailed, NotRun, require
from redicts.core.backend import Backend

if TYPE_CHECKING:
    from typing_extensions import Self

_STARTING: Final = 60.0
"""Seconds in which a new interpreter must have started, also on a busy machine."""

Work = Callable[..., Any]
"""A module-level function, called with a client of the other process and the arguments sent with it."""


class OtherProcess:
    """A spawned process with one client, which runs one function at a time; ``with`` ends it."""

    def __init__(self, opener: Callable[[], Backend], timeout: float) -> None:
        self._timeout = timeout
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(opener, theirs), daemon=True)
        try:
            self._process.start()
        except BaseException:
            self._ours.close()
            raise
        finally:
            theirs.close()
        self._greeted = False

    def start(self, work: Work, *details: object) -> None:
        """Start a function in the other process."""
        self._greet()
        self._ours.send((work, details))

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

    def _greet(self) -> None:
        if not self._greeted:
            self._receive(_STARTING)
            self._greeted = True

    def _receive(self, seconds: float) -> Any:
        require(self._ours.poll(seconds), f"another process gave no answer within {seconds:g} seconds")
        try:
            went_well, result = self._ours.recv()
        except EOFError:
            self._process.join(1)
            raise CheckFailed(f"another process ended without an answer, exit code {self._process.exitcode}") from None
        require(went_well, f"in another process: {result}")
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ours.close()  # the other side takes this as the end
        self._process.join(1 if error else self._timeout)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


@contextlib.contextmanager
def other_processes(fixture: Fixture, count: int) -> Iterator[list[OtherProcess]]:
    """Start processes on the store of a fixture, and end them with the block."""
    opener = fixture.harness.opener
    if opener is None:  # the check needs an opener
        raise NotRun("the harness has no opener", required=True)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(OtherProcess(opener, fixture.timeout)) for _ in range(count)]


_pipe: list[Connection] = []


def report(value: object) -> None:
    """Send a value to the check, from a function that runs in another process."""
    _pipe[0].send((True, value))


def _serve(opener: Callable[[], Backend], theirs: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one handles Ctrl-C
    _pipe.append(theirs)
    try:
        backend = opener()
    except Exception:
        theirs.send((False, traceback.format_exc()))
        return
    try:
        theirs.send((True, "ready"))
        while True:
            work, details = theirs.recv()
            try:
                answer = (True, work(Client(backend), *details))
            except Exception as error:
                answer = (False, f"{type(error).__name__}: {error}")
            theirs.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError, pickle.PicklingError):
        pass
    finally:
        backend.close()
