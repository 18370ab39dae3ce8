"""Lock: a hierarchical lock on one or several paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from functools import partial
from typing import Any, Generic, TypeVar, cast

from redicts.api.acquisitions import Location, current, database_at, is_same
from redicts.api.functions import LocksFunctions
from redicts.api.keys import parsed_path
from redicts.api.lock_info import LockInfo, infos_of
from redicts.api.lockable import Acquirable, Lockable
from redicts.api.opened import OpenedDatabase
from redicts.api.pool import Pool
from redicts.api.timeouts import lease_of, timeout_of
from redicts.core import paths
from redicts.core.driver import Steps
from redicts.core.locks.records import HOLDERS, WAITERS, Mode, Record, scopes_above, scopes_of
from redicts.core.minitransaction import Path
from redicts.errors import SettingsError
from redicts.locks import manager
from redicts.locks.held import LockOptions
from redicts.locks.manager import Acquired, Wanted
from redicts.locks.owner import OwnerToken

_Lock = TypeVar("_Lock", bound="LockBase[Any]")
_Same = TypeVar("_Same", bound="LockBase[Any]")


class LockBase(Acquirable, Generic[_Lock]):
    """The paths and options of a lock: all of it but what needs the store. Methods with an underscore return steps.

    The arguments are those of :class:`Lock`.
    """

    __slots__ = (
        "__weakref__",
        "_acquire_timeout",
        "_has_options",
        "_on_loss",
        "_on_renewal_overdue",
        "_renew",
        "_wanted",
    )

    _wanted: Wanted
    _has_options: bool

    def __init__(
        self,
        redis_conn: Any,
        key: str | Iterable[str],
        expire_timeout: float = 30,
        acquire_timeout: float | None = 10,
        *,
        shared: bool = False,
        renew: bool = False,
        on_renewal_overdue: Callable[[_Lock], object] | None = None,
        on_loss: Callable[[_Lock], object] | None = None,
    ) -> None:
        location, above = _resolved(redis_conn)
        path = above if type(key) is tuple and not key else paths.joined(above, parsed_path(key))
        mode = Mode.SHARED if shared else Mode.EXCLUSIVE
        self._wanted = Wanted(location, (path,), mode, lease_of(expire_timeout))
        self._acquire_timeout = timeout_of(acquire_timeout)
        self._renew = renew
        self._on_renewal_overdue = on_renewal_overdue
        self._on_loss = on_loss
        self._has_options = bool(renew or on_renewal_overdue or on_loss)

    def all(self: _Same, *others: _Same) -> _Same:
        """Return a lock with these options on the paths of all these locks, acquired atomically, all or none.

        This avoids deadlocks in a program that needs several locks. No round trip. Raises
        :class:`~redicts.errors.SettingsError` if the locks are in several databases, or if one of the others is
        exclusive, has a longer lease, is renewed or has callbacks, and this one is not, or has others.
        """
        for other in others:
            if not is_same(self._wanted.location, other._wanted.location):
                raise SettingsError(
                    "locks that are acquired together must be in one database; give all of them the same first argument"
                )
            weaker = [option for option, is_weaker in self._weaker_than(other) if is_weaker]
            if weaker:
                raise SettingsError(
                    "a lock on several paths has the options of the first one, which must be as strong as the others; "
                    f"{self!r} and {other!r} differ in {' and '.join(weaker)}; give all of them the same options"
                )
        found = copy(self)
        several = dict.fromkeys([path for lock in (self, *others) for path in lock._wanted.paths])
        found._wanted = self._wanted._replace(paths=tuple(several))
        return found

    def _weaker_than(self, other: LockBase[Any]) -> Iterable[tuple[str, bool]]:
        """Yield each option, and whether this lock gives less than another one there."""
        yield "shared", self._is_shared and not other._is_shared
        yield "expire_timeout", self._wanted.lease < other._wanted.lease
        yield "renew", other._renew and not self._renew
        yield "on_renewal_overdue", other._on_renewal_overdue not in (None, self._on_renewal_overdue)
        yield "on_loss", other._on_loss not in (None, self._on_loss)

    # Holding: see Lockable

    def owner_token(self) -> OwnerToken:
        """Return a token with which another thread or task can act for the owner of this lock. No round trip.

        In ``with token:`` it writes under this lock, extends and releases it, and may acquire others. Renewal continues
        for as long as the token exists. Raises :class:`~redicts.errors.NotHeld` if this thread did not acquire it.
        """
        return self._acquired().owner.token()

    @property
    def held(self) -> bool:
        """Whether this thread certainly holds the lock, by its own clock. No round trip."""
        acquired = current(*self._releases())
        return acquired is not None and acquired.lock.is_valid

    @property
    def token(self) -> int | None:
        """The fencing token of the lock that this thread holds, or ``None``. No round trip.

        Tokens increase with each grant in the whole tree. A resource outside of the store that is changed under the
        lock can refuse a token that is lower than one that it has seen.
        """
        acquired = current(*self._releases())
        return None if acquired is None else acquired.lock.token

    def ensure_held(self) -> None:
        """Check that this thread certainly holds the lock, by its own clock. No round trip.

        Raises :class:`~redicts.errors.LockLost` if its lease is over, and :class:`~redicts.errors.NotHeld` if this
        thread did not acquire it.
        """
        lock = self._acquired().lock
        if not lock.is_valid:
            raise manager.lost(lock)

    @property
    def key(self) -> str:
        """The dotted text of the path; several paths are separated by commas. No round trip."""
        return ", ".join([paths.render(path) for path in self._wanted.paths])

    def __repr__(self) -> str:
        return f"<{'shared ' if self._is_shared else ''}Lock {self.key!r}>"

    # Internals

    @property
    def _is_shared(self) -> bool:
        return self._wanted.mode is Mode.SHARED

    def _options(self) -> LockOptions:
        return LockOptions(self._renew, self._bound(self._on_renewal_overdue), self._bound(self._on_loss))

    def _bound(self, callback: Callable[[_Lock], object] | None) -> Callable[[], object] | None:
        return None if callback is None else partial(callback, cast("_Lock", self))

    def _acquired(self) -> Acquired:
        acquired = current(*self._releases())
        if acquired is None:
            raise manager.not_held(self._wanted.paths)
        return acquired

    def _database(self) -> OpenedDatabase:
        return database_at(self._wanted.location)

    def _find(self, database: OpenedDatabase, space: str) -> Steps[list[Record]]:
        """Return the records in a space that overlap with this lock, the earliest first."""
        yield from database.locks.retention.end()
        scopes = dict.fromkeys([key for path in self._wanted.paths for key in scopes_of(path, space)])
        records = yield from database.store.find_locks(scopes)
        found = {record.key: record for record in records}
        return sorted(found.values(), key=lambda record: (record.since, record.request))

    def _is_locked(self, database: OpenedDatabase) -> Steps[bool]:
        """Return whether any owner holds a lock on this path or above it."""
        yield from database.locks.retention.end()
        scopes = [key for path in self._wanted.paths for key in scopes_above(path, HOLDERS)]
        return bool((yield from database.store.find_locks(scopes)))

    def _break(self, database: OpenedDatabase) -> Steps[list[LockInfo]]:
        """Break the held locks that overlap with this one, and describe them."""
        records = yield from self._find(database, HOLDERS)
        yield from database.store.break_locks(records)
        return infos_of(records)

    def _extend(self, acquired: Acquired, seconds: float | None) -> Steps[None]:
        """Renew the lease of an acquisition. Raises :class:`~redicts.errors.LockLost` if the lock is lost."""
        lock = acquired.lock
        lease = lock.lease if seconds is None else lease_of(seconds)
        acquired.lease = lease
        longest = max([lease, *[each.lease for each in list(lock.relied_on)]])
        if not (yield from acquired.manager.renew(lock, longest)):
            raise manager.lost(lock)


class Lock(LockBase["Lock"], LocksFunctions, Lockable["Lock"]):
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

    __slots__ = ()

    def extend(self, seconds: float | None = None) -> None:
        """Renew the lease, for this many seconds or for as many as before.

        The lease does not become shorter than what another acquisition that relies on this lock asked for.
        Raises :class:`~redicts.errors.LockLost` if the lock is lost: a lost lock is not restored.
        """
        acquired = self._acquired()
        acquired.manager.run(self._extend(acquired, seconds))

    # Inspecting

    def is_locked(self) -> bool:
        """Return whether any owner, this thread included, holds a lock on this path or above it."""
        database = self._database()
        return database.run(self._is_locked(database))

    def locked(self) -> bool:
        """Return :meth:`is_locked`, by the name that it has in ``threading.Lock``."""
        return self.is_locked()

    def holders(self) -> list[LockInfo]:
        """Return the held locks on this path, above it and below it."""
        database = self._database()
        return infos_of(database.run(self._find(database, HOLDERS)))

    def waiters(self) -> list[LockInfo]:
        """Return the requests that wait for a lock on this path, above it or below it, the earliest first."""
        database = self._database()
        return infos_of(database.run(self._find(database, WAITERS)))

    def break_locks(self) -> list[LockInfo]:
        """Break the locks that :meth:`holders` returns, and return them. For operators. Two round trips.

        An owner does not notice until it next extends the lock or writes under it. Then it gets
        :class:`~redicts.errors.LockLost`, and nothing is written. Waiters are notified.
        """
        database = self._database()
        return database.run(self._break(database))


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
