"""Lock retention in every interleaving of an owner, the background thread, an inspection and the end of the window.

Each actor is a thread that stops before every visible step until a schedule continues it. So a failing schedule is
reproducible. (The explorer of ``tests/core/locks`` does the same for the protocol.)
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Final

import pytest

from redicts.backends.memory import MemoryBackend
from redicts.core import driver
from redicts.core.driver import Pause, Steps
from redicts.core.locks.acquisition import Grant
from redicts.core.locks.records import Mode, Request
from redicts.locks import retention as retention_module
from redicts.locks.held import HeldLock, RetentionWindow
from redicts.locks.owner import LockOwner, request_name
from redicts.locks.renewal import Renewal
from redicts.locks.retention import Retention

PATHS: Final = (("a",),)
LEASE: Final = 30_000
SCHEDULES: Final = 1_500 if os.environ.get("REDICTS_TESTS") == "long" else 300


class Actor(threading.Thread):
    """A thread that runs step by step."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.is_done = False
        self.sleeps = False
        self.error: BaseException | None = None

    def run(self) -> None:
        self._go.acquire()
        try:
            self._work()
        except BaseException as error:
            self.error = error
        self.is_done = True
        self._stopped.release()

    def stop_here(self) -> None:
        """Stop before the next step."""
        self._stopped.release()
        self._go.acquire()

    def step(self) -> None:
        """Run until the next stop."""
        self.sleeps = False
        self._go.release()
        self._stopped.acquire()
        if self.error is not None:
            raise self.error


def stop() -> None:
    """Stop the running thread, if it is an actor."""
    running = threading.current_thread()
    if isinstance(running, Actor):
        running.stop_here()


class Watched:
    """A proxy that makes each access a visible step."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        stop()
        return getattr(self.inner, name)

    def __contains__(self, item: object) -> bool:
        stop()
        return item in self.inner

    def __iter__(self) -> Iterator[Any]:
        stop()
        return iter(list(self.inner))

    def __setitem__(self, key: Any, value: Any) -> None:
        stop()
        self.inner[key] = value


class Simulation:
    """One lock, its owner within a retention window, and the actions of all actors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.monotonic()
        self.retained: dict[LockOwner, HeldLock] = {}
        self.in_hand: set[Any] = set()
        self.watched: dict[RetentionWindow, None] = {}
        self.has_it = True
        """Whether the owner holds the lock."""
        self.is_releasing = False
        self.released = 0
        self.comebacks = 0
        monkeypatch.setattr(retention_module, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(driver, "time", SimpleNamespace(sleep=self._sleep))
        store: Any = SimpleNamespace(release=self._give_back)
        self.retention = Retention(store, Renewal(store, self._run), self._run, 0.005)
        self.retention._can_retain = True
        watched = SimpleNamespace(
            add=lambda window: self.watched.update({window: None}),
            discard=lambda window: self.watched.pop(window, None),
        )
        for name, inner in {"retained": self.retained, "_in_hand": self.in_hand, "_windows": watched}.items():
            setattr(self.retention, name, Watched(inner))
        self.me = LockOwner("owner", lambda: True)
        request = Request(request_name(), self.me.owner, Mode.EXCLUSIVE, PATHS, 0)
        self.lock = HeldLock(request, PATHS, Grant(1, self.now, 100), LEASE, lambda: True)
        self.retention.begin(self.me, self.lock, Grant(1, self.now, 100))

    @staticmethod
    def _run(steps: Steps[Any]) -> Any:
        return driver.run(steps, MemoryBackend())

    def _give_back(self, _request: Request) -> Steps[bool]:
        assert not self.has_it, "a lock that the owner holds was released"
        stop()
        assert not self.has_it, "a lock that the owner holds was released"
        self.released += 1
        assert self.released == 1, "it was released twice"
        return True
        yield Pause(0)

    @staticmethod
    def _sleep(_seconds: float) -> None:
        running = threading.current_thread()
        assert isinstance(running, Actor)
        running.sleeps = True
        running.stop_here()

    def reacquire(self) -> None:
        """Release and reacquire the lock while possible, and release it finally."""
        while True:
            self.has_it, self.is_releasing = False, True
            is_retained = self._run(self.retention.retain(self.me, self.lock))
            self.is_releasing = False
            if not is_retained:
                self._run(self._give_back(self.lock.request))
                return
            taken = self.comebacks < 2 and self._run(self.retention.take(self.me, PATHS, Mode.EXCLUSIVE, LEASE))
            if not taken:
                return
            self.has_it = True
            self.comebacks += 1
            assert not self.released, "the owner reacquired a released lock"

    def check(self) -> None:
        """Run the check of the background thread a few times, always late."""
        for _ in range(3):
            stop()
            if self.watched:
                self.retention._check(list(self.watched))

    def inspect(self) -> None:
        """Inspect the locks, as another thread."""
        self._finds_retained_locks_free(lambda: self._run(self.retention.end()))

    def end(self) -> None:
        """End this process."""
        self._finds_retained_locks_free(self.retention.end_all)

    def _finds_retained_locks_free(self, end: Callable[[], None]) -> None:
        stop()
        # A thread may be releasing the lock though the owner reacquired it first.
        is_in_hand = bool(self.in_hand) and not self.has_it and not self.is_releasing
        was_released, comebacks = bool(self.retained) or is_in_hand, self.comebacks
        end()
        assert not was_released or self.released or self.comebacks > comebacks, "it was released, but is not free"

    def pass_time(self) -> None:
        """Let the retained lock be overdue, and then the window end."""
        for seconds in (0.002, 0.004):
            stop()
            self.now += seconds

    def settle(self) -> None:
        """Check that the background thread releases every retained lock."""
        assert not self.in_hand
        assert not (self.retained and not self.watched), "it is retained, and will never be released"
        self.now += 0.002
        if self.retention._can_retain:
            self.retention._check(list(self.watched))
        assert not self.retained
        assert self.released == (0 if self.has_it else 1)
        self.now += 1
        self.retention._check(list(self.watched))
        assert not self.watched


def play(actors: list[Actor], chance: random.Random) -> None:
    """Run actors step by step in a random order; one that sleeps continues after a step of another."""
    for actor in actors:
        actor.start()
    while able := [actor for actor in actors if not actor.is_done]:
        awake = [actor for actor in able if not actor.sleeps]
        assert awake, "all actors wait for each other"
        # Sometimes one runs many steps in a row, so that each step is seen at each step of another.
        chosen = chance.choice(awake)
        for _ in range(chance.choice((1, 1, 2, 5, 10))):
            if not chosen.is_done and not chosen.sleeps:
                chosen.step()
        for actor in able:
            actor.sleeps = actor.sleeps and actor is chosen


INTERLEAVED: Final[dict[str, tuple[str, ...]]] = {
    "the background": ("reacquire", "check", "pass_time"),
    "an inspection": ("reacquire", "check", "pass_time", "inspect"),
    "two inspections": ("reacquire", "inspect", "inspect"),
    "the exit": ("reacquire", "check", "pass_time", "end"),
}


@pytest.mark.parametrize("names", INTERLEAVED.values(), ids=INTERLEAVED)
def test_in_every_order_a_retained_lock_is_released_once(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    """In every interleaving, the owner has the lock, or it is released once, or a release is scheduled."""
    for seed in range(SCHEDULES):
        with monkeypatch.context() as patch:
            simulation = Simulation(patch)
            play([Actor(getattr(simulation, name)) for name in names], random.Random(seed))
            simulation.settle()
