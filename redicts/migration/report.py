"""The report of a migration: counts, and each skipped key with its reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class Reason(Enum):
    """Why an old key was skipped."""

    LEAF_ABOVE = "1.0 has a leaf above it, and a leaf has nothing below it"
    OCCUPIED = "the new tree has a leaf above it, or a dict at its path"
    DIFFERS = "the new tree has another value at its path"
    NO_JSON = "its value is not valid JSON"
    NO_PATH = "its name is not a path that can be stored"
    FOREIGN = "it is not a string, so 1.0 did not write it"
    REFUSED = "the new store cannot keep it"
    IN_THE_WAY = "a key that redicts did not write has a name that the new tree needs"
    CHANGED = "it was changed during the migration; the new tree has the former value"


class Skipped(NamedTuple):
    """An old key that was skipped. It keeps its name and its value."""

    key: str
    """Its name, as :func:`readable` returns it."""
    reason: Reason
    detail: str
    """More about the reason, such as the name of the other key. May be empty; never has the value."""

    def __str__(self) -> str:
        return f"{self.key}: {self.reason.value}{f' ({self.detail})' if self.detail else ''}"


@dataclass(slots=True)
class Migration:
    """The progress of a migration, and its result.

    ``read`` is the sum of ``stored``, ``already_there``, ``gone`` and the number of skipped keys, except those with the
    reason ``CHANGED``, which count as stored. If the server resizes its table of keys during the run, a key that stays
    may be counted twice.
    """

    read: int = 0
    """Old keys that were read."""
    stored: int = 0
    """Leaves that this run stored in the new tree."""
    already_there: int = 0
    """Leaves that the new tree already had, with the same value."""
    gone: int = 0
    """Old keys that expired or were deleted before they could be stored."""
    removed: int = 0
    """Old keys that were removed after their value was in the new tree."""
    by_key: dict[bytes, Skipped] = field(default_factory=dict, repr=False)
    """The skipped keys, by the bytes of their names."""

    @property
    def skipped(self) -> list[Skipped]:
        """The skipped keys, in the order in which they were read."""
        return list(self.by_key.values())

    @property
    def complete(self) -> bool:
        """Whether no key was skipped."""
        return not self.by_key

    def skip(self, key: bytes, reason: Reason, detail: str = "") -> None:
        """Add a skipped key."""
        self.by_key[key] = Skipped(readable(key), reason, detail)

    def __str__(self) -> str:
        """Return one line of counts, one line for each reason, and one for each skipped key."""
        head = (
            f"{self.read} read, {self.stored} stored, {self.already_there} already there, {self.gone} gone, "
            f"{self.removed} removed, {len(self.by_key)} skipped"
        )
        counts = Counter(skipped.reason for skipped in self.by_key.values())
        lines = [f"  {count} x {reason.name}: {reason.value}" for reason, count in counts.items()]
        return "\n".join([head, *lines, *[f"  {skipped}" for skipped in self.by_key.values()]])


def readable(key: bytes) -> str:
    r"""Return the name of a key as text, with bytes that are not UTF-8 as ``\x`` and two hexadecimal digits."""
    return key.decode("utf-8", "backslashreplace")
