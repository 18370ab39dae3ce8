"""Connections of an event loop to the primary of a service, which ask its Sentinels without blocking the loop."""

from __future__ import annotations

import math
import time
from typing import Any, Final

import redis.asyncio.sentinel
from redis import exceptions
from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from redicts.backends.redis.errors import unencodable
from redicts.backends.redis.sentinel import (
    QUESTION,
    Address,
    PrimaryConnection,
    PrimarySSLConnection,
    Sentinels,
    timeouts,
)


class AsyncPrimaryConnection(redis.asyncio.sentinel.SentinelManagedConnection):
    """A connection of redis-py to the server that is the primary when it is made."""

    connection_pool: Sentinels

    def __init__(self, *, connection_pool: Sentinels, **options: Any) -> None:
        super().__init__(connection_pool=connection_pool, **options)  # type: ignore[no-untyped-call]

    async def connect(self) -> None:
        """Ask for the primary, and connect to it, all within the timeout for connecting."""
        begun, seconds = time.monotonic(), self.socket_connect_timeout or math.inf
        address = await _primary(self.connection_pool, seconds)
        if seconds != math.inf:
            self.socket_connect_timeout = max(0.001, seconds - (time.monotonic() - begun))
        await self.connect_to(address)  # type: ignore[no-untyped-call]


class AsyncPrimarySSLConnection(AsyncPrimaryConnection, SSLConnection):
    """The same with TLS."""


CLASSES: Final[tuple[tuple[type, type[AbstractConnection]], ...]] = (
    (PrimarySSLConnection, AsyncPrimarySSLConnection),
    (PrimaryConnection, AsyncPrimaryConnection),
)
"""The blocking connections to a primary, and those for asyncio."""


async def _primary(sentinels: Sentinels, seconds: float) -> Address:
    steps = sentinels.asking(seconds)
    question = next(steps)
    try:
        while True:
            question = steps.send(await _ask(sentinels, *question))
    except StopIteration as stop:
        address: Address = stop.value
        return address


async def _ask(sentinels: Sentinels, at: Address, seconds: float) -> Any:
    options = {**sentinels.options(), **timeouts(seconds), "retry": Retry(NoBackoff(), 0)}
    (client,) = redis.asyncio.sentinel.Sentinel([at], sentinel_kwargs=options).sentinels
    connection = client.connection_pool.make_connection()  # see the blocking one
    try:
        await connection.connect()
        await connection.send_command(*QUESTION)
        return await client.parse_response(connection, " ".join(QUESTION))
    except (exceptions.RedisError, OSError) as error:
        return error
    except UnicodeError as error:
        return unencodable(error)
    finally:
        await connection.disconnect()
