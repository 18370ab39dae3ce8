"""Shared by all tests: Redis servers of every version found, profiles of Hypothesis, signals, and reported skips."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Final

import hypothesis
import pytest
from _pytest.doctest import DoctestModule

from tests.support.cluster import Cluster
from tests.support.executables import Executable, ServerMissing, each_executable, newest_of
from tests.support.halts import Halts
from tests.support.proxy import FaultyProxy
from tests.support.sentinels import SentinelTrio
from tests.support.servers import RedisServer, ServerOptions, StartRedis, TlsMissing
from tests.support.skips import EXCUSE, Skips

if TYPE_CHECKING:
    from typing_extensions import Unpack


LONG: Final = os.environ.get("REDICTS_TESTS") == "long"


@pytest.fixture(scope="session")
def redis_executable(request: pytest.FixtureRequest) -> Executable:
    """Give the server executable under test; tests that use it run once for each version found."""
    found = request.param
    if isinstance(found, ServerMissing):
        pytest.fail(str(found), pytrace=False)
    assert isinstance(found, Executable)
    return found


@pytest.fixture(scope="session")
def shared_redis_server(redis_executable: Executable) -> Iterator[RedisServer]:
    """Run one server per version and worker; tests use :func:`redis_server`, which empties it."""
    with RedisServer(redis_executable) as server:
        yield server


@pytest.fixture(scope="session")
def newest_server() -> Iterator[RedisServer]:
    """Run one server of the newest version per worker; tests use :func:`server`, which empties it."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def server(newest_server: RedisServer) -> RedisServer:
    """Give an empty server of the newest version, for tests that do not depend on the version."""
    newest_server.flush()
    return newest_server


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[Executable], RedisServer]]:
    """Start a server per version on first use; all tests of a worker share it."""
    with contextlib.ExitStack() as running:
        started: dict[Executable, RedisServer] = {}

        def server(executable: Executable) -> RedisServer:
            if executable not in started:
                started[executable] = running.enter_context(RedisServer(executable))
            return started[executable]

        yield server


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Cluster]:
    """Run one cluster per module; tests use :func:`cluster`, which empties it.

    It ends with the module, because its nodes talk to each other all the time.
    """
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    """Give an empty cluster of the newest version; a test that stops a node or moves a slot has one of its own."""
    shared_cluster.flush()
    return shared_cluster


@pytest.fixture(scope="module")
def shared_trio() -> Iterator[SentinelTrio]:
    """Run a primary with two replicas and three Sentinels of the newest version, for tests that end none of them.

    They end with the module, because idle ones take a twentieth of a processor.
    """
    with SentinelTrio() as trio:
        yield trio


@pytest.fixture
def redis_server(shared_redis_server: RedisServer) -> Iterator[RedisServer]:
    """Give an empty server; a test that stops or configures one uses :func:`start_redis`."""
    shared_redis_server.flush()
    yield shared_redis_server
    if shared_redis_server.running:
        shared_redis_server.resume()  # a test may have left it paused
    else:
        shared_redis_server.restart()
        pytest.fail("this test ended the shared server: use start_redis", pytrace=False)


@pytest.fixture
def start_redis(redis_executable: Executable) -> Iterator[StartRedis]:
    """Give a function that starts servers of the version under test, which end with the test."""
    with contextlib.ExitStack() as servers:

        def start(**options: Unpack[ServerOptions]) -> RedisServer:
            return servers.enter_context(RedisServer(redis_executable, **options))

        yield start


@pytest.fixture
def tls_server(start_redis: StartRedis) -> RedisServer:
    """Run a server with TLS."""
    try:
        return start_redis(tls=True, password="secret")
    except TlsMissing as missing:
        pytest.skip(f"{EXCUSE} {missing}")


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Collect no garbage by itself: an exception that comes in a finalizer of what other tests left would be lost."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def faulty_proxy(redis_server: RedisServer) -> Iterator[FaultyProxy]:
    """Run a proxy in front of :func:`redis_server`, without faults until the test plans some."""
    with FaultyProxy(redis_server.port) as proxy:
        yield proxy


def pytest_configure(config: pytest.Config) -> None:
    """Choose how hard Hypothesis tries (``REDICTS_TESTS=long`` for the long run), and report skips and halts.

    Shells start background jobs with SIGINT ignored, and children inherit that, so that Ctrl-C would have no effect in
    the tests. A handler of this process's own is not inherited: its children start with the default.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.register_profile("quick", max_examples=60, derandomize=True, deadline=None, print_blob=True)
    hypothesis.settings.register_profile("long", max_examples=2_000, deadline=None, print_blob=True)
    hypothesis.settings.load_profile("long" if LONG else "quick")
    config.pluginmanager.register(Skips(), "redicts-skips")
    config.pluginmanager.register(Halts(), "redicts-halts")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Look for no examples in the docstrings of the tests: that takes as long as to collect the tests themselves."""
    return [each for each in (yield) if not isinstance(each, DoctestModule)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slowest tests, so that no process runs one of them alone in the end."""
    items.sort(key=lambda item: "plugins" not in item.path.parts)


def pytest_collection_finish() -> None:
    """Keep what was collected out of garbage collections, which would look at ten thousand tests each time.

    Then few objects are left to look at, and the interpreter would look more often, so that is made rarer too.
    """
    # With its first example, Hypothesis looks for objects that refer to its generator, and does not see frozen ones.
    hypothesis.given(hypothesis.strategies.none())(lambda _: None)()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that need a Redis server once for each version found.

    The short run of a module with ``NEWEST_ONLY`` has the newest version only.
    """
    if "redis_executable" in metafunc.fixturenames:
        found = each_executable()
        if not LONG and hasattr(metafunc.module, "NEWEST_ONLY"):
            found = newest_of(found)
        metafunc.parametrize("redis_executable", list(found.values()), ids=list(found), indirect=True, scope="session")
