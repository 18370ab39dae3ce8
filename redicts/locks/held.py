"""Locks that this process holds, and what keeps an eye on them: renewal, alarms, and the removal of leftovers.

A lock that is to be renewed is so three times per lease. Whoever asked for it is told when two thirds of a lease are
over without a renewal, and again when the lock is lost, by the clock of this process if need be: the alarms do not wait
for a store that does not answer.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from redicts.api.tree import Tree
from redicts.core.locks.acquisition import Grant
from redicts.core.locks.records import HOLDERS, Mode, Request, overlap
from redicts.core.minitransaction import Equals, Path, Scope
from redicts.core.paths import all_described
from redicts.locks.path_index import Overlaps
from redicts.locks.scheduler import Worker

if TYPE_CHECKING:
    from redicts.locks.retention import Turn

_log: Final = logging.getLogger("redicts.locks")

_CLOCK_DRIFT: Final = 0.01
"""How much of a lease is given up, because this process's clock and the store's may run at different speeds."""

_CLOCK_STEP_SECS: Final = 0.002
"""And this much: stores count in milliseconds."""

_SOON: Final = 0.1
"""A renewal may come early by this part of the lease."""

_BATCH: Final = 100
_LONGEST_RETRY_SECS: Final = 1.0
_FIRST_RETRY_SECS: Final = 0.05
_LATE_SECS: Final = 1.0
"""How late a request may arrive that its sender has given up."""

Callback = Callable[[], object]
Paths = tuple[Path, ...]


class HeldLock:
    """A lock in the store that one owner of this process holds, with all that relies on it.

    ``lease`` is in milliseconds; ``valid_until`` is the time of ``time.monotonic`` up to which it is surely held.
    """

    __slots__ = (
        "alarmed",
        "is_alive",
        "is_watched",
        "lease",
        "lost",
        "on_loss",
        "on_renewal_overdue",
        "paths",
        "relied_on",
        "renew_at",
        "renewals",
        "request",
        "since",
        "token",
        "tree",
        "turn",
        "valid_until",
    )

    def __init__(
        self, tree: Tree, request: Request, paths: Paths, grant: Grant, lease: int, is_alive: Callable[[], bool]
    ) -> None:
        self.tree = tree
        self.request = request
        self.paths = paths
        """What was asked for, in the words in which it was."""
        self.turn: Turn | None = None
        self.token = grant.token
        self.is_alive = is_alive
        self.lost = False
        self.is_watched = False
        self.relied_on = 1
        self.renewals = 0
        """How many of those who rely on it want it renewed."""
        self.on_renewal_overdue: list[Callback] = []
        self.on_loss: list[Callback] = []
        self.begin_lease(grant.since, lease)

    def begin_lease(self, since: float, lease: int) -> None:
        """Note that the lease began again, not before this time of ``time.monotonic``."""
        self.since = since
        self.lease = lease
        self.valid_until = since + lease / 1000 * (1 - _CLOCK_DRIFT) - _CLOCK_STEP_SECS
        self.renew_at = since + lease / 3000
        self.alarmed = False

    def covers(self, paths: tuple[Path, ...], mode: Mode) -> bool:
        """Tell whether this lock is surely held and is all that a lock of this mode on these paths would be."""
        held = self.request
        if not self.is_valid or (held.mode is Mode.SHARED and mode is Mode.EXCLUSIVE):
            return False
        return all(any(path[: len(above)] == above for above in held.paths) for path in paths)

    @property
    def is_valid(self) -> bool:
        """Whether this lock is surely held, by the clock of this process."""
        return not self.lost and time.monotonic() < self.valid_until

    def guards(self, path: Path) -> list[Equals]:
        """Return the checks that this lock is held, as far as it has to do with a path."""
        held = self.request
        return [
            Equals(key, Scope.NODE, {(): held.record})
            for locked, key in zip(held.paths, held.keys(HOLDERS))
            if overlap(locked, path)
        ]

    def lose(self) -> None:
        """Note that this lock is held no more, and tell those who asked for it."""
        if not self.lost:
            self.lost = True
            stop_watching(self)
            _call(self.on_loss)

    @property
    def _renewal_overdue_at(self) -> float:
        return self.since + self.lease * 2 / 3000

    @property
    def alarm_at(self) -> float:
        """When to tell that this lock is in danger, or lost."""
        return self.valid_until if self.alarmed else min(self._renewal_overdue_at, self.valid_until)

    def alarm(self) -> None:
        """Tell that this lock is in danger, or lost."""
        if self.lost:
            stop_watching(self)
            return
        if not self.alarmed:
            self.alarmed = True
            _call(self.on_renewal_overdue)
        if time.monotonic() >= self.valid_until:
            self.lose()

    def __repr__(self) -> str:
        return all_described(self.request.paths)


class HeldLocks:
    """The locks that one owner has in one store, found by path."""

    __slots__ = ("_by_path", "requests")

    def __init__(self) -> None:
        self._by_path: Overlaps[HeldLock] = Overlaps()
        self.requests: dict[Request, None] = {}

    def add(self, hold: HeldLock) -> None:
        """Add a lock."""
        self.requests[hold.request] = None
        for path in hold.request.paths:
            self._by_path.add(path, hold)

    def remove(self, hold: HeldLock) -> None:
        """Take a lock away."""
        del self.requests[hold.request]
        for path in hold.request.paths:
            self._by_path.remove(path, hold)

    def covering(self, paths: Paths, mode: Mode) -> HeldLock | None:
        """Return a lock that is all that a lock of this mode on these paths would be."""
        return next((hold for hold in self._by_path.above(paths[0]) if hold.covers(paths, mode)), None)

    def overlapping(self, path: Path) -> list[HeldLock]:
        """Return the locks on what is above, at or below a path."""
        return list(dict.fromkeys(self._by_path.overlapping(path)))


class LockOptions(NamedTuple):
    """What one acquisition asks for beside the lock: that it is renewed, and whom to call when it is in danger."""

    renew: bool = False
    on_renewal_overdue: Callback | None = None
    on_loss: Callback | None = None

    def add_to(self, hold: HeldLock) -> None:
        """Do so for a lock from now on."""
        if not any(self):
            return
        hold.renewals += self.renew
        if self.on_renewal_overdue is not None:
            hold.on_renewal_overdue.append(self.on_renewal_overdue)
        if self.on_loss is not None:
            hold.on_loss.append(self.on_loss)
        watch(hold)

    def take_from(self, hold: HeldLock) -> None:
        """Do so no more."""
        if not any(self):
            return
        hold.renewals -= self.renew
        if self.on_renewal_overdue is not None:
            hold.on_renewal_overdue.remove(self.on_renewal_overdue)
        if self.on_loss is not None:
            hold.on_loss.remove(self.on_loss)
        stop_watching(hold)
        watch(hold)


class Acquired(NamedTuple):
    """One acquisition that is not released yet: the lock that it relies on, and what it asked for."""

    hold: HeldLock
    options: LockOptions


class _Leftover:
    """A request that may have left something in the store, which could not be asked to remove it.

    It is removed twice, for the request that left it may itself be late.
    """

    __slots__ = ("_attempts", "_removed", "_request", "_tree", "_until", "due")

    def __init__(self, tree: Tree, request: Request, lease: int) -> None:
        self._tree = tree
        self._request = request
        self._attempts = 0
        self._removed = False
        self.due = time.monotonic()
        # What a lease ends need not be removed.
        self._until = self.due + lease / 1000 + _LATE_SECS

    def remove(self) -> bool:
        """Try to remove it, and tell whether that is settled."""
        try:
            self._tree.run(self._tree.locks.withdraw(self._request))
        except Exception:
            self._attempts += 1
            pause = min(_LONGEST_RETRY_SECS, _FIRST_RETRY_SECS * 2 ** min(self._attempts, 10))
            self.due = time.monotonic() + pause * random.uniform(0.5, 1)  # noqa: S311  (no secret)
            return self.due > self._until
        settled, self._removed = self._removed, True
        self.due = time.monotonic() + _LATE_SECS
        return settled


def watch(hold: HeldLock) -> None:
    """Renew a lock, and tell of danger and loss, as far as somebody asked for it."""
    if hold.lost:
        return
    if hold.renewals:
        hold.is_watched = True
        _renewals.add(hold)
    if hold.on_renewal_overdue or hold.on_loss:
        hold.is_watched = True
        _alarms.add(hold)


def stop_watching(hold: HeldLock) -> None:
    """Let a lock be."""
    _renewals.discard(hold)
    _alarms.discard(hold)


def remove_later(tree: Tree, request: Request, lease: int) -> None:
    """Remove what a request may have left in the store, as soon as the store can be reached."""
    _leftovers.add(_Leftover(tree, request, lease))


def _renew(_due: list[HeldLock]) -> None:
    # Those that are due soon go along, so that locks that were acquired one by one are renewed together from then on.
    now = time.monotonic()
    holds = [hold for hold in _renewals.items() if hold.renew_at <= now + hold.lease * _SOON / 1000]
    for tree, group in groupby(sorted(holds, key=lambda hold: id(hold.tree)), key=lambda hold: hold.tree):
        batch = list(group)
        for start in range(0, len(batch), _BATCH):
            _renew_batch(tree, batch[start : start + _BATCH])


def _renew_batch(tree: Tree, holds: list[HeldLock]) -> None:
    ended = [hold for hold in holds if hold.lost or not hold.is_alive()]
    for hold in ended:
        _renewals.discard(hold)
    holds = [hold for hold in holds if hold not in ended]
    if not holds:
        return
    since = time.monotonic()
    try:
        still_held = tree.run(tree.locks.renew([(hold.request, hold.lease) for hold in holds]))
    except Exception as error:
        _log.warning("locks could not be renewed, trying again: %s", error)
        for hold in holds:
            pause = min(_LONGEST_RETRY_SECS, hold.lease / 10_000)
            hold.renew_at = time.monotonic() + pause * random.uniform(0.5, 1)  # noqa: S311  (no secret)
        return
    for hold, still in zip(holds, still_held):
        if still:
            hold.begin_lease(since, hold.lease)
        else:
            hold.lose()


def _sound(holds: list[HeldLock]) -> None:
    for hold in holds:
        hold.alarm()


def _remove(leftovers: list[_Leftover]) -> None:
    for leftover in leftovers:
        if leftover.remove():
            _leftovers.discard(leftover)


def _call(callbacks: list[Callback]) -> None:
    for callback in callbacks:
        try:
            callback()
        except Exception:
            _log.exception("what was to be called about a lock failed")


_renewals: Final = Worker("redicts-renewals", lambda hold: hold.renew_at, _renew)
_alarms: Final = Worker("redicts-alarms", lambda hold: hold.alarm_at, _sound)
_leftovers: Final = Worker("redicts-leftovers", lambda leftover: leftover.due, _remove)
