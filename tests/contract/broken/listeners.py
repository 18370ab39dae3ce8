"""Listeners that miss calls, do not wait as long as they should, or disturb others when they leave."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Final

from redicts.contract import SharedBackend
from redicts.core.listener import Listener, Poller
from redicts.core.minitransaction import Notify, Outcome, Path, Scope, Transaction
from redicts.errors import StoreError
from tests.contract.broken.register import broken_client, broken_server, broken_shared_store, broken_store
from tests.contract.broken.rendezvous import Forks, Gap, MeetingBackend
from tests.contract.broken.shared import OnSqlite
from tests.contract.networks import Number, Server
from tests.contract.reference_model import DictBackend, DictListener, NoTTLBackend


class _Deaf(DictListener):
    def wait(self, seconds: float, /) -> bool:
        self.called = False
        return super().wait(seconds)


@broken_store("listeners.a_call_before_the_wait_counts")
class CallsBeforeAWaitAreLost(DictBackend):
    """A call counts only if the listener waits already."""

    def listen(self, name: str, /) -> Listener:
        return _Deaf(self, name.encode())


class _DeafAfterwards(DictListener):
    waited = False

    def wait(self, seconds: float, /) -> bool:
        if self.waited:
            self.called = False
        notified = super().wait(seconds)
        self.waited = seconds > 0 and not notified
        return notified


@broken_store("listeners.a_call_before_the_wait_counts", alone=True)
class CallsBetweenWaitsAreLost(DictBackend):
    """A call that comes after a wait was over, and before the next one, is lost."""

    def listen(self, name: str, /) -> Listener:
        return _DeafAfterwards(self, name.encode())


class _Late(DictListener):
    def __init__(self, store: DictBackend, name: bytes) -> None:
        super().__init__(store, name)
        self.close()

    def wait(self, seconds: float, /) -> bool:
        with self.store.bell:
            if self not in self.store.listeners:
                self.store.listeners.append(self)
        return super().wait(seconds)


@broken_store("listeners.a_call_before_the_wait_counts")
class ListeningBeginsWithTheWait(DictBackend):
    """Listening has not begun when listen returns, but with the first wait."""

    def listen(self, name: str, /) -> Listener:
        return _Late(self, name.encode())


class _OfNoSeconds(DictListener):
    def wait(self, seconds: float, /) -> bool:
        return seconds > 0 and super().wait(seconds)


@broken_store("listeners.a_listener_sleeps_until_it_is_called")
class WaitsOfNoSecondsLookNowhere(DictBackend):
    """A wait of no seconds returns false, also if the listener was notified before."""

    def listen(self, name: str, /) -> Listener:
        return _OfNoSeconds(self, name.encode())


class _Sticky(DictListener):
    def wait(self, seconds: float, /) -> bool:
        self.called |= super().wait(seconds)
        return self.called


@broken_store("listeners.a_listener_sleeps_until_it_is_called")
class NotifiedOnceIsNotifiedForEver(DictBackend):
    """A listener that was notified is never reset, so each later wait ends at once."""

    def listen(self, name: str, /) -> Listener:
        return _Sticky(self, name.encode())


class _Spinning(Listener):
    def __init__(self, listener: Listener) -> None:
        self.listener: Final = listener
        self.notified = False

    def wait(self, seconds: float, /) -> bool:
        self.notified = self.notified or self.listener.wait(seconds)
        return self.notified

    def close(self) -> None:
        self.listener.close()


@broken_shared_store("listeners.a_call_before_the_wait_counts")
class ListenersThatPollSpin(OnSqlite):
    """A listener that polls returns true without a pause, once it was notified."""

    def listen(self, name: str, /) -> Listener:
        return _Spinning(super().listen(name))


class _Once(DictListener):
    notified = False

    def wait(self, seconds: float, /) -> bool:
        if self.notified:
            time.sleep(seconds)
            return False
        self.notified = super().wait(seconds)
        return self.notified


@broken_store("listeners.a_call_before_the_wait_counts", "listeners.no_call_is_lost_in_a_race")
class OneCallPerListener(DictBackend):
    """A listener is notified once, and never again."""

    def listen(self, name: str, /) -> Listener:
        return _Once(self, name.encode())


class _Awake(DictListener):
    def wait(self, seconds: float, /) -> bool:
        end = time.monotonic() + seconds
        while not super().wait(0.0):
            if time.monotonic() >= end:
                return False
        return True


@broken_store("listeners.a_wait_sleeps", alone=True)
class WaitsSpin(DictBackend):
    """A listener looks all the time, and never sleeps."""

    def listen(self, name: str, /) -> Listener:
        return _Awake(self, name.encode())


@broken_store("listeners.no_call_is_lost_in_a_race")
class CalledBeforeItIsWritten(MeetingBackend):
    """Listeners are called an instant before others can see what was written."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.gap = Gap(0.3)

    def execute(self, transaction: Transaction, /) -> Outcome:
        with self.lock:
            before = self.spaces
            outcome = super().execute(transaction)
            after, self.spaces = self.spaces, before
            if not any(isinstance(write, Notify) for write in transaction.writes) or not outcome.applied:
                self.spaces = after
                return outcome
        self.let_others_look(Scope.NODE)
        with self.lock:
            self.call_nobody = True
            super().execute(transaction._replace(checks=()))
            self.call_nobody = False
        return outcome

    call_nobody = False

    def call(self, names: list[bytes]) -> None:
        if not self.call_nobody:
            super().call(names)


