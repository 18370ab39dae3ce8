"""Writes of tasks that wait for replicas: those of one connection share a ``WAIT``.

A server answers nothing else on a connection while it waits there. So writes have connections apart from those for
reads, and what tasks send during a wait is sent together after it, with one ``WAIT`` for all of them.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redicts.backends.redis.acknowledged import Acknowledgements, Answered
from redicts.backends.redis.aio import Connections
from redicts.backends.redis.aio_connection import Packet, Pipe, settle
from redicts.backends.redis.errors import Errors
from redicts.backends.redis.options import RedisOptions
from redicts.errors import StoreError


class AcknowledgedConnections(Connections):
    """Connections of one event loop for writes, which wait for replicas."""

    def __init__(self, make: Any, errors: Errors, settings: RedisOptions, socket_timeout: float | None) -> None:
        super().__init__(make, errors, settings, socket_timeout)
        self._acknowledgements = Acknowledgements(settings.acknowledged_by, errors, socket_timeout)

    async def call(self, command: bytes, writes: bool, deadline: float | None, count: int = 1) -> Any:
        """Send a command as :meth:`Connections.call` does; one that writes has its reply when replicas have it.

        Raises :class:`~redicts.errors.NotReplicated` if there are too few of them.
        """
        if not writes:
            return await super().call(command, False, deadline, count)
        answered: Answered | None = None
        for wait in self._acknowledgements.waits(deadline):
            try:
                answered = await super().call(command, True, deadline, -wait)
            except StoreError as error:
                if answered is None:
                    raise
                raise self._acknowledgements.too_few(answered) from error
            assert answered is not None
            if self._acknowledgements.are_enough(answered):
                return answered[0]
            self._replace_all()
        raise self._acknowledgements.too_few(answered)

    def _new_pipe(self) -> Pipe:
        return _AcknowledgedPipe(self._timeout, self._forget, self._acknowledgements)

    def _replace_all(self) -> None:
        """Send no more on the connections there are, and close each when its requests have their replies."""
        pipes, self._pipes = self._pipes, []
        for pipe in pipes:
            pipe.finish(at_once=False)


class _AcknowledgedPipe(Pipe):
    """A connection with at most one ``WAIT`` under way, which is for all writes that were sent with it."""

    def __init__(self, timeout: float | None, on_end: Any, acknowledgements: Acknowledgements) -> None:
        super().__init__(timeout, on_end)
        self._acknowledgements = acknowledgements
        self._held: list[tuple[bytes, int, asyncio.Future[Any]]] = []
        self._is_waiting = False

    def count(self) -> int:
        """Return how many commands have no reply yet."""
        return super().count() + len(self._held)

    def send(self, command: bytes, count: int = 1, packet: Packet | None = None) -> asyncio.Future[Any]:
        """Send a request; one with a negative ``count`` is a write, which waits for replicas so many milliseconds."""
        if count > 0:
            return super().send(command, count, packet)
        future = self._loop.create_future()
        if not self._held and not self._is_waiting:
            self._loop.call_soon(self.send_held)
        self._held.append((command, -count, future))
        return future

    def send_held(self) -> None:
        """Send the writes that have come meanwhile, with one ``WAIT``."""
        held, self._held = self._held, []
        self._is_waiting = bool(held) and self.is_open
        if self._is_waiting:
            wait = self._acknowledgements.command(max(wait for _, wait, _ in held))
            group = _Group([future for _, _, future in held], self)
            super().send(b"".join([command for command, _, _ in held]) + wait, group.count, group)

    def lost(self, error: Exception) -> None:
        """Let the requests fail that have no reply, and those that were not sent."""
        held, self._held = self._held, []
        super().lost(error)
        for _, _, future in held:
            settle(future, type(error)(*error.args))


class _Group(Packet):
    """Writes that share a ``WAIT``: each gets its reply with how many replicas acknowledged all of them."""

    def __init__(self, futures: list[asyncio.Future[Any]], pipe: _AcknowledgedPipe) -> None:
        super().__init__(pipe._loop.create_future(), len(futures) + 1)
        self._futures = futures
        self._pipe = pipe
        self.future.add_done_callback(self._has_ended)

    def received(self, reply: Any) -> None:
        """Take the reply to one command, the last of which is ``WAIT``."""
        replies = self.replies
        replies.append(reply)
        if len(replies) == self.count:
            replicas = replies.pop()
            for future, each in zip(self._futures, replies):
                settle(future, each if isinstance(each, Exception) else (each, replicas))
            self.future.set_result(None)
            self._pipe.send_held()

    def _has_ended(self, future: asyncio.Future[Any]) -> None:
        """Let each write fail if the connection was lost."""
        error = future.exception()
        if error is not None:
            for each in self._futures:
                settle(each, type(error)(*error.args))
