"""Interrupts: an exception or a re-entrant call between any two instructions breaks neither connections nor listeners.

A tracer raises, or calls redicts, before the n-th instruction of the modules under test. It stands for a signal handler
and for a finalizer, which run there in reality.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, Final

import pytest
import redis

from redicts.backends.redis import RedisBackend, attempts, connections, functions, pubsub
from redicts.backends.redis import backend as backends
from redicts.backends.redis.connections import Connections, Session
from redicts.contract.interruption import apart
from redicts.core.minitransaction import Add, Notify, Put, Scope, Transaction
from redicts.errors import StoreBusy, StoreError
from tests.backends.redis_tools import clients, key, opened, values, write
from tests.backends.test_redis_pubsub import LIST, entry, fresh_names, subscribers
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT, eventually

pytestmark = pytest.mark.usefixtures("no_collections")

LONG: Final = os.environ.get("REDICTS_TESTS") == "long"
STEP: Final = 1 if LONG else 13
"""Every how many instructions there is an interrupt: all of them in the long version."""

FILES: Final = {module.__file__ for module in (backends, attempts, connections, functions, pubsub)}


class Interrupted(BaseException):
    """Stands for Ctrl-C."""


def at_instruction(number: int, do: Callable[[], object], operation: Callable[[], object]) -> bool:
    """Run an operation, and something else before its instruction of this number; return whether it has so many."""
    passed, done = 0, False

    def trace(frame: FrameType, _event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in FILES:
            return None
        frame.f_trace_opcodes = True
        return trace_instruction

    def trace_instruction(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal passed, done
        if event == "opcode":
            passed += 1
            if passed == number:
                done = True
                sys.settrace(None)
                # Shown if the test fails.
                sys.stdout.write(f"{frame.f_code.co_name}, line {frame.f_lineno}, instruction {frame.f_lasti}\n")
                do()
        return None if done else trace_instruction

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        next(apart(operation))
    finally:
        sys.settrace(before)
    return done


def interrupt() -> None:
    """Raise, as a signal handler does."""
    raise Interrupted


def each_point(operation: Callable[[], object], examine: Callable[[], object], step: int = STEP) -> int:
    """Interrupt an operation at each of its instructions, or some, and examine after each; return how many."""
    for number in range(1, 1_000_000, step):
        try:
            if not at_instruction(number, interrupt, operation):
                return number // step
        except (Interrupted, StoreError):
            # The traceback is alive here, and with it all frames that were interrupted.
            examine()
    raise AssertionError("an operation has a million instructions")


@contextlib.contextmanager
def one_connection(target: Any, **more: Any) -> Iterator[RedisBackend]:
    """Open a backend with one connection, for which requests wait a second at most."""
    with opened(target, max_connections=1, timeout_secs=1, **more) as backend:
        yield backend


def here(backend: RedisBackend) -> Connections:
    """Return the connections of this process."""
    return backend._connections.get()


@pytest.mark.parametrize("kind", ["read", "write"])
def test_an_interrupted_exchange_loses_no_connection(server: RedisServer, kind: str) -> None:
    """After an exception at any instruction of a call, the next one works, and gets its own reply."""
    with one_connection(server) as backend:
        write(backend, Put(key("a"), b"a"), Put(key("b"), b"b"))

        def operation() -> None:
            if kind == "read":
                assert values(backend, "a") == {(): b"a"}
            else:
                write(backend, Put(key("c"), b"c"))

        def examine() -> None:
            assert values(backend, "b") == {(): b"b"}
            assert write(backend, Put(key("c"), b"d")).applied
            assert values(backend, "c") == {(): b"d"}
            assert not here(backend).unanswered.sessions
            assert len(here(backend)._counted) == 1

        assert each_point(operation, examine) > 10
        eventually(lambda: clients(server) == 1, "no connection is left")


def test_an_interrupted_connect_loses_no_connection(server: RedisServer) -> None:
    """The same for the first call, which connects."""
    with one_connection(server, database=1) as backend:

        def operation() -> None:
            here(backend)._close_idle()
            write(backend, Add(key("n"), 1))

        def examine() -> None:
            assert write(backend, Add(key("m"), 1)).applied

        assert each_point(operation, examine) > 10
        gc.collect()
        eventually(lambda: clients(server) == 1, "no connection is left")


def test_an_interrupted_repetition_loses_no_connection(redis_server: RedisServer, faulty_proxy: FaultyProxy) -> None:
    """The same for a call whose connection breaks: also while it cleans up."""
    with one_connection(faulty_proxy, retries=1) as backend:
        write(backend, Add(key("n"), 1))

        def operation() -> None:
            faulty_proxy.drop_replies()
            write(backend, Add(key("n"), 1))

        def examine() -> None:
            assert write(backend, Add(key("m"), 1)).applied
            assert values(backend, "m") != {}
            assert not here(backend).unanswered.sessions

        assert each_point(operation, examine, STEP) > 10
        gc.collect()
        eventually(lambda: clients(redis_server) == 1, "no connection is left")


def test_a_request_in_doubt_is_overtaken(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session whose request was sent and not answered is that of the thread's next write, at whatever point it ended.

    This holds if the exception comes while a failure is handled, too.
    """
    sent: dict[bytes, int] = {}
    exchange = Connections._exchange
    fails = False

    def record(self: Connections, command: bytes, deadline: float | None, count: int) -> Any:
        if b"FUNCTION" in command:
            return exchange(self, command, deadline, count)
        name, number = command.split(b"\r\n")[10].partition(b"r:")[2], int(command.split(b"\r\n")[12])
        if name:
            sent[name] = number
        if fails and name:
            raise attempts.Failed(redis.ConnectionError("lost"), sent=True)
        reply = exchange(self, command, deadline, count)
        sent.pop(name, None)
        return reply

    monkeypatch.setattr(Connections, "_exchange", record)
    with one_connection(server, retries=1) as backend:
        for fails in (False, True):

            def operation() -> None:
                with contextlib.suppress(StoreError):
                    write(backend, Add(key("n"), 1))

            def examine() -> None:
                nonlocal fails
                before, fails = fails, False
                doubtful = set(sent)
                write(backend, Add(key("n"), 1))
                assert not doubtful & set(sent), "the late request is overtaken"
                fails = before

            assert each_point(operation, examine, 1) > 10


