"""What a backend is: one method that executes minitransactions, and a statement of what the store can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from redicts.core.entry_points import CONTRACT
from redicts.core.listener import Listener, Poller
from redicts.core.minitransaction import Key, Outcome, Transaction


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one opened store can do. Per instance, because it may depend on a server's version or on the settings.

    A backend that meets a transaction needing something it did not declare raises
    :class:`~redicts.errors.Unsupported` and changes nothing; it never quietly does less.
    """

    ttl: bool
    """Values can have a TTL (``Put.ttl``, ``Put.keep_ttl`` of such a value, :class:`Expire`, ``Read.ttls``)."""

    processes: bool
    """Several processes can open the same store and see each other's writes."""

    durable: bool
    """Values are still there after the last client closed the store and another one opened it."""

    atomic_entries: int | None
    """How many values one transaction may touch, or ``None`` for any number; pages do not count. One that puts more
    is answered ``Status.TOO_LARGE``, and so may be one whose checks, reads and writes together touch more. At least
    1,000 where it is set."""

    push: bool = False
    """A :class:`~redicts.core.minitransaction.Notify` reaches listeners at once, whichever client applied it. Without
    it, they look again at short intervals, see :meth:`Backend.listen`."""

    documents: bool = False
    """A dict can be put as one text, see :class:`~redicts.core.minitransaction.PutDocument`."""


class Backend(ABC):
    """One opened store (one database of it), shared by all threads of the process.

    To write a backend, subclass this, implement :meth:`execute` as :mod:`redicts.core.minitransaction` says, and
    declare :attr:`capabilities`. ``redicts.contract`` certifies the result.

    Rules beyond those of the transaction
        - *Threads*: any number of threads may call :meth:`execute` at once.
        - *Fork*: a child process may go on using the instance that its parent opened; it must not use the parent's
          sockets or file handles to do so. What a store without ``processes`` gives the child is its own copy.
        - *Once*: a request that the backend sends again, because the reply to the first was lost, is applied once,
          even if the first arrives late (RIFL: Lee et al., "Implementing linearizability at large scale and low
          latency", SOSP 2015).
        - *Errors*: a failure of the store is raised as one of the classes below
          :class:`~redicts.errors.StoreError`, with where it happened and what to do, and never with a secret.
          If the writes may have happened all the same, its ``maybe_applied`` is true.
    """

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this store can do. Costs nothing to ask after the first :meth:`execute`."""

    @abstractmethod
    def execute(self, transaction: Transaction, /) -> Outcome:
        """Decide and apply one minitransaction atomically.

        Raises :class:`~redicts.errors.StoreError` if the store fails and :class:`~redicts.errors.Unsupported` if the
        transaction needs a capability that is not declared.

        Cost: one round trip on a networked store.
        """

    def fetch(self, key: Key, /) -> bytes | None:  # noqa: ARG002  (for those that have a shorter way)
        """Return the live value at exactly this key, as :meth:`execute` would, by a shorter way.

        ``None`` says nothing at all: there may be a value, or none, or values below. Whoever gets it asks by
        :meth:`execute`. So a store to which that costs a second round trip leaves this as it is, and answers ``None``
        at no cost. A store that is asked without any overrides it: the value of one leaf is what is read most.

        Raises :class:`~redicts.errors.StoreError` if the store fails. Cost: no round trip over a network.
        """
        return None

    def overwrite(self, key: Key, value: bytes, /) -> bool:  # noqa: ARG002  (for those that have a shorter way)
        """Put a value that lasts over a live one at exactly this key, as :meth:`execute` would, by a shorter way.

        False says that nothing was written, and no more: whoever gets it asks by :meth:`execute`. As with
        :meth:`fetch`, only a store that is asked without a network overrides it.

        Raises :class:`~redicts.errors.StoreError` if the store fails. Cost: no round trip over a network.
        """
        return False

    def fetch_document(self, key: Key, /) -> bytes | None:
        """Return what :meth:`fetch` does, or a document whose leaves are just the live values below this key.

        It is called only where ``Capabilities.documents`` is claimed, by those who read the same from both. A store
        that keeps documents as they are put overrides it. Raises and costs what :meth:`fetch` does.
        """
        return self.fetch(key)

    def overwrite_document(self, key: Key, document: bytes, /) -> bool:  # noqa: ARG002  (as with overwrite)
        """Put a document over another one, all of whose leaves last, as :meth:`execute` would, by a shorter way.

        It is called only where ``Capabilities.documents`` is claimed. For the rest it is as :meth:`overwrite`.
        """
        return False

    def listen(self, name: str, /) -> Listener:  # noqa: ARG002  (for those that can push)
        """Listen for each :class:`~redicts.core.minitransaction.Notify` of this name until the listener is closed.

        Listening has begun when this returns: whatever is applied after that is not missed. Names are unique; they
        are ASCII text of at most 100 characters, ``client_id/number``, and the client id is the same for all listeners
        of a process, so that a store may send what is for one process to one address.

        A store that can push overrides this and declares ``push``. Any other inherits a listener that is notified at
        short, growing, random intervals. Raises :class:`~redicts.errors.StoreError` if the store fails.

        Cost: one round trip at most, and none if the process listens already.
        """
        return Poller()

    def about(self) -> Mapping[str, str]:
        """Return what a report shall name of the store beside the backend: the version of its server, of its engine.

        Keys say what it is, for instance ``"Redis server"``; there is never a secret among the values. By default
        there is nothing to tell. Raises :class:`~redicts.errors.StoreError` if the store fails.

        Cost: one round trip at most.
        """
        return {}

    def close(self) -> None:  # noqa: B027  (closing nothing is right for a store that holds nothing)
        """Let go of connections and files.

        Calls under way in other threads finish, and so does one that comes a moment later, as when settings are
        replaced: whatever it has to open it closes again. Calling it twice is harmless.
        """


class BackendSettings(BaseModel):
    """Base of every backend's own settings: frozen, unknown fields refused, input never echoed in an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @property
    def main_database(self) -> int:
        """The number of the database to use where the settings name none. A store's URL may say another than 0."""
        return 0

    @classmethod
    def fields_of_url(cls, url: str) -> dict[str, object]:  # noqa: ARG003  (for those that override it)
        """Return the fields that a URL stands for. Raises ``ValueError``, without the URL, if it stands for none."""
        raise ValueError("this backend is not chosen by a URL; give its settings as a dict")


@dataclass(frozen=True, slots=True)
class BackendPlugin:
    """What a backend's module offers: returned by its hook ``redicts_backends`` (see :mod:`redicts.core.hooks`)."""

    name: str
    """The name by which settings choose it, also as the scheme of a URL."""
    settings: type[BackendSettings]
    """The model that validates its part of the settings."""
    open: Callable[[Any, int], Backend]
    """Opens one database: called with an instance of ``settings`` and the number of the database (0 or above).
    It does no I/O that can fail for want of a server; that belongs into the first :meth:`Backend.execute`."""
    from_client: Callable[[object], Backend | None] | None = None
    """Opens the store that a client object of the user's is connected to, on connections of its own; ``None`` if it is
    no client that this backend knows. Does no I/O."""
    contract: int = CONTRACT
    """The version of the contract that it was written for, as a number: name it literally."""
    summary: str = ""
    """What it is for, in one line."""
    harness: str = ""
    """Where the harness is with which ``redicts certify`` examines it, as ``package.module:Class``; imported only then.
    Without one, the harness is made from the settings, see :class:`redicts.contract.StoreHarness`."""
