"""Every block of Python in the pages is run: the runner finds it, and it is not skipped without a reason."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.pages.parsing import DOCS, PAGES, ROOT, Block, blocks, commands

NOT_PYTHON: Final = {"console", "text", "toml", "ini", "json"}
"""Languages of blocks that no Python reads. Anything else must be ``python``, or a directive of the generator."""

ALL: Final = [block for page in PAGES for block in blocks(page)]


@pytest.mark.parametrize("block", ALL, ids=str)
def test_a_block_is_run_or_is_no_python(block: Block) -> None:
    """A block names its language, and Python goes by one name, the one that the runner looks for."""
    assert block.language in NOT_PYTHON | {"python"} or block.language.startswith("{")
    assert not (block.language == "text" and re.search(r"^(from \w+ )?import |^>>> |^def ", block.text, re.MULTILINE))


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "python"], ids=str)
def test_python_is_not_skipped_without_a_reason(block: Block) -> None:
    """The words that make the runner skip a block say why."""
    if "skip:" in block.before:
        assert re.search(r"skip: next.*(reason=|[\"'].+[\"'])", block.before), f"{block}: say why it cannot run"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_skips_a_range(page: object) -> None:
    """Blocks are skipped one by one, so that none is caught by chance."""
    assert page in PAGES
    text = (ROOT / str(page)).read_text(encoding="utf-8")
    assert "skip: start" not in text


def test_the_runner_finds_every_page_with_python() -> None:
    """Python is in the README and in pages directly in ``docs``: those that the runner's patterns match."""
    with_python = {ROOT / block.page for block in ALL if block.language == "python"}
    assert with_python <= {ROOT / "README.md", *DOCS.glob("*.md")}


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "console"], ids=str)
def test_a_console_shows_commands(block: Block) -> None:
    """A console block begins with a command, after a dollar."""
    assert block.text.startswith("$ ")
    assert list(commands(block))
