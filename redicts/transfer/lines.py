"""The line format: a subtree as lines of JSON, one for each leaf, which can be read while they are being written.

::

    {"redicts": "leaves", "version": 1}
    {"path": ["garage", "car", "wheels"], "value": 4}
    {"path": ["garage", "ticket"], "value": 17, "ttl": 598000}
    {"path": ["garage", "photo"], "base64": "gAWVAA..."}
    {"end": true, "leaves": 3}

``path`` is relative to the node that was exported, ``ttl`` is the remaining TTL in milliseconds. ``value`` is the value
of a leaf that is stored as plain JSON, and ``base64`` has the stored bytes of any other leaf, which is not decoded. So
an import stores the same bytes, also those of codecs, types and keys that neither side has. A ``value`` that is a JSON
object is one leaf: an empty dict or a packed one. A line with a ``cursor`` is part of no tree: an interrupted export
continues after the last of them.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from redicts.api.opened import OpenedDatabase
from redicts.core.envelope import ENVELOPE
from redicts.core.minitransaction import Path
from redicts.core.paths import parse, shortened
from redicts.errors import CorruptData, LeafError, PathError, RedictsError
from redicts.transfer.leaves import UNREADABLE, Leaf, pages

HEAD: Final[Mapping[str, Any]] = {"redicts": "leaves", "version": 1}

_KEYS: Final = {"path", "value", "base64", "ttl"}
_PLAIN: Final = (str, int, float, bool, type(None))
_dumps: Final = json.JSONEncoder(separators=(",", ":")).encode


class LineError(RedictsError, ValueError):
    """A line of an import is not valid. Nothing of its batch was written."""


class IncompleteInput(LineError):
    """An input is empty, or its beginning or its end is missing. Nothing was written."""


class Exported(NamedTuple):
    """One page of an export: its lines, how many leaves they have, the leaves that are damaged, and the next cursor."""

    lines: list[str]
    leaves: int
    damaged: list[str]
    """Why leaves are known to be corrupt. Their lines have the stored bytes."""
    cursor: bytes | None


def export_lines(database: OpenedDatabase, at: Path = (), cursor: bytes | None = None) -> Iterator[Exported]:
    """Yield the lines of all leaves at and below a path, page by page, without the first and the last line."""
    for page in pages(database, at, cursor):
        damaged: list[str] = []
        lines = [_line_of(database, at, leaf, damaged) for leaf in page.leaves]
        yield Exported(lines, len(lines), damaged, page.cursor)


def _line_of(database: OpenedDatabase, at: Path, leaf: Leaf, damaged: list[str]) -> str:
    line: dict[str, Any] = {"path": leaf.path, **_written(leaf.data)}
    if "base64" in line and not leaf.data.startswith(ENVELOPE):
        # Plain JSON is read without a codec, so its damage is known.
        try:
            database.store.decoded(at + leaf.path, leaf.data)
        except CorruptData as error:
            damaged.append(str(error))
        except LeafError:
            pass
    if leaf.ttl is not None:
        line["ttl"] = leaf.ttl
    return _dumps(line)


def _written(data: bytes) -> Mapping[str, object]:
    """Return how a line represents stored bytes: as a value if an import makes the same bytes of it anywhere."""
    if not data.startswith(ENVELOPE) and _is_portable(data):
        try:
            value = json.loads(data)
            if plain_text(value) == data:
                return {"value": value}
        except (ValueError, RecursionError):
            pass
    return encoded(data)


_DIGITS: Final = re.compile(rb"[0-9]{640}")
"""Every interpreter reads an integer of fewer digits, whatever its limit is."""

_BRACKETS: Final = re.compile(rb"[\[\]{}]")
_DEEPEST: Final = 100


def _is_portable(data: bytes) -> bool:
    """Tell whether interpreters with other limits of digits and recursion read JSON text as well."""
    if len(data) <= _DEEPEST:
        return True
    if _DIGITS.search(data):
        return False
    depth = 0
    for bracket in _BRACKETS.findall(data) if data.count(b"[") + data.count(b"{") > _DEEPEST else ():
        depth += 1 if bracket in b"[{" else -1
        if depth > _DEEPEST:
            return False
    return True


def plain_text(value: object) -> bytes:
    """Return the plain JSON text of a value, as the codec ``json`` writes it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates
        return _dumps(value).encode()


