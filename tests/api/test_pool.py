"""The pool: one object per process, and an atomic reload for all proxies."""

from __future__ import annotations

import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from redicts import AccessDenied, Pool, Proxy, RedictsError, SettingsError, Unreachable, Unsupported, root
from redicts.core.minitransaction import Outcome, Transaction
from redicts.core.plugin_settings import NoSettings
from tests.support.ports import free_port
from tests.support.servers import RedisServer, StartRedis
from tests.support.stores import Store, Use, Wrapped, in_place_of_memory, together
from tests.support.waiting import eventually

SECRET = "s3cret-pa55"


def run_python(program: str) -> str:
    """Run a program in a new interpreter, warnings being errors; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Wrapped]]:
    """Reload to a memory store that tells which databases were opened, with their backends."""
    found: list[tuple[int, Wrapped]] = []

    def open_(_settings: NoSettings, database: int) -> Wrapped:
        backend = Wrapped()
        found.append((database, backend))
        return backend

    in_place_of_memory(monkeypatch, open_)
    Pool().reload(cfg={"backend": "memory", "default": 4, "names": {"cats": 1, "same": 4, "dogs": 2}})
    return found


# One pool


def test_there_is_one_pool() -> None:
    """``Pool()`` is the same object everywhere in the process."""
    pool = Pool()
    assert Pool() is pool
    assert all(each is pool for each in together(Pool, Pool, Pool))


def test_making_a_pool_with_settings_reloads_it() -> None:
    """``Pool(cfg)`` is the same pool, with these settings; ``Pool()`` changes nothing."""
    root().set("a", 1)
    pool = Pool({"backend": "memory", "default": 3})
    assert pool is Pool()
    assert pool.settings.default == 3
    assert root().val() is None
    with pytest.raises(SettingsError):
        Pool({"backend": "memroy"})
    assert Pool().settings.default == 3


def test_threads_that_come_first_get_one_pool() -> None:
    """Threads that create the pool concurrently get one object, and the settings are read once."""
    program = """
import threading
from redicts import Pool
begin = threading.Barrier(8)
found = []
def ask():
    begin.wait()
    pool = Pool()
    found.append((id(pool), id(pool.settings)))
threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), len(set(found)))
"""
    assert run_python(program) == "8 1\n"


def test_without_settings_it_is_redis_on_this_host() -> None:
    """Without a configuration the pool uses Redis on this host, port 6379, database 0, and connects on first use."""
    program = """
