"""Connections: how a server is reached, how many are kept, and that none is leaked or gets the reply of another."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import quote

import pytest
import redis

from redicts import AccessDenied, Pool, Proxy, Unreachable, root
from redicts.backends.redis.backend import open_redis
from redicts.backends.redis.settings import RedisSettings
from redicts.core.minitransaction import Add, Put, Read, Transaction
from tests.backends.redis_tools import (
    clients,
    configuration,
    contents,
    data,
    front,
    front_with,
    key,
    opened,
    opened_with,
    values,
    write,
)
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer, StartRedis
from tests.support.waiting import TIMEOUT, eventually

PASSWORD: Final = "p%40:/ @ss?#w\u00f6rd"
"""Has every kind of character that must be escaped in a URL."""


def examine_use(tree: Proxy) -> None:
    """Write and read something."""
    tree.set("a.b", {"c": 1})
    assert tree["a.b.c"].add(1) == 2
    assert tree.val() == {"a": {"b": {"c": 2}}}


# Addresses and credentials ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["field", "url"])
def test_a_unix_socket(redis_server: RedisServer, form: str) -> None:
    """The backend connects through a Unix socket that the settings or a URL name."""
    path = str(redis_server.socket_path)
    cfg = {"unix_socket": path} if form == "field" else f"unix://{quote(path)}"
    with front_with(cfg) as tree:
        examine_use(tree)
        listed = redis_server.command("CLIENT", "LIST")
        assert isinstance(listed, bytes)
        assert listed.count(path.encode()) >= 2, "the client connects through the socket"
    with opened_with({"unix_socket": path}) as backend:
        assert backend.address == {"path": path, "db": 0}


@pytest.mark.parametrize("form", ["field", "url"])
def test_a_unix_socket_with_a_database(redis_server: RedisServer, form: str) -> None:
    """A URL of a socket names the database as a parameter."""
    path = str(redis_server.socket_path)
    cfg: Any = {"unix_socket": path, "database": 3} if form == "field" else f"unix://{quote(path)}?database=3"
    with front_with(cfg) as tree:
        examine_use(tree)
    assert contents(redis_server).data() == {}
    assert contents(redis_server, 3).data().keys() == {b"v:", b"v:.a", b"v:.a.b"}


def test_urls_with_and_without_a_database(redis_server: RedisServer) -> None:
    """``redis://host:port/number``: without the number it is database 0."""
    base = f"redis://{redis_server.host}:{redis_server.port}"
    for number, ending in {0: "", 5: "/5", 7: "?database=7"}.items():
        with front_with(base + ending) as tree:
            tree.set("number", number)
        assert contents(redis_server, number).data() == {b"v:": {b"number": b"%d" % number}}
    with front_with({"url": base + "/5", "prefix": "app:"}) as tree:
        tree.set("number", 8)
    assert contents(redis_server, 5).data(b"app:").keys() >= {b"v:", b"app:v:"}


def test_named_databases(redis_server: RedisServer) -> None:
    """Each name of the settings stands for a number, and each number has a tree of its own."""
    with front(redis_server, database=2, names={"persons": 4}) as tree:
        tree.set("a", 1)
        root(db_name="persons").set("a", 2)
        assert tree.val() == {"a": 1}
        assert root(db_name="persons").val() == {"a": 2}
    assert contents(redis_server, 2).data() == {b"v:": {b"a": b"1"}}
    assert contents(redis_server, 4).data() == {b"v:": {b"a": b"2"}}


@pytest.mark.parametrize("form", ["fields", "url"])
@pytest.mark.parametrize("user", [None, "w\u00f6rker:1"])
def test_user_and_password(start_redis: StartRedis, user: str | None, form: str) -> None:
    """User and password are used as they are, and unescaped from a URL."""
    secret = "".join(f"\\x{byte:02x}" for byte in PASSWORD.encode())
    acl = f'"w\\xc3\\xb6rker:1" on ">{secret}" allkeys allcommands'
    server = start_redis(password=PASSWORD, acl=[acl])
    cfg: Any = configuration(server, username=user, password=PASSWORD)
    if form == "url":
        cfg = f"redis://{quote(user or '', '')}:{quote(PASSWORD, '')}@{server.host}:{server.port}/0"
    with front_with(cfg) as tree:
        examine_use(tree)


