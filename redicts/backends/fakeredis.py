"""The backend ``fakeredis``: the Redis backend on a simulated server inside this process, for users' tests."""

from __future__ import annotations

from typing import Final

import fakeredis

from redicts.backends.redis.backend import RedisBackend
from redicts.backends.redis.settings import RedisSettings
from redicts.core.backend import BackendPlugin
from redicts.core.transaction import Outcome, Transaction
from redicts.forks import WholeCopyLock


class FakeRedisBackend(RedisBackend):
    """The Redis backend, one request at a time and never during a fork: a child's copy of the server is whole."""

    def __init__(self, settings: RedisSettings, database: int) -> None:
        options = {
            "connection_class": fakeredis.FakeRedisConnection,
            "server": fakeredis.FakeServer(),
            "db": database,
            "protocol": 2,
        }
        super().__init__(options, "the simulated server", settings, simulated=True)
        self._lock = WholeCopyLock()

    def execute(self, transaction: Transaction, /) -> Outcome:
        """Decide and apply one minitransaction on the simulated server."""
        with self._lock:
            return super().execute(transaction)


class FakeRedisSettings(RedisSettings):
    """The settings of the backend ``redis``; what says where the server is has no effect."""


def open_fake(settings: FakeRedisSettings, database: int) -> FakeRedisBackend:
    """Open one database of a new simulated server. Its state ends with the backend."""
    return FakeRedisBackend(settings, database)


plugin: Final = BackendPlugin("fakeredis", FakeRedisSettings, open_fake)
