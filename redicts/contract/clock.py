"""A clock that moves only when it is told to, for stores whose time a test may set."""

from __future__ import annotations

from typing import Final

_START: Final = 1_700_000_000.3
"""Seconds. As far from zero as real clocks are, and no whole number, so that rounding errors show."""


class ManualClock:
    """Call it for the time in seconds; pass it to a store in place of its own clock.

    >>> clock = ManualClock(5.0)
    >>> clock.advance(1.5)
    >>> clock()
    6.5
    """

    __slots__ = ("_now",)

    def __init__(self, now: float = _START) -> None:
        self._now = now

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move on by this many seconds."""
        self._now += seconds
