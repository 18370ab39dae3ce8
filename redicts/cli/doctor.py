"""``doctor``: examines a store, tells what it found, and repairs what can be repaired."""

from __future__ import annotations

from typing import Any

import click

from redicts.cli import exits
from redicts.cli.output import console, print_json, printable
from redicts.cli.stores import common_options, opened


@click.command("doctor")
@click.option("--quick", is_flag=True, help="Do not read all values.")
@click.option("--repair", is_flag=True, help="Remove what is damaged, after a copy of it was written to --rescue.")
@click.option(
    "--rescue",
    metavar="FILE",
    default="redicts-rescued.jsonl",
    show_default=True,
    help="Where --repair writes what it removes; a file that is there is not overwritten.",
)
@common_options
def doctor(quick: bool, repair: bool, rescue: str, store: str | None, database: str | None, json_: bool) -> int:
    """Examine the store: can it be reached, how fast, its clock, what it can do, what is left over or damaged.

    It writes one value, outside of the tree, and removes it. The status is 1 if something is wrong, and 3 if the store
    cannot be reached.
    """
    from redicts.cli.checks import Status, examine  # noqa: PLC0415  (help needs none of it)
    from redicts.cli.repairs import repaired  # noqa: PLC0415

    where = opened(store, database)
    findings, damage = examine(where, quick=quick)
    failed = any(finding.status is Status.FAILED for finding in findings)
    done: dict[str, Any] | None = None
    if repair and damage.found and not failed:
        done = repaired(where.tree, damage, rescue)
    wrong = any(finding.status is Status.WRONG for finding in findings)
    if json_:
        checks = [{"name": each.name, "status": each.status.value, "text": each.text, **each.data} for each in findings]
        print_json({"store": where.place, "healthy": not (wrong or failed), "checks": checks, "repaired": done})
    else:
        _draw(findings, str(where))
        if done is not None:
            click.echo(f"removed {done['removed']} damaged entries; what was in them is in {done['rescue']}")
    if failed:
        return exits.FAILED
    return exits.NEGATIVE if wrong and (done is None or done["left"]) else exits.DONE


def _draw(findings: list[Any], where: str) -> None:
    from rich.table import Table  # noqa: PLC0415  (takes a while, and JSON needs none of it)
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=where, title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column()
    table.add_column(overflow="fold")
    colours = {"ok": "green", "notice": "yellow", "wrong": "red", "failed": "red"}
    for finding in findings:
        status = finding.status.value
        table.add_row(Text(status, style=colours[status]), finding.name, printable(finding.text))
    console().print(table)
