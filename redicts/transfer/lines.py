"""The line format: a subtree as lines of JSON, one leaf each, that can be read while they are still being written.

::

    {"redicts": "leaves", "version": 1}
    {"path": ["garage", "car", "wheels"], "value": 4}
    {"path": ["garage", "ticket"], "value": 17, "life": 598000}
    {"path": ["garage", "photo"], "base64": "gAWVAA..."}
    {"end": true, "leaves": 3}

``path`` is relative to what was exported, ``ttl`` is what was left of it then, in milliseconds. A leaf whose value
JSON does not give back exactly is written as ``base64``, the bytes as they are stored. A value that is a JSON object
is one leaf: an empty dict or a packed one. A line with a ``cursor`` says nothing about the tree: an export that is
continued goes on after the last of them.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from redicts.api.opened import OpenedDatabase
from redicts.core.minitransaction import Path
from redicts.core.paths import parse, shortened
from redicts.errors import LeafError, PathError, RedictsError
from redicts.transfer.leaves import UNREADABLE, Leaf, pages

HEAD: Final[Mapping[str, Any]] = {"redicts": "leaves", "version": 1}

_KEYS: Final = {"path", "value", "base64", "ttl"}
_PLAIN: Final = (str, int, float, bool, type(None))
_dumps: Final = json.JSONEncoder(separators=(",", ":")).encode


class LineError(RedictsError, ValueError):
    """A line of an import is none of this format. Nothing of its batch was written."""


class Exported(NamedTuple):
    """The lines of one page, the cursor after it, and how many leaves there were and could not be read."""

    lines: list[str]
    leaves: int
    damaged: list[str]
    cursor: bytes | None


def export_lines(tree: OpenedDatabase, at: Path = (), cursor: bytes | None = None) -> Iterator[Exported]:
    """Yield the lines of all leaves at and below a path, page by page, without the first and the last line.

    What cannot be read by the settings of the tree is written as it is stored, and named.
    """
    for page in pages(tree, at, cursor):
        damaged: list[str] = []
        lines = [_line_of(tree, at, leaf, damaged) for leaf in page.leaves]
        yield Exported(lines, len(lines), damaged, page.cursor)


def _line_of(tree: OpenedDatabase, at: Path, leaf: Leaf, damaged: list[str]) -> str:
    line: dict[str, Any] = {"path": leaf.path}
    try:
        value = tree.store.decoded(at + leaf.path, leaf.data)
        plain = is_plain(value)
    except UNREADABLE as error:
        damaged.append(str(error))
        plain, value = False, None
    if plain:
        line["value"] = value
    else:
        line["base64"] = base64.b64encode(leaf.data).decode()
    if leaf.ttl is not None:
        line["ttl"] = leaf.ttl
    return _dumps(line)


def is_plain(value: object) -> bool:
    """Tell whether JSON gives back exactly this value, types included."""
    kind = type(value)
    if kind is dict:
        assert isinstance(value, dict)
        return all(type(name) is str and is_plain(inner) for name, inner in value.items())
    if kind is list:
        assert isinstance(value, list)
        return all(map(is_plain, value))
    return kind in _PLAIN


def lines_of_value(value: object, at: Path) -> Iterator[bytes]:
    """Yield the lines of a whole value, as it would be stored at a path.

    Raises :class:`~redicts.errors.LeafError` and :class:`~redicts.errors.PathError` for what cannot be stored there.
    """
    if not at and not isinstance(value, dict):
        raise LeafError("the root is a dict; import anything else at a path")
    yield _dumps(HEAD).encode()
    leaves = 0
    for path, leaf in _leaves_of(value, ()):
        yield _dumps({"path": path, "value": leaf}).encode()
        leaves += 1
    yield tail(leaves).encode()


def _leaves_of(value: object, path: Path) -> Iterator[tuple[Path, object]]:
    if not isinstance(value, dict) or (path and not value):
        yield path, value
        return
    for name, inner in value.items():
        yield from _leaves_of(inner, (*path, name))


def tail(leaves: int) -> str:
    """Return the last line."""
    return _dumps({"end": True, "leaves": leaves})


class Line(NamedTuple):
    """What a line says: a leaf, or the end and how many leaves there were, or nothing."""

    leaf: Leaf | None = None
    end: int | None = None
    head: bool = False


def understood(tree: OpenedDatabase, text: bytes, number: int, to: Path) -> Line:
    """Return what a line says, with the leaf as the tree's codec writes it.

    Raises :class:`LineError`, which names the line, and never repeats a value.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise LineError(f"line {number} is no JSON: {reason}") from None
    if not isinstance(found, dict):
        raise LineError(f"line {number} is no JSON object")
    if "redicts" in found:
        if found != HEAD:
            raise LineError(f"line {number} begins another format or a later version of this one")
        return Line(head=True)
    if found.get("end") is True and isinstance(found.get("leaves"), int):
        return Line(end=found["leaves"])
    if set(found) == {"cursor"}:
        return Line()
    return Line(_leaf(tree, found, number, to))


def _leaf(tree: OpenedDatabase, found: dict[str, Any], number: int, to: Path) -> Leaf:
    strange = sorted(set(found) - _KEYS)
    if strange or "path" not in found or ("value" in found) is ("base64" in found):
        wrong = f"{shortened(strange[0])} is not known there" if strange else "it has a path, and a value or base64"
        raise LineError(f"line {number} is no leaf: {wrong}")
    ttl = found.get("ttl")
    if ttl is not None and (isinstance(ttl, bool) or not isinstance(ttl, int) or not 0 < ttl < 2**53):
        raise LineError(f"line {number}: life is a positive whole number of milliseconds")
    try:
        if not isinstance(found["path"], list):
            raise PathError("the path is a list of names")
        path = parse(found["path"]) if found["path"] or to else ()
        if not (to + path):
            raise PathError("the root cannot be a leaf")
        if "value" in found:
            return Leaf(path, tree.store.encoded(to + path, found["value"]), ttl)
        data = base64.b64decode(found["base64"], validate=True)
        tree.store.decoded(to + path, data)
    except (PathError, *UNREADABLE) as error:
        raise LineError(f"line {number}: {error}") from None
    except (TypeError, binascii.Error):
        raise LineError(f"line {number}: base64 is no text of that form") from None
    return Leaf(path, data, ttl)
