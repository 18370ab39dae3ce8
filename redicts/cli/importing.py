"""``import``: leaves from lines, or from one JSON document."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO

import click

from redicts.cli import exits, progress
from redicts.cli.output import print_json
from redicts.cli.stores import PATH, common_options, opened
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render


@click.command("import")
@click.argument("file", metavar="FILE")
@click.argument("path", type=PATH, default=".")
@click.option("--format", "form", type=click.Choice(["lines", "json"]), help="Default: json for FILE.json, else lines.")
@click.option("--batch", type=click.IntRange(1, 1000), default=1000, show_default=True, help="Leaves per transaction.")
@click.option("--restart", is_flag=True, help="Begin again where an earlier import did not end.")
@common_options
def import_(
    file: str,
    path: Path,
    form: str | None,
    batch: int,
    restart: bool,
    store: str | None,
    database: str | None,
    json_: bool,
) -> int:
    """Store the leaves in FILE (- is the standard input) below PATH, over what is there, and leave the rest.

    Leaves are stored in batches, each whole or not at all. An import that did not end, by whatever, is continued by the
    same command. The status is 1 if the lines were cut off at the end.
    """
    from redicts.transfer import import_lines  # noqa: PLC0415  (help needs none of it)

    where = opened(store, database)
    with ExitStack() as files:
        source = sys.stdin.buffer if file == "-" else files.enter_context(open(file, "rb"))
        as_document = form == "json" or (form is None and file.endswith(".json"))
        total = None if as_document or file == "-" else os.stat(file).st_size
        advance = files.enter_context(progress.bar("import", total))
        lines = _lines_of(source, path) if as_document else iter(source)
        report = import_lines(
            where.tree,
            lines,
            path,
            batch=batch,
            restart=restart,
            progress=lambda so_far: advance(so_far.bytes),
        )
    if json_:
        print_json(
            {
                "path": render(path),
                "lines": report.lines,
                "leaves": report.leaves,
                "resumed": report.resumed,
                "stored": report.stored,
                "complete": report.complete,
            }
        )
    else:
        before = f", {report.resumed} of them by an earlier run" if report.resumed else ""
        click.echo(f"redicts: {report.leaves} leaves are stored below {described(path)}{before}", err=True)
        if not report.complete:
            click.echo("redicts: the input was cut off: its last line is missing", err=True)
    return exits.DONE if report.complete else exits.NEGATIVE


def _lines_of(source: IO[bytes], path: Path) -> Iterator[bytes]:
    from redicts.transfer import lines_of_value  # noqa: PLC0415  (help needs none of it)
    from redicts.transfer.lines import LineError  # noqa: PLC0415

    try:
        value = json.load(source)
    except (ValueError, RecursionError) as error:
        where = f", line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else ""
        raise LineError(f"the input is no JSON document{where}") from None
    return lines_of_value(value, path)
