"""Several changes that are made at one instant: what a transaction of the user's collects."""

from __future__ import annotations

from redicts.core.codec import Codec, counts_as_text
from redicts.core.leaves import ABSENT
from redicts.core.paths import described
from redicts.core.plans import clearing_above, leaves_of, refuse_root, replacing
from redicts.core.transaction import (
    NOTHING,
    VALUES,
    Add,
    Delete,
    Exactly,
    Expire,
    Key,
    Path,
    Scope,
    Write,
    fits_counter,
)
from redicts.errors import LeafError, Unsupported


class Changes:
    """Changes to several paths, given relative to one, that :meth:`TreeStore.commit` applies at one instant."""

    def __init__(self, codec: Codec, at: Path) -> None:
        self._codec = codec
        self._at = at
        self.checks: list[Exactly] = []
        self.writes: list[Write] = []

    def expect(self, path: Path, value: object) -> None:
        """Demand that this value, byte for byte as it would be stored, is there (``ABSENT``: nothing)."""
        path = self._at + path
        leaves = NOTHING if value is ABSENT else leaves_of(value, path, self._codec)
        self.checks.append(Exactly(Key(VALUES, path), Scope.SUBTREE, leaves))

    def write(self, path: Path, value: object, life: int | None) -> None:
        """Replace what is there."""
        path = self._at + path
        self.writes += replacing(leaves_of(value, path, self._codec), path, life)

    def delete(self, path: Path) -> None:
        """Remove what is there."""
        self.writes.append(Delete(Key(VALUES, self._at + path), Scope.SUBTREE))

    def expire(self, path: Path, life: int | None) -> None:
        """Give what is there a life."""
        self.writes.append(Expire(Key(VALUES, self._at + path), Scope.SUBTREE, life))

    def add(self, path: Path, amount: int) -> None:
        """Add to a 64-bit integer."""
        path = self._at + path
        refuse_root(path)
        if isinstance(amount, bool) or not isinstance(amount, int) or not fits_counter(amount):
            raise LeafError(f"what is added to {described(path)} in a transaction is a 64-bit integer, not {amount!r}")
        if not counts_as_text(self._codec):
            raise Unsupported(f"the codec {self._codec.name} does not store integers as text; use update_with")
        key = Key(VALUES, path)
        self.writes += [*clearing_above(path), Add(key, amount)]
