"""Mutations of SQL in the texts of Python source, found by its words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_BEGINNING: Final = re.compile(rb"[bfru]*[\"']+\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH)\b", re.IGNORECASE)

_WORDS: Final[tuple[tuple[str, bytes, bytes], ...]] = (
    ("compare", rb"<=", b"<"),
    ("compare", rb"<(?![=>])", b"<="),
    ("compare", rb">=", b">"),
    ("compare", rb"(?<!<)>(?!=)", b">="),
    ("compare", rb"\bIS NOT\b", b"IS"),
    ("compare", rb"\bIS\b(?! NOT)", b"IS NOT"),
    ("boolean", rb"\bAND\b", b"OR"),
    ("boolean", rb"\bOR\b(?! REPLACE| IGNORE)", b"AND"),
    ("call", rb"\bDESC\b", b"ASC"),
    ("call", rb"\bMIN\b", b"MAX"),
    ("call", rb"\bMAX\b", b"MIN"),
    ("remove", rb"\bOR (?:REPLACE|IGNORE)\b", b""),
    ("remove", rb"\bORDER BY [^\"']*", b""),
    ("remove", rb"\bLIMIT \?", b""),
)


def is_sql(piece: bytes) -> bool:
    """Tell whether a text of Python source begins like a statement of SQL."""
    return _BEGINNING.match(piece) is not None


def edits_of(piece: bytes) -> Iterator[tuple[str, int, int, bytes]]:
    """Yield mutations of a text of Python source: kind, range in it, and replacement."""
    for kind, pattern, after in _WORDS:
        for found in re.finditer(pattern, piece):
            around = _around(piece, found.start(), found.end())
            replaced = piece[around.start : found.start()] + after + piece[found.end() : around.stop]
            yield kind, around.start, around.stop, replaced


def _around(piece: bytes, start: int, end: int) -> slice:
    """Return the range of the words around a word, so that a mutation of SQL shows what it compares."""
    before = piece[:start].split()[-2:]
    first = piece.rfind(before[0], 0, start) if before else start
    after = piece[end:].split()[:2]
    last = piece.find(after[-1], end + len(after[0]) if len(after) > 1 else end) + len(after[-1]) if after else end
    return slice(first, last)
