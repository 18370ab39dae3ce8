"""Fixtures of a server, processes on it, and a view of its locks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from redicts import Lock, Pool, Proxy
from redicts.core.locks.acquisition import Timing
from redicts.core.locks.records import HOLDERS, WAITERS, Record
from redicts.core.minitransaction import Key
from redicts.core.paths import parse
from tests.backends.redis_tools import Target, configuration, data
from tests.faults.actions import RETRIES, SOON
from tests.faults.processes import Process
from tests.support.servers import RedisServer, ServerOptions
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Site:
    """A server, processes on it, and the locks in its store as an outsider, this process, sees them."""

    def __init__(self, server: RedisServer, directory: Path, processes: contextlib.ExitStack, **cfg: Any) -> None:
        self.server: Final = server
        self._directory = directory
        self._processes = processes
        self.connect(**cfg)

    def connect(self, **cfg: Any) -> None:
        """Make this process a client of the server with these settings."""
        Pool().reload(cfg=configuration(self.server, **cfg))

    def start(
        self,
        number: int = 1,
        timing: Timing = SOON,
        *,
        deaf: bool = False,
        target: Target | None = None,
        **cfg: Any,
    ) -> list[Process]:
        """Start processes on the server, or on the proxy ``target``, which end with the test."""
        settings = configuration(target or self.server, **cfg)
        started = (Process(settings, self._directory, timing, deaf=deaf) for _ in range(number))
        return [self._processes.enter_context(process) for process in started]

    def _records(self, space: str) -> list[Record]:
        database = Pool().database()
        found = database.run(database.store.find_locks([Key(space, ())]))
        return sorted(found, key=lambda record: (record.since, record.request))

    def holders(self) -> list[Record]:
        """Return the records of held locks, with their TTLs."""
        return self._records(HOLDERS)

    def waiters(self) -> list[Record]:
        """Return the records of waiters, in order, with their TTLs."""
        return self._records(WAITERS)

    def requests_of(self, process: Process) -> list[str]:
        """Return the ids of the requests that a process holds or waits with."""
        owner = f":{process.pid}@"
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
            return {name for name in data(self.server) if not name.startswith((b"v:", b"f:"))}

        eventually(lambda: not left(), "nothing of any lock is left in the store", every=0.05)
        tokens = data(self.server).get(b"f:", {})
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


StartSite = Callable[..., Site]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[StartSite]:
    """Give a function that opens a site on a server."""
    with contextlib.ExitStack() as processes:
        yield lambda server, **cfg: Site(server, tmp_path, processes, **cfg)
    Pool().reload(cfg={"backend": "memory"})


@pytest.fixture
def site(open_site: StartSite, server: RedisServer) -> Site:
    """Give a site on the newest version."""
    return open_site(server)


@pytest.fixture
def any_site(open_site: StartSite, redis_server: RedisServer) -> Site:
    """Give a site on each version."""
    return open_site(redis_server)


@pytest.fixture
def start_site(open_site: StartSite) -> Iterator[StartSite]:
    """Give a function that opens a site on a server of its own, which the test may stop."""
    with contextlib.ExitStack() as servers:

        def start(**options: Unpack[ServerOptions]) -> Site:
            return open_site(servers.enter_context(RedisServer(**options)), retries=RETRIES)

        yield start
