"""``export``: write a subtree as one JSON document, or as lines of one leaf each."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import IO, Any

import click

from redicts.cli import exits
from redicts.cli.output import print_json, progress_bar, tell
from redicts.cli.stores import PATH, Store, store_command
from redicts.core.leaves import ABSENT
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render
from redicts.errors import SettingsError
from redicts.transfer.leaves import count
from redicts.transfer.lines import HEAD, export_lines, is_plain, last_line


@dataclass
class _Report:
    leaves: int = 0
    resumed: int = 0
    damaged: list[str] = field(default_factory=list)


@click.command("export")
@click.argument("path", type=PATH, default=".")
@click.option("-o", "--output", metavar="FILE", help="Write to a file. Default: the standard output.")
@click.option("--format", "form", type=click.Choice(["lines", "json"]), help="Default: json for FILE.json, else lines.")
@click.option("--restart", is_flag=True, help="Start again instead of continuing an interrupted export to FILE.")
@store_command
def export(path: Path, output: str | None, form: str | None, restart: bool, store: Store, as_json: bool) -> int:
    """Write what is at and below PATH to a file.

    The file has lines, one JSON object for each leaf, or one JSON document. Lines preserve TTLs, packed dicts and
    values that JSON does not preserve, and need no memory; other programs read the JSON document. FILE appears when it
    is complete. The same command continues an interrupted export of lines.
    """
    if as_json and output is None:
        raise click.UsageError("--json prints the report on the standard output; pass --output FILE for the leaves")
    if form is None:
        form = "json" if output is not None and output.endswith(".json") else "lines"
    report = _Report()
    part = f"{output}.part"
    if form == "json":
        text = _document(store, path, report)
        with _written(output, part, "w") as file:
            file.write(text)
    else:
        origin = json.dumps({"cursor": {"store": store.identity, "path": list(path)}})
        cursor = None if restart or output is None else _resume(part, origin, report)
        with _written(output, part, "r+" if cursor else "w") as file:
            if cursor is None:
                file.write(f"{json.dumps(HEAD)}\n" + (f"{origin}\n" if output else ""))
            _write_lines(file, store, path, cursor, report, with_cursors=output is not None)
    for reason in report.damaged:
        tell(reason)
    if as_json:
        print_json({"path": render(path), "output": output, "format": form, **asdict(report)})
    elif output is not None:
        tell(f"{report.leaves} leaves of {described(path)} are in {output}")
    return exits.NEGATIVE if report.damaged or not report.leaves else exits.DONE


@contextmanager
def _written(output: str | None, part: str, mode: str) -> Iterator[IO[str]]:
    """Open the partial file for writing at its end, and rename it when it is complete; or give the standard output."""
    if output is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    with open(part, mode, encoding="utf-8") as file:
        file.seek(0, os.SEEK_END)
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, output)


def _document(store: Store, path: Path, report: _Report) -> str:
    """Return the JSON document of a subtree whose values JSON preserves."""
    leaves = store.database.run(store.database.store.leaves(path))
    value = store.database.store.nested(path, leaves)
    report.leaves = len(leaves)
    value = {} if value is ABSENT else value
    if not is_plain(value):
        raise SettingsError(f"{described(path)} has values that JSON does not preserve; export it as lines instead")
    return json.dumps(value, indent=2) + "\n"


def _write_lines(
    file: IO[str], store: Store, path: Path, cursor: bytes | None, report: _Report, *, with_cursors: bool
) -> None:
    with progress_bar("export", lambda: count(store.database, path)) as advance:
        for page in export_lines(store.database, path, cursor):
            file.write("".join([f"{line}\n" for line in page.lines]))
            report.leaves += page.leaves
            report.damaged += page.damaged
            if with_cursors and page.cursor is not None:
                state = {"at": base64.b64encode(page.cursor).decode(), "leaves": report.leaves}
                file.write(json.dumps({"cursor": state}) + "\n")
                file.flush()
            advance(report.leaves)
    file.write(last_line(report.leaves) + "\n")


def _resume(part: str, origin: str, report: _Report) -> bytes | None:
    """Cut off what follows the last cursor in a partial file, and return that cursor; ``None`` if there is none."""
    try:
        file = open(part, "rb+")  # noqa: SIM115  (closed below)
    except FileNotFoundError:
        return None
    with file:
        found: Any = None
        file.readline()
        if file.readline().decode("utf-8", "replace").strip() != origin:
            return None
        end = position = file.tell()
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
