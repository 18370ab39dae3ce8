"""What the running owner does with locks: acquire, rely on one that it holds, give back, and guard its writes."""

from __future__ import annotations

import logging
import time
from typing import Final, TypeVar

from redicts.api.tree import Tree
from redicts.core.driver import Steps
from redicts.core.locks.guards import guarded
from redicts.core.locks.records import HOLDERS, Mode, Owner, Request, exclusive_to, scopes_of
from redicts.core.minitransaction import VALUES, Check, Equals, Key, Path, Scope, StartsWith
from redicts.core.paths import all_described
from redicts.errors import Locked, LockLost, NotHeld
from redicts.locks import retention
from redicts.locks.held import Acquired, HeldLock, HeldLocks, LockOptions, Paths, remove_later, stop_watching, watch
from redicts.locks.owner import LockOwner, current_owner, request_name

log: Final = logging.getLogger("redicts.locks")

_Result = TypeVar("_Result")


def acquire(
    tree: Tree, place: object, paths: Paths, mode: Mode, lease: int, timeout: float | None, options: LockOptions
) -> HeldLock | None:
    """Acquire a lock for the running owner, or rely once more on one that it holds already.

    ``place`` is by what :func:`release` finds it again, ``lease`` is in milliseconds, ``timeout`` in seconds. Returns
    ``None`` if the timeout is 0 and the lock is not free. However it ends otherwise, nothing is left in the store, or
    is removed as soon as the store can be reached.
    """
    me = current_owner()
    held = me.held.get(tree)
    hold = None if held is None else held.covering(paths, mode)
    if hold is not None and lease > hold.lease and not renew(hold, lease):
        hold = None
    if hold is not None:
        hold.relied_on += 1
    else:
        hold = _newly(me, tree, held or HeldLocks(), paths, mode, lease, timeout)
        if hold is None:
            return None
    me.acquired.setdefault((place, paths), []).append(Acquired(hold, options))
    try:
        options.add_to(hold)
    except BaseException:
        release(place, paths)
        raise
    return hold


def _newly(
    me: LockOwner, tree: Tree, held: HeldLocks, paths: Paths, mode: Mode, lease: int, timeout: float | None
) -> HeldLock | None:
    """Acquire what nothing that the owner holds covers: by coming back to what it keeps, else from the store."""
    me.habit.asks(tree, paths)
    hold = retention.take(me, tree, paths, mode, lease)
    if hold is None and timeout == 0:
        # Who only tries must find free what others of this process have released.
        retention.end(tree)
    request = Request(request_name(), me.owner, mode, paths, int(time.time() * 1000)) if hold is None else hold.request
    try:
        if hold is None:
            retention.hope(me, tree, request)
            grant = tree.run(tree.locks.acquire(request, lease, timeout, held.requests))
            if grant is None:
                return None
            hold = HeldLock(tree, request, paths, grant, lease, me.is_alive)
            retention.begin(me, hold, grant)
        hold.relied_on = 1
        held.add(hold)
        me.held[tree] = held
    except BaseException:
        if request in held.requests and hold is not None:
            held.remove(hold)
        if request.pending:
            remove_later(tree, request, lease)
        raise
    return hold


def release(place: object, paths: Paths) -> None:
    """Release what the running owner acquired last at this place on these paths.

    The lock itself is given back when nothing relies on it any more. One that was lost meanwhile is logged as a
    warning. Raises :class:`~redicts.errors.NotHeld` if there is none.
    """
    me = current_owner()
    stack = me.acquired.get((place, paths))
    if not stack:
        raise NotHeld(f"{me.owner.label} holds no lock on {all_described(paths)} that could be released")
    hold, options = stack.pop()
    if not stack:
        del me.acquired[place, paths]
    options.take_from(hold)
    hold.relied_on -= 1
    if not hold.relied_on:
        held = me.held[hold.tree]
        held.remove(hold)
        if not held.requests:
            del me.held[hold.tree]
        _let_go(me, hold)


