"""The backend contract: one method that executes minitransactions, and a declaration of the store's capabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from redicts.core.async_backend import AsyncBackend
from redicts.core.entry_points import CONTRACT, imported
from redicts.core.listener import LONGEST_INTERVAL_TO_CHANGES_SECS, Listener, Poller
from redicts.core.minitransaction import Key, Outcome, Path, Transaction

if TYPE_CHECKING:
    from redicts.core.plugin_settings import BackendSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The capabilities that one opened store declares.

    They belong to the instance, because they may depend on the version of a server or on the settings. A transaction
    that needs an undeclared capability raises :class:`~redicts.errors.Unsupported` and changes nothing. A backend
    never silently does less.
    """

    ttl: bool
    """Values can have a TTL (``Put.ttl``, ``Put.keep_ttl`` of such a value, :class:`Expire`, ``Read.ttls``)."""

    processes: bool
    """Several processes can open the same store, and each sees the writes of the others."""

    durable: bool
    """Values survive after the last client has closed the store, until a client opens it again."""

    atomic_entries: int | None
    """The maximum number of values that one transaction may touch, at least 1,000; ``None`` for no maximum.

    A transaction that puts more values gets ``Status.TOO_LARGE``. So may a transaction whose checks, reads and writes
    together touch more. Pages do not count."""

    push: bool = False
    """A :class:`~redicts.core.minitransaction.Notify` reaches listeners at once, whichever client applied it. Without
    this capability, listeners poll: see :meth:`Backend.listen`."""

    documents: bool = False
    """The store executes :class:`~redicts.core.minitransaction.PutDocument`, which puts a dict as one JSON text."""

    sharded: bool = False
    """The store keeps each section, which is everything below one first segment, on one of several servers. It refuses
    a transaction that has no home: see ``redicts.core.sections``. Redicts then works at the root section by section,
    and refuses what would have to be atomic there."""

    changes: bool = False
    """Every transaction that writes values tells the listeners of :meth:`Backend.listen_to_changes` that it concerns.
    Without this capability, they look at intervals."""


Fact = Mapping[str, Any] | str
"""What a server tells about one matter, by name, or a text that says why it does not tell it."""


class ServerState(NamedTuple):
    """The state of one of the servers of a store, or of its file, without secrets."""

    text: str
    """What it is and how it is, empty if the facts tell all."""
    is_fine: bool
    """Whether what the text says is as it should be."""
    facts: Mapping[str, Fact] = {}
    """What ``redicts doctor`` judges, by the name of its check. docs/contract.md#reports lists the names."""


