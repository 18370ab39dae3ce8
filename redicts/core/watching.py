"""Watching a subtree: reads it after each notification, and tells when it has become another one.

A notification says that something may have changed, never what. So whatever is lost on the way is made good by the next
look: a watcher looks when it is notified, when the first TTL that it has read ends, and every few seconds in any case,
for stores where a notification can be lost without a trace, as when a writer may not publish.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from redicts.core.documents import DocumentLeaves
from redicts.core.driver import Await, Pause, Steps
from redicts.core.leaves import nest
from redicts.core.minitransaction import Path
from redicts.core.paths import described
from redicts.core.store import TreeStore
from redicts.errors import StoreBusy, StoreError, Unreachable
from redicts.randomness import RANDOM

_log: Final = logging.getLogger("redicts.watch")

_LONGEST_REST_SECS: Final = 10.0
"""After so long, a watcher looks without a notification."""

_AFTER_TTL_SECS: Final = 0.002
"""How long after the end of a TTL a watcher looks: the store rounds to milliseconds."""

_SLICE_SECS: Final = 1.0
"""The longest wait at a time, after which a watcher that was closed meanwhile ends, if that does not end the wait."""

_FIRST_PAUSE_SECS: Final = 0.05
_LONGEST_PAUSE_SECS: Final = 1.0

_Leaves = Mapping[Path, bytes]


class Change(NamedTuple):
    """A subtree as it is now: its leaves by relative path, and the paths of those that changed."""

    leaves: _Leaves
    before: _Leaves

    def paths(self) -> list[Path]:
        """Return the relative paths of the leaves that were added, changed or removed, in order."""
        now, before = self.leaves, self.before
        return sorted(path for path in {*now, *before} if now.get(path) != before.get(path))


class Watched:
    """One subtree, what was read of it, and when it is to be read again. One operation at a time uses it.

    ``clock`` is monotonic, in seconds.
    """

    def __init__(self, store: TreeStore, path: Path, clock: Callable[[], float]) -> None:
        self._store = store
        self._path = path
        self._clock = clock
        self._leaves: _Leaves = {}
        self._rests_until = 0.0
        self.is_begun = False
        """Whether it was read, so that there is something to compare with."""
        self.ends_with_its_wait = False
        """Whether closing it ends a wait, so that it need not end by itself to find out."""
        self.is_closed = False
        """Set by any thread to end the operation under way, and each later one."""

    @property
    def count(self) -> int:
        """The number of leaves that were there at the last look."""
        return len(self._leaves)

    def begin(self) -> Steps[None]:
        """Read the subtree, so that later changes are told, and the present value is not."""
        yield from self._look()

    def look_again(self) -> None:
        """Let the next operation look before it waits, because nobody has listened for a while."""
        self._rests_until = 0.0

    def next(self, timeout: float | None) -> Steps[Change | None]:
        """Return the next change, or ``None`` after so many seconds without one, or when closed.

        The first one is the subtree as it is, unless it was read before. An operation that has read it once waits for
        a store that does not answer. If the timeout ends meanwhile, it raises the error of the store.
        """
        ends = None if timeout is None else self._clock() + timeout
        failures = 0
        notified, is_over = not self.is_begun, False
        while not self.is_closed:
            if notified or self._clock() >= self._rests_until:
                try:
                    change = yield from self._look()
                except (Unreachable, StoreBusy) as error:
                    if not self.is_begun or (ends is not None and self._clock() >= ends):
                        raise
                    failures += 1
                    yield self._pause(failures, error)
                    notified = True
                    continue
                failures = 0
                if change is not None:
                    return change
            now = self._clock()
            if ends is not None and now >= ends:
                if is_over:
                    return None
                # Whatever was written before the end is told, also if its notification is still on the way.
                notified = is_over = True
                continue
            until = self._rests_until if ends is None else min(self._rests_until, ends)
            if not self.ends_with_its_wait:
                until = min(until, now + _SLICE_SECS)
            notified = yield Await(max(0.0, until - now))
        return None

    def value(self, change: Change) -> object:
        """Return the value of a change, a new one each time, or ``ABSENT``."""
        return nest(change.leaves, self._path, self._store.form)

    def _look(self) -> Steps[Change | None]:
        """Read the subtree, and return what has changed, if anything has."""
        began = self._clock()
        leaves, ttl = yield from self._store.leaves_and_ttl(self._path)
        rest = _LONGEST_REST_SECS if ttl is None else min(_LONGEST_REST_SECS, ttl / 1000 + _AFTER_TTL_SECS)
        # By the time before the read: a TTL was as long at some time after it.
        self._rests_until = began + rest
        before, was_begun = self._leaves, self.is_begun
        if was_begun and are_same(before, leaves):
            return None
        self._leaves, self.is_begun = leaves, True
        return Change(leaves, before)

    def _pause(self, failures: int, error: StoreError) -> Pause:
        if failures == 1:
            _log.warning("watching %s: the store does not answer, trying again: %s", described(self._path), error)
        pause = min(_LONGEST_PAUSE_SECS, _FIRST_PAUSE_SECS * 2 ** min(failures, 10))
        return Pause(pause * RANDOM.uniform(0.5, 1))


def are_same(one: _Leaves, other: _Leaves) -> bool:
    """Return whether leaves are the same bytes at the same paths. Documents are split only if they must be."""
    if isinstance(one, DocumentLeaves) and isinstance(other, DocumentLeaves) and one.documents == other.documents:
        return one.texts == other.texts or one == other
    return one == other
