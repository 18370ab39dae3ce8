"""Claims that do not hold, and what is not declared done all the same."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import islice

from redicts.contract import ManualClock, SharedBackend
from redicts.core.backend import Backend, Capabilities
from redicts.core.minitransaction import (
    Delete,
    Entries,
    Equals,
    Expire,
    Outcome,
    Put,
    PutDocument,
    Read,
    Scope,
    StartsWith,
    Status,
    Transaction,
    Write,
)
from redicts.errors import StoreError, Unsupported
from tests.contract.broken.register import broken_client, broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import DictBackend, LimitedBackend, NoTTLBackend, Spaces


@broken_store("capabilities.capabilities_are_stated", alone=True)
class CapabilitiesChange(DictBackend):
    """The declared capabilities depend on what is stored."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(ttl=True, processes=False, durable=any(self.spaces.values()), atomic_entries=None)


@broken_store("capabilities.capabilities_are_stated")
class LimitOfAHundred(DictBackend):
    """A limit of a hundred values is declared."""

    declared = Capabilities(ttl=True, processes=False, durable=False, atomic_entries=100)


@broken_store("conditions.equals_compares_its_scope")
class EmptyTransactionsFail(DictBackend):
    """A transaction without writes is not applied."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        if not any(transaction):
            return Outcome(Status.CHECK_FAILED)
        return super().decide(transaction, now)


@broken_store("undeclared.a_ttl_is_refused", alone=True)
class TTLsAreSilentlyIgnored(DictBackend):
    """TTLs are not declared, and a TTL that is given is ignored."""

    declared = NoTTLBackend.declared

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        super().put(spaces, write._replace(ttl=None), now)

    def expire(self, spaces: Spaces, write: Expire, now: float) -> None:
        pass


@broken_store("undeclared.a_ttl_is_refused")
class TTLsWorkUndeclared(DictBackend):
    """TTLs are not declared, and work."""

    declared = NoTTLBackend.declared


@broken_store("undeclared.a_ttl_is_refused")
class TTLsAreRefusedTooLate(NoTTLBackend):
    """A TTL is refused after what stands before it was written."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        for index, write in enumerate(transaction.writes):
            if getattr(write, "ttl", None) is not None:
                super().execute(Transaction(writes=transaction.writes[:index]))
        return super().execute(transaction)


@broken_store("pairs.each_write_sees_the_one_before")
class KeepTTLIsRefused(NoTTLBackend):
    """Where TTLs are not declared, keep_ttl is refused, though there is none to keep."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        if write.keep_ttl:
            raise NotImplementedError
        super().put(spaces, write, now)


@broken_store(
    "processes.processes_lose_no_update",
    "processes.processes_see_no_half_write",
    "forks.child_and_parent_work_on",
    "processes.processes_notify_each_other",
    opener=partial(DictBackend, ManualClock()),
)
class OtherProcessesAreOnTheirOwn(DictBackend):
    """Processes are declared, and each has a store of its own."""

    declared = Capabilities(ttl=True, processes=True, durable=False, atomic_entries=None, push=True)


class _Durable(DictBackend):
    declared = Capabilities(ttl=True, processes=False, durable=True, atomic_entries=None)

    clients = 0


@broken_client("clients.values_outlast_all_clients", of=_Durable, alone=True)
class ForgottenByTheLast(SharedBackend):
    """Durability is declared, and the last client to leave takes everything along."""

    def __init__(self, shared: Backend) -> None:
        super().__init__(shared)
        assert isinstance(shared, _Durable)
        shared.clients += 1
        self.left = False

    def close(self) -> None:
        shared = self.shared
        assert isinstance(shared, _Durable)
        if not self.left:
            self.left = True
            shared.clients -= 1
        if not shared.clients:
            shared.spaces = {}


@broken_store("sizes.a_thousand_values_fit", "sizes.one_more_than_declared_is_refused")
class LessThanDeclared(LimitedBackend):
    """Fewer than a thousand values fit into a transaction, though more are declared."""

    def touched(self, transaction: Transaction, now: float) -> int:
        return super().touched(transaction, now) + self.limit - 900


@broken_store("sizes.any_number_of_values_is_written", alone=True)
class LimitUndeclared(LimitedBackend):
    """There is a limit that is not declared."""

    declared = DictBackend.declared


@broken_store("sizes.one_more_than_declared_is_refused", alone=True)
class MoreThanDeclared(LimitedBackend):
    """What goes beyond the declared limit is done all the same."""

    def touched(self, transaction: Transaction, now: float) -> int:
        return 0


@broken_store("sizes.one_more_than_declared_is_refused")
class TheFirstOfTooManyAreWritten(LimitedBackend):
    """Of a transaction that is too large, as much is written as fits."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.status is Status.TOO_LARGE:
            super().decide(Transaction(writes=transaction.writes[: self.limit]), now)
        return outcome


