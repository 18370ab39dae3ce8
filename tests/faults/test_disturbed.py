"""Closed connections, forgotten scripts and lost notifications delay waiters, and nothing else."""

from __future__ import annotations

import itertools

import pytest

from tests.faults.actions import (
    LONG,
    NEVER,
    SOON,
    acquire,
    count,
    counted,
    is_held,
    read,
    release,
    time_of_grant,
)
from tests.faults.conftest import Site
from tests.faults.processes import results
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer
from tests.support.waiting import eventually

EACH = 2_000 if LONG else 40


@pytest.mark.parametrize(
    "commands",
    [
        ("CLIENT KILL TYPE pubsub",),
        ("CLIENT KILL TYPE normal",),
        ("", "CLIENT KILL TYPE pubsub", "CLIENT KILL TYPE normal"),
    ],
    ids=["notifications cut", "requests cut", "everything"],
)
def test_counting_while_connections_are_killed(any_site: Site, commands: tuple[str, ...]) -> None:
    """Processes count under a lock while connections are killed: the count is exact, and all of them end."""
    any_site.connect(retries=1_000)
    counting = any_site.start(3, retries=1_000)
    for process in counting:
        process.begin(count, "a", EACH)
    done = 0
    for command in itertools.cycle(commands):
        eventually(lambda enough=done: read("a.total") >= enough, "counting goes on")  # type: ignore[misc]
        done = min(read("a.total") + 3, 3 * EACH)
        if command:
            any_site.server.command(*command.split())
        else:
            any_site.server.forget()
        if all(process.is_done for process in counting):
            break
    results(counting, within=60)
    assert counted("a") == 3 * EACH
    any_site.nothing_is_left()


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
def test_waiters_survive_connections_that_are_cut(site: Site, kind: str) -> None:
    """Waiters that depend on notifications get the lock one by one, although all connections were cut."""
    current_owner, *waiting = site.start(4, NEVER)
    current_owner.call(acquire, "a")
    for waiter in waiting:
        waiter.begin(acquire, "a", acquire_timeout=60)
    site.connect(retries=10)
    eventually(lambda: len(site.waiters()) == 3, "all wait")
    for _ in range(3):
        site.server.command("CLIENT", "KILL", "TYPE", kind)
        subscribed(site.server, 3)
    for _ in waiting:
        current_owner.call(release, "a")
        eventually(lambda left=waiting: any(each.is_done for each in left), "one of them gets the lock")  # type: ignore[misc]
        (current_owner,) = [waiter for waiter in waiting if waiter.is_done]
        assert current_owner.result()
        waiting = [waiter for waiter in waiting if waiter is not current_owner]
    current_owner.call(release, "a")
    site.no_lock_is_left()


def test_a_release_while_a_waiter_is_disconnected(site: Site) -> None:
    """A waiter that was disconnected during the release looks as soon as it is connected again."""
    with FaultyProxy(site.server.port) as proxy:
        (current_owner,), (waiter,) = site.start(), site.start(1, NEVER, target=proxy, retries=1_000)
        current_owner.call(acquire, "a")
        site.queue(waiter, acquire, "a", acquire_timeout=60)
        proxy.refuse()
        proxy.cut_all()
        current_owner.call(release, "a")
        assert not waiter.is_done
        proxy.accept()
        assert waiter.result()
        waiter.call(release, "a")
    site.no_lock_is_left()


def subscribed(server: RedisServer, count: int) -> None:
    """Wait until this number of processes is subscribed."""

    def clients() -> int:
        listed = server.command("CLIENT", "LIST", "TYPE", "pubsub")
        assert isinstance(listed, bytes)
        return len(listed.splitlines())

    eventually(lambda: clients() == count, f"{count} processes listen")


def test_waiters_without_notifications_get_the_lock(site: Site) -> None:
    """A waiter that no notification reaches finds the lock free at its next heartbeat after the release."""
    (current_owner,), waiting = site.start(), site.start(2, deaf=True)
    current_owner.call(acquire, "a")
    for waiter in waiting:
        site.queue(waiter, time_of_grant, "a", acquire_timeout=60)
    released = current_owner.call(release, "a")
    for waiter in waiting:
        granted = waiter.result()
        assert released < granted < released + 10, "long before the lease ends; heartbeats are less than a second apart"
        released = waiter.call(release, "a")
    site.nothing_is_left()


def test_a_waiter_without_notifications_sees_a_lease_end(site: Site) -> None:
    """It looks when the lease of a dead holder ends, even if its next heartbeat is later."""
    (current_owner,), (waiter,) = site.start(), site.start(1, NEVER, deaf=True)
    current_owner.call(acquire, "a", expire_timeout=0.5)
    site.queue(waiter, acquire, "a", acquire_timeout=60)
    current_owner.kill()
    assert waiter.result()
    assert waiter.call(is_held, "a")
    waiter.call(release, "a")


def test_counting_without_notifications(site: Site) -> None:
    """Two processes that no notification reaches and one that they reach count under a lock: the count is exact."""
    (current_owner,), counting = site.start(), [*site.start(2, deaf=True), *site.start()]
    current_owner.call(acquire, "a")
    for process in counting:
        site.queue(process, count, "a", 5)
    current_owner.call(release, "a")
    results(counting, within=15 * SOON.heartbeat + 15)
    assert counted("a") == 15
    site.nothing_is_left()
