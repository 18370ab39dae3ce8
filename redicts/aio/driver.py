"""The driver for asyncio: awaits the requests of an operation, as :mod:`redicts.core.driver` carries them out blocking.

Both drivers run the same operations, so what redicts means is written once.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from redicts.core.async_backend import AsyncBackend, AsyncListener
from redicts.core.driver import (
    LAST_SECS,
    SHORTEST_SECS,
    Await,
    Fetch,
    Listen,
    Overwrite,
    Pause,
    Result,
    Steps,
)
from redicts.core.listener import LONGEST_INTERVAL_TO_CHANGES_SECS
from redicts.core.minitransaction import Path, Transaction
from redicts.core.observing import OBSERVERS, Operation
from redicts.errors import StoreTimeout
from redicts.randomness import RANDOM

_FIRST_INTERVAL_SECS: Final = 0.001
_LONGEST_INTERVAL_SECS: Final = 0.05


async def run(
    steps: Steps[Result], backend: AsyncBackend, timeout: float | None = None, waits_on: AsyncListener | None = None
) -> Result:
    """Run an operation and return its result. Errors of the backend are raised inside the operation.

    ``timeout`` is that of the operation in seconds: each of its requests ends with it, but has a second at least.
    ``waits_on`` is a listener that stays open after the operation, which may wait without listening first.

    If the task is cancelled, the operation ends where it is, and asks for nothing more: what it leaves in the store is
    withdrawn in the background, because a task that is cancelled must end at once.
    """
    listener = waits_on
    deadline = None if timeout is None else time.monotonic() + max(timeout, SHORTEST_SECS)
    operation = Operation(steps, backend) if OBSERVERS else None
    requests = 0
    try:
        request = next(steps)
        while True:
            answer: Any = None
            requests += 1
            try:
                if isinstance(request, Transaction):
                    answer = await backend.execute(request, deadline)
                elif isinstance(request, Fetch):
                    answer = await backend.fetch(request.key, request.document)
                    requests -= answer is None  # most likely, the store was not asked
                elif isinstance(request, Overwrite):
                    answer = await backend.overwrite(request.key, request.value, request.document)
                else:
                    listener, deadline, answer = await _wait(request, listener, backend, deadline, operation)
            except Exception as error:
                request = steps.throw(error)
                continue
            request = steps.send(answer)
    except BaseException as end:
        if operation is not None:
            operation.end(requests, end)
        if not isinstance(end, StopIteration):
            raise
        result: Result = end.value
        return result
    finally:
        steps.close()
        if listener is not None and listener is not waits_on:
            listener.close()


async def listen_to_changes(backend: AsyncBackend, name: str, path: Path) -> AsyncListener:
    """Open a listener to the changes at, above and below a path, for operations that wait on it one after the other."""
    return (await backend.listen_to_changes(name, path)) or _Poller(LONGEST_INTERVAL_TO_CHANGES_SECS)


async def _wait(
    request: Pause | Listen | Await,
    listener: AsyncListener | None,
    backend: AsyncBackend,
    deadline: float | None,
    operation: Operation | None,
) -> tuple[AsyncListener | None, float | None, bool | None]:
    """Carry out a request that concerns time.

    Return the listener that is open then, the deadline, and the answer.
    """
    if operation is not None:
        with operation.waiting():
            return await _wait(request, listener, backend, deadline, None)
    if isinstance(request, Listen):
        return (await backend.listen(request.name, deadline)) or _Poller(), deadline, None
    if isinstance(request, Await):
        assert listener is not None  # an operation listens before it waits
        notified = await listener.wait(request.seconds)
        return listener, None if deadline is None else max(deadline, time.monotonic() + LAST_SECS), notified
    if deadline is not None and time.monotonic() >= deadline:
        raise StoreTimeout("the timeout of the operation is over, and the store has not answered in time")
    await asyncio.sleep(request.seconds)
    return listener, deadline, None


class _Poller(AsyncListener):
    """A listener of a store that cannot push to tasks: it reports a notification at growing random intervals."""

    __slots__ = ("_interval", "_longest")

    def __init__(self, longest: float = _LONGEST_INTERVAL_SECS) -> None:
        self._interval = _FIRST_INTERVAL_SECS
        self._longest = longest

    async def wait(self, seconds: float, /) -> bool:
        """Return true after the next interval, or false if the timeout ends first."""
        interval = self._interval * RANDOM.uniform(0.5, 1)
        self._interval = min(2 * self._interval, self._longest)
        await asyncio.sleep(max(0.0, min(interval, seconds)))
        return interval < seconds
