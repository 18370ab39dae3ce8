"""The lock that users hold in their hands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Union
from weakref import WeakKeyDictionary, WeakValueDictionary

from redicts.api.pool import Pool, tree_in_use
from redicts.api.tree import Tree
from redicts.config.opening import codec
from redicts.core import paths
from redicts.core.backend import Backend
from redicts.core.envelope import LeafFormat
from redicts.core.locks.records import HOLDERS, WAITERS, Mode, Record, places_above, scopes_of
from redicts.core.minitransaction import Path
from redicts.errors import LockError, LockTimeout, NotHeld, PathError, SettingsError, StoreError
from redicts.forks import ForkSafeLock
from redicts.locks import manager, retention
from redicts.locks.held import LockOptions, Paths
from redicts.plugins.loading import from_client

if TYPE_CHECKING:
    from redicts.locks.held import HeldLock

Place = Union[Tree, str, None]
"""Where a lock is: in an opened database, or in the one of this name, as the settings current say."""

_of_clients: Final[WeakKeyDictionary[Any, Tree]] = WeakKeyDictionary()
_of_backends: Final[WeakValueDictionary[int, Tree]] = WeakValueDictionary()
"""By identity, which is unique while the tree is there, because that holds the backend."""
_lock: Final = ForkSafeLock()


@dataclass(frozen=True)
class LockInfo:
    """A lock that somebody holds or waits for, as :meth:`Lock.holders` and :meth:`Lock.waiters` tell of it."""

    path: str
    """What is locked, as dotted text; the empty text is the root."""
    shared: bool
    waiting: bool
    """Whether it is waited for, and not held."""
    host: str
    pid: int
    thread: str
    """The name of the thread, or ``task`` and the name of the asyncio task."""
    since: datetime
    """When it was asked for, by the clock of that host."""
    until: datetime
    """When it ends unless it is renewed."""

    def __str__(self) -> str:
        kind = "shared" if self.shared else "exclusive"
        return f"{kind} lock on {self.path or 'the root'!r}: {self.host}, process {self.pid}, {self.thread}"


class Lock:
    """A lock on a path and all below it, for one thread or asyncio task at a time, on this and on other hosts.

    ``redis_conn`` says where: a client of redis-py, a :class:`Proxy` (``key`` is then below it), the :class:`Pool`, or
    an opened backend. ``key`` is dotted text, or an iterable of segments.

    ``expire_timeout`` is the lease in seconds: what is neither released nor renewed ends with it. ``acquire_timeout``
    is how many seconds to wait for it at most, ``None`` for ever. With ``shared`` any number of owners may hold it at
    once as long as nobody holds it exclusively. With ``renew`` the lease begins again three times per lease for as long
    as the thread TTLs. ``on_renewal_overdue`` is called with this lock when two thirds of a lease are over without a
    renewal, ``on_loss`` when it is lost; both in another thread.

    A thread may acquire again what it holds or what lies below it, without asking the store. The object may be shared
    by threads; what it says is about the running one. All methods but those that say otherwise take one round trip and
    raise an error below :class:`~redicts.errors.StoreError` if the store fails.

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
        "_mode",
        "_on_loss",
        "_on_renewal_overdue",
        "_paths",
        "_place",
        "_renew",
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
        place, above = _resolved(redis_conn)
        self._place: Place = place
        if hasattr(key, "_lock_place"):
            raise PathError(f"a key is dotted text or an iterable of segments, not a proxy; take the key() of {key!r}")
        path = paths.ROOT if isinstance(key, str) and not key else paths.parse(key)
        self._paths: Paths = (paths.joined(above, path),)
        self._lease = lease_of(expire_timeout)
        self._timeout = timeout_of(acquire_timeout)
        self._mode = Mode.SHARED if shared else Mode.EXCLUSIVE
        self._renew = renew
        self._on_renewal_overdue = on_renewal_overdue
        self._on_loss = on_loss

    def beside(self, *others: Lock) -> Lock:
        """Return a lock like this one on what the others lock too: all atomically, or none.

        Whoever needs several locks cannot run into a deadlock this way. No round trip.
        """
        for other in others:
            if other._place != self._place:
                raise SettingsError("locks that are acquired together are in one database of one store")
        found = object.__new__(type(self))
        for name in Lock.__slots__[1:]:
            setattr(found, name, getattr(self, name))
        found._paths = tuple(dict.fromkeys([path for lock in (self, *others) for path in lock._paths]))
        return found

    # Holding

    def acquire(self, blocking: bool = True) -> bool:
        """Acquire the lock, waiting for it if need be, and return true.

        Without ``blocking`` it does not wait, and returns false if the lock is not free. Waiting is first come, first
        served, save that an owner may come back within its turn: see the page on locks. Raises
        :class:`~redicts.errors.LockTimeout` if it does not become free in time, and :class:`~redicts.errors.Deadlock`
        if it never would. However it ends, nothing is left of an attempt that failed.

        Cost: one round trip if it is free, none if it is held by this thread already or this thread comes back within
        its turn; three before waiting, and one when it is granted.
        """
        options = NO_OPTIONS
        if self._renew or self._on_renewal_overdue or self._on_loss:
            options = LockOptions(self._renew, self._bound(self._on_renewal_overdue), self._bound(self._on_loss))
        return acquire(self._place, self._paths, self._mode, self._lease, self._timeout, options, blocking)

    def release(self) -> None:
        """Release the lock; the last release gives it back, in one round trip, or keeps it for the rest of a turn.

        Releases may come in any order. If the lock was lost meanwhile this logs a warning, and harms nobody who holds
        it now. Raises :class:`~redicts.errors.NotHeld` if this thread did not acquire it.
        """
        manager.release(self._place, self._paths)

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        release_after(error, self.release)

    @property
    def held(self) -> bool:
        """Whether this thread holds the lock for sure, by its own clock. No round trip."""
        hold = self._hold()
        return hold is not None and hold.is_valid

    @property
    def token(self) -> int | None:
        """The fencing token of the lock that this thread holds, or ``None``. No round trip.

        Tokens rise over the whole tree, from grant to grant. Whatever is changed under the lock outside of this store
        can refuse tokens that are lower than one it has seen.
        """
        hold = self._hold()
        return None if hold is None else hold.token

    def ensure_held(self) -> None:
        """Do nothing if this thread holds the lock for sure, by its own clock. No round trip.

        Raises :class:`~redicts.errors.LockLost` if its lease is over, :class:`~redicts.errors.NotHeld` if it was not
        acquired.
        """
        hold = self._held()
        if not hold.is_valid:
            raise manager.lost(hold)

    def extend(self, seconds: float | None = None) -> None:
        """Let the lease begin again, with so many seconds or as many as before.

        Raises :class:`~redicts.errors.LockLost` if the lock is lost already: it is not taken back.
        """
        hold = self._held()
        if not manager.renew(hold, hold.lease if seconds is None else lease_of(seconds)):
            raise manager.lost(hold)

    # Looking

    def is_locked(self) -> bool:
        """Tell whether anybody, this thread included, holds a lock here or on what is above."""
        tree = _tree_at(self._place)
        retention.end(tree)
        scopes = [key for path in self._paths for key in places_above(path, HOLDERS)]
        return bool(tree.run(tree.locks.found(scopes)))

    def holders(self) -> list[LockInfo]:
        """Return the locks that are held here, on what is above, and on what is below."""
        return [_info(record) for record in self._found(HOLDERS)]

    def waiters(self) -> list[LockInfo]:
        """Return the requests that wait for a lock here, on what is above, or on what is below; the first first."""
        return [_info(record) for record in self._found(WAITERS)]

    def break_locks(self) -> list[LockInfo]:
        """Break the locks that :meth:`holders` tells of, and return them. For operators. Two round trips.

        Their owners are not asked. Each gets :class:`~redicts.errors.LockLost` when it next extends the lock or writes
        under it, which is then not made; until then it believes that it holds it. Who waits goes on.
        """
        tree = _tree_at(self._place)
        records = self._found(HOLDERS)
        tree.run(tree.locks.break_(records))
        return [_info(record) for record in records]

    @property
    def key(self) -> str:
        """The dotted text of what is locked; several paths with commas between. No round trip."""
        return ", ".join([paths.render(path) for path in self._paths])

    def __repr__(self) -> str:
        return f"<{'shared ' if self._mode is Mode.SHARED else ''}Lock {self.key!r}>"

    # Own

    def _bound(self, callback: Callable[[Lock], object] | None) -> Callable[[], object] | None:
        return None if callback is None else partial(callback, self)

    def _hold(self) -> HeldLock | None:
        return manager.current(self._place, self._paths)

    def _held(self) -> HeldLock:
        hold = self._hold()
        if hold is None:
            raise NotHeld(f"the lock on {self.key!r} was not acquired by this thread")
        return hold

    def _found(self, space: str) -> list[Record]:
        tree = _tree_at(self._place)
        retention.end(tree)
        scopes = dict.fromkeys([key for path in self._paths for key in scopes_of(path, space)])
        records = tree.run(tree.locks.found(scopes))
        found = {record.key: record for record in records}
        return sorted(found.values(), key=lambda record: (record.since, record.request))


