"""A fresh environment and a PostgreSQL server for the tests of the example distributions."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.plugins.fresh import FreshEnvironment
from tests.support.executables import ServerMissing
from tests.support.postgres import PostgresServer, find_postgres


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> FreshEnvironment:
    """Give the environment, which the workers of one run share."""
    base = tmp_path_factory.getbasetemp()
    return FreshEnvironment((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "fresh")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Run one server per worker. Without PostgreSQL, tests that need it are skipped, which fails in CI."""
    try:
        executables = find_postgres()
    except ServerMissing as missing:
        pytest.skip(str(missing))
    with PostgresServer(executables) as server:
        yield server