def test_all_requests_in_doubt_are_overtaken_by_one_write(server: RedisServer) -> None:
    """If several requests of a thread are in doubt, its next write overtakes all of them."""
    with one_connection(server) as backend:
        doubtful = [Session() for _ in range(3)]
        for session in doubtful:
            session.number = 7
        here(backend).unanswered.sessions.extend(doubtful)
        write(backend, Add(key("n"), 1))
        for session in doubtful:
            late = backend._encoder.encode(Transaction(writes=(Add(key("n"), 1),)), session.name, 7)
            assert here(backend).call(late)[0] == b"S", "it is refused"
        assert values(backend, "n") == {(): b"1"}
        assert not here(backend).unanswered.sessions
        assert not set(doubtful) & set(here(backend).idle_sessions)


def test_an_interrupted_wait_for_a_connection_loses_none(server: RedisServer) -> None:
    """Threads that wait for the only connection and are interrupted leave it to the others."""
    with one_connection(server) as backend:
        write(backend, Put(key("a"), b"a"))
        link = here(backend)._idle.pop()
        for number in range(1, 600, STEP):
            given = threading.Timer(0.002, here(backend)._idle.append, (link,))
            given.start()
            with contextlib.suppress(Interrupted):
                at_instruction(number, interrupt, lambda: values(backend, "a"))
            given.join()
            assert values(backend, "a") == {(): b"a"}
            assert not here(backend)._waiting
            link = here(backend)._idle.pop()
        here(backend)._idle.append(link)


@pytest.mark.parametrize("most", [1, 2])
def test_a_call_within_a_call_works_or_is_busy_at_once(server: RedisServer, most: int) -> None:
    """At any instruction of a call, another one of the same thread works, or raises ``StoreBusy`` without waiting."""
    with opened(server, max_connections=most, timeout_secs=TIMEOUT) as backend:
        write(backend, Put(key("a"), b"a"), Put(key("n"), b"0"))
        busy = inner = 0

        def call() -> None:
            nonlocal busy, inner
            try:
                write(backend, Add(key("inner"), 1))
                inner += 1
                assert values(backend, "a") == {(): b"a"}
            except StoreBusy:
                busy += 1

        for number in range(1, 100_000, STEP):
            began = time.monotonic()
            if not at_instruction(number, call, lambda: write(backend, Add(key("n"), 1))):
                break
            assert time.monotonic() - began < TIMEOUT / 2
            assert len(here(backend)._counted) <= most
        assert inner
        assert bool(busy) is (most == 1)
        assert values(backend, "inner") == {(): b"%d" % inner}
        assert int(values(backend, "n")[()]) == number // STEP + 1


