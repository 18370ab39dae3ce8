"""Harness made from the settings of a backend, for plugins without a harness class."""

from __future__ import annotations

import contextlib
import pickle
import shutil
import socket
import struct
import tempfile
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

from redicts.contract.fault_proxy import FaultProxy
from redicts.contract.harness import Harness, SharedBackend
from redicts.contract.provenance import module_of, provenance, secrets_in
from redicts.contract.requirements import NotRun
from redicts.contract.sizes import files_of, size_of_files, size_of_process
from redicts.contract.wall import set_wall_clock
from redicts.core.backend import Backend, BackendPlugin
from redicts.core.minitransaction import NOTHING, Delete, Equals, Key, Put, Read, Scope, Transaction
from redicts.core.plugin_settings import BackendSettings
from redicts.errors import RedictsError

QUICK: Final = 0.3
"""Seconds that a client waits for the answer to a request that is held back, if its settings include a timeout."""

_FEW_CONNECTIONS: Final = 6
"""How many connections a client in front of the proxy has at most: threads wait for one, and a lost one is missed."""

_NUMBERS: Final = (0, 1, 10)
"""The numbers of databases that are compared, of which some begin with others."""

_LARGE_NUMBERS: Final = (2**32, 2**16)
"""The first of these that the store accepts is compared too. It ends with the same bits as 0."""


@dataclass(frozen=True, slots=True)
class Store:
    """A backend plugin with its settings and the number of the database.

    It can be pickled if the plugin's ``open`` is a module-level function.
    """

    plugin: BackendPlugin
    settings: BackendSettings = field(repr=False)
    database: int = 0

    def open(self) -> Backend:
        """Open another client of the store."""
        return self.plugin.open(self.settings, self.database)


