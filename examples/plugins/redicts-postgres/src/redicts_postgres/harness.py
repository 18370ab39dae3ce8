"""Prepares this backend for the contract suite; needs ``redicts-postgres[contract]``."""

from __future__ import annotations

import functools
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from pydantic import SecretStr

from redicts.contract import Harness
from redicts.plugin import Backend
from redicts_postgres.backend import open_postgres
from redicts_postgres.proxy import FaultyProxy
from redicts_postgres.settings import PostgresSettings

_ANSWER_TIMEOUT_SECS: Final = 0.5
"""How long a disturbed client waits for an answer before it retries."""

_OTHERS: Final = (11, 110)
"""The numbers of databases that are compared with the one under examination."""


class Store(NamedTuple):
    """A store: the settings of the backend, and the number of the database."""

    settings: PostgresSettings
    database: int = 0


class PostgresHarness(Harness):
    """A store on a running server, reached over TCP.

    Clients whose replies can be lost connect through a proxy, without encryption.
    """

    def __init__(self, store: Store) -> None:
        given, database = store.settings, store.database
        if given.host.startswith("/"):
            raise ValueError("the harness needs TCP: set host and port, not the directory of a Unix socket")
        self._open: Final = functools.partial(open_postgres, given, database)
        self._open_number: Final = functools.partial(open_postgres, given)
        self._proxy: Final = FaultyProxy(given.host, given.port)
        disturbed = given.model_copy(
            update={
                "host": self._proxy.host,
                "port": self._proxy.port,
                "sslmode": "disable",
                "socket_timeout_secs": _ANSWER_TIMEOUT_SECS,
            }
        )
        self._open_lossy: Final = functools.partial(open_postgres, disturbed, database)
        self._given: Final = given
        self._wrong: Final = f"wrong-{uuid.uuid4().hex}"
        self.secrets = (self._wrong, *((given.password.get_secret_value(),) if given.password else ()))
        self._reserved: Final = socket.socket()  # bound, but it does not listen
        self._reserved.bind(("127.0.0.1", 0))

    def open(self) -> Backend:
        """Open a client with its own connections."""
        return self._open()

    @property
    def opener(self) -> Callable[[], Backend]:
        """The function that opens a client in another process."""
        return self._open

    def lossy(self) -> Backend:
        """Open a client that connects through the proxy."""
        return self._open_lossy()

    def drop_reply(self) -> bool:
        """Lose the next reply."""
        self._proxy.drop_reply()
        return True

    def hold_request(self) -> bool:
        """Hold the next request."""
        self._proxy.hold_request()
        return True

    def deliver_request(self) -> None:
        """Release the held requests."""
        self._proxy.release()

    def drop_replies(self, every: bool) -> bool:
        """Lose every reply from now on, or none any more."""
        self._proxy.loses_every = every
        return True

    def break_connections(self) -> bool:
        """Close all connections of the proxy."""
        self._proxy.break_all()
        return True

    def unusable(self) -> Mapping[str, Callable[[], Backend]]:
        """Return clients with a port without a server and, if there is a password, with another one."""
        port: int = self._reserved.getsockname()[1]
        mistakes: dict[str, dict[str, object]] = {"a port without a server": {"host": "127.0.0.1", "port": port}}
        if self._given.password is not None:
            mistakes["a wrong password"] = {"password": SecretStr(self._wrong)}
        return {
            what: functools.partial(open_postgres, self._given.model_copy(update={**mistake, "retries": 0}), 0)
            for what, mistake in mistakes.items()
        }

    @property
    def disturbed(self) -> int:
        """How many requests a fault has hit."""
        return self._proxy.hit

    def databases(self) -> Sequence[Backend]:
        """Open two other databases."""
        return [self._open_number(number) for number in _OTHERS]

    def close(self) -> None:
        """End the proxy."""
        self._proxy.close()
        self._reserved.close()
