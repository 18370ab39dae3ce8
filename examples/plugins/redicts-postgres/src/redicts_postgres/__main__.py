"""Prints the SQL that creates the tables and functions: ``python -m redicts_postgres [schema [prefix]]``."""

from __future__ import annotations

import sys

from redicts_postgres.schema import Schema
from redicts_postgres.settings import PostgresSettings


def main(arguments: list[str]) -> int:
    """Print the SQL for a schema and a prefix, which have defaults."""
    names = dict(zip(("schema", "prefix"), arguments))
    settings = PostgresSettings.model_validate(names)
    sys.stdout.write(Schema(settings.schema_name, settings.prefix).sql())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