@pytest.mark.parametrize("form", ["fields", "url"])
def test_tls(tls_server: RedisServer, form: str) -> None:
    """With the authority's certificate the connection is encrypted and the server's name checked."""
    ca = {"tls_ca_file": str(tls_server.certificate)}
    cfg: Any = configuration(tls_server, tls=True, password="secret", **ca)
    if form == "url":
        cfg = {"url": f"rediss://:secret@localhost:{tls_server.port}/0", **ca}
    with front_with(cfg) as tree:
        examine_use(tree)


def test_tls_never_falls_back(tls_server: RedisServer) -> None:
    """Without the authority's certificate, or without TLS, connecting fails and nothing is written."""
    for wrong in ({"tls": True}, {"tls": False}):
        settings = configuration(tls_server, password="secret", socket_timeout_secs=2, retries=0, **wrong)
        with opened_with(settings) as backend, pytest.raises(Unreachable, match=str(tls_server.port)):
            write(backend, Put(key("a"), b"1"))
    assert data(tls_server) == {}


def test_tls_checks_the_name_of_the_server(tls_server: RedisServer) -> None:
    """The name in the certificate must be the server's, unless the settings say that it need not."""
    # A way to write 127.0.0.1 that is not the name in the certificate.
    settings = {"host": "127.1", "port": tls_server.port, "tls": True, "password": "secret", "retries": 0}
    settings["tls_ca_file"] = str(tls_server.certificate)
    with opened_with(settings) as backend, pytest.raises(Unreachable, match=r"127\.1"):
        write(backend, Put(key("a"), b"1"))
    with opened_with(settings | {"tls_check_hostname": False}) as backend:
        assert write(backend, Put(key("a"), b"1")).applied
    nobody_trusted = settings | {"tls_ca_file": None, "tls_check_hostname": False}
    with opened_with(nobody_trusted) as backend, pytest.raises(Unreachable):
        write(backend, Put(key("a"), b"1"))


# How many connections --------------------------------------------------------------------------------------------


def test_no_more_connections_than_set(redis_server: RedisServer, faulty_proxy: FaultyProxy) -> None:
    """Threads beyond ``max_connections`` wait for a connection, and all their requests succeed."""
    threads, most = 12, 3
    with opened(faulty_proxy, max_connections=most) as backend, ThreadPoolExecutor(threads) as pool:
        backend.execute(Transaction())  # finds out how this server is called, which may take several requests
        faulty_proxy.hold_requests(most)
        counting = [pool.submit(write, backend, Add(key("n"), 1)) for _ in range(threads)]
        faulty_proxy.wait_until_held(most)
        assert clients(redis_server) == most
        faulty_proxy.release_held()
        assert sorted(each.result(TIMEOUT).counters[0] for each in counting) == list(range(1, threads + 1))
        assert faulty_proxy.connections <= most


def test_a_connection_is_kept_and_used_again(redis_server: RedisServer, faulty_proxy: FaultyProxy) -> None:
    """One thread uses one connection, made by its first request."""
    with opened(faulty_proxy) as backend:
        assert faulty_proxy.connections == 0
        for _ in range(20):
            write(backend, Add(key("n"), 1))
        assert faulty_proxy.connections == 1
        assert clients(redis_server) == 1


def test_failures_leak_no_connection(faulty_proxy: FaultyProxy) -> None:
    """After any number of failures, ``max_connections`` requests can still be under way."""
    with opened(faulty_proxy, max_connections=2, timeout_secs=5, retries=0) as backend:
        for _ in range(5):
            faulty_proxy.drop_replies()
            with pytest.raises(Unreachable):
                write(backend, Add(key("n"), 1))
        faulty_proxy.refuse()
        faulty_proxy.cut_all()
        for _ in range(5):
            with pytest.raises(Unreachable):
                write(backend, Add(key("n"), 1))
        faulty_proxy.accept()
        faulty_proxy.hold_requests(2)
        with ThreadPoolExecutor(2) as pool:
            counting = [pool.submit(write, backend, Add(key("n"), 1)) for _ in range(2)]
            faulty_proxy.wait_until_held(2)
            faulty_proxy.release_held()
            assert sorted(each.result(TIMEOUT).counters[0] for each in counting) == [6, 7]


