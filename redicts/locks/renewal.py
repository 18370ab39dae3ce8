"""Background work on the locks of one database: renews leases, calls callbacks, and withdraws leftovers.

A lock is renewed three times per lease. Its callbacks are called when two thirds of a lease have passed without a
renewal, and when the lock is lost. If the store does not answer, the clock of this process decides.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any, Final

from redicts.core.driver import Steps
from redicts.core.locks.records import Request
from redicts.core.store import TreeStore
from redicts.locks.held import HeldLock, LockOptions, call_back
from redicts.locks.scheduler import Scheduler

_log: Final = logging.getLogger("redicts.locks")

_SOON: Final = 0.1
"""The fraction of the lease by which a renewal may be early, to renew locks in batches."""

_BATCH: Final = 100
"""The maximum number of locks in one renewal."""

_LONGEST_RETRY_SECS: Final = 1.0
_FIRST_RETRY_SECS: Final = 0.05
_LATE_SECS: Final = 1.0
"""The longest delay of a request after its sender has given up."""


class Renewal:
    """The background work on the locks of one database, in one scheduler per kind. ``run`` carries out steps."""

    __slots__ = ("_alarms", "_leftovers", "_renewals", "_run", "_store")

    def __init__(self, store: TreeStore, run: Callable[[Steps[Any]], Any]) -> None:
        self._store = store
        self._run = run
        self._renewals: Scheduler[HeldLock] = Scheduler("redicts-renewals", lambda lock: lock.renew_at, self._renew_due)
        self._alarms: Scheduler[HeldLock] = Scheduler("redicts-alarms", lambda lock: lock.alarm_at, self._alarm_due)
        self._leftovers: Scheduler[_Leftover] = Scheduler(
            "redicts-leftovers", lambda each: each.due, self._withdraw_due
        )

    def add(self, lock: HeldLock, options: LockOptions) -> None:
        """Add the options of one acquisition to a lock, and begin to watch it."""
        lock.add(options)
        self.watch(lock)

    def remove(self, lock: HeldLock, options: LockOptions) -> None:
        """Remove the options of one acquisition from a lock."""
        lock.remove(options)
        self.stop(lock)
        self.watch(lock)

    def watch(self, lock: HeldLock) -> None:
        """Renew a lock and call its callbacks, as the options of its acquisitions say."""
        if lock.lost:
            return
        if lock.renewals:
            lock.is_watched = True
            self._renewals.add(lock)
        if lock.on_renewal_overdue or lock.on_loss:
            lock.is_watched = True
            self._alarms.add(lock)

    def stop(self, lock: HeldLock) -> None:
        """Stop renewing a lock and watching it."""
        self._renewals.discard(lock)
        self._alarms.discard(lock)

    def lose(self, lock: HeldLock) -> None:
        """Record that a lock is lost, and call its ``on_loss`` callbacks, once."""
        if not lock.lost:
            lock.lost = True
            self.stop(lock)
            call_back(lock.on_loss)

    def withdraw_later(self, request: Request, lease: int) -> None:
        """Withdraw a request as soon as the store can be reached. Its records expire after ``lease`` milliseconds."""
        self._leftovers.add(_Leftover(request, lease))

    def _renew_due(self, _due: list[HeldLock]) -> None:
        now = time.monotonic()
        locks = [lock for lock in self._renewals.items() if lock.renew_at <= now + lock.lease * _SOON / 1000]
        for start in range(0, len(locks), _BATCH):
            self._renew(locks[start : start + _BATCH])

    def _renew(self, locks: list[HeldLock]) -> None:
        ended = [lock for lock in locks if lock.lost or not lock.is_alive()]
        for lock in ended:
            self._renewals.discard(lock)
        locks = [lock for lock in locks if lock not in ended]
        if not locks:
            return
        since = time.monotonic()
        try:
            still_held = self._run(self._store.renew([(lock.request, lock.lease) for lock in locks]))
        except Exception as error:
            _log.warning("locks could not be renewed, trying again: %s", error)
            for lock in locks:
                pause = min(_LONGEST_RETRY_SECS, lock.lease / 10_000)
                lock.renew_at = time.monotonic() + pause * random.uniform(0.5, 1)  # noqa: S311  (not a secret)
            return
        for lock, is_held in zip(locks, still_held):
            if is_held:
                lock.begin_lease(since, lock.lease)
            else:
                self.lose(lock)

    def _alarm_due(self, locks: list[HeldLock]) -> None:
        for lock in locks:
            if lock.lost:
                self.stop(lock)
                continue
            if not lock.overdue:
                lock.overdue = True
                call_back(lock.on_renewal_overdue)
            if time.monotonic() >= lock.valid_until:
                self.lose(lock)

    def _withdraw_due(self, leftovers: list[_Leftover]) -> None:
        for leftover in leftovers:
            try:
                self._run(self._store.withdraw(leftover.request))
            except Exception:
                is_settled = leftover.failed()
            else:
                is_settled = leftover.withdrawn()
            if is_settled:
                self._leftovers.discard(leftover)


class _Leftover:
    """A request to withdraw later, because the store could not be reached and may have records of it.

    It is withdrawn twice, because the transaction that writes the records may arrive late.
    """

    __slots__ = ("_attempts", "_until", "_withdrawn", "due", "request")

    def __init__(self, request: Request, lease: int) -> None:
        self.request = request
        self.due = time.monotonic()
        self._attempts = 0
        self._withdrawn = False
        self._until = self.due + lease / 1000 + _LATE_SECS

    def failed(self) -> bool:
        """Record a failed attempt, and return whether the records have expired."""
        self._attempts += 1
        pause = min(_LONGEST_RETRY_SECS, _FIRST_RETRY_SECS * 2 ** min(self._attempts, 10))
        self.due = time.monotonic() + pause * random.uniform(0.5, 1)  # noqa: S311  (not a secret)
        return self.due > self._until

    def withdrawn(self) -> bool:
        """Record a withdrawal, and return whether it was the second one."""
        was_withdrawn, self._withdrawn = self._withdrawn, True
        self.due = time.monotonic() + _LATE_SECS
        return was_withdrawn
