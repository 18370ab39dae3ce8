"""Requests over kept connections: each is sent, sent again if its reply was lost, and applied once."""

from __future__ import annotations

import os
import random
import secrets
import select
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final

import psycopg
from psycopg.types.numeric import Int8BinaryDumper

from redicts.errors import StoreTimeout
from redicts_postgres.errors import (
    MISSING_STATES,
    REPEATABLE_STATES,
    NoAnswer,
    is_lost,
    is_passing,
    is_refused,
    mapped,
    state_of,
)
from redicts_postgres.settings import PostgresSettings

_FIRST_PAUSE_SECS: Final = 0.02
_LONGEST_PAUSE_SECS: Final = 1.0
_MOST_COLLISIONS: Final = 200
"""How often a transaction is tried again that others got in the way of."""

_READS: Final = 1
_WRITES: Final = 2
"""What psycopg's generators wait for, and are told: bits, in all its versions."""

_SESSION: Final = {
    # Every statement names its rows by an index. Nothing else is ever the better plan, but the planner, which has no
    # statistics of a new table, would sometimes believe so.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    # A client that vanished in the midst of a reply must not keep its locks.
    "tcp_user_timeout": "30000",
    "client_min_messages": "error",
}


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection of psycopg that does not wait for ever."""

    timeout: float = 10.0

    def wait(self, gen: Any, *_: Any, **__: Any) -> Any:
        """Run one of psycopg's generators to its end. Raises :class:`NoAnswer` if that takes too long."""
        deadline = time.monotonic() + self.timeout
        poller = select.poll()
        fileno = self.fileno()
        try:
            wanted = next(gen)
            while True:
                poller.register(
                    fileno, (select.POLLIN if wanted & _READS else 0) | (select.POLLOUT if wanted & _WRITES else 0)
                )
                left = deadline - time.monotonic()
                events = poller.poll(max(0.0, left) * 1000)
                if not events:
                    raise NoAnswer
                ready = 0
                if events[0][1] & ~select.POLLOUT:
                    ready |= _READS
                if events[0][1] & select.POLLOUT:
                    ready |= _WRITES
                wanted = gen.send(ready & wanted or wanted)
        except StopIteration as done:
            return done.value


