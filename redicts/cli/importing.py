"""``import``: store leaves from lines, or from one JSON document."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, Final

import click

from redicts.cli import exits
from redicts.cli.confirming import guard, yes_option
from redicts.cli.output import print_json, progress_bar, tell
from redicts.cli.stores import PATH, Store, store_command
from redicts.cli.tables import counted, leaves, verb
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render
from redicts.transfer import Import, IncompleteInput, LineError, import_lines, lines_of_value
from redicts.transfer.lines import refusal, unique_names


@click.command("import")
@click.argument("file", metavar="FILE")
@click.argument("path", type=PATH, default=".")
@click.option("--format", "form", type=click.Choice(["lines", "json"]), help="Default: json for FILE.json, else lines.")
@click.option(
    "--batch",
    type=click.IntRange(1, 1000),
    default=1000,
    show_default=True,
    metavar="NUMBER",
    help="Leaves per transaction.",
)
@click.option("--restart", is_flag=True, help="Start again instead of continuing an interrupted import.")
@yes_option
@store_command
def import_(
    file: str, path: Path, form: str | None, batch: int, restart: bool, yes: bool, store: Store, as_json: bool
) -> int:
    """Store the leaves in FILE below PATH.

    FILE may be - for the standard input. Leaves are stored over what is there, and the rest stays. If that replaces or
    removes more than a few leaves, the command asks first. Leaves are stored in batches, each whole or not at all. The
    same command continues an interrupted import. The status is 1 if the lines were cut off at the end.
    """
    so_far = Import()
    with ExitStack() as files:
        source = sys.stdin.buffer if file == "-" else files.enter_context(open(file, "rb"))
        whole = form == "json" or (form is None and file.endswith(".json"))
        about = None if whole or file == "-" else os.fstat(source.fileno())
        total = about.st_size if about is not None and stat.S_ISREG(about.st_mode) else None
        advance = files.enter_context(progress_bar("import", lambda: total))

        def progress(report: Import) -> None:
            nonlocal so_far
            so_far = report
            advance(report.bytes)

        try:
            report = import_lines(
                store.database,
                _lines_of_json(source, path) if whole else _lines(source),
                path,
                batch=batch,
                restart=restart,
                progress=progress,
                confirm=guard(yes),
            )
        except LineError:
            raise  # it says what is stored
        except Exception:
            if so_far.stored:
                count = so_far.leaves
                tell(f"{leaves(count)} {verb(count)} stored below {described(path)}; the same command continues")
            raise
    if as_json:
        counts = {name: getattr(report, name) for name in ("lines", "leaves", "resumed", "stored", "complete")}
        print_json({"path": render(path), **counts})
    else:
        before = f", {report.resumed} of them by an earlier run" if report.resumed else ""
        tell(f"{leaves(report.leaves)} {verb(report.leaves)} stored below {described(path)}{before}")
        if report.entries:
            entries = counted(report.entries, "entry", "entries")
            tell(f"not stored: {entries} that are not leaves, such as records of locks")
    if not report.complete:
        tell("the input was cut off: its last line is missing")
    return exits.DONE if report.complete else exits.NEGATIVE


_LONGEST: Final = 2**30
"""Bytes: more than any store takes as one value."""


def _lines(source: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file that may be of another kind, and then have lines without end."""
    first = source.readline(io.DEFAULT_BUFFER_SIZE)
    if len(first) == io.DEFAULT_BUFFER_SIZE and not first.endswith(b"\n"):
        raise LineError("line 1 must be the first one of the format; this is not an export in lines; nothing is stored")
    yield first
    while line := source.readline(_LONGEST):
        yield line


def _lines_of_json(source: IO[bytes], path: Path) -> Iterator[bytes]:
    kind = LineError
    data = source.read()
    try:
        value = json.loads(data, object_pairs_hook=unique_names)
    except (ValueError, RecursionError) as error:
        reason = refusal(error)
        if isinstance(error, json.JSONDecodeError):
            reason = f"line {error.lineno}: {reason}"
            if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
                kind = IncompleteInput
    else:
        return lines_of_value(value, path)
    raise kind(f"the input is not a valid JSON document: {reason}; nothing is stored")
