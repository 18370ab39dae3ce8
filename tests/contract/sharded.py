"""A correct sharded store in memory: one store for each section. Broken ones are derived from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Final

from redicts.contract import InOneSection
from redicts.core.backend import Backend, Capabilities
from redicts.core.minitransaction import Answer, AnyRead, Outcome, Status, Transaction
from redicts.core.sections import home_of, is_at_root
from redicts.errors import StoreBusy
from redicts.forks import ForkSafeLock
from tests.contract.harnesses import InstanceHarness
from tests.contract.reference_model import PlainBackend


class ShardedBackend(Backend):
    """A page at the root has the values of one section."""

    declared: ClassVar[Capabilities] = dataclasses.replace(PlainBackend.declared, push=False, sharded=True)

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock: Final = clock
        self._sections: Final[dict[str | None, PlainBackend]] = {}
        self._lock: Final = ForkSafeLock()

    @property
    def capabilities(self) -> Capabilities:
        return self.declared

    def execute(self, transaction: Transaction, /) -> Outcome:
        if self._lock.is_mine():
            raise StoreBusy("called in the midst of another call of the same thread")
        with self._lock:
            if is_at_root(transaction):
                return Outcome(Status.APPLIED, tuple(map(self.page, transaction.reads)))
            return self.section(self.home(transaction)).execute(transaction)

    def home(self, transaction: Transaction) -> str | None:
        return home_of(transaction)

    def section(self, name: str | None) -> PlainBackend:
        return self._sections.setdefault(name, PlainBackend(self._clock))

    def page(self, read: AnyRead) -> Answer:
        number = int(read.cursor or b"0")
        names = list(self._sections)
        section = self.section(names[number]) if names else PlainBackend(self._clock)
        (answer,) = section.execute(Transaction(reads=(read._replace(limit=None, cursor=None),))).answers
        return answer._replace(cursor=b"%d" % (number + 1) if number + 1 < len(names) else None)


class ShardedHarness(InstanceHarness):
    """For a sharded store in one instance."""

    def open(self) -> Backend:
        return InOneSection(self.store)

    def whole(self) -> Backend:
        return self.store
