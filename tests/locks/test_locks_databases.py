"""The first argument of ``Lock``: the pool, a proxy, a client or a backend."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis

from redicts import Lock, LockLost, NotHeld, Pool, Proxy, SettingsError, root
from redicts.backends.memory import MemoryBackend
from redicts.backends.sqlite import plugin as sqlite_plugin
from tests.locks.locking import Somebody, try_lock, waiting
from tests.support.servers import RedisServer
from tests.support.stores import NoStore, Store
from tests.support.waiting import TIMEOUT, eventually


def test_the_pool_is_its_default_database(any_store: Store) -> None:
    """With the pool, the key is counted from the root of its default database."""
    with Lock(Pool(), "a.b"):
        assert Proxy("a.b").is_locked()


def test_below_a_proxy_keys_are_relative(any_store: Store) -> None:
    """With a proxy, the key is relative to it, in its database; an empty key is the path of the proxy."""
    any_store.reload(names={"cats": 1})
    house = Proxy("house", db_name="cats")
    with Lock(house, "kitchen.bowl") as lock:
        assert lock.key == "house.kitchen.bowl"
        assert Proxy("house.kitchen.bowl", db_name="cats").is_locked()
        assert not Proxy("house.kitchen.bowl").is_locked()
        assert not house.is_locked()
    nothing: list[Any] = ["", (), []]
    for empty in nothing:
        with Lock(house, empty):
            assert house.is_locked()
    with Lock(root(), "a"):
        assert Proxy("a").is_locked()


def test_a_lock_takes_an_opened_backend() -> None:
    """With a backend, the lock is in that store; two locks on one backend exclude each other."""
    backend = MemoryBackend()
    with Somebody() as ben:
        with Lock(backend, "a.b") as lock:
            assert lock.held
            assert not Proxy("a.b").is_locked()
            assert not ben.does(Lock(backend, "a").acquire, False)
            assert Lock(backend, "a.b").is_locked()
            assert Lock(MemoryBackend(), "a").acquire(blocking=False)
        assert ben.does(Lock(backend, "a").acquire, False)
        ben.does(Lock(backend, "a").release)
    Lock(backend, "x").acquire()
    gc.collect()
    Lock(backend, "x").release()
    assert not Lock(backend, "x").is_locked()


def test_two_clients_of_one_store_meet(tmp_path: Path) -> None:
    """Locks through two backends that were opened on the same store exclude one another."""
    settings = sqlite_plugin.model(path=str(tmp_path / "tree.db"))  # type: ignore[call-arg]
    one, other = sqlite_plugin.open(settings, 0), sqlite_plugin.open(settings, 0)
    with Somebody() as ben:
        with Lock(one, "a"):
            assert not ben.does(Lock(other, "a.b").acquire, False)
        with Lock(other, "a.b"):
            assert not ben.does(Lock(one, "a").acquire, False)
    one.close()
    other.close()


def test_creating_a_lock_takes_no_round_trip() -> None:
    """Creating a lock, and reading its local state, takes no round trip."""
    lock = Lock(NoStore(), "a.b")
    assert not lock.held
    assert lock.token is None
    assert "a.b" in repr(lock)
    lock.all(lock)
    with pytest.raises(NotHeld):
        lock.release()
    with pytest.raises(NotHeld):
        lock.ensure_held()


class Stranger:
    """An object that leads nowhere."""


WRONG: list[Any] = [None, "localhost", "redis://localhost", b"x", 7, {}, {"host": "x"}, [], (), Stranger(), Stranger]
WRONG += [Pool, Proxy, lambda: None, Lock(MemoryBackend(), "a")]


@pytest.mark.parametrize("wrong", WRONG, ids=[type(each).__name__ + str(n) for n, each in enumerate(WRONG)])
def test_other_first_arguments_are_refused(wrong: Any) -> None:
    """Any other first argument raises ``SettingsError``, which says what to pass instead."""
    with pytest.raises(SettingsError, match=r"Proxy.*Pool.*backend.*redis-py"):
        Lock(wrong, "a")


# Clients of redis-py


@contextmanager
def client_of(server: RedisServer, **options: Any) -> Iterator[redis.Redis]:
    """Give a client as users of 1.0 had them, and close it."""
    client = redis.Redis(host=server.host, port=server.port, **options)
    try:
        yield client
    finally:
        client.close()


def use_server(server: RedisServer) -> None:
    """Let the pool use the same server."""
    Pool().reload(cfg={"host": server.host, "port": server.port})


def test_a_lock_takes_a_client_of_redis_py(redis_server: RedisServer) -> None:
    """With a client, as in 1.0, the lock is on its server, and is the same as that of the pool there."""
    use_server(redis_server)
    with Somebody() as ben, client_of(redis_server) as client:
        with Lock(client, "a.b", expire_timeout=30, acquire_timeout=10) as lock:
            assert lock.held
            assert lock.is_locked()
            assert Proxy("a.b").is_locked()
            assert not ben.does(try_lock, "a")
        assert ben.does(try_lock, "a")
        assert client.set("still", "mine")
        with Proxy("a"):
            assert not ben.does(Lock(client, "a.b").acquire, False)


def test_one_thread_is_one_owner_however_it_reaches_the_store(redis_server: RedisServer) -> None:
    """A thread that holds a lock through the pool does not shut itself out when it uses a client."""
    use_server(redis_server)
    with client_of(redis_server) as client, Proxy("a"), Lock(client, "a.b", acquire_timeout=0) as lock:
        assert lock.held


def test_a_clients_database_counts(redis_server: RedisServer) -> None:
    """The lock is in the database that the client selects."""
    use_server(redis_server)
    with client_of(redis_server, db=3) as client, Lock(client, "a"):
        assert not Proxy("a").is_locked()
        Pool().reload(cfg={"host": redis_server.host, "port": redis_server.port, "database": 3})
        assert Proxy("a").is_locked()


def test_every_kind_of_client_is_accepted(redis_server: RedisServer) -> None:
    """Clients that decode replies, that share a pool of connections, that speak RESP 3, and ``StrictRedis``."""
    use_server(redis_server)
    with client_of(redis_server, decode_responses=True) as client, Lock(client, "a"):
        assert Proxy("a").is_locked()
    with client_of(redis_server, protocol=3) as client, Lock(client, "a"):
        assert Proxy("a").is_locked()
    pool = redis.ConnectionPool(host=redis_server.host, port=redis_server.port, max_connections=1)
    with Lock(redis.Redis(connection_pool=pool), "a"):
        assert Proxy("a").is_locked()
    pool.disconnect()
    strict = redis.StrictRedis(host=redis_server.host, port=redis_server.port)
    with Lock(strict, "a"):
        assert Proxy("a").is_locked()
    strict.close()


def test_what_the_pool_gives_can_be_locked(redis_server: RedisServer) -> None:
    """``Lock(Pool().get_connection(), key)``, the idiom of 1.0, works."""
    use_server(redis_server)
    with Lock(Pool().get_connection(), "a"):
        assert Proxy("a").is_locked()
    assert not Proxy("a").is_locked()


def test_two_locks_on_one_client_are_one(redis_server: RedisServer) -> None:
    """Locks on the same client know of each other: acquired again nothing waits, and any of them releases."""
    with client_of(redis_server) as client:
        first, second = Lock(client, "a", acquire_timeout=0), Lock(client, "a.b", acquire_timeout=0)
        with first, second, Lock(client, "a", acquire_timeout=0):
            assert second.token == first.token
        first.acquire()
        Lock(client, "a").release()
        assert not first.is_locked()


def test_two_threads_with_clients_of_their_own_wait_for_each_other(redis_server: RedisServer) -> None:
    """A waiter on one client is notified by the release on another."""
    with Somebody() as ben, client_of(redis_server) as one, client_of(redis_server) as other:
        use_server(redis_server)
        with Lock(one, "a"):
            got = ben.begins(Lock(other, "a", acquire_timeout=None).acquire)
            waiting(1)
            assert not got.done()
        assert got.result(TIMEOUT)
        ben.does(Lock(other, "a").release)


def test_locks_do_not_keep_a_client_alive(redis_server: RedisServer) -> None:
    """A client without other references is collected."""

    class Watched(redis.Redis):
        pass

    client = Watched(host=redis_server.host, port=redis_server.port)
    with Lock(client, "a"):
        pass
    client.close()
    seen = weakref.ref(client)
    del client
    eventually(lambda: (gc.collect(), seen() is None)[1], "the client is forgotten")


def test_an_operator_breaks_a_lock_through_a_client(redis_server: RedisServer) -> None:
    """What an operator breaks through a client is lost to a thread that holds it through the pool."""
    use_server(redis_server)
    with client_of(redis_server) as client:
        operators = Lock(client, "a")
        Proxy("a").acquire()
        (broken,) = operators.break_locks()
        assert broken.path == "a"
        with pytest.raises(LockLost):
            Proxy("a").set("x", 1)
        Proxy("a").release()


def test_a_lock_takes_a_client_of_fakeredis() -> None:
    """A lock takes a client of fakeredis; two clients of one simulated server exclude each other."""
    server = fakeredis.FakeServer()
    with Somebody() as ben:
        one, other = fakeredis.FakeRedis(server=server), fakeredis.FakeRedis(server=server)
        with Lock(one, "a") as lock:
            assert lock.held
            assert not ben.does(Lock(other, "a.b").acquire, False)
        assert ben.does(Lock(other, "a.b").acquire, False)
        ben.does(Lock(other, "a.b").release)
        elsewhere = fakeredis.FakeRedis(server=fakeredis.FakeServer())
        with Lock(one, "a"):
            assert not Lock(elsewhere, "a").is_locked()
        for client in (one, other, elsewhere):
            client.close()


def test_asyncio_clients_are_refused() -> None:
    """Clients for asyncio are refused with an error that names them and says what to do."""
    for client in (redis.asyncio.Redis(host="localhost", port=1), fakeredis.FakeAsyncRedis()):
        name = f"{type(client).__module__}.{type(client).__qualname__}"
        with pytest.raises(SettingsError, match=rf"{re.escape(name)} is for asyncio.*redis\.Redis.*redicts\.aio"):
            Lock(client, "a")


# The same lock, however it was reached


@pytest.mark.parametrize("prefix", ["", "app:"])
def test_a_client_of_the_pool_leads_to_the_locks_of_the_pool(redis_server: RedisServer, prefix: str) -> None:
    """With a client of the pool, or one that shares its connections, a lock is that of a proxy, whatever the prefix."""
    cfg = {"host": redis_server.host, "port": redis_server.port, "prefix": prefix, "names": {"cats": 1}}
    Pool().reload(cfg=cfg)
    with Somebody() as ben:
        for name in (None, "cats"):
            client = Pool().get_connection(name)
            for each in (client, redis.Redis(connection_pool=client.connection_pool)):
                lock = Lock(each, "job", acquire_timeout=0)
                with Proxy("job", db_name=name):
                    assert lock.held
                    assert not ben.does(lock.acquire, False)
                    with lock:
                        pass
                with lock:
                    assert not ben.does(Proxy("job", db_name=name).acquire, False)
                    lock.break_locks()
                    with pytest.raises(LockLost):
                        Proxy("job", db_name=name).set("x", 1)
                lock.acquire()
                Proxy("job", db_name=name).release()
        lock = Lock(client, "job", acquire_timeout=0)
        del client
        gc.collect()
        Pool().reload(cfg={**cfg, "prefix": "other:"})
        gc.collect()
        with lock:
            assert not Proxy("job", db_name="cats").is_locked()


def test_a_client_of_the_server_of_a_pool_with_a_prefix_is_the_pools(redis_server: RedisServer) -> None:
    """A lock on a client of the pool's server and database is that of a proxy there, though the pool has a prefix."""
    Pool().reload(cfg={"host": redis_server.host, "port": redis_server.port, "prefix": "app:", "names": {"cats": 1}})
    hosts = {redis_server.host, "localhost"} if redis_server.host == "127.0.0.1" else {redis_server.host}
    with Somebody() as ben:
        for database, name in ((0, None), (1, "cats")):
            for host in hosts:
                with redis.Redis(host=host, port=redis_server.port, db=database) as client:
                    with Proxy("job", db_name=name):
                        assert not ben.does(Lock(client, "job").acquire, False)
                    with Lock(client, "job"):
                        assert not ben.does(Proxy("job", db_name=name).acquire, False)


