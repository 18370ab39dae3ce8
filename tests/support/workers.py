"""Threads for tests in which a call may never end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from traceback import format_stack
from typing import Any


class Hung(AssertionError):
    """A call did not end in time: it waits for something that will never come."""


class Worker:
    """A thread that runs functions one after the other, for a test that must go on if one of them never ends."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def __call__(self, function: Callable[[], Any], what: str, timeout: float) -> Any:
        """Return what a function returns in this thread, or raise what it raises.

        Raises :class:`Hung`, with the stack of the thread, if it does not end in time.
        """
        results: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

        def call() -> None:
            try:
                results.put((function(), None))
            except BaseException as error:
                results.put((None, error))

        self._calls.put(call)
        try:
            result, error = results.get(timeout=timeout)
        except Empty:
            stack = sys._current_frames().get(self._thread.ident or 0)
            lines = "".join(format_stack(stack)[-6:]) if stack else ""
            raise Hung(f"{what} did not end within {timeout:g} seconds:\n{lines}") from None
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        """End the thread after the calls under way."""
        self._calls.put(None)
