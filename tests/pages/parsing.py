"""Parsing of the pages: their blocks of code, and the commands of their console blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
ROOT_PAGES: Final = tuple(sorted(ROOT.glob("*.md")))
PAGES: Final = (*ROOT_PAGES, *sorted(DOCS.rglob("*.md")))

_BLOCK: Final = re.compile(r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^ *```$", re.DOTALL | re.MULTILINE)
_FILE: Final = re.compile(r"<!-- file: (\S+) -->")


class Block(NamedTuple):
    """One block of code."""

    page: str
    line: int
    language: str
    text: str
    before: str
    """The last line before the block that is not blank."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file to save the block as, from the comment before it, or ``None``."""
        found = _FILE.fullmatch(self.before)
        return found[1] if found else None


class Command(NamedTuple):
    """One command of a console block, and its output, empty if the page does not show it."""

    page: str
    line: int
    text: str
    output: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Return the blocks of code of a page, in order."""
    text = page.read_text(encoding="utf-8")
    name = str(page.relative_to(ROOT))
    found = []
    for match in _BLOCK.finditer(text):
        before = text[: match.start()].rstrip().rpartition("\n")[2]
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(name, line, match["language"].strip(), match["text"], before))
    return found


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a console block."""
    lines = block.text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(lines)]):
        command = re.sub(r"\s{2,}# .*$", "", lines[start].removeprefix("$ "))
        yield Command(block.page, block.line + 1 + start, command.strip(), "\n".join(lines[start + 1 : end]).strip())
