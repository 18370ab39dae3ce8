"""Clients of redis-py: opens a backend on the server and database of one, and refuses those of several servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from redicts.backends.redis.backend import OwnPool, RedisBackend
from redicts.backends.redis.connections import UNNAMED
from redicts.backends.redis.options import DEFAULTS, RedisOptions
from redicts.errors import SettingsError

if TYPE_CHECKING:
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

_REFUSED: Final = {
    "redis.sentinel": "belongs to Sentinel, which redicts asks by the settings sentinels and service; give a pool or a "
    "database with these, or give a client of the class redis.Redis",
    "redis.cluster": "belongs to a cluster, which redicts uses by redis+cluster://; give a pool or a database "
    "of that, or give a client of the class redis.Redis",
    "redis.multidb": "belongs to several servers, and redicts uses one; give a client of the class redis.Redis",
    "redis.connection": "is not a client; give redis.Redis(connection_pool=...) with a pool of connections",
    "redis.client": "is not a client itself; give the client of the class redis.Redis that it is from",
    "redis.lock": "is a lock, not a client; give the client of the class redis.Redis that it is from",
}
"""What redis-py has besides clients of one server, by the module of the class, and what to give instead."""

_opened: Final[WeakKeyDictionary[redis.ConnectionPool, RedisBackend]] = WeakKeyDictionary()
"""The backends of clients by their pools, so that all clients that share one have one backend."""


def from_client(client: object) -> RedisBackend | None:
    """Return a backend on the server and database of a client of redis-py, or ``None`` for anything else.

    It has connections of its own, with the options and credentials of the client. It keeps neither the client nor its
    pool, so both may be closed. A client of fakeredis gives its simulated server. A client of an opened backend gives
    that backend.
    """
    pool = _pool_of(client)
    if pool is None:
        return None
    backend = (pool.opened_by() if isinstance(pool, OwnPool) else None) or _opened.get(pool)
    # A signal handler may have opened it since.
    return backend or _opened.setdefault(pool, _opened_like(pool))


def is_client_of(client: object, settings: RedisSettings | RedisOptions, number: int) -> bool:
    """Return whether a client is connected to this database, whose keys have a prefix that the client does not know.

    Raises :class:`~redicts.errors.SettingsError` if only the server could tell. No round trip.
    """
    if not settings.prefix or not isinstance(client, redis.Redis):
        return False
    pool = _pool_of(client)
    if pool is None or isinstance(pool, OwnPool) or _is_simulated(pool):
        return False
    options = pool.connection_kwargs
    if _database_of(options) != number:
        return False
    here = _address(settings.unix_socket, settings.host, settings.port)
    there = _address(options.get("path"), options.get("host"), options.get("port"))
    if here == there and not settings.sentinels:
        return True
    if settings.sentinels or here[1] == there[1] or None in (here[1], there[1]):
        raise SettingsError(
            "a lock on a client must be a lock of the pool if they have one server, because the pool has a prefix; the "
            "addresses do not tell; give the Pool, or for another server a database of redicts.open()"
        )
    return False


def _pool_of(client: object) -> redis.ConnectionPool | None:
    """Return the pool of a client of one server; ``None`` for an object that is not of redis-py, or is for asyncio.

    Raises :class:`~redicts.errors.SettingsError` for anything else of redis-py.
    """
    kind = type(client)
    module = next((base.__module__ for base in kind.__mro__ if base.__module__.startswith("redis.")), "")
    if isinstance(client, redis.Redis) and not isinstance(client, Pipeline):
        if not isinstance(client.connection_pool, SentinelConnectionPool):
            return client.connection_pool
        module = SentinelConnectionPool.__module__
    for name, why in _REFUSED.items():
        if f"{module}.".startswith(f"{name}."):
            raise SettingsError(f"{kind.__module__}.{kind.__qualname__} {why}")
    return None


def _opened_like(pool: redis.ConnectionPool) -> RedisBackend:
    options = {name: value for name, value in pool.connection_kwargs.items() if name not in _OMITTED}
    options |= {"connection_class": pool.connection_class, "retry": Retry(NoBackoff(), 0), **_REQUIRED}
    simulated = _is_simulated(pool)
    if not simulated:
        options |= UNNAMED
    options["db"] = number = _database_of(options)
    where = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return RedisBackend(options, f"{where}, database {number}", DEFAULTS, simulated=simulated)


def _is_simulated(pool: redis.ConnectionPool) -> bool:
    return any(base.__module__.startswith("fakeredis") for base in pool.connection_class.__mro__)


def _database_of(options: dict[str, Any]) -> int:
    return int(options.get("db") or 0)


def _address(socket: str | None, host: object, port: Any) -> tuple[str, int | None]:
    """Return the address of a server: the path of its socket, or its host and port."""
    if socket is not None:
        return socket, None
    name = str(host or "localhost").lower()
    return "localhost" if name in ("127.0.0.1", "::1") else name, int(port or 6379)
