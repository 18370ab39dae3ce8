"""A client whose calls are made by tasks: the checks of transactions examine the part for asyncio through it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from copy import copy
from typing import Any, Final, TypeVar, cast

from redicts.contract.harness import Harness, inner_of
from redicts.contract.requirements import NotRun
from redicts.core.async_backend import AsyncBackend, AsyncListener
from redicts.core.backend import Backend, Capabilities
from redicts.core.listener import Listener
from redicts.core.minitransaction import Key, Outcome, Path, Transaction

_Result = TypeVar("_Result")


class LoopThread:
    """An event loop in a thread, and the parts for asyncio of the backends that are used in it."""

    def __init__(self, timeout: float) -> None:
        self._timeout: Final = timeout
        self._loop: Final = asyncio.new_event_loop()
        self._end: Final = self._loop.create_future()
        self._thread: Final = threading.Thread(target=self._loop.run_until_complete, args=(self._end,), daemon=True)
        self._made: Final[dict[int, tuple[Backend, AsyncBackend]]] = {}
        self._thread.start()

    def run(self, call: Coroutine[Any, Any, _Result], seconds: float = 0.0) -> _Result:
        """Await a call in a task of the loop, which may take so many seconds longer than the timeout."""
        most = min(self._timeout + max(0.0, seconds), threading.TIMEOUT_MAX)
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(most)

    def part_of(self, backend: Backend) -> AsyncBackend:
        """Return the part for asyncio of a backend, the same for all clients of one instance."""
        inner = inner_of(backend)
        return self.run(self._open(inner))

    async def _open(self, backend: Backend) -> AsyncBackend:
        if id(backend) not in self._made:
            made = backend.for_asyncio()
            assert made is not None  # the check needs it
            self._made[id(backend)] = backend, made
        return self._made[id(backend)][1]

    def close(self) -> None:
        """Close what was made, and end the loop."""
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._end.set_result, None)
        self._thread.join(self._timeout)
        self._loop.close()

    async def _close(self) -> None:
        for _, made in self._made.values():
            made.close(True)
        await asyncio.sleep(0)


class _OfTasks(Listener):
    """Waits in tasks of a loop."""

    def __init__(self, inner: AsyncListener, loop: LoopThread) -> None:
        self._inner: Final = inner
        self._loop: Final = loop

    def wait(self, seconds: float, /) -> bool:
        """Wait in a task."""
        return self._loop.run(self._inner.wait(seconds), seconds)

    def close(self) -> None:
        """Close the listener in its loop."""
        self._loop.run(self._close())

    async def _close(self) -> None:
        self._inner.close()


class ThroughTasks(Backend):
    """Executes transactions, and listens, by the part for asyncio of a backend."""

    def __init__(self, inner: Backend, loop: LoopThread) -> None:
        self._inner: Final = inner
        self._loop: Final = loop
        self._tasks: Final = loop.part_of(inner)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the backend."""
        return self._inner.capabilities

    def execute(self, transaction: Transaction, /) -> Outcome:
        """Execute in a task."""
        return self._loop.run(self._tasks.execute(transaction))

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        """Execute in a task, or give up at the deadline."""
        return self._loop.run(self._tasks.execute(transaction, deadline))

    def fetch(self, key: Key, /) -> bytes | None:
        """Fetch in a task."""
        return self._loop.run(self._tasks.fetch(key, False))

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        """Overwrite in a task."""
        return self._loop.run(self._tasks.overwrite(key, value, False))

    def fetch_document(self, key: Key, /) -> bytes | None:
        """Fetch in a task."""
        return self._loop.run(self._tasks.fetch(key, True))

    def overwrite_document(self, key: Key, document: bytes, /) -> bool:
        """Overwrite in a task."""
        return self._loop.run(self._tasks.overwrite(key, document, True))

    def listen(self, name: str, /) -> Listener:
        """Listen in a task; raises ``NotRun`` if tasks poll."""
        return self._listener(self._loop.run(self._tasks.listen(name)))

    def listen_until(self, name: str, deadline: float, /) -> Listener:
        """Listen in a task, or give up at the deadline; raises ``NotRun`` if tasks poll."""
        return self._listener(self._loop.run(self._tasks.listen(name, deadline)))

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        """Listen in a task; raises ``NotRun`` if tasks poll."""
        return self._listener(self._loop.run(self._tasks.listen_to_changes(name, path)))

    def _listener(self, found: AsyncListener | None) -> Listener:
        if found is None:
            raise NotRun("the tasks of this backend poll", required=False)
        return _OfTasks(found, self._loop)

    def close(self) -> None:
        """Close the backend. Its part for asyncio is closed with the loop."""
        self._inner.close()


_FAULTS: Final = "drop_reply", "drop_replies", "hold_request", "deliver_request", "break_connections", "refuse"
"""The hooks whose faults are those of the harness itself."""


def through_tasks(harness: Harness, loop: LoopThread) -> Harness:
    """Return a harness whose clients execute and listen in tasks."""
    found: Any = copy(harness)
    open_, lossy = harness.open, harness.lossy
    found.open = lambda: ThroughTasks(open_(), loop)
    found.lossy = lambda: ThroughTasks(lossy(), loop)
    for hook in _FAULTS:
        setattr(found, hook, getattr(harness, hook))
    return cast("Harness", found)


def offers_asyncio(backend: Backend) -> bool:
    """Return whether a backend has a part for asyncio, by asking for one in a loop."""
    inner = inner_of(backend)

    async def offers() -> bool:
        made = inner.for_asyncio()
        if made is None:
            return False
        made.close(True)
        await asyncio.sleep(0)
        return True

    return type(inner).for_asyncio is not Backend.for_asyncio and asyncio.run(offers())
