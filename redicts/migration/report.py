"""The report of a migration: counts, and every old key that was not simply moved, with the reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class Reason(Enum):
    """Why an old key was not simply moved."""

    LEAF_ABOVE = "1.0 has a leaf above it, and a leaf has nothing below"
    OCCUPIED = "the new tree has a leaf above it, or a dict at its place"
    DIFFERS = "the new tree has another value at its place"
    NO_JSON = "its value is no JSON"
    NO_PATH = "its name is no path that can be stored"
    FOREIGN = "it is no string, so 1.0 did not write it"
    REFUSED = "the new store cannot keep it"
    IN_THE_WAY = "a key that redicts did not write has a name that the new tree needs"
    CHANGED = "it was changed while it was moved; the new tree has the value of before"


class Skipped(NamedTuple):
    """An old key that was not simply moved. It is where it was, and holds what it held."""

    key: str
    """Its name, as :func:`readable` writes it."""
    reason: Reason
    detail: str
    """What a person needs beside the reason, such as the name of the other key. May be empty; never the value."""

    def __str__(self) -> str:
        return f"{self.key}: {self.reason.value}{f' ({self.detail})' if self.detail else ''}"


@dataclass(slots=True)
class Migration:
    """What a run has done. While it goes on, the numbers grow.

    ``read`` is ``stored + already_there + gone`` and those that were skipped, where a key with the reason ``CHANGED``
    counts as stored. If the server resizes its table of keys during the run, a key that stays may be counted twice.
    """

    read: int = 0
    """Old keys that were looked at."""
    stored: int = 0
    """Leaves that this run stored in the new tree."""
    already_there: int = 0
    """Leaves that the new tree had already, with the same value."""
    gone: int = 0
    """Old keys whose TTL ended, or that were deleted, before they could be moved."""
    removed: int = 0
    """Old keys that were removed, after their value was in the new tree."""
    by_key: dict[bytes, Skipped] = field(default_factory=dict, repr=False)
    """What was skipped, by the name of the key as the server has it."""

    @property
    def skipped(self) -> list[Skipped]:
        """What was skipped, in the order in which it was met."""
        return list(self.by_key.values())

    @property
    def complete(self) -> bool:
        """Whether all that was there is in the new tree now."""
        return not self.by_key

    def skip(self, key: bytes, reason: Reason, detail: str = "") -> None:
        """Note that an old key is not moved."""
        self.by_key[key] = Skipped(readable(key), reason, detail)

    def __str__(self) -> str:
        """Return one line of counts, and one line for each key that was skipped."""
        head = (
            f"{self.read} read, {self.stored} stored, {self.already_there} already there, {self.gone} gone, "
            f"{self.removed} removed, {len(self.by_key)} skipped"
        )
        counts = Counter(skipped.reason for skipped in self.by_key.values())
        lines = [f"  {count} x {reason.name}: {reason.value}" for reason, count in counts.items()]
        return "\n".join([head, *lines, *[f"  {skipped}" for skipped in self.by_key.values()]])


def readable(key: bytes) -> str:
    r"""Return the name of a key as text; bytes that are no UTF-8 are written as ``\x`` and two hexadecimal digits."""
    return key.decode("utf-8", "backslashreplace")
