"""Parses the keys and paths that users pass: dotted text, or an iterable of segments, but not a proxy."""

from __future__ import annotations

from collections.abc import Iterable

from redicts.core import paths
from redicts.core.minitransaction import Path
from redicts.errors import PathError


def parsed(key: str | Iterable[str]) -> Path:
    """Parse a key. A proxy is refused: it is an iterable of text, but iterating it would read names from the store."""
    if hasattr(type(key), "_lock_location"):
        raise PathError(
            f"a path must be dotted text or an iterable of segments, not a proxy; pass the key() of {key!r}"
        )
    return paths.parse(key)


def parsed_path(path: str | Iterable[str]) -> Path:
    """Parse a path. The empty text is the root."""
    return paths.ROOT if isinstance(path, str) and not path else parsed(path)
