"""Clients that do not notice that their server restarted, and servers that carry out what is over."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any, cast

from redicts.backends.fakeredis import FakeRedisBackend
from redicts.backends.redis.connections import Connections
from redicts.backends.redis.functions import is_unknown
from redicts.backends.redis.options import RedisOptions
from redicts.core.backend import Backend
from redicts.core.listener import Listener
from redicts.core.minitransaction import Delete, Notify, Outcome, Read, StartsWith, Transaction
from redicts.errors import StoreBusy, StoreError, Unreachable
from tests.contract.broken.register import (
    broken_fakeredis,
    broken_network_client,
    broken_server,
    broken_shared_store,
    broken_store,
)
from tests.contract.broken.shared import OnSqlite, in_memory
from tests.contract.networks import Network, NetworkClient, Number, Server
from tests.contract.reference_model import DictBackend, DictListener, PlainBackend

# Connections that broke.


@broken_network_client("servers.connections_that_broke_are_replaced", of=PlainBackend, alone=True)
class BrokenConnectionsAreErrors(NetworkClient):
    """A call that finds its connection broken raises an error, and only the next one connects again."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.breaks = network.breaks

    def send(self, number: Number, transaction: Transaction) -> Outcome:
        if self.breaks != self.network.breaks:
            self.breaks = self.network.breaks
            raise Unreachable("the connection broke")
        return super().send(number, transaction)


@broken_network_client("servers.connections_that_broke_are_replaced", of=PlainBackend)
class PlacesOfBrokenConnectionsStayTaken(NetworkClient):
    """A client may have twelve connections, and those that broke count for ever."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.counted: set[tuple[int, int]] = set()

    def send(self, number: Number, transaction: Transaction) -> Outcome:
        self.counted.add((threading.get_ident(), self.network.breaks))
        if len(self.counted) > 12:
            raise StoreBusy("no connection is free")
        return super().send(number, transaction)


@broken_network_client("servers.connections_that_broke_are_replaced", of=in_memory)
class BrokenConnectionsAreTriedInTurn(NetworkClient):
    """Of ten idle connections that broke, three are tried, and then the call gives up."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.idle = [network.breaks] * 10

    def send(self, number: Number, transaction: Transaction) -> Outcome:
        for _ in range(3):
            connection = self.idle.pop() if self.idle else self.network.breaks
            if connection == self.network.breaks:
                self.idle.append(connection)
                return super().send(number, transaction)
        raise Unreachable("three attempts failed")


class _Cut(DictListener):
    """Hears what is sent over the connection with which it was made."""

    def __init__(self, network: Network, store: DictBackend, name: bytes) -> None:
        super().__init__(store, name)
        self.network = network
        self.breaks = network.breaks

    def wait(self, seconds: float, /) -> bool:
        if self.breaks != self.network.breaks:
            time.sleep(min(seconds, 3))
            return False
        return super().wait(seconds)


@broken_network_client("servers.listeners_outlast_their_connection", of=PlainBackend, alone=True)
class ListenersEndWithTheirConnection(NetworkClient):
    """A listener whose connection broke waits on it."""

    def listen(self, name: str, /) -> Listener:
        store = self.network.server.store
        assert isinstance(store, DictBackend)
        return _Cut(self.network, store, name.encode())


@broken_network_client("servers.listeners_outlast_their_connection", of=in_memory)
class OnlyTheFirstListensAgain(NetworkClient):
    """When the connection of its listeners broke, a client listens again under the first fifty names only."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.count = 0

    def listen(self, name: str, /) -> Listener:
        self.count += 1
        listener = super().listen(name)
        return listener if self.count <= 50 else _Deafened(self.network, listener)


class _Deafened(Listener):
    def __init__(self, network: Network, listener: Listener) -> None:
        self.network = network
        self.listener = listener
        self.breaks = network.breaks

    def wait(self, seconds: float, /) -> bool:
        if self.breaks != self.network.breaks:
            time.sleep(min(seconds, 3))
            return False
        return self.listener.wait(seconds)

    def close(self) -> None:
        self.listener.close()


# Connections that fell silent.


@broken_network_client("servers.silence_is_noticed", of=PlainBackend, alone=True)
class SilentConnectionsStay(NetworkClient):
    """A connection that fell silent is used for every attempt of a call, until that gives up."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.silences = network.silences

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        if self.silences == self.network.silences:
            return super().execute_until(transaction, deadline)
        if not self.network.mutes:
            self.silences = self.network.silences
        time.sleep(max(0.0, min(0.05, deadline - time.monotonic())))
        raise self.given_up(bool(transaction.writes))


@broken_network_client("servers.silence_is_noticed", of=in_memory)
class SilenceOutlastsDeadlines(NetworkClient):
    """A call over a connection that fell silent waits for a reply for half a second, whatever its deadline."""

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        if self.network.mutes:
            time.sleep(0.5)
        return super().execute_until(transaction, deadline)


# A server that forgot.


class _Preparing(NetworkClient):
    """Prepares a statement on the server before its first call."""

    has_prepared = False

    def send(self, number: Number, transaction: Transaction) -> Outcome:
        if not self.has_prepared:
            self.has_prepared = self.network.server.prepared = True
        if not self.network.server.prepared and self.fails(transaction):
            raise StoreError("the server does not know this statement")
        return self.network.send(number, transaction)

    def fails(self, transaction: Transaction) -> bool:
        return True


