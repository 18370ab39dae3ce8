"""Lock: a hierarchical lock on one or several paths.

A method that acquires or releases acts for the task in which it is *looked up*. So ``asyncio.to_thread(lock.acquire)``
acquires the lock for the task. The exit of a ``with`` block is looked up when the block is entered. So it releases the
lock for the owner that entered the block, in whichever thread or task the block ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from math import inf
from sys import modules
from types import MethodType, TracebackType
from typing import Any, Final, TypeVar, cast
from weakref import ref

from redicts.api.keys import parsed_path
from redicts.api.opened import OpenedDatabase, Source
from redicts.api.pool import Pool
from redicts.core import paths
from redicts.core.driver import run
from redicts.core.locks.records import HOLDERS, WAITERS, Mode, Record, scopes_above, scopes_of
from redicts.core.minitransaction import Path
from redicts.errors import LockError, LockTimeout, SettingsError, StoreError
from redicts.locks import manager
from redicts.locks.held import NO_OPTIONS, LockOptions
from redicts.locks.manager import Acquired
from redicts.locks.owner import LockOwner, OwnerToken, Paths, acquiring_owner, act_for, no_block, task_owner

_Function = TypeVar("_Function", bound=Callable[..., Any])

Location = tuple[Source, "str | None"]
"""The source of a lock's database, and its name there."""


class _ForTask:
    """A method that acts for the task in which it is looked up, also in a worker thread to which it is passed.

    If an exception comes during the look-up of a method that ``releases``, the lock does not stay held.
    """

    def __init__(self, function: Callable[..., Any], *, releases: bool) -> None:
        self._function = function
        self._releases = releases
        self.__doc__ = function.__doc__

    def __get__(self, found: Any, kind: type) -> Callable[..., Any]:
        try:
            if found is None:
                return self._function
            owner = task_owner() if "asyncio" in modules or "trio" in modules else None
            return (
                MethodType(self._function, found) if owner is None else partial(act_for, owner, self._function, found)
            )
        except BaseException:
            if self._releases and found is not None:
                location, locked = found._releases()
                give_up(location, locked, [])
            raise


class _AtExit:
    """The method ``__exit__``, which acts for the owner that enters the ``with`` block."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __get__(self, found: Any, kind: type) -> Callable[..., Any]:
        return self._function if found is None else _BlockExit(found)


class Exit:
    """The exit of one ``with`` block, for the owner that enters it. Python looks it up before it enters the block."""

    __slots__ = ("__weakref__", "_held", "_owner", "acquired")

    def __init__(self, held: Any) -> None:
        self.acquired: Acquired | None = None
        """The acquisition at the begin of the block."""
        self._held = held
        self._owner = owner = acquiring_owner()
        owner.blocks.add(id(self))
        owner.entering = ref(self)

    def __call__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Release the lock."""
        found: list[Acquired] = []
        location, locked = self._held._releases()
        try:
            release_after(error, location, locked, found, self._owner)
            self._owner.blocks.discard(id(self))
            self.__class__ = Exit
        except BaseException:
            give_up(location, locked, found, self._owner)
            self._owner.blocks.discard(id(self))
            self.__class__ = Exit
            raise


class _BlockExit(Exit):
    """An exit that was not called.

    Python drops it with the block, also if an exception comes after the lock was granted and before the block, or after
    the block and before the call. Then it lets a background thread release the lock. What was called has no finalizer,
    because an exception in a finalizer is lost.
    """

    __slots__ = ()

    def __del__(self) -> None:
        owner: LockOwner | None = getattr(self, "_owner", None)
        if owner is not None:  # else an exception came before it was known
            owner.blocks.discard(id(self))
            if self.acquired is not None:
                self.acquired.manager.abandon(self.acquired)


def entered(acquired: Acquired) -> None:
    """Tell the exit that was looked up last, if it is not dropped, which acquisition its block begins with."""
    owner = acquired.owner
    block = owner.entering()
    owner.entering = no_block
    if isinstance(block, Exit):
        block.acquired = acquired


