"""The plan of a faulty proxy: what shall happen to the next data requests, in the order in which they come."""

from __future__ import annotations

import threading
from collections import deque
from enum import Enum, auto
from typing import Final, NamedTuple

SETUP_COMMANDS: Final = frozenset(
    {"HELLO", "CLIENT", "AUTH", "SELECT", "PING", "READONLY", "COMMAND", "SCRIPT LOAD", "SCRIPT EXISTS"}
)
"""Requests that only set a connection up: a command, or a command and its first word."""


class Fault(Enum):
    """What can happen to a data request."""

    NONE = auto()
    LOSE_REPLY = auto()
    HOLD = auto()


class Step(NamedTuple):
    """One entry of a plan; ``after`` counts the bytes of a lost reply that still reach the client."""

    fault: Fault
    after: int = 0


PASS: Final = Step(Fault.NONE)


class HeldLocks:
    """A request that waits for its release, and is then waited for until the server has answered it."""

    def __init__(self) -> None:
        self.released: Final = threading.Event()
        self.finished: Final = threading.Event()
        self.abandoned = False


class Expected(NamedTuple):
    """A reply that is to come: what shall happen to it, and who waits for it."""

    step: Step
    held: HeldLocks | None = None


class Plan:
    """A queue of steps, shared by all connections of one proxy; each data request takes one."""

    def __init__(self, setup: frozenset[str]) -> None:
        self._setup: Final = setup
        self._lock: Final = threading.Lock()
        self._steps: Final[deque[Step]] = deque()
        self._held: Final[list[HeldLocks]] = []
        self._requests = 0

    def add(self, step: Step, count: int) -> None:
        """Plan a step for ``count`` requests, after all that is planned."""
        with self._lock:
            self._steps.extend([step] * count)

    def clear(self) -> None:
        """Forget what is planned."""
        with self._lock:
            self._steps.clear()

    def take(self, words: list[str]) -> Expected:
        """Decide what shall happen to a request, given by its first two words, and count it if it is one for data."""
        if words[0] in self._setup or " ".join(words) in self._setup:
            return Expected(PASS)
        with self._lock:
            self._requests += 1
            step = self._steps.popleft() if self._steps else PASS
            if step.fault is not Fault.HOLD:
                return Expected(step)
            held = HeldLocks()
            self._held.append(held)
            return Expected(step, held)

    def give_back(self, step: Step) -> None:
        """Put a step back in front, because the request that took it was not executed."""
        with self._lock:
            self._steps.appendleft(step)

    def let_go(self) -> list[HeldLocks]:
        """Return the requests that are held, which are then held no more; the caller releases them."""
        with self._lock:
            held = self._held[:]
            self._held.clear()
            return held

    @property
    def requests(self) -> int:
        """How many data requests there were."""
        with self._lock:
            return self._requests

    @property
    def held(self) -> int:
        """How many requests are held."""
        with self._lock:
            return len(self._held)

    @property
    def pending(self) -> int:
        """How many steps are planned."""
        with self._lock:
            return len(self._steps)
