"""Links of the pages that Sphinx does not read, such as the README, lead to files and headings that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.pages.parsing import ROOT_PAGES

LINK: Final = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    titles = re.findall(r"^#{1,3} (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", ROOT_PAGES, ids=lambda page: page.name)
def test_links_lead_to_what_exists(page: Path) -> None:
    """The file of each link exists, and so does the heading."""
    found = LINK.findall(page.read_text(encoding="utf-8"))
    assert found
    for name, heading in found:
        target = page.parent / (name or page.name)
        assert target.exists(), name
        assert not heading or heading in anchors(target), f"{name}#{heading}"
