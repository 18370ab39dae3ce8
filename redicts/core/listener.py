"""Listeners wait for notifications: the contract for backends that push, and the poller for those that do not."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Final

from redicts.randomness import RANDOM

_FIRST_INTERVAL_SECS: Final = 0.001
_LONGEST_INTERVAL_SECS: Final = 0.05

LONGEST_INTERVAL_TO_CHANGES_SECS: Final = 0.5
"""The longest interval at which a store that cannot tell of changes is read, because someone waits for one."""


class Listener(ABC):
    """Waits for notifications of one name. One thread uses it and closes it."""

    __slots__ = ()

    @abstractmethod
    def wait(self, seconds: float, /) -> bool:
        """Wait for a notification: return true when one arrives, false after the timeout, which may be 0 or less.

        A notification that arrived before the call counts once. A spurious one is allowed, because the caller then
        reads the store. So a failure of the store is reported as a notification, and that read raises the error.
        """

    def ring(self, bell: Callable[[], object], /) -> bool:  # noqa: ARG002  (for listeners that override it)
        """Let each notification call a function, from any thread, instead of ending a wait; return whether it will.

        So tasks wait without a thread each. The function need be called only while some thread waits for another
        listener of the same backend. The default returns false: then a task looks at short, growing intervals.
        """
        return False

    @property
    def is_live(self) -> bool:
        """Whether notifications arrive now, as far as this process knows. It costs nothing to ask."""
        return True

    def close(self) -> None:  # noqa: B027  (a listener without resources has nothing to close)
        """Stop listening. Idempotent."""

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Poller(Listener):
    """A listener for stores that do not notify: it reports a notification at growing random intervals.

    ``longest`` is the longest one in seconds.
    """

    __slots__ = ("_interval", "_longest")

    def __init__(self, longest: float = _LONGEST_INTERVAL_SECS) -> None:
        self._interval = _FIRST_INTERVAL_SECS
        self._longest = longest

    def wait(self, seconds: float, /) -> bool:
        """Return true after the next interval, or false if the timeout ends first."""
        interval = self._interval * RANDOM.uniform(0.5, 1)
        self._interval = min(2 * self._interval, self._longest)
        time.sleep(max(0.0, min(interval, seconds)))
        return interval < seconds