def for_task(function: _Function) -> _Function:
    """Let a method act for the task in which it is looked up."""
    return cast("_Function", _ForTask(function, releases=False))


def to_release(function: _Function) -> _Function:
    """Let a method ``release`` act for the task in which it is looked up."""
    return cast("_Function", _ForTask(function, releases=True))


def at_exit(function: _Function) -> _Function:
    """Let a method ``__exit__`` act for the owner that enters the ``with`` block."""
    return cast("_Function", _AtExit(function))


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

        This avoids deadlocks in a program that needs several locks. No round trip. Raises
        :class:`~redicts.errors.SettingsError` if the locks are in several databases, or if one of the others is
        exclusive, has a longer lease, is renewed or has callbacks, and this one is not, or has others.
        """
        for other in others:
            if not _is_same(self._location, other._location):
                raise SettingsError(
                    "locks that are acquired together must be in one database; give all of them the same first argument"
                )
            weaker = [option for option, is_weaker in self._weaker_than(other) if is_weaker]
            if weaker:
                raise SettingsError(
                    "a lock on several paths has the options of the first one, which must be as strong as the others; "
                    f"{self!r} and {other!r} differ in {' and '.join(weaker)}; give all of them the same options"
                )
        found = object.__new__(type(self))
        for name in Lock.__slots__[1:]:
            setattr(found, name, getattr(self, name))
        found._paths = tuple(dict.fromkeys([path for lock in (self, *others) for path in lock._paths]))
        return found

    def _weaker_than(self, other: Lock) -> Iterable[tuple[str, bool]]:
        """Yield each option, and whether this lock gives less than another one there."""
        yield "shared", self._mode is Mode.SHARED and other._mode is Mode.EXCLUSIVE
        yield "expire_timeout", self._lease < other._lease
        yield "renew", other._options.renew and not self._options.renew
        yield "on_renewal_overdue", other._on_renewal_overdue not in (None, self._on_renewal_overdue)
        yield "on_loss", other._on_loss not in (None, self._on_loss)

    # Holding

    @for_task
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
        database, acquired = self._attempt()
        return acquire(database, acquired, self._timeout, blocking)

    @to_release
    def release(self) -> None:
        """Release one acquisition; the last release frees the lock in the store, unless it is retained.

        Acquisitions may be released in any order. If the lock was lost meanwhile, this logs a warning, and does not
        affect the lock of its current owner. Raises :class:`~redicts.errors.NotHeld` if this thread did not acquire it.
        """
        found: list[Acquired] = []
        try:
            release(self._location, self._paths, found)
        except BaseException:
            give_up(*self._releases(), found)
            raise

    @for_task
    def __enter__(self) -> Lock:
        database, acquired = self._attempt()
        entered(acquired)
        try:
            acquire(database, acquired, self._timeout)
            return self
        except BaseException:
            acquired.manager.abandon(acquired)
            raise

    @at_exit
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        Exit(self)(kind, error, trace)

    def owner_token(self) -> OwnerToken:
        """Return a token with which another thread or task can act for the owner of this lock. No round trip.

        In ``with token:`` it writes under this lock, extends and releases it, and may acquire others. Renewal continues
        for as long as the token exists. Raises :class:`~redicts.errors.NotHeld` if this thread did not acquire it.
        """
        return self._acquired().owner.token()

    @property
    def held(self) -> bool:
        """Whether this thread certainly holds the lock, by its own clock. No round trip."""
        acquired = _current(self._location, self._paths)
        return acquired is not None and acquired.lock.is_valid

    @property
    def token(self) -> int | None:
        """The fencing token of the lock that this thread holds, or ``None``. No round trip.

        Tokens increase with each grant in the whole tree. A resource outside of the store that is changed under the
        lock can refuse a token that is lower than one that it has seen.
        """
        acquired = _current(self._location, self._paths)
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

        The lease does not become shorter than what another acquisition that relies on this lock asked for.
        Raises :class:`~redicts.errors.LockLost` if the lock is lost: a lost lock is not restored.
        """
        acquired = self._acquired()
        lock, held_in = acquired.lock, acquired.manager
        lease = lock.lease if seconds is None else lease_of(seconds)
        acquired.lease = lease
        longest = max([lease, *[each.lease for each in list(lock.relied_on)]])
        if not held_in.run(held_in.renew(lock, longest)):
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

    def _attempt(self) -> tuple[OpenedDatabase, Acquired]:
        """Return the database, and an acquisition with the options of this lock, to begin."""
        options = NO_OPTIONS
        if self._options.renew or self._on_renewal_overdue or self._on_loss:
            options = LockOptions(
                self._options.renew, self._bound(self._on_renewal_overdue), self._bound(self._on_loss)
            )
        database = self._location[0].databases[self._location[1]]
        return database, Acquired(database.locks, self._location, self._paths, self._mode, self._lease, options)

    def _releases(self) -> tuple[Location, Paths]:
        return self._location, self._paths

    def _bound(self, callback: Callable[[Lock], object] | None) -> Callable[[], object] | None:
        return None if callback is None else partial(callback, self)

    def _acquired(self) -> Acquired:
        acquired = _current(self._location, self._paths)
        if acquired is None:
            raise manager.not_held(self._paths)
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


