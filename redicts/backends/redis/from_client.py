"""A backend from an existing client of redis-py: the same server and database, on separate connections."""

from __future__ import annotations

from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from redicts.backends.redis.backend import RedisBackend
from redicts.backends.redis.connections import UNNAMED
from redicts.backends.redis.settings import RedisSettings

_REQUIRED: Final[dict[str, Any]] = {"protocol": 2, "decode_responses": False, "health_check_interval": 0}
"""Options that the backend's connections need, whatever the client uses."""

_OMITTED: Final = (
    "retry_on_timeout",
    "retry_on_error",
    "maint_notifications_config",
    "maint_notifications_pool_handler",
    "driver_info",
    "lib_name",
    "lib_version",
)
"""Options that make a connection send requests again, or that belong to the client's pool."""


def from_client(client: object) -> RedisBackend | None:
    """Return a backend on the server and database of a client of redis-py, or ``None`` for anything else.

    It keeps neither the client nor its pool, so both may be closed. A client of fakeredis gives its simulated server.
    """
    if not isinstance(client, redis.Redis):
        return None
    pool = client.connection_pool
    options = {name: value for name, value in pool.connection_kwargs.items() if name not in _OMITTED}
    options |= {"connection_class": pool.connection_class, "retry": Retry(NoBackoff(), 0), **_REQUIRED}
    simulated = type(client).__module__.startswith("fakeredis")
    if not simulated:
        options |= UNNAMED
    options["db"] = options.get("db") or 0
    return RedisBackend(options, _described(options), RedisSettings.model_validate({}), simulated=simulated)


def _described(options: dict[str, Any]) -> str:
    server = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"{server}, database {options['db']}"
