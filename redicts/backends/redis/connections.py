"""Exchanges with the server: connections that are kept, requests that are sent again, and sessions to apply them once.

Connections are those of redis-py. Its pool and command layer are not used, because they take longer than the server
does. Its retries are switched off, because they would apply a write twice.

A signal handler or a finalizer may run between any two instructions here. It may raise, and it may use redicts. So no
lock is held, each change of a shared collection is one atomic operation, and nothing is counted: the number of
connections is that of the links that exist, and a session is in doubt from before its request until the reply.
"""

from __future__ import annotations

import inspect
import math
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final
from weakref import ref

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

from redicts.backends.redis.attempts import Attempts, Failed, Next
from redicts.backends.redis.errors import Errors, is_lost, unencodable
from redicts.backends.redis.functions import LOAD, Functions, as_script
from redicts.backends.redis.options import RedisOptions
from redicts.errors import StoreBusy, StoreError, StoreTimeout
from redicts.forks import stack
from redicts.randomness import RANDOM

_FIRST_PAUSE_SECS: Final = 0.02
_LONGEST_PAUSE_SECS: Final = 1.0

_LONGEST_WAIT_SECS: Final = 0.05
"""How long a request waits for a connection before it looks again whether there is one."""

_SLACK_SECS: Final = 0.2
"""How much later than its deadline an exchange may end. It saves setting the timeout of the socket twice a call."""

_LARGE: Final = 1 << 20
"""From so many bytes on, a request is sent in a way that notices a refusal before its end."""

_REFUSAL_SECS: Final = 0.2


class Session:
    """Numbers the requests of one sender, so that the server recognizes a request that it has seen before.

    RIFL (Lee et al., SOSP 2015) calls this a client with its sequence numbers. A session has one request at a time, so
    a process has as many sessions as it has writing requests under way at once.
    """

    __slots__ = ("name", "number")

    def __init__(self) -> None:
        self.name = os.urandom(8).hex().encode()
        self.number = 0


