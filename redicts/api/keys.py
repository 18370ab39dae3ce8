"""The keys and paths that users give: dotted text, or an iterable of segments, but not a proxy."""

from __future__ import annotations

from collections.abc import Iterable

from redicts.core import paths
from redicts.core.minitransaction import Path
from redicts.errors import PathError


def parsed(key: str | Iterable[str]) -> Path:
    """Return the segments of a key. A proxy is refused, although iterating it yields text: names from the store."""
    if not isinstance(key, str) and hasattr(key, "_lock_location"):
        raise PathError(f"a path is dotted text or an iterable of segments, not a proxy; take the key() of {key!r}")
    return paths.parse(key)


def parsed_path(path: str | Iterable[str]) -> Path:
    """Return the segments of a path; the empty text is the root."""
    return paths.ROOT if isinstance(path, str) and not path else parsed(path)
