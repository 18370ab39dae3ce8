"""Draws the results of the benchmarks: one picture for each file of results, one bar for each ratio.

    pip install matplotlib
    python -m benchmarks.redis_values --save benchmarks/results/values.json
    python -m benchmarks.plots benchmarks/results docs/figures

A bar begins at 1, where redicts and its baseline are equal. The scale is logarithmic, so that twice and half are as far
from 1. A vertical tick is the bound; the colour shows whether it was kept: green, red, or grey without a bound.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any, Final

_KEPT: Final = "#3f8f55"
_BROKEN: Final = "#c0392b"
_UNBOUND: Final = "#9aa7b4"
_TICK: Final = "#1f2933"
_TICKS: Final = (0.125, 0.25, 0.5, 1, 1.5, 2, 3, 4, 8, 16, 32, 64, 128)
_STYLE: Final = {
    # Text stays text, so that it can be searched; and the same results make the same file.
    "svg.fonttype": "none",
    "svg.hashsalt": "redicts",
    "font.family": "DejaVu Sans",
    "font.size": 9,
}

DARK: Final = (
    "@media (prefers-color-scheme: dark) { text { fill: #e6edf3 !important } "
    '[style*="fill: #ffffff"] { fill: #1b1f24 !important } '
    '[style*="stroke: #000000"], [style*="stroke: #1f2933"] { stroke: #a9b8c6 !important } }'
)
"""The colours of a picture where the reader's system is dark: matplotlib writes those of light ones at each shape."""


def bound_of(row: dict[str, Any]) -> float | None:
    """Return the bound of a row as a number, or ``None``."""
    return float(row["bound"].split()[-1]) if row["bound"] else None


def colour_of(row: dict[str, Any]) -> str:
    """Return the colour of a bar: whether the bound was kept, if there is one."""
    if not row["bound"]:
        return _UNBOUND
    return _KEPT if row["kept"] else _BROKEN


def label_of(row: dict[str, Any]) -> str:
    """Return the label of a bar."""
    more = " (more is better)" if is_more_better(row) else ""
    return f"{row['what']}{more}\nbaseline: {row['baseline']}"


def comparisons(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that compare redicts with a baseline, those of which more is better at the end.

    A count that must be 0 is not a comparison.
    """
    less: list[dict[str, Any]] = []
    more: list[dict[str, Any]] = []
    group = less
    for row in result["rows"]:
        if row["baseline"] and row["ratio"] > 0:
            if not _follows(row):  # which belongs to the row before it
                group = more if is_more_better(row) else less
            group.append(row)
    return less + more


def _follows(row: dict[str, Any]) -> bool:
    return bool(row["what"].startswith("the same"))


def is_more_better(row: dict[str, Any]) -> bool:
    """Return whether a large ratio is good, as of work that is done and not of time that is taken."""
    return str(row["bound"] or "").startswith("at least")


def draw(result: dict[str, Any], target: Path) -> None:
    """Draw one file of results."""
    # Imported here because only drawing needs it; by name, because the type checker has no types for it.
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("svg")
    pyplot: Any = import_module("matplotlib.pyplot")
    rows = comparisons(result)[::-1]
    with matplotlib.rc_context(_STYLE):
        figure, axes = pyplot.subplots(figsize=(8, 0.9 + 0.5 * len(rows)), layout="constrained")
        for position, row in enumerate(rows):
            axes.barh(position, row["ratio"] - 1, left=1, height=0.55, color=colour_of(row))
            axes.annotate(
                f"{row['ratio']:.2f}",
                (row["ratio"], position),
                xytext=(4 if row["ratio"] >= 1 else -4, 0),
                textcoords="offset points",
                ha="left" if row["ratio"] >= 1 else "right",
                va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )
            bound = bound_of(row)
            if bound is not None:
                axes.plot([bound, bound], [position - 0.38, position + 0.38], color=_TICK, linewidth=2)
        more = next((number for number, row in enumerate(rows) if not is_more_better(row) and not _follows(row)), 0)
        if 0 < more < len(rows):
            axes.axhline(more - 0.5, color=_UNBOUND, linewidth=1, linestyle="--")
            for text, side in (("less is better", "bottom"), ("more is better", "top")):
                where = axes.get_yaxis_transform()
                axes.text(0.01, more - 0.5, text, transform=where, va=side, color="#5b6b7b", fontsize=8)
        axes.axvline(1, color="#1f2933", linewidth=1)
        axes.margins(x=0.15, y=0.02)
        axes.set_xscale("log", base=2, subs=[])
        axes.set_xticks([tick for tick in _TICKS if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_yticks(range(len(rows)), [label_of(row) for row in rows])
        axes.set_xlabel("redicts, as a multiple of its baseline\nvertical ticks are bounds: green kept, red broken")
        axes.spines[["top", "right"]].set_visible(False)
        title = f"{result['about']}; medians of {result['rounds']} alternating calls"
        figure.suptitle(textwrap.fill(title, 110), fontsize=8, color="#5b6b7b")
        figure.savefig(target, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    # matplotlib ends lines with blanks, which do not belong into a file under version control.
    lines = target.read_text(encoding="utf-8").replace("</style>", f"\n{DARK}</style>", 1).splitlines()
    target.write_text("".join(f"{line.rstrip()}\n" for line in lines), encoding="utf-8")


def main() -> None:
    """Draw every file of results in a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the folder with the files that --save wrote")
    parser.add_argument("pictures", type=Path, help="the folder to draw to")
    asked = parser.parse_args()
    for file in sorted(asked.results.glob("*.json")):
        target = asked.pictures / f"measured-{file.stem}.svg"
        draw(json.loads(file.read_text(encoding="utf-8")), target)
        print(target)


if __name__ == "__main__":
    main()