import socket
def refuse(*arguments): raise AssertionError("connected")
socket.socket.connect = refuse
from redicts import Pool, root
print(Pool())
settings = Pool().settings
Pool().database()
print(settings.backend, settings.options.host, settings.options.port, settings.default, settings.codec)
print(Pool())
"""
    assert run_python(program) == "<Pool not used yet>\nredis localhost 6379 0 json\n<Pool redis>\n"


def test_reload_without_settings_reads_the_defaults() -> None:
    """``reload()`` is as if the pool had never been configured."""
    Pool().reload(cfg={"backend": "memory", "default": 2, "names": {"a": 1}})
    Pool().reload()
    settings = Pool().settings
    assert (settings.backend, settings.default, settings.names) == ("redis", 0, {})


# Reloading


def test_a_reload_is_for_every_existing_proxy(opened: list[tuple[int, Wrapped]]) -> None:
    """Proxies that exist already use the new settings from then on."""
    proxy, cats = Proxy("a"), Proxy("a", db_name="cats")
    proxy.set("x", 1)
    cats.set("x", 2)
    Pool().reload(cfg={"backend": "memory", "names": {"cats": 7}})
    assert proxy.val() is None
    assert cats.val() is None
    proxy.set("x", 3)
    cats.set("x", 4)
    assert [database for database, _ in opened] == [4, 1, 0, 7]
    assert Proxy("a") is proxy
    assert Proxy("a.x").val() == 3


def test_a_reload_to_another_kind_of_store(any_store: Store) -> None:
    """A proxy follows the pool from any store to any other and back."""
    proxy = Proxy("a")
    proxy.set("x", 1)
    Pool().reload(cfg={"backend": "memory"})
    assert proxy.val() is None
    proxy.set("x", 2)
    any_store.reload()
    durable = Pool().database().backend.capabilities.durable
    assert durable is (any_store.name not in {"memory", "fakeredis"})
    assert proxy.val() == ({"x": 1} if durable else None)


def test_a_reload_closes_what_was_open(opened: list[tuple[int, Wrapped]]) -> None:
    """Every database that was opened with the old settings is closed, none that is opened with the new ones."""
    root().val()
    root(db_name="cats").val()
    Pool().reload(cfg={"backend": "memory"})
    root().val()
    assert [(database, backend.closed) for database, backend in opened] == [(4, True), (1, True), (0, False)]


def test_databases_are_opened_once_when_first_used(opened: list[tuple[int, Wrapped]]) -> None:
    """The reload opens the default database, the first use each other one; names for one number, and threads, share."""
    assert [database for database, _ in opened] == [4]
    together(*[root(db_name=name).val for name in (None, "same", "dogs", "same", None, "dogs")])
    assert sorted(database for database, _ in opened) == [2, 4]
    root().set("a", 1)
    assert root(db_name="same").val() == {"a": 1}
    assert root(db_name="dogs").val() is None
    assert len(opened) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"backend": "memroy"},
        {"backend": "memory", "x": 1},
        {"backend": "memory", "codec": "jsno"},
        {"backend": "memory", "names": {"a": -1}},
        "memory://somewhere",
        5,
    ],
)
def test_a_wrong_reload_changes_nothing(opened: list[tuple[int, Wrapped]], wrong: Any) -> None:
    """Settings that are refused leave the old ones current, with their values and open databases."""
    root().set("a", 1)
    before = Pool().settings
    with pytest.raises(SettingsError):
        Pool().reload(cfg=wrong)
    with pytest.raises(SettingsError):
        Pool(wrong)
    assert Pool().settings is before
    assert root().val() == {"a": 1}
    assert [(database, backend.closed) for database, backend in opened] == [(4, False)]


def test_memory_is_empty_after_a_reload() -> None:
    """Values in memory are lost after a reload, even to the same settings."""
    root().set("a", 1)
    Pool().reload(cfg={"backend": "memory"})
    assert root().val() is None


class Worker:
    """Makes a call again and again until the test is over, and counts."""

    def __init__(self, call: Callable[[int], object], over: threading.Event) -> None:
        self.calls = 0
        self._call = call
        self._over = over

    def __call__(self) -> None:
        try:
            while not self._over.is_set():
                self._call(self.calls)
                self.calls += 1
        finally:
            self._over.set()


def test_reloads_during_calls_harm_no_call(any_store: Store) -> None:
    """While the pool is reloaded again and again, calls in other threads go on, on the old settings or the new."""

    def change(number: int) -> None:
        root().set("a", {"x": number, "y": {"z": number}})
        Proxy("n").add(1)
        Proxy("f").update_with(lambda old: (old or 0) + 1)

    def look(_: int) -> None:
        value = root().val({})
        if "a" in value:
            assert value["a"]["x"] == value["a"]["y"]["z"]
        assert len(list(root().iter_children())) <= 4

    over = threading.Event()
    workers = [Worker(change, over), Worker(look, over)]

    def reload() -> None:
        try:
            for _ in range(20):
                any_store.reload()
                before = [worker.calls for worker in workers]

                def going_on(before: list[int] = before) -> bool:
                    return over.is_set() or all(worker.calls > calls for worker, calls in zip(workers, before))

                eventually(going_on, "calls go on after a reload", every=0.001)
        finally:
            over.set()

    together(reload, *workers)


def test_a_call_under_way_ends_on_the_old_settings(use: Use) -> None:
    """A call that has begun is finished by the store on which it began, though the pool was reloaded meanwhile."""
    reached, go_on = threading.Event(), threading.Event()

    class Slow(Wrapped):
        def execute(self, transaction: Transaction, /) -> Outcome:
            outcome = super().execute(transaction)
            if transaction.reads:
                reached.set()
                assert go_on.wait(20)
            return outcome

    slow = Slow()
    use(slow)

    def reload() -> None:
        assert reached.wait(20)
        use(Wrapped())
        go_on.set()

    results = together(lambda: Proxy("a").update_with(lambda old: "done", default=None), reload)
    assert results[0] == "done"
    assert root().val() is None
    assert len(slow.transactions) == 2


# Connections


def test_get_connection_gives_a_client_of_the_same_database(redis_server: RedisServer) -> None:
    """``get_connection`` returns a client of redis-py for the default database or a named one."""
    Pool().reload(cfg={"host": redis_server.host, "port": redis_server.port, "default": 2, "names": {"other": 3}})
    root().set("a", 42)
    client, other = Pool().get_connection(), Pool().get_connection("other")
    assert isinstance(client, redis.Redis)
    assert client.hget("v:", "a") == b"42"
    assert other.dbsize() == 0
    other.set("mine", "own")
    assert root(db_name="other").val() is None
    assert client.exists("mine") == 0
    other.delete("mine")


def test_get_connection_works_on_the_simulated_server() -> None:
    """With ``fake_redis`` the client is one of the simulated server."""
    Pool().reload(fake_redis=True)
    root().set("a", 42)
    assert Pool().get_connection().hget("v:", "a") == b"42"


def test_get_connection_needs_redis() -> None:
    """Another store has no such client, and the error names the backend that has one."""
    with pytest.raises(Unsupported, match="'memory' has no Redis connections; choose backend 'redis'"):
        Pool().get_connection()
    with pytest.raises(SettingsError, match="'cats'"):
        Pool().get_connection("cats")


# Secrets


def everything_said(error: BaseException) -> str:
    """Return all that a log would hold of an error, its causes included."""
    return "".join(traceback.format_exception(error)) + repr(error)


def without_source(text: str) -> str:
    """Return a traceback without the lines of source code, some of which hold the secret in these tests."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("    "))


