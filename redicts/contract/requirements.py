"""What checks raise: the requirements of the contract, and the two ways in which a check ends without passing."""

from __future__ import annotations


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


def shortened(value: object, most: int = 300) -> str:
    """Return a repr that fits one line of a report."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