class Unanswered(threading.local):
    """The sessions of one thread with a request that has no reply: it is under way, or it may still be carried out."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []


class _Link:
    """One of the connections that count for ``max_connections``: from before it is made until it is closed.

    Only the list of the call that uses it, or the collection of idle links, refers to it. So it ceases to count also if
    an exception ends that call at any point.
    """

    __slots__ = ("__weakref__", "connection", "is_used", "reference", "timeout")

    def __init__(self, connection: AbstractConnection, timeout: float, counted: dict[int, ref[_Link]]) -> None:
        self.connection = connection
        self.timeout = timeout
        """The timeout of its socket in seconds."""
        self.is_used = False
        self.reference: Final = ref(self, partial(counted.pop, id(self)))


class Connections:
    """The connections of one process to one database of a server, and its sessions there.

    At most ``max_connections`` are open at once, each in use by one request or idle. A forked child needs an instance
    of its own: with its parent's sockets or sessions it would get its parent's replies.
    """

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        errors: Errors,
        settings: RedisOptions,
        socket_timeout_secs: float | None,
    ) -> None:
        self._make = make
        self._errors = errors
        self._most = settings.max_connections
        self._timeout = settings.timeout_secs
        self._socket_timeout = math.inf if socket_timeout_secs is None else socket_timeout_secs
        self._retries = settings.retries
        self._closed = False
        self._functions = Functions()
        self._idle: list[_Link] = []
        self._counted: dict[int, ref[_Link]] = {}
        self._waiting: list[SimpleQueue[_Link]] = []
        """The requests that wait for a connection, the first one first."""
        self.idle_sessions: list[Session] = []
        self.unanswered: Final = Unanswered()

    def session(self) -> Session:
        """Return an idle session, or a new one."""
        try:
            return self.idle_sessions.pop()
        except IndexError:
            return Session()

    def call(self, command: bytes, writes: bool = False, deadline: float | None = None, count: int = 1) -> Any:
        """Send an encoded call and return its reply. Send it again if the connection is lost meanwhile.

        Several commands in one packet, as many as ``count``, have the list of their replies. ``deadline`` is a time of
        ``time.monotonic``. Raises an error below :class:`~redicts.errors.StoreError`, whose ``maybe_applied`` is true
        for a command that writes only. Cost: one round trip.
        """
        try:
            return self._exchange(command if self._functions.are_there else as_script(command), deadline, count)
        except Failed as failed:
            first = [failed.with_traceback(None)]
        # Not above: the errors of further attempts would have that of the first one as their context. A traceback keeps
        # this frame, so the frame does not keep the error, with the connection that it is about.
        return self._call_again(command, writes, deadline, count, first.pop())

    def formed(self, call: bytes) -> bytes:
        """Return a call as it is to be sent in a packet with others."""
        return call if self._functions.are_there else as_script(call)

    def _call_again(self, command: bytes, writes: bool, deadline: float | None, count: int, failed: Failed) -> Any:
        """Send a command again while that may help, at most ``retries`` times."""
        attempts = Attempts(self._retries, self._errors)
        while True:
            following = attempts.after(failed, self._functions)
            if following is Next.GIVE_UP:
                break
            if following is Next.PAUSE:
                pause_before(attempts.count, deadline)
                if deadline is not None and time.monotonic() >= deadline:
                    break
            try:
                if following is Next.LOAD:
                    self._load_functions(deadline)
                reply = self._exchange(self._functions.form(command, attempts.with_source), deadline, count)
            except Failed as again:
                failed = again
            else:
                attempts.succeeded()
                return reply
        maybe_applied = writes and attempts.maybe_applied
        raise self._errors.mapped(failed.error, maybe_applied=maybe_applied) from failed.error

    def _load_functions(self, deadline: float | None) -> None:
        """Load the library of functions, or find out that this server or user has none from now on."""
        try:
            self._exchange(LOAD, deadline, 1)
        except Failed as failed:
            self._functions.load_failed(failed.error)  # if it is no answer, the request finds out what is wrong

    def _exchange(self, command: bytes, deadline: float | None, count: int) -> Any:
        """Send a command or packet once and return its reply or replies. Raises :class:`Failed`."""
        mine: list[_Link] = []
        is_sent = is_whole = False
        try:
            left = math.inf if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise exceptions.TimeoutError("the deadline is over")
            timeout = self._socket_timeout if left >= self._socket_timeout - _SLACK_SECS else left
            try:
                mine.append(self._idle.pop())
            except IndexError:
                self._open(mine, deadline)
            connection = mine[0].connection
            if mine[0].timeout != timeout:
                _set_timeout(mine[0], timeout)
            if len(command) < _LARGE:
                connection.send_packed_command([command], check_health=False)
            else:
                _send_large(connection, command)
            is_sent = True
            reply = connection.read_response() if count == 1 else self._read_all(connection, count)
            mine[0].is_used = is_whole = True
            if self._waiting:
                self._hand_over(mine)
            else:
                self._idle.append(mine[0])
        except StoreError:  # no connection is free
            raise
        except (exceptions.RedisError, OSError) as error:
            # A large request that a new connection did not take to its end is refused for its size, most likely.
            refused = not is_sent and len(command) >= _LARGE and bool(mine) and not mine[0].is_used
            is_whole = not is_lost(error) and not self._closed
            self._end(mine, is_whole)
            raise Failed(error, sent=is_sent, is_worth_repeating=not refused) from error
        except BaseException:
            # After Ctrl-C the reply may still come, and a later request must not read it as its own.
            self._close([] if is_whole else mine)
            raise
        finally:
            # A traceback keeps this frame. The link must not stay with it: if no collection has it, it is closed now.
            mine.clear()
        if self._closed:
            self._close_idle()
        return reply

    def _read_all(self, connection: AbstractConnection, count: int) -> Any:
        """Return the replies to a packet. If some are refusals, raise the first of them when all are read."""
        replies: list[Any] = []
        refused: exceptions.ResponseError | None = None
        for _ in range(count):
            try:
                replies.append(connection.read_response())
            except exceptions.ResponseError as error:
                refused = refused or error
        if refused is not None:
            raise refused
        return replies

    def _open(self, mine: list[_Link], deadline: float | None) -> None:
        """Append a new link, or one that another request has given back if there are ``max_connections``."""
        mine.append(_Link(self._make(), self._socket_timeout, self._counted))
        try:
            if not self._count(mine[0]) and self._wait_for(mine, deadline):
                return
            connection = mine[0].connection
            if deadline is not None:
                left = max(0.001, deadline - time.monotonic())
                if left < self._socket_timeout:
                    connection.socket_timeout = mine[0].timeout = left
                if connection.socket_connect_timeout is None or left < connection.socket_connect_timeout:
                    connection.socket_connect_timeout = left
            connection.connect()
        except UnicodeError as error:
            self._close(mine)
            raise unencodable(error) from None
        except BaseException:
            self._close(mine)
            raise

    def _count(self, link: _Link) -> bool:
        """Let a link count if there are fewer than ``max_connections``, and return whether it does."""
        if len(self._counted) < self._most:
            self._counted[id(link)] = link.reference
            if len(self._counted) <= self._most:
                return True
            # Another thread has opened the last one at the same time.
            self._counted.pop(id(link), None)
        return False

    def _wait_for(self, mine: list[_Link], deadline: float | None) -> bool:
        """Wait until the new link counts, or until there is an idle one; return whether that replaces it."""
        if _is_reentrant():
            raise StoreBusy(
                f"redis at {self._errors.where}: all {self._most} connections are in use, and one of them by the call "
                "that this signal handler or finalizer has interrupted; raise max_connections"
            )
        until = time.monotonic() + self._timeout
        if deadline is not None:
            until = min(until, deadline)
        begun = time.monotonic()
        given: SimpleQueue[_Link] = SimpleQueue()
        try:
            while True:
                self._waiting.append(given)
                with suppress(IndexError):
                    mine[0] = self._idle.pop()
                    return True
                if self._count(mine[0]):
                    return False
                left = until - time.monotonic()
                if left <= 0:
                    raise StoreTimeout(
                        f"redis at {self._errors.where}: all {self._most} connections stayed in use for "
                        f"{time.monotonic() - begun:.3g} seconds; raise max_connections or timeout_secs"
                    )
                with suppress(Empty):
                    mine[0] = given.get(timeout=min(left, _LONGEST_WAIT_SECS))
                    return True
                self._stop_waiting(given)
        finally:
            self._stop_waiting(given)

    def _stop_waiting(self, given: SimpleQueue[_Link]) -> None:
        with suppress(ValueError):
            while True:
                self._waiting.remove(given)
        with suppress(Empty):
            while True:
                self._idle.append(given.get_nowait())

    def _end(self, mine: list[_Link], is_whole: bool) -> None:
        """Keep the link of a request that failed, or close it."""
        if is_whole:
            self._idle.extend(mine)
        elif mine:
            self._close(mine)
            self._close_idle()  # what breaks one mostly breaks all

    def _hand_over(self, mine: list[_Link]) -> None:
        """Give a link to the request that waits longest for one."""
        try:
            self._waiting.pop(0).put(mine[0])
        except IndexError:  # it waits no longer
            self._idle.append(mine[0])

    def _close(self, mine: list[_Link]) -> None:
        while mine:
            self._counted.pop(id(mine[0]), None)
            mine[0].connection.disconnect()
            mine.pop()

    def _close_idle(self) -> None:
        mine: list[_Link] = []
        while self._idle:
            try:
                mine.append(self._idle.pop())
                self._close(mine)
            except IndexError:  # another thread took the last one
                pass
            finally:
                mine.clear()

    def close(self) -> None:
        """Close the idle connections now, and each of the others when its request is over."""
        self._closed = True
        self._close_idle()


def _is_reentrant() -> bool:
    """Tell whether the running code has interrupted an exchange of its own thread: it must not wait for that."""
    exchange = Connections._exchange.__code__
    return sum(frame.f_code is exchange for frame in stack()) > 1


def _set_timeout(link: _Link, seconds: float) -> None:
    with suppress(AttributeError):  # fakeredis's, which answers at once
        socket_of(link.connection).settimeout(None if seconds == math.inf else seconds)
    link.timeout = seconds


def socket_of(connection: AbstractConnection) -> socket.socket:
    """Return the socket of a connection, for its timeouts."""
    found: socket.socket | None = connection._sock
    if found is None:
        raise exceptions.ConnectionError("the connection is closed")
    return found


def _send_large(connection: AbstractConnection, command: bytes) -> None:
    """Send a request of many bytes.

    A server refuses a value over its limit when it has seen its length, and closes the connection. Then sending fails,
    and the reason is to be read.
    """
    sock = socket_of(connection)
    try:
        sock.sendall(command)
    except TimeoutError:
        raise exceptions.TimeoutError("Timeout writing to socket") from None
    except OSError as error:
        sock.settimeout(_REFUSAL_SECS)
        with suppress(OSError, exceptions.ConnectionError, exceptions.TimeoutError):
            connection.read_response()
        raise exceptions.ConnectionError(
            f"the connection broke while a request of {len(command):,} bytes was sent; the server's limits are "
            "proto-max-bulk-len and client-query-buffer-limit"
        ) from error


def pause_before(attempt: int, deadline: float | None = None) -> None:
    """Let a short, growing, random time pass before an attempt. The first repetition follows at once."""
    if attempt > 1:
        time.sleep(pause_secs(attempt, deadline))


def pause_secs(attempt: int, deadline: float | None = None) -> float:
    """Return the seconds to wait before an attempt, see :func:`pause_before`."""
    if attempt <= 1:
        return 0.0
    pause: float = min(_LONGEST_PAUSE_SECS, _FIRST_PAUSE_SECS * 2 ** min(attempt - 1, 16))
    pause *= RANDOM.random()
    return pause if deadline is None else max(0.0, min(pause, deadline - time.monotonic()))


def connection_options(settings: RedisOptions, database: int) -> dict[str, Any]:
    """Return the arguments for a connection of redis-py, and its class as ``connection_class``."""
    options: dict[str, Any] = {
        "connection_class": redis.Connection,
        "db": database,
        "username": settings.username,
        "password": settings.password,
        "socket_timeout": settings.socket_timeout_secs,
        "socket_connect_timeout": settings.connect_timeout_secs,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        **UNNAMED,
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


UNNAMED: Final[dict[str, Any]] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)
"""Options so that redis-py does not tell its name: it would take two round trips, and lose what is answered to them."""


def described(settings: RedisOptions, database: int) -> str:
    """Return how errors name the server or cluster and the database, without secrets."""
    if settings.cluster:
        more = f" and {len(settings.nodes) - 1} more" if len(settings.nodes) > 1 else ""
        return f"the cluster of {settings.nodes[0]}{more}, database {database}"
    server = settings.unix_socket or f"{settings.host}:{settings.port}"
    if settings.sentinels:
        server = f"{settings.service} of the Sentinels {', '.join(settings.sentinels)}"
    return f"{server}, database {database}"
