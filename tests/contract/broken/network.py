"""Networks on which a request counts twice, or is given up."""

from __future__ import annotations

from redicts.core.minitransaction import Add, Entries, Outcome, Transaction
from redicts.errors import Unreachable
from tests.contract.broken.register import broken_network_client, broken_server
from tests.contract.networks import NetworkClient, Number, ReplyLost, Server
from tests.contract.reference_model import DictBackend, PlainBackend


@broken_server(
    "replies.a_lost_add_counts_once",
    "replies.the_first_outcome_is_returned",
    "replies.a_lost_put_overwrites_nobody",
    "replies.a_late_request_is_not_applied",
    of=DictBackend,
)
class RequestsAreNotRemembered(Server):
    """A request that comes twice is executed twice."""

    def handle(self, number: Number, transaction: Transaction) -> Outcome:
        return self.store.execute(transaction)


@broken_server("replies.a_lost_put_overwrites_nobody", of=PlainBackend, alone=True)
class OnlyCountersAreRemembered(Server):
    """What looks as if it could be repeated without harm is executed twice."""

    def handle(self, number: Number, transaction: Transaction) -> Outcome:
        known = number in self.outcomes
        outcome = super().handle(number, transaction)
        if not known or transaction.checks or any(isinstance(write, Add) for write in transaction.writes):
            return outcome
        return self.store.execute(transaction)


@broken_server("replies.the_first_outcome_is_returned", of=PlainBackend, alone=True)
class OnlyStatusesAreRemembered(Server):
    """A request that comes twice is executed once, but its reads are answered again."""

    def handle(self, number: Number, transaction: Transaction) -> Outcome:
        known = number in self.outcomes
        outcome = super().handle(number, transaction)
        if known:
            outcome = outcome._replace(answers=self.store.execute(Transaction(reads=transaction.reads)).answers)
        return outcome


@broken_server("replies.the_first_outcome_is_returned", of=PlainBackend)
class TTLsAreNotRemembered(Server):
    """A request that comes twice is executed once, and its answers are told without TTLs the second time."""

    def handle(self, number: Number, transaction: Transaction) -> Outcome:
        known = number in self.outcomes
        outcome = super().handle(number, transaction)
        if not known:
            return outcome
        answers = [each._replace(ttls={}) if isinstance(each, Entries) else each for each in outcome.answers]
        return outcome._replace(answers=tuple(answers))


@broken_server("replies.a_late_request_is_not_applied", of=PlainBackend, alone=True)
class RequestsAreForgottenWhenAnswered(Server):
    """The outcome of a request is forgotten when its client has heard it."""

    def answered(self, number: Number) -> None:
        del self.outcomes[number]


@broken_server("replies.a_lost_refusal_is_returned", of=PlainBackend, alone=True)
class RefusalsAreTakenForDone(Server):
    """A request that comes twice and was refused is told to be applied."""

    def handle(self, number: Number, transaction: Transaction) -> Outcome:
        known = number in self.outcomes
        outcome = super().handle(number, transaction)
        if known and not outcome.applied:
            return self.store.execute(Transaction(reads=transaction.reads))
        return outcome


@broken_network_client("replies.a_lost_add_counts_once", "replies.a_lost_refusal_is_returned", of=DictBackend)
class LostRepliesAreErrors(NetworkClient):
    """A client that hears no reply gives up."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        try:
            return self.network.send(self.number(), transaction)
        except ReplyLost:
            raise Unreachable("the connection broke", maybe_applied=True) from None


@broken_server("replies.a_lost_add_counts_once", of=PlainBackend, alone=True)
class AddsAloneAreNotRemembered(Server):
    """A request of nothing but Adds that comes twice is executed twice."""

    def handle(self, number: Number, transaction: Transaction) -> Outcome:
        if transaction.checks or transaction.reads or not all(isinstance(write, Add) for write in transaction.writes):
            return super().handle(number, transaction)
        return self.store.execute(transaction)
