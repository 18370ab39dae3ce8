"""Turns: an owner that comes back at once to a lock that others wait for has it again, for a few milliseconds.

Whoever is next in line has slept, and is slow at first; one who comes back is not. So a lock that is released in a turn
is *kept*: released as far as its owner can tell, and still held in the store. If the owner asks for it again, it has it
without a request. If not, a background thread gives it back about a millisecond later. For the store all of that is one
lock that is held for somewhat longer, so nothing that the protocol promises depends on it.

A lock is kept only if all of this is so: its owner had come back at once to this very lock the last few times; it had
to wait for it, so others want it; and that was less than ``lock_retention`` ago. What an owner keeps is given back
before it
asks the store for any other lock, so nobody waits for others while he keeps something. Each time that it comes back is
a grant of its own, with a fencing token of its own, out of some that were set aside with the first.

Sticky locks with a bound are what Frangipani's lock service (Thekkath, Mann, Lee, SOSP 1997) and cohort locks (Dice,
Marathe, Shavit, PPoPP 2012) have for the same reason.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from weakref import ref

from redicts.api.tree import Tree
from redicts.core.locks.acquisition import Grant
from redicts.core.locks.records import Mode, Request
from redicts.locks.exit_callbacks import before_exit
from redicts.locks.held import HeldLock, Paths, remove_later
from redicts.locks.scheduler import Worker

if TYPE_CHECKING:
    from redicts.locks.owner import LockOwner

_log: Final = logging.getLogger("redicts.locks")

_SOON_SECS: Final = 0.001
"""Who comes back within this time comes back at once; what is kept for longer is given back."""

_FIRM: Final = 3
"""How often in a row an owner has come back at once when that is taken for its habit."""

_SHORTEST_LEASE: Final = 1_000
"""The shortest lease in milliseconds of a lock that is kept."""

_STAYS_SECS: Final = 0.2
"""How long the background thread stays between turns: to start one takes a fifth of a turn."""

_MOST: Final = 100
"""How often an owner comes back in one turn. As many tokens are set aside, and most are not used: so it is no more."""

_LEFT: Final = 0.9
"""How much of the lease is left of a lock that is kept, at least."""


class Habit:
    """How often in a row an owner has come back at once to the lock that it released last."""

    __slots__ = ("_at", "_paths", "_tree", "comebacks")

    def __init__(self) -> None:
        self._tree: ref[Tree] | None = None
        self._paths: Paths = ()
        self._at = 0.0
        self.comebacks = 0

    def asks(self, tree: Tree, paths: Paths) -> None:
        """Note that the owner asks for a lock."""
        if paths == self._paths and time.monotonic() - self._at <= _SOON_SECS and self._tree is ref(tree):
            self.comebacks += 1
        else:
            self.comebacks = 0

    def releases(self, hold: HeldLock) -> None:
        """Note that the owner has released a lock."""
        paths, tree = hold.paths, ref(hold.tree)
        if paths != self._paths or tree is not self._tree:
            self._paths, self._tree = paths, tree
            self.comebacks = 0
        self._at = time.monotonic()


class Turn:
    """The time in which an owner may come back to a lock that was granted after a wait.

    Times are those of ``time.monotonic``; ``look_at`` is when to look whether the owner has come back.
    """

    __slots__ = ("ends", "is_watched", "kept_at", "look_at", "owner", "tokens")

    def __init__(self, owner: LockOwner, ends: float, tokens: int) -> None:
        self.owner = owner
        self.ends = ends
        self.tokens = tokens
        """How many are left."""
        self.kept_at = self.look_at = 0.0
        self.is_watched = False


_kept: Final[dict[LockOwner, HeldLock]] = {}
"""What each owner keeps, one lock at most. Whoever takes it out, the owner or somebody else, has it to himself."""

_in_hand: Final[set[tuple[HeldLock, int]]] = set()
"""What is being given back, and the threads that do so: no longer kept, and perhaps not yet free."""

_can_keep: bool | None = None
"""Whether locks can be kept in this process, because it gives them back before it ends; ``None`` before the first."""


def hope(owner: LockOwner, tree: Tree, request: Request) -> None:
    """Ask for the tokens of a turn with a request, if there may be one."""
    is_likely = owner.habit.comebacks >= _FIRM
    if is_likely and tree.lock_retention and request.mode is Mode.EXCLUSIVE and not tree.mandatory_locks:
        request.spare = _MOST


def begin(owner: LockOwner, hold: HeldLock, grant: Grant) -> None:
    """Let a turn begin with a grant, if it was waited for and there is hope."""
    if grant.spare:
        hold.turn = Turn(owner, grant.since + hold.tree.lock_retention, grant.spare)


def keep(owner: LockOwner, hold: HeldLock) -> bool:
    """Keep a lock on which nobody relies any more, and tell whether it is kept.

    What else the owner keeps is given back; if that is nothing, no round trip.
    """
    if owner in _kept:
        _give_back(owner)
    turn = hold.turn
    if turn is None:
        return False
    now = time.monotonic()
    if hold.is_watched or hold.lease < _SHORTEST_LEASE or not _is_open(hold, turn, now) or not _ends_in_order():
        turn.ends = now
        return False
    try:
        turn.kept_at = now
        _kept[owner] = hold
        # Afterwards, because whoever ceases to watch, or ends the process, looks afterwards too.
        if not turn.is_watched:
            _watch(turn)
        if not _can_keep:
            _give_back(owner)
    except RuntimeError:  # no thread can be started: the interpreter ends
        return _kept.pop(owner, None) is None
    except BaseException:
        _kept.pop(owner, None)
        raise
    return True


def take(owner: LockOwner, tree: Tree, paths: Paths, mode: Mode, lease: int) -> HeldLock | None:
    """Return the lock that an owner keeps, if that is what it asks for.

    What else it keeps is given back; if that is nothing, no round trip.
    """
    hold = _kept.get(owner)
    if hold is None:
        return None
    turn = hold.turn
    is_wanted = hold.tree is tree and hold.paths == paths and mode is Mode.EXCLUSIVE and hold.lease == lease
    if is_wanted and turn is not None and _is_open(hold, turn, time.monotonic()):
        hold = _kept.pop(owner, None)
        if hold is not None:
            turn.tokens -= 1
            hold.token += 1
        return hold
    _give_back(owner)
    return None


def end(tree: Tree) -> None:
    """Give back what owners of this process keep in a tree, and return when it is free. No round trip if it is none."""
    for owner in list(_kept):
        hold = _kept.get(owner)
        if hold is not None and hold.tree is tree:
            _give_back(owner)
    _await(lambda hold: hold.tree is tree)


def end_all() -> None:
    """Give back what owners of this process keep, and keep nothing from now on."""
    global _can_keep  # noqa: PLW0603  (it is the process that ends)
    _can_keep = False
    for owner in list(_kept):
        _give_back(owner)
    _await(lambda _: True)


def _is_open(hold: HeldLock, turn: Turn, now: float) -> bool:
    is_long = hold.valid_until - now >= hold.lease / 1000 * _LEFT
    return now < turn.ends and turn.tokens > 0 and is_long and not hold.lost and hold.tree.lock_retention > 0


def _ends_in_order() -> bool:
    global _can_keep  # noqa: PLW0603  (it is about the process)
    if _can_keep is None:
        _can_keep = before_exit(end_all)
    return _can_keep


def _give_back(owner: LockOwner) -> None:
    """Give back what an owner keeps. It was released in time, so what goes wrong is nobody's trouble any more."""
    hold = _kept.get(owner)
    if hold is None:
        return
    mark = hold, threading.get_ident()
    _in_hand.add(mark)
    try:
        hold = _kept.pop(owner, None)
        if hold is not None and not hold.tree.run(hold.tree.locks.release(hold.request)):
            _log.debug("the lock on %r was lost after its release, before it was given back", hold)
    except BaseException as error:
        if hold is not None:
            remove_later(hold.tree, hold.request, hold.lease)
        if not isinstance(error, Exception):
            raise
        _log.debug("the lock on %r could not be given back, trying again: %s", hold, error)
    finally:
        _in_hand.discard(mark)


