"""Pauses a call between two functions that it calls, while the check does something else.

What a call does in the midst of another one depends on luck, unless the other one stands still. So a check can have a
value end, or fork, where a backend has read its clock and not yet its state, or holds a lock.
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from queue import Empty, SimpleQueue
from types import CodeType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from redicts.contract.client import Client
from redicts.contract.forked import ForkedChild
from redicts.contract.harness import SharedBackend
from redicts.contract.requirements import CheckFailed, require
from redicts.core.backend import Backend
from redicts.core.minitransaction import Write

if TYPE_CHECKING:
    from typing_extensions import Self

_SUITE: Final = __name__.rpartition(".")[0]

_PLAIN: Final = (str, bytes, bytearray, int, float, list, dict, tuple, set, frozenset, type)
"""Types whose methods neither wait nor look at the time."""


class Point(NamedTuple):
    """Before or after a call of a function by the code of a backend."""

    code: CodeType
    instruction: int
    line: int
    event: str
    """``call``, ``return``, or ``c_return`` for a function written in C, which may wait or do I/O."""

    def __str__(self) -> str:
        when = "before" if self.event == "call" else "after"
        return f"{when} a call in {self.code.co_filename.rpartition('/')[2]}:{self.line} ({self.code.co_name})"


class PausedCall:
    """Runs a call in a thread, which pauses at each point that it comes to for the first time.

    Iterate over it for the points: the call stands still until the next one is asked for. ``with`` lets it go on and
    waits for its end, and raises its error. A pause of more than ``at_most`` seconds is the last one, for what
    the check does meanwhile seems to wait for the call.
    """

    def __init__(
        self, call: Callable[[], object], backend: Backend, timeout: float, at_most: float | None = None
    ) -> None:
        self._at_most: Final = at_most or timeout
        self._call: Final = call
        self._packages: Final = _packages_of(backend)
        self._timeout: Final = timeout
        self._stops: Final[SimpleQueue[Point | None]] = SimpleQueue()
        self._going_on: Final[SimpleQueue[None]] = SimpleQueue()
        self._thread: Final = threading.Thread(target=self._run, daemon=True)
        self._seen: Final[set[Point]] = set()
        self._pauses = True
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __iter__(self) -> Iterator[Point]:
        while (point := self._next()) is not None:
            yield point
            self._going_on.put(None)

    def resume(self) -> None:
        """Let the call go on without further pauses, wait for its end, and raise its error."""
        self._pauses = False
        self._going_on.put(None)
        self._thread.join(self._timeout)
        require(not self._thread.is_alive(), f"a call does not end within {self._timeout:g} seconds")
        if self._error is not None:
            raise self._error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.resume()
        else:
            self._pauses = False
            self._going_on.put(None)

    def _next(self) -> Point | None:
        try:
            return self._stops.get(timeout=self._timeout)
        except Empty:
            raise CheckFailed(f"a call does not end within {self._timeout:g} seconds") from None

    def _run(self) -> None:
        try:
            self._watch()
        except BaseException as error:
            self._error = error
        finally:
            self._stops.put(None)

    def _pause(self, point: Point) -> None:
        if self._pauses and point not in self._seen:
            self._seen.add(point)
            self._stops.put(point)
            try:
                self._going_on.get(timeout=self._at_most)
            except Empty:
                self._pauses = False

    def _watch(self) -> None:
        """Run the call, and pause before and after each function that code of the backend calls in this thread."""
        usual = sys.getprofile()
        sys.setprofile(self._profile)
        try:
            self._call()
        finally:
            sys.setprofile(usual)

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        caller: FrameType | None = frame
        if event == "c_return":
            if isinstance(argument.__self__, _PLAIN) or argument.__module__ == "builtins":
                return
        elif event in ("call", "return"):
            if frame.f_code.co_flags & inspect.CO_GENERATOR or frame.f_code.co_name[0] == "<":
                return
            caller = frame.f_back
        else:
            return
        name = "" if caller is None else str(caller.f_globals.get("__name__", ""))
        if caller is not None and name.partition(".")[0] in self._packages and not name.startswith(_SUITE):
            self._pause(Point(caller.f_code, caller.f_lasti, caller.f_lineno, event))


def _packages_of(backend: Backend) -> set[str]:
    """Return the names of the packages of which a backend's class and its base classes are."""
    shared = backend.shared if isinstance(backend, SharedBackend) else backend
    return {each.__module__.partition(".")[0] for each in type(shared).__mro__}


@contextmanager
def paused_process(
    opener: Callable[[], Backend], write: Write, timeout: float, at_most: float | None = None
) -> Iterator[Iterator[str]]:
    """Let a child process write, and yield the points at which it pauses; it goes on when the next one is asked for.

    ``at_most`` is as of :class:`PausedCall`.
    """
    (told, tells), (heard, hears) = os.pipe(), os.pipe()

    def work() -> None:
        os.close(told)
        os.close(hears)
        backend = opener()
        writing = partial(Client(backend).apply, write)
        writing()  # the first time, more is done
        with os.fdopen(tells, "w") as report, PausedCall(writing, backend, timeout, at_most) as call:
            for point in call:
                print(point, file=report, flush=True)
                if not os.read(heard, 1):
                    break
        backend.close()

    def points() -> Iterator[str]:
        for line in report:
            yield line.strip()
            os.write(hears, b".")

    with ForkedChild(work, timeout) as child, os.fdopen(told) as report:
        os.close(tells)
        os.close(heard)
        try:
            yield points()
        finally:
            os.close(hears)
        child.finish()