@pytest.mark.parametrize(
    "cfg",
    [
        {"password": SECRET, "port": 1},
        {"backend": {"name": "redis", "password": SECRET, "username": "anna"}},
        {"url": f"redis://anna:{SECRET}@localhost:1/0"},
        f"rediss://:{SECRET}@localhost:1/0",
    ],
)
def test_no_repr_holds_a_secret(cfg: Any) -> None:
    """No repr, text or dump of pool, settings, store and backend contains a password."""
    Pool().reload(cfg=cfg)
    pool = Pool()
    said = [
        repr(pool),
        str(pool),
        repr(pool.settings),
        str(pool.settings),
        pool.settings.model_dump_json(),
        repr(pool.settings.model_dump()),
        repr(pool.database()),
        repr(pool.database().backend),
        repr(vars(pool)),
    ]
    assert SECRET not in "".join(said)


@pytest.mark.parametrize(
    "cfg",
    [
        {"pasword": SECRET},
        {"password": [SECRET]},
        {"password": SECRET, "port": 99999},
        {"password": SECRET, "prot": 1},
        {"backend": "memory", "password": SECRET},
        {"backend": {"name": "redis", "password": SECRET}, "host": SECRET},
        {"backend": "redsi", "password": SECRET},
        {"port": SECRET},
        {"names": {"a": SECRET}},
        {"database": SECRET},
        {"codec": {"name": "json", "key": SECRET}},
        {"url": f"redis://anna:{SECRET}@localhost:port/0"},
        {"url": f"http://anna:{SECRET}@localhost/0"},
        {"url": f"redis://:{SECRET}@localhost/0?x=1"},
        {"url": f"redis://:{SECRET}@localhost/0", "password": SECRET},
        f"redis://anna:{SECRET}@localhost:99999/0",
        f"redis://anna:{SECRET}@localhost/none",
        f"redsi://anna:{SECRET}@localhost/0",
        f"memory://anna:{SECRET}@localhost/0",
        f"anna:{SECRET}@localhost",
        SECRET,
    ],
)
def test_refused_settings_are_not_repeated(cfg: Any) -> None:
    """An error about settings names fields and never repeats a value."""
    with pytest.raises(SettingsError) as caught:
        Pool().reload(cfg=cfg)
    assert SECRET not in without_source(everything_said(caught.value))


def test_errors_of_a_server_hold_no_secret(start_redis: StartRedis) -> None:
    """The errors for a refused password and for an unreachable server do not contain the password."""
    server = start_redis(password="another")
    unused = free_port()
    for port, error in ((server.port, AccessDenied), (unused, Unreachable)):
        Pool().reload(cfg={"host": server.host, "port": port, "password": SECRET, "retries": 0})
        with pytest.raises(error) as caught:
            root().val()
        said = without_source(everything_said(caught.value))
        assert SECRET not in said
        assert str(port) in str(caught.value)


def test_a_failing_store_is_a_redicts_error_to_every_call() -> None:
    """Without a server, every call raises an error with location and advice; the proxy works again afterwards."""
    Pool().reload(cfg={"host": "127.0.0.1", "port": free_port(), "retries": 0})
    for call in (root().val, root().exists, root().keys, root().clear, Proxy("a").time_to_live, Proxy("a").__len__):
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:\d+.*start it or correct host and port") as caught:
            call()
        assert isinstance(caught.value, (RedictsError, ConnectionError))
    Pool().reload(cfg={"backend": "memory"})
    assert root().val() is None


# Other processes, and what is imported


