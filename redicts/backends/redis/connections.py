"""Exchanges with the server: connections that are kept, requests that are sent again, and sessions to apply them once.

Connections are those of redis-py. Its pool and command layer are not used, because they take longer than the server
does. Its retries are switched off, because they would apply a write twice.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

from redicts.backends.redis.errors import is_answer, is_lost, is_transient, mapped
from redicts.backends.redis.settings import RedisSettings
from redicts.backends.redis.wire import with_source
from redicts.errors import StoreTimeout

_FIRST_PAUSE_SECS: Final = 0.02
_LONGEST_PAUSE_SECS: Final = 1.0


class Session:
    """Numbers the requests of one sender, so that the server recognizes a request that it has seen before.

    RIFL (Lee et al., SOSP 2015) calls this a client with its sequence numbers. A session has one request at a time, so
    a process has as many sessions as it has writing requests under way at once.
    """

    __slots__ = ("name", "number")

    def __init__(self) -> None:
        self.name = secrets.token_hex(8).encode()
        self.number = 0


class _Failed(Exception):
    """One attempt to exchange a request failed. ``sent`` says whether it had a connection."""

    def __init__(self, error: Exception, *, sent: bool) -> None:
        self.error: Final = error
        self.maybe_applied: Final = sent and is_lost(error) and not is_answer(error)


class Connections:
    """The connections of one process to one database of a server, and its sessions there.

    At most ``max_connections`` are in use at once, each by one request. A forked child needs an instance of its own:
    with its parent's sockets or sessions it would get its parent's replies.
    """

    def __init__(self, make: Callable[[], AbstractConnection], where: str, settings: RedisSettings) -> None:
        self._make = make
        self._where = where
        self._most = settings.max_connections
        self._timeout = settings.timeout_secs
        self._retries = settings.retries
        self._closed = False
        self._idle: list[AbstractConnection] = []
        self._permits: SimpleQueue[None] = SimpleQueue()
        for _ in range(self._most):
            self._permits.put(None)
        self.idle_sessions: list[Session] = []
        self._in_doubt = threading.local()

    def session(self) -> Session:
        """Return a session for one request. Afterwards it is idle again, or :meth:`end_session` decides."""
        session: Session | None = self._in_doubt.__dict__.pop("session", None)
        if session is not None:
            return session
        try:
            return self.idle_sessions.pop()
        except IndexError:
            return Session()

    def end_session(self, session: Session, error: BaseException) -> None:
        """Give the session of a failed request to the next of this thread, if this one may still be carried out.

        Then the thread's next write makes the late request one that is overtaken, which the server refuses.
        """
        if getattr(error, "maybe_applied", True):
            self._in_doubt.session = session
        else:
            self.idle_sessions.append(session)

    def call(self, command: bytes) -> Any:
        """Send an encoded command and return its reply. Send it again if the connection is lost meanwhile.

        Raises an error below :class:`~redicts.errors.StoreError`. Cost: one round trip.
        """
        try:
            self._permits.get(timeout=self._timeout)
        except Empty:
            raise StoreTimeout(
                f"redis at {self._where}: all {self._most} connections stayed in use for {self._timeout} seconds; "
                "raise max_connections or timeout_secs"
            ) from None
        try:
            return self._exchange(command)
        except _Failed as failed:
            return self._call_again(command, failed)
        finally:
            self._permits.put(None)

    def _call_again(self, command: bytes, failed: _Failed) -> Any:
        """Send a command again while that may help, at most ``retries`` times."""
        maybe_applied = failed.maybe_applied
        for attempt in range(1, self._retries + 1):
            if not is_transient(failed.error):
                break
            pause_before(attempt)
            try:
                return self._exchange(command)
            except _Failed as again:
                failed = again
                maybe_applied |= again.maybe_applied
        raise mapped(failed.error, self._where, maybe_applied=maybe_applied) from failed.error

    def _exchange(self, command: bytes) -> Any:
        """Send a command once and return its reply. Raises :class:`_Failed`."""
        connection: AbstractConnection | None = None
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            connection.send_packed_command([command], check_health=False)
            try:
                reply = connection.read_response()
            except exceptions.NoScriptError:
                connection.send_packed_command([with_source(command)], check_health=False)
                reply = connection.read_response()
        except (exceptions.RedisError, OSError) as error:
            if connection is not None:
                self._drop(connection) if self._closed or is_lost(error) else self._idle.append(connection)
            raise _Failed(error, sent=connection is not None) from error
        except BaseException:
            # After Ctrl-C the reply may still come, and a later request must not read it as its own.
            if connection is not None:
                connection.disconnect()
            raise
        self._idle.append(connection)
        if self._closed:
            self._close_idle()
        return reply

    def _connect(self) -> AbstractConnection:
        connection = self._make()
        connection.connect()
        return connection

    def _drop(self, connection: AbstractConnection) -> None:
        """Close a connection that is lost, and the idle ones: what breaks one mostly breaks all."""
        connection.disconnect()
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            with suppress(IndexError):  # another thread took the last one
                self._idle.pop().disconnect()

    def close(self) -> None:
        """Close the idle connections now, and each of the others when its request is over."""
        self._closed = True
        self._close_idle()


def pause_before(attempt: int) -> None:
    """Let a short, growing, random time pass before an attempt. The first repetition follows at once."""
    if attempt > 1:
        pause = min(_LONGEST_PAUSE_SECS, _FIRST_PAUSE_SECS * 2 ** min(attempt - 1, 16))
        time.sleep(pause * random.random())  # noqa: S311  (no secret)


def connection_options(settings: RedisSettings, database: int) -> dict[str, Any]:
    """Return the arguments for a connection of redis-py, and its class as ``connection_class``."""
    options: dict[str, Any] = {
        "connection_class": redis.Connection,
        "db": database,
        "username": settings.username,
        "password": settings.password.get_secret_value() if settings.password else None,
        "socket_timeout": settings.socket_timeout_secs,
        "socket_connect_timeout": settings.connect_timeout_secs,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if settings.unix_socket is not None:
        options |= {"connection_class": redis.UnixDomainSocketConnection, "path": settings.unix_socket}
    else:
        options |= {"host": settings.host, "port": settings.port, "socket_keepalive": True}
    if settings.tls:
        options |= {
            "connection_class": redis.SSLConnection,
            "ssl_ca_certs": settings.tls_ca_file,
            "ssl_certfile": settings.tls_cert_file,
            "ssl_keyfile": settings.tls_key_file,
            "ssl_check_hostname": settings.tls_check_hostname,
        }
    return options


def described(settings: RedisSettings, database: int) -> str:
    """Return how errors name the server and the database, without secrets."""
    server = settings.unix_socket or f"{settings.host}:{settings.port}"
    return f"{server}, database {database}"
