"""What all tests share: Redis servers of every version found, how hard Hypothesis tries, and no silent skips."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.support.executables import Executable, ServerMissing, each_executable
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer, ServerOptions, StartRedis
from tests.support.skips import Skips

if TYPE_CHECKING:
    from typing_extensions import Unpack


@pytest.fixture(scope="session")
def redis_executable(request: pytest.FixtureRequest) -> Executable:
    """Give the server executable under test; what uses it runs once for each version found."""
    found = request.param
    if isinstance(found, ServerMissing):
        pytest.fail(str(found), pytrace=False)
    assert isinstance(found, Executable)
    return found


@pytest.fixture(scope="session")
def shared_redis_server(redis_executable: Executable) -> Iterator[RedisServer]:
    """Run one server per version and worker; tests use :func:`redis_server`, which is empty."""
    with RedisServer(redis_executable) as server:
        yield server


@pytest.fixture(scope="session")
def newest_server() -> Iterator[RedisServer]:
    """Run one server of the newest version for what does not depend on the version; tests use :func:`server`."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def server(newest_server: RedisServer) -> RedisServer:
    """Give a running server of the newest version, empty."""
    newest_server.flush()
    return newest_server


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[Executable], RedisServer]]:
    """Start a server per version when it is first asked for; all tests of a worker share it."""
    with contextlib.ExitStack() as running:
        started: dict[Executable, RedisServer] = {}

        def server(executable: Executable) -> RedisServer:
            if executable not in started:
                started[executable] = running.enter_context(RedisServer(executable))
            return started[executable]

        yield server


@pytest.fixture
def redis_server(shared_redis_server: RedisServer) -> Iterator[RedisServer]:
    """Give a plain running server, empty; a test that stops, pauses or configures one uses :func:`start_redis`."""
    shared_redis_server.flush()
    yield shared_redis_server
    if shared_redis_server.running:
        shared_redis_server.resume()  # so that a test that paused it spoils no other
    else:
        shared_redis_server.restart()
        pytest.fail("this test ended the server that all tests share: use start_redis", pytrace=False)


@pytest.fixture
def start_redis(redis_executable: Executable) -> Iterator[StartRedis]:
    """Start further servers of the version under test, with options; they end with the test."""
    with contextlib.ExitStack() as servers:

        def start(**options: Unpack[ServerOptions]) -> RedisServer:
            return servers.enter_context(RedisServer(redis_executable, **options))

        yield start


@pytest.fixture
def faulty_proxy(redis_server: RedisServer) -> Iterator[FaultyProxy]:
    """Run a proxy in front of :func:`redis_server`, without faults until the test plans some."""
    with FaultyProxy(redis_server.port) as proxy:
        yield proxy


def pytest_configure(config: pytest.Config) -> None:
    """Choose how hard Hypothesis tries (``REDICTS_TESTS=long`` for the long run), and report what is skipped."""
    hypothesis.settings.register_profile("quick", derandomize=True, deadline=None, print_blob=True)
    hypothesis.settings.register_profile("long", max_examples=2_000, deadline=None, print_blob=True)
    hypothesis.settings.load_profile("long" if os.environ.get("REDICTS_TESTS") == "long" else "quick")
    config.pluginmanager.register(Skips(), "redicts-skips")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs a Redis server once for each version found."""
    if "redis_executable" in metafunc.fixturenames:
        found = each_executable()
        metafunc.parametrize("redis_executable", list(found.values()), ids=list(found), indirect=True, scope="session")
