"""Harnesses of our own stores that offer more than settings describe."""

from __future__ import annotations

import contextlib
from typing import Any

from redicts.contract.configured import StoreHarness
from redicts.contract.wall import set_wall_clock
from redicts.core.backend import Backend, BackendSettings


class RedisStoreHarness(StoreHarness):
    """The harness of the backend ``redis``: the server knows the size of its data."""

    def size(self) -> int:
        """Return the bytes of all values on the server."""
        return size_of_data(self.store.open())

    def settings_of_server(self) -> BackendSettings:
        """Return the settings of a client for the server itself, without Sentinels: for the primary."""
        settings: Any = self.store.settings
        if not settings.sentinels:
            return self.store.settings
        with contextlib.closing(self.store.open()) as backend:
            pool: Any = backend.client.connection_pool  # type: ignore[attr-defined]
            host, port = pool.connection_kwargs["connection_pool"].get_master_address()
        return self.store.settings.model_copy(update={"sentinels": (), "service": None, "host": host, "port": port})

    def _mistakes(self) -> dict[str, dict[str, Any]]:
        mistakes = super()._mistakes()
        if getattr(self.store.settings, "sentinels", ()):
            for changes in mistakes.values():
                if "port" in changes:
                    changes["sentinels"] = (f"{changes['host']}:{changes['port']}",)
        return mistakes


class SqliteStoreHarness(StoreHarness):
    """The harness of the backend ``sqlite``: setting the clock of the machine changes none of its TTLs."""

    def set_clock(self, seconds: float) -> bool:
        """Set Python's wall clock, as the code of the backend sees it."""
        set_wall_clock(seconds, "redicts")
        return True


def size_of_data(backend: Backend) -> int:
    """Return the bytes of all values on a server, without its connections and administration; close the backend."""
    with contextlib.closing(backend):
        client: Any = getattr(backend, "client", None)
        return int(client.info("memory")["used_memory_dataset"])
