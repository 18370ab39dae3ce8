"""The server that a client of the user's is connected to, opened on connections of our own."""

from __future__ import annotations

from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from redicts.backends.redis.backend import RedisBackend
from redicts.backends.redis.settings import RedisSettings

_OURS: Final[dict[str, Any]] = {"protocol": 2, "decode_responses": False, "health_check_interval": 0}
"""What a connection of ours needs whatever the client has chosen for its own."""

_NOT_OURS: Final = (
    "retry_on_timeout",
    "retry_on_error",
    "maint_notifications_config",
    "maint_notifications_pool_handler",
)
"""What makes a connection of the client send requests again, or belongs to its pool."""


def from_client(client: object) -> RedisBackend | None:
    """Return a backend on the server and database of a client of redis-py, or ``None`` for anything else.

    It holds neither the client nor its pool, so both may go; and a client of fakeredis leads to its simulated server.
    """
    if not isinstance(client, redis.Redis):
        return None
    pool = client.connection_pool
    options = {name: value for name, value in pool.connection_kwargs.items() if name not in _NOT_OURS}
    options |= {"connection_class": pool.connection_class, "retry": Retry(NoBackoff(), 0), **_OURS}
    options["db"] = options.get("db") or 0
    simulated = type(client).__module__.startswith("fakeredis")
    return RedisBackend(options, _described(options), RedisSettings.model_validate({}), simulated=simulated)


def _described(options: dict[str, Any]) -> str:
    server = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"{server}, database {options['db']}"
