"""The table of outages: one row for each scenario, its bounds, and how it is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

CLIENT_SECS: Final = 1.0
"""The longest time that clients may need for themselves, once the servers have agreed on a primary."""


class Row(NamedTuple):
    """What one outage cost the clients that called meanwhile."""

    scenario: str
    acknowledged: int
    """How many writes returned without an error."""
    lost: int
    """How many of these are not in the store afterwards."""
    twice: int
    """How many writes, acknowledged or not, were applied more than once."""
    half: int
    """How many transactions were applied in part."""
    overlaps: int
    """How many guarded writes were acknowledged after one of a later owner of the same lock."""
    client_secs: float
    """Seconds until calls of each client succeeded again, counted from when the servers had agreed."""
    total_secs: float
    """The same, counted from the fault."""
    most_lost: float = 0
    """How many acknowledged writes this scenario may lose; a scenario that may lose some states why."""
    most_overlaps: float = 0
    """The same for overlaps."""


class Scenario(NamedTuple):
    """One outage: ``run`` starts servers, loads them, disturbs them, and returns what that cost."""

    name: str
    run: Callable[[], Row]


def broken_bounds(row: Row) -> list[str]:
    """Return the bounds that a row does not keep, as text."""
    bounds: list[tuple[str, float, float]] = [
        ("lost", row.lost, row.most_lost),
        ("twice", row.twice, 0),
        ("half", row.half, 0),
        ("overlaps", row.overlaps, row.most_overlaps),
        ("client secs", row.client_secs, CLIENT_SECS),
    ]
    broken = [f"{row.scenario}: {name} is {found:g}, at most {most:g}" for name, found, most in bounds if found > most]
    return broken if row.acknowledged else [*broken, f"{row.scenario}: no write was acknowledged"]


HEADINGS: Final = ("scenario", "acknowledged", "lost", "twice", "half", "overlaps", "client s", "total s")


def printed(rows: Iterable[Row]) -> str:
    """Return the table as text, which is also Markdown."""
    lines = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = tuple("-" * (width - 1) + (":" if number else "-") for number, width in enumerate(widths))
    return "\n".join(_line(line, widths) for line in (lines[0], rule, *lines[1:]))


def _cells(row: Row) -> tuple[str, ...]:
    counts = (row.acknowledged, row.lost, row.twice, row.half, row.overlaps)
    return row.scenario, *map(str, counts), f"{row.client_secs:.2f}", f"{row.total_secs:.2f}"


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *others = (
        cell.rjust(width) if number else cell.ljust(width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return " | ".join(["| " + first, *others]) + " |"
