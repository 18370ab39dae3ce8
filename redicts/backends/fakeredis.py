"""The backend ``fakeredis``: the Redis backend on a simulated server inside this process, for users' tests."""

from __future__ import annotations

import os
from typing import Final

import fakeredis

from redicts.backends.redis.backend import RedisBackend
from redicts.backends.redis.pubsub import RedisListener
from redicts.backends.redis.settings import RedisSettings
from redicts.core.backend import BackendPlugin
from redicts.core.hooks import hookimpl
from redicts.core.minitransaction import Outcome, Transaction
from redicts.forks import WholeCopyLock


class FakeRedisBackend(RedisBackend):
    """The Redis backend on a simulated server.

    Requests run one at a time and never during a fork, so that a child has a consistent copy of the server.
    """

    def __init__(self, settings: RedisSettings, database: int) -> None:
        server = fakeredis.FakeServer()
        options = {
            "connection_class": fakeredis.FakeRedisConnection,
            "server": server,
            "db": database,
            "protocol": 2,
        }
        super().__init__(options, "the simulated server", settings, simulated=True)
        self._server = server
        self._owner = os.getpid()
        self._lock = WholeCopyLock()

    def execute(self, transaction: Transaction, /, deadline: float | None = None) -> Outcome:  # noqa: ARG002
        """Decide and apply one minitransaction on the simulated server."""
        with self._lock:
            self._forget_subscribers_of_parent()
            return super().execute(transaction)

    execute_until = execute

    def _forget_subscribers_of_parent(self) -> None:
        # The copied server would go on sending to the parent's subscribers, which nobody reads here.
        if self._owner != os.getpid():
            self._server.subscribers.clear()
            self._owner = os.getpid()

    def listen(self, name: str, /, deadline: float | None = None) -> RedisListener:  # noqa: ARG002
        """Listen on the simulated server, which has the messages in memory."""
        with self._lock:
            self._forget_subscribers_of_parent()
            return super().listen(name)

    listen_until = listen


class FakeRedisSettings(RedisSettings):
    """The settings of the backend ``redis``. The server's address has no effect."""


def open_fake(settings: FakeRedisSettings, database: int) -> FakeRedisBackend:
    """Open one database of a new simulated server, which ends with the backend."""
    return FakeRedisBackend(settings, database)


plugin: Final = BackendPlugin(
    "fakeredis", FakeRedisSettings, open_fake, contract=1, summary="a Redis server simulated in this process, for tests"
)


@hookimpl
def redicts_backends() -> list[BackendPlugin]:
    """Offer the backend ``fakeredis``."""
    return [plugin]
