"""The bench: what a check has at hand while it is examined, and what is tidied up afterwards."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

import hypothesis
from hypothesis.strategies import SearchStrategy

from redicts.contract.check import NotRun, require, require_equal, shortened
from redicts.contract.client import Client
from redicts.contract.form import entries_of, names_of
from redicts.contract.harness import Harness
from redicts.core.backend import Backend, Capabilities
from redicts.core.minitransaction import (
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
"""A TTL in milliseconds that no check lives to see the end of."""

SHORT: Final = 25
"""A TTL in milliseconds that :meth:`Fixture.outlive` lets run out. No check relies on it *not* having run out."""

OUTLIVE: Final = 45
"""Milliseconds that pass until a short TTL has run out beyond doubt, also by a clock that counts whole ones."""

_SWITCH_INTERVAL: Final = 1e-5
"""Seconds between two switches of threads while races are looked for: the usual 5 ms hide most of them."""

_AT_ONCE: Final = 100
"""Up to this many entries are read, checked and listed in one transaction: with the listings, fewer than a thousand."""

_CHUNK: Final = 1000
"""As many values as every store can write in one transaction."""

_Example = TypeVar("_Example")


class Fixture:
    """One check's place of work: clients, a space of its own, time, threads.

    ``thorough`` asks a check to try longer. ``seed`` is for whatever a check draws at random. ``timeout`` is how many
    seconds something may take that should take milliseconds, before it counts as hanging.
    """

    def __init__(self, harness: Harness, *, thorough: bool, seed: int, timeout: float) -> None:
        self.harness: Final = harness
        self.thorough: Final = thorough
        self.seed: Final = seed
        self.timeout: Final = timeout
        self._token: Final = f"t{uuid.uuid4().hex[:10]}"
        self._spaces: list[str] = []
        self._open: list[Backend] = []
        self._store: Client | None = None
        self.space: str = self.fresh_space()

    @property
    def store(self) -> Client:
        """The first client, opened when first needed."""
        if self._store is None:
            self._store = self.client()
        return self._store

    @property
    def capabilities(self) -> Capabilities:
        """What the store claims."""
        return self.store.capabilities

    def client(self) -> Client:
        """Open a further client; it is closed when the check ends."""
        return self._keep(self.harness.open())

    def lossy(self) -> Client:
        """Open a client whose replies can be lost, and use it once, so that its connection is set up."""
        client = self._keep(self.harness.lossy())
        client.run()
        return client

    def close_clients(self) -> None:
        """Close all clients; :attr:`store` is a new one afterwards."""
        self._store = None
        while self._open:
            self._open.pop().close()

    def fresh_space(self, beside: str | None = None) -> str:
        """Return the name of a space that nobody has used, if wanted one that begins with the name of another.

        It is emptied when the check ends.
        """
        space = f"{self._token}s{len(self._spaces)}" if beside is None else f"{beside}x"
        self._spaces.append(space)
        return space

    def renew(self) -> None:
        """Go on in a fresh space."""
        self.space = self.fresh_space()

    def key(self, *path: str) -> Key:
        """Return the key of a path in this check's space; without segments the root."""
        return Key(self.space, path)

    def plant(self, entries: Mapping[Path, bytes], ttl: int | None = None) -> None:
        """Go on in a fresh space that holds these entries, written a thousand at a time."""
        self.renew()
        writes = self.puts(entries, ttl)
        for start in range(0, len(writes), _CHUNK):
            self.store.apply(*writes[start : start + _CHUNK])

    def puts(self, entries: Mapping[Path, bytes], ttl: int | None = None) -> list[Write]:
        """Return the writes that store these entries."""
        return [Put(self.key(*path), value, ttl) for path, value in entries.items()]

    def expect(self, entries: Mapping[Path, bytes], client: Client | None = None) -> None:
        """Insist that the space holds exactly these entries, whichever way one looks at it."""
        client = client or self.store
        root = self.key()
        parents = {path[:depth] for path in entries for depth in range(len(path))} | {()}
        places = sorted({*parents, *entries})
        words: list[Check | AnyRead] = [Read(root, Scope.SUBTREE), Equals(root, Scope.SUBTREE, entries)]
        words += [ReadNames(self.key(*place)) for place in places]
        # All at once, unless that might touch more values than a store must be able to touch.
        parts = [words] if len(entries) <= _AT_ONCE else [[word] for word in words]
        outcomes = [
            client.run(
                checks=[word for word in part if isinstance(word, (Equals, StartsWith))],
                reads=[word for word in part if isinstance(word, (Read, ReadNames))],
            )
            for part in parts
        ]
        statuses = {outcome.status.name for outcome in outcomes}
        require("TOO_LARGE" not in statuses, f"looking at {len(entries)} entries is TOO_LARGE")
        found, *listings = [answer for outcome in outcomes for answer in outcome.answers]
        require_equal(dict(entries_of(found).values), dict(entries), "the space holds")
        require(
            all(outcome.applied for outcome in outcomes),
            "the space reads as expected, but a check for exactly these entries fails",
        )
        for place, listing in zip(places, listings):
            below = {path[len(place)] for path in entries if path[: len(place)] == place and len(path) > len(place)}
            require_equal(set(names_of(listing).names), below, f"the names below {shortened(place)} are")

    def outlive(self) -> None:
        """Let time pass until every :data:`SHORT` life given so far has run out."""
        self.harness.advance(OUTLIVE / 1000)

    def lose_reply(self) -> None:
        """Have the next request of a lossy client executed and its reply lost. Raises ``NotRun`` if that cannot be."""
        if not self.harness.drop_reply():
            raise NotRun("the harness cannot drop replies", demanded=self.harness.networked)

    def hold_request(self) -> None:
        """Keep the next request of a lossy client from the store; raises ``NotRun`` if that cannot be."""
        if not self.harness.hold_request():
            raise NotRun("the harness cannot hold requests back", demanded=False)

    def deadline(self) -> Callable[[], None]:
        """Return a function that raises ``CheckFailed`` once the timeout of this bench has run out."""
        end = time.monotonic() + self.timeout

        def check() -> None:
            require(time.monotonic() < end, f"not finished within {self.timeout:g} seconds")

        return check

    def together(self, works: Sequence[Callable[[], object]], meanwhile: Iterable[Callable[[], object]] = ()) -> None:
        """Run each of ``works`` in a thread, all at once; repeat each of ``meanwhile`` in a thread until they ended.

        Raises what the first failing one raised, and ``CheckFailed`` if they do not end in time.
        """
        _Race(works, meanwhile, self.timeout).run()

    def for_all(self, examples: SearchStrategy[_Example], count: int, examine: Callable[[_Example], object]) -> None:
        """Examine this many examples drawn with this bench's seed; a failing one is made smaller before it is shown."""

        @hypothesis.seed(self.seed)
        @hypothesis.settings(
            max_examples=count,
            database=None,
            deadline=None,
            print_blob=False,
            phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate, hypothesis.Phase.shrink),
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(examples)
        def each(example: _Example) -> None:
            examine(example)

        each()

    def close(self) -> None:
        """Empty all spaces used, and close all clients."""
        try:
            if self._open:  # otherwise nothing was written
                for space in self._spaces:
                    self._empty(space)
        finally:
            self.close_clients()

    def _keep(self, backend: Backend) -> Client:
        self._open.append(backend)
        return Client(backend)

    def _empty(self, space: str) -> None:
        root = Key(space, ())
        client = self.store
        if client.run(writes=(Delete(root, Scope.SUBTREE),)).status is not Status.TOO_LARGE:
            return
        in_time = self.deadline()
        while page := client.entries(Read(root, Scope.SUBTREE, limit=_CHUNK)).values:
            in_time()
            client.apply(*(Delete(Key(space, path), Scope.NODE) for path in page))


