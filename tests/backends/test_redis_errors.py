"""Errors: each fault of a server, its users or its settings is one class of error, with a remedy and no secrets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis
import redis.asyncio
import redis.sentinel

from redicts import (
    AccessDenied,
    Lock,
    Pool,
    ReadOnly,
    RedictsError,
    SettingsError,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreTimeout,
    Unreachable,
    Unsupported,
    root,
)
from redicts.backends.redis import RedisBackend
from redicts.core.minitransaction import Add, Delete, Entries, Names, Put, Read, ReadNames, Scope, Transaction
from tests.backends.redis_tools import (
    GreetingStub,
    Stub,
    configuration,
    data,
    front,
    front_with,
    key,
    no_file,
    opened,
    opened_with,
    values,
    write,
)
from tests.backends.test_redis_forks import Child
from tests.support.ports import free_port
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisError, RedisServer, StartRedis
from tests.support.waiting import TIMEOUT, eventually

SECRET: Final = "s3cr3t-Marker"
VALUE: Final = "v4lue-Marker"
"""A part of a value, which no setting tells."""


def texts_of(error: BaseException) -> str:
    """Return everything that a log may show of an error."""
    return "\n".join([str(error), repr(error), repr(error.args), *traceback.format_exception(error)])


def examine(error: StoreError, *wanted: str) -> None:
    """Assert that an error has these texts, redis-py's error as its cause, and no secret."""
    text = texts_of(error)
    for each in wanted:
        assert each in str(error), str(error)
    assert isinstance(error.__cause__, Exception), "redis-py's error is the cause"
    assert not isinstance(error.__cause__, RedictsError)
    assert SECRET not in text


def at(target: Any) -> str:
    """Return how an error names a server."""
    return f"{target.host}:{target.port}"


def ask(backend: RedisBackend) -> None:
    """Read something."""
    values(backend, "a")


# No connection ---------------------------------------------------------------------------------------------------


def test_a_host_without_an_address() -> None:
    """The name service is at fault, or the name is wrong."""
    with opened_with({"host": "no-such-host.invalid", "retries": 0}) as backend, pytest.raises(Unreachable) as failed:
        ask(backend)
    assert "the name of the host cannot be resolved; correct host" in str(failed.value)


def calls_of_tasks(backend: RedisBackend) -> list[Callable[[], object]]:
    """Return a read and a subscription by tasks."""

    async def call(listens: bool) -> None:
        part = backend.for_asyncio()
        assert part is not None
        try:
            await (part.listen("client/1") if listens else part.execute(Transaction()))
        finally:
            part.close(True)

    return [lambda: asyncio.run(call(False)), lambda: asyncio.run(call(True))]


@pytest.mark.parametrize("host", ["no..name", "a" * 70])
def test_a_host_whose_name_is_not_valid(host: str) -> None:
    """A name that no name service is asked for, such as one with two dots, is one that cannot be resolved."""
    with opened_with({"host": host, "retries": 0}) as backend:
        for call in (lambda: ask(backend), lambda: backend.listen("client/1"), *calls_of_tasks(backend)):
            with pytest.raises(Unreachable) as failed:
                call()
            assert "the name of the host cannot be resolved; correct host" in str(failed.value)


def test_a_password_without_an_encoding(redis_server: RedisServer) -> None:
    """A password with surrogates, as the environment has for bytes that are not UTF-8, is a wrong one."""
    settings = {"host": redis_server.host, "port": redis_server.port, "password": f"{SECRET}\udc80", "retries": 0}
    with opened_with(settings) as backend:
        for call in (lambda: ask(backend), lambda: backend.listen("client/1"), *calls_of_tasks(backend)):
            with pytest.raises(AccessDenied) as failed:
                call()
            examine(failed.value, "correct username and password")


def test_a_refused_connection(redis_server: RedisServer) -> None:
    """Where no server listens, the error names host and port."""
    port = free_port()
    settings = {"host": "127.0.0.1", "port": port, "password": SECRET}
    with opened_with(settings) as backend, pytest.raises(Unreachable) as failed:
        ask(backend)
    examine(failed.value, f"127.0.0.1:{port}", "start it or correct host and port")
    assert isinstance(failed.value, ConnectionError)
    shown = "".join(traceback.format_exception(failed.value))
    assert shown.count("redis.exceptions.ConnectionError: ") == 1, "the traceback has the last attempt only"
    assert not isinstance(failed.value, StoreTimeout)


