"""Processes that multiprocessing starts use the store of their parent, or refuse; no other pickle has a secret."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import redicts
from redicts import Lock, Pool, Proxy, RedictsError, root, section
from redicts.core.backend import Capabilities
from redicts.core.plugin_settings import NoSettings
from tests.api.test_pool import run_python
from tests.support.servers import RedisServer
from tests.support.stores import Wrapped, in_place_of_memory

SECRET = "s3cret-pa55"
SECONDS = 60


def look(value: Any) -> Any:
    """Return what a proxy, a lock or a call gives in this process: a value, or the error."""
    try:
        if isinstance(value, Lock):
            with value:
                return value.held
        return value.val() if isinstance(value, Proxy) else value()
    except RedictsError as error:
        return f"{type(error).__name__}: {error}"


def everything() -> Any:
    """Return what is stored in the pool's default database."""
    return root().val()


def report(pipe: Any, values: list[Any], before: Callable[[], object] | None) -> None:
    """Send the results of some values, and of those that come later."""
    if before is not None:
        before()
    pipe.send([look(value) for value in values])
    while (value := pipe.recv()) is not None:
        pipe.send(look(value))


class Child:
    """A process that reports what it sees of the values that it was started with, and of others later."""

    def __init__(self, method: str, *values: Any, before: Callable[[], object] | None = None) -> None:
        context: Any = multiprocessing.get_context(method)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=report, args=(theirs, list(values), before), daemon=True)
        self._process.start()
        theirs.close()

    def seen(self) -> Any:
        """Return the next report."""
        assert self._pipe.poll(SECONDS), "the child reports nothing"
        return self._pipe.recv()

    def ask(self, value: Any) -> Any:
        """Return what the child sees of a value that is sent now."""
        self._pipe.send(value)
        return self.seen()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *details: object) -> None:
        self._pipe.send(None)
        self._process.join(SECONDS)
        self._pipe.close()


