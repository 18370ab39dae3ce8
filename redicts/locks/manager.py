"""The lock manager of one database: acquire, rely on, release, renew and guard writes, as steps without I/O."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from redicts.core.driver import Steps
from redicts.core.locks.guards import guarded
from redicts.core.locks.records import HOLDERS, Mode, Owner, Request, exclusive_to, scopes_of
from redicts.core.minitransaction import Check, Equals, Scope, StartsWith
from redicts.core.paths import all_described
from redicts.core.store import TreeStore
from redicts.errors import Locked, LockLost, NotHeld
from redicts.locks.held import NO_OPTIONS, HeldLock, HeldLocks, LockOptions
from redicts.locks.owner import LockOwner, Paths, current_owner, request_name
from redicts.locks.renewal import Renewal
from redicts.locks.retention import Retention

log: Final = logging.getLogger("redicts.locks")

_Result = TypeVar("_Result")

_SWEPT: Final = 64
"""The number of owners from which on ended ones are removed."""


class Acquired(NamedTuple):
    """One acquisition that is not released yet: the lock that it relies on, and its options."""

    manager: LockManager
    lock: HeldLock
    options: LockOptions


class LockManager:
    """Lock manager of one database: the locks that owners of this process hold, as steps without I/O.

    ``run`` carries out the steps of background work. With ``mandatory``, writes under a lock of another owner are
    refused. ``retention_secs`` is the length of a retention window.
    """

    __slots__ = ("held", "mandatory", "renewal", "retention", "run", "store")

    def __init__(
        self, store: TreeStore, run: Callable[[Steps[Any]], Any], *, mandatory: bool, retention_secs: float
    ) -> None:
        self.store = store
        self.run = run
        self.mandatory = mandatory
        self.held: dict[LockOwner, HeldLocks] = {}
        """The held locks of each owner that holds any."""
        self.renewal = Renewal(store, run)
        self.retention = Retention(store, self.renewal, run, 0.0 if mandatory else retention_secs)

    def acquire(
        self, location: object, paths: Paths, mode: Mode, lease: int, timeout: float | None, options: LockOptions
    ) -> Steps[HeldLock | None]:
        """Acquire a lock for the running owner, or rely on a held lock that includes it.

        ``location`` is the key of the acquisition for :func:`take_acquired`. ``lease`` is in milliseconds, ``timeout``
        in seconds. Returns ``None`` if the timeout is 0 and the lock is not free. After an error, nothing is left in
        the store, or leftovers are withdrawn as soon as the store can be reached.
        """
        me = current_owner()
        held = self.held.get(me)
        lock = None if held is None else held.covering(paths, mode)
        if lock is not None and lease > lock.lease and not (yield from self.renew(lock, lease)):
            lock = None
        if lock is not None:
            lock.relied_on += 1
        else:
            lock = yield from self._acquire(me, held or HeldLocks(), paths, mode, lease, timeout)
            if lock is None:
                return None
        me.acquired.setdefault((location, paths), []).append(Acquired(self, lock, options))
        if options is not NO_OPTIONS:
            try:
                self.renewal.add(lock, options)
            except BaseException:
                yield from release(take_acquired(location, paths))
                raise
        return lock

    def _acquire(
        self, me: LockOwner, held: HeldLocks, paths: Paths, mode: Mode, lease: int, timeout: float | None
    ) -> Steps[HeldLock | None]:
        """Acquire a lock that no held lock includes: the retained lock of the owner, or a lock in the store."""
        retention = self.retention
        retention.asks(me, paths)
        lock = (yield from retention.take(me, paths, mode, lease)) if me in retention.retained else None
        if lock is None and timeout == 0 and (retention.retained or retention.is_giving_back):
            # Locks that other owners of this process have released must be free for an attempt without waiting.
            yield from retention.end()
        if lock is None:
            request = Request(request_name(), me.owner, mode, paths, int(time.time() * 1000))
        else:
            request = lock.request
        try:
            if lock is None:
                retention.reserve_tokens(me, request)
                grant = yield from self.store.acquire(request, lease, timeout, held.requests)
                if grant is None:
                    return None
                lock = HeldLock(request, paths, grant, lease, me.is_alive)
                retention.begin(me, lock, grant)
            lock.relied_on = 1
            held.add(lock)
            if me not in self.held:
                self._sweep()
                self.held[me] = held
        except BaseException:
            if request in held.requests and lock is not None:
                held.remove(lock)
            if request.pending:
                self.renewal.withdraw_later(request, lease)
            raise
        return lock

    def _sweep(self) -> None:
        """Remove owners that ended without releasing, so that memory does not grow with the number of threads."""
        if len(self.held) >= _SWEPT:
            for owner in [owner for owner in list(self.held) if not owner.is_alive()]:
                self.held.pop(owner, None)

    def renew(self, lock: HeldLock, lease: int) -> Steps[bool]:
        """Renew a lease for so many milliseconds, and return whether the lock is still held. One transaction."""
        since = time.monotonic()
        if lock.lost or not (yield from self.store.renew([(lock.request, lease)]))[0]:
            self.renewal.lose(lock)
            return False
        lock.begin_lease(since, lease)
        self.renewal.watch(lock)
        return True

    def let_go(self, me: LockOwner, lock: HeldLock) -> Steps[None]:
        """Retain a lock, or release it in the store."""
        held = self.held[me]
        held.remove(lock)
        if not held.requests:
            del self.held[me]
        if lock.is_watched:
            self.renewal.stop(lock)
        retention = self.retention
        try:
            was_held = False
            if lock.window is not None or me in retention.retained:
                was_held = yield from retention.retain(me, lock)
            # Also if the lease is over by the clock of this process: the reply to a renewal may have been lost.
            was_held = was_held or (yield from self.store.release(lock.request))
        except BaseException:
            self.renewal.withdraw_later(lock.request, lock.lease)
            raise
        if lock.lost or not was_held:
            lock.lost = True
            log.warning("the lock on %r was lost before it was released: its lease ran out, or it was broken", lock)
        retention.releases(me, lock)

    def guarded(self, steps: Steps[_Result], paths: Paths) -> Steps[_Result]:
        """Guard the writes of an operation at and below some paths by the locks that the running owner holds there.

        If one of these locks is lost, the operation writes nothing and raises :class:`~redicts.errors.LockLost`. With
        mandatory locks, it raises :class:`~redicts.errors.Locked` if a lock of another owner overlaps with a path. No
        further transaction.
        """
        me = current_owner()
        held = self.held.get(me)
        if held is None and not self.mandatory:
            return steps
        held = held or HeldLocks()
        guards = [(lock, guard) for path in paths for lock in held.overlapping(path) for guard in lock.guards(path)]
        for lock, _ in guards:
            if lock.lost:
                steps.close()
                raise lost(lock)
        checks: list[Check] = [guard for _, guard in guards]
        if self.mandatory:
            checks += _no_other_owner(me.owner, held, paths)
        if not checks:
            return steps

        def refusal(failed: int) -> Steps[Exception]:
            if failed < len(guards):
                lock = guards[failed][0]
                self.renewal.lose(lock)
                return lost(lock)
            scopes = [key for path in paths for key in scopes_of(path, HOLDERS)]
            records = yield from self.store.find_locks(scopes)
            other = next((record for record in records if record.owner != me.owner.name), None)
            holder = f": {other}" if other else ", which it has released since"
            return Locked(f"{all_described(paths)} cannot be written while another owner holds a lock{holder}")

        return guarded(steps, tuple(checks), refusal)


def current(location: object, paths: Paths) -> Acquired | None:
    """Return the latest acquisition of the running owner with this location and these paths."""
    stack: list[Acquired] | None = current_owner().acquired.get((location, paths))
    return stack[-1] if stack else None


def take_acquired(location: object, paths: Paths) -> Acquired:
    """Remove the latest acquisition of the running owner with this location and these paths, to release it.

    Raises :class:`~redicts.errors.NotHeld` if there is none.
    """
    me = current_owner()
    stack: list[Acquired] | None = me.acquired.get((location, paths))
    if not stack:
        raise NotHeld(
            f"{me.owner.label} does not hold the lock on {all_described(paths)}; acquire it before releasing it"
        )
    acquired = stack.pop()
    if not stack:
        del me.acquired[location, paths]
    return acquired


def release(acquired: Acquired) -> Steps[None]:
    """Release an acquisition, and the lock itself if no other acquisition relies on it.

    If the lock was lost meanwhile, this logs a warning.
    """
    manager, lock, options = acquired
    if options is not NO_OPTIONS:
        manager.renewal.remove(lock, options)
    lock.relied_on -= 1
    if not lock.relied_on:
        yield from manager.let_go(current_owner(), lock)


def lost(lock: HeldLock) -> LockLost:
    """Return the error for a lost lock."""
    return LockLost(
        f"the lock on {lock!r} is lost: its lease of {lock.lease / 1000:g} seconds ran out, or it was broken; nothing "
        "was written. Release it and acquire it again, with a longer lock_expire_timeout or with renew=True"
    )


def _no_other_owner(owner: Owner, held: HeldLocks, paths: Paths) -> list[Check]:
    """Return the checks that no other owner holds a lock that overlaps with some paths."""
    mine = [
        (key.path, lock.request)
        for path in paths
        for lock in held.overlapping(path)
        for key in lock.request.keys(HOLDERS)
    ]
    checks: list[Check] = []
    for scope in dict.fromkeys([key for path in paths for key in scopes_of(path, HOLDERS)]):
        depth = len(scope.path)
        inside = {path[depth:]: request for path, request in mine if path[:depth] == scope.path}
        if any(request.mode is Mode.SHARED for request in inside.values()):
            records = {path: request.record for path, request in inside.items()}
            checks.append(Equals(scope, Scope.BELOW, records))
        else:
            checks.append(StartsWith(scope, Scope.BELOW, exclusive_to(owner)))
    return checks
