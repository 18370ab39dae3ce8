"""Stores that tell of changes too early, too seldom, or those of another database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from redicts.core.backend import Backend
from redicts.core.listener import Listener
from redicts.core.minitransaction import (
    VALUES,
    Delete,
    Expire,
    Notify,
    Outcome,
    Path,
    PutDocument,
    Scope,
    Transaction,
    Write,
)
from redicts.core.watchers import Watchers, changed_paths
from tests.contract.broken.databases import _Numbered
from tests.contract.broken.register import broken_network_client, broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.networks import Network, NetworkClient
from tests.contract.reference_model import ChangeListener, DictBackend, PlainBackend


@broken_store("changes.a_notification_follows_the_change", alone=True)
class ChangesAreToldBeforeTheyAreThere(DictBackend):
    """A write notifies, and is applied a moment later."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if any(write.key.space == VALUES for write in transaction.writes):
            super().tell(transaction.writes)
            time.sleep(0.005)
        return super().execute(transaction)

    def tell(self, writes: tuple[Write, ...]) -> None:
        pass


@broken_store("changes.writes_above_and_below_are_told")
class OnlyTheExactPathIsTold(PlainBackend):
    """A write notifies those who listen at exactly its path."""

    def concerns(self, write: Write, path: Path) -> bool:
        return super().concerns(write, path) and write.key.path == path


@broken_store("changes.writes_above_and_below_are_told")
class WritesAboveAreNotTold(PlainBackend):
    """A write above a path does not notify those who listen there."""

    def concerns(self, write: Write, path: Path) -> bool:
        return super().concerns(write, path) and len(write.key.path) >= len(path)


@broken_store("changes.writes_above_and_below_are_told")
class WritesBelowAreNotTold(PlainBackend):
    """A write below a path does not notify those who listen there."""

    def concerns(self, write: Write, path: Path) -> bool:
        return super().concerns(write, path) and len(write.key.path) <= len(path)


@broken_store("changes.writes_above_and_below_are_told", alone=True)
class RootsAreNotTold(PlainBackend):
    """Those who listen at the root are not notified."""

    def concerns(self, write: Write, path: Path) -> bool:
        return bool(path) and super().concerns(write, path)


@broken_store("changes.writes_above_and_below_are_told", alone=True)
class RootsAreToldWithOthers(DictBackend):
    """Those who listen at the root are notified while others listen elsewhere."""

    def watchers_told(self) -> Iterable[ChangeListener]:
        return self.watchers if any(watcher.path for watcher in self.watchers) else []


class _Silent(DictBackend):
    """Does not tell of some writes."""

    def is_silent(self, write: Write) -> bool:
        raise NotImplementedError

    def concerns(self, write: Write, path: Path) -> bool:
        return not self.is_silent(write) and super().concerns(write, path)


@broken_store("changes.each_kind_of_write_is_told", alone=True)
class ExpiryIsNotTold(_Silent):
    """An Expire notifies nobody."""

    def is_silent(self, write: Write) -> bool:
        return isinstance(write, Expire)


@broken_store("changes.each_kind_of_write_is_told")
class ClearsAreNotTold(_Silent):
    """A Delete of a whole subtree notifies nobody."""

    def is_silent(self, write: Write) -> bool:
        return isinstance(write, (Delete, Notify)) and write.scope is Scope.SUBTREE


@broken_store("changes.each_kind_of_write_is_told")
class DocumentsAreNotTold(_Silent):
    """A document notifies nobody."""

    def is_silent(self, write: Write) -> bool:
        return isinstance(write, PutDocument)


@broken_store("changes.each_path_of_a_transaction_is_told", alone=True)
class OnlyTheLastWriteIsTold(PlainBackend):
    """Of the writes of a transaction, the last one notifies."""

    def tell(self, writes: tuple[Write, ...]) -> None:
        super().tell(writes[-1:])


