"""Requests over kept connections: each is sent, sent again if its reply was lost, and applied once.

Connections are those of redis-py; its pool and command layer are not used, because a request here is one call of one
script and they would take longer than the server does. Its retries are switched off: they would apply a write twice.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

from redicts.backends.redis.errors import is_answer, is_passing, mapped
from redicts.backends.redis.settings import RedisSettings
from redicts.errors import StoreTimeout

_FIRST_PAUSE_SECS: Final = 0.02
_LONGEST_PAUSE_SECS: Final = 1.0
_LOST: Final = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)


class Session:
    """Numbers the requests of one sender at a time, so that the server knows one that it has seen before.

    RIFL (Lee et al., SOSP 2015) calls this a client with its sequence numbers; one process has as many sessions as it
    has writing requests under way at once.
    """

    __slots__ = ("name", "number")

    def __init__(self) -> None:
        self.name = secrets.token_hex(8).encode()
        self.number = 0


class Connections:
    """The connections to one database of one server: at most so many, each used by one request at a time."""

    def __init__(self, make: Callable[[], AbstractConnection], where: str, settings: RedisSettings) -> None:
        self._make = make
        self._where = where
        self._most = settings.max_connections
        self._timeout = settings.timeout_secs
        self._retries = settings.retries
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._idle: list[AbstractConnection] = []
        self._sessions: list[Session] = []
        self._in_doubt = threading.local()
        self._permits: SimpleQueue[None] = SimpleQueue()
        for _ in range(self._most):
            self._permits.put(None)
        # Last: another thread of a child that sees it takes the rest for its own.
        self._owner = os.getpid()

    def _start_anew_after_fork(self) -> None:
        # A child that used its parent's sockets or went on numbering its sessions would get its parent's replies.
        if self._owner != os.getpid():
            self._start()

    def session(self) -> Session:
        """Take a session for one request, numbered again; give it back with :meth:`give_back` when that is over."""
        self._start_anew_after_fork()
        session: Session | None = self._in_doubt.__dict__.pop("session", None)
        if session is None:
            try:
                session = self._sessions.pop()
            except IndexError:
                session = Session()
        session.number += 1
        return session

    def give_back(self, session: Session, *, in_doubt: bool = False) -> None:
        """Let another request use this session; ``in_doubt`` if nobody knows whether the last one was carried out.

        Then the next request of this thread will use it. So whatever a thread does about its doubt makes the request
        that is late a stale one, which the server refuses.
        """
        if self._owner != os.getpid():
            return
        if in_doubt:
            self._in_doubt.session = session
        else:
            self._sessions.append(session)

    def call(self, command: bytes, fallback: Callable[[], bytes]) -> Any:
        """Send a packed command and return its reply; ``fallback`` makes what is sent if the server does not know it.

        Raises an error below :class:`~redicts.errors.StoreError`. Cost: one round trip.
        """
        self._start_anew_after_fork()
        permits = self._permits
        try:
            permits.get(timeout=self._timeout)
        except Empty:
            raise StoreTimeout(
                f"redis at {self._where}: all {self._most} connections stayed in use for {self._timeout} seconds; "
                "raise max_connections or timeout_secs"
            ) from None
        try:
            return self._call(command, fallback)
        finally:
            permits.put(None)

    def _call(self, command: bytes, fallback: Callable[[], bytes]) -> Any:
        maybe_applied = False
        attempt = 0
        while True:
            connection = None
            try:
                connection = self._take()
                reply = _exchange(connection, command, fallback)
            except (exceptions.RedisError, OSError) as error:
                lost, answered = isinstance(error, _LOST), is_answer(error)
                if connection is not None:
                    self._drop(connection) if lost else self._keep(connection)
                maybe_applied |= lost and connection is not None and not answered
                is_worth_it = is_passing(error) if answered else lost
                if attempt == self._retries or not is_worth_it:
                    raise mapped(error, self._where, maybe_applied=maybe_applied) from error
            except BaseException:
                # Ctrl-C between request and reply: the reply must not be taken for that of a later request.
                if connection is not None:
                    connection.disconnect()
                raise
            else:
                self._keep(connection)
                return reply
            attempt += 1
            pause_before(attempt)

    def _take(self) -> AbstractConnection:
        try:
            return self._idle.pop()
        except IndexError:
            connection = self._make()
            connection.connect()
            return connection

    def _keep(self, connection: AbstractConnection) -> None:
        self._idle.append(connection)
        if self._closed:
            self._close_idle()

    def _drop(self, connection: AbstractConnection) -> None:
        """Let go of a connection that broke, and of the idle ones: what broke one has mostly broken all."""
        connection.disconnect()
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().disconnect()
            except IndexError:
                return

    def close(self) -> None:
        """Close what is idle now, and everything else when its request is over."""
        self._start_anew_after_fork()
        self._closed = True
        self._close_idle()


def _exchange(connection: AbstractConnection, command: bytes, fallback: Callable[[], bytes]) -> Any:
    try:
        connection.send_packed_command([command])
        return connection.read_response()
    except exceptions.NoScriptError:
        connection.send_packed_command([fallback()])
        return connection.read_response()


def pause_before(attempt: int) -> None:
    """Let a short, growing, random time pass before a try that follows others; the first try again is made at once."""
    if attempt > 1:
        pause = min(_LONGEST_PAUSE_SECS, _FIRST_PAUSE_SECS * 2 ** min(attempt - 1, 16))
        time.sleep(pause * random.random())  # noqa: S311  (no secret)


def connection_options(settings: RedisSettings, database: int) -> dict[str, Any]:
    """Return what redis-py needs to know to make a connection, its class among it."""
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
    """Return how errors name the server and database. Holds no secret."""
    server = settings.unix_socket or f"{settings.host}:{settings.port}"
    return f"{server}, database {database}"
