"""Our own backends are certified: one test for each check, so that the report of the tests names each.

The memory backend is certified whole, by ``test_command.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

import pytest

from redicts.contract import CHECKS, ConformanceCheck, Examination, Harness, Need, Status
from tests.contract.harnesses import ClusterHarness, FakeRedisHarness, RedisHarness, SqliteHarness, SqliteMemoryHarness
from tests.support.cluster import Cluster
from tests.support.servers import RedisServer

LONG: Final = os.environ.get("REDICTS_TESTS") == "long"
WITHOUT_A_FILE: Final = [
    check
    for check in CHECKS
    if check.name.startswith(("clients.", "failures.", "forks.", "interruptions.", "reads.", "threads.", "writes."))
]
"""The checks of what depends on connections, which is all that differs without a file."""

WITHOUT_A_SERVER: Final = [
    check
    for check in CHECKS
    if not check.name.startswith(
        (
            *("clock.", "documents", "expired.pages", "fast_paths.", "interruptions.", "model.", "names.names"),
            *("pages", "pairs.", "sizes.", "space.", "writes.many"),
        )
    )
]
"""The checks without those of many values, of documents and of histories, which examine the script and the client that
are those of a real server, and for which the simulation takes minutes."""

OF_THE_CLIENT: Final = [
    check
    for check in CHECKS
    if check.name.startswith(("clients.", "forks.", "interruptions.", "processes.", "threads.", "waits."))
]
"""The checks of what happens in the processes of clients, so that the version of a server makes no difference."""

OF_THE_SERVER: Final = [check for check in CHECKS if check not in OF_THE_CLIENT]

OF_A_CLUSTER: Final = [
    check
    for check in CHECKS
    if check.name.startswith(
        ("changes.", "clients.", "databases.", "replies.", "sections.", "servers.", "space.nothing")
    )
]
"""The checks of what a cluster does in another way than one server."""

each_check = pytest.mark.parametrize("check", CHECKS, ids=str)


@pytest.fixture(scope="module")
def sqlite_harness(tmp_path_factory: pytest.TempPathFactory) -> SqliteHarness:
    """One SQLite file for all checks."""
    return SqliteHarness(tmp_path_factory.mktemp("contract"))


@pytest.fixture(scope="module")
def fakeredis_harness() -> Iterator[FakeRedisHarness]:
    """One simulated server for all checks."""
    harness = FakeRedisHarness()
    yield harness
    harness.close()


@each_check
def test_sqlite(check: ConformanceCheck, sqlite_harness: SqliteHarness) -> None:
    """The SQLite backend keeps the check."""
    keeps(sqlite_harness, SqliteHarness.not_run, check)


@pytest.mark.parametrize("check", CHECKS if LONG else WITHOUT_A_FILE, ids=str)
def test_sqlite_in_memory(check: ConformanceCheck) -> None:
    """The SQLite backend without a file keeps the check."""
    harness = SqliteMemoryHarness()
    try:
        keeps(harness, SqliteMemoryHarness.not_run, check)
    finally:
        harness.close()


@pytest.mark.parametrize("check", CHECKS if LONG else WITHOUT_A_SERVER, ids=str)
def test_fakeredis(check: ConformanceCheck, fakeredis_harness: FakeRedisHarness) -> None:
    """The Redis backend on a simulated server keeps the check."""
    keeps(fakeredis_harness, FakeRedisHarness.not_run, check)


@pytest.mark.parametrize("check", CHECKS if LONG else OF_THE_SERVER, ids=str)
def test_redis(check: ConformanceCheck, redis_server: RedisServer) -> None:
    """The Redis backend on a real server of each version keeps the check."""
    keeps_on(redis_server, check)


@pytest.mark.parametrize("check", OF_THE_CLIENT, ids=str)
def test_the_client_of_redis(check: ConformanceCheck, server: RedisServer) -> None:
    """The Redis backend on a real server of the newest version keeps the check."""
    keeps_on(server, check)


@pytest.fixture(scope="module")
def cluster_harness(shared_cluster: Cluster) -> Iterator[ClusterHarness]:
    """One cluster for all checks."""
    harness = ClusterHarness(shared_cluster)
    yield harness
    harness.close()


@pytest.mark.parametrize("check", CHECKS if LONG else OF_A_CLUSTER, ids=str)
def test_a_cluster(check: ConformanceCheck, cluster_harness: ClusterHarness) -> None:
    """The Redis backend on a cluster keeps the check, within one section and over several."""
    keeps(cluster_harness, ClusterHarness.not_run, check)


def keeps_on(server: RedisServer, check: ConformanceCheck) -> None:
    """Assert that the Redis backend keeps a check on this server."""
    harness = RedisHarness(server)
    try:
        keeps(harness, RedisHarness.not_run, check)
    finally:
        harness.close()


def keeps(harness: Harness, not_run: frozenset[Need], check: ConformanceCheck) -> None:
    """Assert that a check passes, or that it is not run for one of the needs that this backend is known not to meet."""
    result = Examination(harness, thorough=LONG).examine(check)
    if set(check.needs) & not_run:
        assert result.status is Status.NOT_RUN, f"the harness does not expect this check to run: {result}"
        assert not result.required, result.reason
    else:
        assert result.status is Status.PASSED, f"{result}\n{result.details}"
