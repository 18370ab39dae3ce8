"""``redicts.open``: several databases in one program, with separate settings, proxies, held locks and renewals."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import redicts
from redicts import Database, Lock, NotHeld, Pool, Proxy, SettingsError, WrongUse, root
from redicts.config.settings import Settings, parse
from redicts.core.plugin_settings import NoSettings
from redicts.transfer import copy
from tests.locks.locking import Somebody
from tests.support.servers import RedisServer
from tests.support.stores import Wrapped, in_place_of_memory
from tests.support.waiting import TIMEOUT, eventually

MEMORY: dict[str, Any] = {"backend": "memory"}


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Give the URL of a new SQLite store."""
    return f"sqlite:///{tmp_path / 'tree.db'}"


@pytest.fixture
def two(file: str) -> Iterator[tuple[Database, Database]]:
    """Open two databases of one SQLite file."""
    with redicts.open(file) as one, redicts.open(file) as other:
        yield one, other


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> list[Closing]:
    """Record the backends that are opened for the name ``memory``."""
    opened: list[Closing] = []

    def open_(_settings: NoSettings, _number: int) -> Closing:
        opened.append(Closing())
        return opened[-1]

    in_place_of_memory(monkeypatch, open_)
    return opened


class Closing(Wrapped):
    """A memory store that counts calls of ``close``."""

    closings = 0
    fails = False

    def close(self) -> None:
        """Count the call, and raise if the test wants it."""
        self.closings += 1
        if self.fails:
            raise redicts.StoreError("this store cannot be closed")
        super().close()


# Separate databases


def test_databases_of_different_stores_share_nothing(file: str) -> None:
    """Values, locks and settings of one database do not appear in another, nor in the pool."""
    with redicts.open(MEMORY) as one, redicts.open(file) as other, Somebody() as ben:
        one.root().set("a", 1)
        other.root().set("a", 2)
        assert (one.root().val(), other.root().val(), root().val()) == ({"a": 1}, {"a": 2}, None)
        assert (one.settings.backend, other.settings.backend) == ("memory", "sqlite")
        with one.lock("a"):
            assert one.proxy("a").is_locked()
            assert not other.proxy("a").is_locked()
            assert not Proxy("a").is_locked()
            assert ben.does(other.lock("a").acquire, False)
            assert not ben.does(one.lock("a").acquire, False)
            ben.does(other.lock("a").release)


def test_each_database_renews_its_own_locks(file: str) -> None:
    """Closing one database does not stop the renewals of another."""
    with redicts.open(file) as other:
        with redicts.open(MEMORY) as one:
            one.lock("a", expire_timeout=2, renew=True).acquire()
            one.lock("a").release()
            lock = other.lock("a", expire_timeout=2, renew=True)
            lock.acquire()
        (first,) = lock.holders()
        eventually(lambda: (lock.holders()[0].until - first.until).total_seconds() > 1, "it is renewed twice")
        lock.ensure_held()
        lock.release()


def test_two_databases_of_one_store_see_the_same_values_and_locks(two: tuple[Database, Database]) -> None:
    """What one database writes or locks, the other one reads or finds locked."""
    one, other = two
    one.root().set("a.b", 1)
    assert other.proxy("a.b").val() == 1
    with one.lock("a"), Somebody() as ben:
        assert other.proxy("a.b").is_locked()
        assert not ben.does(other.lock("a.b").acquire, False)


def test_two_databases_of_one_store_record_held_locks_separately(two: tuple[Database, Database]) -> None:
    """A lock is released and relied on only through the database where it was acquired."""
    one, other = two
    with one.lock("a") as lock:
        assert lock.held
        assert not other.lock("a").held
        with pytest.raises(NotHeld):
            other.lock("a").release()
        with other.lock("a"):  # by the same thread, so it does not conflict
            pass
        assert one.proxy("a").is_locked()
    assert not other.proxy("a").is_locked()


def test_a_library_that_opens_its_store_leaves_the_pool_alone(file: str) -> None:
    """Settings, values, held locks and proxies of the pool are the same while and after a library uses its store."""
    Pool().reload(cfg={"backend": "memory", "names": {"cats": 1}})
    pool, settings, database = Pool(), Pool().settings, Pool().database()
    proxy = Proxy("a").set("b", 1)
    with proxy:
        for cfg in (file, MEMORY):
            with redicts.open(cfg) as own, own.root():
                own.root().set("a", {"b": 2})
                own.proxy("a").delete("b")
        proxy.set("c", 2)  # still guarded by the lock of the pool's database
        assert proxy.lock().held
    assert Pool() is pool
    assert Pool().settings is settings
    assert Pool().database() is database
    assert Proxy("a") is proxy
    assert root().val() == {"a": {"b": 1, "c": 2}}


# Configuration


