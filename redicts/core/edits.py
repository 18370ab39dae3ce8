"""Edits: a value is read, changed in place, and stored again, as steps without I/O. A lock excludes others meanwhile.

The lock is not known here. The read belongs into the transaction that grants it, and the one that writes also releases
it, see :meth:`redicts.core.locks.operations.LockOperations.release`. That a leaf is overwritten only if it is stored as
it was read does not depend on the lock.
"""

from __future__ import annotations

from redicts.core.driver import Steps
from redicts.core.leaves import ABSENT, clearing_above
from redicts.core.minitransaction import VALUES, Entries, Key, Outcome, Path, Read, Scope, Transaction
from redicts.core.original import Original, is_changeable
from redicts.core.paths import described
from redicts.core.values import ValueOperations, a_kind
from redicts.errors import Conflict, LeafError, WrongUse


class EditOperations(ValueOperations):
    """Edits of values: a part of :class:`redicts.core.store.TreeStore`."""

    def edit_read(self, path: Path) -> Read:
        """Return the read with which an edit begins."""
        return Read(Key(VALUES, path), Scope.SUBTREE, self._atomic_entries, None, self._ttls)

    def open_edit(self, path: Path, first: Entries, read_at: float, default: object) -> Steps[Original]:
        """Return the value to edit, after the answer to :meth:`edit_read`, which was sent at ``read_at``.

        If nothing is there, it is a copy of the default, or an empty dict for ``ABSENT``. One transaction per further
        page. Raises :class:`~redicts.errors.Unsupported` for more leaves than this store changes at once, and
        :class:`~redicts.errors.LeafError` for a default that cannot be stored.
        """
        most = self._atomic_entries
        values, ttls, cursor = dict(first.values), dict(first.ttls), first.cursor
        while cursor is not None and (most is None or len(values) <= most):
            found = yield from self._page(path, cursor, most, ttls=self._ttls)
            values.update(found.values)
            ttls.update(found.ttls)
            cursor = found.cursor
        if most is not None and len(values) > most:
            raise self._too_large(path)
        original = Original(Entries(values, ttls), path, self._format, read_at)
        if original.value is ABSENT:
            original.default_to({} if default is ABSENT else default)
        return original

    def close_edit(self, path: Path, original: Original) -> Steps[None]:
        """Store what has changed in a value since :meth:`open_edit` returned it. One transaction, none for no change.

        More transactions follow only if leaves have expired meanwhile. Raises :class:`~redicts.errors.Conflict` if
        a leaf that is to be written is not stored as it was read, :class:`~redicts.errors.LeafError` for a value that
        cannot be stored, and :class:`~redicts.errors.Unsupported` for one that is too large.
        """
        new = original.edited_to(original.value)
        if new == original.leaves:
            return
        if self._atomic_entries is not None and len(new) > self._atomic_entries:
            raise self._too_large(path)
        gone: set[Path] = set()
        while True:
            above = () if len(gone) < len(original.found) else clearing_above(path)
            checks = original.checks(new, gone)
            writes = (*above, *original.writes(new, self._clock(), gone))
            outcome: Outcome = yield Transaction(checks, (), writes)
            if self._is_done(outcome, path):
                return
            there = yield from self._all_entries(path)
            expired = original.ttls.keys() - there.values.keys()
            if expired <= gone:
                assert outcome.failed_index is not None
                raise Conflict(
                    f"{described(checks[outcome.failed_index].key.path)} was changed while {described(path)} was "
                    "edited, by its own block or by a writer that took no lock; nothing of the edit was written"
                )
            gone = expired

    def close_read(self, path: Path, original: Original) -> Steps[None]:
        """Check that a value that is only read was not changed. No transaction.

        Raises :class:`~redicts.errors.WrongUse` if it was.
        """
        if original.differs(original.value, original.leaves):
            raise WrongUse(
                f"the value of {described(path)} was changed under a shared lock, which only allows to read it; "
                "nothing was written. Edit it without shared=True"
            )
        yield from ()


def refuse_unchangeable(value: object, path: Path, what: str) -> None:
    """Raise :class:`~redicts.errors.LeafError` for a value for a path that cannot be changed in place."""
    if not is_changeable(value):
        raise LeafError(
            f"the {what} to be edited at {described(path)} must be a dict, a list or another value that can be changed "
            f"in place; it is {a_kind(value)} (use update_with() or add(), or edit the dict above it)"
        )
