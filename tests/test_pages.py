"""Each claim of the page on locks has a test: every section names some, and what it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).parent
PAGE: Final = (HERE.parent / "docs" / "locks.md").read_text(encoding="utf-8")


def sections() -> dict[str, str]:
    """Return the sections of the page by title; the first lines of the page are none."""
    without_code = re.sub(r"^```.*?^```$", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    parts = re.split(r"^#{2,3} (.*)$", without_code, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2]))


def existing() -> set[str]:
    """Return the names of all test functions."""
    return {
        node.name
        for path in HERE.rglob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("title", sections())
def test_each_section_names_its_tests(title: str) -> None:
    """A section ends with a comment that names the tests of what it says, and each of them exists."""
    named = re.findall(r"<!-- tests: (.*?)\s-->", sections()[title], flags=re.DOTALL)
    assert len(named) == 1
    assert set(named[0].split()) - existing() == set()
