"""Held locks of this process, with their lease, and the path index of those of one owner."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple

from redicts.core.locks.acquisition import Grant
from redicts.core.locks.records import HOLDERS, Mode, Request, overlap
from redicts.core.minitransaction import Equals, Path, Scope
from redicts.core.paths import all_described
from redicts.locks.owner import Paths

_log: Final = logging.getLogger("redicts.locks")

_CLOCK_DRIFT: Final = 0.01
"""The fraction of a lease that is not used, because the clocks of this process and of the store may drift."""

_CLOCK_STEP_SECS: Final = 0.002
"""The seconds of a lease that are not used, because stores count in milliseconds."""

Callback = Callable[[], object]


class RetentionWindow:
    """The time in which an owner may reacquire a retained lock, see :mod:`redicts.locks.retention`.

    Times are those of ``time.monotonic``. ``look_at`` is the time to check whether the owner has reacquired the lock.
    """

    __slots__ = ("ends", "is_watched", "look_at", "owner", "retained_at", "tokens")

    def __init__(self, owner: Hashable, ends: float, tokens: int) -> None:
        self.owner = owner
        self.ends = ends
        self.tokens = tokens
        """The number of reserved fencing tokens."""
        self.retained_at = self.look_at = 0.0
        self.is_watched = False


class LockOptions(NamedTuple):
    """The lock options of one acquisition: renewal, and callbacks."""

    renew: bool = False
    on_renewal_overdue: Callback | None = None
    on_loss: Callback | None = None


NO_OPTIONS: Final = LockOptions()


class HeldLock:
    """A lock that one owner of this process holds in the store.

    ``lease`` is in milliseconds. Until ``valid_until``, by ``time.monotonic``, the lock is certainly held.
    """

    __slots__ = (
        "is_alive",
        "is_watched",
        "lease",
        "lost",
        "on_loss",
        "on_renewal_overdue",
        "overdue",
        "paths",
        "relied_on",
        "renew_at",
        "renewals",
        "request",
        "since",
        "token",
        "valid_until",
        "window",
    )

    def __init__(self, request: Request, paths: Paths, grant: Grant, lease: int, is_alive: Callable[[], bool]) -> None:
        self.request = request
        self.paths = paths
        """The paths as the owner gave them."""
        self.window: RetentionWindow | None = None
        self.token = grant.token
        self.is_alive = is_alive
        self.lost = False
        self.is_watched = False
        self.relied_on: dict[Any, None] = {}
        """The acquisitions that rely on it, see :mod:`redicts.locks.manager`."""
        self.renewals = 0
        """The number of these acquisitions with the option ``renew``."""
        self.on_renewal_overdue: list[Callback] = []
        self.on_loss: list[Callback] = []
        self.begin_lease(grant.since, lease)

    def begin_lease(self, since: float, lease: int) -> None:
        """Record that the lease began again, at or after this time of ``time.monotonic``."""
        self.since = since
        self.lease = lease
        self.valid_until = since + lease / 1000 * (1 - _CLOCK_DRIFT) - _CLOCK_STEP_SECS
        self.renew_at = since + lease / 3000
        self.overdue = False

    def add(self, options: LockOptions) -> None:
        """Add the options of one acquisition."""
        self.renewals += options.renew
        if options.on_renewal_overdue is not None:
            self.on_renewal_overdue.append(options.on_renewal_overdue)
        if options.on_loss is not None:
            self.on_loss.append(options.on_loss)

    def remove(self, options: LockOptions) -> None:
        """Remove the options of one acquisition."""
        self.renewals -= options.renew
        if options.on_renewal_overdue is not None:
            self.on_renewal_overdue.remove(options.on_renewal_overdue)
        if options.on_loss is not None:
            self.on_loss.remove(options.on_loss)

    def covers(self, paths: Paths, mode: Mode) -> bool:
        """Return whether this lock is certainly held and includes a lock of this mode on these paths."""
        held = self.request
        if not self.is_valid or (held.mode is Mode.SHARED and mode is Mode.EXCLUSIVE):
            return False
        return all(any(path[: len(above)] == above for above in held.paths) for path in paths)

    @property
    def is_valid(self) -> bool:
        """Whether this lock is certainly held, by the clock of this process."""
        return not self.lost and time.monotonic() < self.valid_until

    def guards(self, path: Path) -> list[Equals]:
        """Return the checks that this lock is still held on its paths that overlap with a path."""
        held = self.request
        return [
            Equals(key, Scope.NODE, {(): held.record})
            for locked, key in zip(held.paths, held.keys(HOLDERS))
            if overlap(locked, path)
        ]

    @property
    def alarm_at(self) -> float:
        """The time when the renewal is overdue, or, after that callback, when the lock is lost."""
        return self.valid_until if self.overdue else min(self.since + self.lease * 2 / 3000, self.valid_until)

    def __repr__(self) -> str:
        return all_described(self.request.paths)


class HeldLocks:
    """Path index of the locks that one owner holds in one database.

    The cost of each operation is in proportion to the depth of the path and to the number of results. Between any two
    steps of a method, an exception may come, or a signal handler that acquires and releases locks. So ``requests``
    decides, in one step, which locks are held, and the index finds at least those. To remove a lock twice does nothing.
    """

    __slots__ = ("_at", "_below", "requests")

    def __init__(self) -> None:
        self._at: _Index = {}
        self._below: _Index = {}
        self.requests: dict[Request, HeldLock] = {}

    def add(self, lock: HeldLock) -> None:
        """Add a lock."""
        for path in lock.request.paths:
            self._at.setdefault(path, {})[lock] = None
            for depth in range(len(path)):
                self._below.setdefault(path[:depth], {})[lock] = None
        self.requests[lock.request] = lock

    def remove(self, lock: HeldLock) -> None:
        """Remove a lock, if it is there."""
        self.requests.pop(lock.request, None)
        for path in lock.request.paths:
            _remove(self._at, path, lock)
            for depth in range(len(path)):
                _remove(self._below, path[:depth], lock)

    def covering(self, paths: Paths, mode: Mode) -> HeldLock | None:
        """Return a held lock that includes a lock of this mode on these paths."""
        above = self._above(paths[0])
        return next((lock for lock in above if lock.covers(paths, mode) and lock.request in self.requests), None)

    def overlapping(self, path: Path) -> list[HeldLock]:
        """Return the locks above, at or below a path, each once."""
        found = dict.fromkeys([*self._above(path), *self._below.get(path, ())])
        return [lock for lock in found if lock.request in self.requests]

    def _above(self, path: Path) -> list[HeldLock]:
        return [lock for depth in range(len(path) + 1) for lock in list(self._at.get(path[:depth], ()))]


_Index = dict[Path, dict[HeldLock, None]]


def _remove(index: _Index, path: Path, lock: HeldLock) -> None:
    found = index.get(path)
    if found is not None:
        found.pop(lock, None)
        if not found:
            # A signal handler may have added a lock since.
            for other in index.pop(path, ()):
                index.setdefault(path, {})[other] = None


def call_back(callbacks: list[Callback]) -> None:
    """Run callbacks of a user. An exception is logged and does not stop the others."""
    for callback in callbacks:
        try:
            callback()
        except Exception:
            _log.exception("a lock's callback failed")