@pytest.mark.parametrize("name", ["socket", "ROOM", "BUSY.NOAUTH.READONLY"])
def test_a_missing_unix_socket(tmp_path: Path, name: str) -> None:
    """The error names the path, and words in it are not mistaken for an answer of the server."""
    path = no_file(tmp_path, name)
    with opened_with({"unix_socket": path, "password": SECRET}) as backend, pytest.raises(Unreachable) as failed:
        ask(backend)
    examine(failed.value, path)


def test_connections_that_always_break(faulty_proxy: FaultyProxy) -> None:
    """Connections that end without a reply are not a timeout."""
    with opened(faulty_proxy, retries=1) as backend:
        faulty_proxy.drop_replies(2)
        with pytest.raises(Unreachable) as failed:
            ask(backend)
        assert not isinstance(failed.value, StoreTimeout)
        examine(failed.value, at(faulty_proxy), "no connection")


def test_all_connections_in_use(faulty_proxy: FaultyProxy) -> None:
    """When no connection becomes free within ``timeout_secs``, the error says which settings to raise."""
    with opened(faulty_proxy, max_connections=1, timeout_secs=0.1, password=None) as backend:
        faulty_proxy.hold_requests()
        other = threading.Thread(target=ask, args=(backend,))
        other.start()
        try:
            faulty_proxy.wait_until_held()
            with pytest.raises(StoreTimeout) as failed:
                write(backend, Put(key("a"), b"1"))
        finally:
            faulty_proxy.release_held()
            other.join(TIMEOUT)
        assert at(faulty_proxy) in str(failed.value)
        assert "max_connections or timeout_secs" in str(failed.value)
        assert not failed.value.maybe_applied
        ask(backend)


def test_a_missing_database(redis_server: RedisServer) -> None:
    """The error names a database that the server does not have."""
    with opened(redis_server, database=99) as backend, pytest.raises(Unreachable) as failed:
        ask(backend)
    examine(failed.value, at(redis_server), "database 99", "no database of that number")


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (
            "asyncio",
            "give a Proxy, the Pool, a Database, an opened backend, or a client of redis-py such as redis",
        ),
        ("sentinel", "give a client of the class redis.Redis"),
        ("master of sentinel", "give a client of the class redis.Redis"),
    ],
)
def test_a_client_that_is_not_one_of_a_server(kind: str, advice: str) -> None:
    """A client for asyncio or of Sentinel is refused with the reason, and without a connection."""
    sentinel = redis.sentinel.Sentinel([("127.0.0.1", 1)])
    clients: dict[str, object] = {
        "asyncio": redis.asyncio.Redis(),
        "sentinel": sentinel,
        "master of sentinel": sentinel.master_for("name"),
    }
    with pytest.raises(SettingsError, match=f"(?i){kind.rsplit(maxsplit=1)[-1]}.*{advice}"):
        Lock(clients[kind], "a")


# No access -------------------------------------------------------------------------------------------------------

USERS: Final = (
    f"writer on >{SECRET} ~app:* +@all -@dangerous",
    f"reader on >{SECRET} ~app:* +@read +eval +evalsha +time",
    f"nothing on >{SECRET} ~app:* +ping",
    f"elsewhere on >{SECRET} ~other:* +@all",
)


@pytest.fixture
def guarded(start_redis: StartRedis) -> RedisServer:
    """Run a server with a password for the default user, and further users."""
    return start_redis(password=SECRET, acl=USERS)


@pytest.mark.parametrize(
    ("credentials", "remedy"),
    [
        ({}, "set password in the settings"),
        ({"password": SECRET + "-wrong"}, "correct username and password"),
        ({"username": "writer", "password": SECRET + "-wrong"}, "correct username and password"),
        ({"username": "writer"}, "correct username and password"),
        ({"username": "nobody", "password": SECRET}, "correct username and password"),
    ],
    ids=["none", "wrong", "wrong-of-user", "none-of-user", "unknown-user"],
)
def test_wrong_credentials(guarded: RedisServer, credentials: dict[str, Any], remedy: str) -> None:
    """A missing or wrong password is one attempt and an error that names the settings."""
    with FaultyProxy(guarded.port) as proxy:
        with opened(proxy, **credentials) as backend, pytest.raises(AccessDenied) as failed:
            write(backend, Put(key("a"), b"1"))
        examine(failed.value, at(proxy), remedy)
        assert not failed.value.maybe_applied
        assert proxy.connections == 1, "repeating would not help"


