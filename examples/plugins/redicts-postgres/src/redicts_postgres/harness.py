"""What the contract suite must be told about this backend; needs ``redicts-postgres[contract]``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final, NamedTuple

from redicts.contract import Harness
from redicts.plugin import Backend
from redicts_postgres.backend import open_postgres
from redicts_postgres.proxy import FaultyProxy
from redicts_postgres.settings import PostgresSettings

_HEARS_NOTHING_SECS: Final = 0.5
"""How long a disturbed client waits for an answer before it sends its request again."""


class Store(NamedTuple):
    """Which store is meant: the settings of the backend, and the number of the database."""

    settings: PostgresSettings
    database: int = 0


class PostgresHarness(Harness):
    """A store on a running server. Clients whose replies can be lost go through a proxy, without encryption.

    ``store`` has the attributes ``settings`` and ``database``. The server must be reached over TCP.
    """

    def __init__(self, store: Store) -> None:
        given, database = store.settings, store.database
        if given.host.startswith("/"):
            raise ValueError("the harness reaches the server over TCP: name host and port in the settings")
        self._open: Final = functools.partial(open_postgres, given, database)
        self._proxy: Final = FaultyProxy(given.host, given.port)
        disturbed = given.model_copy(
            update={
                "host": self._proxy.host,
                "port": self._proxy.port,
                "sslmode": "disable",
                "socket_timeout_secs": _HEARS_NOTHING_SECS,
            }
        )
        self._open_lossy: Final = functools.partial(open_postgres, disturbed, database)
        self.secrets = (given.password.get_secret_value(),) if given.password else ()

    def open(self) -> Backend:
        """Open a client on connections of its own."""
        return self._open()

    @property
    def opener(self) -> Callable[[], Backend]:
        """The same, for another process."""
        return self._open

    def lossy(self) -> Backend:
        """Open a client that goes through the proxy."""
        return self._open_lossy()

    def drop_reply(self) -> bool:
        """Plan to lose a reply."""
        self._proxy.drop_reply()
        return True

    def hold_request(self) -> bool:
        """Plan to hold a request back."""
        self._proxy.hold_request()
        return True

    def deliver_request(self) -> None:
        """Release what is held."""
        self._proxy.release()

    @property
    def disturbed(self) -> int:
        """How many requests were hit."""
        return self._proxy.hit

    def close(self) -> None:
        """End the proxy."""
        self._proxy.close()
