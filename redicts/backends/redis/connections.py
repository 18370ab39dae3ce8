"""Requests over pooled connections: each is sent, sent again if its reply was lost, and applied once.

Connections and pool are those of redis-py. What its command layer does per call is left out, because one request here
is one call of one script; and its own retries are switched off, because they would apply a write twice.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from typing import Any, Final, cast

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from redicts.backends.redis.border import is_final, mapped
from redicts.backends.redis.settings import RedisSettings

_FIRST_PAUSE_SECS: Final = 0.02


class Lane:
    """Numbers the requests of one sender at a time, so that the server knows one that it has seen before.

    RIFL (Lee et al., SOSP 2015) calls this a client with its sequence numbers; one process has as many lanes as it
    has writing requests under way at once.
    """

    __slots__ = ("name", "number")

    def __init__(self) -> None:
        self.name = secrets.token_hex(8).encode()
        self.number = 0


class Connections:
    """The connections to one database of one server."""

    def __init__(self, pool: redis.ConnectionPool, where: str, retries: int) -> None:
        self.pool = pool
        self.where = where
        self._retries = retries
        self._closed = False
        self._lanes: list[Lane] = []
        self._owner = os.getpid()

    def lane(self) -> Lane:
        """Take a lane for one request, numbered anew; give it back with :meth:`give_back` when that is over."""
        if self._owner != os.getpid():
            # A child that went on numbering its parent's lanes would be told its parent's replies.
            self._lanes, self._owner = [], os.getpid()
        try:
            lane = self._lanes.pop()
        except IndexError:
            lane = Lane()
        lane.number += 1
        return lane

    def give_back(self, lane: Lane) -> None:
        """Let the next request use this lane. Right also after a failure: a late request is then a stale one."""
        if self._owner == os.getpid():
            self._lanes.append(lane)

    def call(self, command: bytes, fallback: bytes) -> Any:
        """Send a packed command and return its reply; ``fallback`` is sent if the server does not know the script.

        Raises an error below :class:`~redicts.errors.StoreError`. Cost: one round trip.
        """
        attempt = 0
        maybe_applied = False
        while True:
            connection = None
            sent = False
            try:
                connection = self.pool.get_connection()
                sent = True
                try:
                    connection.send_packed_command([command])
                    return connection.read_response()
                except exceptions.NoScriptError:
                    connection.send_packed_command([fallback])
                    return connection.read_response()
            except (exceptions.RedisError, OSError) as error:
                lost = isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError, OSError))
                if connection is not None and lost:
                    connection.disconnect()
                maybe_applied = maybe_applied or (sent and lost)
                attempt += 1
                if not lost or is_final(error) or attempt > self._retries or "No connection available" in str(error):
                    raise mapped(error, self.where, maybe_applied=maybe_applied) from error
            except BaseException:
                # Ctrl-C between request and reply: the reply must not be taken for that of a later request.
                if connection is not None:
                    connection.disconnect()
                raise
            finally:
                if connection is not None:
                    self.pool.release(connection)
                    if self._closed:
                        connection.disconnect()
            time.sleep(_FIRST_PAUSE_SECS * (2**attempt - 2) * random.random())  # noqa: S311  (no secret)

    def close(self) -> None:
        """Close what is idle now, and everything else when its request is over."""
        self._closed = True
        self.pool.disconnect(inuse_connections=False)


def pool_for(settings: RedisSettings, database: int) -> redis.BlockingConnectionPool:
    """Return a pool of connections for one database. Connects to nothing yet."""
    options: dict[str, Any] = {
        "db": database,
        "username": settings.username,
        "password": settings.password.get_secret_value() if settings.password else None,
        "socket_timeout": settings.socket_timeout_secs,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if settings.unix_socket is not None:
        options |= {"connection_class": redis.UnixDomainSocketConnection, "path": settings.unix_socket}
    else:
        options |= {
            "host": settings.host,
            "port": settings.port,
            "socket_connect_timeout": settings.connect_timeout_secs,
            "socket_keepalive": True,
        }
    if settings.tls:
        options |= {
            "connection_class": redis.SSLConnection,
            "ssl_ca_certs": settings.tls_ca_file,
            "ssl_certfile": settings.tls_cert_file,
            "ssl_keyfile": settings.tls_key_file,
            "ssl_check_hostname": settings.tls_check_hostname,
        }
    return redis.BlockingConnectionPool(
        max_connections=settings.max_connections, timeout=cast("int", settings.timeout_secs), **options
    )


def described(settings: RedisSettings, database: int) -> str:
    """Return how errors name the server and database. Holds no secret."""
    server = settings.unix_socket or f"{settings.host}:{settings.port}"
    return f"{server}, database {database}"