def test_a_password_for_a_server_without_one(redis_server: RedisServer) -> None:
    """The remedy is to remove the password from the settings."""
    with opened(redis_server, password=SECRET) as backend, pytest.raises(AccessDenied) as failed:
        ask(backend)
    examine(failed.value, at(redis_server), "remove it from the settings")


@pytest.mark.parametrize("credentials", [{"password": SECRET}, {"username": "writer", "password": SECRET}])
def test_right_credentials(guarded: RedisServer, credentials: dict[str, Any]) -> None:
    """The default user's password works, and a user with the keys of the prefix and no dangerous command suffices."""
    with opened(guarded, prefix="app:", **credentials) as backend:
        for _ in range(2):
            write(backend, Put(key("a", "b"), b"1", 900_000), Add(key("n"), 1), Add(key("big"), 2**62))
            assert write(backend, Delete(key("a"), Scope.SUBTREE), Delete(key("big"), Scope.NODE)).applied
            ask(backend)


@pytest.mark.parametrize("user", ["nothing", "elsewhere"])
def test_a_user_without_permission(guarded: RedisServer, user: str) -> None:
    """If a user may not run scripts or use the prefix, the error says what to allow, and nothing is written."""
    with opened(guarded, prefix="app:", username=user, password=SECRET) as backend:
        for _ in range(2):
            with pytest.raises(AccessDenied) as failed:
                write(backend, Put(key("a"), b"1"))
            examine(failed.value, at(guarded), "allow", "keys with this prefix")
    assert data(guarded) == {}


def test_a_user_who_may_only_read(guarded: RedisServer) -> None:
    """A user with read commands can read. Its writes are refused and change nothing."""
    with opened(guarded, prefix="app:", password=SECRET) as backend:
        write(backend, Put(key("a"), b"1"))
    before = data(guarded)
    with opened(guarded, prefix="app:", username="reader", password=SECRET) as backend:
        assert backend.execute(Transaction(reads=(ReadNames(key()),))).answers == (Names(("a",)),)
        assert values(backend, scope=Scope.SUBTREE) == {("a",): b"1"}
        for operation in (Put(key("a"), b"2"), Put(key("b", "c"), b"2", 9_000), Delete(key(), Scope.SUBTREE)):
            with pytest.raises(AccessDenied):
                write(backend, operation)
    assert {name: content for name, content in data(guarded).items() if b"r:" not in name} == {
        name: content for name, content in before.items() if b"r:" not in name
    }


# No writes -------------------------------------------------------------------------------------------------------


def test_a_read_only_replica(start_redis: StartRedis) -> None:
    """A replica answers reads and refuses writes."""
    primary = start_redis()
    replica = start_redis(replica_of=primary)
    with opened(primary) as writer, opened(replica) as backend:
        write(writer, Put(key("a", "b"), b"1"), Put(key("m"), b"1", 900_000))
        reads = Transaction(reads=(Read(key("a", "b")), ReadNames(key()), Read(key(), Scope.SUBTREE, None, None, True)))
        eventually(lambda: len(data(replica)) == 3, "the replica has the data")
        assert backend.execute(reads).answers[0] == Entries({(): b"1"})
        with pytest.raises(ReadOnly) as failed:
            write(backend, Put(key("a", "b"), b"2"))
        examine(failed.value, at(replica), "connect to the primary")
        assert data(replica) == data(primary)


def test_names_on_a_read_only_replica_with_something_expired(start_redis: StartRedis) -> None:
    """Reads on a replica succeed although the primary has not removed expired values yet."""
    primary = start_redis()
    primary.command("HSET", "v:", "dead", b"\x02%016d" % 1 + b"1", "alive", b"2")
    primary.command("ZADD", "x:", 1, b"v:\0dead")
    replica = start_redis(replica_of=primary)
    with opened(replica) as backend:
        assert backend.execute(Transaction(reads=(ReadNames(key()),))).answers == (Names(("alive",)),)


