"""What the suite must be told about a store: how to open it, how to let its time pass, how to disturb it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from hypothesis.strategies import SearchStrategy

from redicts.contract.hostile import HOSTILE_SEGMENTS, any_values, segments_among
from redicts.core.backend import Backend, Capabilities
from redicts.core.listener import Listener
from redicts.core.minitransaction import Key, Outcome, Transaction


class Harness(ABC):
    """One store under examination. Subclass it, implement :meth:`open`, and pass an instance to ``certify``.

    The other members are hooks. Each has a default, and a check that needs a hook which is not there is listed in the
    report as not run. The store may hold other data: the suite works in spaces with names of its own and empties them.

    Example::

        class TableHarness(Harness):
            networked = False

            def open(self) -> Backend:
                return TableBackend("table.db")

        print(certify(TableHarness()))
    """

    names: Sequence[str] = HOSTILE_SEGMENTS
    """Segments that the checks on names try one by one, at least ten. Override it only to see how far a store gets that
    cannot hold all of them: the report says that the names were narrowed, and the store is not certified."""

    networked: bool = True
    """Whether a reply of the store can be lost on its way to the client. If so, :meth:`drop_reply` is needed for a
    certificate. Set it to false for a store that runs inside the client's process."""

    secrets: Sequence[str] = ()
    """Texts that must not be in the report: passwords. Where a store's errors tell them, they are crossed out. Those
    shorter than four characters are not, for they stand in half of all words."""

    @abstractmethod
    def open(self) -> Backend:
        """Open one more client of the same store. The suite closes it.

        A store that lives inside one instance returns a :class:`SharedBackend` around that instance.
        """

    @property
    def opener(self) -> Callable[[], Backend] | None:
        """A picklable callable that opens one more client in another process.

        It is needed for a certificate where ``capabilities.processes`` is true. The other processes are started by
        *spawn*, so the program that certifies must be importable: ``if __name__ == "__main__":`` around its call.
        """
        return None

    def advance(self, seconds: float) -> None:
        """Let this much time pass by the clock of the store. By default this really waits."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(left)

    @property
    def waits(self) -> bool:
        """Whether :meth:`advance` really waits, so that the suite should use it sparingly."""
        return type(self).advance is Harness.advance

    def segments(self) -> SearchStrategy[str]:
        """Return the Hypothesis strategy for segments: by default :attr:`names`, and any other text."""
        return segments_among(self.names)

    def values(self) -> SearchStrategy[bytes]:
        """Return the Hypothesis strategy for values: by default hostile bytes, counters, and any others."""
        return any_values()

    def lossy(self) -> Backend:
        """Open the client that :meth:`drop_reply` and :meth:`hold_request` disturb; by default like any other.

        Checks on lost replies watch it through a second client from :meth:`open`. It is best if that one reaches the
        store by another way, so that the disturbance cannot hit it.
        """
        return self.open()

    def drop_reply(self) -> bool | None:
        """Have the next request of a :meth:`lossy` client executed, but lose its reply; return whether that can be.

        The client notices a broken connection. Requests that only set a connection up do not count.
        """
        return None

    def hold_request(self) -> bool | None:
        """Keep the next request of a :meth:`lossy` client from the store; return whether that is possible.

        The client, hearing nothing, gives up waiting and sends it again. :meth:`deliver_request` then lets the first
        one arrive.
        """
        return None

    def deliver_request(self) -> None:  # noqa: B027  (there is nothing to deliver where nothing is held)
        """Let the held request arrive, and return after the store has seen it."""

    @property
    def disturbed(self) -> int | None:
        """How many requests :meth:`drop_reply` and :meth:`hold_request` have hit so far, or ``None`` if unknown.

        With it the suite notices that a check on lost replies lost none, and does not count it as examined.
        """
        return None

    @property
    def raw(self) -> Raw | None:
        """A way to the bytes of the store without the backend. It is not needed for a certificate."""
        return None

    @property
    def about(self) -> Mapping[str, str]:
        """What the report shall say beside the versions that it finds itself, for instance who made the backend."""
        return {}

    def close(self) -> None:  # noqa: B027  (a harness that holds nothing has nothing to close)
        """Let go of what the harness itself holds: servers, files. Whoever made the harness calls it."""


class Raw(ABC):
    """A way to the bytes of a store that leaves the backend under examination out: a second client of another make.

    With it, what a backend reads is compared with what lies in the store: one that only remembers what it wrote, or
    whose reading repairs what its writing spoils, is found out. Both methods speak of one value at exactly one key.
    """

    @abstractmethod
    def read(self, key: Key) -> bytes | None:
        """Return the value that lies in the store, or ``None``."""

    @abstractmethod
    def write(self, key: Key, value: bytes) -> None:
        """Put a value into the store, in place of the one that is there, as a program of another kind would."""


class SharedBackend(Backend):
    """One client among several of a store that lives inside one instance: closing it leaves the instance open."""

    __slots__ = ("shared",)

    def __init__(self, shared: Backend) -> None:
        self.shared = shared

    @property
    def capabilities(self) -> Capabilities:
        """What the shared instance can do."""
        return self.shared.capabilities

    def execute(self, transaction: Transaction, /) -> Outcome:
        """Execute on the shared instance."""
        return self.shared.execute(transaction)

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

    def about(self) -> Mapping[str, str]:
        """Return what the shared instance tells."""
        return self.shared.about()
