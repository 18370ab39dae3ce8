"""The backend ``redis``: one hash per nested dict, one Lua script, on Redis 6.2 and newer and on Valkey."""

from __future__ import annotations

from typing import Final

from redicts.backends.redis.backend import RedisBackend
from redicts.backends.redis.from_client import from_client, is_client_of
from redicts.backends.redis.opening import open_store
from redicts.backends.redis.urls import plain
from redicts.core.backend import BackendPlugin
from redicts.core.hooks import hookimpl

__all__ = ["RedisBackend", "plugin", "redicts_backends"]

plugin: Final = BackendPlugin(
    "redis",
    "redicts.backends.redis.settings:RedisSettings",
    open_store,
    from_client,
    contract=1,
    summary="a server of Redis 6.2 or newer, or of Valkey",
    harness="redicts.contract.stores:redis_harness",
    is_client_of=is_client_of,
    plain=plain,
)


@hookimpl
def redicts_backends() -> list[BackendPlugin]:
    """Offer the backend ``redis``."""
    return [plugin]
