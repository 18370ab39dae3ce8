"""A network that loses replies and delays requests, between a correct store and clients that cope with it.

The store keeps the outcome of each numbered request, and answers a repeated one with it. So a client that hears nothing
just sends its request again.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import Final

from redicts.core.backend import Backend, Capabilities
from redicts.core.listener import Listener
from redicts.core.minitransaction import Outcome, Transaction

_RESEND_AFTER: Final = 0.01
"""Seconds that a client takes to find out that its connection broke, which is when others may get a word in."""


class ReplyLost(Exception):
    """The connection broke, or nothing was heard for too long."""


class Server:
    """A store that executes a numbered request once."""

    def __init__(self, store: Backend) -> None:
        self.store: Final = store
        self.outcomes: Final[dict[int, Outcome]] = {}
        self.lock: Final = threading.Lock()

    def handle(self, number: int, transaction: Transaction) -> Outcome:
        with self.lock:
            if number not in self.outcomes:
                self.outcomes[number] = self.store.execute(transaction)
            return self.outcomes[number]

    def answered(self, number: int) -> None:
        """Note that a client has heard an answer. No reason to forget it: the request may still arrive once more."""


class Network:
    """The way to a server, on which one reply can be lost or one request be held up."""

    def __init__(self, server: Server) -> None:
        self.server: Final = server
        self.numbers: Final = itertools.count()
        self.loses_reply = False
        self.holds_request = False
        self.held: tuple[int, Transaction] | None = None

    def send(self, number: int, transaction: Transaction) -> Outcome:
        if self.holds_request:
            self.holds_request = False
            self.held = number, transaction
            raise ReplyLost
        outcome = self.server.handle(number, transaction)
        if self.loses_reply:
            self.loses_reply = False
            raise ReplyLost
        self.server.answered(number)
        return outcome

    def deliver(self) -> None:
        if self.held is not None:
            self.server.handle(*self.held)
            self.held = None


class NetworkClient(Backend):
    """A client that sends a request again, with its number, until it hears an answer."""

    def __init__(self, network: Network) -> None:
        self.network: Final = network

    @property
    def capabilities(self) -> Capabilities:
        return self.network.server.store.capabilities

    def execute(self, transaction: Transaction, /) -> Outcome:
        number = next(self.network.numbers)
        while True:
            try:
                return self.network.send(number, transaction)
            except ReplyLost:
                time.sleep(_RESEND_AFTER)

    def listen(self, name: str, /) -> Listener:
        return self.network.server.store.listen(name)
