"""Killed processes (SIGKILL): their locks end with their leases, their waiters with the waiter TTL."""

from __future__ import annotations

import random
import time

from tests.backends.redis_tools import data
from tests.faults.actions import SOON, acquire, count, counted, read, release, sign, signed, time_of_grant
from tests.faults.conftest import Site
from tests.faults.processes import call_all, results
from tests.support.waiting import TIMEOUT, eventually


def test_the_lock_of_a_killed_process_ends_with_its_lease(site: Site) -> None:
    """Waiters above and below it get the lock when the record's TTL ends, and not before."""
    current_owner, above, below = site.start(3)
    current_owner.call(acquire, "a.b", expire_timeout=1.5)
    asked = time.monotonic()
    (record,) = site.holders()
    assert record.ttl is not None
    site.queue(below, time_of_grant, "a.b.c")
    site.queue(above, acquire, "a")
    current_owner.kill()
    granted = below.result()
    assert granted - asked > record.ttl / 1000 - 0.002, "the lock was granted while the record was there"
    assert not above.is_done
    below.call(release, "a.b.c")
    assert above.result()


def test_all_records_of_a_killed_process_end(site: Site) -> None:
    """Nothing is left of a killed process that held an exclusive and a shared lock, and waited for another."""
    current_owner, victim, other = site.start(3)
    current_owner.call(acquire, "c")
    victim.call(acquire, "a", expire_timeout=1.0)
    victim.call(acquire, "b", expire_timeout=1.0, shared=True)
    site.queue(victim, acquire, "c")
    eventually(lambda: b"d:" in data(site.server), "the store says what it waits for")
    victim.kill()
    other.call(acquire, "a")
    other.call(acquire, "b")
    for process, path in (other, "a"), (other, "b"), (current_owner, "c"):
        process.call(release, path)
    site.nothing_is_left()


def test_a_killed_waiter_blocks_the_queue_until_its_ttl_ends(site: Site) -> None:
    """A waiter killed inside a queue is skipped when its TTL ends, and the order of the others stays."""
    current_owner, first, victim, third, fourth = site.start(5)
    current_owner.call(acquire, "a")
    site.queue(first, sign, "a", "first")
    site.queue(victim, sign, "a", "victim")
    site.queue(third, sign, "a", "third", acquire_timeout=60)
    site.queue(fourth, sign, "a", "fourth", acquire_timeout=60)
    victim.kill()
    current_owner.call(release, "a")
    results([first, third, fourth], within=SOON.waiter_ttl + TIMEOUT)
    assert signed("a") == ["first", "third", "fourth"]
    site.nothing_is_left()


def test_processes_killed_under_the_lock_lose_no_update(site: Site) -> None:
    """While two count, others are killed between reading and writing: the count is exact."""
    counting = site.start(2)
    for process in counting:
        process.begin(count, "a", 40, 0.3)
    for victim in site.start(4):
        victim.call(acquire, "a", expire_timeout=0.3)
        victim.call(read, "a.total")
        victim.kill()
    results(counting)
    assert counted("a") == 80
    site.nothing_is_left()


def test_processes_killed_at_any_time_lose_no_update(site: Site) -> None:
    """Processes are killed while they acquire, wait, count and release: the count is exact, and nothing is left."""
    chance = random.Random(7)
    survivor = site.start()
    for victims in [site.start(3) for _ in range(3)]:
        for victim in victims:
            victim.begin(count, "a", 10_000, 0.2)
        before = read("a.total")
        eventually(lambda enough=before + 20: read("a.total") >= enough, "counting goes on")  # type: ignore[misc]
        for victim in victims:
            time.sleep(chance.uniform(0, 0.003))
            victim.kill()
        call_all(survivor, count, "a", 5)
    assert counted("a") >= 60 + 15
    site.nothing_is_left()