class _Race:
    """Threads that start atomically, with frequent switches between them, and an end that is waited for."""

    def __init__(
        self, works: Iterable[Callable[[], object]], meanwhile: Iterable[Callable[[], object]], timeout: float
    ) -> None:
        self._works = [threading.Thread(target=self._once, args=(work,), daemon=True) for work in works]
        self._others = [threading.Thread(target=self._again, args=(work,), daemon=True) for work in meanwhile]
        self._start = threading.Barrier(len(self._works) + len(self._others))
        self._over = threading.Event()
        self._errors: list[BaseException] = []
        self._timeout = timeout

    def run(self) -> None:
        """Start all, wait for all, and raise the first error."""
        usual = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_INTERVAL)
        try:
            for thread in (*self._works, *self._others):
                thread.start()
            self._wait(self._works, self._timeout)
            self._over.set()
            hanging = self._wait(self._others, 1) or any(thread.is_alive() for thread in self._works)
            if self._errors:
                _join((*self._works, *self._others), time.monotonic() + 1)  # they use what is closed next
                raise self._errors[0]
            require(not hanging, f"threads did not finish within {self._timeout:g} seconds; is there a deadlock?")
        finally:
            sys.setswitchinterval(usual)

    def _wait(self, threads: Iterable[threading.Thread], seconds: float) -> bool:
        """Wait for these threads, but not longer than for the first error; tell whether some go on."""
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


def _join(threads: Iterable[threading.Thread], deadline: float) -> None:
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