def test_a_replica_that_lost_its_primary(start_redis: StartRedis) -> None:
    """A replica that refuses to serve old data is busy: later it may work."""
    primary = start_redis()
    replica = start_redis(replica_of=primary, options={"replica-serve-stale-data": "no"})
    with opened(replica, retries=0) as backend:
        ask(backend)
        primary.kill()
        eventually(lambda: replica.info("replication")["master_link_status"] == "down", "the link is down")
        with pytest.raises(StoreBusy) as failed:
            ask(backend)
        examine(failed.value, at(replica), "lost its primary")


def test_too_few_replicas(start_redis: StartRedis) -> None:
    """A server with too few replicas refuses writes and answers reads."""
    server = start_redis(options={"min-replicas-to-write": "1"})
    with opened(server) as backend:
        ask(backend)
        with pytest.raises(ReadOnly) as failed:
            write(backend, Put(key("a"), b"1"))
        examine(failed.value, at(server), "min-replicas-to-write")
    assert data(server) == {}


def test_a_full_server(start_redis: StartRedis) -> None:
    """At maxmemory writes change nothing and reads and removals work. With more memory writes work again."""
    server = start_redis(max_memory=100 << 20, options={"maxmemory-policy": "noeviction"})
    with opened(server) as backend:
        write(backend, Put(key("a", "b"), b"1", 900_000), Put(key("n"), b"5"), Put(key("other", "leaf"), b"1"))
        before = data(server)
        server.command("CONFIG", "SET", "maxmemory", 1)
        attempts = (
            (Put(key("a", "c"), b"2"),),
            (Put(key("fresh", "c"), b"2", 900_000), Add(key("n"), 1)),
            (Add(key("n"), 1),),
            (Add(key("n"), 2**62), Put(key("fresh"), b"1")),
        )
        for writes in attempts:
            with pytest.raises(StoreFull) as failed:
                write(backend, *writes)
            examine(failed.value, at(server), "maxmemory", "raise the limit")
            assert data(server) == before
        ask(backend)
        assert write(backend, Delete(key("a"), Scope.SUBTREE)).applied
        assert data(server) == {b"v:": {b"n": b"5", b"other": b"\x01"}, b"v:.other": {b"leaf": b"1"}}
        server.command("CONFIG", "SET", "maxmemory", 0)
        assert write(backend, Add(key("n"), 1)).counters == (6,)


# Busy ------------------------------------------------------------------------------------------------------------