def _let_go(me: LockOwner, hold: HeldLock) -> None:
    """Keep a lock for a moment, or give it back."""
    if hold.is_watched:
        stop_watching(hold)
    try:
        was_held = retention.keep(me, hold)
        # Also what is lost by the clock of this process: the store may know of a renewal of which no reply came.
        was_held = was_held or hold.tree.run(hold.tree.locks.release(hold.request))
    except BaseException:
        remove_later(hold.tree, hold.request, hold.lease)
        raise
    if hold.lost or not was_held:
        hold.lost = True
        log.warning("the lock on %r was lost before it was released: its lease ran out, or it was broken", hold)
    me.habit.releases(hold)


def renew(hold: HeldLock, lease: int) -> bool:
    """Let a lease begin again with so many milliseconds, and tell whether the lock is still held. One round trip."""
    since = time.monotonic()
    if hold.lost or not hold.tree.run(hold.tree.locks.renew([(hold.request, lease)]))[0]:
        hold.lose()
        return False
    hold.begin_lease(since, lease)
    watch(hold)
    return True


def current(place: object, paths: Paths) -> HeldLock | None:
    """Return the lock that the running owner acquired last at this place on these paths."""
    stack = current_owner().acquired.get((place, paths))
    return stack[-1].hold if stack else None


def write(tree: Tree, steps: Steps[_Result], *paths: Path) -> _Result:
    """Run an operation that writes at and below some paths, guarded by the locks that the running owner holds there.

    Raises :class:`~redicts.errors.LockLost` if one of them is lost, and with mandatory locks
    :class:`~redicts.errors.Locked` if somebody else's lock covers a path. Nothing is written then. No round trip more
    than without.
    """
    me = current_owner()
    held = me.held.get(tree)
    if held is None and not tree.mandatory_locks:
        return tree.run(steps)
    held = held or HeldLocks()
    guards = [(hold, guard) for path in paths for hold in held.overlapping(path) for guard in hold.guards(path)]
    for hold, _ in guards:
        if hold.lost:
            steps.close()
            raise lost(hold)
    checks: list[Check] = [guard for _, guard in guards]
    if tree.mandatory_locks:
        checks += _nothing_foreign(me.owner, held, paths)
    if not checks:
        return tree.run(steps)

    def refusal(failed: int) -> Steps[Exception]:
        if failed < len(guards):
            hold = guards[failed][0]
            hold.lose()
            return lost(hold)
        scopes = [key for path in paths for key in scopes_of(path, HOLDERS)]
        records = yield from tree.locks.found(scopes)
        foreign = next((record for record in records if record.owner != me.owner.name), None)
        return Locked(f"{all_described(paths)} cannot be written: locked is {foreign or 'something in there'}")

    return tree.run(guarded(steps, tuple(checks), refusal))


def put(tree: Tree, path: Path, value: object, ttl: int | None) -> None:
    """Replace what is at a path, guarded as in :func:`write`; what lasts, without guards, by the short way."""
    if ttl is not None or not tree.can_overwrite or tree in current_owner().held:
        write(tree, tree.store.write(path, value, ttl), path)
        return
    document = tree.store.document_of(path, value)
    if document is not None:
        if not tree.backend.overwrite_document(Key(VALUES, path), document):
            write(tree, tree.store.put_document(path, document), path)
        return
    leaves = tree.store.split_into_leaves(path, value)
    if not (len(leaves) == 1 and () in leaves and tree.backend.overwrite(Key(VALUES, path), leaves[()])):
        write(tree, tree.store.replace(path, leaves), path)


def _nothing_foreign(owner: Owner, held: HeldLocks, paths: Paths) -> list[Check]:
    """Return the checks that nobody else holds a lock on what is above, at or below some paths."""
    mine = [
        (key.path, hold.request)
        for path in paths
        for hold in held.overlapping(path)
        for key in hold.request.keys(HOLDERS)
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


def lost(hold: HeldLock) -> LockLost:
    """Return the error that says that a lock is lost."""
    return LockLost(
        f"the lock on {hold!r} is lost: its lease of {hold.lease / 1000:g} seconds ran out, or it was broken; nothing "
        "was written. Release it and acquire it again, and choose a longer lock_expire_timeout or let it be renewed"
    )
