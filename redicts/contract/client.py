"""A backend on the bench: every outcome is examined for its form, and the words that checks need often are short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redicts.contract.check import require, shortened
from redicts.contract.form import entries_of, examine_form, names_of
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
    """One client of the store. All methods may be called from any thread, as those of the backend."""

    __slots__ = ("backend",)

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def capabilities(self) -> Capabilities:
        """What the backend claims."""
        return self.backend.capabilities

    def execute(self, transaction: Transaction) -> Outcome:
        """Execute a transaction and examine the form of its outcome."""
        outcome = self.backend.execute(transaction)
        examine_form(transaction, outcome)
        return outcome

    def run(self, checks: Sequence[Check] = (), reads: Sequence[AnyRead] = (), writes: Sequence[Write] = ()) -> Outcome:
        """Execute a transaction made of these."""
        return self.execute(Transaction(tuple(checks), tuple(reads), tuple(writes)))

    def apply(self, *writes: Write) -> Outcome:
        """Write, and insist that it is applied."""
        outcome = self.run(writes=writes)
        require(outcome.applied, f"writes without checks ended with {outcome.status.name}: {shortened(writes)}")
        return outcome

    def holds(self, *checks: Check) -> bool:
        """Tell whether all these checks hold."""
        return self.run(checks=checks).applied

    def ask(self, *reads: AnyRead) -> tuple[Answer, ...]:
        """Read, and insist on answers."""
        outcome = self.run(reads=reads)
        require(outcome.applied, f"reads without checks ended with {outcome.status.name}: {shortened(reads)}")
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
        """Return what the short way to one value gives: the value, or ``None``, which says nothing."""
        return self.backend.fetch(key)

    def overwrite(self, key: Key, value: bytes) -> bool:
        """Go the short way to put a value over another one; if it returns false, nothing is written."""
        return self.backend.overwrite(key, value)

    def fetch_document(self, key: Key) -> bytes | None:
        """Return what the short way to a document gives: it, or a value, or ``None``, which says nothing."""
        return self.backend.fetch_document(key)

    def overwrite_document(self, key: Key, document: bytes) -> bool:
        """Go the short way to put a document over another one; if it returns false, nothing is written."""
        return self.backend.overwrite_document(key, document)

    def ttls(self, key: Key, scope: Scope = Scope.SUBTREE) -> Mapping[Path, int]:
        """Return the remaining lives in a scope, in milliseconds."""
        return self.entries(Read(key, scope, ttls=True)).ttls

    def page_of_names(self, read: ReadNames) -> Names:
        """Read names, and return the answer."""
        return names_of(self.ask(read)[0])

    def names(self, key: Key) -> set[str]:
        """Return the names directly below a key."""
        return set(self.page_of_names(ReadNames(key)).names)

    def listen(self, name: str) -> Listener:
        """Listen under this name; the thread that listens is the one that waits and closes."""
        listener = self.backend.listen(name)
        require(isinstance(listener, Listener), f"listen returned no Listener but {shortened(listener)}")
        return listener
