"""A server, processes on it, and the locks in its store as an outsider sees them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from redicts import Lock, Pool, Proxy
from redicts.core.locks.acquisition import Timing
from redicts.core.locks.records import HOLDERS, WAITERS, Record
from redicts.core.minitransaction import Key
from redicts.core.paths import parse
from tests.backends.redis_tools import Target, configuration, data
from tests.faults.actions import SOON
from tests.faults.processes import Process
from tests.support.servers import RedisServer, ServerOptions
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from typing_extensions import Unpack


StartServer = Callable[..., RedisServer]


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Give a function that starts servers of the newest version, which a test may stop."""
    with contextlib.ExitStack() as servers:

        def start(**options: Unpack[ServerOptions]) -> RedisServer:
            return servers.enter_context(RedisServer(**options))

        yield start


class Start(Protocol):
    """The fixture ``start``: starts processes on a server, which end with the test."""

    def __call__(
        self, target: Target, number: int = 1, /, timing: Timing = SOON, *, deaf: bool = False, **cfg: Any
    ) -> list[Process]: ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Give a function that starts processes, which end with the test."""
    with contextlib.ExitStack() as running:

        def start_some(
            target: Target, number: int = 1, /, timing: Timing = SOON, *, deaf: bool = False, **cfg: Any
        ) -> list[Process]:
            settings = configuration(target, **cfg)
            return [running.enter_context(Process(settings, tmp_path, timing, deaf=deaf)) for _ in range(number)]

        yield start_some


@pytest.fixture
def view() -> Iterator[Callable[..., View]]:
    """Give a function that makes this process a client of a server, and returns a view of the locks there."""
    try:
        yield View
    finally:
        Pool().reload(cfg={"backend": "memory"})


class View:
    """The locks on a server, as an outsider sees them."""

    def __init__(self, server: RedisServer, **cfg: Any) -> None:
        self._server = server
        Pool().reload(cfg=configuration(server, **cfg))

    def _records(self, space: str) -> list[Record]:
        tree = Pool().tree()
        found = tree.run(tree.locks.found([Key(space, ())]))
        return sorted(found, key=lambda record: (record.since, record.request))

    def holders(self) -> list[Record]:
        """Return the records of held locks, with their TTLs."""
        return self._records(HOLDERS)

    def waiters(self) -> list[Record]:
        """Return the records of waiters, in order, with their TTLs."""
        return self._records(WAITERS)

    def requests_of(self, process: Process) -> list[str]:
        """Return the ids of the requests that a process holds or waits with."""
        owner = f":{process.pid}:"
        return [record.request for record in (*self.holders(), *self.waiters()) if owner in record.label]

    def queue(self, process: Process, action: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Start an action in a process, and wait until it waits for a lock, or has ended."""
        before = len(self.waiters())
        process.begin(action, *arguments, **options)
        eventually(lambda: len(self.waiters()) > before or process.is_done, "the process waits for the lock")

    def nothing_is_left(self) -> None:
        """Wait until the store holds nothing of any lock but the counter of tokens."""

        def left() -> set[bytes]:
            # A write sweeps what has expired.
            Proxy("swept").set([], 1)
            Proxy("swept").clear()
            return {name for name in data(self._server) if not name.startswith((b"v:", b"f:"))}

        eventually(lambda: not left(), "nothing of any lock is left in the store", every=0.05)
        tokens = data(self._server).get(b"f:", {})
        assert isinstance(tokens, dict)
        assert tokens.keys() <= {b"token"}

    def no_lock_is_left(self) -> None:
        """Check that no lock is held or waited for, for tests whose other traces stay for minutes."""
        assert not self.waiters()
        # A process retains a released lock for some milliseconds, in case that it acquires the lock again.
        eventually(lambda: not self.holders(), "no lock is held")
        assert not self.waiters()

    def is_free(self, path: str) -> bool:
        """Tell whether a lock can be acquired without waiting."""
        lock = Lock(Pool(), parse(path) if path else ())
        if not lock.acquire(blocking=False):
            return False
        lock.release()
        return True