class _Slower(Poller):
    def __init__(self) -> None:
        super().__init__()
        self.interval = 0.001

    def wait(self, seconds: float, /) -> bool:
        interval, self.interval = self.interval, 2 * self.interval if seconds > 0 else 0.001
        time.sleep(max(0.0, min(interval, seconds)))
        return interval < seconds


@broken_store("listeners.no_call_is_lost_in_a_race", alone=True)
class IntervalsGrowWithoutLimit(NoTTLBackend):
    """The store does not push, and its listeners look again after ever longer intervals."""

    def listen(self, name: str, /) -> Listener:
        return _Slower()


class _Impatient(DictListener):
    def wait(self, seconds: float, /) -> bool:
        return super().wait(seconds / 2)


@broken_store("listeners.a_wait_ends_when_its_time_is_over", alone=True)
class WaitsEndTooEarly(DictBackend):
    """A wait returns false when half of its time is over."""

    def listen(self, name: str, /) -> Listener:
        return _Impatient(self, name.encode())


class _Stubborn(DictListener):
    def wait(self, seconds: float, /) -> bool:
        return super().wait(seconds + 5)


@broken_store("listeners.a_wait_ends_when_its_time_is_over")
class WaitsDoNotEnd(DictBackend):
    """A wait lasts until it is ended by a call, however little time it has."""

    def listen(self, name: str, /) -> Listener:
        return _Stubborn(self, name.encode())


class _Unfit(DictListener):
    def wait(self, seconds: float, /) -> bool:
        return super().wait(seconds) or None  # type: ignore[return-value]


@broken_store("listeners.a_wait_ends_when_its_time_is_over")
class WaitsReturnNothing(DictBackend):
    """A wait whose time is over returns neither true nor false."""

    def listen(self, name: str, /) -> Listener:
        return _Unfit(self, name.encode())


@broken_store("listeners.names_that_begin_alike_are_two", alone=True)
class NamesAreCut(DictBackend):
    """Of a name, the first 64 characters count, and of those who share them the last one is notified."""

    def listen(self, name: str, /) -> Listener:
        listener = DictListener(self, name.encode()[:64])
        with self.bell:
            self.listeners[:] = [other for other in self.listeners if other.name != listener.name] + [listener]
        return listener

    def call(self, names: list[bytes]) -> None:
        super().call([name[:64] for name in names])


class _ClosedOnce(DictListener):
    def close(self) -> None:
        with self.store.bell:
            self.store.listeners.remove(self)


@broken_store("listeners.a_listener_may_leave", alone=True)
class ClosingAListenerTwiceFails(DictBackend):
    """Closing a listener a second time raises an error."""

    def listen(self, name: str, /) -> Listener:
        return _ClosedOnce(self, name.encode())


class _Sociable(DictListener):
    def close(self) -> None:
        client_id, _, _ = self.name.partition(b"/")
        with self.store.bell:
            self.store.listeners[:] = [each for each in self.store.listeners if not each.name.startswith(client_id)]


@broken_store("listeners.a_listener_may_leave")
class TheFirstToLeaveTakesAllAlong(DictBackend):
    """When one listener is closed, nobody listens at its client id any more."""

    def listen(self, name: str, /) -> Listener:
        return _Sociable(self, name.encode())


class _Last(DictListener):
    def close(self) -> None:
        super().close()
        assert isinstance(self.store, CallsEndWithTheLastListener)
        self.store.has_ended |= not self.store.listeners


@broken_store("listeners.a_listener_may_leave")
class CallsEndWithTheLastListener(DictBackend):
    """What carries the calls ends with the last listener, and does not begin again with the next one."""

    has_ended = False

    def listen(self, name: str, /) -> Listener:
        return _Last(self, name.encode())

    def call(self, names: list[bytes]) -> None:
        if not self.has_ended:
            super().call(names)