def _await(matters: Callable[[HeldLock], bool]) -> None:
    """Wait for other threads to end what they are giving back. A lock would do, if no signal handler came here too."""
    me = threading.get_ident()
    while any(thread != me and matters(hold) for hold, thread in list(_in_hand)):
        time.sleep(_SOON_SECS / 4)


# The background thread, which is there only while there are turns.


def _watch(turn: Turn) -> None:
    turn.is_watched = True
    turn.look_at = turn.kept_at + _SOON_SECS
    _turns.add(turn)


def _look(turns: list[Turn]) -> None:
    for turn in turns:
        now = time.monotonic()
        if _keeps(turn):
            turn.look_at = turn.kept_at + _SOON_SECS
            if turn.look_at > now:
                continue
            _give_back(turn.owner)
        elif now < turn.ends:
            turn.look_at = now + _SOON_SECS
            continue
        _turns.discard(turn)
        turn.is_watched = False
        if _keeps(turn):
            _watch(turn)


def _keeps(turn: Turn) -> bool:
    hold = _kept.get(turn.owner)
    return hold is not None and hold.turn is turn


_turns: Final = Worker("redicts-turns", lambda turn: turn.look_at, _look, _STAYS_SECS)


def _begin_anew() -> None:
    global _can_keep  # noqa: PLW0603  (it is what a fork changes)
    _kept.clear()
    _in_hand.clear()
    _can_keep = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
