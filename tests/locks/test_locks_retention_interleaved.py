"""Turns, step by step: an owner, the background thread, somebody who looks and the end of the turn, in any order.

Each party is a thread that stops before every step that others could notice, until a schedule lets it go on; so a
schedule decides all, and a failing one fails again. (As the explorer of ``tests/core/locks`` does for the protocol.)
"""

from __future__ import annotations

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
SCHEDULES: Final = 1_500


class Party(threading.Thread):
    """One of those who do something at once; it takes a step when it is told to."""

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
        """Let others go on before the next step."""
        self._stopped.release()
        self._go.acquire()

    def step(self) -> None:
        """Go on up to the next stop."""
        self.sleeps = False
        self._go.release()
        self._stopped.acquire()
        if self.error is not None:
            raise self.error


def stop() -> None:
    """Stop the running party, if it is one."""
    running = threading.current_thread()
    if isinstance(running, Party):
        running.stop_here()


class Watched:
    """Something whose every use is a step that others could notice."""

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


class World:
    """One lock, its owner inside a retention window, and what may happen to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.monotonic()
        self.kept: dict[LockOwner, HeldLock] = {}
        self.in_hand: set[Any] = set()
        self.watched: dict[RetentionWindow, None] = {}
        self.has_it = True
        """Whether the owner is inside."""
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
        for name, inner in {"retained": self.kept, "_in_hand": self.in_hand, "_windows": watched}.items():
            setattr(self.retention, name, Watched(inner))
        self.me = LockOwner("owner", lambda: True)
        request = Request(request_name(), self.me.owner, Mode.EXCLUSIVE, PATHS, 0)
        self.lock = HeldLock(request, PATHS, Grant(1, self.now, 100), LEASE, lambda: True)
        self.retention.begin(self.me, self.lock, Grant(1, self.now, 100))

    @staticmethod
    def _run(steps: Steps[Any]) -> Any:
        return driver.run(steps, MemoryBackend())

    def _give_back(self, _request: Request) -> Steps[bool]:
        assert not self.has_it, "what the owner holds was given back"
        stop()
        assert not self.has_it, "what the owner holds was given back"
        self.released += 1
        assert self.released == 1, "it was given back twice"
        return True
        yield Pause(0)

    @staticmethod
    def _sleep(_seconds: float) -> None:
        running = threading.current_thread()
        assert isinstance(running, Party)
        running.sleeps = True
        running.stop_here()

    def come_and_go(self) -> None:
        """Release and come back, as long as that goes on, and release at last."""
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
            assert not self.released, "the owner got what was given back"

    def look_on(self) -> None:
        """Do what the background thread does, a few times; it is always late."""
        for _ in range(3):
            stop()
            if self.watched:
                self.retention._check(list(self.watched))

    def ask(self) -> None:
        """Look who holds locks, as some other thread."""
        self._finds_free_what_is_kept(lambda: self._run(self.retention.end()))

    def end(self) -> None:
        """End this process."""
        self._finds_free_what_is_kept(self.retention.end_all)

    def _finds_free_what_is_kept(self, end: Callable[[], None]) -> None:
        stop()
        # A mark may be there though the owner was quicker.
        is_in_hand = bool(self.in_hand) and not self.has_it and not self.is_releasing
        was_released, comebacks = bool(self.kept) or is_in_hand, self.comebacks
        end()
        assert not was_released or self.released or self.comebacks > comebacks, "it was released, and is not free"

    def pass_time(self) -> None:
        """Let what is kept be overdue, and then the turn be over."""
        for seconds in (0.002, 0.004):
            stop()
            self.now += seconds

    def settle(self) -> None:
        """Insist that the background thread, once it has looked, leaves nothing kept that nobody would give back."""
        assert not self.in_hand
        assert not (self.kept and not self.watched), "it is kept, and nobody will ever give it back"
        self.now += 0.002
        if self.retention._can_retain:
            self.retention._check(list(self.watched))
        assert not self.kept
        assert self.released == (0 if self.has_it else 1)
        self.now += 1
        self.retention._check(list(self.watched))
        assert not self.watched


def play(parties: list[Party], chance: random.Random) -> None:
    """Let parties take steps in an order that chance decides; one that sleeps does so until another took a step."""
    for party in parties:
        party.start()
    while able := [party for party in parties if not party.is_done]:
        awake = [party for party in able if not party.sleeps]
        assert awake, "all wait for each other"
        # Now and then one takes many steps in a row, for each to be seen at each step of another.
        chosen = chance.choice(awake)
        for _ in range(chance.choice((1, 1, 2, 5, 10))):
            if not chosen.is_done and not chosen.sleeps:
                chosen.step()
        for party in able:
            party.sleeps = party.sleeps and party is chosen


TOGETHER: Final[dict[str, tuple[str, ...]]] = {
    "the background": ("come_and_go", "look_on", "pass_time"),
    "a look": ("come_and_go", "look_on", "pass_time", "ask"),
    "two looks": ("come_and_go", "ask", "ask"),
    "the end": ("come_and_go", "look_on", "pass_time", "end"),
}


@pytest.mark.parametrize("names", TOGETHER.values(), ids=TOGETHER)
def test_in_whatever_order_a_lock_is_given_back_once(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
    """Whoever else takes steps in between, the owner has the lock, or it is given back once, or surely soon will be."""
    for seed in range(SCHEDULES):
        with monkeypatch.context() as patch:
            world = World(patch)
            play([Party(getattr(world, name)) for name in names], random.Random(seed))
            world.settle()
