"""The asyncio half of the backend contract, optional: executes minitransactions without a thread for each call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from redicts.core.minitransaction import Key, Outcome, Path, Transaction


class AsyncListener(ABC):
    """Waits for notifications of one name. One task uses it and closes it."""

    __slots__ = ()

    @abstractmethod
    async def wait(self, seconds: float, /) -> bool:
        """Wait for a notification: return true when one arrives, false after the timeout, which may be 0 or less.

        The rules are those of :meth:`redicts.core.listener.Listener.wait`.
        """

    def close(self) -> None:  # noqa: B027  (a listener without resources has nothing to close)
        """Stop listening. Idempotent."""


class CallbackListener(AsyncListener):
    """A listener that callbacks notify, in the event loop or in any thread. ``loop`` is the running event loop."""

    __slots__ = ("__weakref__", "_is_notified", "_loop", "_waiter")

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._waiter: Any = None
        self._is_notified = False

    def notify(self) -> None:
        """End a wait, the current one or the next. Called in the loop."""
        self._is_notified = True
        self._end_wait()

    def notify_from_thread(self) -> None:
        """End a wait, the current one or the next. Called in any thread; without effect if the loop is closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.notify)

    async def wait(self, seconds: float, /) -> bool:
        """Return true when notified, or false after this many seconds."""
        if not self._is_notified and seconds > 0:
            self._waiter = self._loop.create_future()
            timer = self._loop.call_later(seconds, self._end_wait)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        was_notified, self._is_notified = self._is_notified, False
        return was_notified

    def _end_wait(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class AsyncBackend(ABC):
    """Base class of backends for asyncio: one opened database, as the tasks of one event loop use it.

    :meth:`redicts.core.backend.Backend.for_asyncio` returns a new one for each loop. The rules are those of
    :class:`~redicts.core.backend.Backend`, with tasks in place of threads, and one more:

        - *Cancellation*: a task may be cancelled at each ``await``. Nobody gets the reply to its request, least of all
          the next request on the same connection: the connection is closed, or the reply is read and dropped. If the
          request writes, it is not applied later than a request that the task makes after its cancellation.
    """

    @property
    def address(self) -> Mapping[str, str | int]:
        """Where the store is, for reports: any of ``host``, ``port``, ``path`` and ``db``. No secrets, and no I/O."""
        return {}

    @abstractmethod
    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        """Evaluate and apply one minitransaction atomically, or give up at a time of ``time.monotonic``.

        The rules are those of :meth:`redicts.core.backend.Backend.execute_until`; ``None`` is no deadline.
        """

    async def fetch(self, key: Key, document: bool, /) -> bytes | None:  # noqa: ARG002  (for those that override it)
        """Return what ``Backend.fetch`` or ``Backend.fetch_document`` returns; by default ``None``: use execute."""
        return None

    async def overwrite(self, key: Key, value: bytes, document: bool, /) -> bool:  # noqa: ARG002  (as with fetch)
        """Do what ``Backend.overwrite`` or ``Backend.overwrite_document`` does; by default nothing."""
        return False

    async def listen(self, name: str, deadline: float | None = None, /) -> AsyncListener | None:  # noqa: ARG002
        """Listen for each ``Notify`` of this name until the listener is closed, or give up at the deadline.

        The rules are those of :meth:`redicts.core.backend.Backend.listen`. The default, ``None``, stands for a listener
        that reports a notification at short, growing, random intervals.
        """
        return None

    async def listen_to_changes(self, name: str, path: Path, /) -> AsyncListener | None:  # noqa: ARG002
        """Listen for changes of the values at, above and below a path, until the listener is closed.

        The rules are those of :meth:`redicts.core.backend.Backend.listen_to_changes`. The default, ``None``, stands for
        a listener that reports a notification at growing, random intervals.
        """
        return None

    def close(self, at_once: bool, /) -> None:  # noqa: B027  (a store without resources has nothing to close)
        """Close connections and files. Idempotent. Called in the loop.

        Calls under way finish, unless it is to close ``at_once``, because the loop ends. A call that comes later still
        works, and is followed by another call of this method.
        """
