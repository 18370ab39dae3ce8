"""The fixture in which a check of a backend runs: clients, a space of its own, time, threads, and cleanup."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from redicts.contract.client import Client
from redicts.contract.form import entries_of, names_of
from redicts.contract.harness import Harness
from redicts.contract.requirements import NotRun, require, require_equal, shortened
from redicts.contract.spawned import OtherProcess, ProcessPool
from redicts.core.backend import Backend, Capabilities
from redicts.core.minitransaction import (
    VALUES,
    AnyRead,
    Check,
    Delete,
    Equals,
    Key,
    Path,
    Put,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
    Write,
)

LONG: Final = 600_000
"""A TTL in milliseconds that outlasts every check."""

SHORT: Final = 8
"""A TTL in milliseconds that ends in :meth:`Fixture.outlive`. No check relies on it *not* having ended."""

OUTLIVE: Final = 14
"""Milliseconds after which a short TTL has ended, also by a clock that counts whole ones."""

_SWITCH_INTERVAL: Final = 1e-5
"""Seconds between two switches of threads while looking for races: the usual 5 ms hide most of them."""

_AT_ONCE: Final = 100
"""The most entries that are read, compared and listed in one transaction: with the listings, below a thousand."""

_CHUNK: Final = 1000
"""The number of values that every store can write in one transaction."""


class Fixture:
    """The environment of one check.

    ``thorough`` asks a check to try longer. ``seed`` seeds random examples. ``timeout`` is how many seconds an
    operation may take that should take milliseconds, before it counts as hanging. ``processes`` are for all checks of
    one examination.
    """

    def __init__(self, harness: Harness, *, thorough: bool, seed: int, timeout: float, processes: ProcessPool) -> None:
        self.harness: Final = harness
        self._processes: Final = processes
        self.thorough: Final = thorough
        self.seed: Final = seed
        self.timeout: Final = timeout
        self._token: Final = uuid.uuid4().hex[:10]
        self._spaces: list[str] = []
        self._open: list[Backend] = []
        self._store: Client | None = None
        self._databases: list[Client] | None = None
        self.space: str = self.fresh_space()

    @property
    def store(self) -> Client:
        """The first client, opened when first needed."""
        if self._store is None:
            self._store = self.client()
        return self._store

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities that the store declares."""
        return self.store.capabilities

    @property
    def databases(self) -> Sequence[Client]:
        """Clients of other databases of the store, opened when first needed; empty if the harness offers none."""
        if self._databases is None:
            self._databases = [self._keep(backend) for backend in self.harness.databases()]
        return self._databases

    def client(self) -> Client:
        """Open another client; it is closed when the check ends."""
        return self._keep(self.harness.open())

    def lossy(self) -> Client:
        """Open a client whose replies can be lost, and use it once to set up its connection."""
        client = self._keep(self.harness.lossy())
        client.run()
        return client

    def through(self, harness: Harness) -> Fixture:
        """Return a fixture for a quick check of another kind of client of the store; close it."""
        return Fixture(harness, thorough=False, seed=self.seed, timeout=self.timeout, processes=self._processes)

    @contextmanager
    def other_processes(self, count: int) -> Iterator[list[OtherProcess]]:
        """Have so many other processes open the store, and close it with the block."""
        opener = self.harness.opener
        if opener is None:  # the check needs an opener
            raise NotRun("the harness has no opener", required=True)
        with self._processes.lend(opener, count, self.timeout) as others:
            yield others

    def close_clients(self) -> None:
        """Close all clients; :attr:`store` is a new one afterwards."""
        self._store = self._databases = None
        while self._open:
            self._open.pop().close()

    def fresh_space(self, after: str | None = None) -> str:
        """Return the name of an unused space; with ``after``, one whose name begins with that of another space.

        Every other one is a record space, see :data:`~redicts.core.minitransaction.RECORDS`. It is emptied when the
        check ends.
        """
        number = len(self._spaces)
        kind = "h" if (number % 2 == 0) is self.harness.records_first else "t"
        space = f"{kind}{self._token}s{number}" if after is None else f"{after}x"
        self._spaces.append(space)
        return space

    def renew(self) -> None:
        """Continue in a new space."""
        self.space = self.fresh_space()

    @contextmanager
    def section(self, end: str = "") -> Iterator[str]:
        """Give the name of an unused section of the tree of values, with this end, which is emptied at the end.

        For what only the space of values has, such as changes. All else is examined in spaces of the suite.
        """
        name = f"redicts-contract-{uuid.uuid4().hex}{end}"
        key = Key(VALUES, (name,))
        try:
            yield name
        finally:
            self.store.apply(Delete(key, Scope.SUBTREE))
            require_equal(dict(self.store.read(key)), {}, "after a Delete, the section holds")

    def key(self, *path: str) -> Key:
        """Return the key of a path in the current space; without segments, the root."""
        return Key(self.space, path)

    def plant(self, entries: Mapping[Path, bytes], ttl: int | None = None) -> None:
        """Continue in a new space that holds these entries, written a thousand at a time."""
        self.renew()
        writes = self.puts(entries, ttl)
        for start in range(0, len(writes), _CHUNK):
            self.store.apply(*writes[start : start + _CHUNK])

    def puts(self, entries: Mapping[Path, bytes], ttl: int | None = None) -> list[Write]:
        """Return the writes that store these entries."""
        return [Put(self.key(*path), value, ttl) for path, value in entries.items()]

    def expect(self, entries: Mapping[Path, bytes], client: Client | None = None) -> None:
        """Require that the space holds exactly these entries, by a read, by Equals, and by the names of every dict."""
        client = client or self.store
        root = self.key()
        below: dict[Path, set[str]] = {(): set(), **{path: set() for path in entries}}
        for path in entries:
            for depth, name in enumerate(path):
                below.setdefault(path[:depth], set()).add(name)
        paths = sorted(below)
        items: list[Check | AnyRead] = [Read(root, Scope.SUBTREE), Equals(root, Scope.SUBTREE, entries)]
        items += [ReadNames(self.key(*node)) for node in paths]
        # In one transaction, unless it might touch more values than every store supports.
        parts = [items] if len(entries) <= _AT_ONCE else [[item] for item in items]
        outcomes = [
            client.run(
                checks=[item for item in part if isinstance(item, (Equals, StartsWith))],
                reads=[item for item in part if isinstance(item, (Read, ReadNames))],
            )
            for part in parts
        ]
        statuses = {outcome.status.name for outcome in outcomes}
        require("TOO_LARGE" not in statuses, f"reading {len(entries)} entries is TOO_LARGE")
        found, *listings = [answer for outcome in outcomes for answer in outcome.answers]
        require_equal(dict(entries_of(found).values), dict(entries), "the space holds")
        require(
            all(outcome.applied for outcome in outcomes),
            "the space reads as expected, but Equals of these entries fails",
        )
        for node, listing in zip(paths, listings):
            if (listed := set(names_of(listing).names)) != below[node]:
                require_equal(listed, below[node], f"the names below {shortened(node)} are")

    def outlive(self) -> None:
        """Let time pass until every :data:`SHORT` TTL given so far has ended."""
        self.harness.advance(OUTLIVE / 1000)

    def lose_reply(self) -> None:
        """Have the reply to the next request of a lossy client lost. Raises ``NotRun`` if the harness cannot."""
        if not self.harness.drop_reply():
            raise NotRun("the harness cannot drop replies", required=self.harness.networked)

    def hold_request(self) -> None:
        """Keep the next request of a lossy client from the store; raises ``NotRun`` if the harness cannot."""
        if not self.harness.hold_request():
            raise NotRun("the harness cannot hold requests back", required=False)

    def losing_replies(self) -> AbstractContextManager[None]:
        """Have every reply to lossy clients lost inside the block; raises ``NotRun`` if the harness cannot."""
        return _switched_on(self.harness.drop_replies, "drop_replies")

    def silence(self) -> AbstractContextManager[None]:
        """Let nothing come through to or from lossy clients inside the block; raises ``NotRun`` if it cannot be had."""
        return _switched_on(self.harness.mute, "mute")

    def break_connections(self) -> None:
        """Break the connections of lossy clients; raises ``NotRun`` if the harness cannot."""
        if not self.harness.break_connections():
            raise NotRun("the harness does not offer break_connections", required=False)

    def deadline(self) -> Callable[[], None]:
        """Return a function that raises ``CheckFailed`` once the timeout has passed."""
        end = time.monotonic() + self.timeout

        def check() -> None:
            require(time.monotonic() < end, f"not finished within {self.timeout:g} seconds")

        return check

    def together(self, works: Sequence[Callable[[], object]], meanwhile: Iterable[Callable[[], object]] = ()) -> None:
        """Run ``works`` in a thread each, at once, and repeat ``meanwhile`` in a thread each until they have ended.

        Raises the first error of a thread, and ``CheckFailed`` if the threads do not end in time. Then nothing is
        emptied or closed when the check ends, because that might not end either.
        """
        race = _Race(works, meanwhile, self.timeout)
        try:
            race.run()
        finally:
            if race.hangs:
                self._open.clear()

    def close(self) -> None:
        """Empty all spaces, and close all clients."""
        try:
            if self._open:  # otherwise nothing was written
                for client in (self.store, *(self._databases or ())):
                    for space in self._spaces:
                        self._empty(client, space)
        finally:
            self.close_clients()

    def _keep(self, backend: Backend) -> Client:
        self._open.append(backend)
        return Client(backend)

    def _empty(self, client: Client, space: str) -> None:
        root = Key(space, ())
        if client.run(writes=(Delete(root, Scope.SUBTREE),)).status is not Status.TOO_LARGE:
            return
        in_time = self.deadline()
        while page := client.entries(Read(root, Scope.SUBTREE, limit=_CHUNK)).values:
            in_time()
            client.apply(*(Delete(Key(space, path), Scope.NODE) for path in page))