def test_a_script_that_does_not_end(start_redis: StartRedis) -> None:
    """While a script blocks the server, calls raise ``StoreBusy``. After that they work."""
    server = start_redis(options={"lua-time-limit": "10"})

    def loop() -> None:
        with contextlib.suppress(RedisError):
            server.command("EVAL", "while true do end", 0)

    def is_busy() -> bool:
        try:
            server.command("PING")
        except RedisError as error:
            return "BUSY" in str(error)
        return False

    with opened(server, retries=0) as backend:
        ask(backend)
        looping = threading.Thread(target=loop)
        looping.start()
        try:
            eventually(is_busy, "the script blocks the server")
            with pytest.raises(StoreBusy) as failed:
                write(backend, Put(key("a"), b"1"))
            examine(failed.value, at(server), "try again later")
            assert not failed.value.maybe_applied
        finally:
            server.command("SCRIPT", "KILL")
            looping.join(TIMEOUT)
        assert write(backend, Add(key("n"), 1)).counters == (1,)


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        (b"-LOADING Redis is loading the dataset in memory", StoreBusy, "loading its data; try again later"),
        (b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL", StoreBusy, "script that does not end"),
        (b"-MASTERDOWN Link with MASTER is down", StoreBusy, "lost its primary"),
        (b"-ERR max number of clients reached", StoreBusy, "raise its maxclients"),
        (b"-MISCONF Redis is configured to save RDB snapshots, but it cannot", ReadOnly, "see its log"),
        (b"-NOREPLICAS Not enough good replicas to write.", ReadOnly, "min-replicas-to-write"),
        (b"-READONLY You can't write against a read only replica.", ReadOnly, "connect to the primary"),
        (b"-OOM command not allowed when used memory > 'maxmemory'.", StoreFull, "raise the limit"),
        (b"-NOPERM this user has no permissions to run the 'evalsha' command", AccessDenied, "this user may not"),
        (b"-NOAUTH Authentication required.", AccessDenied, "set password in the settings"),
        (b"-ERR something that nobody expected", StoreError, "something that nobody expected"),
    ],
    ids=lambda value: value[1:].split()[0].decode() if isinstance(value, bytes) else "",
)
def test_each_error_reply_has_its_class(line: bytes, kind: type[StoreError], text: str) -> None:
    """Error replies of states that are hard to produce are mapped to the class that says what to do."""
    with Stub(line) as stub, opened(stub, retries=1) as backend:
        with pytest.raises(StoreError) as failed:
            write(backend, Put(key("a"), b"1"))
        assert type(failed.value) is kind
        examine(failed.value, at(stub), text)
        assert not failed.value.maybe_applied, "the server answered that it did nothing"


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        (
            b"-DENIED Redis is running in protected mode because protected mode is enabled",
            AccessDenied,
            "protected-mode",
        ),
        (b"-MOVED 3999 127.0.0.1:6381", StoreError, "redis+cluster://"),
        (b"-ASK 3999 127.0.0.1:6381", StoreError, "redis+cluster://"),
        (b"-TRYAGAIN Multiple keys request during rehashing of slot", StoreError, "redis+cluster://"),
        (b"-CROSSSLOT Keys in request don't hash to the same slot", StoreError, "redis+cluster://"),
        (b"-CLUSTERDOWN The cluster is down", StoreError, "redis+cluster://"),
        (b"-ERR Script attempted to access a non local key in a cluster node", StoreError, "redis+cluster://"),
        (b"-ERR unknown command 'EVALSHA', with args beginning with: 'v:'", StoreError, "needs Redis 6.2"),
        (b"-ERR Protocol error: invalid bulk length", Unsupported, "proto-max-bulk-len"),
    ],
    ids=lambda value: value[1:].split()[0].decode() if isinstance(value, bytes) else "",
)
def test_a_cause_is_not_hidden(line: bytes, kind: type[RedictsError], text: str) -> None:
    """An answer that says why is an error that says what to do, after one attempt, and no "raw script error"."""
    with Stub(line) as stub, opened(stub) as backend:
        with pytest.raises(kind) as failed:
            write(backend, Put(key("a"), b"1"))
        assert text in str(failed.value)
        assert at(stub) in str(failed.value)


@pytest.mark.parametrize(
    "line",
    [
        f"-ERR unknown command `AUTH`, with args beginning with: `{SECRET}`, ",
        f"-ERR unknown command 'AUTH', with args beginning with: 'me' '{SECRET}' ",
        f"-ERR the proxy does not know AUTH me {SECRET}",
        f"-WRONGPASS invalid password {SECRET}",
        f"-ERR odd '{SECRET}-of-a-value' and \"{VALUE}-of-another\" and '{VALUE}'",
        f"-'{VALUE}' is odd, and `{VALUE}` too",
        f"HTTP/1.1 400 {SECRET}",
    ],
)
@pytest.mark.parametrize("database", [0, 3])
def test_no_argument_is_in_an_error(line: str, database: int) -> None:
    """If a server repeats the password or another argument, neither the error nor its causes show it."""
    calls: tuple[Callable[[RedisBackend], object], ...] = (
        ask,
        lambda backend: write(backend, Put(key("a"), b"1")),
        lambda backend: backend.listen("a/1"),
    )
    with (
        Stub(line.encode(), setup=False) as stub,
        opened(stub, username="me", password=SECRET, database=database, retries=0) as backend,
    ):
        for call in calls:
            with pytest.raises(StoreError) as failed:
                call(backend)
            assert SECRET not in texts_of(failed.value)
            assert VALUE not in texts_of(failed.value)
            assert at(stub) in str(failed.value)


def test_a_node_of_a_cluster(start_redis: StartRedis, tmp_path: Path) -> None:
    """A node of a cluster refuses keys of other nodes: the error says how to connect to the cluster."""
    server = start_redis(options={"cluster-enabled": "yes", "cluster-config-file": str(tmp_path / "nodes.conf")})
    for database in (0, 2):
        with (
            opened(server, database=database) as backend,
            pytest.raises(StoreError, match="redis\\+cluster://") as failed,
        ):
            write(backend, Put(key("a"), b"1"))
        examine(failed.value, at(server))


