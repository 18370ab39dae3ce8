"""A network that loses replies and delays requests, between a correct store and clients that cope with it.

The store keeps the outcome of each numbered request, and answers a repeated one with it. So a client that hears nothing
just sends its request again.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from typing import Final

from redicts.core.backend import Backend, Capabilities
from redicts.core.listener import Listener
from redicts.core.minitransaction import Outcome, Path, Transaction
from redicts.errors import StoreError, StoreTimeout, Unreachable

_RESEND_AFTER: Final = 0.01
"""Seconds that a client takes to find out that its connection broke, which is when others may get a word in."""


_SILENCE: Final = 0.15
"""Seconds without an answer after which it sends its request again."""


class ReplyLost(Exception):
    """The connection broke, or nothing was heard: then the client notices only after some time."""

    def __init__(self, seconds: float = _RESEND_AFTER) -> None:
        super().__init__()
        self.seconds: Final = seconds


class Refused(ReplyLost):
    """There is no connection, and none can be made."""


class Overtaken(Exception):
    """A later request of the same session was executed before."""


Number = tuple[int, int]
"""The number of a session, and that of a request in it. A session is a thread of a client, so they come in order."""


class Server:
    """A store that executes a numbered request once, and never after a later one of its session."""

    def __init__(self, store: Backend) -> None:
        self.store: Final = store
        self.outcomes: Final[dict[Number, Outcome]] = {}
        self.latest: Final[dict[int, int]] = {}
        self.lock: Final = threading.Lock()
        self.numbers: Final = itertools.count(1)
        """Numbers for sessions, and for requests."""
        self.prepared = False
        """Whether the statement is there that executes a transaction."""

    def handle(self, number: Number, transaction: Transaction) -> Outcome:
        with self.lock:
            if number not in self.outcomes:
                session, count = number
                if count < self.latest.get(session, 0):
                    raise Overtaken
                self.latest[session] = count
                self.outcomes[number] = self.store.execute(transaction)
            return self.outcomes[number]

    def answered(self, number: Number) -> None:
        """Note that a client has heard an answer. No reason to forget it: the request may still arrive once more."""

    def forget(self) -> None:
        """Forget what clients have prepared."""
        self.prepared = False


class Network:
    """The way to a server, on which replies can be lost, one request can be held up, and connections break."""

    def __init__(self, server: Server) -> None:
        self.server: Final = server
        self.numbers: Final = server.numbers
        self.loses_reply = False
        self.loses_every = False
        self.holds_request = False
        self.held: tuple[Number, Transaction] | None = None
        self.has_server = True
        self.breaks = 0
        """How often all connections broke."""
        self.refuses = self.is_cut = False
        """Whether new connections are refused, and whether there is none."""
        self.mutes = False
        self.silences = 0
        """How often all connections fell silent."""

    def without_server(self) -> Network:
        """Return a network that leads nowhere."""
        network = Network(self.server)
        network.has_server = False
        return network

    def send(self, number: Number, transaction: Transaction) -> Outcome:
        if self.is_cut:
            raise Refused
        if self.mutes:
            raise ReplyLost(_SILENCE)
        if self.holds_request:
            self.holds_request = False
            self.held = number, transaction
            raise ReplyLost(_SILENCE)
        outcome = self.server.handle(number, transaction)
        if self.loses_reply or self.loses_every:
            self.loses_reply = False
            self.is_cut = self.refuses
            raise ReplyLost
        self.server.answered(number)
        return outcome

    def deliver(self) -> None:
        if self.held is not None:
            with contextlib.suppress(Overtaken):
                self.server.handle(*self.held)
            self.held = None

    def refuse(self, every: bool) -> None:
        """Refuse new connections, or accept them again."""
        self.refuses, self.is_cut = every, False

    def mute(self, every: bool) -> None:
        """Let all connections, and those to come until the end of it, carry nothing."""
        self.mutes = every
        self.silences += every

    def break_all(self) -> None:
        """Break all connections."""
        self.breaks += 1


class NoNetwork(Network):
    """A way on which nothing can be lost, and on which no request needs to be remembered."""

    def send(self, number: Number, transaction: Transaction) -> Outcome:
        return self.server.store.execute(transaction)


class NetworkClient(Backend):
    """A client that sends a request again, with its number, until it hears an answer or its time is over."""

    def __init__(self, network: Network) -> None:
        self.network: Final = network
        self.sessions: Final = threading.local()

    @property
    def capabilities(self) -> Capabilities:
        return self.network.server.store.capabilities

    def number(self) -> Number:
        """Return the number of the next request of this thread."""
        if not hasattr(self.sessions, "name"):
            self.sessions.name = next(self.network.numbers)
        return self.sessions.name, next(self.network.numbers)

    def execute(self, transaction: Transaction, /) -> Outcome:
        return self.execute_until(transaction, math.inf)

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        if not self.network.has_server:
            raise Unreachable("no server listens there; check the address")
        number, sent = self.number(), False
        while time.monotonic() < deadline:
            try:
                sent = True
                return self.send(number, transaction)
            except ReplyLost as lost:
                time.sleep(max(0.0, min(lost.seconds, deadline - time.monotonic())))
        raise self.given_up(bool(transaction.writes) and sent)

    def send(self, number: Number, transaction: Transaction) -> Outcome:
        """Send a request once."""
        self.network.server.prepared = True
        return self.network.send(number, transaction)

    def given_up(self, maybe_applied: bool) -> StoreError:
        """Return the error of a request that nobody answered in time."""
        return StoreTimeout("the server did not answer in time; check the network", maybe_applied=maybe_applied)

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        return self.network.server.store.listen_to_changes(name, path)

    def listen(self, name: str, /) -> Listener:
        return self.network.server.store.listen(name)
