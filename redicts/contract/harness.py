"""Harness of a store: how to open it, to advance its time, and to inject faults."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence

from hypothesis.strategies import SearchStrategy

from redicts.contract.hostile import HOSTILE_SEGMENTS, any_values, segments_among
from redicts.core.async_backend import AsyncBackend
from redicts.core.backend import Backend, Capabilities
from redicts.core.listener import Listener
from redicts.core.minitransaction import Key, Outcome, Path, Transaction


class Harness(ABC):
    """One store under examination. Subclass it, implement :meth:`open`, and pass an instance to ``certify``.

    The other members are hooks with a default. The report lists a check that needs a missing hook as not run. The store
    may hold other data: the suite works in spaces of its own and empties them.

    Example::

        class TableHarness(Harness):
            networked = False

            def open(self) -> Backend:
                return TableBackend("table.db")

        print(certify(TableHarness()))
    """

    names: Sequence[str] = HOSTILE_SEGMENTS
    """At least ten segments for the checks on names. With fewer than the suite's, the store is not certified."""

    networked: bool = True
    """Whether a reply can be lost on its way to the client. If so, certification needs :meth:`drop_reply`. Set it to
    false for a store inside the client's process."""

    records_first: bool = False
    """Whether the first space of each check, and of the others every second one, is a record space, see
    :data:`redicts.core.minitransaction.RECORDS`. A store that lays these spaces out in another way is certified in full
    by two runs."""

    secrets: Sequence[str] = ()
    """Texts that the report must not contain, such as passwords. They are crossed out in errors of the store, unless
    they are shorter than four characters."""

    @abstractmethod
    def open(self) -> Backend:
        """Open another client of the same store. The suite closes it.

        For a store inside one instance, return a :class:`SharedBackend` of that instance.
        """

    def whole(self) -> Backend:
        """Open a client of all sections of a sharded store, whose other clients are :class:`InOneSection`.

        Only a store that declares ``sharded`` needs it. The suite closes it.
        """
        return self.open()

    @property
    def opener(self) -> Callable[[], Backend] | None:
        """A picklable callable that opens a client in another process.

        Certification needs it if the store declares ``processes``. The processes are started by *spawn*, so the program
        that certifies must be importable, with its call under ``if __name__ == "__main__":``.
        """
        return None

    def advance(self, seconds: float) -> None:
        """Advance the clock of the store. By default, wait."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(left)

    @property
    def waits(self) -> bool:
        """Whether :meth:`advance` waits, so that the suite uses it sparingly."""
        return type(self).advance is Harness.advance

    def segments(self) -> SearchStrategy[str]:
        """Return the Hypothesis strategy for segments: by default, :attr:`names` and any other text."""
        return segments_among(self.names)

    def values(self) -> SearchStrategy[bytes]:
        """Return the Hypothesis strategy for values: by default, hostile bytes, counters and any others."""
        return any_values()

    def lossy(self) -> Backend:
        """Open the client for the faults of :meth:`drop_reply` and :meth:`hold_request`; by default as any other.

        The faults must not affect clients from :meth:`open`, by which the checks observe the store.
        """
        return self.open()

    def drop_reply(self) -> bool | None:
        """Lose the reply to the next request of a :meth:`lossy` client; return whether that is possible.

        The store executes the request, and the client's connection breaks. Requests that set up a connection do not
        count.
        """
        return None

    def hold_request(self) -> bool | None:
        """Delay the next request of a :meth:`lossy` client; return whether that is possible.

        The client times out and sends it again. Then :meth:`deliver_request` lets the first one arrive.
        """
        return None

    def deliver_request(self) -> None:  # noqa: B027  (optional)
        """Let the delayed request arrive, and return after the store has executed it."""

    def drop_replies(self, every: bool) -> bool | None:  # noqa: ARG002  (optional)
        """Lose every reply to :meth:`lossy` clients from now on, or none any more; return whether that is possible.

        Requests arrive and are executed.
        """
        return None

    def refuse(self, every: bool) -> bool | None:  # noqa: ARG002  (optional)
        """Refuse new connections of :meth:`lossy` clients, as a host without a server does, or accept them again.

        The connections that there are work on. Return whether that is possible.
        """
        return None

    def mute(self, every: bool) -> bool | None:  # noqa: ARG002  (optional)
        """Let the connections of :meth:`lossy` clients carry nothing, without breaking, or new ones work again.

        What is sent meanwhile never arrives. The connections that there were stay silent, as behind a firewall that has
        forgotten them. Return whether that is possible.
        """
        return None

    def break_connections(self) -> bool | None:
        """Break all connections of :meth:`lossy` clients, idle ones and those of listeners too, as a restart does.

        The data stays, and new connections can be made. Return whether that is possible.
        """
        return None

    def fail_commit(self) -> bool | None:
        """Have the next commit of a :meth:`lossy` client fail, with an error of its engine.

        Let commits fail in turn before and after their writes are stored, if both can happen. Return whether that is
        possible.
        """
        return None

    def forget(self) -> bool | None:
        """Have the server forget all that clients prepared there, such as scripts and statements, as a restart does.

        The data and the connections stay. Return whether that is possible.
        """
        return None

    def unusable(self) -> Mapping[str, Callable[[], Backend]]:
        """Return functions that open clients which cannot work, by what is wrong with them: ``"a wrong port"``.

        Their passwords belong to :attr:`secrets`. What they do must not affect the store.
        """
        return {}

    def open_at(self, path: str) -> Backend | None:  # noqa: ARG002  (optional)
        """Open a store at another path, with the same settings otherwise, or return ``None`` if it has no path.

        The suite closes it. At the path there is a file or directory that another program wrote.
        """
        return None

    def fill(self, full: bool) -> bool | None:  # noqa: ARG002  (optional)
        """Let the store have no room for more, not even for a small value, or have room again.

        Return whether that is possible.
        """
        return None

    def damage(self, key: Key) -> Callable[[], object] | None:  # noqa: ARG002  (optional)
        """Replace what the store keeps of a value by what no client writes, and return a function that puts it back.

        Values below other parents stay as they are. Return ``None`` if that is not possible.
        """
        return None

    @property
    def disturbed(self) -> int | None:
        """The number of requests that faults have hit, or ``None`` if unknown.

        With it, the suite counts a check on lost replies that lost none as not run.
        """
        return None

    @property
    def raw(self) -> Raw | None:
        """Access to the store without the backend, which certification does not need."""
        return None

    @property
    def about(self) -> Mapping[str, str]:
        """Additional lines for the report, for instance the author of the backend."""
        return {}

    def close(self) -> None:  # noqa: B027  (optional)
        """Release servers and files of the harness. The caller of the suite calls it."""

    def databases(self) -> Sequence[Backend]:
        """Open clients of other databases of the same store, for instance of those with the numbers 1 and 10.

        The suite closes them. By default there are none, and it is not examined that databases share nothing.
        """
        return ()

    def size(self) -> int | None:
        """Return how many bytes the store occupies while the suite has closed all its clients.

        Expired values count, as do all records of the backend. The unit may be any other that grows in the same way.
        By default it is unknown, and it is not examined that the store stays small.
        """
        return None

    def lasting(self) -> int | None:
        """Return how many records the store keeps without an end, those that clients keep for themselves included.

        By default they are unknown, and it is not examined that clients leave no such record.
        """
        return None

    def files(self) -> Collection[str] | None:
        """Return the names of all files in the directories of the store, while the suite has closed all its clients.

        By default they are unknown, and it is not examined that killed processes leave none there.
        """
        return None

    def set_clock(self, seconds: float) -> bool:  # noqa: ARG002  (optional)
        """Set the wall clock of the store's machine so many seconds before (or, below 0, after) the true time.

        Return whether that is possible. The suite ends with a call with 0. Only the wall clock changes: :meth:`advance`
        lets time pass.
        """
        return False


class Raw(ABC):
    """Access to a store without the backend under examination, by another client library.

    With it, the suite finds a backend that answers from its memory, or that decodes what it encodes wrongly. Both
    methods are about one value at exactly one key.
    """

    @abstractmethod
    def read(self, key: Key) -> bytes | None:
        """Return the stored value, or ``None``."""

    @abstractmethod
    def write(self, key: Key, value: bytes) -> None:
        """Replace a value in the store, as another program would."""


class SharedBackend(Backend):
    """A client of a store inside one instance; closing it leaves the instance open."""

    __slots__ = ("shared",)

    def __init__(self, shared: Backend) -> None:
        self.shared = shared

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the shared instance."""
        return self.shared.capabilities

    def execute(self, transaction: Transaction, /) -> Outcome:
        """Execute on the shared instance."""
        return self.shared.execute(transaction)

    def for_asyncio(self) -> AsyncBackend | None:
        """Return the part for asyncio of the shared instance."""
        return self.shared.for_asyncio()

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        """Execute on the shared instance."""
        return self.shared.execute_until(transaction, deadline)

    def fetch(self, key: Key, /) -> bytes | None:
        """Fetch from the shared instance."""
        return self.shared.fetch(key)

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        """Overwrite in the shared instance."""
        return self.shared.overwrite(key, value)

    def fetch_document(self, key: Key, /) -> bytes | None:
        """Fetch from the shared instance."""
        return self.shared.fetch_document(key)

    def overwrite_document(self, key: Key, document: bytes, /) -> bool:
        """Overwrite in the shared instance."""
        return self.shared.overwrite_document(key, document)

    def listen(self, name: str, /) -> Listener:
        """Listen on the shared instance."""
        return self.shared.listen(name)

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        """Listen on the shared instance."""
        return self.shared.listen_to_changes(name, path)

    def listen_until(self, name: str, deadline: float, /) -> Listener:
        """Listen on the shared instance."""
        return self.shared.listen_until(name, deadline)

    def about(self) -> Mapping[str, str]:
        """Return the versions that the shared instance reports."""
        return self.shared.about()


def inner_of(backend: Backend) -> Backend:
    """Return the instance behind a client of a store inside one instance, or the client itself."""
    return backend.shared if isinstance(backend, SharedBackend) else backend
