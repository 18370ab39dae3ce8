"""The plan of a fault proxy: what happens to the next data requests, in the order in which they come."""

from __future__ import annotations

import threading
from collections import deque
from enum import Enum, auto
from typing import Final, NamedTuple

from .waiting import TIMEOUT, eventually

SETUP_COMMANDS: Final = frozenset(
    {
        "HELLO",
        "CLIENT",
        "AUTH",
        "SELECT",
        "PING",
        "READONLY",
        "COMMAND",
        "SCRIPT LOAD",
        "SCRIPT EXISTS",
        "FUNCTION LOAD",
    }
)
"""Requests that only set up a connection: a command, or a command and its first argument."""


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


class HeldRequest:
    """A request that waits for its release, and then for the server's reply."""

    def __init__(self) -> None:
        self.released: Final = threading.Event()
        self.finished: Final = threading.Event()
        self.abandoned = False


class Expected(NamedTuple):
    """An expected reply, and what happens to it."""

    step: Step
    held: HeldRequest | None = None


class Plan:
    """A queue of faults, shared by all connections of one proxy: each *data* request takes the next one.

    ``setup`` names the commands that faults neither hit nor count, in capitals: ``"PING"``, ``"SCRIPT LOAD"``.
    """

    def __init__(self, setup: frozenset[str]) -> None:
        self._setup: Final = setup
        self._plan_lock: Final = threading.Lock()
        self._steps: Final[deque[Step]] = deque()
        self._held: Final[list[HeldRequest]] = []
        self._requests = 0
        self.loses_every = False
        """Whether each data request that no other fault hits is executed, and its connection closed."""

    @property
    def requests(self) -> int:
        """How many data requests clients have sent."""
        with self._plan_lock:
            return self._requests

    @property
    def held(self) -> int:
        """How many requests are held now."""
        with self._plan_lock:
            return len(self._held)

    @property
    def pending(self) -> int:
        """How many planned faults (and passes) no request has taken yet."""
        with self._plan_lock:
            return len(self._steps)

    def pass_requests(self, count: int = 1) -> None:
        """Let the next ``count`` data requests pass unharmed; later entries of the plan hit those that follow."""
        self._add(PASS, count)

    def drop_replies(self, count: int = 1) -> None:
        """Have the next ``count`` data requests executed, and close the client's connection instead of replying.

        A reply that a script, function or command is unknown passes, because nothing was executed, and the fault
        waits for the next request.
        """
        self._add(Step(Fault.LOSE_REPLY), count)

    def cut_replies(self, count: int = 1, *, after: int) -> None:
        """As :meth:`drop_replies`, but the first ``after`` bytes of each reply reach the client before the end."""
        self._add(Step(Fault.LOSE_REPLY, after), count)

    def hold_requests(self, count: int = 1) -> None:
        """Keep the next ``count`` data requests from the server until :meth:`release_held`.

        Further requests on the same connection wait behind them. The client may close its connection meanwhile.
        """
        self._add(Step(Fault.HOLD), count)

    def wait_until_held(self, count: int = 1) -> None:
        """Wait until at least ``count`` requests are held.

        Raises :class:`AssertionError` if that does not happen within :data:`TIMEOUT` seconds.
        """
        eventually(lambda: self.held >= count, f"{count} requests are held")

    def release_held(self) -> None:
        """Send the held requests to the server in the order in which they came; return when each is answered.

        A request counts as answered if the server has closed its connection.

        Raises :class:`AssertionError` if the server does not answer one within :data:`TIMEOUT` seconds.
        """
        for held in self._take_held():
            held.released.set()
            assert held.finished.wait(TIMEOUT), "the server answers a released request"

    def abandon_held(self) -> None:
        """Give up the held requests: they are never executed."""
        for held in self._take_held():
            held.abandoned = True
            held.released.set()

    def clear(self) -> None:
        """Forget the faults that no request has taken yet."""
        with self._plan_lock:
            self._steps.clear()

    def take(self, words: list[str]) -> Expected:
        """Decide what happens to a request, given by its first two words, and count it if it is a data request."""
        if words[0] in self._setup or " ".join(words) in self._setup:
            return Expected(PASS)
        with self._plan_lock:
            self._requests += 1
            usual = Step(Fault.LOSE_REPLY) if self.loses_every else PASS
            step = self._steps.popleft() if self._steps else usual
            if step.fault is not Fault.HOLD:
                return Expected(step)
            held = HeldRequest()
            self._held.append(held)
            return Expected(step, held)

    def give_back(self, step: Step) -> None:
        """Put a step back at the front, because the request that took it was not executed."""
        with self._plan_lock:
            self._steps.appendleft(step)

    def _add(self, step: Step, count: int) -> None:
        with self._plan_lock:
            self._steps.extend([step] * count)

    def _take_held(self) -> list[HeldRequest]:
        with self._plan_lock:
            held = self._held[:]
            self._held.clear()
            return held