def test_close_leaves_no_connection(redis_server: RedisServer, faulty_proxy: FaultyProxy) -> None:
    """close() ends the idle connections at once and the others with their requests. Calling it twice is harmless."""
    with opened(faulty_proxy) as backend, ThreadPoolExecutor(3) as pool:
        backend.execute(Transaction())  # finds out how this server is called, which may take several requests
        faulty_proxy.hold_requests(3)
        counting = [pool.submit(write, backend, Add(key("n"), 1)) for _ in range(3)]
        faulty_proxy.wait_until_held(3)
        backend.close()
        backend.close()
        assert clients(redis_server) == 3, "close() lets requests finish"
        faulty_proxy.release_held()
        assert sorted(each.result(TIMEOUT).counters[0] for each in counting) == [1, 2, 3]
        eventually(lambda: clients(redis_server) == 0, "no connection is left")
        write(backend, Add(key("n"), 1))
        eventually(lambda: clients(redis_server) == 0, "a late request leaves none either")


def test_reload_leaves_no_connection(redis_server: RedisServer) -> None:
    """Each reload closes the connections of the previous settings, including those of ``get_connection``."""
    for _ in range(5):
        with front(redis_server) as tree:
            tree.set("a", 1)
            client = Pool().get_connection()
            assert client.hget("v:", "a") == b"1"
            assert clients(redis_server) >= 1
    del client
    eventually(lambda: clients(redis_server) == 0, "no connection is left")


def test_reload_under_load_fails_no_call(redis_server: RedisServer) -> None:
    """While the settings are replaced repeatedly, every call of other threads succeeds and is applied once."""
    threads, each = 4, 150
    with front(redis_server, retries=0) as tree, ThreadPoolExecutor(threads) as pool:
        started = threading.Barrier(threads + 1)

        def count() -> None:
            started.wait(TIMEOUT)
            for _ in range(each):
                root()["n"].add(1)

        counting = [pool.submit(count) for _ in range(threads)]
        started.wait(TIMEOUT)
        reloads = 0
        while not all(one.done() for one in counting):
            Pool().reload(cfg=configuration(redis_server, retries=0))
            reloads += 1
        for one in counting:
            one.result(TIMEOUT)
        assert reloads >= 2
        assert tree["n"].val() == threads * each
    eventually(lambda: clients(redis_server) == 0, "no connection is left")


def test_closing_during_a_call_does_not_fail_it(redis_server: RedisServer, faulty_proxy: FaultyProxy) -> None:
    """A request succeeds on a connection that another thread has just kept while a third one closes the backend."""
    with opened(faulty_proxy, max_connections=1, retries=0) as backend, ThreadPoolExecutor(2) as pool:
        write(backend, Put(key("n"), b"0"))
        faulty_proxy.hold_requests(2)
        first = pool.submit(write, backend, Add(key("n"), 1))
        faulty_proxy.wait_until_held()
        second = pool.submit(write, backend, Add(key("n"), 1))
        backend.close()
        faulty_proxy.release_held()
        assert first.result(TIMEOUT).counters == (1,)
        faulty_proxy.wait_until_held()
        backend.close()
        faulty_proxy.release_held()
        assert second.result(TIMEOUT).counters == (2,)
        eventually(lambda: clients(redis_server) == 0, "no connection is left")


def test_a_client_of_redis_py(redis_server: RedisServer) -> None:
    """``get_connection`` gives a client for the same database, with the same password and the same settings."""
    with front(redis_server, database=5) as tree:
        tree.set("a.b", 42)
        client = Pool().get_connection()
        assert isinstance(client, redis.Redis)
        assert client.hget("v:.a", "b") == b"42"


# Interruptions ---------------------------------------------------------------------------------------------------


class Interrupted(BaseException):
    """Stands for Ctrl-C."""


