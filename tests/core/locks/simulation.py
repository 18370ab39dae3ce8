"""Simulates lock clients: one store, a manual clock, and actors that run steps until they wait."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final, Generic, TypeVar

from redicts.backends.memory import MemoryBackend
from redicts.contract.clock import ManualClock
from redicts.core.backend import Backend, Capabilities
from redicts.core.driver import Await, Listen, Pause, Steps
from redicts.core.driver import Request as Asked
from redicts.core.listener import Listener
from redicts.core.locks.acquisition import AcquireOperations, Grant, Timing
from redicts.core.locks.records import Mode, Owner, Record, Request
from redicts.core.minitransaction import Entries, Key, Outcome, Path, Read, Scope, Transaction

LEASE: Final = 30_000
TIMING: Final = Timing()
SPACES: Final = ("h", "w", "n", "d", "f")

X, S = Mode.EXCLUSIVE, Mode.SHARED

Result = TypeVar("Result")


class Actor(Generic[Result]):
    """One operation that runs request by request until it waits."""

    def __init__(self, steps: Steps[Result], simulation: Simulation) -> None:
        self.stopped = False
        """Whether its process is stopped."""
        self.done = False
        self.result: Result | None = None
        self.error: BaseException | None = None
        self._steps = steps
        self._simulation = simulation
        self._listener: Listener | None = None
        self._until = 0.0
        self.asked: Asked | None = None
        self._advance(lambda: next(steps))

    @property
    def waits(self) -> bool:
        return isinstance(self.asked, Await)

    @property
    def due(self) -> float:
        """The end of its wait without a notification."""
        return self._until

    @property
    def ready(self) -> bool:
        """Whether it can run: it is notified, its wait is over, or it does not wait."""
        if self.done or self.stopped:
            return False
        if not self.waits or self._simulation.clock() >= self._until:
            return True
        assert self._listener is not None
        if self._listener.wait(0):
            self._until = self._simulation.clock()
            return True
        return False

    def step(self) -> None:
        """Carry out its request, or end its wait, and take the next request."""
        assert not self.done
        outcome: Outcome | None = None
        if isinstance(self.asked, Transaction):
            try:
                outcome = self._simulation.execute(self.asked)
            except BaseException as error:
                self.throw(error)
                return
        elif isinstance(self.asked, Listen):
            self._listener = self._simulation.backend.listen(self.asked.name)
        self._advance(lambda: self._steps.send(outcome))

    def throw(self, error: BaseException) -> None:
        """Raise an error in the operation, as Ctrl-C does."""
        self._advance(lambda: self._steps.throw(error))

    def run(self) -> None:
        """Run until it waits or is done."""
        for _ in range(10_000):
            if self.done:
                return
            self.step()
            if self.waits:
                return
        raise AssertionError("an operation runs without end and without waiting")

    def abandon(self) -> None:
        """Drop the operation, as a crash of its process does."""
        self._steps.close()
        self._end()

    def outcome(self) -> Result | None:
        """Return its result, or raise its error."""
        assert self.done, "it still waits"
        if self.error is not None:
            raise self.error
        return self.result

    def _advance(self, advance: Callable[[], Asked]) -> None:
        try:
            self.asked = advance()
        except StopIteration as stop:
            self.result = stop.value
            self._end()
        except BaseException as error:
            self.error = error
            self._end()
        else:
            if isinstance(self.asked, (Await, Pause)):
                self._until = self._simulation.clock() + self.asked.seconds

    def _end(self) -> None:
        self.done = True
        self.asked = None
        if self._listener is not None:
            self._listener.close()


class Simulation:
    """A store and the lock protocol on it; time passes only by :meth:`advance`."""

    def __init__(
        self, backend: Callable[[ManualClock], Backend] = MemoryBackend, timing: Timing = TIMING, process: str = "here"
    ) -> None:
        self.clock = ManualClock()
        self.backend = backend(self.clock)
        self.protocol = AcquireOperations(self.clock, self.clock, timing)
        self.actors: list[Actor[Grant | None]] = []
        self.sent: list[Transaction] = []
        self.watch: Callable[[], None] = lambda: None
        """Called whenever somebody has gone on, and whenever time has passed."""
        self._process = process
        self._requests = 0

    def execute(self, transaction: Transaction) -> Outcome:
        """Send a transaction of an actor."""
        self.sent.append(transaction)
        return self.backend.execute(transaction)

    def request(self, owner: str, *paths: Path, mode: Mode = X) -> Request:
        """Return a request of an owner; each came later than the one before."""
        self._requests += 1
        since = int(self.clock() * 1000) + self._requests
        named = Owner(f"{self._process}.{owner}", f"host {owner}")
        return Request(f"{self._process}/{self._requests}", named, mode, paths, since)

    def start(
        self, request: Request, timeout: float | None = None, own: Collection[Request] = (), lease: int = LEASE
    ) -> Actor[Grant | None]:
        """Begin to acquire a lock; return when it is acquired, refused or waited for."""
        actor = Actor(self.protocol.acquire(request, lease, timeout, own), self)
        self.actors.append(actor)
        if not actor.done:
            actor.run()
        return actor

    def hold(self, owner: str, *paths: Path, mode: Mode = X, own: Collection[Request] = ()) -> Request:
        """Acquire a lock that is free."""
        request = self.request(owner, *paths, mode=mode)
        assert self.start(request, own=own).outcome() is not None
        return request

    def do(self, steps: Steps[Result]) -> Result:
        """Run an operation that does not wait to its end. Notified clients go on with :meth:`settle`."""
        actor = Actor(steps, self)
        while not actor.done:
            assert not actor.waits
            actor.step()
        if actor.error is not None:
            raise actor.error
        return actor.result  # type: ignore[return-value]  # it has one, or has raised

    def release(self, request: Request) -> bool:
        """Release a lock, and let notified clients go on."""
        was_held = self.do(self.protocol.release(request))
        self.settle()
        return was_held

    def settle(self) -> None:
        """Run the clients that are notified or due until all wait."""
        for _ in range(1_000):
            ready = [actor for actor in self.actors if actor.ready]
            for actor in ready:
                actor.run()
                self.watch()
            if not ready:
                return
        raise AssertionError("somebody is notified again and again")

    def advance(self, seconds: float) -> None:
        """Let time pass; everybody does what is due when it is due."""
        end = self.clock() + seconds
        while True:
            self.settle()
            now = self.clock()
            waits = [actor.due for actor in self.actors if not actor.done and not actor.stopped]
            if now >= end:
                return
            self.clock.advance(max(min([*waits, end]) - now, 1e-6))
            self.watch()

    # Looking inside

    def entries(self, space: str) -> Entries:
        """Return all that lies in a space, with TTLs."""
        store = getattr(self.backend, "inner", self.backend)  # what lies beneath, without its limits
        (answer,) = store.execute(Transaction((), (Read(Key(space, ()), Scope.SUBTREE, ttls=True),))).answers
        assert isinstance(answer, Entries)
        return answer

    def records(self, space: str) -> list[Record]:
        """Return all that is held or waited for."""
        return self.do(self.protocol.find_locks([Key(space, ())]))

    def holders(self) -> set[tuple[str, Path]]:
        """Return who holds what."""
        return {(record.owner.partition(".")[2], record.path) for record in self.records("h")}

    def waiters(self) -> set[tuple[str, Path]]:
        """Return who waits for what."""
        return {(record.owner.partition(".")[2], record.path) for record in self.records("w")}

    def left(self) -> dict[str, int]:
        """Return how many values are left in each space but that of the token."""
        counts = {space: len(self.entries(space).values) for space in SPACES if space != "f"}
        return {space: count for space, count in counts.items() if count}


class Failing(Backend):
    """A memory store that lets one transaction fail, or all from that one on until it is mended."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.inner = MemoryBackend(clock)
        self.faults: Iterator[Callable[[Transaction], Outcome] | None] = iter(())

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def execute(self, transaction: Transaction, /) -> Outcome:
        fault = next(self.faults, None)
        return self.inner.execute(transaction) if fault is None else fault(transaction)

    def listen(self, name: str, /) -> Listener:
        return self.inner.listen(name)
