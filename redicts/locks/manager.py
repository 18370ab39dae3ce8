"""The lock manager of one database: acquire, rely on, release, renew and guard writes, as steps without I/O.

An exception may come between any two instructions: that of a signal handler, or one that another thread sets. And any
code may run there that acquires and releases locks itself: a signal handler, or a finalizer. So what an owner holds is
changed in steps that may be repeated, and an acquisition or a release that an exception ends is undone by
:meth:`LockManager.abandon`, which leaves the rest to a background thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext, suppress
from typing import Any, Final, NamedTuple, TypeVar

from redicts.core.driver import Pause, Steps
from redicts.core.locks.acquisition import Grant
from redicts.core.locks.guards import guarded
from redicts.core.locks.records import HOLDERS, Mode, Owner, Request, exclusive_to, scopes_of
from redicts.core.minitransaction import Answer, Check, Equals, Read, Scope, StartsWith, Transaction
from redicts.core.paths import all_described
from redicts.core.store import TreeStore
from redicts.errors import Locked, LockLost, LockTimeout, NotHeld
from redicts.locks.held import NO_OPTIONS, HeldLock, HeldLocks, LockOptions
from redicts.locks.owner import LockOwner, Paths, acquiring_owner, current_owner, request_name
from redicts.locks.renewal import Renewal
from redicts.locks.retention import Retention

log: Final = logging.getLogger("redicts.locks")

_Result = TypeVar("_Result")

_SWEPT: Final = 64
"""The number of owners from which on ended ones are removed."""

_LENT_SECS: Final = 0.001
"""The interval at which a call looks whether another call still uses a lock of their caller."""


class Wanted(NamedTuple):
    """What each acquisition of a lock asks for. ``lease`` is in milliseconds.

    ``location`` and ``paths`` are what its release names.
    """

    location: Any
    paths: Paths
    mode: Mode
    lease: int


class Acquired:
    """One acquisition, from its attempt to its release: what was asked, and the lock that it relies on."""

    __slots__ = (
        "grant",
        "holder",
        "in_block",
        "lease",
        "location",
        "manager",
        "mode",
        "options",
        "owner",
        "paths",
        "reads",
        "relies_on",
        "request",
        "retains",
    )

    def __init__(
        self, manager: LockManager, wanted: Wanted, options: LockOptions, owner: LockOwner | None = None
    ) -> None:
        self.manager = manager
        self.location, self.paths, self.mode, self.lease = wanted
        self.options = options
        self.owner = self.holder = owner or acquiring_owner()
        """The owner of this acquisition, and the one that holds the lock: itself, or the caller of it."""
        self.in_block = False
        """Whether a ``with`` block begins with it, which may end in another thread or task."""
        self.relies_on: HeldLock | None = None
        self.request: Request | None = None
        """A request that this acquisition must remove from the store if an exception ends it."""
        self.reads: tuple[Read, ...] = ()
        """What to read in the transaction that grants the lock, see :meth:`LockManager.read`."""
        self.grant: Grant | None = None
        """The grant of the lock by the store, if it was not held before."""
        self.retains = True
        """Whether its lock may be retained: see :mod:`redicts.locks.retention`."""

    @property
    def lock(self) -> HeldLock:
        """The lock that it relies on, after it was acquired."""
        assert self.relies_on is not None
        return self.relies_on

    @property
    def is_current(self) -> bool:
        """Whether its owner is one of this process and has acquired it and not released it yet."""
        owner = self.owner
        return owner.process.is_here and self in owner.acquired.get(self.paths, ())


class LockManager:
    """Lock manager of one database: the locks that owners of this process hold, as steps without I/O.

    ``run`` carries out the steps of background work. With ``mandatory``, writes under a lock of another owner are
    refused. ``retention_secs`` is the length of a retention window.
    """

    __slots__ = ("awaits", "held", "mandatory", "renewal", "retention", "run", "store")

    def __init__(self, store: TreeStore, run: Callable[..., Any], *, mandatory: bool, retention_secs: float) -> None:
        self.store = store
        self.run = run
        self.awaits: Any = None
        """What carries out steps for tasks of asyncio, as ``run`` does for threads, once tasks use this database."""
        self.mandatory = mandatory
        self.held: dict[LockOwner, HeldLocks] = {}
        """The held locks of each owner that holds any."""
        self.renewal = Renewal(store, run)
        self.retention = Retention(store, self.renewal, run, 0.0 if mandatory else retention_secs)

    def acquire(self, acquired: Acquired, timeout: float | None) -> Steps[bool]:
        """Acquire a lock for the running owner, or rely on a held lock that includes it, and return true.

        ``timeout`` is in seconds. Returns false if it is 0 and the lock is not free. After an exception, nothing is
        left in the store, or leftovers are withdrawn as soon as the store can be reached.
        """
        me = acquired.owner
        try:
            is_held = me in self.held and self._rely(acquired, me)
            if not is_held and me.caller is not None:
                deadline = None if timeout is None else time.monotonic() + timeout
                is_held = yield from self._borrow(acquired, deadline)
                timeout = max(deadline - time.monotonic(), 0.001) if deadline is not None and timeout else timeout
            lock = acquired.relies_on
            if lock is not None and acquired.lease > lock.lease and not (yield from self.renew(lock, acquired.lease)):
                is_held = yield from self._forsake(acquired)
            if not is_held and not (yield from self._acquire(acquired, timeout)):
                return False
            if acquired.options is not NO_OPTIONS:
                self.renewal.add(acquired.lock, acquired.options)
            while True:
                stack = me.acquired.setdefault(acquired.paths, [])
                stack.append(acquired)
                if me.acquired.get(acquired.paths) is stack:  # else a signal handler has removed it meanwhile
                    return True
        except BaseException as error:
            self.abandon(acquired)
            if timeout == 0 and isinstance(error, LockTimeout):
                return False
            raise

    def _rely(self, acquired: Acquired, holder: LockOwner) -> bool:
        """Rely on a held lock that includes the one to acquire, and return whether there is one."""
        with holder.books or nullcontext():
            held = self.held.get(holder)
            lock = None if held is None else held.covering(acquired.paths, acquired.mode)
            if lock is not None:
                acquired.holder, acquired.relies_on = holder, lock
                lock.relied_on[acquired] = None
            return lock is not None

    def _borrow(self, acquired: Acquired, deadline: float | None) -> Steps[bool]:
        """Rely on a lock of a caller that includes the one to acquire, and return whether there is one.

        If several calls want an exclusive lock of their caller, one after the other gets it.
        """
        me = acquired.owner
        for caller in _callers(me):
            while self._rely(acquired, caller):
                lock = acquired.lock
                user = me if lock.request.mode is Mode.SHARED else caller.lent.setdefault(lock, me)
                if user is me:
                    return True
                yield from self._forsake(acquired)
                if not user.is_alive() or all(each.owner is not user for each in list(lock.relied_on)):
                    caller.lent.pop(lock, None)
                elif deadline is not None and time.monotonic() >= deadline:
                    raise LockTimeout(f"the lock on {lock!r} was not free in time; {user.owner.label} uses it")
                else:
                    yield Pause(_LENT_SECS)
        return False

    def _forsake(self, acquired: Acquired) -> Steps[bool]:
        """Rely on no lock any more, release it if no other acquisition does, and return false."""
        if self._forget(acquired):
            yield from self.let_go(acquired.holder, acquired.lock)
        acquired.relies_on = acquired.request = None
        return False

    def _acquire(self, acquired: Acquired, timeout: float | None) -> Steps[bool]:
        """Acquire a lock that no held lock includes: the retained lock of the owner, or a lock in the store."""
        retention = self.retention
        me, paths, mode, lease = acquired.owner, acquired.paths, acquired.mode, acquired.lease
        me.asks(retention.itself, paths)
        lock, retained = None, retention.retained.get(me)
        if retained is not None:
            acquired.request = retained.request
            lock = yield from retention.take(me, paths, mode, lease)
        if lock is None and timeout == 0 and (retention.retained or retention.is_giving_back):
            # Locks that other owners of this process have released must be free for an attempt without waiting.
            yield from retention.end()
        if lock is None:
            held = self._held_by(me) if me.caller is not None or me in self.held else []
            own: Collection[Request] = ()
            if held:  # not copied if they are those of one owner, who may hold thousands
                own = held[0].requests if len(held) == 1 else [each for one in held for each in list(one.requests)]
            request = acquired.request = Request(request_name(), me.owner, mode, paths, int(time.time() * 1000))
            if me.comebacks and acquired.retains:
                retention.reserve_tokens(me, request)
            grant = yield from self.store.acquire(request, lease, timeout, own, acquired.reads)
            if grant is None:
                acquired.request = None
                return False
            acquired.grant = grant
            lock = HeldLock(request, paths, grant, lease, me.is_alive)
            if grant.spare:
                retention.begin(me, lock, grant)
        if me.books is None:
            self._hold(acquired, lock)
        else:
            with me.books:
                self._hold(acquired, lock)
        acquired.request = None
        return True

    def _hold(self, acquired: Acquired, lock: HeldLock) -> None:
        """Record that the owner of an acquisition holds a lock, and that the acquisition relies on it."""
        me = acquired.owner
        acquired.holder, acquired.relies_on = me, lock
        lock.relied_on[acquired] = None
        held = self.held.get(me)
        if held is None:
            if len(self.held) >= _SWEPT:
                self._sweep()
            held = self.held.setdefault(me, HeldLocks())
        held.add(lock)
        self.held[me] = held  # again, because a signal handler may have removed it

    def _sweep(self) -> None:
        """Remove owners that ended without releasing, so that memory does not grow with the number of threads."""
        for owner in [owner for owner in list(self.held) if not owner.is_alive()]:
            self.held.pop(owner, None)

    def is_held_by(self, me: LockOwner) -> bool:
        """Return whether an owner or one of its callers holds any lock."""
        return bool(self._held_by(me))

    def _held_by(self, me: LockOwner) -> list[HeldLocks]:
        """Return the held locks of an owner and of its callers."""
        found: list[HeldLocks] = []
        owner: LockOwner | None = me
        while owner is not None:
            held = self.held.get(owner)
            if held is not None:
                found.append(held)
            owner = owner.caller
        return found

    def read(self, acquired: Acquired) -> Steps[tuple[float, tuple[Answer, ...]]]:
        """Return the answers to the reads of an acquisition, and a time of ``time.monotonic`` before they were made.

        They came with the grant, or one transaction makes them if the lock was held before. That is guarded: it raises
        :class:`~redicts.errors.LockLost` if the lock is lost.
        """
        if acquired.grant is not None:
            return acquired.grant.since, acquired.grant.answers
        lock, since = acquired.lock, time.monotonic()
        guards = [guard for path in acquired.paths for guard in lock.guards(path)]
        outcome = yield Transaction(tuple(guards), acquired.reads)
        if not outcome.applied:
            self.renewal.lose(lock)
            raise lost(lock)
        return since, outcome.answers

    def renew(self, lock: HeldLock, lease: int) -> Steps[bool]:
        """Renew a lease for so many milliseconds, and return whether the lock is still held. One transaction."""
        since = time.monotonic()
        if lock.lost or not (yield from self.store.renew([(lock.request, lease)]))[0]:
            self.renewal.lose(lock)
            return False
        lock.begin_lease(since, lease)
        self.renewal.watch(lock)
        return True

    def let_go(self, holder: LockOwner, lock: HeldLock, last: Steps[None] | None = None) -> Steps[None]:
        """Retain a lock on which no acquisition relies, or release it in the store, after or with a last operation.

        If the lock was lost meanwhile, this logs a warning, or raises :class:`~redicts.errors.LockLost` after the
        operation.
        """
        if lock.is_watched:
            self.renewal.stop(lock)
        retention = self.retention
        was_held = False
        is_last = last is not None
        if last is not None and retention.may_retain(lock):
            yield from last
            last = None
        if last is None and (lock.window is not None or holder in retention.retained):
            was_held = yield from retention.retain(holder, lock)
        # Also if the lease is over by the clock of this process: the reply to a renewal may have been lost.
        was_held = was_held or (yield from self.store.release(lock.request, last))
        holder.releases(retention.itself, lock.paths)
        if lock.lost or not was_held:
            lock.lost = True
            if is_last:
                raise lost(lock)
            log.warning("the lock on %r was lost before it was released: its lease ran out, or it was broken", lock)

    def _forget(self, acquired: Acquired) -> bool:
        """Remove an acquisition from what its owner holds, and return whether its lock is to be released in the store.

        After an exception it may be called again.
        """
        owner, holder, lock, paths = acquired.owner, acquired.holder, acquired.relies_on, acquired.paths
        stack = owner.acquired.get(paths, ())
        while acquired in stack:
            owner.acquired[paths].remove(acquired)
        if not stack and owner.acquired.pop(paths, []):  # a signal handler has added to it
            owner.acquired.setdefault(paths, []).extend(stack)
        if lock is None:
            return False
        if acquired.options is not NO_OPTIONS:
            self.renewal.remove(lock, acquired.options)
            acquired.options = NO_OPTIONS
        if holder.books is None:
            return self._drop(acquired, lock)
        with holder.books:
            return self._drop(acquired, lock)

    def _drop(self, acquired: Acquired, lock: HeldLock) -> bool:
        """Remove an acquisition from those that rely on a lock, and the lock if it was the last one. See _forget."""
        holder = acquired.holder
        lock.relied_on.pop(acquired, None)
        if lock.relied_on:
            return False
        held = self.held.get(holder)
        if acquired.request is None:  # else an exception came after this
            acquired.request = lock.request
            if held is None or held.requests.pop(lock.request, None) is None:
                acquired.request = None  # a signal handler has released it
                return False
        holder.lent.pop(lock, None)
        if held is not None:
            held.remove(lock)
            if not held.requests and self.held.pop(holder, held).requests:  # a signal handler has added to it
                self.held.setdefault(holder, held)
        return True

    def abandon(self, acquired: Acquired) -> None:
        """Undo an acquisition that an exception ended, or end its release. It may be called again.

        It does no I/O: a background thread withdraws what may be in the store.
        """
        self._forget(acquired)
        request = acquired.request
        if request is None:
            return
        retained = self.retention.retained.get(acquired.holder)
        if request.pending and (retained is None or retained.request is not request):
            lease = acquired.lease if acquired.relies_on is None else acquired.relies_on.lease
            with suppress(RuntimeError):  # no thread can be started: the interpreter is shutting down
                self.renewal.withdraw_later(request, lease)
        acquired.request = None

    def guarded(
        self, steps: Steps[_Result], paths: Paths, owner: LockOwner | None = None, *, reads: bool = False
    ) -> Steps[_Result]:
        """Guard the writes of an operation at and below some paths by the locks that an owner holds there.

        The owner is the running one by default.

        If one of these locks is lost, the operation writes nothing and raises :class:`~redicts.errors.LockLost`. With
        mandatory locks, it raises :class:`~redicts.errors.Locked` if a lock of another owner overlaps with a path. No
        further transaction.

        With ``reads``, the operation only reads, and its reads are guarded. It raises
        :class:`~redicts.errors.NotHeld` unless the owner holds a lock at or above each path.
        """
        me = current_owner() if owner is None else owner
        held = self._held_by(me)
        if reads:
            _ensure_covered(paths, me, held)
        elif not held and not self.mandatory:
            return steps
        locks = [(lock, path) for each in held for path in paths for lock in each.overlapping(path)]
        guards = [(lock, guard) for lock, path in locks for guard in lock.guards(path)]
        if len(paths) > 1:
            guards = list({guard.key: (lock, guard) for lock, guard in guards}.values())
        for lock, _ in guards:
            if lock.lost:
                steps.close()
                raise lost(lock, "read" if reads else "written")
        checks: list[Check] = [guard for _, guard in guards]
        if self.mandatory and not reads:
            checks += _no_other_owner(me.owner, [lock.request for lock, _ in locks], paths)
        if not checks:
            return steps

        def refusal(failed: int) -> Steps[Exception]:
            if failed < len(guards):
                lock = guards[failed][0]
                self.renewal.lose(lock)
                return lost(lock, "read" if reads else "written")
            scopes = [key for path in paths for key in scopes_of(path, HOLDERS)]
            records = yield from self.store.find_locks(scopes)
            names = {owner.owner.name for owner in (me, *_callers(me))}
            other = next((record for record in records if record.owner not in names), None)
            holder = f": {other}" if other else ", which it has released since"
            return Locked(f"{all_described(paths)} cannot be written while another owner holds a lock{holder}")

        return guarded(steps, tuple(checks), refusal, reads, self.store.sharded)


def current(
    location: object, paths: Paths, manager: LockManager | None = None, owner: LockOwner | None = None
) -> Acquired | None:
    """Return the latest acquisition of an owner, the running one by default, with this location and these paths.

    With a ``manager``, the location may be another one in the same database.
    """
    each: LockOwner | None = current_owner() if owner is None or not owner.process.is_here else owner
    while each is not None:
        for acquired in reversed(each.acquired.get(paths, ())):
            found: Acquired = acquired
            if found.manager is manager or found.location == location:
                return found
        each = each.caller
    return None


def not_held(paths: Paths, owner: LockOwner | None = None) -> NotHeld:
    """Return the error for a lock that an owner, the running one by default, did not acquire."""
    label = (current_owner() if owner is None or not owner.process.is_here else owner).owner.label
    return NotHeld(
        f"{label} does not hold the lock on {all_described(paths)}; acquire it before releasing it, or act for its "
        "owner, see Lock.owner_token"
    )


def release(acquired: Acquired, last: Steps[None] | None = None) -> Steps[None]:
    """Release an acquisition, and the lock itself if no other acquisition relies on it.

    If the lock was lost meanwhile, this logs a warning.

    ``last`` is an operation at and below the paths of the acquisition, to carry out before the release. It is guarded
    by the locks of its owner. Its transaction that writes also releases the lock. If the lock was lost, nothing is
    written, and this raises :class:`~redicts.errors.LockLost`.
    """
    manager, options = acquired.manager, acquired.options
    try:
        if last is not None:
            try:
                last = manager.guarded(last, acquired.paths, acquired.owner)
            except LockLost as error:
                last = _refused(error)
            if len(acquired.lock.relied_on) > 1:
                # Only then another call of the same task may use the lock.
                yield from last
                last = None
        if manager._forget(acquired):
            assert acquired.relies_on is not None
            yield from manager.let_go(acquired.holder, acquired.relies_on, last)
        elif last is not None:
            yield from last
        acquired.request = None
    except BaseException as error:
        if isinstance(error, LockLost) and options is not NO_OPTIONS and acquired.lock.lost:
            manager.renewal.add(acquired.lock, options)  # to have its callback called
        manager.abandon(acquired)
        raise


def _refused(error: Exception) -> Steps[None]:
    """Return an operation that raises an error."""
    yield from ()
    raise error


def lost(lock: HeldLock, what_not: str = "written") -> LockLost:
    """Return the error for a lost lock."""
    return LockLost(
        f"the lock on {lock!r} is lost: its lease of {lock.lease / 1000:g} seconds ran out, or it was broken; nothing "
        f"was {what_not}. Release it and acquire it again, with a longer lock_expire_timeout or with renew=True"
    )


def _ensure_covered(paths: Paths, me: LockOwner, held: list[HeldLocks]) -> None:
    """Check that an owner acquired a lock at or above each path; it may be lost."""
    locked = [above for each in held for request in list(each.requests) for above in request.paths]
    free = [path for path in paths if not any(path[: len(above)] == above for above in locked)]
    if free:
        raise NotHeld(
            f"{me.owner.label} holds no lock at or above {all_described(free[:3])}, so nothing guards the read; "
            "acquire a lock there first, or read without guarded=True"
        )


def _callers(me: LockOwner) -> Iterator[LockOwner]:
    """Yield the caller of an owner, and that of the caller, and so on."""
    caller = me.caller
    while caller is not None:
        yield caller
        caller = caller.caller


def _no_other_owner(owner: Owner, mine: list[Request], paths: Paths) -> list[Check]:
    """Return the checks that no other owner holds a lock that overlaps with some paths.

    ``mine`` are the locks of this owner, and of its callers.
    """
    keys = [(key.path, request) for request in mine for key in request.keys(HOLDERS)]
    checks: list[Check] = []
    for scope in dict.fromkeys([key for path in paths for key in scopes_of(path, HOLDERS)]):
        depth = len(scope.path)
        inside = {path[depth:]: request for path, request in keys if path[:depth] == scope.path}
        beginnings = {request.compatible for request in inside.values()} or {exclusive_to(owner)}
        if len(beginnings) > 1 or any(request.mode is Mode.SHARED for request in inside.values()):
            records = {path: request.record for path, request in inside.items()}
            checks.append(Equals(scope, Scope.BELOW, records))
        else:
            checks.append(StartsWith(scope, Scope.BELOW, *beginnings))
    return checks
