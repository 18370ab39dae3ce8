"""The rules of the faulty proxy: what is lost was executed, what is held comes late, and only data is hit."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from tests.support.proxy import FaultyProxy
from tests.support.resp import Message, StreamEnded, read_message, request
from tests.support.servers import RedisServer, StartRedis
from tests.support.waiting import eventually


class Client:
    """The smallest client: a connection, and one message at a time."""

    def __init__(self, port: int) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), 10)
        self._stream: BinaryIO = self.connection.makefile("rb")

    def send(self, *words: str | int) -> None:
        self.connection.sendall(request(*words))

    def receive(self) -> Message:
        return read_message(self._stream)

    def ask(self, *words: str | int) -> object:
        """Send, receive, and return what the reply says."""
        self.send(*words)
        return self.receive().value

    def rest(self) -> bytes:
        """Return all that comes before the connection ends."""
        return self._stream.read()

    def close(self) -> None:
        self._stream.close()
        self.connection.close()


@contextlib.contextmanager
def client_of(proxy: FaultyProxy) -> Iterator[Client]:
    """Connect to the proxy for a block."""
    client = Client(proxy.port)
    try:
        yield client
    finally:
        client.close()


def test_without_a_plan_it_only_forwards(faulty_proxy: FaultyProxy) -> None:
    """Requests, pipelines, large values and errors go through byte by byte."""
    large = "x" * 3_000_000
    with client_of(faulty_proxy) as client:
        assert client.ask("SET", "a", large) == b"OK"
        assert client.ask("GET", "a") == large.encode()
        client.send("INCR", "n")
        client.send("INCR", "a")
        client.send("LRANGE", "none", 0, -1)
        assert client.receive().raw == b":1\r\n"
        assert client.receive().is_error
        assert client.receive().value == []
    assert faulty_proxy.requests == 5
    assert faulty_proxy.connections == 1


def test_a_dropped_reply_belongs_to_an_executed_request(faulty_proxy: FaultyProxy, redis_server: RedisServer) -> None:
    """The client sees its connection end without one byte, and the server has done what was asked."""
    faulty_proxy.drop_replies()
    with client_of(faulty_proxy) as client:
        client.send("INCR", "n")
        assert client.rest() == b""
    assert redis_server.command("GET", "n") == b"1"
    assert faulty_proxy.pending == 0
    with client_of(faulty_proxy) as client:
        assert client.ask("INCR", "n") == 2


def test_each_dropped_reply_is_one_of_a_request(faulty_proxy: FaultyProxy, redis_server: RedisServer) -> None:
    """drop_replies(n) hits n requests, be they on as many connections, after those that pass_requests lets by."""
    faulty_proxy.pass_requests(1)
    faulty_proxy.drop_replies(2)
    with client_of(faulty_proxy) as client:
        assert client.ask("INCR", "n") == 1
        client.send("INCR", "n")
        assert client.rest() == b""
    with client_of(faulty_proxy) as client:
        client.send("INCR", "n")
        assert client.rest() == b""
    with client_of(faulty_proxy) as client:
        assert client.ask("INCR", "n") == 4


def test_what_follows_a_dropped_reply_in_a_pipeline_is_executed(
    faulty_proxy: FaultyProxy, redis_server: RedisServer
) -> None:
    """A pipeline is one sequence of bytes: the server gets all of it, the client nothing from the fault on."""
    faulty_proxy.pass_requests()
    faulty_proxy.drop_replies()
    with client_of(faulty_proxy) as client:
        client.connection.sendall(request("INCR", "n") * 3)
        assert client.rest() == b":1\r\n"
    eventually(lambda: redis_server.command("GET", "n") == b"3", "the pipeline is executed")


@pytest.mark.parametrize("after", [0, 1, 6])
def test_a_cut_reply_ends_after_so_many_bytes(faulty_proxy: FaultyProxy, redis_server: RedisServer, after: int) -> None:
    """The first bytes of the reply reach the client, the rest never does."""
    redis_server.command("SET", "a", "value")
    faulty_proxy.cut_replies(after=after)
    with client_of(faulty_proxy) as client:
        client.send("GET", "a")
        assert client.rest() == b"$5\r\nvalue\r\n"[:after]


def test_commands_that_set_a_connection_up_are_passed_by(faulty_proxy: FaultyProxy, redis_server: RedisServer) -> None:
    """A fault waits for the first data request, and set-up commands are not counted."""
    faulty_proxy.drop_replies()
    with client_of(faulty_proxy) as client:
        assert client.ask("hello", 2)
        assert client.ask("CLIENT", "SETNAME", "me") == b"OK"
        assert client.ask("SELECT", 0) == b"OK"
        assert client.ask("PING") == b"PONG"
        digest = client.ask("SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1])")
        assert isinstance(digest, bytes)
        assert (faulty_proxy.requests, faulty_proxy.pending) == (0, 1)
        client.send("EVALSHA", digest.decode(), 1, "n")
        assert client.rest() == b""
    assert faulty_proxy.requests == 1
    assert redis_server.command("GET", "n") == b"1"


def test_a_refused_script_does_not_use_up_the_fault(faulty_proxy: FaultyProxy, redis_server: RedisServer) -> None:
    """NOSCRIPT means that nothing was executed, so it reaches the client and the next reply is lost."""
    faulty_proxy.drop_replies()
    with client_of(faulty_proxy) as client:
        client.send("EVALSHA", "0" * 40, 1, "n")
        assert client.receive().raw.startswith(b"-NOSCRIPT")
        client.send("EVAL", "return redis.call('INCR', KEYS[1])", 1, "n")
        assert client.rest() == b""
    assert redis_server.command("GET", "n") == b"1"


def test_a_held_request_is_executed_when_it_is_released(faulty_proxy: FaultyProxy, redis_server: RedisServer) -> None:
    """Held, it has not reached the server; released, it is executed and answered; others are not delayed."""
    faulty_proxy.hold_requests()
    with client_of(faulty_proxy) as client, client_of(faulty_proxy) as other:
        client.send("INCR", "n")
        faulty_proxy.wait_until_held()
        assert other.ask("GET", "n") is None
        faulty_proxy.release_held()
        assert redis_server.command("GET", "n") == b"1"
        assert client.receive().value == 1
    assert faulty_proxy.held == 0


def test_a_held_request_outlives_its_client(faulty_proxy: FaultyProxy, redis_server: RedisServer) -> None:
    """A client that gave up, and asked again elsewhere, is overtaken by its own past."""
    faulty_proxy.hold_requests()
    with client_of(faulty_proxy) as client:
        client.send("APPEND", "log", "late ")
        faulty_proxy.wait_until_held()
    with client_of(faulty_proxy) as client:
        assert client.ask("APPEND", "log", "early ") == len("early ")
    faulty_proxy.release_held()
    assert redis_server.command("GET", "log") == b"early late "


def test_a_request_that_is_never_released_is_never_executed(redis_server: RedisServer) -> None:
    """close() gives up what is held."""
    with FaultyProxy(redis_server.port) as proxy:
        proxy.hold_requests()
        with client_of(proxy) as client:
            client.send("INCR", "n")
            proxy.wait_until_held()
    assert redis_server.command("GET", "n") is None


def test_a_held_request_of_a_server_that_is_gone_is_over(start_redis: StartRedis) -> None:
    """Released, it gets no answer any more, and nobody waits for one."""
    server = start_redis()
    with FaultyProxy(server.port) as proxy, client_of(proxy) as client:
        proxy.hold_requests()
        client.send("INCR", "n")
        proxy.wait_until_held()
        server.kill()
        proxy.release_held()
        assert client.rest() == b""


def test_refused_connections_are_refused_and_accepted_again(faulty_proxy: FaultyProxy) -> None:
    """refuse() is what a host without a server does; connections that exist live on; the port stays the same."""
    with client_of(faulty_proxy) as client:
        assert client.ask("INCR", "n") == 1
        faulty_proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            Client(faulty_proxy.port)
        assert client.ask("INCR", "n") == 2
        faulty_proxy.accept()
        with client_of(faulty_proxy) as other:
            assert other.ask("INCR", "n") == 3


def test_cut_all_ends_the_connections_that_exist(faulty_proxy: FaultyProxy) -> None:
    """Every client sees the end of its connection, and can connect again."""
    with client_of(faulty_proxy) as first, client_of(faulty_proxy) as second:
        assert first.ask("PING") == second.ask("PING") == b"PONG"
        faulty_proxy.cut_all()
        for client in (first, second):
            with pytest.raises((StreamEnded, ConnectionError)):
                client.ask("PING")
    with client_of(faulty_proxy) as client:
        assert client.ask("PING") == b"PONG"


def test_a_cleared_plan_harms_nobody(faulty_proxy: FaultyProxy) -> None:
    """clear() forgets what no request has taken."""
    faulty_proxy.drop_replies(5)
    faulty_proxy.clear()
    with client_of(faulty_proxy) as client:
        assert client.ask("INCR", "n") == 1


@pytest.mark.parametrize("protocol", [2, 3])
def test_messages_of_a_subscription_are_no_replies(
    faulty_proxy: FaultyProxy, redis_server: RedisServer, protocol: int
) -> None:
    """Published messages reach the client, and do not take the faults of requests."""
    with client_of(faulty_proxy) as client, client_of(faulty_proxy) as other:
        client.ask("HELLO", protocol)
        faulty_proxy.drop_replies()
        assert client.ask("SUBSCRIBE", "news") == [b"subscribe", b"news", 1]
        redis_server.command("PUBLISH", "news", "one")
        redis_server.command("PUBLISH", "news", "two")
        assert client.receive().value == [b"message", b"news", b"one"]
        assert client.receive().value == [b"message", b"news", b"two"]
        other.send("INCR", "n")
        assert other.rest() == b""


def test_a_push_between_a_request_and_its_reply_is_not_the_reply(
    faulty_proxy: FaultyProxy, redis_server: RedisServer
) -> None:
    """With RESP3 a message may come while a reply is awaited: it reaches the client, and the reply is lost."""
    with client_of(faulty_proxy) as client:
        client.ask("HELLO", 3)
        client.ask("SUBSCRIBE", "news")
        faulty_proxy.drop_replies()
        client.send("BLPOP", "list", 0)
        eventually(lambda: redis_server.info("clients")["blocked_clients"] == "1", "the request waits in the server")
        redis_server.command("PUBLISH", "news", "one")
        assert client.receive().value == [b"message", b"news", b"one"]
        redis_server.command("RPUSH", "list", "a")
        assert client.rest() == b""


def test_replies_of_resp3_are_read_whole(faulty_proxy: FaultyProxy, redis_server: RedisServer) -> None:
    """Maps, sets, doubles, nulls and pushes between replies do not confuse requests and replies."""
    redis_server.command("HSET", "map", "a", "1")
    redis_server.command("SADD", "set", "a")
    redis_server.command("ZADD", "sorted", "1.5", "a")
    with client_of(faulty_proxy) as client:
        assert isinstance(client.ask("HELLO", 3), list)
        assert client.ask("HGETALL", "map") == [b"a", b"1"]
        assert client.ask("SMEMBERS", "set") == [b"a"]
        assert client.ask("ZSCORE", "sorted", "a") == b"1.5"
        client.send("GET", "none")
        assert client.receive().raw == b"_\r\n"
        faulty_proxy.cut_replies(after=4)
        client.send("HGETALL", "map")
        assert client.rest() == b"%1\r\n"


def test_the_end_of_the_server_is_the_end_of_the_connection(start_redis: StartRedis) -> None:
    """When the server goes, its clients see their connections end; a new one ends at once."""
    server = start_redis()
    with FaultyProxy(server.port) as proxy, client_of(proxy) as client:
        assert client.ask("PING") == b"PONG"
        server.kill()
        assert client.rest() == b""
        with client_of(proxy) as late:
            assert late.rest() == b""
        server.restart()
        with client_of(proxy) as again:
            assert again.ask("PING") == b"PONG"


def test_nothing_is_left_of_a_closed_proxy(redis_server: RedisServer) -> None:
    """All threads end with the block, whatever clients still hope for, even if the server is silent."""
    before = threading.active_count()
    proxy = FaultyProxy(redis_server.port)
    with client_of(proxy) as waiting, client_of(proxy) as held:
        with proxy:
            waiting.send("BLPOP", "never", 0)
            eventually(lambda: proxy.requests == 1, "the request is forwarded")
            proxy.hold_requests()
            held.send("GET", "a")
            proxy.wait_until_held()
        assert threading.active_count() == before
        assert waiting.rest() == held.rest() == b""
    proxy.close()
