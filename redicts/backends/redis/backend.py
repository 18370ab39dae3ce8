"""The Redis backend: one minitransaction is one call of one Lua script."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from sys import modules
from typing import Any, Final, Protocol, cast
from weakref import ref

import redis
from redis.connection import AbstractConnection

from redicts.backends.redis.connections import Connections, Session, Unanswered, connection_options, described
from redicts.backends.redis.documents import in_fields
from redicts.backends.redis.errors import Errors
from redicts.backends.redis.options import RedisOptions
from redicts.backends.redis.plain_reads import PlainReads
from redicts.backends.redis.pubsub import RedisListener, Subscriptions
from redicts.backends.redis.wire import UNFINISHED, Encoder, command, decode
from redicts.core.async_backend import AsyncBackend
from redicts.core.backend import Backend, Capabilities, ServerState
from redicts.core.minitransaction import Key, Outcome, Path, PutDocument, Status, Transaction
from redicts.forks import stack
from redicts.handles import PerProcess

ATOMIC_ENTRIES: Final = 5_000
"""How many fields one call of the script may touch, so that it never occupies the server for long."""

CAPABILITIES: Final = Capabilities(
    ttl=True, processes=True, durable=True, atomic_entries=ATOMIC_ENTRIES, push=True, documents=True, changes=True
)
"""The capabilities of a database on one server."""

_ANSWER_SECS: Final = 3.0
"""The longest time after which a subscription without an answer counts as lost."""


class OwnPool(redis.BlockingConnectionPool):
    """The connections of the clients that a backend gives, which know the backend."""

    def __init__(self, backend: RedisBackend, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self.opened_by: Final = ref(backend)


class Exchanges(Protocol):
    """What executes calls, and the sessions for those that write: the connections to one server, or to a cluster."""

    @property
    def unanswered(self) -> Unanswered:
        """The sessions of this thread whose requests may still be carried out."""

    @property
    def idle_sessions(self) -> list[Session]:
        """The sessions that no request uses."""

    def session(self) -> Session:
        """Return an idle session, or a new one."""

    def call(self, command: bytes, writes: bool = False, deadline: float | None = None, count: int = 1, /) -> Any:
        """Send an encoded call and return its reply, see :meth:`Connections.call`."""


class Handles(Protocol):
    """The connections of this process, see :class:`~redicts.handles.PerProcess`."""

    @property
    def current(self) -> Exchanges | None:
        """The connections, if there are any."""

    def get(self) -> Exchanges:
        """Return the connections, and open them if there are none."""


class Executor(Backend):
    """Executes minitransactions on the keys of one prefix, over connections that each process opens for itself."""

    def __init__(self, encoder: Encoder, plain_reads: PlainReads, connections: Handles) -> None:
        self._encoder = encoder
        self._plain_reads = plain_reads
        self._connections = connections

    def execute(self, transaction: Transaction, /, deadline: float | None = None) -> Outcome:
        """Decide and apply one minitransaction in one call of the script, or give up at the deadline."""
        writes = transaction.writes
        if len(writes) > ATOMIC_ENTRIES and self._encoder.is_too_large(transaction):
            return Outcome(Status.TOO_LARGE)
        connections = self._connections.current or self._connections.get()
        if not writes:
            packet = self._plain_reads.packet(transaction)
            if packet is not None:
                found = connections.call(packet.encoded, False, deadline, packet.amount)
                told = self._plain_reads.outcome(transaction, packet, found)
                if told is not None:
                    return told
            outcome = decode(self._call(connections, transaction, b"", 0, deadline), transaction)
            self._plain_reads.learn(transaction, outcome)
            return outcome
        unanswered = connections.unanswered.sessions
        session = self._session_in_doubt(connections, deadline) if unanswered else connections.session()
        # It is in doubt from here on, whatever ends this call. The thread's next write then makes a late request one
        # that is overtaken, which the server refuses.
        unanswered.append(session)
        session.number += 1
        prepared, origins = in_fields(transaction) if PutDocument in map(type, writes) else (transaction, ())
        reply = self._call(connections, prepared, session.name, session.number, deadline)
        unanswered.remove(session)
        if session in unanswered:
            # It was in doubt before. Code that was interrupted there may go on using it, so no other thread may.
            _remove_all(unanswered, session)
        else:
            connections.idle_sessions.append(session)
        return decode(reply, prepared, origins)

    execute_until = execute

    def fetch(self, key: Key, /) -> bytes | None:
        """Return a leaf without a TTL by one plain command, if that has answered the last read of this key."""
        command = self._plain_reads.leaf(key)
        if command is None:
            return None
        connections = self._connections.current or self._connections.get()
        return self._plain_reads.found(key, connections.call(command))

    fetch_document = fetch

    def _call(
        self, connections: Exchanges, transaction: Transaction, session: bytes, number: int, deadline: float | None
    ) -> Sequence[Any]:
        """Call the script until it has carried out a transaction, and do in between what it says is to be done."""
        command = self._encoder.encode(transaction, session, number)
        reply: Sequence[Any] = connections.call(command, bool(session), deadline)
        while reply[0] in UNFINISHED:
            before = self._encoder.encode_before(reply, transaction)
            if before is not None:
                connections.call(before, False, deadline)
            reply = connections.call(command, bool(session), deadline)
        return reply

    def _session_in_doubt(self, connections: Exchanges, deadline: float | None) -> Session:
        """Return the session of this thread whose request may still be carried out, if it has one, or another one.

        The late requests of all further sessions are overtaken at once.
        """
        code = Executor.execute.__code__
        in_use = [frame.f_locals.get("session") for frame in stack() if frame.f_code is code]
        doubtful = [session for session in dict.fromkeys(connections.unanswered.sessions) if session not in in_use]
        *others, session = doubtful or [connections.session()]
        for other in others:
            other.number += 1
            connections.call(self._encoder.encode(Transaction(), other.name, other.number), False, deadline)
            _remove_all(connections.unanswered.sessions, other)
        return session


class RedisBackend(Executor):
    """One database of a Redis (6.2 or newer) or Valkey server.

    ``options`` are redis-py's arguments for a connection, with its class as ``connection_class``. ``where`` names the
    server in errors.
    """

    _connections: PerProcess[Connections]

    def __init__(self, options: dict[str, Any], where: str, settings: RedisOptions, *, simulated: bool = False) -> None:
        arguments = {name: value for name, value in options.items() if name != "connection_class"}

        def make() -> AbstractConnection:  # not a partial, whose repr shows the password
            connection: AbstractConnection = options["connection_class"](**arguments)
            return connection

        prefix = settings.prefix.encode()
        # All databases of a server share its channels, so their names have the database.
        channels = prefix + b"s:%d:" % options["db"]
        errors = Errors(where, options)
        socket_timeout = options.get("socket_timeout")
        self._channels, self._errors, self._settings = channels, errors, settings
        self._socket_timeout = socket_timeout
        # Not the options themselves, whose repr shows the password.
        self._options: Callable[[], dict[str, Any]] = lambda: options
        if "redicts.aio" in modules and not simulated:
            import redicts.backends.redis.aio  # noqa: F401, PLC0415  (so that no event loop waits for it later)
        connect: Callable[[], Connections] = partial(Connections, make, errors, settings, socket_timeout)
        if settings.acknowledged_by and not simulated:
            from redicts.backends.redis.acknowledged import AcknowledgedConnections  # noqa: PLC0415  (it is seldom used)

            connect = partial(AcknowledgedConnections, make, errors, settings, socket_timeout)
        # A child frees those of its parent, which closes its copies of the sockets and tells the server nothing.
        opened = PerProcess(connect, Connections.close, keep_inherited=False)
        super().__init__(
            Encoder(prefix, channels, ATOMIC_ENTRIES),
            PlainReads(prefix, ATOMIC_ENTRIES, simulated=simulated),
            opened,
        )
        self._subscriptions = Subscriptions(
            make,
            channels,
            errors,
            settings.retries,
            math.inf if simulated else answer_secs(socket_timeout),
            # Through the handle of connections, not through this object, which its threads must not keep.
            partial(_publish, opened),
        )
        self._pool = OwnPool(
            self, max_connections=settings.max_connections, timeout=cast("int", settings.timeout_secs), **options
        )
        self._capabilities = replace(CAPABILITIES, processes=False, durable=False) if simulated else CAPABILITIES

    @property
    def capabilities(self) -> Capabilities:
        """The same for every server, but that a simulated one ends with this process."""
        return self._capabilities

    @property
    def client(self) -> redis.Redis:
        """A client of redis-py for the same database, on connections of its own, for what redicts does not do."""
        return redis.Redis(connection_pool=self._pool)

    @property
    def address(self) -> Mapping[str, str | int]:
        """The server, or its socket, and the number of the database."""
        found = self._pool.connection_kwargs
        return {name: found[name] for name in ("host", "port", "path", "db") if name in found}

    def listen(self, name: str, /, deadline: float | None = None) -> RedisListener:
        """Listen over the one connection that this process subscribes with, or give up at the deadline."""
        return self._subscriptions.listen(name, deadline)

    listen_until = listen

    def listen_to_changes(self, name: str, path: Path, /) -> RedisListener:
        """Listen over the connection that this process subscribes with."""
        return self._subscriptions.listen_to_changes(name, path)

    def for_asyncio(self) -> AsyncBackend | None:
        """Return a backend with connections of the running loop. A simulated server is called in threads."""
        from redicts.backends.redis.aio import AsyncRedisBackend  # noqa: PLC0415  (importing asyncio takes long)
        from redicts.backends.redis.aio_connection import connection_maker  # noqa: PLC0415

        make = connection_maker(self._options())
        if make is None:
            return None
        socket_timeout, writing = self._socket_timeout, None
        if self._settings.acknowledged_by:
            from redicts.backends.redis import acknowledged_aio  # noqa: PLC0415  (it is seldom used)

            writing = acknowledged_aio.AcknowledgedConnections
        return AsyncRedisBackend(
            make,
            self._encoder,
            self._plain_reads,
            self._channels,
            self._errors,
            self._settings,
            (socket_timeout, answer_secs(socket_timeout)),
            self.address,
            writing,
        )

    def about(self) -> Mapping[str, str]:
        """Return the version of the server. Cost: one round trip."""
        from redicts.backends.redis import states  # noqa: PLC0415  (for reports only)

        return states.version_of(self._connections.get().call)

    def servers(self) -> Mapping[str, ServerState]:
        """Return the state of the server, and which server each Sentinel names as the primary."""
        if not self._capabilities.durable:  # a simulated one
            return {}
        from redicts.backends.redis import states  # noqa: PLC0415  (for reports only)

        facts = states.facts_of(self._connections.get().call, self._settings)
        found = {self._errors.where: states.state_of_primary(facts, self._settings)}
        known = self._options().get("connection_pool")
        if known is not None:
            found |= {at: ServerState("", True, {"sentinel": fact}) for at, fact in known.states()}
        return found

    def close(self) -> None:
        """Close the idle connections now, the others when their requests are over and the last listener is closed."""
        self._connections.close()
        self._subscriptions.close()
        self._pool.disconnect()


def open_redis(settings: RedisOptions, database: int) -> RedisBackend:
    """Open one database of a server. Connects to nothing yet."""
    options = connection_options(settings, database)
    if settings.sentinels:
        from redicts.backends.redis.sentinel import through_sentinels  # noqa: PLC0415  (redis.sentinel is seldom used)

        options = through_sentinels(options, settings)
    return RedisBackend(options, described(settings, database), settings)


def answer_secs(socket_timeout: float | None) -> float:
    """Return how many seconds the server has to answer on the connection of a subscription."""
    return _ANSWER_SECS if socket_timeout is None else min(_ANSWER_SECS, socket_timeout)


def _publish(connections: PerProcess[Connections], channel: bytes) -> None:
    connections.get().call(command(b"PUBLISH", channel, b""))


def _remove_all(sessions: list[Session], session: Session) -> None:
    with suppress(ValueError):
        while True:
            sessions.remove(session)
