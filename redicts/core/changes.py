"""The changes and expected values that a user's transaction collects and commits atomically."""

from __future__ import annotations

from redicts.core.envelope import LeafFormat
from redicts.core.leaves import ABSENT, clearing_above, leaves_of, plain_number, refuse_root, replacing
from redicts.core.minitransaction import (
    NOTHING,
    VALUES,
    Add,
    Delete,
    Equals,
    Expire,
    Key,
    Path,
    Put,
    Scope,
    Write,
    fits_counter,
)
from redicts.core.paths import described, shortened
from redicts.errors import LeafError, Unsupported


class Changes:
    """Checks and writes on several paths, which :meth:`TreeStore.commit` applies atomically."""

    def __init__(self, form: LeafFormat) -> None:
        self._format = form
        self.checks: list[Equals] = []
        self.writes: list[Write] = []
        self.paths: list[Path] = []
        """The paths at and below which the writes are."""

    def expect(self, path: Path, value: object) -> None:
        """Add a check that the stored bytes of this value are there; ``ABSENT`` expects nothing.

        Raises :class:`~redicts.errors.Unsupported` if the codec may encode equal values as different bytes.
        """
        leaves = NOTHING if value is ABSENT else leaves_of(value, path, self._format)
        if not self._format.are_reproducible(leaves.values()):
            raise Unsupported(
                f"the codec {self._format.writes} may encode equal values as different bytes, so a transaction cannot "
                f"expect one at {described(path)}; use compare_and_set, or expect a number that changes with it"
            )
        self.checks.append(Equals(Key(VALUES, path), Scope.SUBTREE, leaves))

    def write(self, path: Path, value: object, ttl: int | None) -> None:
        """Add a write that replaces everything at and below a path by a value."""
        self.paths.append(path)
        self.writes += replacing(leaves_of(value, path, self._format), path, ttl)

    def delete(self, path: Path) -> None:
        """Add a write that removes everything at and below a path."""
        self.paths.append(path)
        self.writes.append(Delete(Key(VALUES, path), Scope.SUBTREE))

    def expire(self, path: Path, ttl: int | None) -> None:
        """Add a write that sets the TTL of everything at and below a path."""
        self.paths.append(path)
        self.writes.append(Expire(Key(VALUES, path), Scope.SUBTREE, ttl))

    def add(self, path: Path, amount: int) -> None:
        """Add a write that adds to the 64-bit integer at a path."""
        refuse_root(path)
        number = plain_number(amount)
        if type(number) is not int or not fits_counter(number):
            raise LeafError(f"the amount to add to {described(path)} must be a 64-bit integer, not {shortened(amount)}")
        key = Key(VALUES, path)
        below = self._left_below(path)
        if below:
            raise LeafError(f"{described(path)} becomes a dict in this transaction, not a number to add to")
        if below is None:
            self.checks.append(Equals(key, Scope.BELOW, NOTHING))
        self.paths.append(path)
        self.writes += [*clearing_above(path), Add(key, number)]

    def _left_below(self, path: Path) -> bool | None:
        """Return whether the writes so far leave values below a path; ``None`` if that depends on the stored values."""
        left: set[Path] = set()
        cleared = False
        for write in self.writes:
            at = write.key.path
            is_at_or_above = path[: len(at)] == at
            if isinstance(write, (Put, Add)):
                cleared |= is_at_or_above
                if not is_at_or_above and at[: len(path)] == path:
                    left.add(at)
            elif isinstance(write, Delete):
                cleared |= is_at_or_above and write.scope is not Scope.NODE
                left = {other for other in left if other[: len(at)] != at or not write.scope.covers(other[len(at) :])}
        return True if left else False if cleared else None
