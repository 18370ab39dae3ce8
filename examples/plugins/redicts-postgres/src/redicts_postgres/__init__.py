"""The backend ``postgres``: keeps the tree in a table of PostgreSQL."""

from __future__ import annotations

from redicts.plugin import BackendPlugin, hookimpl
from redicts_postgres.backend import PostgresBackend, open_postgres
from redicts_postgres.settings import PostgresSettings

__all__ = ["PostgresBackend", "PostgresSettings", "redicts_backends"]


@hookimpl
def redicts_backends() -> list[BackendPlugin]:
    """Offer the backend."""
    return [
        BackendPlugin(
            "postgres",
            PostgresSettings,
            open_postgres,
            contract=1,
            summary="PostgreSQL: many hosts, atomic transactions, notifications through LISTEN and NOTIFY",
            harness="redicts_postgres.harness:PostgresHarness",
        )
    ]
