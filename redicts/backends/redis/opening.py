"""Opens what settings describe: one database of a server, or of a cluster."""

from __future__ import annotations

from redicts.backends.redis.backend import open_redis
from redicts.backends.redis.settings import RedisSettings
from redicts.core.backend import Backend


def open_store(settings: RedisSettings, database: int) -> Backend:
    """Open one database of a server or of a cluster. Connects to nothing yet."""
    if settings.cluster:
        from redicts.backends.redis.cluster import ClusterBackend  # noqa: PLC0415  (few programs need it)

        return ClusterBackend(settings, database)
    return open_redis(settings, database)
