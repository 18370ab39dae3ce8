"""The backend ``fakeredis``: the Redis backend on a simulated server inside this process, for users' tests."""

from __future__ import annotations

from typing import Final

import fakeredis

from redicts.backends.redis.backend import RedisBackend
from redicts.backends.redis.settings import RedisSettings
from redicts.core.backend import BackendPlugin


class FakeRedisSettings(RedisSettings):
    """The settings of the backend ``redis``; what says where the server is has no effect."""


def open_fake(settings: FakeRedisSettings, database: int) -> RedisBackend:
    """Open one database of a new simulated server. Its state ends with the backend."""
    options = {"connection_class": fakeredis.FakeRedisConnection, "server": fakeredis.FakeServer(), "protocol": 2}
    return RedisBackend({**options, "db": database}, "the simulated server", settings, simulated=True)


plugin: Final = BackendPlugin("fakeredis", FakeRedisSettings, open_fake)
