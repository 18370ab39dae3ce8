"""The driver for asyncio: awaits the requests of an operation, as :mod:`redicts.core.driver` carries them out blocking.

Both drivers run the same operations, so what redicts means is written once.
"""

from __future__ import annotations

import asyncio
import random
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
from redicts.core.minitransaction import Transaction
from redicts.core.observing import OBSERVERS, observed
from redicts.errors import StoreTimeout

_FIRST_INTERVAL_SECS: Final = 0.001
_LONGEST_INTERVAL_SECS: Final = 0.05


async def run(steps: Steps[Result], backend: AsyncBackend, timeout: float | None = None) -> Result:
    """Run an operation and return its result. Errors of the backend are raised inside the operation.

    ``timeout`` is that of the operation in seconds: each of its requests ends with it, but has a second at least.

    If the task is cancelled, the operation ends where it is, and asks for nothing more: what it leaves in the store is
    withdrawn in the background, because a task that is cancelled must end at once.
    """
    listener: AsyncListener | None = None
    deadline = None if timeout is None else time.monotonic() + max(timeout, SHORTEST_SECS)
    steps = observed(steps, backend) if OBSERVERS else steps
    try:
        request = next(steps)
        while True:
            answer: Any = None
            try:
                if isinstance(request, Transaction):
                    answer = await backend.execute(request, deadline)
                elif isinstance(request, Fetch):
                    answer = await backend.fetch(request.key, request.document)
                elif isinstance(request, Overwrite):
                    answer = await backend.overwrite(request.key, request.value, request.document)
                elif isinstance(request, Listen):
                    listener = (await backend.listen(request.name, deadline)) or _Poller()
                else:
                    deadline = await _wait(request, listener, deadline)
            except Exception as error:
                request = steps.throw(error)
            else:
                request = steps.send(answer)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    finally:
        steps.close()
        if listener is not None:
            listener.close()


async def _wait(request: Pause | Await, listener: AsyncListener | None, deadline: float | None) -> float | None:
    """Carry out a request that concerns time, and return the deadline after it."""
    if isinstance(request, Await):
        assert listener is not None  # an operation listens before it waits
        await listener.wait(request.seconds)
        return None if deadline is None else max(deadline, time.monotonic() + LAST_SECS)
    if deadline is not None and time.monotonic() >= deadline:
        raise StoreTimeout("the timeout of the operation is over, and the store has not answered in time")
    await asyncio.sleep(request.seconds)
    return deadline


class _Poller(AsyncListener):
    """A listener of a store that cannot push to tasks: it reports a notification at growing random intervals."""

    __slots__ = ("_interval",)

    def __init__(self) -> None:
        self._interval = _FIRST_INTERVAL_SECS

    async def wait(self, seconds: float, /) -> bool:
        """Return true after the next interval, or false if the timeout ends first."""
        interval = self._interval * random.uniform(0.5, 1)  # noqa: S311  (not a secret)
        self._interval = min(2 * self._interval, _LONGEST_INTERVAL_SECS)
        await asyncio.sleep(max(0.0, min(interval, seconds)))
        return interval < seconds
