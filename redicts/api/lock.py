"""Lock: a hierarchical lock on one or several paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from math import inf
from types import TracebackType
from typing import Any, Final

from redicts.api.keys import parsed_path
from redicts.api.opened import OpenedDatabase, Source
from redicts.api.pool import Pool
from redicts.core import paths
from redicts.core.driver import run
from redicts.core.locks.records import HOLDERS, WAITERS, Mode, Record, scopes_above, scopes_of
from redicts.core.minitransaction import Path
from redicts.errors import LockError, LockTimeout, NotHeld, SettingsError, StoreError
from redicts.locks import manager
from redicts.locks.held import NO_OPTIONS, LockOptions
from redicts.locks.manager import Acquired
from redicts.locks.owner import Paths

Location = tuple[Source, "str | None"]
"""The source of a lock's database, and its name there."""


@dataclass(frozen=True)
class LockInfo:
    """A lock that an owner holds or waits for, from :meth:`Lock.holders` or :meth:`Lock.waiters`."""

    path: str
    """The locked path as dotted text; the empty text is the root."""
    shared: bool
    waiting: bool
    """Whether the owner waits for it."""
    host: str
    pid: int
    thread: str
    """The name of the thread, or ``task`` and the name of the asyncio task."""
    since: datetime
    """The time of the request, by the clock of that host."""
    until: datetime
    """The end of the lease, unless it is renewed."""

    def __str__(self) -> str:
        kind = "shared" if self.shared else "exclusive"
        return f"{kind} lock on {self.path or 'the root'!r}: {self.host}, process {self.pid}, {self.thread}"


