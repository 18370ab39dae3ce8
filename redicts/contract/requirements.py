"""What checks raise: the requirements of the contract, and the two ways in which a check ends without passing."""

from __future__ import annotations

import math
from collections.abc import Callable


class CheckFailed(AssertionError):
    """The store or codec does not do what a check requires."""


class NotRun(Exception):
    """A check cannot run here. ``required`` tells whether that blocks certification."""

    def __init__(self, reason: str, *, required: bool) -> None:
        super().__init__(reason)
        self.required = required


def require(condition: object, what: str) -> None:
    """Raise :class:`CheckFailed` with this message unless the condition is true."""
    if not condition:
        raise CheckFailed(what)


def require_equal(actual: object, expected: object, what: str) -> None:
    """Raise :class:`CheckFailed` unless both are equal; ``what`` names the value that was examined."""
    if actual != expected:
        raise CheckFailed(f"{what}: {shortened(actual)}, expected {shortened(expected)}")


def require_below(measure: Callable[[], float], most: float, times: int, what: Callable[[float], str]) -> None:
    """Raise :class:`CheckFailed` unless one of so many measurements is below ``most``; ``what`` tells of the least.

    A busy machine makes single ones longer.
    """
    least = math.inf
    for _ in range(times):
        least = min(least, measure())
        if least < most:
            return
    raise CheckFailed(what(least))


def shortened(value: object, most: int = 300) -> str:
    """Return a repr that fits one line of a report."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
