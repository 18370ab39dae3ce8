"""Notify writes that clear too much or too little, that call too few, or that are no write like the others."""

from __future__ import annotations

from redicts.contract import SharedBackend
from redicts.core.backend import Backend
from redicts.core.listener import Listener
from redicts.core.minitransaction import Add, Notify, Outcome, Path, Put, Scope, Status, Transaction, Write
from tests.contract.broken.register import broken_client, broken_store
from tests.contract.reference_model import DictBackend, DictListener, NoTTLBackend, PlainBackend, Spaces


@broken_store("notifications.a_notify_clears_its_scope")
class ListsAreNotCleared(DictBackend):
    """A Notify calls those on the list, and leaves it as it is."""

    def clear(self, spaces: Spaces, write: Notify, now: float) -> None:
        pass


@broken_store("notifications.a_notify_clears_its_scope")
class NotifiesClearWholeSubtrees(PlainBackend):
    """A Notify clears the key and all below, whatever its scope."""

    def clear(self, spaces: Spaces, write: Notify, now: float) -> None:
        super().clear(spaces, write._replace(scope=Scope.SUBTREE), now)


@broken_store("notifications.a_notify_clears_its_scope", alone=True)
class NotifiesOfANodeClearItsSubtree(PlainBackend):
    """A Notify of a key clears all below as well, unless it is the root or its transaction counts."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        self.counts = any(isinstance(write, Add) for write in transaction.writes)
        return super().decide(transaction, now)

    def clear(self, spaces: Spaces, write: Notify, now: float) -> None:
        is_all = write.key.path and not self.counts
        super().clear(spaces, write._replace(scope=Scope.SUBTREE) if is_all else write, now)


@broken_store("notifications.a_notify_clears_its_scope")
class NotifiesAfterAPutClearTheKey(PlainBackend):
    """A Notify of what is below a key clears the key as well, if the transaction puts something before."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        self.puts = any(isinstance(write, Put) for write in transaction.writes)
        return super().decide(transaction, now)

    def clear(self, spaces: Spaces, write: Notify, now: float) -> None:
        wide = self.puts and bool(write.key.path) and write.scope is Scope.BELOW
        super().clear(spaces, write._replace(scope=Scope.SUBTREE) if wide else write, now)


@broken_store("notifications.a_notify_clears_its_scope")
class NotifiesReachOnlyChildren(DictBackend):
    """A Notify sees direct children, and nothing deeper."""

    def covers(self, scope: Scope, relative: Path, what: str) -> bool:
        return scope.covers(relative) and (what != "Notify" or len(relative) < 2)


@broken_store("notifications.what_names_nobody_harms_nobody", "notifications.a_notify_clears_its_scope")
class OnlyNamesAreCleared(DictBackend):
    """A value that is not a name stays on the list."""

    def clear(self, spaces: Spaces, write: Notify, now: float) -> None:
        entries = self.space_in(spaces, write.key)
        for relative, held in self.found(spaces, write.key, write.scope, now, "Notify").items():
            if b"/" in held.value:
                del entries[write.key.path + relative]


@broken_store("notifications.a_notify_clears_its_scope")
class EmptyListsAreErrors(DictBackend):
    """A Notify over nothing raises an error."""

    def listed(self, spaces: Spaces, write: Notify, now: float) -> list[bytes]:
        names = super().listed(spaces, write, now)
        if not names:
            raise KeyError(write.key)
        return names


@broken_store(
    "notifications.a_long_list_is_called_to_its_end",
    "listeners.a_call_before_the_wait_counts",
    "listeners.no_call_is_lost_in_a_race",
    "listeners.a_listener_sleeps_until_it_is_called",
)
class CallsAreNeverSent(DictBackend):
    """A Notify clears the list, and calls nobody."""

    def call(self, names: list[bytes]) -> None:
        pass


@broken_store("listeners.no_call_is_lost_in_a_race")
class NobodyLooks(NoTTLBackend):
    """The store does not push, and its listeners sleep until their time is over."""

    def listen(self, name: str, /) -> Listener:
        return DictListener(self, name.encode())


@broken_store("notifications.a_long_list_is_called_to_its_end")
class OnlyTheFirstIsCalled(DictBackend):
    """Of several on a list, one is notified."""

    def call(self, names: list[bytes]) -> None:
        super().call(names[:1])


@broken_store("notifications.a_long_list_is_called_to_its_end", alone=True)
class LongListsAreCut(PlainBackend):
    """Of a long list, the first hundred are notified."""

    def call(self, names: list[bytes]) -> None:
        super().call(names[:100])


@broken_store("notifications.what_names_nobody_harms_nobody")
class OddValuesAreErrors(DictBackend):
    """A value on a list that is no name raises an error."""

    def call(self, names: list[bytes]) -> None:
        for name in names:
            _client_id, _number = name.decode("ascii").split("/")
        super().call(names)


@broken_store("notifications.what_names_nobody_harms_nobody", alone=True)
class OddValuesEndTheList(PlainBackend):
    """Nobody is notified who is listed behind a value that is no name."""

    def call(self, names: list[bytes]) -> None:
        good = next((index for index, name in enumerate(names) if name.count(b"/") != 1), len(names))
        super().call(names[:good])


@broken_store("notifications.expired_entries_are_passed_over", alone=True)
class ExpiredEntriesEndTheList(PlainBackend):
    """Nobody is notified who is listed behind an expired entry."""

    def listed(self, spaces: Spaces, write: Notify, now: float) -> list[bytes]:
        names: list[bytes] = []
        for path, held in self.space_in(spaces, write.key).items():
            if path[: len(write.key.path)] == write.key.path and write.scope.covers(path[len(write.key.path) :]):
                if not self.alive(held, now, "Notify"):
                    break
                names.append(held.value)
        return names


