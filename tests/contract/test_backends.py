"""Our own backends are certified: one test for each law, so that the report of the tests names each."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from redicts.contract import LAWS, Examination, Harness, Law, Need, Status
from tests.contract.harnesses import FakeRedisHarness, MemoryHarness, RedisHarness, SqliteHarness, SqliteMemoryHarness
from tests.support.servers import RedisServer

each_law = pytest.mark.parametrize("law", LAWS, ids=str)


@pytest.fixture(scope="module")
def sqlite_harness(tmp_path_factory: pytest.TempPathFactory) -> SqliteHarness:
    """One SQLite file for all laws."""
    return SqliteHarness(tmp_path_factory.mktemp("contract"))


@pytest.fixture(scope="module")
def fakeredis_harness() -> Iterator[FakeRedisHarness]:
    """One simulated server for all laws."""
    harness = FakeRedisHarness()
    yield harness
    harness.close()


@each_law
def test_memory(law: Law) -> None:
    """The memory backend keeps the law."""
    keeps(MemoryHarness(), MemoryHarness.not_run, law)


@each_law
def test_sqlite(law: Law, sqlite_harness: SqliteHarness) -> None:
    """The SQLite backend keeps the law."""
    keeps(sqlite_harness, SqliteHarness.not_run, law)


@each_law
def test_sqlite_in_memory(law: Law) -> None:
    """The SQLite backend without a file keeps the law."""
    harness = SqliteMemoryHarness()
    try:
        keeps(harness, SqliteMemoryHarness.not_run, law)
    finally:
        harness.close()


@each_law
def test_fakeredis(law: Law, fakeredis_harness: FakeRedisHarness) -> None:
    """The Redis backend on a simulated server keeps the law."""
    keeps(fakeredis_harness, FakeRedisHarness.not_run, law)


@each_law
def test_redis(law: Law, redis_server: RedisServer) -> None:
    """The Redis backend on a real server keeps the law."""
    harness = RedisHarness(redis_server)
    try:
        keeps(harness, RedisHarness.not_run, law)
    finally:
        harness.close()


def keeps(harness: Harness, not_run: frozenset[Need], law: Law) -> None:
    """Assert that a law passes, or that it is not run for one of the needs that this backend is known not to meet."""
    thorough = os.environ.get("REDICTS_TESTS") == "long"
    result = Examination(harness, thorough=thorough).examine(law)
    if set(law.needs) & not_run:
        assert result.status is Status.NOT_RUN, f"the harness does not expect this law to run: {result}"
        assert not result.demanded, result.reason
    else:
        assert result.status is Status.PASSED, f"{result.reason}\n{result.details}"
