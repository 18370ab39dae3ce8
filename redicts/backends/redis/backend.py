"""The Redis backend: one minitransaction is one call of one Lua script."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import redis
from redis.connection import AbstractConnection

from redicts.backends.redis.connections import Connections, connection_options, described
from redicts.backends.redis.pubsub import Listening, RedisListener
from redicts.backends.redis.settings import RedisSettings
from redicts.backends.redis.wire import Encoder, HashNames, outcome_of, unpacked, word, words_of
from redicts.core.backend import Backend, Capabilities
from redicts.core.minitransaction import Outcome, Put, Status, Transaction
from redicts.errors import InternalError, StoreError

ATOMIC_ENTRIES: Final = 5_000
"""How many fields one call of the script may touch, so that it never holds the server for long."""

_MOST: Final = word(b"%d" % ATOMIC_ENTRIES)
_SCRIPT: Final = (Path(__file__).parent / "script.lua").read_bytes()
_SHA: Final = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest().encode()
_EVALSHA: Final = b"".join(words_of([b"EVALSHA", _SHA, b"0"]))
_EVAL: Final = b"".join(words_of([b"EVAL", _SCRIPT, b"0"]))


class RedisBackend(Backend):
    """One database of a Redis (6.2 or newer) or Valkey server.

    ``options`` are those of redis-py for a connection, the class under ``connection_class``; ``where`` names the
    server in errors.
    """

    def __init__(
        self, options: dict[str, Any], where: str, settings: RedisSettings, *, simulated: bool = False
    ) -> None:
        made_of = {name: value for name, value in options.items() if name != "connection_class"}

        def connection() -> AbstractConnection:
            made: AbstractConnection = options["connection_class"](**made_of)
            return made

        self._connections = Connections(connection, where, settings)
        self._pool = redis.BlockingConnectionPool(
            max_connections=settings.max_connections, timeout=cast("int", settings.timeout_secs), **options
        )
        self._prefix = settings.prefix.encode()
        self._expiries = word(self._prefix + b"x:")
        # Channels are the same for all databases of a server, so the database is in their names.
        self._channels = self._prefix + b"s:%d:" % options["db"]
        self._encoder = Encoder(HashNames(self._prefix), self._channels)
        self._listening = Listening(connection, self._channels, where, settings.retries)
        self._capabilities = Capabilities(
            ttl=True, processes=not simulated, durable=not simulated, atomic_entries=ATOMIC_ENTRIES, push=True
        )

    @property
    def capabilities(self) -> Capabilities:
        """The same for every server; a simulated one ends with this process."""
        return self._capabilities

    @property
    def client(self) -> redis.Redis:
        """A client of redis-py for the same database, for what redicts does not do. Its connections are its own."""
        return redis.Redis(connection_pool=self._pool)

    def execute(self, transaction: Transaction, /) -> Outcome:
        """Decide and apply one minitransaction in one call of the script."""
        if len(transaction.writes) > ATOMIC_ENTRIES and _count_puts(transaction) > ATOMIC_ENTRIES:
            return Outcome(Status.TOO_LARGE)
        request = self._encoder.say(transaction)
        if not transaction.writes:
            return outcome_of(self._run(b"", 0, request), transaction)
        session = self._connections.session()
        in_doubt = True
        try:
            outcome = outcome_of(self._run(self._prefix + b"r:" + session.name, session.number, request), transaction)
            in_doubt = False
        except StoreError as error:
            in_doubt = error.maybe_applied
            raise
        finally:
            self._connections.give_back(session, in_doubt=in_doubt)
        return outcome

    def _run(self, session: bytes, number: int, said: list[bytes]) -> list[Any]:
        count = b"*%d\r\n" % (7 + len(said))
        words = self._expiries, word(session), b"$16\r\n%016d\r\n" % number, _MOST, *said
        command = b"".join((count, _EVALSHA, *words))

        def fallback() -> bytes:
            return b"".join((count, _EVAL, *words))

        while True:
            reply: list[Any] = self._connections.call(command, fallback)
            status = reply[0]
            if status == b"R":
                return unpacked(reply[1])
            if status == b"S":
                raise InternalError("the server saw a later request of the same session; was this process copied?")
            if status != b"A":
                return reply

    def listen(self, name: str, /) -> RedisListener:
        """Listen over the one connection that this process subscribes with."""
        return self._listening.listen(name)

    def about(self) -> Mapping[str, str]:
        """Return the version of the server. Cost: one round trip."""
        command = b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n"
        lines = self._connections.call(command, lambda: command).decode("utf-8", "replace").splitlines()
        told = dict(line.split(":", 1) for line in lines if ":" in line)
        # Valkey says which Redis it is compatible with, and then what it is.
        name = "valkey" if "valkey_version" in told else "redis"
        version = told.get(f"{name}_version")
        return {f"{name} server": version} if version else {}

    def close(self) -> None:
        """Close the connections that are idle now, the others when their requests are over and nobody listens."""
        self._connections.close()
        self._listening.close()
        self._pool.disconnect()


def open_redis(settings: RedisSettings, database: int) -> RedisBackend:
    """Open one database of a server. Connects to nothing yet."""
    return RedisBackend(connection_options(settings, database), described(settings, database), settings)


def _count_puts(transaction: Transaction) -> int:
    return sum(isinstance(write, Put) for write in transaction.writes)
