"""A client of the backend under examination, which validates every outcome and shortens frequent calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redicts.contract.form import entries_of, examine_form, names_of
from redicts.contract.requirements import CheckFailed, require, shortened
from redicts.core.backend import Backend, Capabilities
from redicts.core.listener import Listener
from redicts.core.minitransaction import (
    Answer,
    AnyRead,
    Check,
    Entries,
    Key,
    Names,
    Outcome,
    Path,
    Read,
    ReadNames,
    Scope,
    Transaction,
    Write,
)


class Client:
    """One client of the store. Its methods are thread-safe, as those of the backend are."""

    __slots__ = ("backend",)

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities that the backend declares."""
        return self.backend.capabilities

    def execute(self, transaction: Transaction) -> Outcome:
        """Execute a transaction and validate its outcome."""
        outcome = self.backend.execute(transaction)
        examine_form(transaction, outcome)
        return outcome

    def run(self, checks: Sequence[Check] = (), reads: Sequence[AnyRead] = (), writes: Sequence[Write] = ()) -> Outcome:
        """Execute a transaction of these conditions, reads and writes."""
        return self.execute(Transaction(tuple(checks), tuple(reads), tuple(writes)))

    def apply(self, *writes: Write) -> Outcome:
        """Write, and require that the writes are applied."""
        outcome = self.run(writes=writes)
        if not outcome.applied:  # the text of a thousand writes takes longer than the writes
            raise CheckFailed(f"writes without conditions ended with {outcome.status.name}: {shortened(writes)}")
        return outcome

    def holds(self, *checks: Check) -> bool:
        """Tell whether all these conditions hold."""
        return self.run(checks=checks).applied

    def ask(self, *reads: AnyRead) -> tuple[Answer, ...]:
        """Read, and require answers."""
        outcome = self.run(reads=reads)
        if not outcome.applied:
            raise CheckFailed(f"reads without conditions ended with {outcome.status.name}: {shortened(reads)}")
        return outcome.answers

    def entries(self, read: Read) -> Entries:
        """Read, and return the answer."""
        return entries_of(self.ask(read)[0])

    def read(self, key: Key, scope: Scope = Scope.SUBTREE) -> Mapping[Path, bytes]:
        """Return the values in a scope."""
        return self.entries(Read(key, scope)).values

    def value(self, key: Key) -> bytes | None:
        """Return the value at exactly this key."""
        return self.read(key, Scope.NODE).get(())

    def fetch(self, key: Key) -> bytes | None:
        """Return the answer of the fast path to a value: the value, or ``None``, which says nothing."""
        return _fetched(self.backend.fetch(key))

    def overwrite(self, key: Key, value: bytes) -> bool:
        """Replace a value by the fast path; if it returns false, nothing is written."""
        return self.backend.overwrite(key, value)

    def fetch_document(self, key: Key) -> bytes | None:
        """Return the answer of the fast path to a document: a document, a value, or ``None``, which says nothing."""
        return _fetched(self.backend.fetch_document(key))

    def overwrite_document(self, key: Key, document: bytes) -> bool:
        """Replace a document by the fast path; if it returns false, nothing is written."""
        return self.backend.overwrite_document(key, document)

    def ttls(self, key: Key, scope: Scope = Scope.SUBTREE) -> Mapping[Path, int]:
        """Return the remaining TTLs in a scope, in milliseconds."""
        return self.entries(Read(key, scope, ttls=True)).ttls

    def page_of_names(self, read: ReadNames) -> Names:
        """Read names, and return the answer."""
        return names_of(self.ask(read)[0])

    def names(self, key: Key) -> set[str]:
        """Return the names directly below a key."""
        return set(self.page_of_names(ReadNames(key)).names)

    def listen(self, name: str) -> Listener:
        """Listen under this name; the same thread must wait and close."""
        listener = self.backend.listen(name)
        require(isinstance(listener, Listener), f"listen must return a Listener, got {shortened(listener)}")
        return listener

    def listen_to_changes(self, name: str, path: Path) -> Listener:
        """Listen to the changes at, above and below a path; the same thread must wait and close."""
        listener = self.backend.listen_to_changes(name, path)
        require(isinstance(listener, Listener), f"listen_to_changes must return a Listener, got {shortened(listener)}")
        return listener


def _fetched(found: bytes | None) -> bytes | None:
    """Require bytes: others may be equal to them, and a codec cannot decode them."""
    require(found is None or isinstance(found, bytes), f"a fast path must return bytes or None, got {shortened(found)}")
    return found
