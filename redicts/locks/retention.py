"""Lock retention: an owner that comes back at once to a lock that others wait for has it again, for a few milliseconds.

The next waiter has slept and is slow at first; an owner that comes back is not. So a lock that is released inside its
retention window is *retained*: released for its owner, and still held in the store. If the owner asks for it again, it
has it without a request. If not, a background thread gives it back about a millisecond later. The store sees one lock
that is held for somewhat longer, so nothing that the protocol promises depends on retention.

A lock is retained only if its owner had come back at once to this very lock the last few times, had to wait for it (so
others want it), and was granted it less than ``lock_retention`` seconds ago. An owner gives back what it retains before
it asks this database for any other lock, so it never waits while it retains a lock. Each time that it comes back is a
grant with a fencing token of its own, out of those that were set aside with the first grant.

This is *bounded barging*. Sticky locks with a bound are in Frangipani's lock service (Thekkath, Mann, Lee, SOSP 1997)
and in cohort locks (Dice, Marathe, Shavit, PPoPP 2012) for the same reason.
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
from redicts.locks.owner import LockOwner, Paths
from redicts.locks.renewal import Renewal
from redicts.locks.scheduler import Scheduler

_log: Final = logging.getLogger("redicts.locks")

_SOON_SECS: Final = 0.001
"""An owner that comes back within this time comes back at once; a lock that is retained for longer is given back."""

_FIRM: Final = 3
"""How often in a row an owner must have come back at once."""

_SHORTEST_LEASE: Final = 1_000
"""The shortest lease in milliseconds of a lock that is retained."""

_STAYS_SECS: Final = 0.2
"""How long the background thread stays between windows: starting one takes a fifth of a window."""

_MOST: Final = 100
"""How often an owner comes back in one window. As many tokens are set aside, and most are not used."""

_LEFT: Final = 0.9
"""The part of the lease that must be left of a lock that is retained."""


class Retention(ResetInChild):
    """The retained locks of one database. ``seconds`` is the length of a window, 0 for none; ``run`` runs steps."""

    __slots__ = ("_can_retain", "_in_hand", "_renewal", "_run", "_store", "_windows", "retained", "seconds")

    def __init__(self, store: TreeStore, renewal: Renewal, run: Callable[[Steps[Any]], Any], seconds: float) -> None:
        super().__init__()
        self._store = store
        self._renewal = renewal
        self._run = run
        self.seconds = seconds
        self._windows: Scheduler[RetentionWindow] = Scheduler(
            "redicts-retention", lambda window: window.look_at, self._check, _STAYS_SECS
        )
        self.reset_in_child()

    def reset_in_child(self) -> None:
        """Forget what the parent's owners retain."""
        self.retained: dict[Hashable, HeldLock] = {}
        """What each owner retains, one lock at most. A thread that takes it out has it to itself."""
        self._in_hand: set[tuple[HeldLock, int]] = set()
        """What is being given back, and the threads that do so: perhaps not free yet."""
        self._can_retain: bool | None = None
        """Whether this process gives retained locks back before it ends; ``None`` before the first."""

    def asks(self, owner: LockOwner, paths: Paths) -> None:
        """Record that an owner asks for a lock."""
        manager, released, at = owner.released
        came_back = manager is ref(self) and released == paths and time.monotonic() - at <= _SOON_SECS
        owner.comebacks = owner.comebacks + 1 if came_back else 0

    def releases(self, owner: LockOwner, lock: HeldLock) -> None:
        """Record that an owner has released a lock."""
        manager, released, _ = owner.released
        if manager is not ref(self) or released != lock.paths:
            owner.comebacks = 0
        owner.released = (ref(self), lock.paths, time.monotonic())

    def set_tokens_aside(self, owner: LockOwner, request: Request) -> None:
        """Ask for the tokens of a window with a request, if there is likely to be one."""
        if owner.comebacks >= _FIRM and self.seconds and request.mode is Mode.EXCLUSIVE:
            request.spare = _MOST

    def begin(self, owner: LockOwner, lock: HeldLock, grant: Grant) -> None:
        """Let a window begin with a grant, if tokens were set aside for it."""
        if grant.spare:
            lock.window = RetentionWindow(owner, grant.since + self.seconds, grant.spare)

    def retain(self, owner: LockOwner, lock: HeldLock) -> Steps[bool]:
        """Retain a lock on which nothing relies any more, and tell whether it is retained.

        Gives back another lock that the owner retains. No transaction if there is none.
        """
        if owner in self.retained:
            yield from self._give_back(owner)
        window = lock.window
        if window is None:
            return False
        now = time.monotonic()
        if lock.is_watched or lock.lease < _SHORTEST_LEASE or not self._is_open(lock, window, now):
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
            # Afterwards, because a thread that stops watching, or ends the process, looks afterwards too.
            if not window.is_watched:
                self._watch(window)
            if not self._can_retain:
                yield from self._give_back(owner)
        except RuntimeError:  # no thread can be started: the interpreter ends
            return self.retained.pop(owner, None) is None
        except BaseException:
            self.retained.pop(owner, None)
            raise
        return True

    def take(self, owner: LockOwner, paths: Paths, mode: Mode, lease: int) -> Steps[HeldLock | None]:
        """Return the lock that an owner retains, if it is the one that it asks for.

        Gives back another lock that the owner retains. No transaction if there is none.
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
        """Whether another thread may be giving back a retained lock at this moment."""
        return bool(self._in_hand)

    def end(self) -> Steps[None]:
        """Give back what owners of this process retain, and return when it is free. No transaction if it is nothing."""
        for owner in list(self.retained):
            yield from self._give_back(owner)
        me = threading.get_ident()
        # A lock would do, if a signal handler could not come here too.
        while any(thread != me for _, thread in list(self._in_hand)):
            yield Pause(_SOON_SECS / 4)

    def end_all(self) -> None:
        """Give back what owners of this process retain, and retain nothing from now on."""
        self._can_retain = False
        self._run(self.end())

    def _is_open(self, lock: HeldLock, window: RetentionWindow, now: float) -> bool:
        is_long = lock.valid_until - now >= lock.lease / 1000 * _LEFT
        return now < window.ends and window.tokens > 0 and is_long and not lock.lost and self.seconds > 0

    def _give_back(self, owner: Hashable) -> Steps[None]:
        """Give back what an owner retains. It was released in time, so a failure concerns nobody any more."""
        lock = self.retained.get(owner)
        if lock is None:
            return
        entry = lock, threading.get_ident()
        self._in_hand.add(entry)
        try:
            lock = self.retained.pop(owner, None)
            if lock is not None and not (yield from self._store.release(lock.request)):
                _log.debug("the lock on %r was lost after its release, before it was given back", lock)
        except BaseException as error:
            if lock is not None:
                self._renewal.withdraw_later(lock.request, lock.lease)
            if not isinstance(error, Exception):
                raise
            _log.debug("the lock on %r could not be given back, trying again: %s", lock, error)
        finally:
            self._in_hand.discard(entry)

    # The background thread, which exists only while there are windows.

    def _watch(self, window: RetentionWindow) -> None:
        window.is_watched = True
        window.look_at = window.retained_at + _SOON_SECS
        self._windows.add(window)

    def _check(self, windows: list[RetentionWindow]) -> None:
        for window in windows:
            now = time.monotonic()
            if self._is_retained(window):
                window.look_at = window.retained_at + _SOON_SECS
                if window.look_at > now:
                    continue
                self._run(self._give_back(window.owner))
            elif now < window.ends:
                window.look_at = now + _SOON_SECS
                continue
            self._windows.discard(window)
            window.is_watched = False
            if self._is_retained(window):
                self._watch(window)

    def _is_retained(self, window: RetentionWindow) -> bool:
        lock = self.retained.get(window.owner)
        return lock is not None and lock.window is window


def _ending(retention: ref[Retention]) -> Callable[[], None]:
    """Return what ends all windows at exit, and keeps no database alive until then."""

    def end_all() -> None:
        found = retention()
        if found is not None:
            found.end_all()

    return end_all
