r"""Documents: a dict as one JSON text, which stands for the leaves that it would be taken apart into.

==========================================  ===================================================
document at ``a``                           leaves
==========================================  ===================================================
``{"b":1,"c":"text","d":[1,{"e":2}]}``      ``a.b`` ``1``, ``a.c`` ``"text"``, ``a.d`` ``[1,{"e":2}]``
``{"b":{"c":1,"d":{}}}``                    ``a.b.c`` ``1``, ``a.b.d`` ``{}``
==========================================  ===================================================

The text is UTF-8 and has no blanks between its parts. Every object in it that is not empty and in no array is an inner
node; each other value is a leaf, whose bytes are those that stand in the text. So what is put as a document and what is
put leaf by leaf are the same bytes, and nobody can tell which it was.

This is a matter of speed alone: where all of a dict is written, and all of it is read, a store need not part it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from json.decoder import JSONDecoder, scanstring  # type: ignore[attr-defined]  # it has no stub, and no other name
from types import MappingProxyType
from typing import Any, Final

from redicts.core.minitransaction import MAX_DEPTH, Path

MOST_BYTES: Final = 16_384
"""No document that core puts is longer: who reaches for one leaf pays for the whole, and the writes of as many leaves
cost little more than each of them."""

_KEPT: Final = 16
"""So many are remembered: a program that reads leaf by leaf what was put as a whole asks for the same again."""

_BRACKETS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}]')
"""The brackets in a JSON text, and the texts in it, which may hold others."""

_scan_text: Final[Any] = scanstring
_scan_value: Final = JSONDecoder().raw_decode


@lru_cache(maxsize=_KEPT)
def leaves_in(document: bytes) -> Mapping[Path, bytes]:
    """Return the leaves of a document by path relative to its key.

    Raises ``ValueError`` if it is none: no object, an empty one, text with blanks, an empty name or one that stands
    there twice, or deeper than a path can be. What lists hold is not looked at.
    """
    text = document.decode()
    leaves: dict[Path, bytes] = {}
    try:
        end = _collect(text, 1, (), leaves) if text.startswith('{"') else -1
    except (IndexError, StopIteration) as error:
        raise ValueError("the document ends too early") from error
    if end != len(text):
        raise ValueError("a document is one JSON object that is not empty, without blanks between its parts")
    return MappingProxyType(leaves)


def _end_of_list(text: str, start: int) -> int:
    """Return where a list, or an empty object, ends: by its brackets, for it may be nested deeper than Python calls."""
    depth = 0
    for found in _BRACKETS.finditer(text, start):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if not depth:
            return found.end()
    raise ValueError("the document ends in a list")


def _collect(text: str, start: int, path: Path, leaves: dict[Path, bytes]) -> int:
    """Add the leaves of an object, given where its first name begins, and return where the object ends."""
    if len(path) == MAX_DEPTH:
        raise ValueError(f"the document is nested more than {MAX_DEPTH} levels deep")
    names = set()
    while True:
        if text[start] != '"':
            raise ValueError("a name in the document does not begin where it should")
        name, end = _scan_text(text, start + 1, True)
        if not name or name in names or text[end] != ":":
            raise ValueError("a name in the document is empty, stands there twice, or is followed by no value")
        names.add(name)
        start = end + 1
        where = (*path, name)
        if text.startswith('{"', start):
            end = _collect(text, start + 1, where, leaves)
        else:
            end = _end_of_list(text, start) if text[start] in "[{" else _scan_value(text, start)[1]
            leaves[where] = text[start:end].encode()
        if text[end] == "}":
            return end + 1
        if text[end] != ",":
            raise ValueError("a value in the document is followed neither by another name nor by the end")
        start = end + 1
