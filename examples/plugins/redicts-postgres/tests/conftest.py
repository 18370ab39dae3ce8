"""A store on the server of REDICTS_POSTGRES_URL, whose user must be able to create schemas and roles."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from direct import connection_to
from redicts_postgres import PostgresBackend, PostgresSettings


@pytest.fixture(scope="session")
def settings() -> PostgresSettings:
    """Give the settings of a store that each run creates again."""
    url = os.environ.get("REDICTS_POSTGRES_URL")
    if not url:
        pytest.fail("set REDICTS_POSTGRES_URL, as in postgres://user:password@localhost:5432/dbname", pytrace=False)
    chosen = PostgresSettings.model_validate({"url": url, "schema": "redicts_test"})
    with connection_to(chosen) as connection:
        connection.execute("DROP SCHEMA IF EXISTS redicts_test CASCADE")
    return chosen


@pytest.fixture
def backend(settings: PostgresSettings) -> Iterator[PostgresBackend]:
    """Give a client of the store."""
    opened = PostgresBackend(settings, 0)
    yield opened
    opened.close()
