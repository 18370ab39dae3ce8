"""Parses the keys and paths that users pass: dotted text, an iterable of segments, or a name, but not a proxy."""

from __future__ import annotations

from collections.abc import Iterable

from redicts.core import paths
from redicts.core.minitransaction import Path
from redicts.core.names import Name
from redicts.errors import PathError


def parsed(key: str | Iterable[str]) -> Path:
    """Parse a key. A proxy or a mapping is refused: iterating it as segments would read names from the store."""
    if hasattr(type(key), "_lock_location"):
        raise PathError(
            f"a path must be dotted text or an iterable of segments, not {key!r}; pass the key() of a proxy"
        )
    return paths.parse(key)


def parsed_path(path: str | Iterable[str]) -> Path:
    """Parse a path. The empty text is the root, unless it is a name: those have one character or more."""
    return paths.ROOT if isinstance(path, str) and not path and type(path) is not Name else parsed(path)
