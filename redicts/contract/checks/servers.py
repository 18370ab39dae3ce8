"""Servers that break connections and forget: open clients, their requests and their listeners go on."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import contextlib
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.fixture import Fixture
from redicts.contract.form import entries_of
from redicts.contract.harness import inner_of
from redicts.contract.listening import fresh_name, list_at, require_notified, wait_until_cleared
from redicts.contract.requirements import CheckFailed, require, require_below, require_equal
from redicts.contract.through_tasks import ThroughTasks
from redicts.core.backend import Backend
from redicts.core.minitransaction import (
    Add,
    Delete,
    Equals,
    Expire,
    Key,
    Notify,
    Path,
    Put,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Transaction,
)
from redicts.errors import StoreError

_THREADS: Final = 8
_LISTENERS: Final = 100
_LATE_SECS: Final = 0.06
_BRIEF_SECS: Final = 0.02
_SOON_SECS: Final = 0.2
"""The longest time of the fastest of several calls with so brief a deadline."""
_LONGER_SECS: Final = 0.16
"""How long other threads wait meanwhile."""
_CALLS: Final = 3


@conformance_check(needs=[Need.LOST_REPLIES])
def connections_that_broke_are_replaced(fixture: Fixture) -> None:
    """If all connections of a client break while it is idle, its next calls work, however many there were.

    Uses a client by eight threads, breaks all its connections and calls it once.
    """
    client, count = fixture.lossy(), fixture.key("count")

    def work(number: int) -> None:
        for _ in range(10):
            client.apply(Add(count, 1))
            require_equal(client.value(fixture.key("n", f"{number}")), None, "what nobody wrote is")

    for turn in range(1, 3):
        fixture.together([partial(work, number) for number in range(_THREADS)])
        fixture.break_connections()
        outcome = client.run(reads=[Read(count)], writes=[Put(fixture.key("after"), b"%d" % turn)])
        expected = {(): b"%d" % (turn * _THREADS * 10)}
        require_equal(dict(entries_of(outcome.answers[0]).values), expected, "after all connections broke, it reads")
        require_equal(client.value(fixture.key("after")), b"%d" % turn, "after all connections broke, it wrote")


@conformance_check(needs=[Need.LOST_REPLIES])
def listeners_outlast_their_connection(fixture: Fixture) -> None:
    """A listener whose connection broke is notified, wherever it is listed among hundreds, and later ones are too.

    Breaks the connections of a client with a hundred listeners, and notifies all of them.
    """
    client, in_time = fixture.lossy(), fixture.deadline()
    names = [fresh_name() for _ in range(_LISTENERS)]
    keys = [fixture.key("list", f"n{number:03}") for number in range(_LISTENERS)]
    with ExitStack() as stack:
        listeners = [stack.enter_context(client.listen(name)) for name in names]
        for turn in range(2):
            fixture.store.apply(*(Put(key, name.encode()) for key, name in zip(keys, names)))
            if not turn:
                fixture.break_connections()
            fixture.store.apply(Notify(fixture.key("list"), Scope.BELOW))
            for listener, key in zip(listeners, keys):
                in_time()
                wait_until_cleared(listener, fixture.store, key, fixture.timeout)
        name = fresh_name()
        with client.listen(name) as later:
            list_at(fixture.store, keys[0], name)
            fixture.store.apply(Notify(keys[0], Scope.NODE))
            wait_until_cleared(later, fixture.store, keys[0], fixture.timeout)


@conformance_check(needs=[Need.LATE_REQUESTS, Need.SILENCE])
def silence_is_noticed(fixture: Fixture) -> None:
    """If connections fall silent and do not break, calls end with their deadlines, and later ones use others.

    Lets the connections of a client carry nothing, calls it with a deadline, alone and while other threads use all its
    connections, and once new connections work again without one. If it is thorough, it waits for a listener to notice.
    """
    client, key = fixture.lossy(), fixture.key("a")
    calls: tuple[Transaction, ...] = (Transaction(writes=(Put(key, b"1"),)), Transaction(reads=(Read(key),)))
    if type(inner_of(client.backend)).execute_until is Backend.execute_until:  # it takes no deadlines
        calls = ()
    client.apply(Put(key, b"0"))
    name = fresh_name()
    with client.listen(name) as listener:
        with fixture.silence():
            for asked in calls:
                require_below(
                    partial(_seconds_until, client, asked),
                    _SOON_SECS,
                    _CALLS,
                    lambda took: f"a call with a deadline of {_BRIEF_SECS} s takes {took:.3f} s",
                )
            if calls:
                _require_brief_among_others(fixture, client, calls[0])
        client.apply(Put(key, b"2"))
        fixture.expect({("a",): b"2"}, client)
        with fixture.silence():
            pass  # what is idle now is silent from now on
        require_equal(client.value(key), b"2", "over another connection, the value is")
        if fixture.thorough:
            fixture.store.apply(Put(fixture.key("listed"), name.encode()))
            fixture.store.apply(Notify(fixture.key("listed"), Scope.NODE))
            require_notified(listener, fixture.timeout, "a listener whose connection fell silent")


@conformance_check(needs=[Need.FORGETTING])
def a_server_that_forgot_is_told_again(fixture: Fixture) -> None:
    """Open clients go on when the server forgets their scripts and statements, in every kind of call.

    Has the server forget before each kind of call of two clients.
    """
    clients = [fixture.store, fixture.lossy()]
    name = fresh_name()
    with fixture.store.listen(name) as listener:
        for turn in range(4):
            if turn % 2 == 0:  # each client in a space of each kind
                fixture.renew()
            client, added = clients[turn % 2], turn % 2 + 1
            key, count = fixture.key("d", "a"), fixture.key("count")
            _forget(fixture)
            require_equal(client.apply(Add(count, 1)).counters, (added,), "after the server forgot, an Add returns")
            _forget(fixture)
            require_equal(client.value(count), b"%d" % added, "after the server forgot, a read finds")
            _forget(fixture)
            client.apply(Put(key, b"1"), Put(fixture.key("d", "b"), b"2"))
            _forget(fixture)
            require_equal(client.names(fixture.key("d")), {"a", "b"}, "after the server forgot, the names are")
            if fixture.capabilities.ttl:
                _forget(fixture)
                client.apply(Expire(fixture.key("d"), Scope.BELOW, 600_000))
            _forget(fixture)
            wrong = Equals(fixture.key("d"), Scope.SUBTREE, {("a",): b"1"})
            require(not client.holds(wrong), "after the server forgot, a condition that fails holds")
            _forget(fixture)
            starts = client.holds(StartsWith(fixture.key("d"), Scope.BELOW, b""))
            require(starts, "after the server forgot, StartsWith of any prefix fails")
            _forget(fixture)
            client.apply(Delete(fixture.key("d"), Scope.SUBTREE))
            fixture.expect({("count",): b"%d" % added}, client)
        list_at(fixture.store, key, name)
        _forget(fixture)
        clients[1].apply(Notify(key, Scope.NODE))
        wait_until_cleared(listener, fixture.store, key, fixture.timeout)


@conformance_check(needs=[Need.LATE_REQUESTS])
def a_request_in_doubt_ends_with_the_next(fixture: Fixture) -> None:
    """A request that its thread gave up is not applied any more once the thread has written again.

    Holds a request back until its client gives up, writes by the same thread, and then delivers it. The second time,
    another thread gives one up meanwhile.
    """
    client = fixture.lossy()
    shares = isinstance(client.backend, ThroughTasks)  # its tasks have one connection, on which all is held
    for turn in (1,) if shares else (1, 2):
        fixture.renew()
        count, last, elsewhere = fixture.key("count"), fixture.key("last"), Key(fixture.fresh_space(), ("a",))
        other = threading.Thread(target=_tries, args=(client, Transaction(writes=(Put(elsewhere, b"1"),)), 2))
        try:
            if turn == 2:
                fixture.hold_request()
                other.start()
                time.sleep(_BRIEF_SECS)  # most likely, its request is held by then
            fixture.hold_request()
            applied = _tries(client, Transaction(writes=(Add(count, 1), Put(last, b"first"))))
            if other.ident is not None:
                other.join()
            client.apply(*(Put(last, b"later") for _ in range(turn)))
        finally:
            fixture.harness.deliver_request()
        expected: dict[Path, bytes] = {("last",): b"later"}
        if applied:
            expected["count",] = b"1"
        fixture.expect(expected)
        client.run(reads=[ReadNames(fixture.key())])
        fixture.expect(expected)


def _seconds_until(client: Client, asked: Transaction) -> float:
    """Execute with a brief deadline, in vain, and return how long that takes."""
    begun = time.monotonic()
    with contextlib.suppress(StoreError):
        client.backend.execute_until(asked, begun + _BRIEF_SECS)
        raise CheckFailed("a call whose request went nowhere returned an outcome")
    return time.monotonic() - begun


def _require_brief_among_others(fixture: Fixture, client: Client, asked: Transaction) -> None:
    """Require that a call with a brief deadline ends with that, while others wait longer, over all connections."""
    took = _LONGER_SECS

    def call_briefly() -> None:
        nonlocal took
        time.sleep(_BRIEF_SECS)  # the others wait by then
        took = _seconds_until(client, asked)

    def call() -> None:
        with contextlib.suppress(StoreError):
            client.backend.execute_until(asked, time.monotonic() + _LONGER_SECS)

    for _ in range(_CALLS):
        fixture.together([call_briefly, *[call] * _THREADS])
        if took < _LONGER_SECS / 2:
            return
    raise CheckFailed(
        f"a call with a deadline of {_BRIEF_SECS} s takes {took:.3f} s while other threads wait {_LONGER_SECS} s for "
        "replies; waiting for a connection must end with the deadline"
    )


def _forget(fixture: Fixture) -> None:
    require(fixture.harness.forget(), "the harness's forget returned false")


def _tries(client: Client, transaction: Transaction, times: int = 1) -> bool:
    """Execute a transaction whose request is held up; tell whether it was applied by another attempt."""
    with contextlib.suppress(StoreError):
        return client.backend.execute_until(transaction, time.monotonic() + times * _LATE_SECS).applied
    return False
