"""``export``: write a subtree as one JSON document, or as lines of one leaf each."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import click

from redicts.cli import exits
from redicts.cli.files import is_special, replace
from redicts.cli.output import json_text, output, print_json, progress_bar, tell
from redicts.cli.stores import PATH, Store, reading_command
from redicts.cli.tables import leaves, verb
from redicts.core.leaves import ABSENT
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render
from redicts.errors import SettingsError
from redicts.transfer.leaves import count, pages
from redicts.transfer.lines import HEAD, export_lines, is_plain, last_line


@dataclass
class _Report:
    leaves: int = 0
    resumed: int = 0
    damaged: list[str] = field(default_factory=list)
    ttls: int = 0
    """Leaves with a TTL, which a JSON document does not have."""


@click.command("export")
@click.argument("path", type=PATH, default=".")
@click.option("-o", "--output", "to", metavar="FILE", help="Write to a file. Default, and -: the standard output.")
@click.option("--format", "form", type=click.Choice(["lines", "json"]), help="Default: json for FILE.json, else lines.")
@click.option("--restart", is_flag=True, help="Start again instead of continuing an interrupted export to FILE.")
@reading_command
def export(path: Path, to: str | None, form: str | None, restart: bool, store: Store, as_json: bool) -> int:
    """Write what is at and below PATH to a file.

    The file has lines, one JSON object for each leaf, or one JSON document. Lines preserve TTLs, packed dicts and the
    bytes of leaves that are not plain JSON, and need no memory; other programs read the JSON document. FILE appears
    when it is complete. If nothing is stored at PATH, an existing FILE stays as it is. The same command continues an
    interrupted export of lines.
    """
    if to == "-":
        to = None
    if as_json and to is None:
        raise click.UsageError("--json prints the report on the standard output; pass --output FILE for the leaves")
    if form is None:
        form = "json" if to is not None and to.endswith(".json") else "lines"
    report = _Report()
    if form == "json":
        text = _document(store, path, report)
        with _opened(to, "w", report) as file:
            file.write(text)
    else:
        _export_lines(store, path, to, report, restart=restart)
    for reason in report.damaged:
        tell(reason)
    if report.ttls:
        have = f"{leaves(report.ttls)} {'has' if report.ttls == 1 else 'have'} one"
        tell(f"a JSON document does not have TTLs, and {have}; export lines to keep them")
    if as_json:
        counts = {"leaves": report.leaves, "resumed": report.resumed, "damaged": report.damaged}
        print_json({"path": render(path), "output": to, "format": form, **counts})
    elif to is not None and report.leaves:
        tell(f"{leaves(report.leaves)} of {described(path)} {verb(report.leaves)} in {to}")
    elif not report.leaves:
        tell(f"nothing is stored at {described(path)}")
    return exits.NEGATIVE if report.damaged or not report.leaves else exits.DONE


def _export_lines(store: Store, path: Path, to: str | None, report: _Report, *, restart: bool) -> None:
    origin = json.dumps({"cursor": {"store": store.identity, "path": list(path)}})
    cursor = None if restart or to is None else _resume(_part_of(to), origin, report)
    with _opened(to, "r+" if cursor else "w", report) as file:
        if cursor is None:
            file.write(f"{json.dumps(HEAD)}\n" + (f"{origin}\n" if to is not None else ""))
        _write_lines(file, store, path, cursor, report, with_cursors=to is not None)


def _part_of(to: str) -> str:
    return f"{os.path.realpath(to)}.part"


@contextmanager
def _opened(to: str | None, mode: str, report: _Report) -> Iterator[IO[str]]:
    """Open the partial file for writing at its end, and rename it when it is complete; or give the standard output.

    An existing file is not replaced by an export without leaves. A device or a pipe is written to.
    """
    if to is None:
        with output() as standard:
            yield standard
            standard.flush()
        return
    if os.path.isdir(to):
        raise click.UsageError(f"--output must name a file, and {to} is a directory")
    if is_special(to):
        with open(to, "w", encoding="utf-8") as device:
            yield device
        return
    part = _part_of(to)
    try:
        with open(part, mode, encoding="utf-8") as file:
            file.seek(0, os.SEEK_END)
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.filename is None:
            error.filename = part  # a write, for instance to a full disk, does not say to which file
        raise
    if report.leaves or not os.path.exists(to):
        replace(to, part)
    else:
        os.unlink(part)


def _document(store: Store, path: Path, report: _Report) -> str:
    """Return the JSON document of a subtree whose values JSON preserves."""
    found: dict[Path, bytes] = {}
    for page in pages(store.database, path):
        found.update({leaf.path: leaf.data for leaf in page.leaves})
        report.ttls += sum(leaf.ttl is not None for leaf in page.leaves)
    value = store.database.store.nested(path, found)
    report.leaves = len(found)
    value = {} if value is ABSENT else value
    if not is_plain(value):
        raise SettingsError(f"{described(path)} has values that JSON does not preserve; export it as lines instead")
    return json_text(value, indent=2) + "\n"


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
        try:
            state = json.loads(found)["cursor"]
            cursor, leaves = base64.b64decode(state["at"], validate=True), int(state["leaves"])
        except (TypeError, KeyError, ValueError, OverflowError):  # there is none, or something else changed the file
            return None
        file.truncate(end)
    report.leaves = report.resumed = leaves
    return cursor
