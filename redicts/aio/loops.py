"""The event loops that use one database: each has connections of its own, which close with the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final, TypeVar

from redicts.aio import driver
from redicts.aio.adapters import InLoop, InThreads
from redicts.aio.turnstiles import Turnstiles
from redicts.aio.twins import Call
from redicts.api.opened import OpenedDatabase
from redicts.core.async_backend import AsyncBackend, AsyncListener
from redicts.core.backend import Backend
from redicts.core.driver import Steps
from redicts.core.minitransaction import Path
from redicts.errors import WrongUse
from redicts.forks import ForkSafeLock, ResetInChild
from redicts.locks.manager import Acquired, LockManager
from redicts.locks.owner import request_name

_Result = TypeVar("_Result")

_lock: Final = ForkSafeLock()


class _Open:
    """The backend of one loop, and its tasks that wait for locks. ``ends`` is what the loop closes when it ends."""

    __slots__ = ("backend", "ends", "is_closed", "turnstiles")

    def __init__(self, backend: AsyncBackend) -> None:
        self.backend = backend
        self.turnstiles = Turnstiles()
        self.is_closed: list[bool] = []
        self.ends = _close_at_the_end(backend, self.is_closed)
        # A loop closes, when it ends, the asynchronous generators that were begun in it. It needs to begin, not to run.
        with suppress(StopIteration):
            self.ends.asend(None).send(None)


class Loops(ResetInChild):
    """Carries out the steps of tasks on one database. Each event loop gets a backend of its own on first use."""

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self._backend = backend
        self._is_closed = False
        self._of_parent: object = None
        self._open: dict[asyncio.AbstractEventLoop, _Open] = {}

    def reset_in_child(self) -> None:
        """Begin without loops: those of the parent run there, and their connections stay as they are."""
        self._of_parent, self._open = self._open, {}

    async def run(self, steps: Steps[_Result], timeout: float | None = None) -> _Result:
        """Run an operation, which has this timeout in seconds, in the running event loop."""
        backend = self._here().backend
        try:
            if isinstance(backend, InLoop):
                await backend.next_turn()
            return await driver.run(steps, backend, timeout)
        finally:
            if self._is_closed:
                self.close()

    async def watch(self, steps: Steps[_Result], timeout: float | None, listener: AsyncListener) -> _Result:
        """Run an operation that waits on a listener to changes, which stays open."""
        try:
            return await driver.run(steps, self._here().backend, timeout, listener)
        finally:
            if self._is_closed:
                self.close()

    async def listen_to_changes(self, path: Path) -> AsyncListener:
        """Open a listener to the changes at, above and below a path, in the running event loop."""
        return await driver.listen_to_changes(self._here().backend, request_name(), path)

    async def acquire(self, acquired: Acquired, timeout: float | None) -> bool:
        """Acquire a lock for a task, as :meth:`redicts.locks.manager.LockManager.acquire` does."""
        locks = acquired.manager
        if timeout == 0 or acquired.owner in locks.held:
            return await self.run(locks.acquire(acquired, timeout), timeout)
        turnstiles = self._here().turnstiles
        left = await turnstiles.enter(acquired.paths, timeout)
        try:
            return await self.run(locks.acquire(acquired, left), left)
        finally:
            turnstiles.leave(acquired.paths)

    def _here(self) -> _Open:
        """Return what the running loop uses."""
        loop = _running_loop()
        return self._open.get(loop) or self._open_in(loop)

    def _open_in(self, running: asyncio.AbstractEventLoop) -> _Open:
        for loop in list(self._open):
            if loop.is_closed():
                self._open.pop(loop, None)
        backend = self._backend
        made = backend.for_asyncio() or (InThreads(backend) if backend.may_wait else InLoop(backend))
        found = self._open[running] = _Open(made)
        return found

    def close(self) -> None:
        """Let each loop close its connections, now and after each later call. Called in any thread."""
        self._is_closed = True
        for loop in list(self._open):
            found = self._open.pop(loop, None)
            if found is not None:
                found.is_closed.append(True)
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(found.backend.close, False)


def loops_of(database: OpenedDatabase) -> Loops:
    """Return what carries out steps on a database for tasks."""
    found: Loops | None = database.locks.awaits
    if found is None:
        with _lock:
            found = database.locks.awaits = database.locks.awaits or Loops(database.backend)
    return found


def write(database: OpenedDatabase, steps: Steps[_Result], *changed: Path) -> Call[_Result]:
    """Run an operation that writes at and below some paths, guarded by the locks of the task that calls this."""
    locks = database.locks
    if locks.held or locks.mandatory:
        steps = locks.guarded(steps, changed)
    return loops_of(database).run(steps)


def run_for(locks: LockManager, steps: Steps[_Result]) -> Call[_Result]:
    """Run an operation on held locks. Tasks may not have used their database yet: a thread may have acquired them."""
    if locks.awaits is None:
        return asyncio.to_thread(locks.run, steps)
    return locks.awaits.run(steps)  # type: ignore[no-any-return]


def is_running() -> bool:
    """Return whether an event loop of asyncio runs in this thread."""
    return asyncio._get_running_loop() is not None


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise WrongUse(
            "redicts.aio needs a running event loop of asyncio, as asyncio.run() and anyio start one; under trio, call "
            "the blocking redicts in a thread: await trio.to_thread.run_sync(proxy.val)"
        ) from None


async def _close_at_the_end(backend: AsyncBackend, is_closed: list[bool]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        backend.close(not is_closed)  # a database that is closed before its loop lets calls under way finish
