"""Listeners: none misses a call, each wait ends in time, and none disturbs another when it leaves."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final

from redicts.contract.bench import Bench
from redicts.contract.client import Client
from redicts.contract.law import Need, law, require
from redicts.contract.listening import (
    LONGEST_NAME,
    SOON,
    await_listing,
    fresh_name,
    list_at,
    require_woken,
    wait_until_cleared,
)
from redicts.core.transaction import Key, Scope, Wake

_ROUNDS: Final = 15
_TRIES: Final = 5
_QUIET_WAITS: Final = 3
_EARLY_SECS: Final = 0.005
"""Seconds by which a wait may end early, for clocks that count coarsely."""


@law()
def a_call_before_the_wait_counts(bench: Bench) -> None:
    """From the return of listen on no call is lost: the next wait ends, be it the first or a later one."""
    key, waker = bench.key("list", "a"), bench.client()
    name = fresh_name()

    def call() -> None:
        list_at(waker, key, name)
        waker.apply(Wake(key, Scope.NODE))

    with bench.store.listen(name) as listener:
        call()
        require_woken(listener, bench.patience, "a listener called between listen and the first wait")
        call()
        require_woken(listener, bench.patience, "a listener called after a wait that was ended by a wake-up")
        for _ in range(3):
            listener.wait(0.01)  # the last of these is over, unless the store sends listeners to look by itself
        call()
        call()
        require_woken(listener, bench.patience, "a listener called after a wait that was over")


@law()
def no_call_is_lost_in_a_race(bench: Bench) -> None:
    """Whoever lists himself and waits is woken, and then finds the list cleared, in whichever moment the Wake comes."""
    rounds = 300 if bench.thorough else _ROUNDS
    other = bench.client()
    keys = [bench.key("list", f"n{number}") for number in range(3)]

    def sleep(client: Client, key: Key) -> None:
        name = fresh_name()
        with client.listen(name) as listener:
            for _ in range(rounds):
                list_at(client, key, name)
                wait_until_cleared(listener, client, key, bench.patience)

    def call(client: Client) -> None:
        if client.read(bench.key("list")):
            client.apply(Wake(bench.key("list"), Scope.BELOW))

    sleepers = [partial(sleep, client, key) for client, key in zip((bench.store, bench.store, other), keys)]
    bench.together(sleepers, [partial(call, bench.store), partial(call, other)])


@law()
def a_wait_ends_when_its_time_is_over(bench: Bench) -> None:
    """Wait returns true, or false after so many seconds: at once for 0, not before they are over, and not never."""
    name = fresh_name()

    def sleep() -> None:
        with bench.store.listen(name) as listener:
            for seconds in (0.0, 0.001, 0.03, 0.0, 0.15):
                begun = time.monotonic()
                woken = listener.wait(seconds)
                lasted = time.monotonic() - begun
                require(isinstance(woken, bool), f"wait returned {woken!r}, not True or False")
                ended = woken or lasted >= seconds - _EARLY_SECS
                require(ended, f"wait({seconds}) returned false after {lasted:.3f} seconds")

    bench.together([sleep])


@law()
def names_that_begin_alike_are_two(bench: Bench) -> None:
    """Listeners whose names begin alike are each woken by their own, at the greatest length of a name as well."""
    first = fresh_name()
    names = [first, f"{first}0", f"{first}00", *(fresh_name(LONGEST_NAME) for _ in range(3))]
    with ExitStack() as stack:
        listeners = [stack.enter_context(bench.store.listen(name)) for name in names]
        for number, (name, listener) in enumerate(zip(names, listeners)):
            list_at(bench.store, bench.key("list", f"n{number}"), name)
            bench.store.apply(Wake(bench.key("list"), Scope.BELOW))
            require_woken(listener, bench.patience, f"listener {number} of {len(names)} whose names begin alike")


@law()
def a_listener_may_leave(bench: Bench) -> None:
    """Closing a listener, also twice, disturbs no other of its client; a call that comes afterwards reaches nobody."""
    names = [fresh_name() for _ in range(3)]
    with ExitStack() as stack:
        leaving, *staying = [stack.enter_context(bench.store.listen(name)) for name in names]
        leaving.close()
        leaving.close()
        for number, name in enumerate(names):
            list_at(bench.store, bench.key("list", f"n{number}"), name)
        bench.store.apply(Wake(bench.key("list"), Scope.BELOW))
        for listener in staying:
            require_woken(listener, bench.patience, "a listener, after another of its client was closed,")
        with bench.store.listen(fresh_name()):
            pass  # somebody comes and goes in the meantime
        list_at(bench.store, bench.key("again"), names[-1])
        bench.store.apply(Wake(bench.key("again"), Scope.NODE))
        require_woken(staying[-1], bench.patience, "a listener, after a later one of its client was closed,")
    bench.expect({})
    for number, name in enumerate(names):
        list_at(bench.store, bench.key("list", f"n{number}"), name)
    bench.store.apply(Wake(bench.key("list"), Scope.BELOW))
    bench.expect({})


@law()
def a_client_that_leaves_takes_no_listener_along(bench: Bench) -> None:
    """Closing a client disturbs the listeners of no other client, not in the same process either."""
    name, key = fresh_name(), bench.key("list")
    leaving = bench.harness.open()
    try:
        with bench.store.listen(name) as listener:
            with leaving.listen(fresh_name()):
                pass
            leaving.close()
            list_at(bench.store, key, name)
            bench.client().apply(Wake(key, Scope.NODE))
            require_woken(listener, bench.patience, "a listener, after another client was closed,")
    finally:
        leaving.close()


@law(needs=[Need.PUSH])
def a_listener_sleeps_until_it_is_called(bench: Bench) -> None:
    """Where ``push`` is claimed, waits last if nobody calls, and a call ends them sooner: nobody polls."""
    with bench.store.listen(fresh_name()) as listener:
        early = sum(listener.wait(SOON) for _ in range(_QUIET_WAITS))
    require(
        early <= _QUIET_WAITS // 2,
        f"of {_QUIET_WAITS} waits of {SOON:g} seconds of a listener that nobody calls, {early} ended before: it polls",
    )
    other = bench.client()
    for client, waker in ((bench.store, bench.store), (bench.store, other), (other, bench.store)):
        fastest = min(_seconds_to_wake(bench, client, waker) for _ in range(_TRIES))
        require(fastest < SOON, f"the fastest of {_TRIES} wake-ups took {fastest:.2f} seconds: they are not sent")


def _seconds_to_wake(bench: Bench, client: Client, waker: Client) -> float:
    """Return how long a listener that waits already takes to be woken."""
    key, name = bench.key("list"), fresh_name()
    moments: list[float] = []

    def sleep() -> None:
        with client.listen(name) as listener:
            list_at(client, key, name)
            wait_until_cleared(listener, client, key, bench.patience)
            moments.append(time.monotonic())

    def call(in_time: Callable[[], None]) -> None:
        await_listing(waker, key, in_time=in_time)
        time.sleep(0.001)  # most likely it waits then; if not, that makes no difference
        moments.append(time.monotonic())
        waker.apply(Wake(key, Scope.NODE))

    bench.together([sleep, partial(call, bench.deadline())])
    called, woken = sorted(moments)
    return woken - called