NO_OPTIONS: Final = LockOptions()

_LONGEST: Final = 1e11
"""The longest lease in seconds, some three thousand years."""

_LATEST: Final = 253402300799
"""The last second of the year 9999: what a stranger wrote into the store may say any time."""


def acquire(
    place: Place,
    wanted: Paths,
    mode: Mode,
    lease: int,
    timeout: float | None,
    options: LockOptions,
    blocking: bool,
) -> bool:
    """Acquire a lock as :meth:`Lock.acquire` says."""
    hold = manager.acquire(_tree_at(place), place, wanted, mode, lease, timeout if blocking else 0, options)
    if hold is None and blocking:
        told = ", ".join([paths.described(path) for path in wanted])
        raise LockTimeout(f"the lock on {told} is not free, and acquire_timeout is 0")
    return hold is not None


def release_after(error: BaseException | None, release: Callable[[], None]) -> None:
    """Release at the end of a ``with`` block; if that raised, what goes wrong now must not hide it."""
    try:
        release()
    except (StoreError, LockError):
        if error is None:
            raise
        manager.log.warning("a lock could not be released; it ends with its lease", exc_info=True)


def lease_of(seconds: float) -> int:
    """Return a lease in milliseconds. Raises ``ValueError`` for what is no positive, finite number of seconds."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0.001 <= seconds <= _LONGEST:
        raise ValueError(f"a lease is a number of seconds from 0.001 to {_LONGEST:.0e}, not {paths.shortened(seconds)}")
    return round(seconds * 1000)


def timeout_of(seconds: float | None) -> float | None:
    """Return how long to wait. Raises ``ValueError`` for what is neither ``None`` nor a number of seconds from 0 on."""
    if seconds is None or seconds == inf:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise ValueError(
            f"how long to wait is a number of seconds, 0 or more, or None for ever, not {paths.shortened(seconds)}"
        )
    return seconds


def _resolved(where: Any) -> tuple[Place, Path]:
    """Return the place that a user means by what he has at hand, and the path in it that he starts from."""
    if isinstance(where, Pool):
        return None, paths.ROOT
    starting = None if isinstance(where, type) else getattr(where, "_lock_place", None)
    if starting is not None:
        place: tuple[Place, Path] = starting()
        return place
    with _lock:
        if isinstance(where, Backend):
            tree = _of_backends.get(id(where))
            if tree is None:
                tree = _of_backends[id(where)] = Tree(where, LeafFormat(codec("json")))
        else:
            try:
                tree = _of_clients.get(where)
            except TypeError:
                tree = None  # no client: adopted says so
            if tree is None:
                tree = Tree(from_client(where), LeafFormat(codec("json")))
                _of_clients[where] = tree
        return tree, paths.ROOT


def _tree_at(place: Place) -> Tree:
    return place if isinstance(place, Tree) else tree_in_use(place)


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