def test_what_only_the_server_could_tell_is_refused() -> None:
    """If a client may or may not be one of the server of a pool with a prefix, a lock on it is refused."""
    Pool().reload(cfg={"host": "cache.invalid", "port": 6379, "prefix": "app:"})
    for options in ({"host": "10.0.0.7"}, {"unix_socket_path": "/run/redis.sock"}):
        with pytest.raises(SettingsError, match=r"server.*prefix.*give the Pool.*open"):
            Lock(redis.Redis(**options), "job")  # type: ignore[arg-type]
    for elsewhere in ({"host": "10.0.0.7", "port": 6380}, {"host": "10.0.0.7", "db": 5}):
        Lock(redis.Redis(**elsewhere), "job")  # type: ignore[arg-type]
    Pool().reload(cfg={"host": "cache.invalid", "port": 6379})
    Lock(redis.Redis(host="10.0.0.7"), "job")


def test_two_names_of_one_database_are_one(any_store: Store) -> None:
    """A lock that was acquired through one name of a database is held and released through another."""
    any_store.reload(names={"main": 0, "cats": 1, "felines": 1})
    for one, other in ((None, "main"), ("cats", "felines"), ("main", None)):
        Proxy("a", db_name=one).acquire()
        assert Proxy("a", db_name=other).lock().held
        Proxy("a", db_name=other).lock().all(Proxy("b", db_name=one).lock())
        Proxy("a", db_name=other).release()
        with pytest.raises(NotHeld):
            Proxy("a", db_name=one).release()


def test_no_secret_is_shown(redis_server: RedisServer) -> None:
    """The repr and the errors of a lock on a client contain no password."""
    client = redis.Redis(host="127.0.0.1", port=1, password="tell-nobody", socket_connect_timeout=1)
    lock = Lock(client, "a", acquire_timeout=0)
    with pytest.raises(Exception) as raised:  # noqa: PT011  (whichever it is)
        lock.acquire()
    assert "tell-nobody" not in f"{lock!r} {raised.value!r} {raised.value.__cause__!r}"
    client.close()
