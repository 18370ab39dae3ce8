"""``schema``: print the JSON schema of a configuration, with the settings of all installed plugins."""

from __future__ import annotations

import click

from redicts.cli import exits
from redicts.cli.output import print_json
from redicts.config import schema as configuration


@click.command("schema")
@click.option("--json", is_flag=True, expose_value=False, help="Print JSON, which is the default.")
def schema() -> int:
    """Print the JSON schema of a configuration.

    It has the settings of all installed plugins.
    """
    print_json(configuration.schema())
    return exits.DONE