@broken_store("sizes.a_scope_beyond_the_limit_is_refused_or_whole", alone=True)
class LargeScopesAreCut(LimitedBackend):
    """Of a scope beyond the limit, as much is read and deleted as fits."""

    def touched_by(self, write: Write, now: float) -> int:
        return 1

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        entries = self.space_in(spaces, write.key)
        for relative in list(self.found(spaces, write.key, write.scope, now, "Delete"))[: self.limit]:
            del entries[write.key.path + relative]


@broken_store("sizes.a_scope_beyond_the_limit_is_refused_or_whole")
class LargeReadsAreCut(LimitedBackend):
    """Of a scope beyond the limit, as much is read as fits."""

    def touched(self, transaction: Transaction, now: float) -> int:
        return super().touched(transaction._replace(reads=()), now)

    def entries(self, read: Read, now: float) -> Entries:
        answer = super().entries(read, now)
        return answer._replace(values=dict(islice(answer.values.items(), self.limit)))


@broken_store("sizes.a_thousand_values_fit", alone=True)
class ManyEntriesAreTooLarge(DictBackend):
    """Equals of a thousand entries is too large."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        if any(isinstance(check, Equals) and len(check.entries) >= 1000 for check in transaction.checks):
            return Outcome(Status.TOO_LARGE)
        return super().decide(transaction, now)


@broken_store("sizes.what_has_expired_does_not_count", alone=True)
class ExpiredValuesCount(LimitedBackend):
    """Expired values in a scope count for the limit until they are freed."""

    def touched(self, transaction: Transaction, now: float) -> int:
        return super().touched(transaction, float("-inf"))


@broken_store("sizes.around_the_limit_a_mix_is_whole_or_refused", alone=True)
class HalfOfAMixIsApplied(LimitedBackend):
    """A transaction of single deletes beyond the limit is TOO_LARGE, and yet its first put stays."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        deletes = [write for write in transaction.writes if isinstance(write, Delete) and write.scope is Scope.NODE]
        outcome = super().decide(transaction, now)
        if outcome.status is Status.TOO_LARGE and len(deletes) > 100:
            rest = tuple(write for write in transaction.writes if write not in deletes)
            super().decide(Transaction(writes=rest[:1]), now)
        return outcome


@broken_store("sizes.one_more_than_declared_is_refused", alone=True)
class ValuesOfStartsWithCountTwice(LimitedBackend):
    """Each value in the scope of a StartsWith counts twice for the limit."""

    def touched(self, transaction: Transaction, now: float) -> int:
        checks = [check for check in transaction.checks if isinstance(check, StartsWith)]
        found = [2 * len(self.found(self.spaces, check.key, check.scope, now, "")) for check in checks]
        return max(super().touched(transaction, now), *found, 0)


class _LimitedFile(OnSqlite):
    """A file with a limit of 1,200 values in a transaction."""

    limit = 1200

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, atomic_entries=self.limit, documents=False)

    def execute(self, transaction: Transaction, /) -> Outcome:
        if any(isinstance(write, PutDocument) for write in transaction.writes):
            raise Unsupported("this store keeps no documents")
        if len([write for write in transaction.writes if isinstance(write, Put)]) > self.limit:
            return Outcome(Status.TOO_LARGE)
        return super().execute(transaction)


@broken_shared_store("sizes.around_the_limit_a_mix_is_whole_or_refused")
class ManyStatementsFail(_LimitedFile):
    """A transaction of more statements than the limit raises an error."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if len(transaction.writes) > self.limit and not all(isinstance(write, Put) for write in transaction.writes):
            raise StoreError("too many statements")
        return super().execute(transaction)


@broken_shared_store("capabilities.capabilities_are_stated")
class TasksWaitInTheirLoop(OnSqlite):
    """A store that processes share says that no call waits, so tasks wait for other writers in their event loop."""

    may_wait = False
