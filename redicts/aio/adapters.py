"""Blocking backends for tasks: one that never waits is called in the event loop, any other one in a few threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any, Final, TypeVar

from redicts.core.async_backend import AsyncBackend, AsyncListener, CallbackListener
from redicts.core.backend import Backend
from redicts.core.listener import Listener
from redicts.core.minitransaction import Key, Outcome, Path, Transaction
from redicts.locks.owner import request_name

_Result = TypeVar("_Result")

_TURN_SECS: Final = 0.001
"""How long calls in the event loop go on before other tasks run."""

_MOST_THREADS: Final = 16
"""How many threads make the calls of one event loop on one database."""

_LOOK_SECS: Final = 1.0
"""How often the thread that waits for all tasks looks whether any task still listens."""


class InLoop(AsyncBackend):
    """A backend that never waits, called in the event loop."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._turn_ends = 0.0
        self._is_opening = False
        """Whether a task waits that begins the next turn. It is the first of those that wait."""

    @property
    def address(self) -> Mapping[str, str | int]:
        """That of the blocking backend."""
        return self._backend.address

    async def next_turn(self) -> None:
        """Let other tasks run before an operation, if operations of all tasks have taken the loop for long."""
        while monotonic() >= self._turn_ends:
            if self._is_opening:
                await asyncio.sleep(0)
                continue
            self._is_opening = True
            try:
                await asyncio.sleep(0)
            finally:
                self._is_opening = False
            self._turn_ends = monotonic() + _TURN_SECS
            return

    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:  # noqa: ARG002
        """Execute a minitransaction at once."""
        return self._backend.execute(transaction)

    async def fetch(self, key: Key, document: bool, /) -> bytes | None:
        """Use the fast path of the backend."""
        return (self._backend.fetch_document if document else self._backend.fetch)(key)

    async def overwrite(self, key: Key, value: bytes, document: bool, /) -> bool:
        """Use the fast path of the backend."""
        return (self._backend.overwrite_document if document else self._backend.overwrite)(key, value)

    async def listen(self, name: str, deadline: float | None = None, /) -> AsyncListener | None:  # noqa: ARG002
        """Listen with a listener of the backend that rings, if it does."""
        inner = self._backend.listen(name)
        return _Ringing.of(inner, inner.close)

    async def listen_to_changes(self, name: str, path: Path, /) -> AsyncListener | None:
        """Listen with a listener of the backend that rings, if it does."""
        inner = self._backend.listen_to_changes(name, path)
        return _Ringing.of(inner, inner.close)


