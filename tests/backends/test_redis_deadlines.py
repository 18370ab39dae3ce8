"""Deadlines: a call with a timeout ends with it, whatever the server does, and silent subscriptions are replaced."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

import redicts
from redicts import LockTimeout, StoreTimeout, Unreachable
from redicts.backends.redis import RedisBackend, pubsub
from redicts.core import driver
from redicts.core.driver import Await, Listen, Pause, Steps, run
from redicts.core.minitransaction import Add, Put, Read, Transaction
from tests.backends.redis_tools import clients, configuration, key, opened, opened_with, values, write
from tests.backends.test_redis_pubsub import fresh_names, is_notified_by, listening, notify, subscribers
from tests.locks.locking import no_thread_is_left
from tests.support.ports import bound_socket
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer, StartRedis
from tests.support.waiting import TIMEOUT, eventually

SHORT: Final = 1.0
"""The timeout of the calls in seconds."""

LATEST: Final = 6.0
"""In how many seconds they end on a busy machine. Without a deadline they would take 10 or 40."""


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """Assert that a block takes about as long as the timeout."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < LATEST


def until_now(backend: RedisBackend, *writes: Any) -> Any:
    """Apply writes, with a deadline after the timeout."""
    return backend.execute_until(Transaction(writes=writes), time.monotonic() + SHORT)


def test_acquire_ends_with_its_timeout_on_a_server_that_hangs(start_redis: StartRedis) -> None:
    """By the default settings, ``acquire`` raises ``StoreTimeout`` when its timeout is over, and withdraws later."""
    server = start_redis()
    with redicts.open(configuration(server)) as db:
        db.root().set("a", 1)
        with db.lock("a", acquire_timeout=SHORT):
            pass
        server.pause()
        with in_time(), pytest.raises(StoreTimeout) as failed:
            db.lock("a", acquire_timeout=SHORT).acquire()
        assert failed.value.maybe_applied
        with in_time(), pytest.raises(StoreTimeout):
            db.lock("b").acquire(blocking=False)
        server.resume()
        eventually(lambda: not db.lock("").holders(), "what may have been acquired is withdrawn")
        assert db.lock("a").acquire(blocking=False)
        db.lock("a").release()
        no_thread_is_left()


def test_a_waiter_ends_with_its_timeout_on_a_server_that_hangs(start_redis: StartRedis) -> None:
    """The same for one that waits when the server stops to answer."""
    server = start_redis()
    with redicts.open(configuration(server)) as db:
        with db.lock("a"), ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(db.lock("a", acquire_timeout=2 * SHORT).acquire)
            eventually(lambda: db.lock("a").waiters(), "it waits")
            server.pause()
            with in_time(), pytest.raises((StoreTimeout, LockTimeout)):
                waiting.result(TIMEOUT)
            server.resume()
        eventually(lambda: not db.lock("").waiters(), "its records are withdrawn")
        no_thread_is_left()


def test_a_lock_that_stays_held_is_still_a_lock_timeout(server: RedisServer) -> None:
    """A server that answers gives ``LockTimeout``, at the timeout, and nothing is left."""
    with redicts.open(configuration(server)) as db, ThreadPoolExecutor(1) as other:
        other.submit(db.lock("a").acquire).result(TIMEOUT)
        for timeout in (0.05, SHORT):
            with in_time(), pytest.raises(LockTimeout):
                db.lock("a", acquire_timeout=timeout).acquire()
            assert not db.lock("a").waiters()
        other.submit(db.lock("a").release).result(TIMEOUT)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("kind", ["accepts and is silent", "does not accept", "is full"])