class _Race:
    """Threads that start together, with frequent switches between them, and a time limit."""

    def __init__(
        self, works: Iterable[Callable[[], object]], meanwhile: Iterable[Callable[[], object]], timeout: float
    ) -> None:
        self._works = [threading.Thread(target=self._once, args=(work,), daemon=True) for work in works]
        self._others = [threading.Thread(target=self._again, args=(work,), daemon=True) for work in meanwhile]
        self._start = threading.Barrier(len(self._works) + len(self._others))
        self._over = threading.Event()
        self._errors: list[BaseException] = []
        self._timeout = timeout
        self.hangs = False
        """Whether some threads did not end in time."""

    def run(self) -> None:
        """Start all, wait for all, and raise the first error."""
        usual = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_INTERVAL)
        try:
            for thread in (*self._works, *self._others):
                thread.start()
            self._wait(self._works, self._timeout)
            self._over.set()
            self._wait(self._others, 1)
            threads = (*self._works, *self._others)
            if self._errors:
                _join(threads, time.monotonic() + 1)  # they use the clients that are closed next
            self.hangs = any(thread.is_alive() for thread in threads)
            if self._errors:
                raise self._errors[0]
            require(not self.hangs, f"threads did not finish within {self._timeout:g} seconds; is there a deadlock?")
        finally:
            sys.setswitchinterval(usual)

    def _wait(self, threads: Iterable[threading.Thread], seconds: float) -> bool:
        """Wait for these threads or the first error; tell whether some are still running."""
        deadline = time.monotonic() + seconds
        while not self._errors and time.monotonic() < deadline and any(thread.is_alive() for thread in threads):
            _join(threads, min(deadline, time.monotonic() + 0.05))
        return any(thread.is_alive() for thread in threads)

    def _once(self, work: Callable[[], object]) -> None:
        try:
            self._start.wait(self._timeout)
            work()
        except BaseException as error:
            self._errors.append(error)

    def _again(self, work: Callable[[], object]) -> None:
        try:
            self._start.wait(self._timeout)
            work()
            while not self._over.is_set():
                work()
        except BaseException as error:
            self._errors.append(error)
            self._over.set()


@contextmanager
def _switched_on(hook: Callable[[bool], bool | None], name: str) -> Iterator[None]:
    """Switch a fault of a harness on inside the block; raises ``NotRun`` if the harness does not offer it."""
    if not hook(True):
        raise NotRun(f"the harness does not offer {name}", required=False)
    try:
        yield
    finally:
        hook(False)


def _join(threads: Iterable[threading.Thread], deadline: float) -> None:
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
