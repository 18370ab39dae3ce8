r"""Documents: a dict as one JSON text, which is equivalent to its leaves.

==========================================  ===================================================
document at ``a``                           leaves
==========================================  ===================================================
``{"b":1,"c":"text","d":[1,{"e":2}]}``      ``a.b`` ``1``, ``a.c`` ``"text"``, ``a.d`` ``[1,{"e":2}]``
``{"b":{"c":1,"d":{}}}``                    ``a.b.c`` ``1``, ``a.b.d`` ``{}``
==========================================  ===================================================

The text is UTF-8 without whitespace between its tokens. Every object in it that is neither empty nor in an array is an
inner node. Every other value is a leaf, and its bytes are those in the text. So a dict that is put as a document reads
the same as one that is put leaf by leaf.

Documents only serve speed: a store need not split a dict that is written and read as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from json.decoder import scanstring  # type: ignore[attr-defined]  # it has no stub, and no other name
from types import MappingProxyType
from typing import Any, Final

from redicts.core.minitransaction import MAX_DEPTH, Path

MOST_BYTES: Final = 16_384
"""The maximum length of a document that core writes. Access to one leaf of a document costs time in proportion to its
length, and one transaction writes as many leaves as a longer one has almost as fast."""

_KEPT: Final = 16
"""The size of the cache of parsed documents, for programs that read the leaves of a document one by one."""

_BRACKETS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}]')
"""Brackets in a JSON text, and strings, which may contain further brackets."""

_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null|NaN|-?Infinity")
"""A number or a constant. It is not decoded, because it may have more digits than this interpreter reads."""

_scan_text: Final[Any] = scanstring


@lru_cache(maxsize=_KEPT)
def leaves_in(document: bytes) -> Mapping[Path, bytes]:
    """Split a document into leaves by path relative to its key.

    Raises ``ValueError`` for text that is not an object, an empty object, whitespace between tokens, an empty or
    repeated name, and an object that is nested deeper than :data:`MAX_DEPTH`. The contents of lists are not checked.
    """
    text = document.decode()
    leaves: dict[Path, bytes] = {}
    try:
        end = _collect(text, 1, (), leaves) if text.startswith('{"') else -1
    except IndexError as error:
        raise ValueError("the document ends too early") from error
    if end != len(text):
        raise ValueError("a document must be one JSON object that is not empty, without whitespace between its tokens")
    return MappingProxyType(leaves)


def items_in(document: bytes) -> dict[str, bytes]:
    """Split a document into the items of its dict, by name: leaves, and documents, which begin with ``{"``.

    Raises ``ValueError`` as :func:`leaves_in` does, but for what is wrong within an item.
    """
    text = document.decode()
    items: dict[str, bytes] = {}
    end = 0
    try:
        while text[end] == ("," if items else "{"):
            if text[end + 1] != '"':
                break
            name, start = _scan_text(text, end + 2, True)
            if not name or name in items or text[start] != ":":
                break
            start += 1
            end = _end_of_list(text, start) if text[start] in "[{" else _end_of_scalar(text, start)
            items[name] = text[start:end].encode()
        if items and text[end:] == "}":
            return items
    except IndexError:
        pass
    raise ValueError("a document must be one JSON object that is not empty, without whitespace between its tokens")


class DocumentLeaves(Mapping[Path, bytes]):
    """Leaves by path of which some are in documents, which are split when a leaf is asked for.

    Decoding a document takes a small part of the time of splitting it and decoding its leaves. A text that is not a
    document counts as a leaf, which core reports as corrupt.
    """

    __slots__ = ("_leaves", "documents", "texts")

    def __init__(self, texts: Mapping[Path, bytes], documents: Collection[Path]) -> None:
        self.texts: Final = texts
        """Leaves and documents by path."""
        self.documents: Final = documents
        """The paths of the documents among them."""
        self._leaves: Mapping[Path, bytes] | None = None

    def _split(self) -> Mapping[Path, bytes]:
        if self._leaves is None:
            leaves: dict[Path, bytes] = {}
            for path, text in self.texts.items():
                if path in self.documents:
                    leaves.update({path + below: leaf for below, leaf in _leaves_or_itself(text).items()})
                else:
                    leaves[path] = text
            self._leaves = leaves
        return self._leaves

    def __getitem__(self, path: Path) -> bytes:
        return self._split()[path]

    def __iter__(self) -> Iterator[Path]:
        return iter(self._split())

    def __len__(self) -> int:
        return len(self._split())


def joined(pages: Iterable[Mapping[Path, bytes]]) -> Mapping[Path, bytes]:
    """Return the leaves of all pages of one read. Documents stay whole, unless they were split between two pages."""
    texts: dict[Path, bytes] = {}
    documents: set[Path] = set()
    leaves: dict[Path, bytes] = {}
    pages = list(pages)
    for page in pages:
        texts.update(page.texts if isinstance(page, DocumentLeaves) else page)
        documents.update(page.documents if isinstance(page, DocumentLeaves) else ())
    if not any(path[:depth] in documents for path in texts for depth in range(len(path))):
        return DocumentLeaves(texts, documents) if documents else texts
    for page in pages:
        leaves.update(page)
    return leaves


def _leaves_or_itself(text: bytes) -> Mapping[Path, bytes]:
    try:
        return leaves_in(text)
    except ValueError:
        return {(): text}


def _end_of_list(text: str, start: int) -> int:
    """Find the end of a list or an empty object by its brackets, because it may be nested deeper than Python calls."""
    depth = 0
    for found in _BRACKETS.finditer(text, start):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if not depth:
            return found.end()
    raise ValueError("the document ends within a list")


def _end_of_scalar(text: str, start: int) -> int:
    if text[start] == '"':
        return _scan_text(text, start + 1, True)[1]  # type: ignore[no-any-return]  # the index after the text
    found = _NUMBER.match(text, start)
    if found is None:
        raise ValueError("a value in the document is not a number, a text or a constant")
    return found.end()


def _collect(text: str, start: int, path: Path, leaves: dict[Path, bytes]) -> int:
    """Collect the leaves of the object whose first name begins at ``start``, and return its end."""
    if len(path) == MAX_DEPTH:
        raise ValueError(f"the document is nested more than {MAX_DEPTH} levels deep")
    names = set()
    while True:
        if text[start] != '"':
            raise ValueError("a name in the document must begin with a quotation mark")
        name, end = _scan_text(text, start + 1, True)
        if not name or name in names or text[end] != ":":
            raise ValueError("a name in the document is empty, repeated, or not followed by a value")
        names.add(name)
        start = end + 1
        where = (*path, name)
        if text.startswith('{"', start):
            end = _collect(text, start + 1, where, leaves)
        else:
            end = _end_of_list(text, start) if text[start] in "[{" else _end_of_scalar(text, start)
            leaves[where] = text[start:end].encode()
        if text[end] == "}":
            return end + 1
        if text[end] != ",":
            raise ValueError("a value in the document must be followed by a comma or a closing brace")
        start = end + 1
