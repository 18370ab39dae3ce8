"""``plugins``: list the installed backends and codecs, with their distributions and problems."""

from __future__ import annotations

from dataclasses import asdict

import click

from redicts.cli import exits
from redicts.cli.output import print_json
from redicts.cli.stores import json_option
from redicts.cli.tables import print_table
from redicts.plugins.listing import installed


@click.command("plugins")
@json_option
def plugins(as_json: bool) -> int:
    """List the installed backends and codecs.

    Each of them is imported. The status is 1 if one of another distribution than redicts cannot be used.
    """
    found = installed()
    if as_json:
        print_json({"plugins": [{**asdict(each), "usable": each.usable} for each in found]})
    else:
        rows = [
            (each.kind, each.name, each.distribution, each.version, f"cannot be used: {each.problem}")
            if each.problem is not None
            else (each.kind, each.name, each.distribution, each.version, each.summary)
            for each in found
        ]
        print_table(("kind", "name", "distribution", "version", ""), rows)
    return exits.DONE if all(each.usable or each.builtin for each in found) else exits.NEGATIVE
