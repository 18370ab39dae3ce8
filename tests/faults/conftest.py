"""What these tests share: a server, processes on it, and a look at the locks in it from outside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from redicts import Lock, Pool, Proxy
from redicts.api.opened import OpenedDatabase
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
    """Start servers of the newest version, which a test may stop; they end with it."""
    with contextlib.ExitStack() as servers:

        def start(**options: Unpack[ServerOptions]) -> RedisServer:
            return servers.enter_context(RedisServer(**options))

        yield start


class Start(Protocol):
    """What the fixture ``start`` is: starts so many processes on a server, which end with the test."""

    def __call__(
        self, target: Target, number: int = 1, /, timing: Timing = SOON, *, deaf: bool = False, **cfg: Any
    ) -> list[Process]: ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start processes, which end with the test however it ends."""
    with contextlib.ExitStack() as running:

        def start_some(
            target: Target, number: int = 1, /, timing: Timing = SOON, *, deaf: bool = False, **cfg: Any
        ) -> list[Process]:
            settings = configuration(target, **cfg)
            return [running.enter_context(Process(settings, tmp_path, timing, deaf=deaf)) for _ in range(number)]

        yield start_some


@pytest.fixture
def view() -> Iterator[Callable[..., View]]:
    """Give a function that makes this process a client of a server, and looks at the locks there."""
    try:
        yield View
    finally:
        Pool().reload(cfg={"backend": "memory"})


class View:
    """The locks on a server, seen from outside."""

    def __init__(self, server: RedisServer, **cfg: Any) -> None:
        self._server = server
        Pool().reload(cfg=configuration(server, **cfg))

    @property
    def tree(self) -> OpenedDatabase:
        """The opened database."""
        return Pool().database()

    def records(self, space: str) -> list[Record]:
        """Return all records of a space, with their TTLs."""
        found = self.tree.run(self.tree.store.find_locks([Key(space, ())]))
        return sorted(found, key=lambda record: (record.since, record.request))

    def holders(self) -> list[Record]:
        """Return who holds locks."""
        return self.records(HOLDERS)

    def waiters(self) -> list[Record]:
        """Return who waits for locks, in order."""
        return self.records(WAITERS)

    def requests_of(self, process: Process) -> list[str]:
        """Return what a process holds and waits for, by the names of its requests."""
        here = f":{process.pid}:"
        return [record.request for record in (*self.holders(), *self.waiters()) if here in record.label]

    def queue(self, process: Process, deed: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Let a process begin something, and wait until it waits for a lock, or has ended already."""
        before = len(self.waiters())
        process.begins(deed, *arguments, **options)
        eventually(lambda: len(self.waiters()) > before or process.is_done, "the process waits for the lock")

    def nothing_is_left(self, within: float = 10.0) -> None:
        """Wait until nothing of any lock is in the store but the counter of tokens."""

        def left() -> set[bytes]:
            # A write, for that sweeps what has no TTL any more.
            Proxy("swept").set([], 1)
            Proxy("swept").clear()
            return {name for name in data(self._server) if not name.startswith((b"v:", b"f:"))}

        eventually(lambda: not left(), "nothing of any lock is left in the store", within=within, every=0.05)
        tokens = data(self._server).get(b"f:", {})
        assert isinstance(tokens, dict)
        assert tokens.keys() <= {b"token"}

    def no_lock_is_left(self) -> None:
        """Insist that nobody holds or waits for a lock. For what waits so long that other traces stay for as long."""
        assert not self.waiters()
        # In a turn a process keeps what it has released, in case that it comes back: a millisecond, and not a lease.
        eventually(lambda: not self.holders(), "nobody holds a lock", within=10)
        assert not self.waiters()

    def is_free(self, path: str) -> bool:
        """Tell whether a lock can be acquired at once."""
        lock = Lock(Pool(), parse(path) if path else ())
        if not lock.acquire(blocking=False):
            return False
        lock.release()
        return True
