"""Servers that close connections and forget scripts, and lost notifications, only make waiting longer."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from redicts import Proxy
from tests.faults.actions import (
    LONG,
    NEVER,
    SOON,
    acquire,
    acquire_and_tell_when,
    count,
    counted,
    is_held,
    read,
    release,
    release_and_tell_when,
)
from tests.faults.conftest import Start, View
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
        ("SCRIPT FLUSH", "CLIENT KILL TYPE pubsub", "CLIENT KILL TYPE normal"),
    ],
    ids=["notifications cut", "requests cut", "everything"],
)
def test_counting_while_the_server_disturbs(
    redis_server: RedisServer, start: Start, view: Callable[..., View], commands: tuple[str, ...]
) -> None:
    """Several processes count under a lock while it goes on: the count is exact, and nobody waits for ever."""
    look = view(redis_server, retries=1_000)
    counting = start(redis_server, 3, retries=1_000)
    for process in counting:
        process.begins(count, "a", EACH)
    done = 0
    for command in itertools.cycle(commands):
        eventually(lambda enough=done: read("a.total") >= enough, "counting goes on")  # type: ignore[misc]
        done = min(read("a.total") + 3, 3 * EACH)
        redis_server.command(*command.split())
        if all(process.is_done for process in counting):
            break
    results(counting, within=60)
    assert counted(Proxy("a")) == 3 * EACH
    look.nothing_is_left()


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
def test_connections_that_are_cut_while_all_wait(
    server: RedisServer, start: Start, view: Callable[..., View], kind: str
) -> None:
    """Nobody looks by himself, all connections are cut, and the release notifies the next all the same, one by one."""
    view(server)
    current_owner, *waiting = start(server, 4, NEVER)
    current_owner.does(acquire, "a")
    for waiter in waiting:
        waiter.begins(acquire, "a", acquire_timeout=60)
    look = view(server, retries=10)
    eventually(lambda: len(look.waiters()) == 3, "all wait")
    for _ in range(3):
        server.command("CLIENT", "KILL", "TYPE", kind)
        subscribed(server, 3)
    for _ in waiting:
        current_owner.does(release, "a")
        eventually(lambda left=waiting: any(each.is_done for each in left), "one gets it")  # type: ignore[misc]
        (current_owner,) = [waiter for waiter in waiting if waiter.is_done]
        assert current_owner.result()
        waiting = [waiter for waiter in waiting if waiter is not current_owner]
    current_owner.does(release, "a")
    look.no_lock_is_left()


def test_a_notify_up_that_comes_while_nobody_can_hear_it(
    server: RedisServer, start: Start, view: Callable[..., View]
) -> None:
    """Who waits is cut off while the lock is released: it looks as soon as it is connected again."""
    look = view(server)
    with FaultyProxy(server.port) as proxy:
        (current_owner,), (waiter,) = start(server), start(proxy, 1, NEVER, retries=1_000)
        current_owner.does(acquire, "a")
        look.queue(waiter, acquire, "a", acquire_timeout=60)
        proxy.refuse()
        proxy.cut_all()
        current_owner.does(release, "a")
        assert not waiter.is_done
        proxy.accept()
        assert waiter.result()
        waiter.does(release, "a")
    look.no_lock_is_left()


def subscribed(server: RedisServer, count: int) -> None:
    """Wait until so many processes are subscribed."""

    def clients() -> int:
        listed = server.command("CLIENT", "LIST", "TYPE", "pubsub")
        assert isinstance(listed, bytes)
        return len(listed.splitlines())

    eventually(lambda: clients() == count, f"{count} processes listen")


def test_the_deaf_get_the_lock_all_the_same(server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """A waiter that no notification reaches finds the lock free about a beat after the release, at the latest."""
    look = view(server)
    (current_owner,), waiting = start(server), start(server, 2, deaf=True)
    current_owner.does(acquire, "a")
    for waiter in waiting:
        look.queue(waiter, acquire_and_tell_when, "a", acquire_timeout=60)
    released = current_owner.does(release_and_tell_when, "a")
    for waiter in waiting:
        granted = waiter.result()
        assert released < granted < released + 10, "long before the lease ends; a beat takes less than a second"
        released = waiter.does(release_and_tell_when, "a")
    look.nothing_is_left()


def test_a_deaf_waiter_finds_out_when_a_lease_is_over(
    server: RedisServer, start: Start, view: Callable[..., View]
) -> None:
    """It notifies by itself when the lease of a holder that died is over, however rarely it looks otherwise."""
    look = view(server)
    (current_owner,), (waiter,) = start(server), start(server, 1, NEVER, deaf=True)
    current_owner.does(acquire, "a", expire_timeout=0.5)
    look.queue(waiter, acquire, "a", acquire_timeout=60)
    current_owner.kill()
    assert waiter.result()
    assert waiter.does(is_held, "a")
    waiter.does(release, "a")


def test_the_deaf_count_rightly(server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """Several that no notification reaches, and one that hears, count under a lock: exact, if slow."""
    look = view(server)
    (current_owner,), counting = start(server), [*start(server, 2, deaf=True), *start(server)]
    current_owner.does(acquire, "a")
    for process in counting:
        look.queue(process, count, "a", 5)
    current_owner.does(release, "a")
    results(counting, within=15 * SOON.heartbeat + 15)
    assert counted(Proxy("a")) == 15
    look.nothing_is_left()
