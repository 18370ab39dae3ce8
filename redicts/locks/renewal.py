"""Background work on the locks of one database: renews leases, calls callbacks, and withdraws leftovers.

A lock is renewed three times per lease. Its callbacks are called when two thirds of a lease have passed without a
renewal, and when the lock is lost. If the store does not answer, the clock of this process decides.

Each kind of work has a thread of its own, so a request that hangs delays no callback. Code of users, that is callbacks
and handlers of logging, never runs in a thread that renews or withdraws: it may sleep or raise anything.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from redicts.core.driver import Steps
from redicts.core.locks.records import Request
from redicts.core.store import TreeStore
from redicts.locks.held import Callback, HeldLock, LockOptions
from redicts.locks.scheduler import Scheduler
from redicts.randomness import RANDOM

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

    __slots__ = ("_callbacks", "_leftovers", "_renewals", "_run", "_store", "_warnings")

    def __init__(self, store: TreeStore, run: Callable[[Steps[Any]], Any]) -> None:
        self._store = store
        self._run = run
        self._renewals: Scheduler[HeldLock] = Scheduler("redicts-renewals", lambda lock: lock.renew_at, self._renew_due)
        self._callbacks: Scheduler[HeldLock] = Scheduler(
            "redicts-callbacks", lambda lock: lock.alarm_at, self._call_due
        )
        self._leftovers: Scheduler[_Leftover] = Scheduler(
            "redicts-leftovers", lambda each: each.due, self._withdraw_due
        )
        self._warnings: Scheduler[Callback] = Scheduler("redicts-warnings", lambda _: 0.0, self._warn)

    def add(self, lock: HeldLock, options: LockOptions) -> None:
        """Add the options of one acquisition to a lock, and begin to watch it."""
        lock.add(options)
        self.watch(lock)

    def remove(self, lock: HeldLock, options: LockOptions) -> None:
        """Remove the options of one acquisition from a lock, if they are there.

        If the lock is already lost, its ``on_loss`` is called all the same.
        """
        if not lock.lost:
            lock.remove(options)
            self.watch(lock)

    def watch(self, lock: HeldLock) -> None:
        """Renew a lock and call its callbacks, as the options of its acquisitions say."""
        _schedule(self._renewals, lock, _is_renewed)
        _schedule(self._callbacks, lock, _has_callbacks)

    def stop(self, lock: HeldLock) -> None:
        """Stop renewing a lock and watching it, except that the callbacks for a loss are called."""
        self._renewals.discard(lock)
        if not lock.lost:
            self._callbacks.discard(lock)

    def lose(self, lock: HeldLock) -> None:
        """Record that a lock is lost, and have its ``on_loss`` callbacks called, once."""
        lock.lost = True
        with suppress(RuntimeError):  # no thread can be started
            self.watch(lock)

    def end(self) -> None:
        """Stop renewing and watching all locks. What is to be withdrawn is tried once more."""
        for lock in [*self._renewals.items(), *self._callbacks.items()]:
            for options in lock.options:
                lock.remove(options)
            self._renewals.discard(lock)
            self._callbacks.discard(lock)
        for leftover in self._leftovers.items():
            leftover.is_last = True
            leftover.due = 0.0
            with suppress(RuntimeError):
                self._leftovers.add(leftover)

    def withdraw_later(self, request: Request, lease: int) -> None:
        """Withdraw a request as soon as the store can be reached. Its records expire after ``lease`` milliseconds."""
        with suppress(RuntimeError):  # no thread can be started: the next leftover tries again
            self._leftovers.add(_Leftover(request, lease))

    def _renew_due(self, _due: list[HeldLock]) -> None:
        now = time.monotonic()
        asked: list[tuple[HeldLock, int]] = []
        for lock in self._renewals.items():
            if not lock.is_alive():
                self._renewals.discard(lock)
            elif not _is_renewed(lock):
                self.watch(lock)
            elif lock.renew_at <= now + lock.lease * _SOON / 1000:
                asked.append((lock, lock.lease))
        for start in range(0, len(asked), _BATCH):
            self._renew(asked[start : start + _BATCH])

    def _renew(self, asked: list[tuple[HeldLock, int]]) -> None:
        since = time.monotonic()
        try:
            still_held = self._run(self._store.renew([(lock.request, lease) for lock, lease in asked]))
        except Exception as error:
            for lock, lease in asked:
                pause = min(_LONGEST_RETRY_SECS, lease / 10_000)
                lock.renew_at = time.monotonic() + pause * RANDOM.uniform(0.5, 1)
            with suppress(RuntimeError):
                self._warnings.add(partial(_log.warning, "locks could not be renewed, trying again: %s", error))
            return
        for (lock, lease), is_held in zip(asked, still_held):
            if is_held:
                lock.renewed(since, lease)
            elif _is_renewed(lock):  # not released meanwhile
                self.lose(lock)

    def _call_due(self, locks: list[HeldLock]) -> None:
        for lock in locks:
            # Again, because the callbacks of the locks before may have taken long.
            since, now = lock.since, time.monotonic()
            if lock.alarm_at > now:
                continue
            if lock.is_overdue and now >= lock.valid_until:
                self.lose(lock)
            is_lost = lock.lost
            for options in lock.options:
                callback = options.on_loss if is_lost else options.on_renewal_overdue
                if callback is not None:
                    _call_back(callback)
                    if not self._callbacks.runs_here:
                        return  # this is a child, which the callback forked
                if is_lost:
                    lock.remove(options)
            if not is_lost:
                lock.overdue(since)
            _schedule(self._callbacks, lock, _has_callbacks)

    def _warn(self, warnings: list[Callback]) -> None:
        for warning in warnings:
            self._warnings.discard(warning)
            _call_back(warning)

    def _withdraw_due(self, leftovers: list[_Leftover]) -> None:
        for leftover in leftovers:
            try:
                self._run(self._store.withdraw(leftover.request))
            except Exception:
                is_settled = leftover.failed()
            else:
                is_settled = leftover.withdrawn()
            if is_settled or leftover.is_last:
                self._leftovers.discard(leftover)


class _Leftover:
    """A request to withdraw later, because the store could not be reached and may have records of it.

    It is withdrawn twice, because the transaction that writes the records may arrive late.
    """

    __slots__ = ("_attempts", "_until", "_withdrawn", "due", "is_last", "request")

    def __init__(self, request: Request, lease: int) -> None:
        self.request = request
        self.due = time.monotonic()
        self.is_last = False
        """Whether there is only one more attempt."""
        self._attempts = 0
        self._withdrawn = False
        self._until = self.due + lease / 1000 + _LATE_SECS

    def failed(self) -> bool:
        """Record a failed attempt, and return whether the records have expired."""
        self._attempts += 1
        pause = min(_LONGEST_RETRY_SECS, _FIRST_RETRY_SECS * 2 ** min(self._attempts, 10))
        self.due = time.monotonic() + pause * RANDOM.uniform(0.5, 1)
        return self.due > self._until

    def withdrawn(self) -> bool:
        """Record a withdrawal, and return whether it was the second one."""
        was_withdrawn, self._withdrawn = self._withdrawn, True
        self.due = time.monotonic() + _LATE_SECS
        return was_withdrawn


def _schedule(scheduler: Scheduler[HeldLock], lock: HeldLock, is_needed: Callable[[HeldLock], bool]) -> None:
    """Add a lock to a scheduler if it needs to be there, else remove it."""
    while True:
        was_needed = is_needed(lock)
        if was_needed:
            lock.is_watched = True
            scheduler.add(lock)
        else:
            scheduler.discard(lock)
        if is_needed(lock) == was_needed:  # else another thread changed the options meanwhile
            return


def _is_renewed(lock: HeldLock) -> bool:
    return not lock.lost and any(each.renew for each in lock.options)


def _has_callbacks(lock: HeldLock) -> bool:
    return any(each.on_renewal_overdue or each.on_loss for each in lock.options)


def _call_back(callback: Callback) -> None:
    """Run code of a user. What it raises is logged: it must not stop other callbacks."""
    try:
        callback()
    except BaseException:
        _log.exception("a lock's callback failed")
