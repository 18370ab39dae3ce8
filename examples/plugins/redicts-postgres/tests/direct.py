"""Connects to the server without the backend."""

from __future__ import annotations

import psycopg
from redicts_postgres import PostgresSettings


def connection_to(settings: PostgresSettings) -> psycopg.Connection[tuple[object, ...]]:
    """Return a connection with autocommit."""
    return psycopg.connect(
        host=settings.host,
        port=settings.port,
        user=settings.user,
        password=settings.password.get_secret_value() if settings.password else None,
        dbname=settings.dbname,
        autocommit=True,
    )
