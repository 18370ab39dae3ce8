"""The clients of redis-py and of other libraries that ``Lock`` takes, and those that it refuses by name."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

import fakeredis
import pytest
import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.cluster
import redis.lock
import redis.sentinel

import redicts
from redicts import Lock, Pool, Proxy, SettingsError
from tests.locks.locking import Somebody
from tests.support.servers import RedisServer, StartRedis
from tests.support.waiting import eventually

SECRET: Final = "m4rker-0f-a-s3cret"


def the_same(lock: Lock) -> bool:
    """Return whether a lock excludes the proxy of the pool at its path, and nothing else."""
    with lock, Somebody() as ben:
        proxy = Proxy(lock.key)
        return proxy.is_locked() and not ben.does(proxy.acquire, False) and not Proxy("elsewhere").is_locked()


# Served


def authenticated(server: RedisServer) -> redis.Redis:
    """Return a client that asks a function for its credentials."""
    provider = redis.UsernamePasswordCredentialProvider("default", "any")
    return redis.Redis(host=server.host, port=server.port, credential_provider=provider)


class Derived(redis.Redis):
    """A client class of a user."""


SERVED: Final[Mapping[str, Callable[[RedisServer], redis.Redis]]] = {
    "Redis": lambda at: redis.Redis(host=at.host, port=at.port),
    "StrictRedis": lambda at: redis.StrictRedis(host=at.host, port=at.port),
    "a class of a user": lambda at: Derived(host=at.host, port=at.port),
    "from a URL": lambda at: redis.Redis.from_url(f"redis://{at.host}:{at.port}/0"),
    "decode_responses": lambda at: redis.Redis(host=at.host, port=at.port, decode_responses=True),
    "another encoding": lambda at: redis.Redis(
        host=at.host, port=at.port, decode_responses=True, encoding="utf-16", encoding_errors="ignore"
    ),
    "RESP 3": lambda at: redis.Redis(host=at.host, port=at.port, protocol=3),
    "one connection": lambda at: redis.Redis(host=at.host, port=at.port, single_connection_client=True),
    "a pool of one connection": lambda at: redis.Redis(
        connection_pool=redis.ConnectionPool(host=at.host, port=at.port, max_connections=1)
    ),
    "a blocking pool": lambda at: redis.Redis(
        connection_pool=redis.BlockingConnectionPool(host=at.host, port=at.port, timeout=1)
    ),
    "a name and health checks": lambda at: redis.Redis(
        host=at.host, port=at.port, client_name="app", health_check_interval=1
    ),
    "a provider of credentials": authenticated,
}
"""Clients of one server, by what is special about them."""


@pytest.mark.parametrize("kind", SERVED)
def test_a_client_of_one_server_is_served(server: RedisServer, kind: str) -> None:
    """A lock on any client of one server is that of a proxy there, whatever the options of the client."""
    Pool().reload(cfg={"host": server.host, "port": server.port})
    client = SERVED[kind](server)
    assert the_same(Lock(client, "a.b"))
    client.close()
    assert the_same(Lock(client, "a.b")), "also when the client is closed"
    client.connection_pool.disconnect()


def test_the_clients_of_one_pool_of_connections_share_one_backend(server: RedisServer) -> None:
    """A program may create a client for each request: their locks use the same few connections."""
    pool = redis.ConnectionPool(host=server.host, port=server.port)
    with redis.Redis(host=server.host, port=server.port) as watching:
        seen_at: list[set[str]] = []
        for _ in range(5):
            with Lock(redis.Redis(connection_pool=pool), "a"):
                seen_at.append({each["id"] for each in watching.client_list()})
            gc.collect()
        assert all(later <= seen_at[0] for later in seen_at)
        seen = weakref.ref(pool)
        del pool
        eventually(lambda: (gc.collect(), seen() is None)[1], "the pool of connections is forgotten")


def test_two_clients_of_one_pool_of_connections_know_of_each_others_locks(server: RedisServer) -> None:
    """A lock that was acquired through one client is relied on and released through another."""
    pool = redis.ConnectionPool(host=server.host, port=server.port)
    one, other = redis.Redis(connection_pool=pool), redis.Redis(connection_pool=pool)
    with Lock(one, "a") as lock, Lock(other, "a.b", acquire_timeout=0) as inner:
        assert inner.token == lock.token
    pool.disconnect()


def test_a_lock_uses_the_credentials_of_the_client(start_redis: StartRedis) -> None:
    """The connections of a lock on a client authenticate as the client does, not as the pool of redicts."""
    server = start_redis(acl=[f"anna on >{SECRET} ~* &* +@all"])
    Pool().reload(cfg={"host": server.host, "port": server.port})
    with redis.Redis(host=server.host, port=server.port, username="anna", password=SECRET) as client:
        with Lock(client, "a") as lock:
            assert {each["user"] for each in client.client_list()} == {"anna"}
        assert SECRET not in f"{lock!r} {Pool().of_client(client)!r} {Pool().of_client(client).backend!r}"


def test_a_client_of_an_opened_database_leads_to_its_backend(server: RedisServer) -> None:
    """A lock on the client of a database with a prefix has the keys of that database."""
    with redicts.open({"host": server.host, "port": server.port, "prefix": "app:"}) as db, Somebody() as ben:
        client = db.backend.client  # type: ignore[attr-defined]  # that of Redis has one
        with Lock(client, "a"):
            assert not ben.does(db.lock("a").acquire, False)


def test_the_current_settings_decide(server: RedisServer) -> None:
    """After a reload, a client that was used before leads to the locks of the pool as it is now."""
    cfg = {"host": server.host, "port": server.port}
    with redis.Redis(**cfg) as client:  # type: ignore[arg-type]
        for prefix in ("", "app:", "other:", ""):
            Pool().reload(cfg={**cfg, "prefix": prefix})
            assert the_same(Lock(client, "a"))


def test_a_simulated_server_is_not_the_one_of_the_pool() -> None:
    """A client of fakeredis has the address of a real server, and is not connected to it."""
    Pool().reload(cfg={"prefix": "app:"})
    client = fakeredis.FakeRedis()
    for each in (client, redis.Redis(connection_pool=client.connection_pool)):
        with Lock(each, "a") as lock:
            assert lock.held
    client.close()


# Refused


def sentinel() -> redis.sentinel.Sentinel:
    """Return a client of a Sentinel that does not exist."""
    return redis.sentinel.Sentinel([("127.0.0.1", 1)], password=SECRET)


def cluster(kind: Any) -> Any:
    """Return a client of a cluster, or its pipeline, that has connected to nothing."""
    return object.__new__(kind)


OF_A_SERVER: Final = r"give .*redis\.Redis"
FOR_ASYNCIO: Final = r"is for asyncio; give a Proxy, .*redis\.Redis.*redicts\.aio\.Lock"

REFUSED: Final[Mapping[str, tuple[Callable[[], object], str]]] = {
    "redis.sentinel.Sentinel": (sentinel, f"Sentinel, .*{OF_A_SERVER}"),
    "redis.client.Redis": (lambda: sentinel().master_for("main"), f"Sentinel, .*{OF_A_SERVER}"),
    "redis.sentinel.SentinelConnectionPool": (
        lambda: sentinel().master_for("main").connection_pool,
        f"Sentinel, .*{OF_A_SERVER}",
    ),
    "redis.cluster.RedisCluster": (lambda: cluster(redis.RedisCluster), f"a cluster, .*{OF_A_SERVER}"),
    "redis.cluster.ClusterPipeline": (lambda: cluster(redis.cluster.ClusterPipeline), f"a cluster, .*{OF_A_SERVER}"),
    # It needs a package that redis-py does not require.
    "redis.multidb.client.MultiDBClient": (
        type("MultiDBClient", (), {"__module__": "redis.multidb.client"}),
        f"several servers, .*{OF_A_SERVER}",
    ),
    "redis.client.Pipeline": (
        lambda: redis.Redis(password=SECRET).pipeline(),
        rf"not a client itself; {OF_A_SERVER} that it is from",
    ),
    "redis.client.PubSub": (
        lambda: redis.Redis(password=SECRET).pubsub(),
        rf"not a client itself; {OF_A_SERVER} that it is from",
    ),
    "redis.connection.ConnectionPool": (
        lambda: redis.ConnectionPool(password=SECRET),
        r"give redis\.Redis\(connection_pool=",
    ),
    "redis.lock.Lock": (lambda: redis.Redis(password=SECRET).lock("a"), OF_A_SERVER),
    "redis.asyncio.client.Redis": (lambda: redis.asyncio.Redis(password=SECRET), FOR_ASYNCIO),
    "redis.asyncio.client.Pipeline": (lambda: redis.asyncio.Redis(password=SECRET).pipeline(), FOR_ASYNCIO),
    "redis.asyncio.cluster.RedisCluster": (lambda: cluster(redis.asyncio.cluster.RedisCluster), FOR_ASYNCIO),
    f"{fakeredis.FakeAsyncRedis.__module__}.FakeRedis": (fakeredis.FakeAsyncRedis, FOR_ASYNCIO),
    "str": (lambda: f"redis://:{SECRET}@localhost", "leads to no store"),
    "the class Pool": (lambda: Pool, "leads to no store, but an object of it may"),
}
"""What redis-py has besides clients of one server, by the name of the class: how to make one, and the advice."""


@pytest.mark.parametrize("name", REFUSED)
def test_everything_else_is_refused_by_name(name: str) -> None:
    """The error names the class and says what to give instead; it shows no secret, and nothing is connected."""
    make, advice = REFUSED[name]
    with pytest.raises(
        SettingsError, match=rf"\A(a client must be a blocking one; )?{re.escape(name)} .*{advice}"
    ) as refused:
        Lock(make(), "a")
    assert SECRET not in repr(refused.value)
    assert refused.value.__cause__ is refused.value.__context__ is None


class Valkey:
    """Stands for a client of another library that resembles redis-py."""

    connection_pool = redis.ConnectionPool(password=SECRET)


def test_a_client_of_another_library_is_refused_by_name() -> None:
    """A client that only resembles one of redis-py, as that of valkey-py does, is not opened with its options."""
    Pool().reload(cfg={"prefix": "app:"})
    with pytest.raises(SettingsError, match=rf"{__name__}\.Valkey leads to no store; {OF_A_SERVER}"):
        Lock(Valkey(), "a")
