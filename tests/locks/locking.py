"""What the tests of locks share: owners that do as they are told, a look into the store, and a store that fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, TypeVar

from redicts import ABSENT, Lock, Pool, Proxy
from redicts.api.opened import OpenedDatabase
from redicts.core.backend import Backend
from redicts.core.listener import Listener
from redicts.core.locks.acquisition import Timing
from redicts.core.minitransaction import Entries, Key, Outcome, Path, Read, Scope, Transaction
from redicts.errors import Unreachable
from tests.support.stores import Wrapped
from tests.support.waiting import TIMEOUT, eventually

QUICK: Final = Timing(waiter_ttl=6.0, heartbeat=0.2, first_heartbeat=0.1)
"""Times at which a deadlock is noticed soon."""

Result = TypeVar("Result")


class Somebody:
    """An owner of locks: one thread that does one thing after the other, as it is told."""

    def __init__(self, name: str = "somebody") -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    def does(self, what: Callable[..., Result], *arguments: Any) -> Result:
        """Let it do something, and return or raise what comes of it."""
        return self.begins(what, *arguments).result(TIMEOUT)

    def begins(self, what: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Let it begin to do something, which may take a while."""
        return self._thread.submit(what, *arguments)

    def __enter__(self) -> Somebody:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()


def try_lock(path: str) -> bool:
    """Try to acquire a lock without waiting, give it back, and tell whether it was free."""
    lock = Lock(Pool(), path)
    if not lock.acquire(blocking=False):
        return False
    lock.release()
    return True


def waiting(count: int, path: str = "") -> None:
    """Wait until so many requests wait for a lock on a place, on what is above, or on what is below."""
    lock = Lock(Pool(), path)
    eventually(lambda: len(lock.waiters()) == count, f"{count} wait for {path!r}")


def break_locks(path: str = "") -> None:
    """Break all locks on a place, on what is above, and on what is below, as an operator."""
    assert Lock(Pool(), path).break_locks()


def gone(path: str = "") -> None:
    """Wait until nobody holds a lock on a place, on what is above, or on what is below."""
    lock = Lock(Pool(), path)
    eventually(lambda: not lock.holders(), f"nobody holds a lock at {path!r}")


def in_store(tree: OpenedDatabase | None = None) -> dict[str, dict[Path, bytes]]:
    """Return what lies in the store of locks held, of waiters, and of what they wait for."""
    backend = (tree or Pool().database()).backend
    if isinstance(backend, Meddler):
        backend = backend.inner
    spaces = ("h", "w", "d")
    outcome = backend.execute(Transaction((), tuple([Read(Key(space, ()), Scope.BELOW) for space in spaces])))
    found = {}
    for space, answer in zip(spaces, outcome.answers):
        assert isinstance(answer, Entries)
        if answer.values:
            found[space] = dict(answer.values)
    return found


def nothing_is_left(tree: OpenedDatabase | None = None) -> None:
    """Wait until there is neither a lock nor a waiter in the store."""
    eventually(lambda: not in_store(tree), "no lock and no waiter is left in the store", within=10)


def own_threads() -> list[str]:
    """Return the names of the threads that redicts started and that still run."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("redicts-")]


def no_thread_is_left() -> None:
    """Wait until every thread that redicts started has ended."""
    eventually(lambda: not own_threads(), "no thread of redicts is left", within=5)


class Meddler(Wrapped):
    """A backend in front of the one in use that fails, on request, for one thread or for all."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.fails: Callable[[int], bool] = lambda _: False
        """Tells of the number of a transaction, from 0 on, whether it fails."""
        self.applies = False
        """Whether a transaction that fails is applied all the same."""
        self.maybe_applied = True
        """What the error says of that."""
        self.victim: Callable[[], bool] = lambda: True
        """Tells whether the running thread's transactions are counted."""
        self.count = 0
        self.failed = 0
        self.hear: Callable[[Listener], Listener] = lambda listener: listener
        """Puts something in front of a listener."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if not self.victim():
            return self.inner.execute(transaction)
        number = self.count
        self.count += 1
        self.transactions.append(transaction)
        if not self.fails(number):
            return self.inner.execute(transaction)
        self.failed += 1
        if self.applies:
            self.inner.execute(transaction)
        raise Unreachable("the store cannot be reached", maybe_applied=self.maybe_applied)

    def listen(self, name: str, /) -> Listener:
        return self.hear(self.inner.listen(name))

    def begin(self) -> None:
        """Count from 0 on."""
        self.count = self.failed = 0
        self.transactions.clear()


def meddler() -> Meddler:
    """Put a backend that can fail in front of the one in use, until the pool is reloaded."""
    tree = Pool().database()
    found = Meddler(tree.backend)
    tree.backend = found
    return found


@contextmanager
def counted(store: Meddler) -> Iterator[list[Transaction]]:
    """Collect the transactions of this thread within a block."""
    thread = threading.get_ident()
    store.victim = lambda: threading.get_ident() == thread
    store.begin()
    yield store.transactions
    store.victim = lambda: True


WRITES: Final[dict[str, Callable[[Proxy], object]]] = {
    "set": lambda place: place.set("n", 7),
    "set of the place itself": lambda place: place.set([], 7),
    "set with a TTL": lambda place: place.set("n", 7, expire=100),
    "delete": lambda place: place.delete("n"),
    "clear": lambda place: place.clear(),
    "add": lambda place: place["n"].add(1),
    "add of a float": lambda place: place["n"].add(0.5),
    "add of a big integer": lambda place: place["n"].add(10**30),
    "update": lambda place: place.update({"m": 7}),
    "update_with": lambda place: place.update_with(lambda old: {**old, "m": 7}),
    "update_with of a leaf": lambda place: place["n"].update_with(lambda old: old + 1),
    "update_with that removes": lambda place: place.update_with(lambda _: ABSENT),
    "compare_and_set": lambda place: place["n"].compare_and_set(1, 7),
    "compare_and_set of a dict": lambda place: place["x"].compare_and_set({"y": 2}, {"z": 7}),
    "pop": lambda place: place.pop("n"),
    "pop with a default": lambda place: place.pop("n", None),
    "setdefault": lambda place: place.setdefault("m", 7),
    "expire": lambda place: place.expire(100),
    "item assignment": lambda place: place.__setitem__("n", 7),
    "item deletion": lambda place: place.__delitem__("n"),
    "transaction that sets": lambda place: in_transaction(place, lambda changes: changes.set("n", 7)),
    "transaction that deletes": lambda place: in_transaction(place, lambda changes: changes.delete("n")),
    "transaction that adds": lambda place: in_transaction(place, lambda changes: changes.add("n", 1)),
    "transaction that gives a TTL": lambda place: in_transaction(place, lambda changes: changes.expire([], 100)),
}
"""Every way to write at a place that holds :data:`BEFORE`; each changes something there."""

BEFORE: Final = {"n": 1, "x": {"y": 2}}


def in_transaction(place: Proxy, change: Callable[[Any], object]) -> None:
    """Make one change in a transaction."""
    with place.transaction() as changes:
        change(changes)


def prepared(path: str) -> Proxy:
    """Store :data:`BEFORE` at a place, without a TTL."""
    place = Proxy(path)
    place.set([], BEFORE)
    return place


def is_untouched(place: Proxy) -> bool:
    """Tell whether a place is as :func:`prepared` left it."""
    return bool(place.val() == BEFORE) and place.time_to_live() == -1