class Backend(ABC):
    """Base class of backends: one opened database of a store, shared by all threads of the process.

    To write a backend, subclass this, implement :meth:`execute` by the rules of :mod:`redicts.core.minitransaction`,
    and declare :attr:`capabilities`. ``redicts certify`` certifies the result.

    Rules beyond those of the transaction
        - *Threads*: any number of threads may call :meth:`execute` concurrently.
        - *Fork*: a child process may use the instance that its parent opened. The backend must not use the parent's
          sockets or file handles there. Without ``processes``, the child has its own copy of the values.
        - *Exactly once*: a request that the backend sends again, because the reply was lost, is applied once, even if
          the first request arrives late (RIFL: Lee et al., "Implementing linearizability at large scale and low
          latency", SOSP 2015).
        - *Errors*: a failure of the store raises a subclass of :class:`~redicts.errors.StoreError`. The message says
          where it happened and what to do, and never contains a secret. If the writes may have been applied,
          ``maybe_applied`` is true.
    """

    may_wait: ClassVar[bool] = True
    """Whether a call may wait for I/O or for another client. If not, asyncio makes the calls in the event loop."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """The capabilities of this store. No round trip after the first :meth:`execute`."""

    @abstractmethod
    def execute(self, transaction: Transaction, /) -> Outcome:
        """Evaluate and apply one minitransaction atomically.

        Raises :class:`~redicts.errors.StoreError` if the store fails, and :class:`~redicts.errors.Unsupported` if the
        transaction needs an undeclared capability.

        Cost: one round trip on a networked store.
        """

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:  # noqa: ARG002
        """Execute a minitransaction, but give up at a time of ``time.monotonic``, for callers that wait no longer.

        A store that may take long to fail (over a network, or behind other writers) overrides this: connecting,
        waiting for a free connection, repeating and the wait for the reply all end at the deadline, some tenths of a
        second later at most. Then it raises :class:`~redicts.errors.StoreTimeout` or
        :class:`~redicts.errors.StoreBusy`. After the deadline it sends nothing. The default has no limit but those of
        :meth:`execute`.
        """
        return self.execute(transaction)

    def fetch(self, key: Key, /) -> bytes | None:  # noqa: ARG002  (for backends that override it)
        """Return the live value at exactly this key: a fast path for the most frequent read.

        ``None`` means that the caller must use :meth:`execute`; it does not mean that no value is there. Over a network
        the second request would cost a round trip, so a networked store returns ``None`` at once unless it expects a
        value there, as where the last read found one.

        Raises :class:`~redicts.errors.StoreError` if the store fails. Cost: at most one round trip over a network.
        """
        return None

    def overwrite(self, key: Key, value: bytes, /) -> bool:  # noqa: ARG002  (for backends that override it)
        """Replace a live value at exactly this key by a persistent one: a fast path for the most frequent write.

        ``False`` means that nothing was written and the caller must use :meth:`execute`. As with :meth:`fetch`,
        override it only in a store that is reached without a network.

        Raises :class:`~redicts.errors.StoreError` if the store fails. Cost: no round trip over a network.
        """
        return False

    def fetch_document(self, key: Key, /) -> bytes | None:
        """Return the result of :meth:`fetch`, or a document whose leaves are exactly the live values below this key.

        It is called only if the store declares ``Capabilities.documents``. A store that keeps documents as one value
        overrides it. Errors and cost are those of :meth:`fetch`.
        """
        return self.fetch(key)

    def overwrite_document(self, key: Key, document: bytes, /) -> bool:  # noqa: ARG002  (as with overwrite)
        """Replace a document, all of whose leaves are persistent, by another one: a fast path like :meth:`overwrite`.

        It is called only if the store declares ``Capabilities.documents``.
        """
        return False

    def listen(self, name: str, /) -> Listener:  # noqa: ARG002  (for backends that override it)
        """Listen for each :class:`~redicts.core.minitransaction.Notify` of this name until the listener is closed.

        The listener receives every notification that is applied after this call returns. Names are unique ASCII text
        of at most 100 characters, ``client_id/number``. All listeners of a process have the same client id, so that a
        store may use one channel per process.

        A store that can push overrides this and declares ``push``. The default is a :class:`Poller`, which reports a
        notification at short, growing, random intervals. Raises :class:`~redicts.errors.StoreError` if the store fails.

        Cost: at most one round trip, and none if the process listens already.
        """
        return Poller()

    def listen_until(self, name: str, deadline: float, /) -> Listener:  # noqa: ARG002  (as with execute_until)
        """Listen as :meth:`listen` does, but give up at a time of ``time.monotonic``, as :meth:`execute_until` does."""
        return self.listen(name)

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:  # noqa: ARG002  (as with listen)
        """Listen for changes of the values at, above and below a path, until the listener is closed.

        Every transaction that writes in the space ``VALUES`` at, above or below the path, and is applied after this
        call returns, notifies the listener once it is applied: the caller then reads, and finds what it wrote. It may
        notify for nothing, and never fails to. Where the store may have lost a notification, as with a connection, it
        notifies when notifications arrive again. The end of a TTL notifies nobody: the caller knows it from what it
        has read. Names are as in :meth:`listen`.

        A store that can tell of changes overrides this, and declares ``changes``. The default is a :class:`Poller`.
        Raises :class:`~redicts.errors.StoreError` if the store fails.

        Cost: at most two round trips, and none if the process listens there already.
        """
        return Poller(LONGEST_INTERVAL_TO_CHANGES_SECS)

    def for_asyncio(self) -> AsyncBackend | None:
        """Return a new backend for the tasks of one event loop, on the same database. No I/O.

        With the default, ``None``, a bounded number of threads make the calls of the tasks. So override it only where
        connections of the loop itself are faster. It is called in the loop.
        """
        return None

    @property
    def address(self) -> Mapping[str, str | int]:
        """Where the store is, for reports: any of ``host``, ``port``, ``path`` and ``db``. No secrets, and no I/O."""
        return {}

    def about(self) -> Mapping[str, str]:
        """Return details of the store for reports, for instance ``{"Redis server": "7.0.15"}``.

        Values never contain a secret. Raises :class:`~redicts.errors.StoreError` if the store fails.

        Cost: at most one round trip.
        """
        return {}

    def servers(self) -> Mapping[str, ServerState]:
        """Return the state of each server of the store, or of its file, by its address, for reports.

        Raises :class:`~redicts.errors.StoreError` if the store fails. Cost: some round trips to each server. A file may
        be read as a whole.
        """
        return {}

    def close(self) -> None:  # noqa: B027  (a store without resources has nothing to close)
        """Close connections and files. Idempotent.

        Calls under way in other threads finish. A later call still works, as when settings are replaced: it closes
        the connections and files that it opens.
        """


@dataclass(frozen=True, slots=True)
class BackendPlugin:
    """The registration of a backend, as the hook ``redicts_backends`` returns it (see :mod:`redicts.plugin`)."""

    name: str
    """The name in the settings, also the scheme of its URLs."""
    settings: type[BackendSettings] | str | None
    """The model that validates its settings. As text, ``package.module:Class``, it is imported when something needs it;
    so is pydantic. ``None`` stands for a backend that has no settings."""
    open: Callable[[Any, int], Backend]
    """Opens one database, given validated settings and the number of the database, 0 or more.
    It does not connect to a server: the first :meth:`Backend.execute` does."""
    from_client: Callable[[object], Backend | None] | None = None
    """Opens the store of an existing client object, with its own connections; returns ``None`` for an object that is
    not a client of this store. It may refuse a client by raising :class:`~redicts.errors.SettingsError`. It may return
    one backend for several clients. Does no I/O."""
    contract: int = CONTRACT
    """The contract version that it was written for, as a literal number."""
    summary: str = ""
    """A description of one line."""
    harness: str = ""
    """The harness for ``redicts certify``, as ``package.module:Class``; imported only by that command.
    Without it, the harness is made from the settings, see :class:`redicts.contract.StoreHarness`."""
    is_client_of: Callable[[object, Any, int], bool] | None = None
    """Whether a client object is connected to a database that ``settings`` and a number describe, and ``from_client``
    cannot open it, because the client does not know a part of the settings, such as a prefix of keys. A lock on the
    client is then a lock of the pool. Raises :class:`~redicts.errors.SettingsError` if only the server could tell. Does
    no I/O."""
    plain: Callable[[str], NamedTuple | None] | None = None
    """Returns what ``open`` takes for a URL that is valid without the model: a named tuple with the fields of the
    validated settings, and their defaults. Returns ``None`` for each other URL. So a short command need not import
    pydantic, which takes as long as all the rest of it. A password is that of ``split_url``, which
    no repr shows. A field ``given`` holds the names of the fields that the URL gives, if defaults can be among them."""

    @property
    def model(self) -> type[BackendSettings]:
        """The model that validates its settings."""
        if self.settings is None or isinstance(self.settings, str):
            found: type[BackendSettings] = imported(self.settings or "redicts.core.plugin_settings:NoSettings")
            return found
        return self.settings
