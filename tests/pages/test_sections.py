"""Each section of the pages on locks and on production names tests of its statements, and they exist."""

from __future__ import annotations

import difflib
import re
from typing import Final

import pytest

from tests.pages.parsing import DOCS, ROOT


def sections(page: str) -> dict[str, str]:
    """Return the sections of a page by title, without the text before the first."""
    text = (DOCS / page).read_text(encoding="utf-8")
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    parts = re.split(r"^#{2,3} (.*)$", without_code, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2]))


SECTIONS: Final = {
    (page, title): text for page in ("locks.md", "production.md") for title, text in sections(page).items()
}

EXISTING: Final = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
}
"""The names of all test functions."""


@pytest.mark.parametrize(("page", "title"), SECTIONS)
def test_each_section_names_its_tests(page: str, title: str) -> None:
    """A section ends with one comment that names tests of its statements, and each of them exists."""
    [named] = re.findall(r"<!-- tests: (.*?)\s-->", SECTIONS[page, title], flags=re.DOTALL)
    missing = set(named.split()) - EXISTING
    assert not missing, {name: difflib.get_close_matches(name, EXISTING, 3) for name in missing}


def test_each_promise_of_the_cache_names_its_tests() -> None:
    """The page on watching names tests of what it promises, and each of them exists."""
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "watch.md").read_text(encoding="utf-8")))
    assert len(named) > 5
    assert named - EXISTING == set()
