"""Locks on the bench: owners who use core's lock protocol on the store under examination.

Each check has the spaces of the protocol for itself, under names of its own. So it may lock the root and count tokens,
whatever the store holds besides.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from redicts.codecs.json import JsonCodec
from redicts.contract.check import CheckFailed, require, require_equal, shortened
from redicts.contract.client import Client
from redicts.contract.fixture import LONG, Fixture
from redicts.contract.listening import fresh_name
from redicts.core.backend import Backend, Capabilities
from redicts.core.driver import Steps, run
from redicts.core.envelope import LeafFormat
from redicts.core.listener import Listener
from redicts.core.locks.acquisition import Grant, Timing
from redicts.core.locks.guards import guarded
from redicts.core.locks.operations import LockOperations
from redicts.core.locks.records import (
    HOLDERS,
    LISTENERS,
    TOKENS,
    WAITERS,
    WAITING_FOR,
    Mode,
    Owner,
    Record,
    Request,
)
from redicts.core.minitransaction import VALUES, Equals, Key, Outcome, Path, Read, Scope, Transaction
from redicts.core.store import TreeStore
from redicts.errors import LockLost, LockTimeout

_SPACES: Final = (HOLDERS, WAITERS, LISTENERS, WAITING_FOR, TOKENS.space, VALUES)

_LONGEST_WAIT: Final = 10.0
"""Seconds to wait for a lock, if half the timeout of a bench does not end before, which is that of a race as well."""

_IN_TIME: Final = 0.9
"""Which part of that time has passed at most when a lock is granted that somebody was notified for."""

UNHURRIED: Final = Timing(waiter_ttl=60.0, heartbeat=20.0, first_heartbeat=20.0)
"""The times of waiters who do not look for themselves before a check is over: they rely on being notified."""

_MOST_CALLS: Final = 3_000
"""So many transactions no operation of a check takes, not even one that looks for itself time and again for seconds."""

_moments: Final = itertools.count(int(time.time() * 1000))
"""When requests were made, in milliseconds: so that of any two of one process it is known which came last."""

_Result = TypeVar("_Result")


LockSpaces = Mapping[str, str]
"""By the name of a space of the lock protocol, the name of the one that a check has in its stead."""


def lock_spaces(fixture: Fixture, *, new: bool = False) -> LockSpaces:
    """Return spaces for the locks of one check; they are emptied when it ends.

    Unless they shall be ``new``, a lock was granted there before, and so there is a counter of tokens.
    """
    spaces = {space: fixture.fresh_space() for space in _SPACES}
    if not new:
        require(Locker(fixture.store, spaces).can(("first",)), "the first lock of a tree was not granted")
    return spaces


def lockers(fixture: Fixture, count: int) -> list[Locker]:
    """Return owners of locks in one tree, on two clients in turn."""
    spaces, clients = lock_spaces(fixture), (fixture.store, fixture.client())
    return [Locker(clients[number % 2], spaces) for number in range(count)]


class Locker:
    """One owner of locks on one client. To be used by one thread, like any owner.

    Waiting goes by ``clock``, in seconds: that of the process, or one that a check moves by hand. ``own`` are the locks
    that it holds, as far as it knows.
    """

    def __init__(
        self,
        client: Client,
        spaces: LockSpaces,
        clock: Callable[[], float] = time.monotonic,
        timing: Timing = UNHURRIED,
    ) -> None:
        self.backend: Final = _InSpaces(client, spaces)
        self.protocol: Final = LockOperations(clock, time.time, timing)
        self.owner: Final = Owner(fresh_name().replace("/", "."), "somebody")
        self.own: Final[list[Request]] = []
        self._tree: Final = (spaces, clock)
        self._values: Final = TreeStore(LeafFormat(JsonCodec()), client.capabilities.atomic_entries)

    def another(self, client: Client | None = None, timing: Timing = UNHURRIED) -> Locker:
        """Return another owner in the same tree, perhaps on another client, who waits by the same clock."""
        return Locker(client or self.backend.client, *self._tree, timing)

    def request(self, *paths: Path, shared: bool = False) -> Request:
        """Return a request for a lock on these paths."""
        mode = Mode.SHARED if shared else Mode.EXCLUSIVE
        return Request(fresh_name(), self.owner, mode, paths, next(_moments))

    def run(self, steps: Steps[_Result]) -> _Result:
        """Run an operation to its end. It is not let go on for ever, which it does on some stores that are broken."""
        self.backend.most = self.backend.calls + _MOST_CALLS
        return run(steps, self.backend)

    # Acquiring

    def attempt(self, request: Request, lease: int = LONG) -> Grant | None:
        """Acquire a lock without waiting; return ``None`` if it is not free."""
        return self._noted(request, self.run(self.protocol.acquire(request, lease, 0, list(self.own))))

    def can(self, *paths: Path, shared: bool = False) -> bool:
        """Tell whether a lock can be had without waiting. If so, it is given back."""
        request = self.request(*paths, shared=shared)
        if self.attempt(request) is None:
            return False
        require(self.release(request), f"a lock on {shortened(paths)} is gone as soon as it was granted")
        return True

    def take(self, *paths: Path, shared: bool = False, lease: int = LONG) -> Request:
        """Acquire a lock that must be free."""
        return self.take_with_token(*paths, shared=shared, lease=lease)[0]

    def take_with_token(self, *paths: Path, shared: bool = False, lease: int = LONG) -> tuple[Request, int]:
        """Acquire a lock that must be free, and return its token as well."""
        request = self.request(*paths, shared=shared)
        grant = self.attempt(request, lease)
        require(grant, f"a free {_kind(shared)} lock on {shortened(paths)} was not granted")
        assert grant is not None
        return request, grant.token

    def wait_for(self, *paths: Path, timeout: float, shared: bool = False, lease: int = LONG) -> tuple[Request, int]:
        """Acquire a lock that becomes free sooner or later, and return its token as well."""
        request = self.request(*paths, shared=shared)
        seconds, begun = min(timeout / 2, _LONGEST_WAIT), time.monotonic()
        try:
            grant = self.run(self.protocol.acquire(request, lease, seconds, list(self.own)))
        except LockTimeout as error:
            raise CheckFailed(f"within {seconds:g} seconds, {error}") from None
        self._noted(request, grant)
        # Before it gives up, it looks for itself.
        notified = time.monotonic() - begun < _IN_TIME * seconds
        require(notified, f"one who waits for a lock on {shortened(paths)} was not notified within {seconds:g} seconds")
        assert grant is not None  # it has waited
        return request, grant.token

    def _noted(self, request: Request, grant: Grant | None) -> Grant | None:
        if grant is not None:
            self.own.append(request)
        return grant

    # What is done with a lock

    def release(self, request: Request) -> bool:
        """Give a lock back, and tell whether it was held."""
        if request in self.own:
            self.own.remove(request)
        return self.run(self.protocol.release(request))

    def renew(self, request: Request, lease: int = LONG) -> bool:
        """Let a lease begin again, and tell whether the lock was held."""
        (held,) = self.run(self.protocol.renew([(request, lease)]))
        return held

    def withdraw(self, request: Request) -> None:
        """Remove whatever a request has in the store."""
        if request in self.own:
            self.own.remove(request)
        self.run(self.protocol.withdraw(request))

    def break_locks(self, *paths: Path) -> None:
        """Remove the locks that are held at and below these paths, whoever holds them."""
        held = [record for record in self.records() if any(record.path[: len(path)] == path for path in paths)]
        self.run(self.protocol.break_locks(record for record in held if record.held))

    def write(self, request: Request, path: Path, value: object) -> bool:
        """Write a value on condition that a lock is held; tell whether that was done."""
        return self.change(request, lambda values: values.write(path, value))

    def change(self, request: Request, operation: Callable[[TreeStore], Steps[object]]) -> bool:
        """Run an operation on the tree on condition that a lock is held; tell whether that was done."""
        guards = tuple([Equals(key, Scope.NODE, {(): request.record}) for key in request.keys(HOLDERS)])
        try:
            self.run(guarded(operation(self._values), guards, _refusal))
        except LockLost:
            return False
        return True

    def count(self, request: Request, path: Path) -> bool:
        """Read a number, 0 if there is none, and write the next one on condition that a lock is held."""
        number = self.value(path)
        return self.write(request, path, number + 1 if isinstance(number, int) else 1)

    def tell(self, path: Path, value: object) -> None:
        """Write a value, without a condition."""
        self.run(self._values.write(path, value))

    def value(self, path: Path) -> object:
        """Return the value at a path, without a condition."""
        return self.run(self._values.read(path))

    # What is there

    def records(self) -> list[Record]:
        """Return all locks that are held and waited for."""
        return self.run(self.protocol.find_locks([Key(HOLDERS, ()), Key(WAITERS, ())]))

    def held(self) -> set[str]:
        """Return the names of the requests that are granted."""
        return {record.request for record in self.records() if record.held}

    def waiting(self) -> set[str]:
        """Return the names of the requests that wait."""
        return {record.request for record in self.records() if not record.held}

    def listed(self) -> int:
        """Return how many are on the list of somebody whose going they wait for."""
        return len(self.all_in(LISTENERS))

    def ttl(self, request: Request) -> int:
        """Return for how many milliseconds a lock is held yet."""
        ttls = [record.ttl for record in self.records() if record.request == request.name]
        require(ttls and ttls[0] is not None, f"a lock on {shortened(request.paths)} that is held has no TTL")
        assert ttls[0] is not None
        return ttls[0]

    def require_nothing_left(self) -> None:
        """Insist that locks have left nothing behind but the counter of tokens."""
        for space in (HOLDERS, WAITERS, WAITING_FOR, LISTENERS):
            require_equal(self.all_in(space), {}, f"when all is given back, in the space {space!r} of the locks lies")

    def all_in(self, space: str) -> dict[Path, bytes]:
        """Return all values in one of the spaces of the protocol."""
        outcome = self.execute(Transaction((), (Read(Key(space, ()), Scope.SUBTREE),)))
        return dict(outcome.answers[0].values)

    def execute(self, transaction: Transaction) -> Outcome:
        """Execute a transaction on the spaces of the protocol."""
        self.backend.most = self.backend.calls + _MOST_CALLS
        return self.backend.execute(transaction)


class _InSpaces(Backend):
    """A store as the lock protocol sees it in which the spaces are those of a check. It counts the transactions."""

    def __init__(self, client: Client, spaces: Mapping[str, str]) -> None:
        self.client: Final = client
        self.calls = 0
        self.most = 0
        self._spaces: Final = spaces

    @property
    def capabilities(self) -> Capabilities:
        return self.client.capabilities

    def execute(self, transaction: Transaction, /) -> Outcome:
        self.calls += 1
        require(self.calls <= self.most, f"after {_MOST_CALLS} transactions, one operation on locks has not ended")
        checks, reads, writes = transaction
        return self.client.execute(
            Transaction(
                tuple([check._replace(key=self._key(check.key)) for check in checks]),
                tuple([read._replace(key=self._key(read.key)) for read in reads]),
                tuple([write._replace(key=self._key(write.key)) for write in writes]),
            )
        )

    def listen(self, name: str, /) -> Listener:
        return self.client.listen(name)

    def _key(self, key: Key) -> Key:
        return Key(self._spaces[key.space], key.path)


def _refusal(_guard: int) -> Steps[Exception]:
    yield from ()
    return LockLost("the lock is held no more")


def _kind(shared: bool) -> str:
    return "shared" if shared else "exclusive"