@broken_network_client("servers.a_server_that_forgot_is_told_again", of=PlainBackend, alone=True)
class StatementsArePreparedOnce(_Preparing):
    """A statement is prepared once, and the server must not forget it."""


@broken_network_client("servers.a_server_that_forgot_is_told_again", of=in_memory)
class StatementsWithoutWritesArePreparedOnce(_Preparing):
    """Only the statement that writes is prepared again when the server forgot it."""

    def fails(self, transaction: Transaction) -> bool:
        return not transaction.writes


@broken_network_client("servers.a_server_that_forgot_is_told_again", of=PlainBackend, alone=True)
class PrefixesArePreparedOnce(_Preparing):
    """Only the statements of StartsWith are not prepared again when the server forgot them."""

    def fails(self, transaction: Transaction) -> bool:
        return any(isinstance(check, StartsWith) for check in transaction.checks)


class _LoadedOnce(Connections):
    """Sends the source of the functions once, and no more if the server does not know it."""

    has_loaded = False

    def _call_again(self, command: bytes, writes: bool, deadline: float | None, count: int, failed: Any) -> Any:
        if self.has_loaded and is_unknown(failed.error):
            raise self._errors.mapped(failed.error) from failed.error
        self.has_loaded = True
        return super()._call_again(command, writes, deadline, count, failed)


@broken_fakeredis("servers.a_server_that_forgot_is_told_again")
class ScriptsAreLoadedOnce(FakeRedisBackend):
    """The functions are sent once, and no more when the server has forgotten them."""

    def __init__(self, settings: RedisOptions, database: int) -> None:
        super().__init__(settings, database)
        opening = cast("Any", self._connections)
        opening._open = partial(_LoadedOnce, *opening._open.args)


# Requests that are late.


@broken_server("servers.a_request_in_doubt_ends_with_the_next", of=PlainBackend, alone=True)
class OvertakenRequestsAreExecuted(Server):
    """A request that arrives late is executed if it was not executed before, whatever its sender did since."""

    def handle(self, number: Number, transaction: Transaction) -> Outcome:
        self.latest.clear()
        return super().handle(number, transaction)


@broken_server("servers.a_request_in_doubt_ends_with_the_next", of=in_memory)
class OneLaterRequestIsNotEnough(Server):
    """A request that arrives late is refused only if two later ones of its sender were executed."""

    def __init__(self, store: Backend) -> None:
        super().__init__(store)
        self.before: dict[int, int] = {}

    def handle(self, number: Number, transaction: Transaction) -> Outcome:
        session, _ = number
        latest = self.latest.get(session, 0)
        if number[1] > latest:
            self.before[session] = latest
        self.latest[session] = self.before.get(session, 0)
        try:
            return super().handle(number, transaction)
        finally:
            self.latest[session] = max(latest, number[1])


@broken_server("replies.a_late_request_is_not_applied", of=PlainBackend)
class FewOutcomesAreRemembered(Server):
    """Only the last hundred outcomes are remembered, and a request is executed that is not among them."""

    def handle(self, number: Number, transaction: Transaction) -> Outcome:
        self.latest.clear()
        for known in list(self.outcomes)[:-100]:
            del self.outcomes[known]
        return super().handle(number, transaction)


# Notifications to many.


@broken_store("notifications.a_long_list_is_called_to_its_end")
class FewListenersAreCalled(PlainBackend):
    """Of the listeners of a process, the first fifty are called."""

    def call(self, names: list[bytes]) -> None:
        everybody, self.listeners[:] = list(self.listeners), self.listeners[:50]
        super().call(names)
        self.listeners[:] = everybody


@broken_shared_store("processes.processes_notify_each_other")
class LongListsStayInTheProcess(OnSqlite):
    """If a Notify finds more than a hundred values, no other process hears of it."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        writes = transaction.writes
        for index, write in enumerate(writes):
            if isinstance(write, Notify):
                (listed,) = super().execute(Transaction(reads=(Read(write.key, write.scope),))).answers
                if len(listed.values) > 100:  # type: ignore[union-attr]
                    writes = (*writes[:index], Delete(write.key, write.scope), *writes[index + 1 :])
        return super().execute(transaction._replace(writes=writes))


# Connections that others use, and sessions that are in doubt.


@broken_network_client("servers.silence_is_noticed", of=in_memory)
class ConnectionsAreAwaitedForEver(NetworkClient):
    """A client has six connections, and a call waits for one that is free, whatever its deadline."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.free = threading.Semaphore(6)

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        with self.free:
            return super().execute_until(transaction, deadline)


@broken_network_client("servers.a_request_in_doubt_ends_with_the_next", of=in_memory)
class SessionsInDoubtAreFree(NetworkClient):
    """The session of a request that was given up is used by whichever thread writes next."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.idle: list[int] = []

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        self.sessions.name = name = self.idle.pop() if self.idle else next(self.network.numbers)
        try:
            return super().execute_until(transaction, deadline)
        finally:
            self.idle.append(name)
