"""Waits and deadlines of any length: none, a month, a billion seconds, infinity."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import math
import threading
import time
from functools import partial
from typing import Final

from redicts.contract.check import conformance_check
from redicts.contract.client import Client
from redicts.contract.fixture import Fixture
from redicts.contract.listening import await_listing, fresh_name, list_at, quieten
from redicts.contract.requirements import require, require_equal
from redicts.core.listener import Listener
from redicts.core.minitransaction import VALUES, Add, Key, Notify, Put, Scope, Transaction
from redicts.errors import StoreError
from redicts.forks import stack

_MONTH: Final = 31 * 86_400.0

_LONG: Final = (_MONTH, 1e9, 1e12, math.inf)
"""Seconds: more milliseconds than 31 bits hold, more nanoseconds than 63 bits hold, and no number at all."""

_PASSED: Final = (0.0, -1.0, -1e9, -math.inf)

_ASLEEP_SECS: Final = 0.003
_LONGEST_LOOK_SECS: Final = 0.5


@conformance_check()
def any_wait_is_a_wait(fixture: Fixture) -> None:
    """A wait of any length ends with a notification, and one of no or negative seconds at once.

    Waits for a month, a billion seconds and infinity until a notification comes, and for no and negative seconds. Does
    the same with a listener to changes.
    """
    waker = fixture.client()
    for seconds in _LONG:
        key, sleepers = fixture.key("list", f"{seconds}"), list[threading.Thread]()

        def wake(key: Key = key, sleepers: list[threading.Thread] = sleepers) -> None:
            await_listing(waker, key, in_time=fixture.deadline())
            _until_asleep(sleepers[0])
            waker.apply(Notify(key, Scope.NODE))

        fixture.together([partial(_sleep, fixture.store, key, seconds, sleepers), wake])
    with fixture.store.listen(fresh_name()) as listener:
        _returns_at_once(fixture, listener)
    if not fixture.capabilities.changes:
        return
    with fixture.section() as section, fixture.store.listen_to_changes(fresh_name(), (section,)) as listener:
        for seconds in _LONG:
            sleepers = []

            def change(section: str = section, sleepers: list[threading.Thread] = sleepers) -> None:
                while not sleepers:
                    time.sleep(_ASLEEP_SECS)
                _until_asleep(sleepers[0])
                waker.apply(Put(Key(VALUES, (section,)), b"1"))

            fixture.together([partial(_await_change, listener, seconds, sleepers), change])
        _returns_at_once(fixture, listener)


@conformance_check()
def any_deadline_is_a_deadline(fixture: Fixture) -> None:
    """A deadline may be a month ahead, infinite, or over: then the call is applied, or raises and changes nothing.

    Writes and listens with deadlines that are over, a month ahead or infinite.
    """
    client, count = fixture.store, fixture.key("count")
    applied = 0
    for seconds in (*_LONG, *_PASSED):
        name, until = fresh_name(), time.monotonic() + seconds
        try:
            outcome = client.backend.execute_until(Transaction(writes=(Add(count, 1),)), until)
            applied += 1
            require_equal(outcome.counters, (applied,), f"with {seconds} seconds left, an Add returns")
        except StoreError as error:
            require(seconds <= 0, f"with {seconds} seconds left, a call raises {error!r}")
            require(not error.maybe_applied, f"with {seconds} seconds left, a call is in doubt: {error!r}")
        value = client.value(count)
        require_equal(value, b"%d" % applied, f"after a call with {seconds} seconds left, the sum of {applied} Adds is")
        try:
            with client.backend.listen_until(name, until) as listener:
                list_at(client, fixture.key("list"), name)
                client.apply(Notify(fixture.key("list"), Scope.NODE))
                require(listener.wait(fixture.timeout), f"listening with {seconds} seconds left is not notified")
        except StoreError as error:
            require(seconds <= 0, f"with {seconds} seconds left, listening raises {error!r}")
    client.apply(Put(fixture.key("after"), b"1"))


def _sleep(client: Client, key: Key, seconds: float, sleepers: list[threading.Thread]) -> None:
    """Wait so long until the list at a key is cleared."""
    sleepers.append(threading.current_thread())
    name = fresh_name()
    with client.listen(name) as listener:
        list_at(client, key, name)
        while client.value(key) is not None:
            require(listener.wait(seconds) is True, f"wait({seconds}) does not wait for a notification")


def _await_change(listener: Listener, seconds: float, sleepers: list[threading.Thread]) -> None:
    """Wait so long for a change, and not for one before."""
    quieten(listener, seconds=0.0)
    sleepers.append(threading.current_thread())
    require(listener.wait(seconds) is True, f"a listener to changes is not notified in wait({seconds})")


def _returns_at_once(fixture: Fixture, listener: Listener) -> None:
    """Wait for no and for negative seconds."""
    for seconds in _PASSED:
        begun = time.monotonic()
        listener.wait(seconds)
        require(time.monotonic() - begun < fixture.timeout, f"wait({seconds}) does not return at once")


def _until_asleep(thread: threading.Thread) -> None:
    """Return when a thread waits or has ended: its innermost call is at one instruction for some time. Or give up."""
    deadline = time.monotonic() + _LONGEST_LOOK_SECS
    before = None
    while thread.is_alive() and time.monotonic() < deadline:
        frame = next(stack(thread.ident or 0), None)
        now = None if frame is None else (id(frame), frame.f_lasti)
        del frame
        if now == before and now is not None:
            return
        before = now
        time.sleep(_ASLEEP_SECS)