class Lock:
    """A lock on a path and everything below it, for one thread or asyncio task at a time, on this and on other hosts.

    Args:
        redis_conn: A redis-py client, a :class:`Proxy` (``key`` is then relative to it), the :class:`Pool`, a
            :class:`Database`, or an opened backend.
        key: Dotted text, or an iterable of segments.
        expire_timeout: The lease in seconds, after which a lock expires that is neither released nor renewed.
        acquire_timeout: The maximum time to wait for the lock in seconds; ``None`` waits without limit.
        shared: Allow any number of shared owners while no owner holds it exclusively.
        renew: Renew the lease three times per lease for as long as the thread or task is alive.
        on_renewal_overdue: Called with this lock, in another thread, when two thirds of a lease have passed without a
            renewal.
        on_loss: Called with this lock, in another thread, when it is lost.

    A thread may acquire its own lock again, or a path below it, without a round trip. Threads may share the object:
    each method acts for the running thread or task. A method takes one round trip unless it says otherwise, and raises
    a subclass of :class:`~redicts.errors.StoreError` if the store fails.

    >>> from redicts import Lock, Pool
    >>> Pool().reload(cfg={"backend": "memory"})
    >>> with Lock(Pool(), "jobs.import") as lock:
    ...     lock.held
    True
    >>> lock.held
    False

    """

    __slots__ = (
        "__weakref__",
        "_lease",
        "_location",
        "_mode",
        "_on_loss",
        "_on_renewal_overdue",
        "_options",
        "_paths",
        "_timeout",
    )

    def __init__(
        self,
        redis_conn: Any,
        key: str | Iterable[str],
        expire_timeout: float = 30,
        acquire_timeout: float | None = 10,
        *,
        shared: bool = False,
        renew: bool = False,
        on_renewal_overdue: Callable[[Lock], object] | None = None,
        on_loss: Callable[[Lock], object] | None = None,
    ) -> None:
        self._location, above = _resolved(redis_conn)
        self._paths: Paths = (paths.joined(above, parsed_path(key)),)
        self._lease = lease_of(expire_timeout)
        self._timeout = timeout_of(acquire_timeout)
        self._mode = Mode.SHARED if shared else Mode.EXCLUSIVE
        self._on_renewal_overdue = on_renewal_overdue
        self._on_loss = on_loss
        self._options = LockOptions(renew)

    def all(self, *others: Lock) -> Lock:
        """Return a lock with these options on the paths of all these locks, acquired atomically, all or none.

        This avoids deadlocks in a program that needs several locks. No round trip.
        """
        for other in others:
            if other._location != self._location:
                raise SettingsError(
                    "locks that are acquired together must be in one database; give all of them the same first argument"
                )
        found = object.__new__(type(self))
        for name in Lock.__slots__[1:]:
            setattr(found, name, getattr(self, name))
        found._paths = tuple(dict.fromkeys([path for lock in (self, *others) for path in lock._paths]))
        return found

    # Holding

    def acquire(self, blocking: bool = True) -> bool:
        """Acquire the lock, waiting for it if necessary, and return true.

        Without ``blocking`` it returns false at once if the lock is not free. The lock is granted first come, first
        served, except that an owner may reacquire it within its retention window: see the page on locks. Raises
        :class:`~redicts.errors.LockTimeout` if the lock does not become free before the timeout, and
        :class:`~redicts.errors.Deadlock` if owners wait for each other in a cycle. A failed attempt leaves nothing in
        the store.

        Cost: one round trip if the lock is free; none if this thread holds it, or reacquires it within its retention
        window; otherwise three before waiting, and one for the grant.
        """
        options = NO_OPTIONS
        if self._options.renew or self._on_renewal_overdue or self._on_loss:
            options = LockOptions(
                self._options.renew, self._bound(self._on_renewal_overdue), self._bound(self._on_loss)
            )
        return acquire(self._location, self._paths, self._mode, self._lease, self._timeout, options, blocking)

    def release(self) -> None:
        """Release one acquisition; the last release frees the lock in the store, unless it is retained.

        Acquisitions may be released in any order. If the lock was lost meanwhile, this logs a warning, and does not
        affect the lock of its current owner. Raises :class:`~redicts.errors.NotHeld` if this thread did not acquire it.
        """
        release(self._location, self._paths)

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        release_after(error, self._location, self._paths)

    @property
    def held(self) -> bool:
        """Whether this thread certainly holds the lock, by its own clock. No round trip."""
        acquired = manager.current(self._location, self._paths)
        return acquired is not None and acquired.lock.is_valid

    @property
    def token(self) -> int | None:
        """The fencing token of the lock that this thread holds, or ``None``. No round trip.

        Tokens increase with each grant in the whole tree. A resource outside of the store that is changed under the
        lock can refuse a token that is lower than one that it has seen.
        """
        acquired = manager.current(self._location, self._paths)
        return None if acquired is None else acquired.lock.token

    def ensure_held(self) -> None:
        """Check that this thread certainly holds the lock, by its own clock. No round trip.

        Raises :class:`~redicts.errors.LockLost` if its lease is over, and :class:`~redicts.errors.NotHeld` if this
        thread did not acquire it.
        """
        lock = self._acquired().lock
        if not lock.is_valid:
            raise manager.lost(lock)

    def extend(self, seconds: float | None = None) -> None:
        """Renew the lease, for this many seconds or for as many as before.

        Raises :class:`~redicts.errors.LockLost` if the lock is lost: a lost lock is not restored.
        """
        owner, lock, _ = self._acquired()
        if not owner.run(owner.renew(lock, lock.lease if seconds is None else lease_of(seconds))):
            raise manager.lost(lock)

    # Inspecting

    def is_locked(self) -> bool:
        """Return whether any owner, this thread included, holds a lock on this path or above it."""
        database = _end_retention(self._location)
        scopes = [key for path in self._paths for key in scopes_above(path, HOLDERS)]
        return bool(database.run(database.store.find_locks(scopes)))

    def holders(self) -> list[LockInfo]:
        """Return the held locks on this path, above it and below it."""
        return [_info(record) for record in self._found(HOLDERS)]

    def waiters(self) -> list[LockInfo]:
        """Return the requests that wait for a lock on this path, above it or below it, the earliest first."""
        return [_info(record) for record in self._found(WAITERS)]

    def break_locks(self) -> list[LockInfo]:
        """Break the locks that :meth:`holders` returns, and return them. For operators. Two round trips.

        An owner does not notice until it next extends the lock or writes under it. Then it gets
        :class:`~redicts.errors.LockLost`, and nothing is written. Waiters are notified.
        """
        records = self._found(HOLDERS)
        database = _end_retention(self._location)
        database.run(database.store.break_locks(records))
        return [_info(record) for record in records]

    @property
    def key(self) -> str:
        """The dotted text of the path; several paths are separated by commas. No round trip."""
        return ", ".join([paths.render(path) for path in self._paths])

    def __repr__(self) -> str:
        return f"<{'shared ' if self._mode is Mode.SHARED else ''}Lock {self.key!r}>"

    # Internals

    def _bound(self, callback: Callable[[Lock], object] | None) -> Callable[[], object] | None:
        return None if callback is None else partial(callback, self)

    def _acquired(self) -> Acquired:
        acquired = manager.current(self._location, self._paths)
        if acquired is None:
            raise NotHeld(f"this thread did not acquire the lock on {self.key!r}; acquire it first")
        return acquired

    def _found(self, space: str) -> list[Record]:
        database = _end_retention(self._location)
        scopes = dict.fromkeys([key for path in self._paths for key in scopes_of(path, space)])
        records = database.run(database.store.find_locks(scopes))
        found = {record.key: record for record in records}
        return sorted(found.values(), key=lambda record: (record.since, record.request))