def encoded(data: bytes) -> dict[str, str]:
    """Return how JSON shows a leaf whose value it does not preserve: as the bytes that are stored."""
    return {"base64": base64.b64encode(data).decode()}


def is_plain(value: object) -> bool:
    """Tell whether JSON preserves a value exactly, types included."""
    rest = [value]
    while rest:  # not recursive, because a value may be nested deeper than Python's stack
        each = rest.pop()
        kind = type(each)
        if kind is dict:
            assert isinstance(each, dict)
            if not all(type(name) is str for name in each):
                return False
            rest += each.values()
        elif kind is list:
            assert isinstance(each, list)
            rest += each
        elif kind not in _PLAIN:
            return False
    return True


class Refused(ValueError):
    """JSON that Python would read, and of which something would be lost."""


def refusal(error: Exception) -> str:
    """Return why a text was not read as JSON. It has nothing of the text, which may be a secret, but names."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    if isinstance(error, RecursionError):
        return "it is nested too deep for this interpreter"
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    return str(error) if isinstance(error, Refused) else "it has a number with more digits than this interpreter reads"


def unique_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return a JSON object. Raises :class:`Refused` if a name comes twice: one of its values would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(f"an object has the name {shortened(twice)} twice")
    return found


def lines_of_value(value: object, at: Path) -> Iterator[bytes]:
    """Yield all lines of a value, with the leaves that storing it at a path makes. At the root ``{}`` has none.

    Raises :class:`~redicts.errors.LeafError` for a value other than a dict at the root.
    """
    if not at and not isinstance(value, dict):
        raise LeafError(f"the root must be a dict; got {type(value).__name__} (import it at a path instead)")
    yield _dumps(HEAD).encode()
    leaves = 0
    for path, leaf in _leaves_of(value, ()) if at or value else ():
        yield _dumps({"path": path, "value": leaf}).encode()
        leaves += 1
    yield last_line(leaves).encode()


def _leaves_of(value: object, path: Path) -> Iterator[tuple[Path, object]]:
    if not isinstance(value, dict) or not value:
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
    entry: bool = False
    """Whether the line has an entry that is no leaf, such as a record of a lock that ``doctor --repair`` saved."""


def parse_line(database: OpenedDatabase, text: bytes, number: int, to: Path) -> Line:
    """Parse a line. A leaf has the bytes that the database is to store.

    Raises :class:`LineError`, which has the number of the line and never a value; :class:`IncompleteInput` for a line
    without its end.
    """
    if not text.strip():
        return Line()
    try:
        found = json.loads(text, object_pairs_hook=unique_names)
    except (ValueError, RecursionError) as error:
        kind = LineError if text.endswith(b"\n") else IncompleteInput
        raise kind(f"line {number} is not valid JSON: {refusal(error)}") from None
    if not isinstance(found, dict):
        raise LineError(f"line {number} must be a JSON object; got {type(found).__name__}")
    if "redicts" in found:
        if found != HEAD:
            raise LineError(f"line {number} begins another format, or a later version of this one")
        return Line(head=True)
    if found.get("end") is True and type(found.get("leaves")) is int:
        return Line(end=found["leaves"])
    if set(found) == {"cursor"}:
        return Line(entry=isinstance(found["cursor"], dict) and "space" in found["cursor"])
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
        _, reader = database.store.form.codec_of(b"null")
        value = found["value"]
        return Leaf(path, plain_text(value) if reader is not None else database.store.encoded(to + path, value), ttl)
    try:
        return Leaf(path, base64.b64decode(found["base64"], validate=True), ttl)
    except (TypeError, ValueError):
        raise ValueError("base64 is not valid") from None
