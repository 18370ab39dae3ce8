"""Harnesses for our own backends, and for whatever TTLs inside one instance."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from redicts.backends.redis import plugin
from redicts.contract import Harness, ManualClock, Raw, SharedBackend, Store
from redicts.contract.check import Need
from redicts.contract.sizes import files_of, size_of_files, size_of_process
from redicts.contract.stores import RedisClusterHarness, damaged_hash, lasting_keys, size_of_data
from redicts.contract.wall import set_wall_clock
from redicts.core.backend import Backend
from redicts.core.minitransaction import Key, Transaction
from tests.contract.failing_commits import FAILS, with_failing_commits
from tests.contract.networks import Network, NetworkClient, NoNetwork, Server
from tests.contract.reference_model import DictBackend, HeldLocks
from tests.support.ports import bound_socket
from tests.support.proxy import FaultyProxy

if TYPE_CHECKING:
    from redicts.backends.fakeredis import FakeRedisBackend
    from tests.support.cluster import Cluster
    from tests.support.servers import RedisServer

_LOCAL: Final = {Need.LOST_REPLIES, Need.LATE_REQUESTS, Need.SHARDED}
_NOT_SHARED: Final = {
    Need.PROCESSES,
    Need.DURABLE,
    Need.RAW,
    Need.DATABASES,
    Need.WALL_CLOCK,
    Need.FAILING_COMMITS,
    Need.PATHS,
    Need.DAMAGE,
    Need.FULL,
    Need.LASTING,
}


class InstanceHarness(Harness):
    """For a store that TTLs inside one instance and takes its time from a clock that can be set.

    ``client`` makes a client of the instance; by default all clients are the instance itself.
    """

    networked = False

    def __init__(
        self,
        make: Callable[[Callable[[], float]], Backend],
        client: Callable[[Backend], Backend] = SharedBackend,
        opener: Callable[[], Backend] | None = None,
    ) -> None:
        self.clock: Final = ManualClock()
        self.store: Final = make(self.clock)
        self._client: Final = client
        self._opener: Final = opener

    def open(self) -> Backend:
        return self._client(self.store)

    @property
    def opener(self) -> Callable[[], Backend] | None:
        return self._opener

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @property
    def raw(self) -> Raw | None:
        return DictRaw(self.store) if isinstance(self.store, DictBackend) else None

    def databases(self) -> Sequence[Backend]:
        return getattr(self.store, "others", ())

    def size(self) -> int | None:
        return size_of_process()

    def lasting(self) -> int | None:
        return lasting_in(self.store)

    def fill(self, full: bool) -> bool:
        if not hasattr(self.store, "is_full"):
            return False
        self.store.is_full = full
        return True

    def damage(self, key: Key) -> Callable[[], object] | None:
        damaged: set[Key] | None = getattr(self.store, "damaged", None)
        if damaged is None:
            return None
        damaged.add(key)
        return damaged.clear

    def set_clock(self, seconds: float) -> bool:
        if not hasattr(self.store, "ahead"):
            return False
        self.store.ahead = seconds
        return True


class DictRaw(Raw):
    """The way into a dict of which the backend is not asked."""

    def __init__(self, store: DictBackend) -> None:
        self.store: Final = store

    def read(self, key: Key) -> bytes | None:
        held = self.store.lying().get(key.space, {}).get(key.path)
        return None if held is None else held.value

    def write(self, key: Key, value: bytes) -> None:
        self.store.lay(key, HeldLocks(value))


class NetworkHarness(InstanceHarness):
    """For such a store behind a network that loses replies and holds requests up."""

    networked = True
    secrets = ("the password of the network",)

    def __init__(
        self,
        make: Callable[[Callable[[], float]], Backend],
        server: Callable[[Backend], Server] = Server,
        client: Callable[[Network], Backend] = NetworkClient,
    ) -> None:
        super().__init__(make)
        self._network: Final = Network(server(self.store))
        self._through: Final = client
        self._without_faults: Final = NoNetwork(self._network.server)

    def open(self) -> Backend:
        """Open a client of the store itself, or one on a network without faults if that has a part for asyncio."""
        client = self._through(self._without_faults)
        return super().open() if type(client).for_asyncio is Backend.for_asyncio else client

    def lossy(self) -> Backend:
        return self._through(self._network)

    def drop_reply(self) -> bool:
        self._network.loses_reply = True
        return True

    def hold_request(self) -> bool:
        self._network.holds_request = True
        return True

    def deliver_request(self) -> None:
        self._network.deliver()

    def drop_replies(self, every: bool) -> bool:
        self._network.loses_every = every
        return True

    def mute(self, every: bool) -> bool:
        self._network.mute(every)
        return True

    def refuse(self, every: bool) -> bool:
        self._network.refuse(every)
        return True

    def break_connections(self) -> bool:
        self._network.break_all()
        return True

    def forget(self) -> bool:
        self._network.server.forget()
        return True

    def unusable(self) -> Mapping[str, Callable[[], Backend]]:
        return {"a network without a server": functools.partial(self._through, self._network.without_server())}


class MemoryHarness(InstanceHarness):
    """The memory backend, with a clock that can be set."""

    not_run: Final = frozenset(
        {*_LOCAL, *_NOT_SHARED, Need.NO_TTL, Need.LIMIT, Need.NO_DOCUMENTS, Need.FORGETTING, Need.UNUSABLE}
        | {Need.ASYNCIO}
    )

    def __init__(self) -> None:
        from redicts.backends.memory import MemoryBackend

        super().__init__(MemoryBackend)


class SqliteHarness(Harness):
    """The SQLite backend, with a file of its own."""

    networked = False
    not_run: Final = frozenset(
        {
            *(*_LOCAL, Need.NO_TTL, Need.NO_PROCESSES, Need.LIMIT, Need.PUSH, Need.RAW),
            *(Need.NO_DOCUMENTS, Need.FORGETTING, Need.ASYNCIO, Need.DAMAGE, Need.LASTING, Need.FULL),
        }
    )

    def __init__(self, directory: Path) -> None:
        self._path: Final = str(directory / "contract.db")
        self._open: Final = functools.partial(open_backend, "sqlite", {"path": self._path})
        self._foreign: Final = directory / "foreign"
        self._late: Final = itertools.cycle((False, True))

    def open(self) -> Backend:
        return self._open()

    def databases(self) -> Sequence[Backend]:
        elsewhere = self.open_at(f"{self._path}.other")
        return [*[self._open(number) for number in (1, 10, 2**32)], elsewhere]

    def set_clock(self, seconds: float) -> bool:
        set_wall_clock(seconds, "redicts")
        return True

    def size(self) -> int:
        return size_of_files(self._path)

    def files(self) -> Collection[str]:
        return files_of(self._path)

    @property
    def opener(self) -> Callable[[], Backend]:
        return self._open

    def open_at(self, path: str) -> Backend:
        return open_backend("sqlite", {"path": path})

    def lossy(self) -> Backend:
        return with_failing_commits(self._open)

    def fail_commit(self) -> bool:
        return _in_turn(FAILS, self._late)

    def unusable(self) -> Mapping[str, Callable[[], Backend]]:
        self._foreign.write_bytes(b"This is a letter to an aunt, and no store. " * 500)
        return {
            "a file of another format": functools.partial(open_backend, "sqlite", {"path": str(self._foreign)}),
            "a directory": functools.partial(open_backend, "sqlite", {"path": str(self._foreign.parent)}),
        }


class SqliteMemoryHarness(InstanceHarness):
    """The SQLite backend in the memory of the process, with a clock that can be set."""

    not_run: Final = MemoryHarness.not_run | {Need.SIZE}

    def __init__(self) -> None:
        from redicts.backends.sqlite import SqliteBackend

        super().__init__(lambda clock: SqliteBackend(":memory:", clock=clock))

    def size(self) -> None:
        return None

    def close(self) -> None:
        self.store.close()


class FileHarness(Harness):
    """For a store that is made with the path of a file, and that processes share."""

    networked = False

    def __init__(self, make: Callable[..., Backend]) -> None:
        self._directory: Final = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._open: Final = functools.partial(make, str(Path(self._directory.name, "contract.db")))
        self._has_numbers: Final = "database" in inspect.signature(make).parameters
        self._fails: Final[list[bool] | None] = getattr(make, "fails", None)
        self._late: Final = itertools.cycle((False, True))

    def open(self) -> Backend:
        return self._open()

    @property
    def opener(self) -> Callable[[], Backend]:
        return self._open

    def databases(self) -> Sequence[Backend]:
        if not self._has_numbers:
            return ()
        elsewhere = self.open_at(str(Path(self._directory.name, "elsewhere.db")))
        return [*[self._open(database=number) for number in (1, 10, 2**32)], elsewhere]

    def size(self) -> int:
        return size_of_files(self._directory.name)

    def files(self) -> Collection[str]:
        return files_of(self._directory.name)

    def lasting(self) -> int | None:
        backend = self.open()
        backend.execute(Transaction())
        return lasting_in(backend)

    def unusable(self) -> Mapping[str, Callable[[], Backend]]:
        return {"a directory": functools.partial(self._open.func, self._directory.name)}

    def open_at(self, path: str) -> Backend:
        return self._open.func(path)

    def lossy(self) -> Backend:
        return with_failing_commits(self._open) if self._fails is FAILS else self._open()

    def fail_commit(self) -> bool | None:
        return None if self._fails is None else _in_turn(self._fails, self._late)

    def set_clock(self, seconds: float) -> bool:
        set_wall_clock(seconds, "redicts")
        return True

    def close(self) -> None:
        self._directory.cleanup()


class FakeRedisHarness(InstanceHarness):
    """The Redis backend on a simulated server: its state is that of one instance, its time is real."""

    not_run: Final = frozenset(
        {*_LOCAL, *_NOT_SHARED, Need.NO_TTL, Need.NO_LIMIT, Need.NO_DOCUMENTS, Need.UNUSABLE, Need.ASYNCIO}
        - {Need.DAMAGE}
    )

    def __init__(self, kind: type[FakeRedisBackend] | None = None) -> None:
        from redicts.backends.fakeredis import FakeRedisBackend
        from redicts.backends.redis.options import DEFAULTS

        made: type[FakeRedisBackend] = kind or FakeRedisBackend
        super().__init__(lambda _clock: made(DEFAULTS, 0))

    def advance(self, seconds: float) -> None:
        Harness.advance(self, seconds)

    @property
    def waits(self) -> bool:
        return True

    def forget(self) -> bool:
        client = self.store.client  # type: ignore[attr-defined]
        client.script_flush()
        client.function_flush()
        return True

    def damage(self, key: Key) -> Callable[[], object]:
        return damaged_hash(lambda: SharedBackend(self.store), key, "")

    def close(self) -> None:
        self.store.close()


class RedisHarness(Harness):
    """The Redis backend on a real server; clients whose replies can be lost go through a proxy.

    The source of its functions is the same on every server. So one version is examined with record spaces first.
    """

    not_run: Final = frozenset(
        {
            *(Need.NO_TTL, Need.NO_PROCESSES, Need.NO_LIMIT, Need.RAW, Need.NO_DOCUMENTS, Need.LOCAL),
            *(Need.FAILING_COMMITS, Need.SHARDED, Need.PATHS, Need.SILENCE),
        }
    )

    def __init__(self, server: RedisServer) -> None:
        self._server: Final = server
        self.records_first = server.info("server")["redis_version"].startswith("6.")
        self._proxy: Final = FaultyProxy(server.port)
        self._reserved: Final = bound_socket()
        self.secrets = ("the password of nobody",)
        self._open: Final = functools.partial(open_backend, "redis", {"host": FaultyProxy.host, "port": server.port})

    def open(self) -> Backend:
        return self._open()

    @property
    def opener(self) -> Callable[[], Backend]:
        return self._open

    def lossy(self) -> Backend:
        options = {"host": self._proxy.host, "port": self._proxy.port, "socket_timeout_secs": 0.5, "max_connections": 6}
        return open_backend("redis", options)

    def drop_reply(self) -> bool:
        self._proxy.drop_replies(1)
        return True

    def hold_request(self) -> bool:
        self._proxy.hold_requests(1)
        return True

    def deliver_request(self) -> None:
        self._proxy.release_held()
        self._proxy.clear()  # it does not hold the request to subscribe

    def databases(self) -> Sequence[Backend]:
        behind_proxy = {"host": self._proxy.host, "port": self._proxy.port}
        return [open_backend("redis", behind_proxy, number) for number in (1, 10)]

    def size(self) -> int:
        return size_of_data(self._open())

    def lasting(self) -> int:
        with contextlib.closing(self._open()) as backend:
            return lasting_keys(backend, 0)

    def damage(self, key: Key) -> Callable[[], object]:
        return damaged_hash(self._open, key, "")

    def fill(self, full: bool) -> bool:
        self._server.command("CONFIG", "SET", "maxmemory", int(full))
        return True

    def set_clock(self, seconds: float) -> bool:
        set_wall_clock(seconds, "redicts")
        return True

    def drop_replies(self, every: bool) -> bool:
        self._proxy.loses_every = every
        return True

    def break_connections(self) -> bool:
        self._proxy.cut_all()
        return True

    def refuse(self, every: bool) -> bool:
        if every:
            self._proxy.refuse()
        else:
            self._proxy.accept()
        return True

    def forget(self) -> bool:
        self._server.forget()
        return True

    def unusable(self) -> Mapping[str, Callable[[], Backend]]:
        few = {"retries": 0, "max_connections": 6}
        port = {"port": self._reserved.getsockname()[1], **few}
        password = {"port": self._server.port, "password": self.secrets[0], **few}
        return {
            "a port without a server": functools.partial(open_backend, "redis", port),
            "a host whose name is not valid": functools.partial(open_backend, "redis", {"host": "no..name", **few}),
            "a wrong password": functools.partial(open_backend, "redis", {**password, "username": "nobody"}),
        }

    def close(self) -> None:
        pending = self._proxy.pending
        self._proxy.close()
        self._reserved.close()
        assert pending == 0, "every fault that was planned hit a request"


class ClusterHarness(RedisClusterHarness):
    """A cluster, whose servers can forget the functions."""

    not_run: Final = RedisHarness.not_run - {Need.SHARDED, Need.SILENCE} | {
        Need.ASYNCIO,
        Need.DAMAGE,
        Need.FULL,
        Need.LASTING,
    }

    def __init__(self, cluster: Cluster, *, records_first: bool = False) -> None:
        super().__init__(Store(plugin, plugin.model.model_validate({"cluster": True, "nodes": cluster.nodes})))
        self._cluster: Final = cluster
        self.records_first = records_first

    def forget(self) -> bool:
        for server in self._cluster.primaries:
            server.forget()
        return True


def lasting_in(store: Backend) -> int | None:
    """Return the number of values without a TTL in a store that is a dict."""
    if not isinstance(store, DictBackend):
        return None
    return sum(held.deadline is None for entries in store.lying().values() for held in entries.values())


def _in_turn(fails: list[bool], late: Iterator[bool]) -> bool:
    """Have the next commit fail, in turn before and after it is stored."""
    fails[:] = [next(late)]
    return True


def open_backend(name: str, options: Mapping[str, Any], database: int = 0) -> Backend:
    """Open a database of one of our own backends."""
    import importlib

    plugin = importlib.import_module(f"redicts.backends.{name}").plugin
    backend = plugin.open(plugin.model(**options), database)
    assert isinstance(backend, Backend)
    return backend
