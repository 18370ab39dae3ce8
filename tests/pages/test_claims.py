"""Each claim of the pages on locks and on production has a test: every section names some, and they are there."""

from __future__ import annotations

import ast
import re
from typing import Final

import pytest

from tests.pages.parsing import DOCS, ROOT

PAGES: Final = ("locks.md", "production.md")


def sections(page: str) -> dict[str, str]:
    """Return the sections of a page by title; the first lines of the page are none."""
    text = (DOCS / page).read_text(encoding="utf-8")
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    parts = re.split(r"^#{2,3} (.*)$", without_code, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2]))


def existing() -> set[str]:
    """Return the names of all test functions."""
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize(("page", "title"), [(page, title) for page in PAGES for title in sections(page)])
def test_each_section_names_its_tests(page: str, title: str) -> None:
    """A section ends with a comment that names the tests of what it says, and each of them exists."""
    named = re.findall(r"<!-- tests: (.*?)\s-->", sections(page)[title], flags=re.DOTALL)
    assert len(named) == 1
    assert set(named[0].split()) - existing() == set()
