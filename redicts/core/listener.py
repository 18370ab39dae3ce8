"""What waits for a notification: the listener that a backend gives, and the one for stores that cannot push."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Final

_FIRST_INTERVAL_SECS: Final = 0.001
_LONGEST_INTERVAL_SECS: Final = 0.05


class Listener(ABC):
    """Somebody who waits to be notified. Used by one thread, and closed by it."""

    __slots__ = ()

    @abstractmethod
    def wait(self, seconds: float, /) -> bool:
        """Return true when notified, or false after so many seconds; at once if that is 0 or less.

        A notification that came before the call counts, once. It may also be true for no reason: whoever is notified
        looks
        for himself. So a failure of the store is no error here, but a notification; what is then asked of the store
        will tell.
        """

    def close(self) -> None:  # noqa: B027  (nothing to let go of is right for a listener that holds nothing)
        """Stop listening. Calling it twice is harmless."""

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Poller(Listener):
    """A listener that nobody notifies: it sends one to look at growing random intervals, 50 milliseconds at most."""

    __slots__ = ("_interval",)

    def __init__(self) -> None:
        self._interval = _FIRST_INTERVAL_SECS

    def wait(self, seconds: float, /) -> bool:
        """Return true after a short while, or false if the time is over before."""
        interval = self._interval * random.uniform(0.5, 1)  # noqa: S311  (it only keeps rivals out of step)
        self._interval = min(2 * self._interval, _LONGEST_INTERVAL_SECS)
        time.sleep(max(0.0, min(interval, seconds)))
        return interval < seconds