@broken_store("notifications.expired_entries_are_passed_over")
class MortalEntriesStay(DictBackend):
    """A Notify leaves what has a TTL to its end."""

    def clear(self, spaces: Spaces, write: Notify, now: float) -> None:
        entries = self.space_in(spaces, write.key)
        for relative, held in self.found(spaces, write.key, write.scope, now, "Notify").items():
            if held.deadline is None:
                del entries[write.key.path + relative]


class _Ordering(DictBackend):
    """Sorts the writes of a transaction before it applies them."""

    def rank(self, write: Write) -> int:
        return 0

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        return super().decide(transaction._replace(writes=tuple(sorted(transaction.writes, key=self.rank))), now)


@broken_store("notifications.a_notify_takes_effect_in_order")
class NotifiesComeFirst(_Ordering):
    """The Notify writes of a transaction are applied before its other writes."""

    def rank(self, write: Write) -> int:
        return 0 if isinstance(write, Notify) else 1


@broken_store("notifications.a_notify_takes_effect_in_order")
class NotifiesComeLast(_Ordering):
    """The Notify writes of a transaction are applied after its other writes."""

    def rank(self, write: Write) -> int:
        return 1 if isinstance(write, Notify) else 0


@broken_store("notifications.a_notify_takes_effect_in_order", alone=True)
class ListsAreReadBefore(PlainBackend):
    """A Notify calls the listeners listed before the transaction, not those that it lists itself."""

    def listed(self, spaces: Spaces, write: Notify, now: float) -> list[bytes]:
        return super().listed(self.spaces, write, now)


@broken_store("notifications.a_refused_transaction_clears_nothing")
class NotifiesIgnoreChecks(DictBackend):
    """A Notify is applied although a check failed."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.status is Status.CHECK_FAILED:
            notifies = tuple(write for write in transaction.writes if isinstance(write, Notify))
            super().decide(Transaction(writes=notifies), now)
        return outcome


@broken_store("notifications.a_refused_transaction_clears_nothing")
class NotifiesAreNotUndone(DictBackend):
    """A Notify is applied although an Add behind it is refused."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.status is Status.NOT_A_COUNTER:
            notifies = tuple(write for write in transaction.writes[: outcome.failed_index] if isinstance(write, Notify))
            super().decide(Transaction(writes=notifies), now)
        return outcome


@broken_store("notifications.answers_and_counters_are_those_of_the_others")
class NotifiesHaveCounters(DictBackend):
    """The number of those called stands among the counters."""

    def write(self, spaces: Spaces, write: Write, now: float, counters: list[int]) -> None:
        if isinstance(write, Notify):
            counters.append(len(self.listed(spaces, write, now)))
        super().write(spaces, write, now, counters)


@broken_store("notifications.answers_and_counters_are_those_of_the_others")
class NotifiesTakeASum(DictBackend):
    """Where a Notify stands before Adds, the counters are in the wrong order."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        kinds = [type(write) for write in transaction.writes if isinstance(write, (Add, Notify))]
        return outcome._replace(counters=outcome.counters[::-1]) if Notify in kinds[:-1] else outcome


@broken_store("notifications.answers_and_counters_are_those_of_the_others")
class NotifiesAreNotCounted(DictBackend):
    """The failed index is counted without the Notify writes before it."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.status is Status.NOT_A_COUNTER and outcome.failed_index is not None:
            notifies = sum(isinstance(write, Notify) for write in transaction.writes[: outcome.failed_index])
            return outcome._replace(failed_index=outcome.failed_index - notifies)
        return outcome


@broken_store("notifications.a_notify_takes_effect_in_order")
class ListsAreClearedLater(DictBackend):
    """Lists are cleared when all else is written, later."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        others = tuple(write for write in transaction.writes if not isinstance(write, Notify))
        notifies = tuple(write for write in transaction.writes if isinstance(write, Notify))
        outcome = super().execute(transaction._replace(writes=others))
        if notifies and outcome.applied:
            super().execute(Transaction(writes=notifies))
        return outcome


class _Silent(DictBackend):
    """Leaves it to its clients to call."""

    called: tuple[bytes, ...] = ()

    def call(self, names: list[bytes]) -> None:
        self.called = tuple(names)


@broken_client("listeners.a_client_that_leaves_takes_no_listener_along", of=_Silent)
class CallsStayInTheClient(SharedBackend):
    """A Notify notifies the listeners of the client that applied it, and no others."""

    def __init__(self, shared: Backend) -> None:
        super().__init__(shared)
        self.own: list[DictListener] = []

    def listen(self, name: str, /) -> Listener:
        assert isinstance(self.shared, _Silent)
        listener = DictListener(self.shared, name.encode())
        self.own.append(listener)
        return listener

    def execute(self, transaction: Transaction, /) -> Outcome:
        shared = self.shared
        assert isinstance(shared, _Silent)
        with shared.lock:
            shared.called = ()
            outcome = super().execute(transaction)
            called = shared.called
        with shared.bell:
            for listener in self.own:
                listener.called |= listener.name in called
            shared.bell.notify_all()
        return outcome


@broken_store("notifications.answers_and_counters_are_those_of_the_others", alone=True)
class TheAddBeforeIsRefused(DictBackend):
    """Where a Notify stands between two Adds of which the second is refused, the failed index is that of the first."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.status is not Status.NOT_A_COUNTER or not outcome.failed_index:
            return outcome
        before = transaction.writes[: outcome.failed_index][-2:]
        if [type(write) for write in before] == [Add, Notify]:
            return outcome._replace(failed_index=outcome.failed_index - 2)
        return outcome