@pytest.mark.parametrize(
    ("cfg", "backend"),
    [
        ("sqlite:///tree.db", "sqlite"),
        ("redis://localhost:6379/0", "redis"),
        ({"backend": "memory"}, "memory"),
        ({"backend": {"name": "memory"}, "codec": {"name": "json"}}, "memory"),
        ({"host": "localhost", "port": 6379, "database": 0, "names": {"persons": 1}}, "redis"),
        (parse({"backend": "memory", "default": 3}), "memory"),
    ],
)
def test_open_takes_each_form_of_configuration(cfg: Mapping[str, Any] | str | Settings, backend: str) -> None:
    """``open`` takes the forms of configuration that ``Pool().reload`` takes."""
    Pool().reload(cfg=cfg)
    with redicts.open(cfg) as db:
        assert db.settings.backend == backend
        assert db.settings == Pool().settings
        assert repr(db).startswith(f"<Database {backend}")


def test_open_without_configuration_reads_the_defaults(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``open()`` reads ``REDICTS_URL``, as the pool does without a configuration."""
    monkeypatch.setenv("REDICTS_URL", file)
    with redicts.open() as db:
        assert db.settings.backend == "sqlite"


def test_open_with_fake_redis_simulates_a_server() -> None:
    """``fake_redis`` opens a simulated Redis server in this process, also with a configuration."""
    with redicts.open(fake_redis=True) as one, redicts.open({"names": {"cats": 1}}, fake_redis=True) as other:
        for db in (one, other):
            assert db.root().set("a", 1).val() == {"a": 1}
        assert other.proxy("a", db_name="cats").val() is None


def test_open_on_a_server(redis_server: RedisServer) -> None:
    """A database of a Redis server has the values that the pool has there."""
    cfg = {"host": redis_server.host, "port": redis_server.port}
    Pool().reload(cfg=cfg)
    with redicts.open(cfg) as db, db.section("jobs") as jobs:
        jobs["state"] = {"done": 3}
        assert Proxy("jobs.state.done").val() == 3


@pytest.mark.parametrize("cfg", [{"backend": "memroy"}, {"backend": "memory", "lock_retention": -1}, "nothing://"])
def test_a_configuration_that_is_not_valid_opens_nothing(cfg: Any, backends: list[Closing]) -> None:
    """``open`` raises the error of ``reload``, before it opens a backend."""
    with pytest.raises(SettingsError):
        redicts.open(cfg)
    assert not backends


def test_a_codec_that_cannot_be_opened_leaves_no_backend_open(backends: list[Closing]) -> None:
    """The codecs are opened first, so an error in their settings leaves no connection behind."""
    with pytest.raises(SettingsError):
        redicts.open({"backend": "memory", "codec": "no-such-codec"})
    assert not backends


# Names


def test_names_choose_databases_of_the_same_store() -> None:
    """``db_name`` is a name from ``names``; each named database has values of its own."""
    with redicts.open({"backend": "memory", "default": 4, "names": {"cats": 1, "same": 4}}) as db:
        db.root().set("a", 1)
        assert db.proxy("a", db_name="same").val() == 1
        assert db.proxy("a", db_name="cats").val() is None
        db.section("a", db_name="cats").set("b", 2)
        assert db.root(db_name="cats").val() == {"a": {"b": 2}}
        assert db.root().val() == {"a": 1}
        with pytest.raises(SettingsError, match="no database 'dogs'; known are cats, same"):
            db.root(db_name="dogs").val()


def test_a_named_database_is_a_handle_too() -> None:
    """Proxies and locks of ``databases[name]`` are in that database, not in the default one."""
    with redicts.open({"backend": "memory", "names": {"cats": 1}}) as db:
        cats = db.databases["cats"]
        cats.root().set("a", 1)
        assert db.root(db_name="cats").val() == {"a": 1}
        assert db.root().val() is None
        with cats.lock("a"):
            assert db.proxy("a", db_name="cats").is_locked()
            assert not db.proxy("a").is_locked()


# Proxies


def test_proxies_are_interned_per_database(two: tuple[Database, Database]) -> None:
    """Equal arguments return the same proxy of one database, and another one of each other database."""
    one, other = two
    proxy = one.proxy("a.b")
    assert one.proxy(["a", "b"]) is proxy
    assert one.root()["a"]["b"] is proxy
    assert one.proxy("a.b", lock_expire_timeout=5) is not proxy
    assert other.proxy("a.b") is not proxy
    assert Proxy("a.b") is not proxy
    assert one.proxy("") is one.root()


def test_proxies_compare_by_value_over_databases() -> None:
    """``==`` compares values, also of proxies of different databases; ``repr`` shows the arguments."""
    with redicts.open(MEMORY) as one, redicts.open(MEMORY) as other:
        first = one.proxy("a", lock_acquire_timeout=3)
        second = other.section("a")
        assert first == second
        first.set("b", 1)
        assert first != second
        second.set("b", 1)
        assert first == second
        assert repr(first) == "Proxy('a', lock_acquire_timeout=3)"


def test_a_proxy_of_a_database_is_not_pickled() -> None:
    """Pickling a proxy of ``open`` is refused: another process cannot know its database."""
    with redicts.open(MEMORY) as db, pytest.raises(TypeError, match=r"pass its key\(\) instead, and open the store"):
        pickle.dumps(db.proxy("a"))


# Locks


def test_a_lock_on_several_paths_is_all_or_none() -> None:
    """``lock`` acquires all its paths, or none if one of them is not free; without a path it locks the root."""
    with redicts.open(MEMORY) as db, Somebody() as ben:
        both = db.lock("a", "b.c")
        with both:
            assert db.proxy("a").is_locked()
            assert db.proxy("b.c").is_locked()
            assert not db.proxy("b").is_locked()
        with db.lock("b.c"):
            assert not ben.does(both.acquire, False)
            assert not db.proxy("a").is_locked()
        with db.lock(shared=True) as whole:
            assert (whole.key, repr(whole)) == ("", "<shared Lock ''>")
            assert ben.does(db.lock("x", shared=True).acquire, False)
            ben.does(db.lock("x").release)


def test_a_database_is_the_first_argument_of_a_lock() -> None:
    """``Lock(db, key)`` is ``db.lock(key)``."""
    with redicts.open(MEMORY) as db, Lock(db, "a.b"):
        assert db.lock("a.b").held
        assert not Proxy("a.b").is_locked()


# Closing


def test_close_is_idempotent_and_closes_every_named_database(backends: list[Closing]) -> None:
    """``close`` and the end of a ``with`` block close all databases of the configuration, and may be repeated."""
    with redicts.open({"backend": "memory", "names": {"cats": 1}}) as db:
        db.root(db_name="cats").val()
        assert [backend.closings for backend in backends] == [0, 0]
        db.close()
    assert [backend.closings for backend in backends] == [2, 2]


def test_a_closed_database_has_no_second_block() -> None:
    """A ``with`` block of a database that was closed, by a block or by ``close``, is refused."""
    db = redicts.open({"backend": "memory", "names": {"cats": 1}})
    cats = db.databases["cats"]
    with cats:
        cats.root().set("a", 1)
    for each in (db, cats):
        with pytest.raises(WrongUse, match="is closed; open it again"), each:
            each.root().clear()  # never reached


def test_close_closes_the_other_databases_after_an_error(backends: list[Closing]) -> None:
    """If one backend cannot be closed, the others are closed, and the error is raised."""
    db = redicts.open({"backend": "memory", "names": {"cats": 1}})
    db.root(db_name="cats").val()
    backends[0].fails = backends[1].fails = True
    with pytest.raises(redicts.StoreError):
        db.close()
    assert [backend.closings for backend in backends] == [1, 1]


def test_a_named_database_that_is_opened_after_close_is_closed_too(backends: list[Closing]) -> None:
    """A call that another thread has under way may open a named database after ``close``; it stays closed."""
    db = redicts.open({"backend": "memory", "names": {"cats": 1}})
    db.close()
    assert db.root(db_name="cats").val() is None
    assert backends[1].closings == 1


def test_close_releases_retained_locks(two: tuple[Database, Database]) -> None:
    """A retained lock is free when ``close`` returns, and no lock is retained afterwards."""
    one, other = two
    waiting, done = threading.Event(), threading.Event()

    def contend() -> None:
        while not done.is_set():
            with other.lock("a"):
                waiting.set()

    contender = threading.Thread(target=contend)
    contender.start()
    try:
        assert waiting.wait(10)
        lock = one.lock("a")
        retained = one.locks.retention.retained
        deadline = time.monotonic() + TIMEOUT
        while not retained:
            assert time.monotonic() < deadline, "no lock was retained"
            with lock:
                pass
        one.close()
        assert not retained
        for _ in range(20):
            with lock:
                pass
            assert not retained
    finally:
        done.set()
        contender.join()
    assert not other.lock("a").is_locked()


# Transfer


def test_copy_takes_two_databases(file: str) -> None:
    """``redicts.transfer.copy`` copies leaves and TTLs from one database to another."""
    with redicts.open(MEMORY) as source, redicts.open(file) as target:
        source.root().set("jobs", {"a": 1, "b": {"c": 2}}, expire=60)
        target.root().set("kept", 3)
        assert copy(source, target, "backup").stored == 2
        assert target.root().val() == {"jobs": {"a": 1, "b": {"c": 2}}, "kept": 3}
        assert 0 < target.proxy("jobs").time_to_live() <= 60
