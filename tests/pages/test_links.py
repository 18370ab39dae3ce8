"""Links of the README and the changes, which the documentation's generator does not read, lead to what is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.pages.parsing import ROOT

LINK: Final = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def links(page: Path) -> list[tuple[str, str]]:
    """Return the links of a page to files, each with the heading that it names or the empty text."""
    return LINK.findall(page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the names of the headings of a page, as they stand in links."""
    titles = re.findall(r"^#{1,3} (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    """The file is there, and so is the heading."""
    found = links(ROOT / name)
    assert found
    for target, heading in found:
        page = ROOT / (target or name)
        assert page.exists(), target
        assert not heading or heading in anchors(page), f"{target}#{heading}"
