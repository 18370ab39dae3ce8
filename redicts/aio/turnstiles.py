"""Turnstiles: of the tasks of a loop that wait for one lock, few wait in the store, and the others here, in order.

The work of the store for each waiter grows with their number. With a thousand tasks in the queue of the store, it would
be busy with the queue only. A task that holds a lock does not wait here: it may be a part of a deadlock, which is found
in the store.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from redicts.core.paths import all_described
from redicts.errors import LockTimeout
from redicts.locks.owner import Paths

_MOST: Final = 16
"""How many tasks of one event loop wait for one lock in the store."""


class Turnstiles:
    """The turnstiles of one event loop in one database, by the paths of the lock."""

    __slots__ = ("_by_paths",)

    def __init__(self) -> None:
        self._by_paths: dict[Paths, _Turnstile] = {}

    async def enter(self, paths: Paths, timeout: float | None) -> float | None:
        """Wait until fewer than 16 tasks are inside, and return what is left of the timeout in seconds.

        Raises :class:`~redicts.errors.LockTimeout`. Each task that enters must leave.
        """
        turnstile = self._by_paths.get(paths)
        if turnstile is None:
            turnstile = self._by_paths[paths] = _Turnstile()
        if turnstile.inside < _MOST and not turnstile.waiting:
            turnstile.inside += 1
            return timeout
        begun = time.monotonic()
        ahead = turnstile.inside + len(turnstile.waiting)
        if not await turnstile.wait(timeout):
            raise LockTimeout(
                f"the lock on {all_described(paths)} was not free in time; {ahead} tasks of this event loop waited for "
                "it before this one"
            )
        return None if timeout is None else max(0.001, begun + timeout - time.monotonic())

    def leave(self, paths: Paths) -> None:
        """Let the next task in."""
        turnstile = self._by_paths[paths]
        turnstile.leave()
        if not turnstile.inside:
            del self._by_paths[paths]


class _Turnstile:
    """The tasks inside, and those that wait."""

    __slots__ = ("inside", "waiting")

    def __init__(self) -> None:
        self.inside = 0
        self.waiting: deque[asyncio.Future[bool]] = deque()

    async def wait(self, timeout: float | None) -> bool:
        """Return true when this task may enter, or false after a timeout in seconds."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self.waiting.append(turn)
        timer = None if timeout is None else loop.call_later(timeout, _give_up, turn)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.result():
                self.leave()  # it was let in when it was cancelled
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def leave(self) -> None:
        """Let the next task in for one that leaves."""
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():  # else it was cancelled, or its time is over
                turn.set_result(True)
                return
        self.inside -= 1


def _give_up(turn: asyncio.Future[bool]) -> None:
    if not turn.done():
        turn.set_result(False)