def connect(settings: PostgresSettings) -> Connection:
    """Make a connection. Raises what psycopg raises."""
    # SERIALIZABLE or not, each statement is a transaction of its own.
    session = {**_SESSION, "default_transaction_isolation": _ISOLATION[settings.isolation]}
    options = " ".join(f"-c {name}={value}" for name, value in session.items())
    chosen: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "user": settings.user,
        "password": settings.password.get_secret_value() if settings.password else None,
        "dbname": settings.dbname,
        "sslmode": settings.sslmode,
        "sslrootcert": settings.sslrootcert,
        "sslcert": settings.sslcert,
        "sslkey": settings.sslkey,
    }
    connection = Connection.connect(
        autocommit=True,
        connect_timeout=settings.connect_timeout_secs,
        application_name="redicts",
        options=options,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    connection.timeout = settings.socket_timeout_secs
    # All our integers are of one type, so that each statement is prepared once.
    connection.adapters.register_dumper(int, Int8BinaryDumper)
    return connection


_ISOLATION: Final = {"locks": "read\\ committed", "serializable": "serializable"}


def described(settings: PostgresSettings) -> str:
    """Return how errors name the server. Holds no secret."""
    return f"{settings.host}:{settings.port}, database {settings.dbname or 'by default'}"


class Session:
    """Numbers the requests of one sender at a time, so that the server knows one that it has seen before.

    RIFL (Lee et al., SOSP 2015) calls this a client with its sequence numbers; one process has as many sessions as it
    has writing requests under way at once.
    """

    __slots__ = ("name", "number")

    def __init__(self) -> None:
        self.name: Final = secrets.token_bytes(12)
        self.number = 0


class Connections:
    """The connections to one server: at most so many, each used by one request at a time, none by a forked child."""

    def __init__(self, settings: PostgresSettings, set_up: str) -> None:
        self._settings = settings
        self._set_up = set_up
        self._where = described(settings)
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._idle: list[Connection] = []
        self._sessions: list[Session] = []
        self._in_doubt = threading.local()
        self._permits: SimpleQueue[None] = SimpleQueue()
        for _ in range(self._settings.max_connections):
            self._permits.put(None)
        # Last: another thread of a child that sees it takes the rest for its own.
        self._owner = os.getpid()

    def _start_anew_after_fork(self) -> None:
        # A child that used its parent's sockets or went on numbering its sessions would get its parent's replies.
        if self._owner != os.getpid():
            _inherited.extend(self._idle)
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

    def give_back(self, session: Session, *, in_doubt: bool) -> None:
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

    def call(self, statement: str, parameters: Sequence[Any]) -> tuple[Any, ...]:
        """Execute a statement that returns one row, and return that. It must be harmless to execute it twice.

        Raises an error below :class:`~redicts.errors.StoreError`. Cost: one round trip.
        """
        self._start_anew_after_fork()
        permits = self._permits
        try:
            permits.get(timeout=self._settings.timeout_secs)
        except Empty:
            raise StoreTimeout(
                f"postgres at {self._where}: all {self._settings.max_connections} connections stayed in use for "
                f"{self._settings.timeout_secs} seconds; raise max_connections or timeout_secs"
            ) from None
        try:
            return self._call(statement, parameters)
        finally:
            permits.put(None)

    def _call(self, statement: str, parameters: Sequence[Any]) -> tuple[Any, ...]:
        maybe_applied = False
        losses = collisions = 0
        set_up = False
        while True:
            connection = None
            try:
                connection = self._take()
                row = _exchange(connection, statement, parameters)
            except (psycopg.Error, NoAnswer, OSError) as error:
                lost = is_lost(error)
                if connection is not None:
                    self._drop(connection) if lost else self._keep(connection)
                maybe_applied |= lost and connection is not None
                if state_of(error) in MISSING_STATES and not set_up:
                    set_up = True
                    self._make_tables()
                    continue
                if state_of(error) in REPEATABLE_STATES and collisions < _MOST_COLLISIONS:
                    collisions += 1
                    pause_before(min(collisions, 4))
                    continue
                is_worth_it = is_passing(error) or (lost and not is_refused(error))
                if losses == self._settings.retries or not is_worth_it:
                    raise mapped(error, self._where, maybe_applied=maybe_applied) from error
                losses += 1
                pause_before(losses)
            except BaseException:
                # Ctrl-C between request and reply: the reply must not be taken for that of a later request.
                if connection is not None:
                    connection.close()
                raise
            else:
                self._keep(connection)
                return row

    def _make_tables(self) -> None:
        """Make what is missing of tables and functions; several processes may do so at once."""
        try:
            connection = self._take()
            try:
                with connection.transaction():
                    connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
                    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('redicts: make tables', 0))")
                    connection.execute(self._set_up.encode())
            except BaseException:
                connection.close()
                raise
            self._keep(connection)
        except (psycopg.Error, NoAnswer, OSError) as error:
            raise mapped(error, self._where) from error

    def _take(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return connect(self._settings)

    def _keep(self, connection: Connection) -> None:
        self._idle.append(connection)
        if self._closed:
            self._close_idle()

    def _drop(self, connection: Connection) -> None:
        """Let go of a connection that broke, and of the idle ones: what broke one has mostly broken all."""
        connection.close()
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def close(self) -> None:
        """Close what is idle now, and everything else when its request is over."""
        self._start_anew_after_fork()
        self._closed = True
        self._close_idle()


_inherited: Final[list[Connection]] = []
"""Connections of a parent, kept so that nothing finalizes them in its child: that would end the parent's sessions."""


def _exchange(connection: Connection, statement: str, parameters: Sequence[Any]) -> tuple[Any, ...]:
    cursor = connection.cursor(binary=True)
    row = cursor.execute(statement.encode(), parameters, prepare=True).fetchone()
    assert row is not None  # every statement of ours returns one
    return row


def pause_before(attempt: int) -> None:
    """Let a short, growing, random time pass before a try that follows others; the first try again is made at once."""
    if attempt > 1:
        pause = min(_LONGEST_PAUSE_SECS, _FIRST_PAUSE_SECS * 2 ** min(attempt - 1, 16))
        time.sleep(pause * random.random())  # no secret


Connect = Callable[[], Connection]
