"""Outages: calls survive servers that stop, restart, close connections or hang, and are applied once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from redicts import StoreBusy, StoreTimeout, Unreachable
from redicts.backends.redis import RedisBackend
from redicts.core.minitransaction import Add, Delete, Put, Read, Scope, Transaction
from tests.backends.redis_tools import (
    clients,
    contents,
    data,
    examine_layout,
    front,
    key,
    opened,
    opened_with,
    values,
    write,
)
from tests.support.ports import bound_socket
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer, StartRedis
from tests.support.waiting import TIMEOUT, eventually

MANY: Final = 12


def open_many_connections(backend: RedisBackend, proxy: FaultyProxy) -> None:
    """Make the backend keep many connections, with as many requests under way at once."""
    before = proxy.connections
    proxy.hold_requests(MANY)
    with ThreadPoolExecutor(MANY) as threads:
        asked = [threads.submit(values, backend, "n") for _ in range(MANY)]
        proxy.wait_until_held(MANY)
        proxy.release_held()
        for each in asked:
            each.result(TIMEOUT)
    assert proxy.connections - before >= MANY - 1


def count_at_once(backend: RedisBackend) -> set[int]:
    """Count up by many threads at once, and return the sums that they got."""
    barrier = threading.Barrier(MANY)

    def count() -> int:
        barrier.wait(TIMEOUT)
        return write(backend, Add(key("n"), 1)).counters[0]

    with ThreadPoolExecutor(MANY) as threads:
        return {each.result(TIMEOUT) for each in [threads.submit(count) for _ in range(MANY)]}


@pytest.mark.parametrize("crash", [False, True], ids=["stop", "kill"])
def test_a_server_that_comes_back_is_used_again(start_redis: StartRedis, crash: bool) -> None:
    """After a restart the next call succeeds, also if the data is gone."""
    server = start_redis()
    with front(server) as tree:
        tree.set("a", 1)
        (server.kill if crash else server.stop)()
        server.restart()
        assert tree.val() is None
        assert tree["a"].add(1) == 1
        tree.set("b", {"c": [2]}, expire=900)
        assert tree.val() == {"a": 1, "b": {"c": [2]}}


def test_all_connections_may_be_stale_at_once(start_redis: StartRedis) -> None:
    """After a restart every kept connection is broken. All requests that meet one succeed and are applied once."""
    server = start_redis(append_only=True)
    with FaultyProxy(server.port) as proxy, opened(proxy) as backend:
        write(backend, Add(key("n"), 1))
        open_many_connections(backend, proxy)
        server.kill()
        server.restart()
        assert count_at_once(backend) == set(range(2, MANY + 2))
        server.kill()
        server.restart()
        for count in range(MANY):
            assert write(backend, Add(key("n"), 1)).counters == (MANY + 2 + count,)


@pytest.mark.parametrize("command", ["CLIENT KILL TYPE normal", ""])
def test_what_a_server_forgets_is_replaced(redis_server: RedisServer, command: str) -> None:
    """A connection that the server closed, and a script or library that it dropped, do not fail the next call."""
    with opened(redis_server) as backend:
        for count in range(5):
            assert write(backend, Add(key("n"), 1)).counters == (count + 1,)
            if command:
                redis_server.command(*command.split())
            else:
                redis_server.forget()
        assert values(backend, "n") == {(): b"5"}


def test_killed_connections_lose_no_count(redis_server: RedisServer) -> None:
    """While a server closes all connections repeatedly, threads go on counting exactly."""
    each, threads = 150, 4
    with opened(redis_server, retries=1_000) as backend, ThreadPoolExecutor(threads) as pool:
        done = [pool.submit(lambda: [write(backend, Add(key("n"), 1)) for _ in range(each)]) for _ in range(threads)]
        kills = 0
        while not all(one.done() for one in done) and kills < 40:
            redis_server.command("CLIENT", "KILL", "TYPE", "normal")
            kills += 1
        for one in done:
            one.result(TIMEOUT)
        assert kills
    assert data(redis_server) == {b"v:": {b"n": b"%d" % (each * threads)}}


def test_crashes_tear_no_transaction_and_repeat_none(start_redis: StartRedis) -> None:
    """What a server with an append-only file acknowledged is there after crashes, once and whole.

    Each transaction changes two counters, which stay equal. They are at least the number of calls that succeeded, and
    at most that plus the number of errors that say that the request may have been applied.
    """
    server = start_redis(append_only=True)
    acknowledged = doubtful = 0
    ended = threading.Event()
    lock = threading.Lock()

    def count(backend: RedisBackend) -> None:
        nonlocal acknowledged, doubtful
        while not ended.is_set():
            try:
                write(backend, Add(key("a", "n"), 1), Put(key("b"), b"x", 900_000), Add(key("c", "d", "n"), 1))
            except (Unreachable, StoreBusy) as error:  # busy loading its file
                with lock:
                    doubtful += error.maybe_applied
            else:
                with lock:
                    acknowledged += 1

    with opened(server) as backend, ThreadPoolExecutor(3) as threads:
        counting = [threads.submit(count, backend) for _ in range(3)]
        for _ in range(4):
            so_far = acknowledged
            eventually(lambda so_far=so_far: acknowledged > so_far + 20, "counting goes on")  # type: ignore[misc]
            server.kill()
            server.restart()
        so_far = acknowledged
        eventually(lambda: acknowledged > so_far + 20, "counting goes on after the last restart")
        ended.set()
        for each in counting:
            each.result(TIMEOUT)
    found = contents(server)
    examine_layout(found)
    first, second = found.keys[b"v:.a"], found.keys[b"v:.c.d"]
    assert isinstance(first, dict)
    assert first == second
    assert acknowledged <= int(first[b"n"]) <= acknowledged + doubtful


def test_a_repetition_after_a_restart_is_known(start_redis: StartRedis) -> None:
    """A restarted server recognizes a repeated request if its data survived."""
    server = start_redis(append_only=True)
    # The request may be sent again before the server is back, more often than usual retries allow.
    with FaultyProxy(server.port) as proxy, opened(proxy, socket_timeout_secs=5, retries=50) as backend:
        write(backend, Put(key("taken"), b"first"))
        proxy.drop_replies()
        proxy.hold_requests()
        with ThreadPoolExecutor(1) as thread:
            taking = thread.submit(
                backend.execute,
                Transaction((), (Read(key("taken")),), (Delete(key("taken"), Scope.SUBTREE), Add(key("n"), 1))),
            )
            proxy.wait_until_held()
            assert data(server) == {b"v:": {b"n": b"1"}}
            server.kill()
            server.restart()
            assert data(server) == {b"v:": {b"n": b"1"}}
            proxy.cut_all()
            outcome = taking.result(TIMEOUT)
        assert outcome.answers[0].values == {(): b"first"}  # type: ignore[union-attr]
        assert outcome.counters == (1,)
        assert data(server) == {b"v:": {b"n": b"1"}}


def test_a_server_that_is_down_is_unreachable(start_redis: StartRedis) -> None:
    """Without a server, the error names host and port and what to do. Calls succeed again after a restart."""
    server = start_redis()
    with opened(server) as backend:
        write(backend, Add(key("n"), 1))
        server.stop()
        started = time.monotonic()
        with pytest.raises(Unreachable, match=f"{server.host}:{server.port}.*start it or correct host and port"):
            write(backend, Add(key("n"), 1))
        assert time.monotonic() - started < TIMEOUT
        server.restart()
        assert write(backend, Add(key("n"), 1)).counters == (1,)


def test_a_paused_server_is_a_timeout(start_redis: StartRedis) -> None:
    """A hanging server costs ``socket_timeout_secs`` per attempt, and applies what it received at most once."""
    server = start_redis()
    with opened(server, socket_timeout_secs=0.3, retries=1) as backend:
        write(backend, Add(key("n"), 1))
        server.pause()
        started = time.monotonic()
        with pytest.raises(StoreTimeout, match=f"{server.host}:{server.port}.*may have been carried out") as failed:
            write(backend, Add(key("n"), 1))
        assert 0.3 <= time.monotonic() - started < TIMEOUT
        assert failed.value.maybe_applied
        server.resume()
        # The attempts in the server's sockets are applied once, or overtaken by the next request.
        eventually(lambda: clients(server) == 0, "the server has seen the given-up connections end")
        before = int(data(server)[b"v:"][b"n"])  # type: ignore[call-overload]
        assert before in {1, 2}
        assert write(backend, Add(key("n"), 1)).counters == (before + 1,)


def test_a_host_that_accepts_and_never_answers_is_a_timeout() -> None:
    """The timeouts bound the handshake of a new connection too."""
    with bound_socket() as listener:
        listener.listen()
        host, port = listener.getsockname()
        settings = {"host": host, "port": port, "socket_timeout_secs": 0.1, "connect_timeout_secs": 0.1, "retries": 1}
        with opened_with(settings) as backend, pytest.raises(StoreTimeout, match=f"{host}:{port}"):
            write(backend, Add(key("n"), 1))


def test_a_full_queue_of_connections_is_a_timeout() -> None:
    """A host that does not accept costs ``connect_timeout_secs`` per attempt."""
    with bound_socket() as listener, bound_socket() as one, bound_socket() as two:
        listener.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        host, port = listener.getsockname()
        settings = {"host": host, "port": port, "socket_timeout_secs": 5, "connect_timeout_secs": 0.1, "retries": 1}
        with opened_with(settings) as backend, pytest.raises(StoreTimeout, match=f"{host}:{port}") as failed:
            write(backend, Add(key("n"), 1))
        assert not failed.value.maybe_applied
