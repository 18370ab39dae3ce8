"""Locks among threads: whatever many of them do at once, no two that conflict are held at the same time."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.client import Client
from redicts.contract.fixture import Fixture
from redicts.contract.locking import Locker, LockSpaces, lock_spaces
from redicts.core.locks.records import Mode, Request, overlap
from redicts.core.minitransaction import Path

_THREADS: Final = 4
_CHAIN: Final[tuple[Path, ...]] = (("d", "x"), ("d",), ("d", "x", "y"), ())
_TREE: Final[tuple[Path, ...]] = (("a",), ("a", "b"), ("a", "b", "c"), ("a", "d"), ("x",), ("x", "y"), ())


@conformance_check(needs=[Need.TTL])
def of_many_attempts_one_succeeds(fixture: Fixture) -> None:
    """Of threads that try to lock overlapping places at the same time without waiting, just one succeeds."""
    for clients in _one_and_several(fixture):
        for _ in range(40 if fixture.thorough else 8):
            spaces = lock_spaces(fixture)
            owners = [Locker(client, spaces) for client in clients]
            granted: list[str] = []

            def attempt(number: int, owner: Locker, granted: list[str] = granted) -> None:
                request = owner.request(_CHAIN[number])
                if owner.attempt(request) is not None:
                    granted.append(request.name)

            fixture.together([partial(attempt, number, owner) for number, owner in enumerate(owners)])
            require_equal(len(granted), 1, "of attempts to lock overlapping places at once, those that succeeded are")
            require_equal(owners[0].held(), set(granted), "held is")


@conformance_check(needs=[Need.TTL])
def a_count_under_a_lock_is_exact(fixture: Fixture) -> None:
    """A value that threads read, and write under a lock, loses no update, whether they lock its place or one above."""
    rounds = 60 if fixture.thorough else 6
    for clients in _one_and_several(fixture):
        spaces, path = lock_spaces(fixture), ("d", "x", "count")

        def work(number: int, client: Client, spaces: LockSpaces = spaces, path: Path = path) -> None:
            owner = Locker(client, spaces)
            for each in range(rounds):
                lock, _ = owner.wait_for((path, *_CHAIN[:2], ())[(number + each) % 4], timeout=fixture.timeout)
                require(owner.count(lock, path), "a write is refused though its lock is held")
                require(owner.release(lock), "a lock that nobody else gave back is gone")

        fixture.together([partial(work, number, client) for number, client in enumerate(clients)])
        watching = Locker(fixture.store, spaces)
        require_equal(watching.value(path), rounds * _THREADS, f"{_THREADS} threads that count {rounds} times make")
        watching.require_nothing_left()


@conformance_check(needs=[Need.TTL])
def no_two_that_conflict_are_held_at_once(fixture: Fixture) -> None:
    """While threads lock random places, shared and exclusively, no two hold what excludes each other; all get on."""
    rounds = 100 if fixture.thorough else 12
    for clients in _one_and_several(fixture):
        spaces, active = lock_spaces(fixture), _Active()

        def work(number: int, client: Client, spaces: LockSpaces = spaces, active: _Active = active) -> None:
            owner, chance = Locker(client, spaces), random.Random(f"{fixture.seed} {number}")  # noqa: S311  (no secret)
            for _ in range(rounds):
                paths = chance.sample(_TREE, chance.choice((1, 1, 2)))
                shared = chance.random() < 0.4
                if chance.random() < 0.3:
                    request = owner.request(*paths, shared=shared)
                    if owner.attempt(request) is None:
                        continue
                else:
                    request, _ = owner.wait_for(*paths, shared=shared, timeout=fixture.timeout)
                with active.beside(request):
                    owner.value(("some", "time", "passes"))
                require(owner.release(request), "a lock that nobody else gave back is gone")

        fixture.together([partial(work, number, client) for number, client in enumerate(clients)])
        Locker(fixture.store, spaces).require_nothing_left()


class _Active:
    """The locks that are held at this moment, as the threads that hold them know."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[Request] = []

    @contextmanager
    def beside(self, request: Request) -> Iterator[None]:
        """Be active; insist that nobody is who must not be."""
        with self._lock:
            for other in self._requests:
                require(
                    not _exclude_each_other(request, other),
                    f"{request.mode.name} on {request.paths!r} is held while {other.mode.name} on {other.paths!r} is",
                )
            self._requests.append(request)
        yield
        with self._lock:
            self._requests.remove(request)


def _exclude_each_other(one: Request, other: Request) -> bool:
    overlapping = any(overlap(mine, theirs) for mine in one.paths for theirs in other.paths)
    return overlapping and Mode.EXCLUSIVE in {one.mode, other.mode}


def _one_and_several(fixture: Fixture) -> list[list[Client]]:
    """Return clients for as many threads: all the same one, and two that take turns."""
    other = fixture.client()
    return [[fixture.store] * _THREADS, [fixture.store, other] * (_THREADS // 2)]
