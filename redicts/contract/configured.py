"""A harness made from settings alone: what the plugin of a backend needs to be certified without a class of its own."""

from __future__ import annotations

import pickle
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from redicts.contract.check import NotRun
from redicts.contract.fault_proxy import ExchangeProxy
from redicts.contract.harness import Harness, SharedBackend
from redicts.contract.provenance import provenance, secrets_in
from redicts.core.backend import Backend, BackendPlugin, BackendSettings
from redicts.core.minitransaction import NOTHING, Delete, Equals, Key, Put, Read, Scope, Transaction

_QUICK: Final = 0.5
"""Seconds that a client whose request is held back waits for its answer, where its settings can say so."""


@dataclass(frozen=True, slots=True)
class Store:
    """One store: the plugin of its backend, the settings, and the number of the database.

    It can be pickled if the plugin's ``open`` is a function at the top of a module.
    """

    plugin: BackendPlugin
    settings: BackendSettings = field(repr=False)
    database: int = 0

    def open(self) -> Backend:
        """Open one more client of it."""
        return self.plugin.open(self.settings, self.database)


class StoreHarness(Harness):
    """The harness of a store that is known by its settings; subclass it to add hooks that they do not tell of.

    - A store that claims neither ``processes`` nor ``durable`` lives inside one instance, which all clients share.
    - Time really passes.
    - Where the settings have fields ``host`` and ``port``, replies are lost by a proxy in front of them. If there is a
      field ``socket_timeout_secs``, requests are held back as well. A field ``tls_check_hostname`` is set to false for
      the proxy, which the name of a certificate does not fit.
    - A store with a field ``path`` is a file, and none of its replies can be lost. Any other that is not inside one
      instance is taken to be networked, and needs a harness of its own that can drop replies.
    """

    def __init__(self, store: Store) -> None:
        self.store: Final = store
        self.secrets = tuple(secrets_in(store.settings))
        self.networked = "path" not in type(store.settings).model_fields
        self._lock: Final = threading.Lock()
        self._instance: Backend | None = None
        self._shares: bool | None = None
        self._proxy: ExchangeProxy | None = None
        self._numbers: Iterator[int] = iter(())

    def open(self) -> Backend:
        """Open a client, or share the instance in which all of the store is."""
        with self._lock:
            if self._instance is None:
                backend = self.store.open()
                if not self._ttls_in(backend):
                    return backend
                self._instance = backend
            return SharedBackend(self._instance)

    @property
    def opener(self) -> Callable[[], Backend]:
        """What opens the store in another process."""
        try:
            pickle.dumps(self.store)
        except Exception as error:
            raise NotRun(
                f"no other process can open the store, for the plugin cannot be pickled ({type(error).__name__}): "
                "make its open a function at the top of a module",
                demanded=True,
            ) from None
        return self.store.open

    def lossy(self) -> Backend:
        """Open a client that reaches the server through the proxy, if the settings tell where the server is."""
        fields = type(self.store.settings).model_fields
        settings: Any = self.store.settings
        if not self.networked or not {"host", "port"} <= set(fields):
            return self.open()
        if self._proxy is None:
            self._proxy = ExchangeProxy(settings.host, settings.port)
        changes: dict[str, Any] = {"host": self._proxy.host, "port": self._proxy.port}
        changes |= {"socket_timeout_secs": _QUICK} if "socket_timeout_secs" in fields else {}
        changes |= {"tls_check_hostname": False} if "tls_check_hostname" in fields else {}
        self._proxy.calm()
        settings = self.store.settings.model_copy(update=changes)
        backend = self.store.plugin.open(settings, self.store.database)
        try:
            self._numbers = _each_reply(_exchanges_of_a_write(backend, self._proxy))
        except BaseException:
            backend.close()
            raise
        return backend

    def drop_reply(self) -> bool:
        """Lose a reply at the proxy: the last one of a request that takes several, then the others in turn."""
        if self._proxy is None or not self._proxy.connections:
            return False
        self._proxy.lose_reply(next(self._numbers))
        return True

    def hold_request(self) -> bool:
        """Hold a request back at the proxy."""
        if self._proxy is None or "socket_timeout_secs" not in type(self.store.settings).model_fields:
            return False
        self._proxy.hold_request()
        return True

    def deliver_request(self) -> None:
        """Let the proxy send what it holds back."""
        if self._proxy is not None:
            self._proxy.deliver()

    @property
    def disturbed(self) -> int | None:
        """How many requests the proxy has disturbed."""
        return 0 if self._proxy is None else self._proxy.hits

    @property
    def about(self) -> Mapping[str, str]:
        """The distribution of the plugin, its version, and the contract it was written for."""
        return provenance(self.store.plugin)

    def close(self) -> None:
        """Close the instance and the proxy."""
        if self._instance is not None:
            self._instance.close()
            self._instance = None
        if self._proxy is not None:
            self._proxy.close()
            self._proxy = None

    def _ttls_in(self, backend: Backend) -> bool:
        if self._shares is None:
            try:
                backend.execute(Transaction())  # a store that must be asked knows now what it can do
                claimed = backend.capabilities
            except BaseException:
                backend.close()
                raise
            self._shares = not (claimed.processes or claimed.durable)
            if self._shares and not {"host", "port"} <= set(type(self.store.settings).model_fields):
                self.networked = False
        return self._shares


def _exchanges_of_a_write(backend: Backend, proxy: ExchangeProxy) -> int:
    """Return how many exchanges a transaction takes, on a client that has set up what it needs."""
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
