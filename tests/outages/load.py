"""Clients that write all the time, and an oracle that knows what each write must have left in the store.

Each transaction of a client sets two leaves that are named by its number, and adds one to a counter, all in the section
of that client. So afterwards the store tells of each write whether it is there, whole, and how often it was applied.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import redicts
from redicts import LockError, StoreError, aio
from tests.outages.table import Row
from tests.support.proxy import FaultyProxy
from tests.support.waiting import TIMEOUT, eventually

if TYPE_CHECKING:
    from typing_extensions import Self

_PAUSE_SECS: Final = 0.01
"""How long a client waits before it tries again after an error."""

_BEFORE: Final = 30
_AFTER: Final = 30
"""How many writes each client makes before and after a fault, at least."""

_DROPPING_SECS: Final = 4.0

_GUARDED: Final = "guarded"
"""The section of the clients that write under one lock, in turn."""


class Done(NamedTuple):
    """An acknowledged write: its number, when its call began and ended, and the fencing token of its lock."""

    number: str
    begun: float
    ended: float
    token: int = 0


class Client:
    """One client, which opens a database of its own and writes until it is told to end."""

    def __init__(self, name: str, section: str, write: Callable[[Client], None]) -> None:
        self.name: Final = name
        self.section: Final = section
        self.done: Final[list[Done]] = []
        self.errors: Final[dict[str, int]] = {}
        self.failure: BaseException | None = None
        self.ends: Final = threading.Event()
        self._number = 0
        self._thread: Final = threading.Thread(target=self._run, args=(write,), name=name, daemon=True)
        self._thread.start()

    def _run(self, write: Callable[[Client], None]) -> None:
        try:
            write(self)
        except BaseException as error:
            self.failure = error

    def next_number(self) -> str:
        """Return the name of the next write."""
        self._number += 1
        return f"{self.name}-{self._number}"

    def failed(self, error: Exception) -> None:
        """Count an error that the caller of a write sees."""
        name = type(error).__name__
        self.errors[name] = self.errors.get(name, 0) + 1

    def end(self) -> None:
        """Wait until the client has ended."""
        self.ends.set()
        self._thread.join(3 * TIMEOUT)
        assert not self._thread.is_alive(), f"{self.name} ends"
        if self.failure is not None:
            raise self.failure


class Load:
    """Clients on one store: threads, tasks of asyncio, and threads that write under one lock; ``with`` ends them."""

    def __init__(self, cfg: Mapping[str, Any], threads: int = 3) -> None:
        logging.getLogger("redicts.locks").addHandler(logging.NullHandler())  # outages are what it is about
        self._cfg: Final = dict(cfg)
        names = [f"thread{number}" for number in range(threads)]
        self.clients: Final = [
            *[Client(name, name, self._write) for name in names],
            Client("task", "task", self._write_in_task),
            *[Client(f"owner{number}", _GUARDED, self._write_guarded) for number in range(2)],
        ]

    def _write(self, client: Client) -> None:
        with redicts.open(self._cfg) as database:
            node = database.section(client.section)
            while not client.ends.is_set():
                number, begun = client.next_number(), time.monotonic()
                try:
                    with node.transaction() as changes:
                        _collect(changes, number)
                except StoreError as error:
                    client.failed(error)
                    time.sleep(_PAUSE_SECS)
                else:
                    client.done.append(Done(number, begun, time.monotonic()))

    def _write_in_task(self, client: Client) -> None:
        async def write() -> None:
            async with aio.open(self._cfg) as database:
                node = database.section(client.section)
                while not client.ends.is_set():
                    number, begun = client.next_number(), time.monotonic()
                    try:
                        async with node.transaction() as changes:
                            _collect(changes, number)
                    except StoreError as error:
                        client.failed(error)
                        await asyncio.sleep(_PAUSE_SECS)
                    else:
                        client.done.append(Done(number, begun, time.monotonic()))

        asyncio.run(write())

    def _write_guarded(self, client: Client) -> None:
        with redicts.open(self._cfg) as database:
            node = database.section(client.section, lock_acquire_timeout=1, lock_expire_timeout=1)
            while not client.ends.is_set():
                try:
                    with node:
                        number, begun, token = client.next_number(), time.monotonic(), node.lock().token
                        with node.transaction() as changes:
                            _collect(changes, number)
                        client.done.append(Done(number, begun, time.monotonic(), token or 0))
                except (StoreError, LockError) as error:
                    client.failed(error)
                    time.sleep(_PAUSE_SECS)

    def wait_for(self, writes: int, since: float = 0.0) -> None:
        """Wait until each client has so many acknowledged writes that began after a time of ``time.monotonic``."""

        def reached() -> bool:
            for client in self.clients:
                if client.failure is not None:
                    raise client.failure
            return all(sum(each.begun >= since for each in client.done) >= writes for client in self.clients)

        eventually(reached, f"each client has written {writes} times", within=3 * TIMEOUT, every=0.05)

    def end(self) -> None:
        """End the clients."""
        for client in self.clients:
            client.ends.set()
        for client in self.clients:
            client.end()

    def disturbed(self, disturb: Callable[[], float]) -> tuple[float, float]:
        """Disturb the servers amid the writes, wait until each client writes again, and end the clients.

        Returns the times of the fault, and of when the servers had agreed again, which ``disturb`` returns.
        """
        self.wait_for(_BEFORE)
        fault = time.monotonic()
        agreed = disturb()
        self.wait_for(_AFTER, since=agreed)
        self.end()
        return fault, agreed

    def row(self, scenario: str, fault: float, agreed: float) -> Row:
        """Read the store with a new client, and return what the outage cost.

        ``fault`` and ``agreed`` are the times of the fault, and of when the servers had agreed on what follows. The
        clients that write under a lock may have to wait for a lease. So theirs are not the seconds of the row.
        """
        acknowledged = lost = twice = half = 0
        with redicts.open(self._cfg) as database:
            for section in {client.section for client in self.clients}:
                found = database.section(section).val({})
                first, second = set(found.get("first", {})), set(found.get("second", {}))
                done = {each.number for client in self.clients if client.section == section for each in client.done}
                acknowledged += len(done)
                lost += len(done - first)
                twice += max(0, found.get("count", 0) - len(first | second))
                half += max(len(first ^ second), len(first | second) - found.get("count", 0))
        back = [_next_end(client.done, agreed) for client in self.clients if client.section != _GUARDED]
        return Row(
            scenario=scenario,
            acknowledged=acknowledged,
            lost=lost,
            twice=twice,
            half=half,
            overlaps=_overlaps([each for client in self.clients for each in client.done if each.token]),
            client_secs=max(0.0, max(back) - agreed),
            total_secs=max(back) - fault,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for client in self.clients:
            client.ends.set()
        if error is None:
            self.end()


def _collect(changes: Any, number: str) -> None:
    changes.set(["first", number], 1)
    changes.set(["second", number], 1)
    changes.add("count", 1)


def _next_end(done: list[Done], since: float) -> float:
    """Return when the first acknowledged write ended after a time."""
    return next(each.ended for each in done if each.ended >= since)


def _overlaps(done: list[Done]) -> int:
    """Count the guarded writes that began after one with a later token had ended, and were acknowledged all the same.

    Such a writer held no lock any more. Two writers with the same token count too.
    """
    latest, count = 0, 0
    events = sorted([(each.ended, 1, each) for each in done] + [(each.begun, 0, each) for each in done])
    for _, is_end, each in events:
        if is_end:
            latest = max(latest, each.token)
        elif each.token < latest:
            count += 1
    owners: dict[int, str] = {}
    for each in done:
        client = each.number.partition("-")[0]
        count += owners.setdefault(each.token, client) != client
    return count


def drop_each_third_reply(proxies: Collection[FaultyProxy]) -> float:
    """Lose each third reply that passes some proxies for a while; return when none is lost any more."""
    ends = time.monotonic() + _DROPPING_SECS
    while time.monotonic() < ends:
        idle = [proxy for proxy in proxies if proxy.pending < 100]
        for proxy in idle:
            proxy.drop_replies()
            proxy.pass_requests(2)
        if not idle:
            time.sleep(0.001)
    for proxy in proxies:
        proxy.clear()
    return time.monotonic()