def acquire(database: OpenedDatabase, acquired: Acquired, timeout: float | None, blocking: bool = True) -> bool:
    """Acquire a lock: the implementation of :meth:`Lock.acquire`."""
    most = timeout if blocking else 0
    try:
        if run(database.locks.acquire(acquired, most), database.backend, most):
            return True
    except BaseException:
        acquired.manager.abandon(acquired)
        raise
    if blocking:
        named = ", ".join([paths.described(path) for path in acquired.paths])
        raise LockTimeout(f"the lock on {named} is not free, and acquire_timeout is 0")
    return False


def release(location: Location, locked: Paths, found: list[Acquired], owner: LockOwner | None = None) -> None:
    """Release a lock in the database where it was acquired: the implementation of :meth:`Lock.release`.

    The acquisition that it releases is added to ``found``. After any exception, call :func:`give_up`.
    """
    acquired = manager.current(location, locked, None, owner) or _current(location, locked, owner)
    if acquired is None:
        raise manager.not_held(locked, owner)
    found.append(acquired)
    acquired.manager.run(manager.release(acquired))


def give_up(location: Location, locked: Paths, found: list[Acquired], owner: LockOwner | None = None) -> None:
    """Let a background thread release a lock after an exception ended its release, if there was one to release."""
    acquired = found[0] if found else _current(location, locked, owner)
    if acquired is not None:
        acquired.manager.abandon(acquired)


def release_after(
    error: BaseException | None,
    location: Location,
    locked: Paths,
    found: list[Acquired],
    owner: LockOwner | None = None,
) -> None:
    """Release a lock at the end of a ``with`` block. Its exception is not replaced by one of the release."""
    try:
        release(location, locked, found, owner)
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
    database = Pool().of_client(where)
    return (database, database.name), paths.ROOT


def _database(location: Location) -> OpenedDatabase:
    return location[0].databases[location[1]]


def _is_same(one: Location, other: Location) -> bool:
    """Return whether two locations are the same database. A name that the settings lack is not."""
    try:
        return one == other or _database(one) is _database(other)
    except SettingsError:
        return False


def _current(location: Location, locked: Paths, owner: LockOwner | None = None) -> Acquired | None:
    """Return the latest acquisition of an owner, the running one by default, of a lock in this database."""
    database = location[0].databases.get(location[1])
    if database is None:
        with suppress(SettingsError):
            database = _database(location)  # under another name it may be open
    return manager.current(location, locked, None if database is None else database.locks, owner)


def _end_retention(location: Location) -> OpenedDatabase:
    """Return the database after releasing all retained locks of this process in the store."""
    database = _database(location)
    database.run(database.locks.retention.end())
    return database


def _info(record: Record) -> LockInfo:
    host, _, rest = record.label.partition(":")
    process, _, thread = rest.partition(":")
    pid = process.partition("@")[0]  # followed by its PID namespace
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
