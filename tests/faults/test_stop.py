"""Processes that stand still (SIGSTOP) for longer than their lease: what they write then is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from redicts import LockLost, Proxy
from tests.faults.actions import LONG, acquire, count, counted, is_held, read, release, write, write_unguarded
from tests.faults.conftest import Start, View
from tests.faults.processes import Process, results
from tests.support.servers import RedisServer
from tests.support.waiting import eventually

ROUNDS = 100 if LONG else 6
LEASE = 0.25


def stop_between_reading_and_writing(victim: Process, look: View) -> int:
    """Let a process acquire the lock, read and stand still until its lease is over; return what it read."""
    victim.does(acquire, "a", expire_timeout=LEASE, acquire_timeout=60)
    value = victim.does(read, "a.total")
    victim.stop()
    eventually(lambda: not look.requests_of(victim), "its lease ends")
    return value


def test_a_guarded_write_after_the_lease_is_refused(
    server: RedisServer, start: Start, view: Callable[..., View]
) -> None:
    """Each time that a process is stopped between reading and writing, it gets LockLost; no update is lost."""
    look = view(server)
    victims, others = start(server, 2), start(server, 2)
    for other in others:
        other.begins(count, "a", ROUNDS * 5, LEASE)
    for number in range(ROUNDS):
        victim = victims[number % 2]
        value = stop_between_reading_and_writing(victim, look)
        count("a", 1)
        victim.begins(write, "a", "total", value + 1)
        victim.go_on()
        with pytest.raises(LockLost, match="'a'"):
            victim.result()
        assert not victim.does(is_held, "a")
        victim.does(release, "a")
    results(others, within=60)
    assert counted(Proxy("a")) == 11 * ROUNDS
    look.nothing_is_left()


def test_an_unguarded_write_after_the_lease_spoils_what_others_wrote(
    server: RedisServer, start: Start, view: Callable[..., View]
) -> None:
    """What the guard is for: the same without it goes through, and the other one's update is lost."""
    look = view(server)
    victim, other = start(server, 2)
    value = stop_between_reading_and_writing(victim, look)
    other.does(count, "a", 1)
    victim.begins(write_unguarded, "a", "total", value + 1)
    victim.go_on()
    victim.result()
    victim.does(write_unguarded, "a.tally", "victim", 1)
    with pytest.raises(AssertionError, match="updates were lost"):
        counted(Proxy("a"))


def test_everybody_stands_still_at_any_moment(server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """Several count, and each is stopped again and again wherever it is, beyond lease and place: the count is exact."""
    look = view(server)
    counting = start(server, 3)
    each = 2_000 if LONG else 150
    for process in counting:
        process.begins(count, "a", each, LEASE)
    stops = 0
    while not all(process.is_done for process in counting) and stops < (60 if LONG else 6):
        victim = counting[stops % len(counting)]
        victim.stop()
        eventually(lambda gone=victim: not look.requests_of(gone), "its lease, or its place in the queue, is over")  # type: ignore[misc]
        victim.go_on()
        stops += 1
    results(counting, within=120)
    assert stops
    assert counted(Proxy("a")) == len(counting) * each
    look.nothing_is_left()


def test_a_waiter_that_stood_still_queues_anew(server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """Its place is lost; those behind it go on, and it gets the lock in the end."""
    look = view(server)
    current_owner, victim, behind = start(server, 3)
    current_owner.does(acquire, "a")
    look.queue(victim, acquire, "a", acquire_timeout=60)
    look.queue(behind, acquire, "a", acquire_timeout=60)
    before = look.requests_of(victim)
    victim.stop()
    eventually(lambda: not look.requests_of(victim), "its place is lost")
    current_owner.does(release, "a")
    assert behind.result()
    victim.go_on()
    eventually(lambda: look.requests_of(victim), "it queues again")
    assert look.requests_of(victim) != before, "it took another name, for nobody may wait for the old one"
    assert not victim.is_done
    behind.does(release, "a")
    assert victim.result()
    victim.does(release, "a")
    look.nothing_is_left()


def test_a_waiter_that_stood_still_while_the_lock_became_free(
    server: RedisServer, start: Start, view: Callable[..., View]
) -> None:
    """It missed its notification and its place is lost, and nobody else is there: it gets the lock."""
    look = view(server)
    current_owner, victim = start(server, 2)
    current_owner.does(acquire, "a")
    look.queue(victim, acquire, "a", acquire_timeout=60)
    victim.stop()
    current_owner.does(release, "a")
    eventually(lambda: not look.requests_of(victim), "its place is lost")
    victim.go_on()
    assert victim.result()
    assert victim.does(is_held, "a")
    victim.does(release, "a")
    look.nothing_is_left()