def test_memory_after_a_fork_is_the_childs_own() -> None:
    """A forked child has a copy of the tree; what either writes the other does not see; proxies stay the same."""
    program = """
import os, pickle
from redicts import Pool, Proxy, root
Pool().reload(cfg={"backend": "memory"})
proxy = Proxy("a")
proxy.set("x", 1)
to_child, to_parent = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    os.read(to_child[0], 1)
    seen = root().val()
    assert Proxy("a") is proxy and pickle.loads(pickle.dumps(proxy)) is proxy
    proxy.set("y", 2)
    Pool().reload(cfg={"backend": "memory"})
    root().set("b", 3)
    os.write(to_parent[1], repr((seen, root().val())).encode())
    os._exit(0)
proxy.set("z", 3)
os.write(to_child[1], b"!")
print(os.read(to_parent[0], 1000).decode())
assert os.waitpid(child, 0)[1] == 0
print(root().val())
"""
    assert run_python(program) == "({'a': {'x': 1}}, {'b': 3})\n{'a': {'x': 1, 'z': 3}}\n"


def test_a_fork_while_others_work_leaves_the_child_able_to_work() -> None:
    """A child forked while threads use the pool inherits no lock that stays locked, and no half of a write."""
    program = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of every fork with threads
from redicts import Pool, Proxy, root
Pool().reload(cfg={"backend": "memory"})
root().set("a", {"x": 0, "y": {"z": 0}})
stop = threading.Event()
def work(name):
    number = 0
    while not stop.is_set():
        number += 1
        root().set("a", {"x": number, "y": {"z": number}})
        Proxy(f"{name}.{number}")
        if name == "t0": Pool().database("other" if number % 2 else None)
threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(2)]
Pool().reload(cfg={"backend": "memory", "names": {"other": 1}})
root().set("a", {"x": 0, "y": {"z": 0}})
for thread in threads: thread.start()
statuses = set()
for number in range(20):
    child = os.fork()
    if child == 0:
        value = root().val()
        whole = value["a"]["x"] == value["a"]["y"]["z"]
        Proxy(f"child.{number}").set("x", 1)
        Pool().reload(cfg={"backend": "memory"})
        Proxy("new.place").set("x", 1)
        os._exit(0 if whole else 1)
    statuses.add(os.waitpid(child, 0)[1])
stop.set()
for thread in threads: thread.join()
print(statuses)
"""
    assert run_python(program) == "{0}\n"


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [
        ("import redicts", "redis fakeredis sqlite3 hiredis redicts.codecs.json redicts.backends.* redicts.contract*"),
        (
            "from redicts import *\nProxy('a.b', db_name='x'); root().get('c'); section('d'); Pool()",
            "redis fakeredis sqlite3 hiredis redicts.codecs.json redicts.backends.* redicts.contract*",
        ),
        (
            "from redicts import *\nPool().reload(cfg={'backend': 'memory'}); root().set('a', 1); root().val()",
            "redis fakeredis sqlite3 hiredis redicts.backends.redis* redicts.backends.sqlite* redicts.contract*",
        ),
        (
            "from redicts import *\nPool().reload(cfg={'backend': 'sqlite', 'path': ':memory:'}); root().set('a', 1)",
            "redis fakeredis hiredis redicts.backends.redis* redicts.contract*",
        ),
        (
            "from redicts import *\nPool().reload(cfg={'host': 'nowhere.invalid'}); Pool().database()",
            "fakeredis sqlite3 redicts.backends.fakeredis redicts.backends.sqlite* redicts.contract*",
        ),
    ],
    ids=["importing", "proxies and pool", "memory", "sqlite", "redis"],
)
def test_only_what_is_chosen_is_imported(program: str, unwanted: str) -> None:
    """A client library, a backend and a codec are imported when they are first chosen, and not before."""
    loaded = run_python(f"{program}\nimport sys\nprint(*sys.modules)").split()
    patterns = unwanted.split()
    found = [
        name
        for name in loaded
        if any(name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])) for pattern in patterns)
    ]
    assert found == []


def test_the_public_names_are_those_that_are_listed() -> None:
    """``redicts`` has the names in ``__all__``, its modules, and nothing else."""
    names = run_python("import redicts\nprint(*[name for name in vars(redicts) if name[0] != '_'])").split()
    import redicts

    modules = {path.stem for path in Path(redicts.__file__).parent.iterdir()}
    assert set(redicts.__all__) - set(names) == set()
    assert set(names) - set(redicts.__all__) - modules == {"annotations"}
