"""The backend is certified: one test for each check, and for each way to keep transactions apart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redicts_postgres import PostgresSettings
from redicts_postgres.harness import PostgresHarness, Store

from redicts.contract import CHECKS, ConformanceCheck, Examination, Need, Status

NOT_CLAIMED = frozenset({Need.NO_TTL, Need.NO_PROCESSES, Need.LIMIT, Need.DOCUMENTS})


@pytest.fixture(scope="module", params=["locks", "serializable"])
def harness(request: pytest.FixtureRequest, settings: PostgresSettings) -> Iterator[PostgresHarness]:
    """Give the store, with tables of its own for each isolation."""
    chosen = {"isolation": request.param, "prefix": f"{request.param}_"}
    made = PostgresHarness(Store(settings.model_copy(update=chosen)))
    yield made
    made.close()


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_check(check: ConformanceCheck, harness: PostgresHarness) -> None:
    """The backend keeps the check, unless it is about what the backend does not claim."""
    hit = harness.disturbed
    result = Examination(harness).examine(check)
    if set(check.needs) & NOT_CLAIMED:
        assert result.status is Status.NOT_RUN
        assert not result.required
        return
    assert result.status is Status.PASSED, f"{result.reason}\n{result.details}"
    if {Need.LOST_REPLIES, Need.LATE_REQUESTS} & set(check.needs):
        assert harness.disturbed > hit, "no request was disturbed"
