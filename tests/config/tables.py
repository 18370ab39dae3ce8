"""Tables in the documentation that the tests generate, so that they show what redicts does.

A page has ``<!-- table: NAME -->`` and ``<!-- end of table -->`` around a table. With the environment variable
``REDICTS_WRITE_TABLES=1`` the tests write the tables. Without it they fail if a page shows a different one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parents[2] / "docs"


def check(page: str, name: str, heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Compare a table with the one on a page, or write it there."""
    show(page, name, table_of(heads, rows))


def table_of(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table as a page shows it."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def show(page: str, name: str, table: str) -> None:
    """Compare a text with that between the comments of a table, or write it there."""
    path = DOCS / page
    text = path.read_text(encoding="utf-8")
    table_in_page = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(\n<!-- end of table -->)", re.DOTALL)
    assert len(table_in_page.findall(text)) == 1, f"docs/{page} has no comments around the table {name!r}"
    wanted = table_in_page.sub(lambda match: match[1] + table + match[2], text)
    if os.environ.get("REDICTS_WRITE_TABLES") == "1":
        path.write_text(wanted, encoding="utf-8")
    else:
        assert text == wanted, f"docs/{page} shows a different table; write it with REDICTS_WRITE_TABLES=1"
