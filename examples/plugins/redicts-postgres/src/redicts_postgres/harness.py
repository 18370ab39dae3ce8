"""Prepares this backend for the contract suite; needs ``redicts-postgres[contract]``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

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
        self.secrets = (given.password.get_secret_value(),) if given.password else ()

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
