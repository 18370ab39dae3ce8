"""Processes that are stopped (SIGSTOP) for longer than their lease: their guarded writes are refused."""

from __future__ import annotations

import pytest

from redicts import LockLost
from tests.faults.actions import LONG, acquire, count, counted, is_held, read, release, write, write_unguarded
from tests.faults.conftest import Site
from tests.faults.processes import Process, results
from tests.support.waiting import eventually

ROUNDS = 100 if LONG else 6
LEASE = 0.25


def stop_between_reading_and_writing(victim: Process, site: Site) -> int:
    """Have a process acquire the lock and read, and stop it until its lease ends; return what it read."""
    victim.call(acquire, "a", expire_timeout=LEASE, acquire_timeout=60)
    value = victim.call(read, "a.total")
    victim.stop()
    eventually(lambda: not site.requests_of(victim), "its lease ends")
    return value


def test_a_guarded_write_after_the_lease_is_refused(site: Site) -> None:
    """A process that is stopped between reading and writing gets LockLost, and no update is lost."""
    victims, others = site.start(2), site.start(2)
    for other in others:
        other.begin(count, "a", ROUNDS * 5, LEASE)
    for number in range(ROUNDS):
        victim = victims[number % 2]
        value = stop_between_reading_and_writing(victim, site)
        count("a", 1)
        victim.begin(write, "a", "total", value + 1)
        victim.resume()
        with pytest.raises(LockLost, match="'a'"):
            victim.result()
        assert not victim.call(is_held, "a")
        victim.call(release, "a")
    results(others, within=60)
    assert counted("a") == 11 * ROUNDS
    site.nothing_is_left()


def test_an_unguarded_write_after_the_lease_loses_an_update(site: Site) -> None:
    """Without the guard the same write succeeds, and another process's update is lost."""
    victim, other = site.start(2)
    value = stop_between_reading_and_writing(victim, site)
    other.call(count, "a", 1)
    victim.begin(write_unguarded, "a", "total", value + 1)
    victim.resume()
    victim.result()
    victim.call(write_unguarded, "a.tally", "victim", 1)
    with pytest.raises(AssertionError, match="updates were lost"):
        counted("a")


def test_processes_stopped_at_any_time_lose_no_update(site: Site) -> None:
    """Each counting process is stopped repeatedly, until its records end: the count is exact."""
    counting = site.start(3)
    each = 2_000 if LONG else 150
    for process in counting:
        process.begin(count, "a", each, LEASE)
    stops = 0
    while not all(process.is_done for process in counting) and stops < (60 if LONG else 6):
        victim = counting[stops % len(counting)]
        victim.stop()
        eventually(lambda gone=victim: not site.requests_of(gone), "its records end")  # type: ignore[misc]
        victim.resume()
        stops += 1
    results(counting, within=120)
    assert stops
    assert counted("a") == len(counting) * each
    site.nothing_is_left()


def test_a_stopped_waiter_queues_again(site: Site) -> None:
    """It loses its place, those behind it go on, and it gets the lock in the end."""
    current_owner, victim, behind = site.start(3)
    current_owner.call(acquire, "a")
    site.queue(victim, acquire, "a", acquire_timeout=60)
    site.queue(behind, acquire, "a", acquire_timeout=60)
    before = site.requests_of(victim)
    victim.stop()
    eventually(lambda: not site.requests_of(victim), "its waiter record ends")
    current_owner.call(release, "a")
    assert behind.result()
    victim.resume()
    eventually(lambda: site.requests_of(victim), "it queues again")
    assert site.requests_of(victim) != before, "it has a new request id, because the old one may be withdrawn"
    assert not victim.is_done
    behind.call(release, "a")
    assert victim.result()
    victim.call(release, "a")
    site.nothing_is_left()


def test_a_waiter_that_is_stopped_during_the_release_gets_the_lock(site: Site) -> None:
    """It missed its notification and lost its place, and no other waits: it gets the lock."""
    current_owner, victim = site.start(2)
    current_owner.call(acquire, "a")
    site.queue(victim, acquire, "a", acquire_timeout=60)
    victim.stop()
    current_owner.call(release, "a")
    eventually(lambda: not site.requests_of(victim), "its waiter record ends")
    victim.resume()
    assert victim.result()
    assert victim.call(is_held, "a")
    victim.call(release, "a")
    site.nothing_is_left()
