"""A backend from an existing client of redis-py: the same server and database, on separate connections."""

from __future__ import annotations

from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from redicts.backends.redis.backend import RedisBackend
from redicts.backends.redis.connections import UNNAMED
from redicts.backends.redis.settings import RedisSettings
from redicts.errors import SettingsError

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


_REFUSED: Final = {
    "asyncio": "a client for asyncio, and redicts blocks",
    "cluster": "a client of a cluster, which redicts does not support",
    "sentinel": "a client of Sentinel, which redicts does not support",
}
"""Clients of redis-py that are not clients of one server, by the module of their class."""


def from_client(client: object) -> RedisBackend | None:
    """Return a backend on the server and database of a client of redis-py, or ``None`` for anything else.

    It keeps neither the client nor its pool, so both may be closed. A client of fakeredis gives its simulated server.
    """
    if not isinstance(client, redis.Redis):
        for package, name in _REFUSED.items():
            if type(client).__module__.startswith(f"redis.{package}"):
                raise SettingsError(f"this is {name}; give a client of the class redis.Redis")
        return None
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        raise SettingsError(f"this is {_REFUSED['sentinel']}; give a client of the class redis.Redis")
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
