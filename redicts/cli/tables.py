"""Aligned text for people: tables that fit the terminal, and whole lines without trailing blanks in a pipe."""

from __future__ import annotations

import os
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import click

from redicts.cli.output import echo, printable, terminal_width

_GAP: Final = "  "
_NARROWEST: Final = 24
"""Columns that the last cell of a row needs at least; with fewer, each cell has a line of its own."""


class Styled(NamedTuple):
    """A cell with a colour, which only terminals show."""

    text: str
    colour: str

    def __str__(self) -> str:
        return self.text


def can_print(text: str) -> bool:
    """Tell whether the encoding of the output has these characters."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def coloured(text: str, colour: str | None = None, *, bold: bool = False, dim: bool = False) -> str:
    """Return text with the codes of a terminal that shows colours, and as it is elsewhere or with ``NO_COLOR``."""
    if (
        not (text and (colour or bold or dim))
        or not sys.stdout.isatty()
        or os.environ.get("NO_COLOR")
        or os.environ.get("TERM") == "dumb"
    ):
        return text
    return click.style(text, fg=colour, bold=bold or None, dim=dim or None)


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(each) in _WITHOUT_WIDTH else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text
    )


_WITHOUT_WIDTH: Final = ("Mn", "Me", "Cf")
"""The categories of accents, of selectors of variants, and of characters that join others."""


def cut(text: str, most: int) -> str:
    """Return a text that takes at most this many columns, with an ellipsis in place of what is cut off."""
    if columns_of(text) <= most:
        return text
    ellipsis = "\u2026" if can_print("\u2026") else "..."
    left = most - len(ellipsis)
    for end in range(min(len(text), max(left, 0)), -1, -1):
        if columns_of(text[:end]) <= left:
            return text[:end] + ellipsis
    return ellipsis[: max(most, 0)]


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return a text with blanks up to a width, before it with ``right``."""
    blanks = " " * max(0, width - columns_of(text))
    return blanks + text if right else text + blanks


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, as in ``1 leaf`` and ``2 leaves``."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def leaves(count: int) -> str:
    """Return a number of leaves."""
    return counted(count, "leaf", "leaves")


def verb(count: int) -> str:
    """Return the verb after a number of things."""
    return "is" if count == 1 else "are"


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None, *, heads: int = 0
) -> None:
    """Print rows in columns, below a header unless all names are empty.

    On a terminal the last column is wrapped. If that would leave little of it, each cell has a line of its own, and the
    column ``heads`` has the first one.
    """
    cells = [[_cell(cell) for cell in row] for row in rows]
    if title is not None:
        echo(title)
    has_header = any(columns)
    shown = [[Styled(name, "") for name in columns], *cells] if has_header else cells
    widths = [max(columns_of(str(row[at])) for row in shown) for at in range(len(columns))] if shown else []
    most = terminal_width()
    before = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
    if most is not None and before + min(_NARROWEST, widths[-1] if widths else 0) > most:
        for row in cells:
            _print_stacked(columns, row, most, heads)
        return
    for number, row in enumerate(shown):
        _print_row(row, widths, None if most is None else most - before, dim=has_header and number == 0)


def _cell(cell: object) -> Styled:
    return cell._replace(text=printable(cell.text)) if isinstance(cell, Styled) else Styled(printable(str(cell)), "")


def _print_row(row: Sequence[Styled], widths: Sequence[int], last: int | None, *, dim: bool) -> None:
    *first, end = row
    texts = wrapped(end.text, last)
    line = _GAP.join([*[_shown(cell, width, dim=dim) for cell, width in zip(first, widths)], texts[0]])
    echo(line.rstrip())
    indent = " " * (sum(widths[:-1]) + len(_GAP) * len(first))
    for text in texts[1:]:
        echo(indent + text)


def _shown(cell: Styled, width: int, *, dim: bool) -> str:
    return coloured(cell.text, cell.colour or None, dim=dim) + " " * max(0, width - columns_of(cell.text))


def _print_stacked(columns: Sequence[str], row: Sequence[Styled], most: int, heads: int) -> None:
    if not any(columns):
        columns, row = ("", ""), (Styled(" ".join(map(str, row[:-1])), ""), row[-1])
    cells = list(zip(columns, row))
    cells.insert(0, cells.pop(heads))
    for number, (name, cell) in enumerate(cells):
        indent = "  " if number else ""
        for text in wrapped(f"{name} {cell.text}" if name else cell.text, most - len(indent)):
            echo((indent + text).rstrip())


def wrapped(text: str, most: int | None) -> list[str]:
    """Return a text in lines of at most so many columns."""
    if most is None or columns_of(text) <= most:
        return [text]
    return textwrap.wrap(text, max(most, 10), break_on_hyphens=False) or [""]
