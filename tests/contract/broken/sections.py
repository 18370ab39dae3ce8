"""Sharded stores that do at once what they cannot, or that answer wrongly at the root."""

from __future__ import annotations

import contextlib

from redicts.core.minitransaction import Answer, AnyRead, Delete, Names, Outcome, ReadNames, Status, Transaction
from redicts.core.sections import section_of
from redicts.errors import Unsupported
from tests.contract.broken.register import broken_sharded_store
from tests.contract.reference_model import PlainBackend
from tests.contract.sharded import ShardedBackend


@broken_sharded_store("sections.a_transaction_has_one_section", alone=True)
class FirstSectionIsTheHome(ShardedBackend):
    """A transaction of two sections is executed in the first one."""

    def home(self, transaction: Transaction) -> str | None:
        with contextlib.suppress(Unsupported):
            return super().home(transaction)
        keys = [item.key for part in transaction for item in part]
        found = [section for key in keys if (section := section_of(key))]
        if not all(key.path for key in keys) or len(set(found)) < 2:
            return super().home(transaction)
        return found[0]


@broken_sharded_store("sections.the_root_is_refused", alone=True)
class RootIsClearedSectionBySection(ShardedBackend):
    """A removal at the root is carried out in each section, one after the other."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        checks, reads, writes = transaction
        if not checks and not reads and len(writes) == 1 and isinstance(writes[0], Delete) and not writes[0].key.path:
            for section in list(self._sections.values()):
                section.execute(transaction)
            return Outcome(Status.APPLIED)
        return super().execute(transaction)


@broken_sharded_store("sections.the_root_is_read_in_pages", alone=True)
class SectionsKeepTheirNames(ShardedBackend):
    """The names at the root are those of all sections that were ever used."""

    def page(self, read: AnyRead) -> Answer:
        if isinstance(read, ReadNames):
            return Names(tuple([name for name in self._sections if name]))
        return super().page(read)


@broken_sharded_store("sections.keys_of_locks_are_at_home", alone=True)
class OneCounterForAll(ShardedBackend):
    """The counter of fencing tokens is the same in all sections."""

    def section(self, name: str | None) -> PlainBackend:
        found = super().section(name)
        others = [other for other in self._sections.values() if other is not found]
        for other in others:
            for space in [space for space in other.spaces if space.startswith("f")]:
                found.spaces[space] = other.spaces[space]
        return found
