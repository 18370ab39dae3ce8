"""The contract suite, one test for each check and isolation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redicts_postgres import PostgresSettings
from redicts_postgres.harness import PostgresHarness, Store

from redicts.contract import CHECKS, ConformanceCheck, Examination, Need, Status

NOT_CLAIMED = frozenset(
    {
        Need.NO_TTL,
        Need.NO_PROCESSES,
        Need.LIMIT,
        Need.DOCUMENTS,
        Need.SHARDED,
        Need.ASYNCIO,
        Need.RAW,
        Need.FORGETTING,
        Need.FAILING_COMMITS,
        Need.LOCAL,
        Need.SIZE,
        Need.WALL_CLOCK,
    }
)


@pytest.fixture(scope="module", params=["locks", "serializable"])
def harness(request: pytest.FixtureRequest, settings: PostgresSettings) -> Iterator[PostgresHarness]:
    """Give the store, with separate tables for each isolation."""
    chosen = {"isolation": request.param, "prefix": f"{request.param}_"}
    made = PostgresHarness(Store(settings.model_copy(update=chosen)))
    yield made
    made.close()


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_check(check: ConformanceCheck, harness: PostgresHarness) -> None:
    """The backend passes the check, or does not claim what the check needs."""
    hit = harness.disturbed
    result = Examination(harness).examine(check)
    if set(check.needs) & NOT_CLAIMED:
        assert result.status is Status.NOT_RUN
        assert not result.required
        return
    assert result.status is Status.PASSED, f"{result.reason}\n{result.details}"
    if {Need.LOST_REPLIES, Need.LATE_REQUESTS} & set(check.needs):
        assert harness.disturbed > hit, "no request was disturbed"