def test_protected_mode(start_redis: StartRedis) -> None:
    """The answer of protected mode, after which the server closes the connection, is not lost."""
    with GreetingStub(b"-DENIED Redis is running in protected mode. Set a password\r\n") as stub:
        some: tuple[dict[str, Any], ...] = ({}, {"password": SECRET})
        for credentials in some:
            with opened(stub, **credentials) as backend, pytest.raises(AccessDenied, match="protected mode") as failed:
                write(backend, Put(key("a"), b"1"))
            examine(failed.value, at(stub))


@pytest.mark.parametrize("size", [2_000_000, 30_000_000])
def test_a_value_over_the_limit_of_the_server(start_redis: StartRedis, size: int) -> None:
    """A value over ``proto-max-bulk-len`` is refused with the name of the limit, sent once, and other calls work."""
    server = start_redis(options={"proto-max-bulk-len": "1mb"})
    with opened(server) as backend:
        write(backend, Put(key("n"), b"1"))
        before = int(server.info("stats")["total_connections_received"])
        with pytest.raises(Unsupported, match="proto-max-bulk-len") as failed:
            write(backend, Put(key("a"), b"x" * size))
        assert at(server) in str(failed.value)
        # One more is that of the question.
        assert int(server.info("stats")["total_connections_received"]) == before + 1, "it is not sent again"
        assert write(backend, Add(key("n"), 1)).counters == (2,)
        assert values(backend, "a") == {}


def test_a_large_value_on_a_connection_that_was_closed(redis_server: RedisServer) -> None:
    """A large request on a connection that the server has closed meanwhile is sent again, and applied."""
    with opened(redis_server, retries=1) as backend:
        write(backend, Put(key("a"), b"1"))
        redis_server.command("CLIENT", "KILL", "TYPE", "normal")
        write(backend, Put(key("a"), b"x" * 10_000_000))
        assert len(values(backend, "a")[()]) == 10_000_000


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_too_many_open_files(redis_server: RedisServer, host: str) -> None:
    """A process that cannot open another file is told so, also where the look-up of the host fails for that."""

    def connect() -> str:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with opened_with({"host": host, "port": redis_server.port, "retries": 0}) as backend:
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
            try:
                ask(backend)
            except Unreachable as error:
                return str(error)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return "it connected"

    assert "too many open files" in str(Child(connect).result())


@pytest.mark.parametrize("field", ["tls_ca_file", "tls_cert_file", "tls_key_file"])
def test_a_missing_certificate(redis_server: RedisServer, tmp_path: Path, field: str) -> None:
    """A file of TLS that cannot be read is named, with its setting."""
    files = dict.fromkeys(("tls_cert_file", "tls_key_file"), redis_server.socket_path) | {field: tmp_path / "none.pem"}
    if field == "tls_ca_file":
        del files["tls_cert_file"], files["tls_key_file"]
    settings = configuration(redis_server, tls=True, retries=0) | {name: str(path) for name, path in files.items()}
    with (
        opened_with(settings) as backend,
        pytest.raises(Unreachable, match=r"tls_\w+_file .* cannot be read") as failed,
    ):
        ask(backend)
    examine(failed.value, at(redis_server))


@pytest.mark.parametrize("kind", ["read", "write"])
def test_only_a_write_may_have_been_applied(faulty_proxy: FaultyProxy, kind: str) -> None:
    """A read whose reply is lost has changed nothing, so it leaves no doubt."""
    with opened(faulty_proxy, retries=1) as backend:
        faulty_proxy.drop_replies(2)
        with pytest.raises(Unreachable) as failed:
            ask(backend) if kind == "read" else write(backend, Put(key("a"), b"1"))
        assert failed.value.maybe_applied is (kind == "write")
        assert ("may have been carried out" in str(failed.value)) is (kind == "write")


