"""What the front is tested on: every store there is, one whose clock can be moved, and any that a test makes up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from redicts import Pool, root
from redicts.backends.memory import MemoryBackend, MemorySettings
from redicts.core.backend import Backend, BackendPlugin, Capabilities
from redicts.core.minitransaction import Outcome, Transaction
from redicts.plugins.discovery import builtin
from redicts.plugins.kinds import BACKEND
from redicts.plugins.loading import loaded
from tests.config.distributions import Distributions
from tests.support.executables import Executable, ServerMissing, each_executable
from tests.support.servers import RedisServer


class Store(NamedTuple):
    """A store under test: the pool uses it already."""

    name: str
    configuration: dict[str, Any]
    fake: bool = False

    def reload(self, **more: Any) -> None:
        """Load its settings again, with more of them."""
        Pool().reload(cfg={**self.configuration, **more}, fake_redis=self.fake)


class Clock:
    """The clock of a store, which a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Wrapped(Backend):
    """A backend in front of another one; tests subclass it to watch or to meddle."""

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
    """A backend that must not be asked anything."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        raise AssertionError(f"a round trip where none is allowed: {transaction}")


Use = Callable[[Backend], None]


@pytest.fixture(autouse=True)
def memory_before_and_after() -> Iterator[None]:
    """Let every test begin on an empty memory store, and let no connection outlive it."""
    Pool().reload(cfg={"backend": "memory"})
    yield
    Pool().reload(cfg={"backend": "memory"})


@pytest.fixture
def any_store(
    request: pytest.FixtureRequest, tmp_path: Path, servers: Callable[[Executable], RedisServer]
) -> Iterator[Store]:
    """Run the test on every store in turn, beginning with an empty tree."""
    choice = request.param
    if isinstance(choice, ServerMissing):
        pytest.fail(str(choice), pytrace=False)
    if isinstance(choice, Executable):
        server = servers(choice)
        server.flush()
        store = Store(str(choice), {"backend": "redis", "host": server.host, "port": server.port})
    elif choice == "sqlite":
        store = Store(choice, {"backend": "sqlite", "path": str(tmp_path / "tree.db")})
    else:
        configuration = {"backend": "memory"} if choice == "memory" else {}
        store = Store(choice, configuration, fake=choice == "fakeredis")
    store.reload()
    assert root().val() is None
    yield store
    Pool().reload(cfg={"backend": "memory"})


def in_place_of_memory(monkeypatch: pytest.MonkeyPatch, open_: Callable[[MemorySettings, int], Backend]) -> None:
    """Let every reload to memory in this test open another backend."""
    plugin = BackendPlugin("memory", MemorySettings, open_)
    monkeypatch.setitem(loaded, builtin(BACKEND)["memory"], plugin)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Give a function that puts any backend behind the pool, and behind every reload to memory in this test."""

    def put(backend: Backend) -> None:
        in_place_of_memory(monkeypatch, lambda _settings, _database: backend)
        Pool().reload(cfg={"backend": "memory"})

    return put


@pytest.fixture
def distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distributions]:
    """Give a place for the distributions of others, which are installed until the end of the test."""
    place = tmp_path / "site"
    place.mkdir()
    made = Distributions(place, monkeypatch)
    yield made
    Pool().reload(cfg={"backend": "memory"})
    made.forget()


@pytest.fixture
def clock(use: Use) -> Clock:
    """Put a memory store behind the pool whose clock stands still until the test moves it."""
    made = Clock()
    use(MemoryBackend(made))
    return made


def together(*functions: Callable[[], object]) -> list[Any]:
    """Run functions in threads that begin at the same moment; return their results, or raise what one raised."""
    begin = threading.Barrier(len(functions))
    results: list[Any] = [None] * len(functions)
    errors: list[BaseException] = []

    def run(index: int, function: Callable[[], object]) -> None:
        begin.wait()
        try:
            results[index] = function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs ``any_store`` once for each store, and for each version of Redis found."""
    if "any_store" in metafunc.fixturenames:
        found = each_executable()
        ours = ["memory", "sqlite", "fakeredis"]
        metafunc.parametrize("any_store", [*ours, *found.values()], ids=[*ours, *found], indirect=True)
