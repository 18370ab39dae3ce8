"""Converts TTLs between seconds, for users, and milliseconds, for stores."""

from __future__ import annotations

from math import ceil, inf
from typing import Final

from redicts.core.paths import shortened
from redicts.errors import LeafError

_MOST: Final = 10**14
"""The longest TTL in milliseconds, about three thousand years: the integers of stores are limited."""


def milliseconds(seconds: float | None) -> int | None:
    """Convert a TTL from seconds to milliseconds; ``None`` means no expiry.

    Raises :class:`~redicts.errors.LeafError` for anything but a positive finite number. 0 is refused, because some
    users would expect it to mean "now", and others "no expiry".
    """
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < inf:
        raise LeafError(
            f"a TTL must be a positive number of seconds, or None for no expiry; got {shortened(seconds)} "
            "(use delete() to remove a value)"
        )
    return _MOST if seconds > _MOST / 1000 else max(1, round(seconds * 1000))


def whole_seconds(ttl: int) -> int:
    """Convert a remaining TTL from milliseconds to whole seconds, rounded up, so that a live value has at least 1."""
    return ceil(ttl / 1000)


def time_to_live(ttl: int | None) -> int:
    """Return what users get for a remaining TTL: whole seconds, -1 for ``None``, no expiry, and -2 for 0, no value."""
    if ttl is None:
        return -1
    return whole_seconds(ttl) if ttl else -2
