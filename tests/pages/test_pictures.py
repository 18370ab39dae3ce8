"""The plots of the documentation show the results that are kept beside the benchmarks."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Final

import pytest

from benchmarks.plots import comparisons, label_of
from tests.pages.parsing import DOCS, ROOT

RESULTS: Final = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


def texts(picture: Path) -> list[str]:
    """Return the texts of a picture."""
    return [html.unescape(text) for text in re.findall(r"<text [^>]*>([^<]*)</text>", picture.read_text("utf-8"))]


def test_there_are_results() -> None:
    """The results that the pages show are in the project."""
    assert RESULTS


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_a_picture_shows_its_results(file: Path) -> None:
    """Each comparison is in the picture, with its ratio, and some page shows the picture."""
    picture = DOCS / "figures" / f"measured-{file.stem}.svg"
    shown = texts(picture)
    rows = comparisons(json.loads(file.read_text(encoding="utf-8")))
    assert rows
    for row in rows:
        assert f"{row['ratio']:.2f}" in shown
        assert set(label_of(row).splitlines()) - set(shown) == set()
    pages = [page for page in DOCS.glob("*.md") if f"figures/{picture.name}" in page.read_text(encoding="utf-8")]
    assert pages