def test_a_signal_handler_that_uses_the_only_connection(server: RedisServer, faulty_proxy: FaultyProxy) -> None:
    """A real handler that runs while the thread waits for its reply gets ``StoreBusy`` at once."""
    found: list[object] = []

    def handle(_number: int, _frame: Any) -> None:
        try:
            found.append(values(backend, "a"))
        except StoreBusy as error:
            found.append(str(error))
        faulty_proxy.release_held()

    with opened(faulty_proxy, max_connections=1) as backend:
        write(backend, Put(key("a"), b"a"))
        before = signal.signal(signal.SIGUSR1, handle)
        faulty_proxy.hold_requests()
        main = threading.main_thread().ident or 0

        def notice() -> None:
            faulty_proxy.wait_until_held()
            signal.pthread_kill(main, signal.SIGUSR1)

        thread = threading.Thread(target=notice)
        thread.start()
        try:
            assert values(backend, "a") == {(): b"a"}
        finally:
            thread.join(TIMEOUT)
            signal.signal(signal.SIGUSR1, before)
    assert len(found) == 1
    assert "raise max_connections" in str(found[0])


# Listening -------------------------------------------------------------------------------------------------------


def subscription(backend: RedisBackend) -> pubsub.Subscription:
    """Return the subscription of this process."""
    (found,) = backend._subscriptions._subscriptions.values()
    return found


def notify(backend: RedisBackend, name: str) -> None:
    """Notify the listener of this name."""
    backend.execute(Transaction(writes=(Put(entry("a"), name.encode()), Notify(LIST, Scope.BELOW))))


@pytest.mark.parametrize(("role", "connected"), [("leader", True), ("leader", False), ("follower", True)])
def test_an_interrupted_listener_leaves_nothing(server: RedisServer, role: str, connected: bool) -> None:
    """After an exception at any instruction of listen, wait and close, other listeners are notified in time."""
    with opened(server) as backend, opened(server) as notifier:
        (other_name,) = fresh_names(1)
        with backend.listen(other_name) as other, ThreadPoolExecutor(1) as pool:

            def operation() -> None:
                if not connected:
                    subscription(backend)._disconnect()
                (name,) = fresh_names(1)
                with contextlib.closing(backend.listen(name)) as listener:
                    listener.wait(0)
                    notify(notifier, name)
                    assert listener.wait(TIMEOUT)

            def operation_while_another_leads() -> None:
                leading = pool.submit(other.wait, TIMEOUT)
                eventually(lambda: subscription(backend)._waiting or leading.done(), "it leads", every=0.0002)
                try:
                    operation()
                finally:
                    sys.settrace(None)
                    notify(notifier, other_name)
                    assert leading.result(TIMEOUT)

            def examine() -> None:
                began = time.monotonic()
                while other.wait(0):
                    pass
                notify(notifier, other_name)
                assert other.wait(TIMEOUT)
                assert time.monotonic() - began < TIMEOUT / 4
                assert not subscription(backend)._waiting

            step = 1 if LONG else 67
            chosen = operation if role == "leader" else operation_while_another_leads
            assert each_point(chosen, examine, step) > 5
            gc.collect()
            assert list(subscription(backend)._listeners) == [other_name.partition("/")[2].encode()]
            eventually(lambda: len(subscribers(server)) == 1, "no connection is left")


@pytest.mark.parametrize("when", ["listen", "wait"])
def test_listening_within_listening_works_or_is_busy_at_once(server: RedisServer, when: str) -> None:
    """At any instruction of listen and wait, the same thread may listen and wait: it is notified, or looks, soon."""
    with opened(server) as backend, opened(server) as notifier:
        done = busy = 0

        def inner() -> None:
            nonlocal done, busy
            try:
                (name,) = fresh_names(1)
                with backend.listen(name) as listener:
                    notify(notifier, name)
                    assert listener.wait(TIMEOUT)
                done += 1
            except StoreBusy:
                busy += 1

        def outer() -> None:
            if when == "listen" and backend._subscriptions._subscriptions:
                subscription(backend)._disconnect()
            (name,) = fresh_names(1)
            with backend.listen(name) as listener:
                notify(notifier, name)
                assert listener.wait(TIMEOUT)

        outer()
        step = 11 if LONG else 211
        for number in range(1, 1_000_000, step):
            began = time.monotonic()
            if not at_instruction(number, inner, outer):
                break
            assert time.monotonic() - began < TIMEOUT / 4
        assert done
        assert subscription(backend)._waiting == {}
