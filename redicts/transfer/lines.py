"""The line format: a subtree as lines of JSON, one for each leaf, which can be read while they are being written.

::

    {"redicts": "leaves", "version": 1}
    {"path": ["garage", "car", "wheels"], "value": 4}
    {"path": ["garage", "ticket"], "value": 17, "ttl": 598000}
    {"path": ["garage", "photo"], "base64": "gAWVAA..."}
    {"end": true, "leaves": 3}

``path`` is relative to the node that was exported, ``ttl`` is the remaining TTL in milliseconds. ``base64`` has the
stored bytes of a leaf whose value JSON does not preserve. A ``value`` that is a JSON object is one leaf: an empty dict
or a packed one. A line with a ``cursor`` is part of no tree: an interrupted export continues after the last of them.
"""

from __future__ import annotations

import base64
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
    """A line of an import is not valid. Nothing of its batch was written."""


class Exported(NamedTuple):
    """One page of an export: its lines, how many leaves they have, the leaves that are damaged, and the next cursor."""

    lines: list[str]
    leaves: int
    damaged: list[str]
    """Why leaves cannot be read with the settings of the database. Their lines have the stored bytes."""
    cursor: bytes | None


def export_lines(database: OpenedDatabase, at: Path = (), cursor: bytes | None = None) -> Iterator[Exported]:
    """Yield the lines of all leaves at and below a path, page by page, without the first and the last line."""
    for page in pages(database, at, cursor):
        damaged: list[str] = []
        lines = [_line_of(database, at, leaf, damaged) for leaf in page.leaves]
        yield Exported(lines, len(lines), damaged, page.cursor)


def _line_of(database: OpenedDatabase, at: Path, leaf: Leaf, damaged: list[str]) -> str:
    line: dict[str, Any] = {"path": leaf.path}
    try:
        value = database.store.decoded(at + leaf.path, leaf.data)
        line |= {"value": value} if is_plain(value) else encoded(leaf.data)
    except UNREADABLE as error:
        damaged.append(str(error))
        line |= encoded(leaf.data)
    if leaf.ttl is not None:
        line["ttl"] = leaf.ttl
    return _dumps(line)


def encoded(data: bytes) -> dict[str, str]:
    """Return how JSON shows a leaf whose value it does not preserve: as the bytes that are stored."""
    return {"base64": base64.b64encode(data).decode()}


def is_plain(value: object) -> bool:
    """Tell whether JSON preserves a value exactly, types included."""
    kind = type(value)
    if kind is dict:
        assert isinstance(value, dict)
        return all(type(name) is str and is_plain(inner) for name, inner in value.items())
    if kind is list:
        assert isinstance(value, list)
        return all(map(is_plain, value))
    return kind in _PLAIN


def lines_of_value(value: object, at: Path) -> Iterator[bytes]:
    """Yield all lines of a value, with the leaves that storing it at a path makes.

    Raises :class:`~redicts.errors.LeafError` for a value other than a dict at the root.
    """
    if not at and not isinstance(value, dict):
        raise LeafError(f"the root must be a dict; got {type(value).__name__} (import it at a path instead)")
    yield _dumps(HEAD).encode()
    leaves = 0
    for path, leaf in _leaves_of(value, ()):
        yield _dumps({"path": path, "value": leaf}).encode()
        leaves += 1
    yield last_line(leaves).encode()


def _leaves_of(value: object, path: Path) -> Iterator[tuple[Path, object]]:
    if not isinstance(value, dict) or (path and not value):
        yield path, value
        return
    for name, inner in value.items():
        yield from _leaves_of(inner, (*path, name))


def last_line(leaves: int) -> str:
    """Return the last line of an export with this many leaves."""
    return _dumps({"end": True, "leaves": leaves})


class Line(NamedTuple):
    """A parsed line: a leaf, the first line, the last one with the number of leaves, or a line without meaning."""

    leaf: Leaf | None = None
    end: int | None = None
    head: bool = False


def parse_line(database: OpenedDatabase, text: bytes, number: int, to: Path) -> Line:
    """Parse a line. A leaf is encoded as the database stores it.

    Raises :class:`LineError`, which has the number of the line and never a value.
    """
    if not text.strip():
        return Line()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise LineError(f"line {number} is not valid JSON: {reason}") from None
    if not isinstance(found, dict):
        raise LineError(f"line {number} must be a JSON object; got {type(found).__name__}")
    if "redicts" in found:
        if found != HEAD:
            raise LineError(f"line {number} begins another format, or a later version of this one")
        return Line(head=True)
    if found.get("end") is True and isinstance(found.get("leaves"), int):
        return Line(end=found["leaves"])
    if set(found) == {"cursor"}:
        return Line()
    try:
        return Line(_leaf(database, found, to))
    except (ValueError, *UNREADABLE) as error:
        raise LineError(f"line {number}: {error}") from None


def _leaf(database: OpenedDatabase, found: dict[str, Any], to: Path) -> Leaf:
    unknown = sorted(set(found) - _KEYS)
    if unknown:
        raise ValueError(f"a leaf has no {shortened(unknown[0])}")
    if "path" not in found or ("value" in found) is ("base64" in found):
        raise ValueError("a leaf must have a path, and either a value or base64")
    ttl = found.get("ttl")
    if ttl is not None and (isinstance(ttl, bool) or not isinstance(ttl, int) or not 0 < ttl < 2**53):
        raise ValueError("ttl must be a positive whole number of milliseconds")
    if not isinstance(found["path"], list):
        raise PathError("the path must be a list of names")
    path = parse(found["path"]) if found["path"] or to else ()
    if not (to + path):
        raise PathError("the root cannot be a leaf")
    if "value" in found:
        return Leaf(path, database.store.encoded(to + path, found["value"]), ttl)
    try:
        data = base64.b64decode(found["base64"], validate=True)
    except (TypeError, ValueError):
        raise ValueError("base64 is not valid") from None
    database.store.decoded(to + path, data)
    return Leaf(path, data, ttl)
