"""``schema``: the JSON schema of every configuration that the installed plugins make possible."""

from __future__ import annotations

import click

from redicts.cli import exits
from redicts.cli.output import print_json


@click.command("schema")
@click.option("--json", "_json", is_flag=True, help="Print JSON, which it is anyway.")
def schema(_json: bool) -> int:
    """Print the JSON schema of a configuration, for editors and checkers. It covers what is installed."""
    from redicts.config import schema as configuration  # noqa: PLC0415  (help needs none of it)

    print_json(configuration.schema())
    return exits.DONE
