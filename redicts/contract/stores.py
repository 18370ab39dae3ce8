"""Harnesses of our own stores that offer more than settings describe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from redicts.backends.redis.cluster import ClusterBackend
from redicts.backends.redis.layout import hash_name
from redicts.backends.redis.options import DEFAULTS, RedisOptions
from redicts.backends.redis.settings import RedisSettings
from redicts.backends.redis.urls import address_of
from redicts.contract.configured import QUICK, Store, StoreHarness
from redicts.contract.fault_proxy import FaultProxy
from redicts.contract.harness import inner_of
from redicts.contract.one_section import SECTION, InOneSection, in_one_section
from redicts.contract.wall import set_wall_clock
from redicts.core.backend import Backend
from redicts.core.minitransaction import Key
from redicts.core.plugin_settings import BackendSettings


class RedisStoreHarness(StoreHarness):
    """The harness of the backend ``redis``: the server knows the size of its data."""

    def size(self) -> int:
        """Return the bytes of all values on the server."""
        return size_of_data(self.store.open())

    def lasting(self) -> int | None:
        """Return the number of keys without expiry in the database."""
        with contextlib.closing(self.store.open()) as backend:
            return lasting_keys(backend, self.store.database)

    def damage(self, key: Key) -> Callable[[], object] | None:
        """Put a text where the hash of a dict is."""
        return damaged_hash(self.store.open, key, getattr(self.store.settings, "prefix", ""))

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
                if "host" in changes:
                    changes["sentinels"] = (f"{changes['host']}:{changes.get('port', DEFAULTS.port)}",)
        return mistakes


def redis_harness(store: Store) -> StoreHarness:
    """Return the harness of a server, or that of a cluster if the settings say that there is one."""
    return RedisClusterHarness(store) if getattr(store.settings, "cluster", False) else RedisStoreHarness(store)


class RedisClusterHarness(RedisStoreHarness):
    """The harness of a cluster: its clients are in one section, and a proxy is in front of the node that has that."""

    def open(self) -> Backend:
        """Open a client in one section."""
        return InOneSection(self.store.open())

    def whole(self) -> Backend:
        """Open a client of all sections."""
        return self.store.open()

    @property
    def opener(self) -> Callable[[], Backend]:
        """The callable that opens a client in one section in another process."""
        return partial(in_one_section, super().opener)

    def lossy(self) -> Backend:
        """Open a client that reaches the node of its section through the proxy."""
        if self._proxy is None:
            with contextlib.closing(ClusterBackend(self._settings.options(), self.store.database)) as backend:
                self._node = backend.node_of(SECTION)
            self._proxy = FaultProxy(*address_of(self._node))
        self._proxy.calm()
        options = self._settings.options()._replace(socket_timeout_secs=QUICK, tls_check_hostname=False)
        proxied = {self._node: f"{self._proxy.host}:{self._proxy.port}"}
        return self._measured(InOneSection(_ThroughProxy(options, self.store.database, proxied)), self._proxy)

    def lasting(self) -> None:
        """Return ``None``: the nodes are not asked."""

    def damage(self, key: Key) -> None:
        """Return ``None``: only one server is asked."""

    def size(self) -> int:
        """Return the bytes of all keys of the cluster."""
        return _size_of_keys(ClusterBackend(self._settings.options(), self.store.database))

    def settings_of_databases(self) -> BackendSettings:
        """Return those of the cluster."""
        return self.store.settings

    def databases(self) -> Sequence[Backend]:
        """Open databases with other numbers."""
        return [InOneSection(backend) for backend in super().databases()]

    def unusable(self) -> Mapping[str, Callable[[], Backend]]:
        """Return clients with a port without a server, or with another password."""
        return {what: partial(in_one_section, open_) for what, open_ in super().unusable().items()}

    def _mistakes(self) -> dict[str, dict[str, Any]]:
        found = super()._mistakes()
        for changes in found.values():
            if "host" in changes:
                changes["nodes"] = (f"{changes.pop('host')}:{changes.pop('port', DEFAULTS.port)}",)
        return found

    @property
    def _settings(self) -> RedisSettings:
        assert isinstance(self.store.settings, RedisSettings)
        return self.store.settings


class _ThroughProxy(ClusterBackend):
    """A client that connects to other addresses than the cluster names."""

    def __init__(self, settings: RedisOptions, database: int, proxied: Mapping[str, str]) -> None:
        self._proxied = proxied
        super().__init__(settings, database)

    def _options(self, address: str) -> dict[str, Any]:
        return super()._options(self._proxied.get(address, address))


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


def lasting_keys(backend: Backend, database: int) -> int:
    """Return the number of keys without expiry in a database of a server."""
    client: Any = getattr(backend, "client", None)
    found = client.info("keyspace").get(f"db{database}", {"keys": 0, "expires": 0})
    return int(found["keys"]) - int(found["expires"])


def damaged_hash(open_: Callable[[], Backend], key: Key, prefix: str) -> Callable[[], object]:
    """Put a text where the hash of a dict is, and return a function that restores the hash."""
    name = hash_name(prefix.encode(), key.space, key.path[:-1])

    def change(*commands: tuple[Any, ...]) -> Any:
        with contextlib.closing(open_()) as backend:
            client: Any = getattr(inner_of(backend), "client", None)
            return [client.execute_command(*command) for command in commands][-1]

    held = change(("HGETALL", name))
    change(("DEL", name), ("SET", name, "not a dict"))
    fields = [text for field in held.items() for text in field]
    return partial(change, ("DEL", name), ("HSET", name, *fields))


def _size_of_keys(backend: ClusterBackend) -> int:
    """Return the bytes of all keys on the primaries of a cluster; close the backend.

    All other memory of a node changes with the messages between the nodes.
    """
    with contextlib.closing(backend), contextlib.closing(backend.client) as client:
        total = 0
        for node in client.get_primaries():
            asked = client.get_redis_connection(node).pipeline(transaction=False)
            for key in client.scan_iter(count=1_000, target_nodes=node):
                asked.memory_usage(key, samples=0)
            total += sum(size or 0 for size in asked.execute())
        return total
