"""The Redis backend: one minitransaction is one call of one Lua script."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, cast

import redis
from redis.connection import AbstractConnection

from redicts.backends.redis.connections import Connections, connection_options, described
from redicts.backends.redis.pubsub import RedisListener, Subscriptions
from redicts.backends.redis.settings import RedisSettings
from redicts.backends.redis.wire import INFO_SERVER, SWEPT, Encoder, decode
from redicts.core.backend import Backend, Capabilities
from redicts.core.minitransaction import Outcome, Put, Status, Transaction

ATOMIC_ENTRIES: Final = 5_000
"""How many fields one call of the script may touch, so that it never occupies the server for long."""


class RedisBackend(Backend):
    """One database of a Redis (6.2 or newer) or Valkey server.

    ``options`` are redis-py's arguments for a connection, with its class as ``connection_class``. ``where`` names the
    server in errors.
    """

    def __init__(
        self, options: dict[str, Any], where: str, settings: RedisSettings, *, simulated: bool = False
    ) -> None:
        arguments = {name: value for name, value in options.items() if name != "connection_class"}

        def make() -> AbstractConnection:  # not a partial, whose repr shows the password
            connection: AbstractConnection = options["connection_class"](**arguments)
            return connection

        prefix = settings.prefix.encode()
        # All databases of a server share its channels, so their names have the database.
        channels = prefix + b"s:%d:" % options["db"]
        self._encoder = Encoder(prefix, channels, ATOMIC_ENTRIES)
        self._new_connections = partial(Connections, make, where, settings)
        # By process. It has one item, but a dict decides atomically which thread of a child is the first to add it.
        self._connections: dict[int, Connections] = {}
        self._closed = False
        self._subscriptions = Subscriptions(make, channels, where, settings.retries)
        self._pool = redis.BlockingConnectionPool(
            max_connections=settings.max_connections, timeout=cast("int", settings.timeout_secs), **options
        )
        self._capabilities = Capabilities(
            ttl=True, processes=not simulated, durable=not simulated, atomic_entries=ATOMIC_ENTRIES, push=True
        )

    @property
    def capabilities(self) -> Capabilities:
        """The same for every server, but that a simulated one ends with this process."""
        return self._capabilities

    @property
    def client(self) -> redis.Redis:
        """A client of redis-py for the same database, on connections of its own, for what redicts does not do."""
        return redis.Redis(connection_pool=self._pool)

    def execute(self, transaction: Transaction, /) -> Outcome:
        """Decide and apply one minitransaction in one call of the script."""
        if len(transaction.writes) > ATOMIC_ENTRIES and _count_puts(transaction) > ATOMIC_ENTRIES:
            return Outcome(Status.TOO_LARGE)
        connections = self._connections.get(os.getpid()) or self._connections_here()
        session = connections.session() if transaction.writes else None
        try:
            if session is None:
                command = self._encoder.encode(transaction)
            else:
                session.number += 1
                command = self._encoder.encode(transaction, session.name, session.number)
            reply = connections.call(command)
            while reply[0] == SWEPT:
                reply = connections.call(command)
        except BaseException as error:
            if session is not None:
                connections.end_session(session, error)
            raise
        if session is not None:
            connections.idle_sessions.append(session)
        return decode(reply, transaction)

    def _connections_here(self) -> Connections:
        """Return the connections of this process. A forked child has new ones, for its parent uses the others."""
        here = os.getpid()
        connections = self._connections.setdefault(here, self._new_connections())
        for process in list(self._connections):
            if process != here:
                self._connections.pop(process, None)
        if self._closed:
            connections.close()
        return connections

    def listen(self, name: str, /) -> RedisListener:
        """Listen over the one connection that this process subscribes with."""
        return self._subscriptions.listen(name)

    def about(self) -> Mapping[str, str]:
        """Return the version of the server. Cost: one round trip."""
        reply: bytes = self._connections_here().call(INFO_SERVER)
        lines = reply.decode("utf-8", "replace").splitlines()
        info = dict(line.split(":", 1) for line in lines if ":" in line)
        # Valkey gives the version of Redis that it is compatible with, and its own.
        name = "valkey" if "valkey_version" in info else "redis"
        version = info.get(f"{name}_version")
        return {f"{name} server": version} if version else {}

    def close(self) -> None:
        """Close the idle connections now, the others when their requests are over and the last listener is closed."""
        self._closed = True
        self._connections_here().close()
        self._subscriptions.close()
        self._pool.disconnect()


def open_redis(settings: RedisSettings, database: int) -> RedisBackend:
    """Open one database of a server. Connects to nothing yet."""
    return RedisBackend(connection_options(settings, database), described(settings, database), settings)


def _count_puts(transaction: Transaction) -> int:
    return sum(isinstance(write, Put) for write in transaction.writes)
