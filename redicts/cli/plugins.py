"""``plugins``: every backend and codec that is installed, from where, and whether it can be used."""

from __future__ import annotations

from dataclasses import asdict

import click

from redicts.cli import exits
from redicts.cli.output import console, print_json
from redicts.cli.stores import json_option


@click.command("plugins")
@json_option
def plugins(json_: bool) -> int:
    """List the backends and codecs that are installed; the status is 1 if one of another distribution cannot be used.

    To know that, each is imported. One of redicts itself may lack its extra.
    """
    from redicts.plugins.listing import installed  # noqa: PLC0415  (help needs none of it)

    found = installed()
    if json_:
        print_json({"plugins": [{**asdict(each), "usable": each.usable} for each in found]})
    else:
        from rich.table import Table  # noqa: PLC0415  (takes a while, and JSON needs none of it)

        table = Table(box=None, pad_edge=False)
        for name in ("kind", "name", "distribution", "version", ""):
            table.add_column(name, overflow="fold")
        for each in found:
            told = each.summary if each.problem is None else f"cannot be used: {each.problem}"
            table.add_row(each.kind, each.name, each.distribution, each.version, told)
        console().print(table)
    return exits.DONE if all(each.usable or each.builtin for each in found) else exits.NEGATIVE