class InThreads(AsyncBackend):
    """A backend that may wait, called in at most 16 threads. Waiting for a notification holds no thread.

    A call that has begun cannot be cancelled. If its task is, nobody gets its result, and if it writes, the next write
    waits until it has ended.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._threads = ThreadPoolExecutor(_MOST_THREADS, "redicts-aio")
        self._left: set[Future[Any]] = set()
        """The writes under way whose tasks were cancelled."""
        self._watch = _Watch(backend)

    @property
    def address(self) -> Mapping[str, str | int]:
        """That of the blocking backend."""
        return self._backend.address

    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        """Execute a minitransaction in a thread."""
        backend = self._backend
        if transaction.writes and self._left:
            await self._settle()
        if deadline is None:
            return await self._call(bool(transaction.writes), backend.execute, transaction)
        return await self._call(bool(transaction.writes), backend.execute_until, transaction, deadline)

    async def fetch(self, key: Key, document: bool, /) -> bytes | None:
        """Use the fast path of the backend in a thread."""
        return await self._call(False, self._backend.fetch_document if document else self._backend.fetch, key)

    async def overwrite(self, key: Key, value: bytes, document: bool, /) -> bool:
        """Use the fast path of the backend in a thread."""
        if self._left:
            await self._settle()
        backend = self._backend
        return await self._call(True, backend.overwrite_document if document else backend.overwrite, key, value)

    async def listen(self, name: str, deadline: float | None = None, /) -> AsyncListener | None:
        """Listen with a listener of the backend that rings, if it does. One thread waits for all tasks."""
        backend = self._backend
        if deadline is None:
            return await self._listening(self._submit(backend.listen, name))
        return await self._listening(self._submit(backend.listen_until, name, deadline))

    async def listen_to_changes(self, name: str, path: Path, /) -> AsyncListener | None:
        """Listen with a listener of the backend that rings, if it does. One thread waits for all tasks."""
        return await self._listening(self._submit(self._backend.listen_to_changes, name, path))

    async def _listening(self, future: Future[Listener]) -> AsyncListener | None:
        """Return a listener for a task that waits for the one that a thread opens."""
        try:
            inner = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(_close_result)
            raise
        watch = self._watch

        def close() -> None:
            watch.leave()
            self._submit(inner.close)

        listener = _Ringing.of(inner, close)
        if listener is None:
            self._submit(inner.close)
        else:
            watch.join()
        return listener

    async def _settle(self) -> None:
        """Wait until the writes of cancelled tasks have ended: none may be applied after a later one."""
        while self._left:
            await asyncio.wait([asyncio.wrap_future(future) for future in self._left])

    async def _call(self, writes: bool, function: Callable[..., _Result], *arguments: object) -> _Result:
        future = self._submit(function, *arguments)
        try:
            return await asyncio.wrap_future(future)
        except BaseException:
            if writes and not future.cancel():
                self._left.add(future)
                # In the loop's thread or the other one: a set discards in one step.
                future.add_done_callback(self._left.discard)
            raise

    def _submit(self, function: Callable[..., _Result], *arguments: object) -> Future[_Result]:
        try:
            return self._threads.submit(function, *arguments)
        except RuntimeError:  # closed: this is a later call, or the end of one that was under way
            threads = ThreadPoolExecutor(1, "redicts-aio")
            future = threads.submit(function, *arguments)
            threads.shutdown(wait=False)
            return future

    def close(self, at_once: bool, /) -> None:  # noqa: ARG002  (a call in a thread cannot be ended)
        """End the threads when their calls have ended."""
        self._threads.shutdown(wait=False)


def _close_result(future: Future[Listener]) -> None:
    """Close the listener of a task that was cancelled before it got it."""
    if not future.cancelled() and future.exception() is None:
        future.result().close()


class _Ringing(CallbackListener):
    """A listener of a blocking backend that calls back, for one task."""

    __slots__ = ("_close", "_inner")

    def __init__(self, inner: Listener, close: Callable[[], object]) -> None:
        super().__init__(asyncio.get_running_loop())
        self._inner = inner
        self._close: Callable[[], object] | None = close

    @classmethod
    def of(cls, inner: Listener, close: Callable[[], object]) -> _Ringing | None:
        """Return a listener, or ``None`` if the inner one calls nothing back."""
        listener = cls(inner, close)
        return listener if inner.ring(listener.notify_from_thread) else None

    def close(self) -> None:
        """Close the inner listener."""
        close, self._close = self._close, None
        if close is not None:
            close()


class _Watch:
    """The one thread that waits for notifications while tasks listen, because some listeners need a waiting thread."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._count = 0
        self._runs = False

    def join(self) -> None:
        """Count one more task that listens, and start the thread if it does not run."""
        with self._lock:
            self._count += 1
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._wait, name="redicts-aio-notifications", daemon=True).start()

    def leave(self) -> None:
        """Count one task less. Without any, the thread ends."""
        with self._lock:
            self._count -= 1

    def _wait(self) -> None:
        while True:
            try:
                with self._backend.listen(request_name()) as listener:
                    while self._count:
                        listener.wait(_LOOK_SECS)
            except Exception:  # the tasks look at intervals, and get the error of the store themselves
                threading.Event().wait(_LOOK_SECS)
            with self._lock:
                if not self._count:
                    self._runs = False
                    return
