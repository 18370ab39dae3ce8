"""The held locks of one owner: a few, or many in an index, which one is above a path and which ones overlap with it."""

from __future__ import annotations

import itertools
import random
import time

from redicts.core.locks.acquisition import Grant
from redicts.core.locks.records import Mode, Owner, Request, overlap
from redicts.core.minitransaction import Path
from redicts.locks.held import HeldLock, HeldLocks

PATHS = [(), *itertools.product("ab"), *itertools.product("ab", "cd"), *itertools.product("ab", "cd", "ef")]


def lock_on(number: int, *paths: Path) -> HeldLock:
    """Return a lock that is held for a minute."""
    request = Request(f"client/{number}", Owner("client.1", "here"), Mode.EXCLUSIVE, paths, 0)
    return HeldLock(request, paths, Grant(number, time.monotonic()), 60_000, lambda: True)


def test_locks_are_found_alike_however_many_there_are() -> None:
    """Whatever is added and removed, in any order and twice, the look-ups answer as a comparison with each lock."""
    chance = random.Random(0)
    held, locks = HeldLocks(), set[HeldLock]()
    most = 0
    for number in range(400):
        if not locks or chance.random() < (0.7 if number < 200 else 0.3):
            lock = lock_on(number, *chance.sample(PATHS, chance.randint(1, 2)))
            held.add(lock)
            locks.add(lock)
        else:
            lock = chance.choice(sorted(locks, key=lambda each: each.token))
            held.remove(lock)
            held.remove(lock)
            locks.remove(lock)
        most = max(most, len(locks))
        for path in PATHS:
            near = {each for each in locks if any(overlap(path, own) for own in each.request.paths)}
            found = held.overlapping(path)
            assert set(found) == near
            assert len(found) == len(near)
            above = {each for each in locks if any(path[: len(own)] == own for own in each.request.paths)}
            covering = held.covering((path,), Mode.EXCLUSIVE)
            assert covering in above if above else covering is None
    assert most > 20
    assert set(held.requests) == {each.request for each in locks}


def test_nothing_stays_of_many_locks_that_were_removed() -> None:
    """After the last of many locks is removed, no look-up finds any, and none is kept in memory."""
    locks = [lock_on(number, path) for number, path in enumerate(PATHS)]
    held = HeldLocks()
    for lock in locks:
        held.add(lock)
    for lock in locks:
        held.remove(lock)
    assert not held.requests
    assert not any(held.overlapping(path) for path in PATHS)
    assert not any(getattr(held, name) for name in HeldLocks.__slots__)