@contextlib.contextmanager
def interrupting() -> Iterator[None]:
    """Have SIGUSR1 raise an exception in the main thread, as Ctrl-C does."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def interrupt_when_held(proxy: FaultyProxy) -> threading.Thread:
    """Start a thread that interrupts the main one as soon as its request is under way."""

    def wait_and_interrupt() -> None:
        proxy.wait_until_held()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    thread = threading.Thread(target=wait_and_interrupt)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", ["read", "write"])
def test_the_reply_of_an_interrupted_call_reaches_no_other_call(
    redis_server: RedisServer, faulty_proxy: FaultyProxy, kind: str
) -> None:
    """After Ctrl-C between request and reply, later calls get their own replies and the late request is not applied."""
    reading = Transaction(reads=(Read(key("a")),))
    transaction = reading if kind == "read" else Transaction(writes=(Put(key("n"), b"interrupted"),))
    with opened(faulty_proxy, max_connections=1, timeout_secs=5) as backend, interrupting():
        write(backend, Put(key("a"), b"a"), Put(key("b"), b"b"), Put(key("n"), b"1"))
        for count in range(5):
            faulty_proxy.hold_requests()
            thread = interrupt_when_held(faulty_proxy)
            with pytest.raises(Interrupted):
                backend.execute(transaction)
            thread.join(TIMEOUT)
            for _ in range(2):
                assert values(backend, "b") == {(): b"b"}
                assert write(backend, Put(key("n"), b"%d" % count)).applied
            faulty_proxy.release_held()
            assert data(redis_server) == {b"v:": {b"a": b"a", b"b": b"b", b"n": b"%d" % count}}
        # The server may notice later that a connection is closed.
        eventually(lambda: clients(redis_server) <= 1, "the interrupted call leaves no connection")


@pytest.mark.parametrize("when", ["before it is sent", "before the reply is read", "after the reply is read"])
def test_an_interruption_at_each_step(redis_server: RedisServer, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a signal before the request is sent, before the reply is read, and after that."""
    connection: Any = redis.Connection

    def send(self: Any, command: Any, check_health: bool = True) -> None:
        if armed and when == "before it is sent":
            armed.clear()
            raise KeyboardInterrupt
        real_send(self, command, check_health)

    def read(self: Any, *arguments: Any, **named: Any) -> Any:
        if armed and when == "before the reply is read":
            armed.clear()
            raise KeyboardInterrupt
        reply = real_read(self, *arguments, **named)
        if armed and when == "after the reply is read":
            armed.clear()
            raise KeyboardInterrupt
        return reply

    armed: list[bool] = []
    real_send, real_read = connection.send_packed_command, connection.read_response
    with opened(redis_server, max_connections=1, timeout_secs=5) as backend:
        write(backend, Put(key("a"), b"a"), Put(key("n"), b"0"))
        monkeypatch.setattr(connection, "send_packed_command", send)
        monkeypatch.setattr(connection, "read_response", read)
        for count in range(1, 4):
            armed.append(True)
            with pytest.raises(KeyboardInterrupt):
                values(backend, "a")
            assert write(backend, Add(key("n"), 1)).counters == (count,)
            assert values(backend, "n") == {(): b"%d" % count}
        assert clients(redis_server) == 1


def test_threads_get_their_own_replies(redis_server: RedisServer) -> None:
    """Many threads on few connections get their own replies."""
    threads, each = 8, 150
    with opened(redis_server, max_connections=3) as backend, ThreadPoolExecutor(threads) as pool:

        def talk(thread: int) -> None:
            for number in range(each):
                value = b"%d of %d" % (number, thread)
                write(backend, Put(key("t", str(thread)), value))
                assert values(backend, "t", str(thread)) == {(): value}

        for one in [pool.submit(talk, thread) for thread in range(threads)]:
            one.result(TIMEOUT)


def test_a_backend_without_references_leaves_no_connection(redis_server: RedisServer) -> None:
    """Deleting the last reference to a backend closes its connections."""
    backend = open_redis(RedisSettings.model_validate(configuration(redis_server)).options(), 0)
    write(backend, Put(key("a"), b"1"))
    assert clients(redis_server) == 1
    del backend
    gc.collect()
    eventually(lambda: clients(redis_server) == 0, "no connection is left")


def test_a_wrong_password_leaves_no_connection(start_redis: StartRedis) -> None:
    """A refused connection is closed, each time."""
    server = start_redis(password="right")
    with opened(server, password="wrong", max_connections=2, timeout_secs=1) as backend:
        for _ in range(5):
            with pytest.raises(AccessDenied):
                write(backend, Put(key("a"), b"1"))
        eventually(lambda: clients(server) == 0, "no connection is left")
