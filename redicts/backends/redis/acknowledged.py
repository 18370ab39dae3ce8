"""Writes that count as done when enough replicas have them: ``WAIT`` follows each of them in the same packet.

``WAIT`` is about what its connection has written. So the server writes for a repeated request too, whose first attempt
came over another connection.

A primary that was replaced without knowing it has no replicas any more. So the first wait is short, and the request is
sent once more over a new connection, which may lead to the new primary. There it is carried out unless it was already.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any, Final

from redis import exceptions
from redis.connection import AbstractConnection

from redicts.backends.redis.connections import Connections
from redicts.backends.redis.errors import Errors
from redicts.backends.redis.options import RedisOptions
from redicts.backends.redis.wire import command
from redicts.errors import RedictsError, StoreError

_FIRST_SECS: Final = 0.5
"""The longest first wait."""

_WITHOUT_TIMEOUT_SECS: Final = 10.0
"""What is used in place of the timeout of a socket that has none."""

_DONE: Final = (b"+", b"R")
"""The statuses of requests that the server has carried out, now or before. The others have written nothing."""

Answered = tuple[Any, Any]
"""The reply to a write, and how many replicas acknowledged it, or the error of ``WAIT``."""


class Acknowledgements:
    """How many replicas must acknowledge each write, and how long the server waits for them."""

    __slots__ = ("_errors", "_required", "_timeout")

    def __init__(self, required: int, errors: Errors, socket_timeout: float | None) -> None:
        self._required = required
        self._errors = errors
        self._timeout = _WITHOUT_TIMEOUT_SECS if socket_timeout is None else socket_timeout

    def waits(self, deadline: float | None) -> Iterator[int]:
        """Yield the milliseconds that the server is to wait at each attempt, at most half of what is left."""
        yield self._wait(0.25, _FIRST_SECS, deadline)
        if deadline is None or time.monotonic() < deadline:
            yield self._wait(0.5, math.inf, deadline)

    def _wait(self, share: float, longest: float, deadline: float | None) -> int:
        left = self._timeout if deadline is None else min(self._timeout, deadline - time.monotonic())
        return max(1, int(min(max(0.0, left) * share, longest) * 1000))

    def command(self, wait: int) -> bytes:
        """Return the command that waits so many milliseconds."""
        return command(b"WAIT", b"%d" % self._required, b"%d" % wait)

    def are_enough(self, answered: Answered) -> bool:
        """Return whether a write is done. Raises an error if the server does not let this user wait."""
        reply, replicas = answered
        if reply[0] not in _DONE:
            return True
        if isinstance(replicas, exceptions.NoPermissionError):
            raise self._errors.mapped(replicas, maybe_applied=True) from replicas
        return isinstance(replicas, int) and replicas >= self._required

    def too_few(self, answered: Answered | None) -> RedictsError:
        """Return the error for a write that too few replicas have acknowledged."""
        replicas = 0 if answered is None or isinstance(answered[1], Exception) else answered[1]
        return self._errors.not_replicated(
            f"{replicas} replicas acknowledged a write in time, and acknowledged_by is {self._required}; it is lost if "
            "the primary fails now. Look at the replicas, and try again"
        )


class AcknowledgedConnections(Connections):
    """Connections whose writes wait for replicas."""

    def __init__(self, make: Any, errors: Errors, settings: RedisOptions, socket_timeout: float | None) -> None:
        super().__init__(make, errors, settings, socket_timeout)
        self._acknowledgements = Acknowledgements(settings.acknowledged_by, errors, socket_timeout)

    def call(self, command: bytes, writes: bool = False, deadline: float | None = None, count: int = 1) -> Any:
        """Send an encoded call as :meth:`Connections.call` does; one that writes has its reply when replicas have it.

        Raises :class:`~redicts.errors.NotReplicated` if there are too few of them.
        """
        if not writes:
            return super().call(command, False, deadline, count)
        answered: Answered | None = None
        for wait in self._acknowledgements.waits(deadline):
            try:
                answered = super().call(command + self._acknowledgements.command(wait), True, deadline, -wait)
            except StoreError as error:
                if answered is None:
                    raise
                raise self._acknowledgements.too_few(answered) from error
            assert answered is not None
            if self._acknowledgements.are_enough(answered):
                return answered[0]
            self._close_idle()
        raise self._acknowledgements.too_few(answered)

    def _read_all(self, connection: AbstractConnection, count: int) -> Any:
        if count > 0:
            return super()._read_all(connection, count)
        replies: list[Any] = []
        for _ in range(2):
            try:
                replies.append(connection.read_response())
            except exceptions.ResponseError as error:
                replies.append(error)
        if isinstance(replies[0], Exception):
            raise replies[0]
        return tuple(replies)
