"""Output of commands: JSON documents, tables and trees for people, and progress bars."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

# rich takes a while to import, and neither JSON nor a plain value needs it.

Document = dict[str, Any]


def print_json(document: object) -> None:
    """Print one JSON document."""
    click.echo(json_text(document, indent=2))


def json_text(value: object, indent: int | None = None) -> str:
    """Return JSON text that the standard output can encode: what it cannot is written as escapes."""
    separators = None if indent else (",", ":")
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent, separators=separators)
    return text


def tell(message: str) -> None:
    """Print one line on the standard error."""
    click.echo(f"redicts: {message}", err=True)


def console(*, stderr: bool = False) -> Console:
    """Return a console that never takes text from the store for markup."""
    from rich.console import Console  # noqa: PLC0415

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def print_table(columns: Sequence[str], rows: Iterable[Iterable[object]], title: str | None = None) -> None:
    """Print a table, without a header if all names of columns are empty."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=any(columns))
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*[cell if hasattr(cell, "__rich_console__") else printable(str(cell)) for cell in row])
    console().print(table)


def printable(text: str) -> str:
    """Return text in which the characters that control a terminal, or that it cannot show, are escaped."""
    return "".join([each if each.isprintable() else repr(each)[1:-1] for each in text])


def size(count: float) -> str:
    """Return a number of bytes with its unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


@contextmanager
def progress_bar(title: str, count: Callable[[], int | None]) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on the standard error during the block, if that is a terminal.

    Yields a function that takes how much is done. ``count`` returns the total, or ``None`` if it is unknown; it is
    called only for a terminal.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich import progress as bars  # noqa: PLC0415

    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn())
    times = (bars.TimeElapsedColumn(), bars.TimeRemainingColumn())
    with bars.Progress(*columns, *times, console=console(stderr=True)) as progress:
        task = progress.add_task(title, total=count())
        yield lambda done: progress.update(task, completed=done)
