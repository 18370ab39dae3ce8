"""Listeners: none misses a notification, each wait ends in time, and closing one affects no other."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.fixture import Fixture
from redicts.contract.listening import (
    LONGEST_NAME,
    SOON,
    await_listing,
    fresh_name,
    list_at,
    require_notified,
    wait_until_cleared,
)
from redicts.contract.requirements import require
from redicts.core.listener import Listener
from redicts.core.minitransaction import VALUES, Key, Notify, Put, Scope

_ROUNDS: Final = 15
_TRIES: Final = 5
_LATER_WAITS: Final = 12
_LATER_SECS: Final = 0.005
"""Seconds of each wait after the last notification. A listener that polls grows its intervals beyond that."""
_QUIET_WAITS: Final = 3
_QUIET_SECS: Final = 0.1
"""Seconds of a wait without a notification, in which a listener that polls looks at least once."""
_POLL_SECS: Final = 0.001
"""Seconds between two waits of no seconds."""
_RING_SECS: Final = 0.02
"""Seconds of each wait for another listener, while a listener is to ring."""
_EARLY_SECS: Final = 0.005
"""Seconds by which a wait may end early, for clocks that count coarsely."""
_ASLEEP_SECS: Final = 0.05
"""Seconds of a wait of which the CPU time is measured."""
_LARGE_SHARE: Final = 0.05
"""How much of its time a thread may compute in a wait. One that never sleeps gets more, also on a busy machine."""


@conformance_check()
def a_call_before_the_wait_counts(fixture: Fixture) -> None:
    """A notification before the first wait, or between two waits, ends the next wait, and not each later one.

    Notifies before the first wait, between two waits, and after a wait that was over. Then waits a dozen times.
    """
    key, waker = fixture.key("list", "a"), fixture.client()
    name = fresh_name()

    def call() -> None:
        list_at(waker, key, name)
        waker.apply(Notify(key, Scope.NODE))

    with fixture.store.listen(name) as listener:
        call()
        require_notified(listener, fixture.timeout, "a listener called between listen and the first wait")
        call()
        require_notified(listener, fixture.timeout, "a listener called after a wait that was ended by a notification")
        for _ in range(3):
            listener.wait(0.01)  # the last of these is over, unless the store sends listeners to look by itself
        call()
        call()
        require_notified(listener, fixture.timeout, "a listener called after a wait that was over")
        lasted = 0.0
        for _ in range(_LATER_WAITS):
            begun = time.monotonic()
            listener.wait(_LATER_SECS)
            lasted = max(lasted, time.monotonic() - begun)
            if lasted > _LATER_SECS / 5:
                break
        require(
            lasted > _LATER_SECS / 5,
            f"each of {_LATER_WAITS} waits of {_LATER_SECS} s after the last notification ended at once, so a loop of "
            "waits would use all of a processor",
        )


@conformance_check()
def no_call_is_lost_in_a_race(fixture: Fixture) -> None:
    """A listed listener is notified whenever a Notify comes, and then finds its list cleared.

    Three threads list themselves and wait again and again, while two others notify without a pause.
    """
    rounds = 300 if fixture.thorough else _ROUNDS
    other = fixture.client()
    keys = [fixture.key("list", f"n{number}") for number in range(3)]

    def sleep(client: Client, key: Key) -> None:
        name = fresh_name()
        with client.listen(name) as listener:
            for _ in range(rounds):
                list_at(client, key, name)
                wait_until_cleared(listener, client, key, fixture.timeout)

    def call(client: Client) -> None:
        if client.read(fixture.key("list")):
            client.apply(Notify(fixture.key("list"), Scope.BELOW))

    sleepers = [partial(sleep, client, key) for client, key in zip((fixture.store, fixture.store, other), keys)]
    fixture.together(sleepers, [partial(call, fixture.store), partial(call, other)])


@conformance_check()
def a_wait_ends_when_its_time_is_over(fixture: Fixture) -> None:
    """A wait returns true, or false after its seconds: at once for 0, and never earlier.

    Waits for 0, 1, 30 and 100 ms without a notification, and measures.
    """
    name = fresh_name()

    def sleep() -> None:
        with fixture.store.listen(name) as listener:
            for seconds in (0.0, 0.001, 0.03, 0.0, 0.1):
                begun = time.monotonic()
                notified = listener.wait(seconds)
                lasted = time.monotonic() - begun
                require(isinstance(notified, bool), f"wait returned {notified!r}, not True or False")
                ended = notified or lasted >= seconds - _EARLY_SECS
                require(ended, f"wait({seconds}) returned false after {lasted:.3f} seconds")

    fixture.together([sleep])


@conformance_check()
def a_wait_sleeps(fixture: Fixture) -> None:
    """A thread that waits sleeps: the wait takes little CPU time.

    Waits for 50 ms without a notification, up to five times, and compares the CPU time of the thread with the time
    that the wait took.
    """
    shares: list[float] = []
    with fixture.store.listen(fresh_name()) as listener:
        for _ in range(_TRIES):  # a machine that stops this one counts its own time as that of the thread
            begun, used = time.monotonic(), time.thread_time()
            notified = listener.wait(_ASLEEP_SECS)
            used, lasted = time.thread_time() - used, time.monotonic() - begun
            if used < _LARGE_SHARE * lasted:
                return
            if not notified:
                shares.append(used / lasted)
    require(
        not shares,
        f"each wait of {_ASLEEP_SECS:g} seconds has kept the processor busy, for {min(shares, default=0):.0%} of its "
        "time and more: a thread that waits must sleep",
    )


@conformance_check()
def names_that_begin_alike_are_two(fixture: Fixture) -> None:
    """Listeners whose names have a common beginning are separate, also at the greatest length of a name.

    Listens under names that begin with each other and under the longest ones, and notifies each.
    """
    first = fresh_name()
    names = [first, f"{first}0", f"{first}00", *(fresh_name(LONGEST_NAME) for _ in range(3))]
    with ExitStack() as stack:
        listeners = [stack.enter_context(fixture.store.listen(name)) for name in names]
        for number, (name, listener) in enumerate(zip(names, listeners)):
            list_at(fixture.store, fixture.key("list", f"n{number}"), name)
            fixture.store.apply(Notify(fixture.key("list"), Scope.BELOW))
            require_notified(listener, fixture.timeout, f"listener {number} of {len(names)} whose names begin alike")


@conformance_check()
def a_listener_may_leave(fixture: Fixture) -> None:
    """Closing a listener, also twice or the last one, affects no other one, and notifications for it are ignored.

    Closes listeners twice, among others and as the last one, and notifies those that stay and those that are gone.
    """
    names = [fresh_name() for _ in range(3)]
    with ExitStack() as stack:
        leaving, *staying = [stack.enter_context(fixture.store.listen(name)) for name in names]
        leaving.close()
        leaving.close()
        for number, name in enumerate(names):
            list_at(fixture.store, fixture.key("list", f"n{number}"), name)
        fixture.store.apply(Notify(fixture.key("list"), Scope.BELOW))
        for listener in staying:
            require_notified(listener, fixture.timeout, "a listener, after another of its client was closed,")
        with fixture.store.listen(fresh_name()):
            pass  # somebody comes and goes in the meantime
        list_at(fixture.store, fixture.key("again"), names[-1])
        fixture.store.apply(Notify(fixture.key("again"), Scope.NODE))
        require_notified(staying[-1], fixture.timeout, "a listener, after a later one of its client was closed,")
    fixture.expect({})
    for number, name in enumerate(names):
        list_at(fixture.store, fixture.key("list", f"n{number}"), name)
    fixture.store.apply(Notify(fixture.key("list"), Scope.BELOW))
    fixture.expect({})
    for client in (fixture.store, fixture.client()):
        name = fresh_name()
        with client.listen(name) as listener:
            list_at(fixture.store, fixture.key("again"), name)
            fixture.store.apply(Notify(fixture.key("again"), Scope.NODE))
            require_notified(listener, fixture.timeout, "a listener, after all earlier ones were closed,")


@conformance_check()
def a_client_that_leaves_takes_no_listener_along(fixture: Fixture) -> None:
    """Closing a client does not affect the listeners of other clients in the same process.

    Closes a client with a listener, and notifies a listener of another client.
    """
    name, key = fresh_name(), fixture.key("list")
    leaving = fixture.harness.open()
    try:
        with fixture.store.listen(name) as listener:
            with leaving.listen(fresh_name()):
                pass
            leaving.close()
            list_at(fixture.store, key, name)
            fixture.client().apply(Notify(key, Scope.NODE))
            require_notified(listener, fixture.timeout, "a listener, after another client was closed,")
    finally:
        leaving.close()


@conformance_check()
def a_bell_is_rung(fixture: Fixture) -> None:
    """If ``ring`` returns true, every notification calls its function, while some thread waits for another listener.

    Notifies listeners that ring by two clients, again and again, and those to changes too, while one thread waits.
    """
    store, over, key = fixture.store, threading.Event(), fixture.key("list")

    def wait() -> None:
        with store.listen(fresh_name()) as waiting:
            while not over.is_set():
                waiting.wait(_RING_SECS)

    def notify(client: Client, name: str) -> None:
        list_at(client, key, name)
        client.apply(Notify(key, Scope.NODE))

    def change(client: Client, section: str) -> None:
        client.apply(Put(Key(VALUES, (section,)), b"1"))

    def work() -> None:
        try:
            name = fresh_name()
            with store.listen(name) as listener:
                _require_rung(fixture, listener, partial(notify, name=name), "a Notify")
            if store.capabilities.changes:
                with fixture.section() as section, store.listen_to_changes(fresh_name(), (section,)) as listener:
                    _require_rung(fixture, listener, partial(change, section=section), "a change")
        finally:
            over.set()

    fixture.together([work, wait])


@conformance_check(needs=[Need.PUSH])
def a_listener_sleeps_until_it_is_called(fixture: Fixture) -> None:
    """With ``push``, a wait lasts until a notification and ends at once with it, without polling, each time.

    Waits for no seconds after a notification, then waits without another one, and measures the fastest of several
    notifications within a client and between two.
    """
    early: list[bool] = []
    listed, name = fixture.key("listed"), fresh_name()
    with fixture.store.listen(name) as listener:  # one at a time, since one that leaves may wake another
        fixture.store.apply(Put(listed, name.encode()))
        fixture.store.apply(Notify(listed, Scope.NODE))
        until = time.monotonic() + fixture.timeout
        while not listener.wait(0.0):
            require(time.monotonic() < until, "a notification does not end a wait of no seconds")
            time.sleep(_POLL_SECS)
        while max(early.count(True), early.count(False)) <= _QUIET_WAITS // 2:
            early.append(listener.wait(_QUIET_SECS))
    require(
        early.count(False) > early.count(True),
        f"of {len(early)} waits of {_QUIET_SECS:g} seconds after a notification and without another one, "
        f"{early.count(True)} ended early: the listener polls, or a notification ends more than one wait",
    )
    other = fixture.client()
    for client, waker in ((fixture.store, fixture.store), (fixture.store, other), (other, fixture.store)):
        took: list[float] = []
        while len(took) < _TRIES and not (took and took[-1] < SOON):
            took.append(_seconds_to_notify(fixture, client, waker))
        fastest = min(took)
        require(fastest < SOON, f"the fastest of {_TRIES} notifications took {fastest:.2f} seconds: they are not sent")


def _seconds_to_notify(fixture: Fixture, client: Client, waker: Client) -> float:
    """Return how long a listener that waits already takes to be notified."""
    key, name = fixture.key("list"), fresh_name()
    moments: list[float] = []

    def sleep() -> None:
        with client.listen(name) as listener:
            list_at(client, key, name)
            wait_until_cleared(listener, client, key, fixture.timeout)
            moments.append(time.monotonic())

    def call(in_time: Callable[[], None]) -> None:
        await_listing(waker, key, in_time=in_time)
        time.sleep(0.001)  # most likely it waits then; if not, that makes no difference
        moments.append(time.monotonic())
        waker.apply(Notify(key, Scope.NODE))

    fixture.together([sleep, partial(call, fixture.deadline())])
    called, notified = sorted(moments)
    return notified - called


def _require_rung(fixture: Fixture, listener: Listener, notify: Callable[[Client], None], what: str) -> None:
    """Require that a listener that rings does so after each notification."""
    bell = threading.Event()
    if not listener.ring(bell.set):
        return
    for client in (fixture.store, fixture.client()) * 2:
        bell.clear()
        notify(client)
        seconds = fixture.timeout / 2
        require(bell.wait(seconds), f"{what} did not call the function of ring within {seconds:g} seconds")
