"""Held locks of this process, with their lease, and the path index of those of one owner."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple

from redicts.core.locks.acquisition import Grant
from redicts.core.locks.records import HOLDERS, Mode, Request, overlap
from redicts.core.minitransaction import Equals, Path, Scope
from redicts.core.paths import all_described
from redicts.locks.owner import Paths

_CLOCK_DRIFT: Final = 0.01
"""The fraction of a lease that is not used, because the clocks of this process and of the store may drift."""

_CLOCK_STEP_SECS: Final = 0.002
"""The seconds of a lease that are not used, because stores count in milliseconds."""

_FEW: Final = 4
"""The number of held locks of one owner that are not in its path index."""

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
    """The lock options of one acquisition: renewal, and callbacks. Each acquisition has an object of its own."""

    renew: bool = False
    on_renewal_overdue: Callback | None = None
    on_loss: Callback | None = None


NO_OPTIONS: Final = LockOptions()


class HeldLock:
    """A lock that one owner of this process holds in the store.

    ``lease`` is in milliseconds. Until ``valid_until``, by ``time.monotonic``, the lock is certainly held.
    """

    __slots__ = (
        "_options",
        "_overdue_since",
        "_renewed_at",
        "is_alive",
        "is_watched",
        "lease",
        "lost",
        "paths",
        "relied_on",
        "renew_at",
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
        self._options: dict[int, LockOptions] = {}
        """The options of these acquisitions by identity. An acquisition adds or removes its own in one step."""
        self._overdue_since = self._renewed_at = 0.0
        self.lease = lease
        self.begin_lease(grant.since, lease)

    def begin_lease(self, since: float, lease: int) -> None:
        """Record that the owner began the lease again, at or after this time of ``time.monotonic``."""
        # If the background renewed it meanwhile, the store may have applied the two in either order.
        certain = lease if self._renewed_at <= since else min(lease, self.lease)
        self.since = since
        self.lease = lease
        self.valid_until = since + certain / 1000 * (1 - _CLOCK_DRIFT) - _CLOCK_STEP_SECS
        self.renew_at = since + certain / 3000

    def renewed(self, since: float, lease: int) -> None:
        """Record that the background renewed the lease for so many milliseconds, at or after this time."""
        if lease == self.lease:
            self.begin_lease(since, lease)
        else:  # the owner began another lease meanwhile: here too, the order is not known
            self.valid_until = min(self.valid_until, since + lease / 1000 * (1 - _CLOCK_DRIFT) - _CLOCK_STEP_SECS)
            self.renew_at = min(self.renew_at, since + lease / 3000)
        self._renewed_at = time.monotonic()

    def add(self, options: LockOptions) -> None:
        """Add the options of one acquisition."""
        self._options[id(options)] = options

    def remove(self, options: LockOptions) -> None:
        """Remove the options of one acquisition, if they are there."""
        self._options.pop(id(options), None)

    @property
    def options(self) -> list[LockOptions]:
        """The options of the acquisitions that rely on it."""
        return list(self._options.values())

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
        """The time to call the callbacks for an overdue renewal, or, after that or a loss, those for the loss."""
        if self.lost:
            return 0.0
        return self.valid_until if self.is_overdue else min(self.since + self.lease * 2 / 3000, self.valid_until)

    @property
    def is_overdue(self) -> bool:
        """Whether the callbacks for the overdue renewal of this lease were called."""
        return self._overdue_since == self.since

    def overdue(self, since: float) -> None:
        """Record that the callbacks for the overdue renewal of the lease that began at this time were called."""
        self._overdue_since = since

    def __repr__(self) -> str:
        return all_described(self.request.paths)


class HeldLocks:
    """The locks that one owner holds in one database: a few as they are, further ones in a path index.

    The cost of each operation is in proportion to the depth of the path and to the number of results. Between any two
    steps of a method, an exception may come, or a signal handler that acquires and releases locks. So ``requests``
    decides, in one step, which locks are held, and the rest finds at least those. To remove a lock twice does nothing.
    """

    __slots__ = ("_at", "_below", "_few", "requests")

    def __init__(self) -> None:
        self._few: dict[HeldLock, None] = {}
        """The locks that are not in the index: most owners hold one or two, and compare them faster."""
        self._at: _Index = {}
        self._below: _Index = {}
        self.requests: dict[Request, HeldLock] = {}

    def add(self, lock: HeldLock) -> None:
        """Add a lock."""
        if len(self._few) < _FEW:
            self._few[lock] = None
        else:
            self._add_to_index(lock)
        self.requests[lock.request] = lock

    def _add_to_index(self, lock: HeldLock) -> None:
        for path in lock.request.paths:
            index, above = self._at, path
            for depth in range(len(path) + 1):
                while True:
                    locks = index.setdefault(above, {})
                    locks[lock] = None
                    if index.get(above) is locks:
                        break  # else a signal handler that released the only other lock there has removed it meanwhile
                index, above = self._below, path[:depth]

    def remove(self, lock: HeldLock) -> None:
        """Remove a lock, if it is there."""
        self.requests.pop(lock.request, None)
        self._few.pop(lock, None)
        if self._at or self._below:
            self._remove_from_index(lock)

    def _remove_from_index(self, lock: HeldLock) -> None:
        for path in lock.request.paths:
            _remove(self._at, path, lock)
            for depth in range(len(path)):
                _remove(self._below, path[:depth], lock)

    def covering(self, paths: Paths, mode: Mode) -> HeldLock | None:
        """Return a held lock that includes a lock of this mode on these paths."""
        found = [*self._few, *(self._above(paths[0]) if self._at else ())]
        return next((lock for lock in found if lock.covers(paths, mode) and lock.request in self.requests), None)

    def overlapping(self, path: Path) -> list[HeldLock]:
        """Return the locks above, at or below a path, each once."""
        few = [lock for lock in list(self._few) for locked in lock.request.paths if overlap(path, locked)]
        found = dict.fromkeys([*few, *self._above(path), *self._below.get(path, ())] if self._at else few)
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
                while other not in index.get(path, ()):
                    index.setdefault(path, {})[other] = None