@broken_store("listeners.a_listener_may_leave")
class CallsToTheClosedFail(DictBackend):
    """A call to a listener that was closed raises an error."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.known: set[bytes] = set()

    def listen(self, name: str, /) -> Listener:
        self.known.add(name.encode())
        return super().listen(name)

    def call(self, names: list[bytes]) -> None:
        super().call(names)
        if self.known & set(names) - {listener.name for listener in self.listeners}:
            raise StoreError("nobody is there")


@broken_client("listeners.a_client_that_leaves_takes_no_listener_along", of=DictBackend, alone=True)
class ClosingAClientEndsAllListening(SharedBackend):
    """When a client is closed, nobody in its process listens any more."""

    def close(self) -> None:
        assert isinstance(self.shared, DictBackend)
        self.shared.listeners.clear()


@broken_store("listeners.a_listener_sleeps_until_it_is_called", alone=True)
class PollsAndDeclaresPush(DictBackend):
    """Pushing is declared, and the listener is the one that is inherited."""

    def listen(self, name: str, /) -> Listener:
        return Poller()


class _HardOfHearing(DictListener):
    def wait(self, seconds: float, /) -> bool:
        notified = super().wait(seconds)
        if notified:
            time.sleep(0.3)
        return notified


@broken_store("listeners.a_listener_sleeps_until_it_is_called")
class CallsComeLate(DictBackend):
    """Pushing is declared, and calls arrive after 0.3 seconds."""

    def listen(self, name: str, /) -> Listener:
        return _HardOfHearing(self, name.encode())


class _Deferring(DictBackend):
    """Keeps its calls until it is told to make them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.deferred: list[bytes] = []

    def call(self, names: list[bytes]) -> None:
        self.deferred += names

    def flush(self) -> None:
        super().call(self.deferred)
        self.deferred = []


@broken_server("listeners.a_client_that_leaves_takes_no_listener_along", of=_Deferring)
class CallsAreLostWithTheReply(Server):
    """Listeners are called when the first reply has arrived, or else not at all."""

    def handle(self, number: Number, transaction: Transaction) -> Outcome:
        assert isinstance(self.store, _Deferring)
        if number in self.outcomes:
            self.store.deferred = []
        return super().handle(number, transaction)

    def answered(self, number: Number) -> None:
        assert isinstance(self.store, _Deferring)
        self.store.flush()


class _Ringing(DictBackend):
    """Has one rope for its bell, and does not know of forks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.rope = threading.Lock()
        self.forks = Forks()

    def call(self, names: list[bytes]) -> None:
        if names:
            with self.rope:
                super().call(names)


class _Pulling(DictListener):
    def wait(self, seconds: float, /) -> bool:
        assert isinstance(self.store, _Ringing)
        with self.store.rope:
            self.store.forks.wait_for_one()
        return super().wait(seconds)


@broken_store("forks.a_fork_amid_waits_is_harmless", alone=True)
class TheRopeIsNeverReleased(_Ringing):
    """What another thread's listener holds at a fork is never free in the child."""

    def listen(self, name: str, /) -> Listener:
        return _Pulling(self, name.encode())


@broken_store("forks.a_fork_amid_waits_is_harmless")
class NobodyCallsInAChild(DictBackend):
    """What carries the calls is not there in a forked child, as a thread is not."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.process = os.getpid()

    def call(self, names: list[bytes]) -> None:
        if self.process == os.getpid():
            super().call(names)


class _Mute(DictListener):
    def ring(self, bell: Callable[[], object], /) -> bool:
        return True


@broken_store("listeners.a_bell_is_rung", alone=True)
class ListenersPromiseToRing(DictBackend):
    """A listener promises to call a function, and only ends its waits."""

    def listen(self, name: str, /) -> Listener:
        return _Mute(self, name.encode())


class _OnceOnly(Listener):
    """A listener that calls the function of ``ring`` for the first notification."""

    def __init__(self, inner: Listener) -> None:
        self.inner = inner

    def wait(self, seconds: float, /) -> bool:
        return self.inner.wait(seconds)

    def ring(self, bell: Callable[[], object], /) -> bool:
        left = [bell]
        return self.inner.ring(lambda: left and left.pop()())

    def close(self) -> None:
        self.inner.close()


@broken_shared_store("listeners.a_bell_is_rung", alone=True)
class ListenersRingOnce(OnSqlite):
    """A listener calls its function for the first notification, and for no other one."""

    def listen(self, name: str, /) -> Listener:
        return _OnceOnly(self.store.listen(name))


@broken_shared_store("listeners.a_bell_is_rung", alone=True)
class ListenersToChangesRingOnce(OnSqlite):
    """A listener to changes calls its function for the first change, and for no other one."""

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        return _OnceOnly(self.store.listen_to_changes(name, path))
