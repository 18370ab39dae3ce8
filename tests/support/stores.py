"""The stores on which the API is tested: every backend, a memory store with a clock of the test, and wrapped ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from redicts import Pool, root
from redicts.backends.memory import MemoryBackend
from redicts.config.settings import parse
from redicts.core.backend import Backend, BackendPlugin, Capabilities
from redicts.core.minitransaction import Outcome, Transaction
from redicts.core.plugin_settings import NoSettings
from redicts.plugins.discovery import builtin
from redicts.plugins.kinds import BACKEND
from redicts.plugins.loading import loaded
from tests.config.distributions import Distributions
from tests.support.cluster import Cluster
from tests.support.executables import Executable, ServerMissing, each_executable, newest_of
from tests.support.sentinels import SentinelTrio
from tests.support.servers import RedisServer


class Store(NamedTuple):
    """A store under test, which the pool already uses."""

    name: str
    configuration: dict[str, Any]
    fake: bool = False

    def reload(self, **more: Any) -> None:
        """Load its settings again, with additional ones."""
        Pool().reload(cfg={**self.configuration, **more}, fake_redis=self.fake)


class Clock:
    """The clock of a store. Only the test moves it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Wrapped(Backend):
    """A backend in front of another one, which records the transactions. Tests subclass it to interfere."""

    def __init__(self, inner: Backend | None = None) -> None:
        self.inner = inner or MemoryBackend()
        self.closed = False
        self.transactions: list[Transaction] = []

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def execute(self, transaction: Transaction, /) -> Outcome:
        self.transactions.append(transaction)
        return self.inner.execute(transaction)

    def close(self) -> None:
        self.closed = True
        self.inner.close()


class NoStore(Wrapped):
    """A backend that accepts no request."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        raise AssertionError(f"a round trip where none is allowed: {transaction}")


Use = Callable[[Backend], None]

LONG: Final = os.environ.get("REDICTS_TESTS") == "long"

CLUSTER: Final = "cluster"
"""The name of the store that only the modules with it in ``ALSO_ON`` run on."""


SENTINELS: Final = "sentinels"
"""The name of the store behind Sentinels, with acknowledgements, on which only modules with ``ALSO_ON`` run."""

_MEMORY: Final = parse({"backend": "memory"})


@pytest.fixture(autouse=True)
def memory_before_and_after() -> Iterator[None]:
    """Begin every test on an empty memory store, and close its connections at the end."""
    Pool().reload(_MEMORY)
    yield
    Pool().reload(_MEMORY)


@pytest.fixture
def any_store(request: pytest.FixtureRequest, servers: Callable[[Executable], RedisServer]) -> Store:
    """Run the test on every store, each with an empty tree."""
    choice = request.param
    if isinstance(choice, ServerMissing):
        pytest.fail(str(choice), pytrace=False)
    if isinstance(choice, Executable):
        server = servers(choice)
        server.command("FLUSHALL")  # the cached scripts stay: every test would load them again
        store = Store(str(choice), {"backend": "redis", "host": server.host, "port": server.port})
    elif choice == CLUSTER:
        cluster: Cluster = request.getfixturevalue("cluster")
        store = Store(choice, cluster.configuration)
    elif choice == SENTINELS:
        trio: SentinelTrio = request.getfixturevalue("shared_trio")
        trio.primary.command("FLUSHALL")
        store = Store(choice, {**trio.configuration, "acknowledged_by": 1})
    elif choice == "sqlite":
        directory: Path = request.getfixturevalue("tmp_path")
        store = Store(choice, {"backend": "sqlite", "path": str(directory / "tree.db")})
    else:
        configuration = {"backend": "memory"} if choice == "memory" else {}
        store = Store(choice, configuration, fake=choice == "fakeredis")
    store.reload()
    assert root().val() is None
    return store


@pytest.fixture
def fast_store(any_store: Store) -> Store:
    """Run the test, of thousands of values, on every store but fakeredis, which needs seconds for the same script."""
    return any_store


def in_place_of_memory(monkeypatch: pytest.MonkeyPatch, open_: Callable[[NoSettings, int], Backend]) -> None:
    """Make every reload to memory in this test open another backend."""
    plugin = BackendPlugin("memory", NoSettings, open_)
    monkeypatch.setitem(loaded, builtin(BACKEND)["memory"], plugin)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Give a function that makes the pool, and every reload to memory in this test, use the given backend."""

    def put(backend: Backend) -> None:
        in_place_of_memory(monkeypatch, lambda _settings, _database: backend)
        Pool().reload(cfg={"backend": "memory"})

    return put


@pytest.fixture
def distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distributions]:
    """Give a directory for third-party distributions, which are installed until the end of the test."""
    directory = tmp_path / "site"
    directory.mkdir()
    made = Distributions(directory, monkeypatch)
    yield made
    Pool().reload(cfg={"backend": "memory"})
    made.forget()


@pytest.fixture
def clock(use: Use) -> Clock:
    """Make the pool use a memory store whose clock stands still until the test moves it."""
    made = Clock()
    use(MemoryBackend(made))
    return made


def together(*functions: Callable[[], object]) -> list[Any]:
    """Run functions in threads that begin together; return their results, or raise what one raised."""
    begin = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> object:
        begin.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as threads:
        running = [threads.submit(run, function) for function in functions]
    return [each.result() for each in running]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that use ``any_store`` once for each backend.

    The long run, and the modules that also run on others, have each version of Redis found, all others the newest one:
    the contract certifies on each version that transactions have the same outcomes.
    """
    if "any_store" in metafunc.fixturenames:
        also = getattr(metafunc.module, "ALSO_ON", ())
        found = each_executable() if LONG or also else newest_of(each_executable())
        ours = ["memory", "sqlite", *([] if "fast_store" in metafunc.fixturenames else ["fakeredis"]), *also]
        metafunc.parametrize("any_store", [*ours, *found.values()], ids=[*ours, *found], indirect=True)
