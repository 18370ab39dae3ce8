"""Watch: the values of a subtree, one after the other, as they change, awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Final

from redicts.aio.loops import loops_of
from redicts.aio.twins import twin_of
from redicts.api import watch
from redicts.api.opened import OpenedDatabase
from redicts.api.watch import handed_out
from redicts.core.async_backend import AsyncListener, CallbackListener
from redicts.core.minitransaction import Path
from redicts.core.paths import render
from redicts.core.watching import Watched
from redicts.errors import WrongUse


@twin_of(watch.Watch)
class Watch(AsyncIterator[Any]):
    """Iterates over the values of a subtree, as they change: from :meth:`Proxy.watch`.

    One task at a time takes values from it. A task that is cancelled while it waits loses no change: the next one to
    iterate gets it. With ``initial=False``, changes are given from the first iteration on, or from the begin of an
    ``async with`` block. The iteration ends by itself when nothing changes for its timeout, and may be continued then.

    >>> import asyncio
    >>> from redicts import Pool
    >>> from redicts.aio import Proxy
    >>> Pool().reload(cfg={"backend": "memory"})
    >>> async def main():
    ...     wheels = await Proxy("garage.car.wheels").put(3)
    ...     async with wheels.watch(timeout=0) as watch:
    ...         print(await anext(watch))
    ...         await wheels.put(4)
    ...         return [value async for value in watch]
    >>> asyncio.run(main())
    3
    [4]
    """

    __slots__ = ("__weakref__", "_database", "_initial", "_keys", "_listener", "_loop", "_path", "_timeout", "_watched")

    def __init__(
        self, database: OpenedDatabase, path: Path, timeout: float | None, *, initial: bool, keys: bool
    ) -> None:
        self._database: Final = database
        self._path: Final = path
        self._timeout: Final = timeout
        self._keys: Final = keys
        self._initial: Final = initial
        self._watched: Final = Watched(database.store, path, time.monotonic)
        self._listener: AsyncListener | None = None

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Any:
        """Wait for the next value. Raises what :meth:`Proxy.val` raises."""
        watched = self._watched
        if watched.is_closed:
            raise StopAsyncIteration
        listener = await self._begun()
        change = await loops_of(self._database).watch(watched.next(self._timeout), self._timeout, listener)
        if change is None:
            raise StopAsyncIteration
        return handed_out(watched, change, self._path if self._keys else None)

    async def _begun(self) -> AsyncListener:
        """Return the listener, and open it first if there is none."""
        loops, listener = loops_of(self._database), self._listener
        if listener is None:
            listener = await loops.listen_to_changes(self._path)
            if not (self._initial or self._watched.is_begun):
                await loops.watch(self._watched.begin(), None, listener)
            # A thousand watches that wake up twice a second would take several per cent of a core.
            self._watched.ends_with_its_wait = isinstance(listener, CallbackListener)
            self._loop, self._listener = asyncio.get_running_loop(), listener
        return listener

    async def aclose(self) -> None:
        """End the iteration, and stop listening. Idempotent."""
        self.close()

    def close(self) -> None:
        """End the iteration, also while a task waits, and stop listening. Idempotent."""
        self._watched.is_closed = True
        listener, self._listener = self._listener, None
        if listener is not None:
            if isinstance(listener, CallbackListener):
                listener.notify_from_thread()
            listener.close()

    async def __aenter__(self) -> Watch:
        if self._watched.is_closed:
            raise WrongUse("this watch is closed; begin another one with watch()")
        await self._begun()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):  # it was not made, or the loop is closed
            if self._listener is not None:
                self._loop.call_soon_threadsafe(self._listener.close)

    def __repr__(self) -> str:
        return f"<Watch of {render(self._path)!r}{', closed' if self._watched.is_closed else ''}>"