@pytest.mark.parametrize("line", [b"-LOADING Redis is loading", b"-NOPERM no permissions", b"-OOM command not allowed"])
def test_a_refused_repetition_leaves_the_first_attempt_in_doubt(line: bytes) -> None:
    """When the first reply is lost and the repetition refused, the first attempt may have been applied."""
    with Stub(None, line) as stub, opened(stub) as backend:
        with pytest.raises(StoreError) as failed:
            write(backend, Put(key("a"), b"1"))
        assert failed.value.maybe_applied


def test_a_server_that_is_not_redis(redis_server: RedisServer) -> None:
    """If another protocol answers, the error is a ``StoreError``, and no later call reads the rest of that answer."""
    with Stub(b"HTTP/1.1 400 Bad Request\r\n\r\n+OK\r\n+OK") as stub, opened(stub, retries=0) as backend:
        for _ in range(3):
            with pytest.raises(StoreError) as failed:
                ask(backend)
            examine(failed.value, at(stub))


def test_a_server_at_its_maxclients(start_redis: StartRedis) -> None:
    """A server that accepts no more connections is busy."""
    server = start_redis(options={"maxclients": "3"})
    with contextlib.ExitStack() as others, opened(server, retries=0) as backend:
        for _ in range(3):
            ask(others.enter_context(opened(server)))
        with pytest.raises(StoreBusy) as failed:
            ask(backend)
        examine(failed.value, at(server), "raise its maxclients")


# Secrets ---------------------------------------------------------------------------------------------------------


def shown() -> Iterator[str]:
    """Yield every text that shows the pool, its settings or its backend."""
    backend = Pool().database().backend
    assert isinstance(backend, RedisBackend)
    settings = Pool().settings
    client = backend.client
    for each in (Pool(), settings, settings.options, root(), backend, backend.capabilities, client):
        yield repr(each)
        yield str(each)
    yield repr(client.connection_pool)
    yield str(settings.model_dump())
    yield settings.model_dump_json()
    yield repr(vars(backend))


@pytest.mark.parametrize("form", ["fields", "url"])
def test_no_password_is_shown(guarded: RedisServer, form: str) -> None:
    """The password is in no repr of pool, settings, backend or client, and still works."""
    url = f"redis://writer:{SECRET}@{at(guarded)}/0"
    cfg: Any = configuration(guarded, username="writer", password=SECRET) if form == "fields" else url
    with front_with({"url": cfg, "prefix": "app:"} if form == "url" else cfg | {"prefix": "app:"}) as tree:
        tree.set("a", 1)
        for text in shown():
            assert SECRET not in text
    with front_with(cfg):
        for text in shown():
            assert SECRET not in text


@pytest.mark.parametrize(
    "cfg",
    [
        {"password": SECRET, "port": "no number"},
        {"password": SECRET, "pasword": SECRET},
        {"password": [SECRET]},
        {"backend": {"name": "redis", "password": SECRET, "host": 5}},
        {"url": f"redis://user:{SECRET}@host:port/0"},
        {"url": f"redis://user:{SECRET}@host:6379/zero"},
        {"url": f"redis://user:{SECRET}@host:6379/0?unknown={SECRET}"},
        {"url": f"http://user:{SECRET}@host/0"},
        {"url": f"redis://user:{SECRET}@host:6379/0", "password": SECRET},
        {"url": [f"redis://user:{SECRET}@host:6379/0"]},
        {"url": f"redis://user:{SECRET}@[host:6379/0"},
        f"redis://user:{SECRET}@host:999999/0",
        f"redis://user:{SECRET}@host/0?database=1&x={SECRET}",
        f"user:{SECRET}@host:6379",
        f"radis://user:{SECRET}@host:6379",
    ],
    ids=str,
)
def test_no_password_is_in_a_refusal_of_settings(cfg: Any) -> None:
    """Refusals of wrong settings do not show their values, because a password may be in the wrong place."""
    with pytest.raises(SettingsError) as refused:
        Pool().reload(cfg=cfg)
    assert SECRET not in texts_of(refused.value).replace(repr(cfg), "")
    assert SECRET not in str(refused.value)


def test_no_password_is_in_a_failure_of_the_front(guarded: RedisServer) -> None:
    """An error that a proxy raises does not show a wrong password."""
    with front(guarded, password=SECRET + "-wrong") as tree, pytest.raises(AccessDenied) as failed:
        tree.set("a", 1)
    assert SECRET not in texts_of(failed.value)
