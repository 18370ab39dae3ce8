"""Checks of the numbers with which users say how long a lock lasts, and how long to wait for it."""

from __future__ import annotations

from math import inf
from typing import Final

from redicts.core import paths

LONGEST_SECS: Final = 1e11
"""The longest lease and the longest timeout in seconds, about three thousand years."""


def lease_of(seconds: float) -> int:
    """Convert a lease to milliseconds. Raises ``ValueError`` for anything but a positive, finite number."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0.001 <= seconds <= LONGEST_SECS:
        raise ValueError(f"a lease must be 0.001 to {LONGEST_SECS:.0e} seconds; got {paths.shortened(seconds)}")
    return round(seconds * 1000)


def timeout_of(seconds: float | None, name: str = "acquire_timeout") -> float | None:
    """Check a timeout. Raises ``ValueError`` for anything but ``None`` or a number of seconds, 0 or more."""
    if seconds is None or seconds == inf:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise ValueError(
            f"{name} must be a number of seconds, 0 or more, or None for no limit; got {paths.shortened(seconds)}"
        )
    return min(seconds, LONGEST_SECS)


def wait_of(blocking: bool, timeout: float | None, usual: float | None) -> float | None:
    """Return how many seconds to wait, ``None`` without limit, by the arguments of ``threading.Lock.acquire``.

    Without a timeout it is the ``usual`` one. Raises ``TypeError`` and ``ValueError`` for arguments that are not valid.
    """
    if not isinstance(blocking, bool):
        raise TypeError(
            f"blocking must be True or False; got {paths.shortened(blocking)}; to wait for a number of seconds, pass "
            "it as timeout="
        )
    is_given = timeout is not None and (isinstance(timeout, bool) or timeout != -1)  # as in threading, -1 is no limit
    if not blocking:
        if is_given:
            raise ValueError(
                f"an attempt without blocking has no timeout; got timeout={paths.shortened(timeout)}; leave one of "
                "them out"
            )
        return 0
    if timeout is None:
        return usual
    return timeout_of(timeout, "timeout") if is_given else None
