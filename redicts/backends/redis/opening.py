"""Opens what settings describe: one database of a server, or of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redicts.backends.redis.backend import open_redis
from redicts.backends.redis.options import RedisOptions
from redicts.core.backend import Backend

if TYPE_CHECKING:
    from redicts.backends.redis.settings import RedisSettings


def open_store(settings: RedisSettings | RedisOptions, database: int) -> Backend:
    """Open one database of a server or of a cluster. Connects to nothing yet."""
    options = settings if isinstance(settings, RedisOptions) else settings.options()
    if options.cluster:
        from redicts.backends.redis.cluster import ClusterBackend  # noqa: PLC0415  (few programs need it)

        return ClusterBackend(options, database)
    return open_redis(options, database)
