"""Extracts the files of a tutorial from its blocks, each under a comment that names the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_BLOCK: Final = re.compile(r"^<!-- file: (?P<name>\S+) -->\n```\w+\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


def files_of(tutorial: Path) -> dict[str, str]:
    """Return the text of each file: its blocks, separated by empty lines."""
    blocks: dict[str, list[str]] = {}
    for block in _BLOCK.finditer(tutorial.read_text(encoding="utf-8")):
        blocks.setdefault(block["name"], []).append(block["text"])
    return {name: "\n".join(texts) for name, texts in blocks.items()}
