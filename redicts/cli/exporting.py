"""``export``: a subtree as JSON, or as lines of which each is a leaf."""

from __future__ import annotations

import base64
import json
import os
import sys
from typing import IO, TYPE_CHECKING, Any

import click

from redicts.cli import exits, progress
from redicts.cli.output import print_json
from redicts.cli.stores import PATH, Store, common_options, opened
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render
from redicts.errors import SettingsError

if TYPE_CHECKING:
    from redicts.transfer.lines import Exported


class _Report:
    """What an export has done."""

    def __init__(self) -> None:
        self.leaves = 0
        self.resumed = 0
        self.damaged: list[str] = []


@click.command("export")
@click.argument("path", type=PATH, default=".")
@click.option("-o", "--output", metavar="FILE", help="Write to a file; without it, to the standard output.")
@click.option("--format", "form", type=click.Choice(["lines", "json"]), help="Default: json for FILE.json, else lines.")
@click.option("--restart", is_flag=True, help="Begin again where an earlier export to FILE did not end.")
@common_options
def export(
    path: Path,
    output: str | None,
    form: str | None,
    restart: bool,
    store: str | None,
    database: str | None,
    json_: bool,
) -> int:
    """Write what is at and below PATH as lines (one JSON object for each leaf), or as one JSON document.

    Lines keep TTLs, packed dicts and values that are no JSON, and need no memory; JSON is what other programs know.
    FILE appears when it is complete. An export of lines that did not end is continued by the same command.
    """
    if json_ and output is None:
        raise click.UsageError("with --json the report goes to the standard output, so the leaves need --output FILE")
    where = opened(store, database)
    if form is None:
        form = "json" if output is not None and output.endswith(".json") else "lines"
    report = _Report()
    if form == "json":
        _whole(where, path, output, report)
    elif output is None:
        _lines_to(sys.stdout, where, path, report)
    else:
        _lines_to_file(output, where, path, restart, report)
    for reason in report.damaged:
        click.echo(f"redicts: {reason}", err=True)
    if json_:
        print_json(
            {
                "path": render(path),
                "output": output,
                "format": form,
                "leaves": report.leaves,
                "resumed": report.resumed,
                "damaged": report.damaged,
            }
        )
    elif output is not None:
        click.echo(f"redicts: {report.leaves} leaves of {described(path)} are in {output}", err=True)
    return exits.NEGATIVE if report.damaged or not report.leaves else exits.DONE


def _whole(where: Store, path: Path, output: str | None, report: _Report) -> None:
    """Write one JSON document. What JSON does not give back exactly is refused: the lines can have it."""
    from redicts.core.leaves import ABSENT  # noqa: PLC0415  (help needs none of it)
    from redicts.transfer.lines import is_plain  # noqa: PLC0415

    leaves = where.tree.run(where.tree.store.leaves(path))
    value = where.tree.store.nested(path, leaves)
    report.leaves = len(leaves)
    value = {} if value is ABSENT else value
    if not is_plain(value):
        raise SettingsError(f"{described(path)} has values that are no JSON; export it as lines, which keep all")
    text = json.dumps(value, indent=2) + "\n"
    if output is None:
        sys.stdout.write(text)
        return
    with open(f"{output}.part", "w", encoding="utf-8") as file:
        file.write(text)
        _settle(file)
    os.replace(f"{output}.part", output)


def _lines_to(file: IO[str], where: Store, path: Path, report: _Report) -> None:
    from redicts.transfer.lines import HEAD, export_lines, tail  # noqa: PLC0415  (help needs none of it)

    file.write(json.dumps(HEAD) + "\n")
    with progress.bar("export", _total(where, path)) as advance:
        for page in export_lines(where.tree, path):
            _write(file, page, report)
            advance(report.leaves)
    file.write(tail(report.leaves) + "\n")
    file.flush()


def _lines_to_file(name: str, where: Store, path: Path, restart: bool, report: _Report) -> None:
    """Write to a file beside, in which the cursors are too, and give it the name when it is complete."""
    from redicts.transfer.lines import HEAD, export_lines, tail  # noqa: PLC0415  (help needs none of it)

    part = f"{name}.part"
    origin = json.dumps({"cursor": {"store": where.identity, "path": list(path)}})
    cursor = None if restart else _resumed(part, origin, report)
    with open(part, "r+" if cursor else "w", encoding="utf-8") as file:
        if cursor is None:
            file.write(json.dumps(HEAD) + "\n" + origin + "\n")
        file.seek(0, os.SEEK_END)
        with progress.bar("export", _total(where, path)) as advance:
            for page in export_lines(where.tree, path, cursor):
                _write(file, page, report)
                if page.cursor is not None:
                    state = {"at": base64.b64encode(page.cursor).decode(), "leaves": report.leaves}
                    file.write(json.dumps({"cursor": state}) + "\n")
                    file.flush()
                advance(report.leaves)
        file.write(tail(report.leaves) + "\n")
        _settle(file)
    os.replace(part, name)


def _resumed(part: str, origin: str, report: _Report) -> bytes | None:
    """Cut a file that an earlier run left after its last cursor, and return that; ``None`` if there is none."""
    try:
        file = open(part, "rb+")  # noqa: SIM115  (closed below)
    except FileNotFoundError:
        return None
    with file:
        found: Any = None
        end = 0
        file.readline()
        if file.readline().decode("utf-8", "replace").strip() != origin:
            return None
        position = file.tell()
        for line in file:
            position += len(line)
            if line.startswith(b'{"cursor"') and line.endswith(b"\n"):
                found, end = line, position
        if found is None:
            return None
        state = json.loads(found)["cursor"]
        file.truncate(end)
    report.leaves = report.resumed = int(state["leaves"])
    return base64.b64decode(state["at"])


def _write(file: IO[str], page: Exported, report: _Report) -> None:
    file.write("".join([f"{line}\n" for line in page.lines]))
    report.leaves += page.leaves
    report.damaged += page.damaged


def _total(where: Store, path: Path) -> int | None:
    """Return how many leaves there are, if somebody watches a bar."""
    from redicts.transfer.leaves import count  # noqa: PLC0415  (help needs none of it)

    return count(where.tree, path) if progress.is_watched() else None


def _settle(file: IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())
