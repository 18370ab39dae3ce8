"""Pooled connections and sessions: a request is retried if its reply was lost, and applied once."""

from __future__ import annotations

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
    Errors,
    NoAnswer,
    is_lost,
    is_refused,
    is_temporary,
    state_of,
)
from redicts_postgres.settings import PostgresSettings

_FIRST_PAUSE_SECS: Final = 0.02
_LONGEST_PAUSE_SECS: Final = 1.0
_MOST_COLLISIONS: Final = 200
"""How often a transaction is retried after a conflict with others."""

_READS: Final = 1
_WRITES: Final = 2
"""The bits that psycopg's generators yield and receive, in all its versions."""

_SESSION: Final = {
    # Every statement finds its rows by an index, and no other plan is better. Without statistics of a new table, the
    # planner sometimes estimates otherwise.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    # A client that vanishes during a reply must not keep its locks.
    "tcp_user_timeout": "30000",
    "client_min_messages": "error",
}


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection of psycopg with a timeout for every answer."""

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
    """Open a connection. Raises psycopg's errors."""
    # In either isolation, each statement is a transaction of its own.
    session = {**_SESSION, "default_transaction_isolation": _ISOLATION[settings.isolation]}
    options = " ".join(f"-c {name}={value}" for name, value in session.items())
    chosen = settings.model_dump(include=_FIELDS, exclude_none=True)
    if settings.password:
        chosen["password"] = settings.password.get_secret_value()
    connection = Connection.connect(
        autocommit=True,
        connect_timeout=settings.connect_timeout_secs,
        application_name="redicts",
        options=options,
        **chosen,
    )
    connection.timeout = settings.socket_timeout_secs
    # With one type for all integers, each statement is prepared once.
    connection.adapters.register_dumper(int, Int8BinaryDumper)
    return connection


_FIELDS: Final = {"host", "port", "user", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey"}
_ISOLATION: Final = {"locks": "read\\ committed", "serializable": "serializable"}


def errors_of(settings: PostgresSettings) -> Errors:
    """Return the error mapping for the server."""
    password = settings.password.get_secret_value() if settings.password else None
    where = f"{settings.host}:{settings.port}, database {settings.dbname or 'by default'}"
    return Errors(f"postgres at {where}", [password])


class Session:
    """Numbers requests, so that the server recognizes one that it has seen before.

    This is RIFL's client with sequence numbers (Lee et al., SOSP 2015). A process has as many sessions as concurrent
    writing requests.
    """

    __slots__ = ("name", "number")

    def __init__(self) -> None:
        self.name: Final = secrets.token_bytes(12)
        self.number = 0


class Connections:
    """The connections of one process to one server, each used by one request at a time, and its sessions."""

    def __init__(self, settings: PostgresSettings, set_up: str) -> None:
        self._settings = settings
        self._set_up = set_up
        self._errors = errors_of(settings)
        self._closed = False
        self._idle: list[Connection] = []
        self._sessions: list[Session] = []
        self._in_doubt = threading.local()
        self._permits: SimpleQueue[None] = SimpleQueue()
        for _ in range(self._settings.max_connections):
            self._permits.put(None)

    def session(self) -> Session:
        """Take a session with the number of a new request; :meth:`give_back` it after the request."""
        session: Session | None = self._in_doubt.__dict__.pop("session", None)
        if session is None:
            try:
                session = self._sessions.pop()
            except IndexError:
                session = Session()
        session.number += 1
        return session

    def give_back(self, session: Session, *, in_doubt: bool) -> None:
        """Return a session; ``in_doubt`` if its last request may or may not have been executed.

        A session in doubt serves the next request of the same thread. That makes the late request a stale one, which
        the server refuses.
        """
        if in_doubt:
            self._in_doubt.session = session
        else:
            self._sessions.append(session)

    def call(self, statement: str, parameters: Sequence[Any], *, writes: bool = False) -> tuple[Any, ...]:
        """Execute a statement that returns one row, and return the row. The statement must be idempotent.

        Raises an error below :class:`~redicts.errors.StoreError`, whose ``maybe_applied`` is true only for a statement
        that ``writes``. Cost: one round trip.
        """
        permits = self._permits
        try:
            permits.get(timeout=self._settings.timeout_secs)
        except Empty:
            raise StoreTimeout(
                f"{self._errors.where}: all {self._settings.max_connections} connections stayed in use for "
                f"{self._settings.timeout_secs} seconds; raise max_connections or timeout_secs"
            ) from None
        try:
            return self._call(statement, parameters, writes)
        finally:
            permits.put(None)

    def _call(self, statement: str, parameters: Sequence[Any], writes: bool) -> tuple[Any, ...]:
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
                maybe_applied |= writes and lost and connection is not None
                if state_of(error) in MISSING_STATES and not set_up:
                    set_up = True
                    self._create_tables()
                    continue
                if state_of(error) in REPEATABLE_STATES and collisions < _MOST_COLLISIONS:
                    collisions += 1
                    pause_before(min(collisions, 4))
                    continue
                is_worth_it = is_temporary(error) or (lost and not is_refused(error))
                if losses == self._settings.retries or not is_worth_it:
                    raise self._errors.mapped(error, maybe_applied=maybe_applied) from error
                losses += 1
                pause_before(losses)
            except BaseException:
                # Ctrl-C before the reply: a later request on this connection would get it.
                if connection is not None:
                    connection.close()
                raise
            else:
                self._keep(connection)
                return row

    def _create_tables(self) -> None:
        """Create the missing tables and functions; several processes may do so concurrently."""
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
            raise self._errors.mapped(error) from error

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
        """Close a broken connection and all idle ones, which are most likely broken too."""
        connection.close()
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def close(self) -> None:
        """Close idle connections now, and the others when their requests end."""
        self._closed = True
        self._close_idle()


def _exchange(connection: Connection, statement: str, parameters: Sequence[Any]) -> tuple[Any, ...]:
    cursor = connection.cursor(binary=True)
    row = cursor.execute(statement.encode(), parameters, prepare=True).fetchone()
    assert row is not None  # every statement returns one
    return row


def pause_before(attempt: int) -> None:
    """Pause before an attempt for a short, growing, random time. The first retry is immediate."""
    if attempt > 1:
        pause = min(_LONGEST_PAUSE_SECS, _FIRST_PAUSE_SECS * 2 ** min(attempt - 1, 16))
        time.sleep(pause * random.random())  # not a secret


Connect = Callable[[], Connection]
