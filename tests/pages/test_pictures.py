"""The plots in the documentation show the results that are stored with the benchmarks."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Final

import pytest

from benchmarks.plots import comparisons, label_of
from tests.pages.parsing import DOCS, ROOT

RESULTS: Final = [ROOT / "benchmarks" / "results" / f"{name}.json" for name in ("embedded", "locks", "values")]


def texts(picture: Path) -> list[str]:
    """Return the texts of an SVG picture."""
    return [html.unescape(text) for text in re.findall(r"<text [^>]*>([^<]*)</text>", picture.read_text("utf-8"))]


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_a_picture_shows_its_results(file: Path) -> None:
    """The picture has each comparison with its ratio, and a page shows the picture."""
    picture = DOCS / "figures" / f"measured-{file.stem}.svg"
    shown = texts(picture)
    rows = comparisons(json.loads(file.read_text(encoding="utf-8")))
    assert rows
    for row in rows:
        assert f"{row['ratio']:.2f}" in shown
        assert set(label_of(row).splitlines()) - set(shown) == set()
    pages = [page for page in DOCS.glob("*.md") if f"figures/{picture.name}" in page.read_text(encoding="utf-8")]
    assert pages
