"""Several processes count under a lock: no update is lost, and waiting needs no polling."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, cast

import pytest

from redicts import Lock, Pool, Proxy
from tests.backends.redis_tools import calls, transactions
from tests.faults.actions import LONG, NEVER, SOON, acquire, count, counted, release
from tests.faults.conftest import Site
from tests.faults.processes import call_all, results
from tests.support.waiting import eventually

EACH: Final = 10_000 if LONG else 100
WITHIN: Final = 3_000 if LONG else 60
OURS: Final = {"config|resetstat", "config", "auth", "info"}
"""The commands that the test itself sends."""

pytestmark = pytest.mark.timeout(2 * WITHIN)


def add(times: int) -> None:
    """Count with ``add``."""
    for _ in range(times):
        with Proxy("a.b.c") as prox:
            prox.get("d").add(1)


def read_and_set(times: int) -> None:
    """Count with ``val`` and ``set``."""
    for _ in range(times):
        with Proxy("a.b.c") as prox:
            prox.set("d", prox.get("d").val(0) + 1)


@pytest.mark.parametrize(("action", "number", "each"), [(add, 2, EACH), (read_and_set, 4, EACH // 4)])
def test_no_update_is_lost_under_the_lock(
    any_site: Site,
    action: Callable[[int], None],
    number: int,
    each: int,
) -> None:
    """Several processes add, or read and set, under one lock: the total is exact, as in the example of redicts 1.0."""
    call_all(any_site.start(number), action, each, within=WITHIN)
    assert Proxy("a.b.c.d").val() == number * each
    any_site.nothing_is_left()


def test_updates_are_lost_without_the_lock(site: Site) -> None:
    """The tests above detect a lock that does not exclude."""
    processes = site.start(4)
    call_all(processes, unlock_everything)
    call_all(processes, read_and_set, 100, within=WITHIN)
    assert Proxy("a.b.c.d").val() < 400
    site.nothing_is_left()


def unlock_everything() -> None:
    """Make ``with proxy`` ineffective in this process."""
    Proxy.__enter__ = lambda self: cast("Proxy", self)  # type: ignore[method-assign]
    Proxy.__exit__ = lambda *_: None  # type: ignore[method-assign]


def test_every_release_notifies_the_next(any_site: Site) -> None:
    """Processes count that do not look by themselves: if one release notified none, one of them would never end."""
    call_all(any_site.start(4, NEVER), count, "a", EACH // 4, within=WITHIN)
    assert counted("a") == 4 * (EACH // 4)
    any_site.no_lock_is_left()


def test_every_release_notifies_the_next_on_overlapping_paths(any_site: Site) -> None:
    """The same for locks on the root, an inner node and leaves."""
    processes = any_site.start(4, NEVER)
    for process, path in zip(processes, ("", "a", "a.b", "a.c")):
        process.begin(lock_and_unlock, path, EACH // 4)
    results(processes, within=WITHIN)
    any_site.no_lock_is_left()


def lock_and_unlock(path: str, times: int) -> None:
    """Acquire and release a lock repeatedly."""
    for _ in range(times):
        with Lock(Pool(), path, acquire_timeout=None):
            pass


def test_waiting_costs_a_few_requests_per_heartbeat(site: Site) -> None:
    """A waiter sends at most three requests per heartbeat, and no others."""
    current_owner, *waiting = site.start(3)
    current_owner.call(acquire, "a")
    for waiter in waiting:
        site.queue(waiter, acquire, "a", acquire_timeout=60)
    begun = time.monotonic()
    site.server.command("CONFIG", "RESETSTAT")
    eventually(lambda: transactions(site.server) >= 3 * len(waiting), "the waiters look", every=0.1)
    requests = calls(site.server)
    heartbeats = (time.monotonic() - begun) / (0.8 * SOON.heartbeat) + 1
    sent = {name for name in requests if name.startswith(("eval", "fcall", "function", "subscribe", "script", "ping"))}
    assert len(sent & {"evalsha", "fcall"}) == len(sent) == 1
    assert transactions(site.server) <= len(waiting) * 3 * heartbeats
    assert requests.get("publish", 0) == 0
    current_owner.call(release, "a")


def test_waiting_costs_nothing_between_heartbeats(site: Site) -> None:
    """A waiter whose next heartbeat is minutes away sends nothing."""
    current_owner, waiter = site.start(2, NEVER)
    current_owner.call(acquire, "a", expire_timeout=300)
    site.queue(waiter, acquire, "a", acquire_timeout=60)

    def is_quiet() -> bool:
        site.server.command("CONFIG", "RESETSTAT")
        time.sleep(0.5)
        return calls(site.server).keys() <= OURS

    eventually(is_quiet, "a waiter that is in the queue, and listens, sends nothing for half a second")
    current_owner.call(release, "a")
    assert waiter.result()


def test_nested_locks_send_nothing(site: Site) -> None:
    """Acquiring and releasing a path that a held lock covers sends nothing to the site.server."""
    (process,) = site.start()
    process.call(acquire, "a")
    site.server.command("CONFIG", "RESETSTAT")
    for _ in range(3):
        process.call(acquire, "a")
        process.call(acquire, "a.b", shared=True)
    for _ in range(3):
        process.call(release, "a.b")
        process.call(release, "a")
    assert calls(site.server).keys() <= OURS
    process.call(release, "a")
