"""Lives: seconds as users give and get them, milliseconds as everything else has them."""

from __future__ import annotations

from math import ceil, inf
from typing import Final

from redicts.core.paths import shortened
from redicts.errors import LeafError

_MOST: Final = 10**14
"""The longest TTL in milliseconds, some three thousand years: stores count in numbers of limited size."""


def milliseconds(seconds: float | None) -> int | None:
    """Return a TTL given in seconds in milliseconds; ``None``, for ever, stays ``None``.

    Raises :class:`~redicts.errors.LeafError` for what is no positive and finite number: 0 means "now" to some and "for
    ever" to others.
    """
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < inf:
        raise LeafError(
            f"a TTL is a positive number of seconds, or None for ever, not {shortened(seconds)}; "
            "to remove a value, delete it"
        )
    return _MOST if seconds > _MOST / 1000 else max(1, round(seconds * 1000))


def whole_seconds(ttl: int) -> int:
    """Return a remaining TTL in whole seconds, rounded up: what is still there has at least one."""
    return ceil(ttl / 1000)
