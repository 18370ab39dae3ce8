"""Clients that users give to ``Lock``: which are refused, and whether one is connected to the server of the pool."""

from __future__ import annotations

from typing import Any

from redicts.config.settings import Settings
from redicts.errors import SettingsError


def check_is_blocking(client: object) -> None:
    """Raise :class:`~redicts.errors.SettingsError` for a client for asyncio, whatever library it is of."""
    kind = type(client)
    if hasattr(kind, "__aenter__") and not hasattr(kind, "__enter__"):
        raise SettingsError(
            f"a client must be a blocking one; {kind.__module__}.{kind.__qualname__} is for asyncio; give a Proxy, the "
            "Pool, a backend, or a client of redis-py such as redis.Redis, and acquire the lock with: "
            "await asyncio.to_thread(lock.acquire)"
        )


def database_of(client: object) -> int | None:
    """Return the number of the database that a client selects, or ``None`` if it does not tell."""
    options = _options(client)
    return None if options is None else int(options.get("db") or 0)


def is_on_server_with_prefix(client: object, settings: Settings, number: int) -> bool:
    """Return whether a client is connected to a database of these settings, where keys have a prefix. No round trip.

    Raises :class:`~redicts.errors.SettingsError` if only the server could tell.
    """
    theirs, ours = _options(client), settings.options.model_dump()
    numbers = [settings.database(name) for name in (None, *settings.names)]
    if theirs is None or not ours.get("prefix") or "unix_socket" not in ours or number not in numbers:
        return False
    if settings.backend == "fakeredis":
        return False
    here, there = _address(ours["unix_socket"], ours), _address(theirs.get("path"), theirs)
    if here == there:
        return True
    if here[1] == there[1] or None in (here[1], there[1]):
        raise SettingsError(
            "a lock on a client must be a lock of the pool if they have one server, because the pool has a prefix; the "
            "addresses do not tell; give the Pool, or for another server a database of redicts.open()"
        )
    return False


def _options(client: object) -> dict[str, Any] | None:
    found = getattr(getattr(client, "connection_pool", None), "connection_kwargs", None)
    return found if isinstance(found, dict) else None


def _address(socket: str | None, options: dict[str, Any]) -> tuple[str, int | None]:
    """Return the address of a server: the path of its socket, or its host and port."""
    if socket is not None:
        return socket, None
    host = str(options.get("host") or "localhost").lower()
    return "localhost" if host in ("127.0.0.1", "::1") else host, int(options.get("port") or 6379)