def choose(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose the same file in one of several ways, and leave nothing by which a child could find it itself."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for each in (here, elsewhere):
        each.mkdir()
    monkeypatch.chdir(here)
    toml = '[tool.redicts]\nnames = {cats = 1}\n[tool.redicts.backend]\nname = "sqlite"\npath = "s.db"\n'
    cfg: Any = {"backend": "sqlite", "path": "s.db", "names": {"cats": 1}}
    if how == "project":
        (here / "pyproject.toml").write_text(toml)
        cfg = None
    Pool().reload(cfg=cfg)
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("REDICTS_URL", "memory://")


@pytest.mark.parametrize(
    ("method", "how"),
    [("spawn", "program"), ("forkserver", "project"), ("fork", "program")],
)
def test_a_child_uses_the_store_of_its_parent(
    method: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies, sections, locks and plain calls in a child are on the file that the parent chose, by name too."""
    choose(how, tmp_path, monkeypatch)
    root().set("a", 1)
    Proxy("a", db_name="cats").set([], 2)
    values = [Proxy("a"), section("a"), Proxy("a", db_name="cats"), Lock(Pool(), "a"), Proxy("a").lock(), everything]
    with Child(method, *values) as child:
        assert child.seen() == [1, 1, 2, True, True, {"a": 1}]
        assert child.ask(Proxy("a")) == 1
        with Lock(Pool(), "a"):
            assert child.ask(Lock(Pool(), "a").is_locked) is True
    assert [each.name for each in (tmp_path / "elsewhere").iterdir()] == []


def test_a_child_that_was_prepared_before_the_choice_uses_it(tmp_path: Path) -> None:
    """The settings are those at the start of a process, whenever its object was made."""
    program = f"""
import multiprocessing
from redicts import Pool, root
from tests.api.test_children import report, everything
ours, theirs = multiprocessing.get_context("spawn").Pipe()
child = multiprocessing.get_context("spawn").Process(target=report, args=(theirs, [everything], None))
Pool().reload({{"backend": "sqlite", "path": "{tmp_path}/s.db"}})
root().set("a", 1)
child.start()
print(ours.recv())
ours.send(None)
"""
    assert run_python(program) == "[{'a': 1}]\n"


def start_another() -> Any:
    """Return what a child of this process sees."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(look, everything).result(SECONDS)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_of_executors_use_the_store_of_their_parent(method: str, tmp_path: Path) -> None:
    """Proxies that come through the queue of an executor or a pool of processes are on the store of the parent."""
    Pool().reload(cfg={"backend": "sqlite", "path": tmp_path / "s.db"})
    root().set("a", 1)
    context: Any = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        assert executor.submit(look, Proxy("a")).result(SECONDS) == 1
        # Not only its own children.
        assert executor.submit(start_another).result(SECONDS) == {"a": 1}
    with context.Pool(1, initializer=look, initargs=(Proxy("a"),)) as pool:
        assert pool.apply_async(look, (Proxy("a"),)).get(SECONDS) == 1


@pytest.mark.parametrize("fake_redis", [False, True])
def test_a_store_that_no_other_process_sees_is_refused_there(fake_redis: bool) -> None:
    """A child of a process whose values are in its memory refuses to use any other store in its place."""
    Pool().reload(cfg=None if fake_redis else {"backend": "memory"}, fake_redis=fake_redis)
    with Child("spawn", Proxy("a"), everything) as child:
        for seen in child.seen():
            assert "whose values no other process sees; call Pool().reload() here" in seen


def choose_memory() -> None:
    """Choose a store in this process."""
    Pool().reload(cfg={"backend": "memory"})
    root().set("a", "own")


def test_the_own_choice_of_a_child_takes_precedence(tmp_path: Path) -> None:
    """A child that reloads its pool uses that store, also for the proxies of its parent."""
    Pool().reload(cfg={"backend": "sqlite", "path": tmp_path / "s.db"})
    root().set("a", 1)
    with Child("spawn", Proxy("a"), before=choose_memory) as child:
        assert child.seen() == ["own"]
        assert child.ask(Proxy("a")) == "own"


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_proxy_of_a_later_store_is_refused(method: str, tmp_path: Path) -> None:
    """If the parent chose another store after the start, a proxy that it sends then is refused when it is used."""
    Pool().reload(cfg={"backend": "sqlite", "path": tmp_path / "s.db"})
    root().set("a", 1)
    with Child(method, Proxy("a")) as child:
        assert child.seen() == [1]
        Pool().reload(cfg={"backend": "sqlite", "path": tmp_path / "other.db"})
        assert "uses another store than when it started this process" in child.ask(Proxy("a"))
        assert child.ask(everything) == {"a": 1}


def test_settings_that_cannot_be_passed_on_are_refused_in_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that cannot be pickled stop no process from starting: using them there is an error that says why."""

    class Shared(Wrapped):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities(ttl=True, processes=True, durable=True, atomic_entries=None)

    def refuse(_: object) -> None:
        raise OSError(SECRET)

    in_place_of_memory(monkeypatch, lambda _settings, _database: Shared())
    Pool().reload(cfg={"backend": "memory"})
    monkeypatch.setattr(NoSettings, "__reduce__", refuse)
    with Child("spawn", Proxy("a")) as child:
        (seen,) = child.seen()
    assert "has settings that cannot be pickled (OSError)" in seen
    assert SECRET not in seen


def test_a_password_reaches_a_child_and_no_other_pickle(redis_server: RedisServer) -> None:
    """A child is given the password; pickles of proxies, locks and the pool do not have it, and settings have none."""
    redis_server.command("ACL", "SETUSER", "anna", "on", f">{SECRET}", "~*", "&*", "+@all")
    cfg = {"host": redis_server.host, "port": redis_server.port, "username": "anna", "password": SECRET}
    try:
        Pool().reload(cfg=cfg)
        root().set("a", 1)
        for each in (Proxy("a"), Lock(Pool(), "a"), Pool(), root(db_name="x")):
            assert SECRET.encode() not in pickle.dumps(each)
        with pytest.raises(TypeError, match="settings may hold passwords"):
            pickle.dumps(Pool().settings)
        with Child("spawn", Proxy("a")) as child:
            assert child.seen() == [1]
    finally:
        redis_server.command("ACL", "DELUSER", "anna")


# Databases of redicts.open()


def test_a_child_opens_the_database_of_a_proxy_again(tmp_path: Path) -> None:
    """Proxies and locks of ``redicts.open`` can be given to a child that is started, and nowhere else."""
    with redicts.open({"backend": "sqlite", "path": tmp_path / "s.db", "names": {"cats": 1}}) as db:
        db.root().set("a", 1)
        db.proxy("a", db_name="cats").set([], 2)
        values = [db.proxy("a"), db.proxy("a", db_name="cats"), db.databases["cats"].proxy("a"), db.lock("a")]
        with Child("spawn", *values) as child:
            assert child.seen() == [1, 2, 2, True]
        for each in (db, db.proxy("a"), db.lock("a")):
            with pytest.raises(TypeError, match="open the store again there"):
                pickle.dumps(each)


def test_a_database_in_memory_cannot_be_given_to_a_child() -> None:
    """The start of a process with a proxy of a store in memory is refused."""
    with redicts.open({"backend": "memory"}) as db, pytest.raises(TypeError, match="are in this process"):
        Child("spawn", db.proxy("a"))


# Other pickles


USE = """
import pickle, sys
from redicts import Pool, SettingsError
proxy = pickle.loads(bytes.fromhex(sys.argv[1]))
try:
    print(proxy.val())
except SettingsError as error:
    print(error)
    Pool().reload({"backend": "memory"})
    proxy.set("x", 2)
    print(proxy.val())
"""


def used_elsewhere(proxy: Proxy, directory: Path, **environment: str) -> str:
    """Return what a program prints that is not a child, and gets a pickle."""
    command = [sys.executable, "-c", USE, pickle.dumps(proxy).hex()]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("REDICTS_")}
    paths = os.pathsep.join([str(Path(redicts.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
        cwd=directory,
        env={**variables, "PYTHONPATH": paths, **environment},
    )
    return done.stdout


def test_a_program_without_configuration_refuses_the_proxy_of_another(tmp_path: Path) -> None:
    """A pickle in another program never means Redis on this host silently; a configuration of its own is used."""
    Pool().reload(cfg={"backend": "sqlite", "path": tmp_path / "s.db"})
    root().set("a", 1)
    refused, own = used_elsewhere(Proxy("a"), tmp_path).splitlines()
    assert "this one has no configuration of its own; call Pool().reload() here, or set REDICTS_URL" in refused
    assert own == "{'x': 2}"
    assert used_elsewhere(Proxy("a"), tmp_path, REDICTS_URL="sqlite:///s.db") == "1\n"


def test_a_proxy_of_the_default_store_is_one_of_the_default_store(tmp_path: Path) -> None:
    """A pickle from a program without configuration can be used wherever a store is chosen, or none."""
    Pool().reload(cfg={})
    assert pickle.loads(pickle.dumps(Proxy("a"))) is Proxy("a")
    assert used_elsewhere(Proxy("a"), tmp_path, REDICTS_URL="memory://") == "None\n"
