"""Tables in the documentation that the tests produce, so that what they show is what redicts says.

A page marks the place with ``<!-- table: NAME -->`` and ``<!-- end of table -->``. With the environment variable
``REDICTS_WRITE_TABLES=1`` the tests write the tables; without it they fail if a page shows another one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parents[2] / "docs"


def check(page: str, name: str, heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Compare a table with the one that a page shows, or write it there."""
    path = DOCS / page
    text = path.read_text(encoding="utf-8")
    lines = [heads, tuple("---" for _ in heads), *rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    place = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(\n<!-- end of table -->)", re.DOTALL)
    assert len(place.findall(text)) == 1, f"docs/{page} has no place for the table {name!r}"
    wanted = place.sub(lambda found: found[1] + table + found[2], text)
    if os.environ.get("REDICTS_WRITE_TABLES") == "1":
        path.write_text(wanted, encoding="utf-8")
    else:
        assert text == wanted, f"docs/{page} shows another table; write it again with REDICTS_WRITE_TABLES=1"