@broken_store("changes.each_path_of_a_transaction_is_told")
class OneSectionIsTold(PlainBackend):
    """Of the sections that a transaction writes, the first one is told."""

    def tell(self, writes: tuple[Write, ...]) -> None:
        super().tell(tuple([write for write in writes if write.key.path[:1] == writes[0].key.path[:1]]))


class _NeverLive(ChangeListener):
    is_live = False


@broken_store("changes.a_notification_follows_the_change", alone=True)
class ListenersAreNeverLive(PlainBackend):
    """A listener to changes is notified, and says that no notifications arrive."""

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        return _NeverLive(self, name.encode(), path)


class _OverANetwork(ChangeListener):
    """Knows how often connections broke before it listened."""

    def __init__(self, network: Network, store: DictBackend, name: bytes, path: Path) -> None:
        super().__init__(store, name, path)
        self.network = network
        self.breaks = network.breaks


class _Cut(_OverANetwork):
    """Hears nothing after its connection broke."""

    def wait(self, seconds: float, /) -> bool:
        if self.breaks != self.network.breaks:
            time.sleep(max(0.0, seconds))
            return False
        return super().wait(seconds)


@broken_network_client("changes.no_change_is_lost_with_a_connection", of=PlainBackend, alone=True)
class WatchersEndWithTheirConnection(NetworkClient):
    """A listener to changes whose connection broke waits on it."""

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        store = self.network.server.store
        assert isinstance(store, DictBackend)
        return _Cut(self.network, store, name.encode(), path)


class _Deafened(_OverANetwork):
    """Connects again without a look at what it missed."""

    def wait(self, seconds: float, /) -> bool:
        if self.breaks != self.network.breaks:
            self.breaks, self.called = self.network.breaks, False
        return super().wait(seconds)


@broken_network_client("changes.no_change_is_lost_with_a_connection", of=PlainBackend)
class WhatWasMissedIsLost(NetworkClient):
    """A listener to changes whose connection broke is not notified of what was written meanwhile."""

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        store = self.network.server.store
        assert isinstance(store, DictBackend)
        return _Deafened(self.network, store, name.encode(), path)


class _Doubtful(ChangeListener):
    """Does not see that it is connected again."""

    def __init__(self, network: Network, store: DictBackend, name: bytes, path: Path) -> None:
        super().__init__(store, name, path)
        self.network = network
        self.breaks, self.seen = network.breaks, network.breaks

    @property
    def is_live(self) -> bool:
        return self.breaks == self.network.breaks

    def wait(self, seconds: float, /) -> bool:
        if self.seen != self.network.breaks:
            self.seen = self.network.breaks
            return True
        return super().wait(seconds)


@broken_network_client("changes.no_change_is_lost_with_a_connection", of=PlainBackend)
class ListenersAreNotLiveAgain(NetworkClient):
    """A listener to changes whose connection broke says for ever that no notifications arrive."""

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        store = self.network.server.store
        assert isinstance(store, DictBackend)
        return _Doubtful(self.network, store, name.encode(), path)


class _Event(Listener):
    """A listener that only its own process notifies."""

    def __init__(self) -> None:
        self.event: Final = threading.Event()

    def notify(self) -> None:
        self.event.set()

    def wait(self, seconds: float, /) -> bool:
        notified = self.event.wait(min(max(0.0, seconds), threading.TIMEOUT_MAX))
        self.event.clear()
        return notified


_watchers: Final[dict[str, Watchers]] = {}
"""By path of the file, those who listen in this process."""