class StoreHarness(Harness):
    """The harness of a store that only its settings describe; subclass it to add hooks.

    - All clients share one instance of a store that declares neither ``processes`` nor ``durable``.
    - Time passes for real.
    - If the settings have fields ``host`` and ``port``, and no client works without them, a fault proxy loses replies.
      If they have a field ``socket_timeout_secs``, it holds requests back as well. For the proxy,
      ``tls_check_hostname`` is set to false, and ``max_connections`` to a few.
    - A store with a field ``path`` is a file, and its replies cannot be lost. Any other store outside of one instance
      counts as networked and needs a harness that can drop replies.
    - Its other databases are those with the numbers 0, 1, 10 and 2**32, or 65,536, as far as the plugin and the server
      accept them, and a store at another path, if the settings have a field ``path``.
    - If the settings have a field ``path``, it is also opened where another program has written something.
    - Its size is that of the file or directory at ``path``. A store in one instance has the size of this process.
    - Its files are all in that directory, or beside that file.
    - The wall clock of a store in one instance without an address is that of Python's ``time``, see
      ``redicts.contract.wall``. Of a server, that of its clients is set.
    """

    def __init__(self, store: Store) -> None:
        self.store: Final = store
        self.secrets = tuple(secrets_in(store.settings))
        self.networked = "path" not in type(store.settings).model_fields
        self._lock: Final = threading.Lock()
        self._instance: Backend | None = None
        self._shares: bool | None = None
        self._proxy: FaultProxy | None = None
        self._numbers: Iterator[int] = iter(())
        self._elsewhere: str | None = None
        self._leftovers: Final[list[Callable[[], object]]] = []
        """What closing removes, the last one first."""

    def open(self) -> Backend:
        """Open a client, or share the instance that holds the store."""
        with self._lock:
            if self._instance is None:
                backend = self.store.open()
                if not self._is_in_one_instance(backend):
                    return backend
                self._instance = backend
            return SharedBackend(self._instance)

    @property
    def opener(self) -> Callable[[], Backend]:
        """The callable that opens the store in another process."""
        try:
            pickle.dumps(self.store)
        except Exception as error:
            raise NotRun(
                f"no other process can open the store, because the plugin cannot be pickled "
                f"({type(error).__name__}); make its open a module-level function",
                required=True,
            ) from None
        return self.store.open

    def lossy(self) -> Backend:
        """Open a client that connects through the proxy, if the settings include the server's address."""
        if not self.networked or not self._has_address:
            return self.open()
        settings = self._behind_proxy()
        fields = type(settings).model_fields
        changes: dict[str, Any] = {"socket_timeout_secs": QUICK} if "socket_timeout_secs" in fields else {}
        changes |= {"max_connections": _FEW_CONNECTIONS} if "max_connections" in fields else {}
        assert self._proxy is not None
        self._proxy.calm()
        settings = settings.model_copy(update=changes)
        return self._measured(self.store.plugin.open(settings, self.store.database), self._proxy)

    def _behind_proxy(self) -> BackendSettings:
        """Return the settings of a client that connects through the proxy."""
        settings: Any = self.settings_of_server()
        if self._proxy is None:
            self._proxy = FaultProxy(settings.host, settings.port)
        changes: dict[str, Any] = {"host": self._proxy.host, "port": self._proxy.port}
        changes |= {"tls_check_hostname": False} if "tls_check_hostname" in type(settings).model_fields else {}
        changed: BackendSettings = settings.model_copy(update=changes)
        return changed

    def _measured(self, backend: Backend, proxy: FaultProxy) -> Backend:
        """Learn how many exchanges a write by this client takes, so that each reply is lost in turn."""
        try:
            self._numbers = _each_reply(_exchanges_of_a_write(backend, proxy))
        except BaseException:
            backend.close()
            raise
        return backend

    def settings_of_server(self) -> BackendSettings:
        """Return the settings of a client for the server before which the proxy is: those of the store."""
        return self.store.settings

    def drop_reply(self) -> bool:
        """Lose a reply at the proxy: the last one of a request with several, then each of the others."""
        if self._proxy is None or not self._proxy.connections:
            return False
        self._proxy.lose_reply(next(self._numbers))
        return True

    def hold_request(self) -> bool:
        """Hold the next request back at the proxy."""
        if self._proxy is None or "socket_timeout_secs" not in type(self.store.settings).model_fields:
            return False
        self._proxy.hold_request()
        return True

    def deliver_request(self) -> None:
        """Let the proxy send the request that it holds back."""
        if self._proxy is not None:
            self._proxy.deliver()

    def drop_replies(self, every: bool) -> bool:
        """Lose every reply at the proxy, or none any more."""
        if self._proxy is not None:
            self._proxy.loses_every = every
        return self._proxy is not None

    def refuse(self, every: bool) -> bool:
        """Let the proxy refuse connections, or accept them again."""
        if self._proxy is not None:
            self._proxy.refuse(every)
        return self._proxy is not None

    def mute(self, every: bool) -> bool:
        """Let the connections through the proxy carry nothing, or new ones work again."""
        if self._proxy is None or "socket_timeout_secs" not in type(self.store.settings).model_fields:
            return False
        self._proxy.mute(every)
        return True

    def break_connections(self) -> bool:
        """Close all connections of the proxy."""
        if self._proxy is not None:
            self._proxy.break_all()
        return self._proxy is not None

    def unusable(self) -> Mapping[str, Callable[[], Backend]]:
        """Return clients with a port without a server, with another password, or with a file of another format."""
        return {what: self._opener_of(changes) for what, changes in self._mistakes().items()}

    def open_at(self, path: str) -> Backend | None:
        """Open a store at another path, if the settings include one."""
        return self._opener_of({"path": path})() if "path" in type(self.store.settings).model_fields else None

    @property
    def disturbed(self) -> int | None:
        """The number of requests that the proxy disturbed."""
        return 0 if self._proxy is None else self._proxy.hits

    @property
    def about(self) -> Mapping[str, str]:
        """The distribution of the plugin, its version, and the contract it was written for."""
        return provenance(self.store.plugin)

    def databases(self) -> Sequence[Backend]:
        """Open databases with other numbers, as far as they are accepted, and a store at another path if it has one."""
        numbers = [number for number in _NUMBERS if number != self.store.database]
        opened = partial(self._open_other, self.settings_of_databases())
        large = next((each for each in map(opened, _LARGE_NUMBERS) if each is not None), None)
        return [each for each in (*map(opened, numbers), large, self._open_elsewhere()) if each is not None]

    def _open_elsewhere(self) -> Backend | None:
        """Open a store at a path of its own, if the settings include one."""
        if "path" not in type(self.store.settings).model_fields:
            return None
        if self._elsewhere is None:
            self._elsewhere = tempfile.mkdtemp(prefix="redicts-certify-")
            self._leftovers.append(partial(shutil.rmtree, self._elsewhere, ignore_errors=True))
        return self._accepted(self._opener_of({"path": str(Path(self._elsewhere, "state"))}))

    def settings_of_databases(self) -> BackendSettings:
        """Return the settings of clients of other databases: their connections can be broken, if there is a proxy."""
        if not self.networked or not self._has_address or getattr(self.store.settings, "unix_socket", None) is not None:
            return self.store.settings
        return self._behind_proxy()

    def size(self) -> int | None:
        """Return the size of the file or directory, or that of this process for a store inside one instance."""
        path = getattr(self.store.settings, "path", None)
        if self._instance is not None:
            return size_of_process()
        return size_of_files(str(path)) if path is not None else None

    def files(self) -> Collection[str] | None:
        """Return the files in the directory at ``path``, or in that of the file at ``path``."""
        path = getattr(self.store.settings, "path", None)
        return None if path is None else files_of(str(path))

    def set_clock(self, seconds: float) -> bool:
        """Set Python's wall clock, as the code of the plugin sees it, for a store inside one instance or on a server.

        TTLs end by the clock of a server, so that of its clients changes none. A store in files, which processes share,
        may have to rely on the wall clock, and so may what simulates a server. They need a harness that says otherwise.
        """
        is_on_server = self._instance is None and self.networked and self._has_address
        is_in_one_instance = self._instance is not None and not self._has_address
        if not (is_on_server or is_in_one_instance):
            return False
        set_wall_clock(seconds, module_of(self.store.plugin).partition(".")[0])
        return True

    def close(self) -> None:
        """Close the instance and the proxy."""
        if self._instance is not None:
            self._instance.close()
            self._instance = None
        if self._proxy is not None:
            self._proxy.close()
            self._proxy = None
        while self._leftovers:
            self._leftovers.pop()()

    def _opener_of(self, changes: Mapping[str, Any]) -> Callable[[], Backend]:
        known = {name: value for name, value in changes.items() if name in type(self.store.settings).model_fields}
        settings = self.store.settings.model_copy(update={**known})
        return partial(self.store.plugin.open, settings, self.store.database)

    def _mistakes(self) -> dict[str, dict[str, Any]]:
        """Return changes of the settings with which no client works, by what is wrong."""
        settings: Any = self.store.settings
        fields, mistakes = type(settings).model_fields, dict[str, dict[str, Any]]()
        if not self.networked and "path" in fields:
            directory = tempfile.mkdtemp(prefix="redicts-certify-")
            self._leftovers.append(partial(shutil.rmtree, directory, ignore_errors=True))
            foreign = Path(directory, "foreign")
            foreign.write_bytes(b"This is a letter to an aunt, and no store. " * 500)
            mistakes["the path of a file of another format"] = {"path": str(foreign)}
            mistakes["the path of a directory"] = {"path": directory}
        elif self.networked and self._has_address and getattr(settings, "unix_socket", None) is None:
            reserved = socket.socket()  # bound, but it does not listen
            self._leftovers.append(reserved.close)
            reserved.bind(("127.0.0.1", 0))
            port = reserved.getsockname()[1]
            few = {"retries": 0, "max_connections": _FEW_CONNECTIONS}
            mistakes["a port without a server"] = {"host": "127.0.0.1", "port": port, **few}
            # It is refused before any name service is asked.
            mistakes["a host whose name is not valid"] = {"host": "no..name", **few}
            if password := getattr(settings, "password", None):
                wrong = f"wrong-{uuid.uuid4().hex}"
                self.secrets = (*self.secrets, wrong)
                mistakes["a wrong password"] = {"password": type(password)(wrong), **few}
        return mistakes

    def _open_other(self, settings: BackendSettings, number: int) -> Backend | None:
        return self._accepted(partial(self.store.plugin.open, settings, number))

    def _accepted(self, opener: Callable[[], Backend]) -> Backend | None:
        """Open a database, or return ``None`` if the plugin or the server refuses it."""
        refusals = RedictsError, ValueError, OverflowError, struct.error
        with contextlib.suppress(*refusals), contextlib.ExitStack() as unused:
            backend = opener()
            unused.callback(backend.close)
            backend.execute(Transaction())
            unused.pop_all()
            return backend
        return None

    def _is_in_one_instance(self, backend: Backend) -> bool:
        if self._shares is None:
            try:
                backend.execute(Transaction())  # so that a backend can ask its server for its capabilities
                declared = backend.capabilities
            except BaseException:
                backend.close()
                raise
            self._shares = not (declared.processes or declared.durable)
            if self._shares and not self._needs_its_address():
                self.networked = False
        return self._shares

    @property
    def _has_address(self) -> bool:
        return {"host", "port"} <= set(type(self.store.settings).model_fields)

    def _needs_its_address(self) -> bool:
        """Return whether the settings have an address, and no client works with that of no server."""
        if not self._has_address:
            return False
        with socket.socket() as reserved:  # bound, but it does not listen
            reserved.bind(("127.0.0.1", 0))
            address = {"host": "127.0.0.1", "port": reserved.getsockname()[1], "retries": 0}
            try:
                with contextlib.closing(self._opener_of(address)()) as backend:
                    backend.execute(Transaction())
            except RedictsError:
                return True
        return False


def _exchanges_of_a_write(backend: Backend, proxy: FaultProxy) -> int:
    """Return how many exchanges a transaction takes, once the client has set up its connection."""
    key = Key(f"t{uuid.uuid4().hex[:10]}", ("a",))
    taken = 0
    for _ in range(2):
        before = proxy.exchanges
        check, read = Equals(key, Scope.NODE, NOTHING), Read(key)
        backend.execute(Transaction((check,), (read,), (Put(key, b"1"), Delete(key, Scope.NODE))))
        taken = proxy.exchanges - before
    return max(1, taken)


def _each_reply(replies: int) -> Iterator[int]:
    return (replies - number % replies for number in count())