def test_connecting_ends_with_the_deadline(kind: str, tls: bool) -> None:
    """Whatever a host does instead of answering, a call ends with its deadline, by the default settings."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(bound_socket())
        listener.listen(0 if kind == "is full" else 5)
        if kind != "accepts and is silent":
            for _ in range(6):
                filler = stack.enter_context(bound_socket())
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
        host, port = listener.getsockname()
        backend = stack.enter_context(opened_with({"host": host, "port": port, "tls": tls, "password": "p"}))
        with in_time(), pytest.raises(StoreTimeout):
            until_now(backend, Put(key("a"), b"1"))
        with in_time(), pytest.raises(StoreTimeout):
            backend.listen_until(fresh_names(1)[0], time.monotonic() + SHORT)


def test_waiting_for_a_connection_ends_with_the_deadline(faulty_proxy: FaultyProxy) -> None:
    """A call with a deadline waits no longer for a free connection."""
    with opened(faulty_proxy, max_connections=1) as backend, ThreadPoolExecutor(1) as pool:
        write(backend, Put(key("a"), b"1"))
        faulty_proxy.hold_requests()
        slow = pool.submit(values, backend, "a")
        faulty_proxy.wait_until_held()
        with in_time(), pytest.raises(StoreTimeout, match="stayed in use"):
            until_now(backend, Put(key("a"), b"1"))
        faulty_proxy.release_held()
        assert slow.result(TIMEOUT) == {(): b"1"}


def test_repeating_ends_with_the_deadline(faulty_proxy: FaultyProxy) -> None:
    """Pauses and further attempts end with the deadline, however many retries are set."""
    with opened(faulty_proxy, retries=100_000) as backend:
        write(backend, Put(key("a"), b"1"))
        faulty_proxy.refuse()
        faulty_proxy.cut_all()
        with in_time(), pytest.raises(Unreachable, match="start it"):
            until_now(backend, Put(key("a"), b"1"))
        with in_time(), pytest.raises(Unreachable):
            backend.listen_until(fresh_names(1)[0], time.monotonic() + SHORT)


def test_nothing_is_sent_after_the_deadline(server: RedisServer) -> None:
    """A deadline that is over is an error before the request, and does no harm to the connection."""
    with opened(server) as backend:
        write(backend, Put(key("a"), b"1"))
        for _ in range(3):
            with pytest.raises(StoreTimeout) as failed:
                backend.execute_until(Transaction(writes=(Put(key("a"), b"2"),)), time.monotonic() - 1)
            assert not failed.value.maybe_applied
        assert values(backend, "a") == {(): b"1"}
        assert clients(server) == 1


def test_a_deadline_does_not_shorten_later_calls(server: RedisServer, faulty_proxy: FaultyProxy) -> None:
    """After a call with a short deadline, the next one on the same connection has its own timeout again."""
    with opened(faulty_proxy, retries=0, max_connections=1) as backend, ThreadPoolExecutor(1) as pool:
        for first in (SHORT, 60.0, SHORT):
            backend.execute_until(Transaction(writes=(Add(key("n"), 1),)), time.monotonic() + first)
        faulty_proxy.hold_requests()
        slow = pool.submit(values, backend, "n")
        faulty_proxy.wait_until_held()
        time.sleep(SHORT + 0.3)
        faulty_proxy.release_held()
        assert slow.result(TIMEOUT) == {(): b"3"}


def test_a_long_timeout_is_no_overflow(server: RedisServer) -> None:
    """Timeouts of a year, of centuries and without end wait, and are no ``OverflowError``."""
    with redicts.open(configuration(server)) as db:
        for timeout in (3e7, 1e12, 1e300, 10**400, math.inf, None):
            with ThreadPoolExecutor(1) as pool:
                lock = db.lock("a", acquire_timeout=timeout)
                with db.lock("a"):
                    waiting = pool.submit(lock.acquire)
                    eventually(lambda: db.lock("a").waiters(), "it waits")
                assert waiting.result(TIMEOUT)
                pool.submit(lock.release).result(TIMEOUT)
        for wrong in (math.nan, -1, -math.inf, "1", True):
            with pytest.raises(ValueError, match="acquire_timeout"):
                db.lock("a", acquire_timeout=wrong)  # type: ignore[arg-type]


# Silent subscriptions --------------------------------------------------------------------------------------------


class Deaf:
    """A forwarder between a client and a server, which can go silent as a host does that vanishes: without a FIN."""

    host: Final = "127.0.0.1"

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._listener = bound_socket()
        self._listener.listen()
        self.port: Final[int] = self._listener.getsockname()[1]
        self.connections = 0
        self._silent: set[int] = set()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def go_silent(self) -> None:
        """Forward nothing any more on the connections there are."""
        self._silent.update(range(self.connections))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((self._server.host, self._server.port))
                self._sockets += (client, server)
                number = self.connections
                self.connections += 1
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(one, other, number), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            while block := one.recv(1 << 16):
                if number not in self._silent:
                    other.sendall(block)
            if number not in self._silent:
                other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End all connections."""
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def deaf(server: RedisServer) -> Iterator[Deaf]:
    """Give a forwarder to the server."""
    with contextlib.closing(Deaf(server)) as forwarder:
        yield forwarder


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a silent subscription soon."""
    monkeypatch.setattr(pubsub, "_SILENCE_SECS", 0.1)


def test_a_subscription_to_a_host_that_vanished_is_replaced(soon: None, deaf: Deaf, server: RedisServer) -> None:
    """Listeners are notified that they may have missed something, and then reached over a new connection."""
    names = fresh_names(2)
    with (
        opened(server) as notifier,
        opened(deaf, socket_timeout_secs=1.0) as backend,
        listening(backend, names) as listeners,
        ThreadPoolExecutor(2) as pool,
    ):
        waiting = [pool.submit(each.wait, TIMEOUT) for each in listeners]
        deaf.go_silent()
        assert all(each.result(TIMEOUT / 2) for each in waiting), "they may have missed something"
        assert listeners[0].wait(TIMEOUT), "there is a new connection"
        for name, listener in zip(names, listeners):
            assert is_notified_by(listener, notifier, name)
        assert deaf.connections == 2


def test_waits_that_are_shorter_find_it_too(soon: None, deaf: Deaf) -> None:
    """The silence counts over several waits: waiters for a lock look every two seconds."""
    (name,) = fresh_names(1)
    with opened(deaf, socket_timeout_secs=0.3) as backend, backend.listen(name) as listener:
        deaf.go_silent()
        eventually(lambda: listener.wait(0.05), "it is notified of the loss", every=0)


def test_a_subscription_that_answers_is_kept(soon: None, deaf: Deaf, server: RedisServer) -> None:
    """However long nothing is published, the connection stays, and no listener is notified."""
    (name,) = fresh_names(1)
    with opened(deaf, socket_timeout_secs=5) as backend, backend.listen(name) as listener:

        def is_asked() -> bool:
            assert not listener.wait(0.1)
            asked = server.info("commandstats").get("cmdstat_subscribe", "calls=0,")
            return int(asked.split(",")[0].partition("=")[2]) > 2

        server.command("CONFIG", "RESETSTAT")
        eventually(is_asked, "it is asked again and again", every=0)
        notify(backend, name)
        assert listener.wait(TIMEOUT)
        assert len(subscribers(server)) == 1


def test_a_silent_subscription_needs_no_permission(soon: None, start_redis: StartRedis) -> None:
    """Asking needs no permission that listening does not need."""
    commands = "-@all +evalsha +eval +time +publish +subscribe +@read +@write"
    server = start_redis(acl=[f"worker on >secret ~* resetchannels &s:* {commands}"])
    (name,) = fresh_names(1)
    with opened(server, username="worker", password="secret") as backend, backend.listen(name) as listener:
        assert not listener.wait(0.5)
        notify(backend, name)
        assert listener.wait(TIMEOUT)
    refused = server.command("ACL", "LOG")
    assert isinstance(refused, list)
    # The user may not call functions, which the first call finds out where there are any.
    assert [entry for entry in refused if isinstance(entry, list) and b"fcall" not in entry] == []


# The driver ------------------------------------------------------------------------------------------------------


def test_the_driver_passes_a_deadline_only_with_a_timeout(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request of an operation with a timeout has one deadline. A wait extends it by half a second at most."""
    seen: list[float | None] = []
    execute: Callable[..., Any] = RedisBackend.execute

    def record(self: RedisBackend, transaction: Transaction, deadline: float | None = None) -> Any:
        seen.append(deadline)
        return execute(self, transaction)

    def steps() -> Steps[None]:
        yield Transaction(reads=(Read(key("a")),))
        yield Listen(fresh_names(1)[0])
        yield Await(0)
        yield Transaction(reads=(Read(key("a")),))

    monkeypatch.setattr(RedisBackend, "execute", record)
    monkeypatch.setattr(RedisBackend, "execute_until", record)
    with opened(server) as backend:
        run(steps(), backend)
        assert seen == [None, None]
        for timeout, least in ((100.0, 100.0), (0.0, driver.SHORTEST_SECS), (math.inf, math.inf)):
            before = time.monotonic()
            run(steps(), backend, timeout)
            after = time.monotonic()
            for deadline in seen[-2:]:
                assert deadline is not None
                assert before + least <= deadline <= after + least


def test_a_pause_after_the_deadline_is_a_store_timeout(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation that pauses and looks again does not do so for ever."""
    monkeypatch.setattr(driver, "SHORTEST_SECS", 0.0)

    def steps() -> Steps[None]:
        while True:
            yield Pause(0.01)

    with (
        opened(server) as backend,
        in_time(),
        pytest.raises(StoreTimeout, match="the timeout of the operation is over"),
    ):
        run(steps(), backend, 0.05)
