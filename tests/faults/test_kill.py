"""Processes that are killed with ``kill -9``: their locks end with their leases, their places in a queue soon."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from redicts import Proxy
from tests.backends.redis_tools import data
from tests.faults.actions import SOON, acquire, acquire_and_tell_when, count, counted, read, release, take_turn, turns
from tests.faults.conftest import Start, View
from tests.faults.processes import let_run, results
from tests.support.servers import RedisServer
from tests.support.waiting import eventually


def test_the_lock_of_a_killed_process_ends_with_its_lease(
    server: RedisServer, start: Start, view: Callable[..., View]
) -> None:
    """Those who wait for it, at every height, get it when the record's life is over, and not before."""
    look = view(server)
    current_owner, above, below = start(server, 3)
    current_owner.does(acquire, "a.b", expire_timeout=1.5)
    asked = time.monotonic()
    (record,) = look.holders()
    assert record.ttl is not None
    look.queue(below, acquire_and_tell_when, "a.b.c")
    look.queue(above, acquire, "a")
    current_owner.kill()
    granted = below.result()
    assert granted - asked > record.ttl / 1000 - 0.002, "the lock was granted while the record was there"
    assert not above.is_done
    below.does(release, "a.b.c")
    assert above.result()


def test_what_a_killed_process_held_together_ends_together(
    server: RedisServer, start: Start, view: Callable[..., View]
) -> None:
    """Nothing is left of a killed process that held some locks, one of them shared, and waited for another."""
    look = view(server)
    current_owner, victim, other = start(server, 3)
    current_owner.does(acquire, "c")
    victim.does(acquire, "a", expire_timeout=1.0)
    victim.does(acquire, "b", expire_timeout=1.0, shared=True)
    look.queue(victim, acquire, "c")
    eventually(lambda: b"d:" in data(server), "it has written down what it waits for")
    victim.kill()
    other.does(acquire, "a")
    other.does(acquire, "b")
    for process, path in (other, "a"), (other, "b"), (current_owner, "c"):
        process.does(release, path)
    look.nothing_is_left()


def test_a_killed_waiter_holds_up_those_behind_it_for_a_moment(
    server: RedisServer, start: Start, view: Callable[..., View]
) -> None:
    """Killed in the midst of a queue, it is passed when its place has run out, and the order of the rest is kept."""
    look = view(server)
    current_owner, first, victim, third, fourth = start(server, 5)
    current_owner.does(acquire, "a")
    look.queue(first, take_turn, "a", "first")
    look.queue(victim, take_turn, "a", "victim")
    look.queue(third, take_turn, "a", "third", acquire_timeout=60)
    look.queue(fourth, take_turn, "a", "fourth", acquire_timeout=60)
    victim.kill()
    current_owner.does(release, "a")
    results([first, third, fourth], within=SOON.waiter_ttl + 5)
    assert turns("a") == ["first", "third", "fourth"]
    look.nothing_is_left()


def test_deaths_under_the_lock_lose_no_update(server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """While some count, others die between reading and writing, one after the other: the count is exact."""
    look = view(server)
    counting = start(server, 2)
    for process in counting:
        process.begins(count, "a", 40, 0.3)
    for victim in start(server, 4):
        victim.does(acquire, "a", expire_timeout=0.3)
        victim.does(read, "a.total")
        victim.kill()
    results(counting)
    assert counted(Proxy("a")) == 80
    look.nothing_is_left()


def test_deaths_at_any_moment(server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """Processes are killed while they acquire, wait, count and release: the count is exact, and nothing is left."""
    look = view(server)
    chance = random.Random(7)
    survivor = start(server)
    for victims in [start(server, 3) for _ in range(3)]:
        for victim in victims:
            victim.begins(count, "a", 10_000, 0.2)
        before = read("a.total")
        eventually(lambda enough=before + 20: read("a.total") >= enough, "some was counted")  # type: ignore[misc]
        for victim in victims:
            time.sleep(chance.uniform(0, 0.003))
            victim.kill()
        let_run(survivor, count, "a", 5)
    assert counted(Proxy("a")) >= 60 + 15
    look.nothing_is_left()
