"""Waiting in tests: poll for a condition until it holds or its deadline has passed, instead of a sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

TIMEOUT: Final = 20.0
"""Seconds after which something that should happen immediately counts as not happening."""


def eventually(condition: Callable[[], T], what: str, *, within: float = TIMEOUT, every: float = 0.01) -> T:
    """Call ``condition`` until it returns a true value, and return that.

    ``what`` is the rule as the failure states it: "the server answers". ``within`` and ``every`` are the seconds until
    this gives up and between two calls. What ``condition`` raises is passed on.

    Raises :class:`AssertionError` if ``condition`` does not hold within the time.
    """
    deadline = time.monotonic() + within
    while True:
        if value := condition():
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {within:g} seconds: {what}")
        time.sleep(every)
