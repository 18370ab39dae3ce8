"""Lock retention (bounded barging): an owner reacquires a contended lock for a few milliseconds without a request.

To wake the next waiter takes long, compared with an owner that reacquires the lock at once. So a lock that is released
within its retention window is *retained*: released for its owner, but still held in the store. If the owner acquires it
again, no request is needed. Otherwise a background thread releases it in the store about a millisecond later. For the
store this is one lock that is held somewhat longer, so the guarantees of the protocol do not depend on retention.

A lock is retained only if its owner reacquired it at once the last few times, had to wait for it (so it is contended),
and was granted it less than ``lock_retention`` seconds ago. An owner releases its retained lock before it acquires any
other lock of this database, so it never waits while it retains one. Each reacquisition has its own fencing token, from
those that were reserved with the first grant.

Frangipani's lock service (Thekkath, Mann, Lee, SOSP 1997) has sticky locks, and cohort locks (Dice, Marathe, Shavit,
PPoPP 2012) pass a lock on within a group a bounded number of times, for the same reason.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Final
from weakref import ref

from redicts.core.driver import Pause, Steps
from redicts.core.locks.acquisition import Grant
from redicts.core.locks.records import Mode, Request
from redicts.core.store import TreeStore
from redicts.forks import ResetInChild
from redicts.locks.exit_callbacks import before_exit
from redicts.locks.held import HeldLock, RetentionWindow
from redicts.locks.owner import AT_ONCE_SECS, LockOwner, Paths
from redicts.locks.renewal import Renewal
from redicts.locks.scheduler import Scheduler

_log: Final = logging.getLogger("redicts.locks")

_FIRM: Final = 3
"""How often in a row an owner must have reacquired the lock at once."""

_SHORTEST_LEASE: Final = 1_000
"""The shortest lease of a retained lock in milliseconds."""

_STAYS_SECS: Final = 0.2
"""The idle time before the background thread exits: starting it takes a fifth of a window."""

_MOST: Final = 100
"""The maximum number of reacquisitions in one window, and of reserved tokens, most of which are not used."""

_LEFT: Final = 0.9
"""The fraction of the lease that must be left of a retained lock."""


class Retention(ResetInChild):
    """The retained locks of one database. ``seconds`` is the length of a window, 0 for none; ``run`` runs steps."""

    __slots__ = ("_can_retain", "_in_hand", "_renewal", "_run", "_store", "_windows", "itself", "retained", "seconds")

    def __init__(self, store: TreeStore, renewal: Renewal, run: Callable[[Steps[Any]], Any], seconds: float) -> None:
        super().__init__()
        self.itself: Final = ref(self)
        """What stands for the database where an owner recorded its last release."""
        self._store = store
        self._renewal = renewal
        self._run = run
        self.seconds = seconds
        self._windows: Scheduler[RetentionWindow] = Scheduler(
            "redicts-retention", lambda window: window.look_at, self._check, _STAYS_SECS
        )
        self.reset_in_child()

    def reset_in_child(self) -> None:
        """Forget the retained locks of the parent process."""
        self.retained: dict[Hashable, HeldLock] = {}
        """The retained lock of each owner. The thread that removes an item is the only one that uses it."""
        self._in_hand: set[tuple[HeldLock, int]] = set()
        """The locks that threads are releasing in the store, which may not be free yet."""
        self._can_retain: bool | None = None
        """Whether this process releases retained locks before it ends; ``None`` before the first one."""

    def reserve_tokens(self, owner: LockOwner, request: Request) -> None:
        """Reserve the fencing tokens of a window with a request, if a window is likely."""
        if owner.comebacks >= _FIRM and self.seconds and request.mode is Mode.EXCLUSIVE:
            request.spare = _MOST

    def begin(self, owner: LockOwner, lock: HeldLock, grant: Grant) -> None:
        """Begin a window with a grant, if tokens were reserved for it."""
        if grant.spare:
            lock.window = RetentionWindow(owner, grant.since + self.seconds, grant.spare)

    def may_retain(self, lock: HeldLock) -> bool:
        """Return whether a lock is likely to be retained when it is released now."""
        window = lock.window
        return window is not None and self._can_retain is not False and self._suits(lock, window, time.monotonic())

    def retain(self, owner: LockOwner, lock: HeldLock) -> Steps[bool]:
        """Retain a lock after its last release, and return whether it is retained.

        Releases another retained lock of the owner in the store. No transaction if there is none.
        """
        if owner in self.retained:
            yield from self._give_back(owner)
        window = lock.window
        if window is None:
            return False
        now = time.monotonic()
        if not self._suits(lock, window, now):
            window.ends = now
            return False
        if self._can_retain is None:
            self._can_retain = before_exit(_ending(ref(self)))
        if not self._can_retain:
            window.ends = now
            return False
        try:
            window.retained_at = now
            self.retained[owner] = lock
            # Checked after retaining: a thread that stops watching, or ends the process, checks after that too.
            if not window.is_watched:
                self._watch(window)
            if not self._can_retain:
                yield from self._give_back(owner)
        except RuntimeError:  # no thread can be started: the interpreter is shutting down
            return self.retained.pop(owner, None) is None
        except BaseException:
            self.retained.pop(owner, None)
            raise
        return True

    def take(self, owner: LockOwner, paths: Paths, mode: Mode, lease: int) -> Steps[HeldLock | None]:
        """Return the retained lock of an owner, if it is the one to acquire.

        If an exception comes before the caller has the lock, it must withdraw it, unless it is still retained.
        Releases another retained lock of the owner in the store. No transaction if there is none.
        """
        lock = self.retained.get(owner)
        if lock is None:
            return None
        window = lock.window
        is_wanted = lock.paths == paths and mode is Mode.EXCLUSIVE and lock.lease == lease
        if is_wanted and window is not None and self._is_open(lock, window, time.monotonic()):
            lock = self.retained.pop(owner, None)
            if lock is not None:
                window.tokens -= 1
                lock.token += 1
            return lock
        yield from self._give_back(owner)
        return None

    @property
    def is_giving_back(self) -> bool:
        """Whether a thread may be releasing a retained lock in the store now."""
        return bool(self._in_hand)

    def end(self) -> Steps[None]:
        """Release all retained locks in the store, and return when they are free. No transaction if there are none."""
        for owner in list(self.retained):
            yield from self._give_back(owner)
        # Does not wait in a signal handler or finalizer that interrupted a release: two could wait for each other.
        me = threading.get_ident()
        while (threads := [thread for _, thread in list(self._in_hand)]) and me not in threads:
            yield Pause(AT_ONCE_SECS / 4)

    def end_all(self) -> None:
        """Release all retained locks in the store, and retain none from now on."""
        self._can_retain = False
        self._run(self.end())

    def _suits(self, lock: HeldLock, window: RetentionWindow, now: float) -> bool:
        """Return whether a lock that is released now may be retained."""
        return not lock.is_watched and lock.lease >= _SHORTEST_LEASE and self._is_open(lock, window, now)

    def _is_open(self, lock: HeldLock, window: RetentionWindow, now: float) -> bool:
        is_long = lock.valid_until - now >= lock.lease / 1000 * _LEFT
        return now < window.ends and window.tokens > 0 and is_long and not lock.lost and self.seconds > 0

    def _give_back(self, owner: Hashable) -> Steps[None]:
        """Release the retained lock of an owner in the store. Its owner released it in time, so no error is raised."""
        lock = self.retained.get(owner)
        if lock is None:
            return
        entry = lock, threading.get_ident()
        found: list[HeldLock | None] = []
        try:
            try:
                self._in_hand.add(entry)
                # One step, so an exception after it finds the lock.
                found.extend(map(self.retained.pop, (owner,), (None,)))
                (lock,) = found
                if lock is not None and not (yield from self._store.release(lock.request)):
                    _log.debug("the lock on %r was lost after its release, while it was retained", lock)
            except BaseException as error:
                for lock in filter(None, found):
                    self._renewal.withdraw_later(lock.request, lock.lease)
                if not isinstance(error, Exception):
                    raise
                _log.debug("the retained lock on %r could not be released, trying again: %s", lock, error)
            finally:
                self._in_hand.discard(entry)
        finally:
            self._in_hand.discard(entry)  # again, because an exception may have come before the first time

    # The background thread, which exits when there are no windows.

    def _watch(self, window: RetentionWindow) -> None:
        window.is_watched = True
        window.look_at = window.retained_at + AT_ONCE_SECS
        self._windows.add(window)

    def _check(self, windows: list[RetentionWindow]) -> None:
        for window in windows:
            now = time.monotonic()
            if self._is_retained(window):
                window.look_at = window.retained_at + AT_ONCE_SECS
                if window.look_at > now:
                    continue
                self._run(self._give_back(window.owner))
            elif now < window.ends:
                window.look_at = now + AT_ONCE_SECS
                continue
            self._windows.discard(window)
            window.is_watched = False
            if self._is_retained(window):
                self._watch(window)

    def _is_retained(self, window: RetentionWindow) -> bool:
        lock = self.retained.get(window.owner)
        return lock is not None and lock.window is window


def _ending(retention: ref[Retention]) -> Callable[[], None]:
    """Return an exit callback that ends retention, with a weak reference to the database."""

    def end_all() -> None:
        found = retention()
        if found is not None:
            found.end_all()

    return end_all
