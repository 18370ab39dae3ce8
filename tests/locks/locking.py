"""Helpers for tests of locks: owners in threads, access to the lock records, and a backend with faults."""

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
"""Intervals with which deadlocks are found soon."""

Result = TypeVar("Result")
Owner = TypeVar("Owner", bound="Somebody")


class Somebody:
    """A lock owner: one thread that runs calls one after the other."""

    def __init__(self, name: str = "somebody") -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    def does(self, what: Callable[..., Result], *arguments: Any) -> Result:
        """Run a call in the thread, and return its result or raise its exception."""
        return self.begins(what, *arguments).result(TIMEOUT)

    def begins(self, what: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Start a call in the thread, and return its future."""
        return self._thread.submit(what, *arguments)

    def __enter__(self: Owner) -> Owner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()


def try_lock(path: str) -> bool:
    """Try to acquire a lock without waiting, release it, and return whether it was free."""
    lock = Lock(Pool(), path)
    if not lock.acquire(blocking=False):
        return False
    lock.release()
    return True


def waiting(count: int, path: str = "") -> None:
    """Wait until so many requests wait for a lock on a path, above it or below it."""
    lock = Lock(Pool(), path)
    eventually(lambda: len(lock.waiters()) == count, f"{count} wait for {path!r}")


def break_locks(path: str = "") -> None:
    """Break all locks on a path, above it and below it, as an operator."""
    assert Lock(Pool(), path).break_locks()


def gone(path: str = "") -> None:
    """Wait until no owner holds a lock on a path, above it or below it."""
    lock = Lock(Pool(), path)
    eventually(lambda: not lock.holders(), f"nobody holds a lock at {path!r}")


def in_store(database: OpenedDatabase | None = None) -> dict[str, dict[Path, bytes]]:
    """Return the lock records in the store: held locks, waiters, and their links."""
    backend = (database or Pool().database()).backend
    if isinstance(backend, Meddler):
        backend = backend.inner
    spaces = ("h", "w", "d")
    outcome = backend.execute(Transaction((), tuple([Read(Key(space, ()), Scope.BELOW, 1_000) for space in spaces])))
    found = {}
    for space, answer in zip(spaces, outcome.answers):
        assert isinstance(answer, Entries)
        if answer.values:
            found[space] = dict(answer.values)
    return found


def nothing_is_left(database: OpenedDatabase | None = None) -> None:
    """Wait until there are no lock records in the store."""
    eventually(lambda: not in_store(database), "no lock and no waiter is left in the store", within=10)


def own_threads() -> list[str]:
    """Return the names of the threads that redicts started and that still run."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("redicts-")]


def no_thread_is_left() -> None:
    """Wait until every thread that redicts started has ended."""
    eventually(lambda: not own_threads(), "no thread of redicts is left", within=5)


class Meddler(Wrapped):
    """A backend that wraps another one and injects faults, for one thread or for all."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.fails: Callable[[int], bool] = lambda _: False
        """Returns whether the transaction with this number, from 0 on, fails."""
        self.applies = False
        """Whether a failing transaction is applied."""
        self.maybe_applied = True
        """The attribute of the raised error."""
        self.victim: Callable[[], bool] = lambda: True
        """Returns whether transactions of the running thread are counted."""
        self.count = 0
        self.failed = 0
        self.hear: Callable[[Listener], Listener] = lambda listener: listener
        """Wraps a listener."""

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
        """Reset the count of transactions."""
        self.count = self.failed = 0
        self.transactions.clear()


def meddler() -> Meddler:
    """Wrap the backend of the pool for fault injection, until the pool is reloaded."""
    database = Pool().database()
    found = Meddler(database.backend)
    database.backend = found
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
    "set": lambda proxy: proxy.set("n", 7),
    "set of the path itself": lambda proxy: proxy.set([], 7),
    "put": lambda proxy: proxy.put({"m": 7}),
    "set with a TTL": lambda proxy: proxy.set("n", 7, expire=100),
    "delete": lambda proxy: proxy.delete("n"),
    "clear": lambda proxy: proxy.clear(),
    "add": lambda proxy: proxy["n"].add(1),
    "add of a float": lambda proxy: proxy["n"].add(0.5),
    "add of a big integer": lambda proxy: proxy["n"].add(10**30),
    "update": lambda proxy: proxy.update({"m": 7}),
    "update_with": lambda proxy: proxy.update_with(lambda old: {**old, "m": 7}),
    "update_with of a leaf": lambda proxy: proxy["n"].update_with(lambda old: old + 1),
    "update_with that removes": lambda proxy: proxy.update_with(lambda _: ABSENT),
    "compare_and_set": lambda proxy: proxy["n"].compare_and_set(1, 7),
    "compare_and_set of a dict": lambda proxy: proxy["x"].compare_and_set({"y": 2}, {"z": 7}),
    "pop": lambda proxy: proxy.pop("n"),
    "pop with a default": lambda proxy: proxy.pop("n", None),
    "setdefault": lambda proxy: proxy.setdefault("m", 7),
    "expire": lambda proxy: proxy.expire(100),
    "item assignment": lambda proxy: proxy.__setitem__("n", 7),
    "item deletion": lambda proxy: proxy.__delitem__("n"),
    "transaction that sets": lambda proxy: in_transaction(proxy, lambda changes: changes.set("n", 7)),
    "transaction that deletes": lambda proxy: in_transaction(proxy, lambda changes: changes.delete("n")),
    "transaction that adds": lambda proxy: in_transaction(proxy, lambda changes: changes.add("n", 1)),
    "transaction that gives a TTL": lambda proxy: in_transaction(proxy, lambda changes: changes.expire([], 100)),
}
"""Every kind of write to a path with the value :data:`BEFORE`; each changes something there."""

BEFORE: Final = {"n": 1, "x": {"y": 2}}


def in_transaction(proxy: Proxy, change: Callable[[Any], object]) -> None:
    """Make one change in a transaction."""
    with proxy.transaction() as changes:
        change(changes)


def prepared(path: str) -> Proxy:
    """Store :data:`BEFORE` at a path, without a TTL."""
    proxy = Proxy(path)
    proxy.set([], BEFORE)
    return proxy


def is_untouched(proxy: Proxy) -> bool:
    """Return whether the value is as :func:`prepared` stored it."""
    return bool(proxy.val() == BEFORE) and proxy.time_to_live() == -1