_LONGEST: Final = 1e11
"""The longest lease and the longest timeout in seconds, about three thousand years."""

_LATEST: Final = 253402300799
"""The last second of the year 9999: a record that redicts did not write may contain any time."""


def acquire(
    location: Location,
    wanted: Paths,
    mode: Mode,
    lease: int,
    timeout: float | None,
    options: LockOptions,
    blocking: bool,
) -> bool:
    """Acquire a lock: the implementation of :meth:`Lock.acquire`."""
    database = location[0].databases[location[1]]
    most = timeout if blocking else 0
    steps = database.locks.acquire(location, wanted, mode, lease, most, options)
    if run(steps, database.backend, most) is None:
        if blocking:
            named = ", ".join([paths.described(path) for path in wanted])
            raise LockTimeout(f"the lock on {named} is not free, and acquire_timeout is 0")
        return False
    return True


def release(location: Location, locked: Paths) -> None:
    """Release a lock in the database where it was acquired: the implementation of :meth:`Lock.release`."""
    acquired = manager.take_acquired(location, locked)
    acquired.manager.run(manager.release(acquired))


def release_after(error: BaseException | None, location: Location, locked: Paths) -> None:
    """Release a lock at the end of a ``with`` block. Its exception is not replaced by one of the release."""
    try:
        release(location, locked)
    except (StoreError, LockError):
        if error is None:
            raise
        manager.log.warning("a lock could not be released; it expires with its lease", exc_info=True)


def lease_of(seconds: float) -> int:
    """Convert a lease to milliseconds. Raises ``ValueError`` for anything but a positive, finite number."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0.001 <= seconds <= _LONGEST:
        raise ValueError(f"a lease must be 0.001 to {_LONGEST:.0e} seconds; got {paths.shortened(seconds)}")
    return round(seconds * 1000)


def timeout_of(seconds: float | None) -> float | None:
    """Check a timeout. Raises ``ValueError`` for anything but ``None`` or a number of seconds, 0 or more."""
    if seconds is None or seconds == inf:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise ValueError(
            "acquire_timeout must be a number of seconds, 0 or more, or None for no limit; got "
            f"{paths.shortened(seconds)}"
        )
    return min(seconds, _LONGEST)


def _resolved(where: Any) -> tuple[Location, Path]:
    """Return the location of the object that a user passed, and the path to which the key is relative."""
    if isinstance(where, Pool):
        return (where, None), paths.ROOT
    starting = None if isinstance(where, type) else getattr(where, "_lock_location", None)
    if starting is not None:
        found: tuple[Location, Path] = starting()
        return found
    return (Pool().of_client(where), None), paths.ROOT


def _end_retention(location: Location) -> OpenedDatabase:
    """Return the database after releasing all retained locks of this process in the store."""
    database = location[0].databases[location[1]]
    database.run(database.locks.retention.end())
    return database


def _info(record: Record) -> LockInfo:
    host, _, rest = record.label.partition(":")
    pid, _, thread = rest.partition(":")
    return LockInfo(
        paths.render(record.path),
        record.mode is Mode.SHARED,
        not record.held,
        host,
        int(pid) if pid.isdecimal() else 0,
        thread,
        datetime.fromtimestamp(min(record.since / 1000, _LATEST), timezone.utc),
        datetime.now(timezone.utc) + timedelta(seconds=min((record.ttl or 0) / 1000, _LONGEST)),
    )
