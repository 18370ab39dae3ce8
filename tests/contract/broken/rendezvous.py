"""Rendezvous in the midst of a call: a broken store loses its races every time, not by luck."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, TypeVar
from weakref import WeakSet

from redicts.core.minitransaction import Outcome, Read, Scope, Transaction
from tests.contract.reference_model import DictBackend

_Happened = TypeVar("_Happened")

_POLL_SECS: Final = 0.0005


def wait_until(happened: Callable[[], _Happened | None], seconds: float) -> _Happened | None:
    """Wait, for a bounded time, until something has happened, and return what is so then."""
    deadline = time.monotonic() + seconds
    while not (found := happened()) and time.monotonic() < deadline:
        time.sleep(_POLL_SECS)
    return found


class Gap:
    """A point in the calls of a store at which one thread waits until a call of another one has come in between.

    Threads that reach it meanwhile pass, so that there is another call. So does the thread of the check itself, which
    bears its name and races with nobody, and a thread for which nothing came in between before, as for the last one of
    a race. The wait is bounded: it must end before the check's own time limit does.
    """

    def __init__(self, seconds: float = 0.5) -> None:
        self._seconds: Final = seconds
        self._taken: Final = threading.Lock()
        self._alone: Final[WeakSet[threading.Thread]] = WeakSet()

    def wait_until(self, happened: Callable[[], _Happened | None]) -> _Happened | None:
        """Wait until something has happened, and return what is so then; return ``None`` to a thread that passes."""
        thread = threading.current_thread()
        if not thread.name.startswith("Thread-") or thread in self._alone or not self._taken.acquire(blocking=False):
            return None
        try:
            found = wait_until(happened, self._seconds)
            if not found:
                self._alone.add(thread)
            return found
        finally:
            self._taken.release()


class MeetingBackend(DictBackend):
    """A correct store whose broken heirs let another thread write or read in the midst of their calls."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.gap = Gap()
        self.looks: Final[Counter[Scope]] = Counter()
        """How often values were read in each scope, by transactions that write nothing."""
        self.written = 0
        """How many transactions were applied that write something."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if transaction.writes:
            self.written += outcome.applied
        else:
            self.looks.update(read.scope for read in transaction.reads if isinstance(read, Read))
        return outcome

    def let_others_write(self, before: int) -> None:
        """Wait until another thread has written, since so many transactions were applied."""
        self.gap.wait_until(lambda: self.written != before)

    def let_others_look(self, scope: Scope) -> None:
        """Wait until another thread has read the values in some scope of this kind."""
        before = self.looks[scope]
        self.gap.wait_until(lambda: self.looks[scope] > before)


class Forks:
    """A gap that ends with a fork, once the process has forked since this was made."""

    def __init__(self) -> None:
        self._first: Final = _forks[0]
        self._gap: Final = Gap()

    def wait_for_one(self) -> None:
        """Wait until another thread has forked."""
        before = _forks[0]
        if before > self._first:
            self._gap.wait_until(lambda: _forks[0] > before)


_forks: Final = [0]


def _count_fork() -> None:
    _forks[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_count_fork)
