"""Rules of the fault proxy: a lost reply was executed, a held request arrives late, and faults hit only data."""

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
    """A minimal client: one connection, one message at a time."""

    def __init__(self, port: int) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), 10)
        self._stream: BinaryIO = self.connection.makefile("rb")

    def send(self, *words: str | int) -> None:
        self.connection.sendall(request(*words))

    def receive(self) -> Message:
        return read_message(self._stream)

    def ask(self, *words: str | int) -> object:
        """Send a request, and return the value of its reply."""
        self.send(*words)
        return self.receive().value

    def rest(self) -> bytes:
        """Return the bytes that arrive before the connection ends."""
        return self._stream.read()

    def close(self) -> None:
        self._stream.close()
        self.connection.close()


@contextlib.contextmanager
def client_of(proxy: FaultyProxy) -> Iterator[Client]:
    """Connect to the proxy until the end of the block."""
    client = Client(proxy.port)
    try:
        yield client
    finally:
        client.close()


def test_without_a_plan_the_proxy_only_forwards(faulty_proxy: FaultyProxy) -> None:
    """Requests, pipelines, large values and errors pass unchanged."""
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
    """The client's connection ends without a byte, and the server has executed the request."""
    faulty_proxy.drop_replies()
    with client_of(faulty_proxy) as client:
        client.send("INCR", "n")
        assert client.rest() == b""
    assert redis_server.command("GET", "n") == b"1"
    assert faulty_proxy.pending == 0
    with client_of(faulty_proxy) as client:
        assert client.ask("INCR", "n") == 2


def test_each_dropped_reply_belongs_to_one_request(faulty_proxy: FaultyProxy, redis_server: RedisServer) -> None:
    """drop_replies(n) hits n requests, on any connections, after those that pass_requests lets through."""
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


def test_the_rest_of_a_pipeline_is_executed_after_a_dropped_reply(
    faulty_proxy: FaultyProxy, redis_server: RedisServer
) -> None:
    """The server gets the whole pipeline, and the client gets nothing after the fault."""
    faulty_proxy.pass_requests()
    faulty_proxy.drop_replies()
    with client_of(faulty_proxy) as client:
        client.connection.sendall(request("INCR", "n") * 3)
        assert client.rest() == b":1\r\n"
    eventually(lambda: redis_server.command("GET", "n") == b"3", "the pipeline is executed")


@pytest.mark.parametrize("after", [0, 1, 6])
def test_a_cut_reply_ends_after_the_given_number_of_bytes(
    faulty_proxy: FaultyProxy, redis_server: RedisServer, after: int
) -> None:
    """Only the first bytes of the reply reach the client."""
    redis_server.command("SET", "a", "value")
    faulty_proxy.cut_replies(after=after)
    with client_of(faulty_proxy) as client:
        client.send("GET", "a")
        assert client.rest() == b"$5\r\nvalue\r\n"[:after]


def test_faults_ignore_commands_that_set_up_a_connection(faulty_proxy: FaultyProxy, redis_server: RedisServer) -> None:
    """A fault waits for the first data request, and setup commands are not counted."""
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
    """NOSCRIPT says that nothing was executed, so it reaches the client, and the next reply is lost."""
    faulty_proxy.drop_replies()
    with client_of(faulty_proxy) as client:
        client.send("EVALSHA", "0" * 40, 1, "n")
        assert client.receive().raw.startswith(b"-NOSCRIPT")
        client.send("EVAL", "return redis.call('INCR', KEYS[1])", 1, "n")
        assert client.rest() == b""
    assert redis_server.command("GET", "n") == b"1"


def test_a_held_request_is_executed_when_it_is_released(faulty_proxy: FaultyProxy, redis_server: RedisServer) -> None:
    """A held request does not reach the server and delays no other; released, it is executed and answered."""
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
    """It is executed after its client gave up and sent another request."""
    faulty_proxy.hold_requests()
    with client_of(faulty_proxy) as client:
        client.send("APPEND", "log", "late ")
        faulty_proxy.wait_until_held()
    with client_of(faulty_proxy) as client:
        assert client.ask("APPEND", "log", "early ") == len("early ")
    faulty_proxy.release_held()
    assert redis_server.command("GET", "log") == b"early late "


def test_close_abandons_held_requests(redis_server: RedisServer) -> None:
    """They are never executed."""
    with FaultyProxy(redis_server.port) as proxy:
        proxy.hold_requests()
        with client_of(proxy) as client:
            client.send("INCR", "n")
            proxy.wait_until_held()
    assert redis_server.command("GET", "n") is None


def test_release_does_not_wait_for_a_server_that_ended(start_redis: StartRedis) -> None:
    """A held request gets no answer when its server is gone."""
    server = start_redis()
    with FaultyProxy(server.port) as proxy, client_of(proxy) as client:
        proxy.hold_requests()
        client.send("INCR", "n")
        proxy.wait_until_held()
        server.kill()
        proxy.release_held()
        assert client.rest() == b""


def test_refused_connections_are_refused_and_accepted_again(faulty_proxy: FaultyProxy) -> None:
    """refuse() refuses new connections only, and the port stays the same."""
    with client_of(faulty_proxy) as client:
        assert client.ask("INCR", "n") == 1
        faulty_proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            Client(faulty_proxy.port)
        assert client.ask("INCR", "n") == 2
        faulty_proxy.accept()
        with client_of(faulty_proxy) as other:
            assert other.ask("INCR", "n") == 3


def test_cut_all_ends_existing_connections(faulty_proxy: FaultyProxy) -> None:
    """Every client loses its connection, and can connect again."""
    with client_of(faulty_proxy) as first, client_of(faulty_proxy) as second:
        assert first.ask("PING") == second.ask("PING") == b"PONG"
        faulty_proxy.cut_all()
        for client in (first, second):
            with pytest.raises((StreamEnded, ConnectionError)):
                client.ask("PING")
    with client_of(faulty_proxy) as client:
        assert client.ask("PING") == b"PONG"


def test_clear_removes_planned_faults(faulty_proxy: FaultyProxy) -> None:
    """Requests after clear() are not hit."""
    faulty_proxy.drop_replies(5)
    faulty_proxy.clear()
    with client_of(faulty_proxy) as client:
        assert client.ask("INCR", "n") == 1


@pytest.mark.parametrize("protocol", [2, 3])
def test_messages_of_a_subscription_are_not_replies(
    faulty_proxy: FaultyProxy, redis_server: RedisServer, protocol: int
) -> None:
    """Published messages reach the client, and do not use up faults."""
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
    """With RESP3 a message may arrive before a reply: the message reaches the client, and the reply is lost."""
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
    """Maps, sets, doubles and nulls count as one reply each."""
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


def test_connections_end_with_the_server(start_redis: StartRedis) -> None:
    """While the server is down a new connection ends immediately; after a restart clients connect again."""
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


def test_close_ends_all_threads(redis_server: RedisServer) -> None:
    """They end although clients wait for replies, and the server is silent."""
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