@broken_shared_store("changes.processes_tell_each_other", alone=True)
class ChangesStayInTheProcess(OnSqlite):
    """A write notifies the listeners to changes of the process that made it, and no others."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.watchers: Final = _watchers.setdefault(path, Watchers())

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        listener = _Event()
        self.watchers.add(listener, path)
        return listener

    def execute(self, transaction: Transaction, /) -> Outcome:
        try:
            return super().execute(transaction)
        finally:
            self.watchers.notify(changed_paths(transaction.writes))


@broken_store("changes.each_database_tells_its_own", alone=True)
class TheFirstDatabaseIsTold(_Numbered):
    """A write in any database notifies those who listen in the first one."""

    def __init__(self, clock: Callable[[], float], number: int = 0, first: _Numbered | None = None) -> None:
        super().__init__(clock, number, first)
        self.first: Backend = first or self

    def watchers_told(self) -> Iterable[ChangeListener]:
        assert isinstance(self.first, DictBackend)
        return self.first.watchers


@broken_store("changes.each_path_of_a_transaction_is_told", alone=True)
class TwentyListenersAreTold(DictBackend):
    """Of those who listen to changes, the first twenty are told."""

    def watchers_told(self) -> Iterable[ChangeListener]:
        return self.watchers[:20]


@broken_store("changes.each_path_of_a_transaction_is_told", alone=True)
class OneOfTwoDeletesIsTold(DictBackend):
    """Of two deletes that are all of a transaction, the first one is told."""

    def tell(self, writes: tuple[Write, ...]) -> None:
        all_delete = all(isinstance(write, Delete) for write in writes)
        super().tell(writes[:1] if len(writes) == 2 and all_delete else writes)


@broken_store("changes.each_path_of_a_transaction_is_told", alone=True)
class BetweenTwoPutsNothingIsTold(DictBackend):
    """If a transaction begins and ends with a put of the same key, only this is told."""

    def tell(self, writes: tuple[Write, ...]) -> None:
        super().tell(writes[:1] if writes and writes[0].key == writes[-1].key else writes)


class _Untold(Listener):
    def wait(self, seconds: float, /) -> bool:
        time.sleep(max(0.0, min(seconds, 0.01)))
        return False


@broken_shared_store("changes.each_path_of_a_transaction_is_told", alone=True)
class SixtyFourListenersAreTold(OnSqlite):
    """A client tells sixty-four listeners of changes, and no more."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.told: set[str] = set()

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        self.told.add(name)
        return self.store.listen_to_changes(name, path) if len(self.told) <= 64 else _Untold()


class _AlwaysLive(_OverANetwork):
    """Hears nothing while its connection is broken, and looks all the time."""

    def wait(self, seconds: float, /) -> bool:
        if self.breaks != self.network.breaks:
            if not self.network.mutes:
                self.breaks = self.network.breaks
            return True
        return super().wait(seconds)


@broken_network_client("changes.a_listener_knows_whether_it_is_live", of=PlainBackend, alone=True)
class BrokenListenersAreLive(NetworkClient):
    """A listener to changes whose connection is broken says that it is live."""

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        store = self.network.server.store
        assert isinstance(store, DictBackend)
        return _AlwaysLive(self.network, store, name.encode(), path)


@broken_store("changes.each_path_of_a_transaction_is_told")
class DotsPartPathsOfChanges(PlainBackend):
    """A change tells its path as text, in which dots part the segments."""

    def concerns(self, write: Write, path: Path) -> bool:
        told = tuple(".".join(write.key.path).split("."))
        return super().concerns(write, path) and told[: len(path)] == path[: len(told)]


class _InFirstSection(_Cut):
    """Hears nothing after its connection broke, but for one."""

    first = True

    def wait(self, seconds: float, /) -> bool:
        if self.first:
            self.breaks, self.called = self.network.breaks, self.called or self.breaks != self.network.breaks
        return super().wait(seconds)


@broken_network_client("changes.no_change_is_lost_with_a_connection", of=PlainBackend)
class TheFirstListenerListensAgain(NetworkClient):
    """When the connection of its listeners to changes broke, a client listens again for the first one only."""

    listening = 0

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        store = self.network.server.store
        assert isinstance(store, DictBackend)
        listener = _InFirstSection(self.network, store, name.encode(), path)
        listener.first = not self.listening
        self.listening += 1
        return listener
