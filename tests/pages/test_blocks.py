"""Every block of Python in the pages is run: the runner finds it, and it is not skipped without a reason."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.pages.parsing import DOCS, PAGES, ROOT, Block, blocks, commands

NOT_PYTHON: Final = {"console", "text", "toml", "ini", "json"}
"""Languages of blocks that are not run as Python. All others are ``python``, or directives of Sphinx."""

ALL: Final = [block for page in PAGES for block in blocks(page)]


@pytest.mark.parametrize("block", ALL, ids=str)
def test_a_block_is_run_or_is_not_python(block: Block) -> None:
    """A block names its language. Python is ``python``, skipped only with a reason. A console block shows commands."""
    assert block.language in NOT_PYTHON | {"python"} or block.language.startswith("{")
    assert not (block.language == "text" and re.search(r"^(from \w+ )?import |^>>> |^def ", block.text, re.MULTILINE))
    if block.language == "python" and "skip:" in block.before:
        assert re.search(r"skip: next.*(reason=|[\"'].+[\"'])", block.before), f"{block}: say why it cannot run"
    if block.language == "console":
        assert block.text.startswith("$ ")
        assert list(commands(block))


def test_no_page_skips_a_range() -> None:
    """Blocks are skipped one by one, so that none is skipped by mistake."""
    assert not [page.name for page in PAGES if "skip: start" in page.read_text(encoding="utf-8")]


def test_the_runner_finds_every_page_with_python() -> None:
    """Python is in the README and in pages directly in ``docs``, which the runner's patterns match."""
    with_python = {ROOT / block.page for block in ALL if block.language == "python"}
    assert with_python <= {ROOT / "README.md", *DOCS.glob("*.md")}
