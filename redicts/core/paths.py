r"""Parses dotted text into paths, which are tuples of segments, and renders paths as dotted text.

In dotted text a dot separates segments. A dot within a segment is written ``\.`` and a backslash ``\\``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import Final

from redicts.core.foreign import is_interrupt
from redicts.core.minitransaction import MAX_DEPTH, Path
from redicts.core.names import Name
from redicts.errors import PathError

ROOT: Final[Path] = ()
_TEXT: Final = frozenset({str})


def parse(path: str | Iterable[str]) -> Path:
    r"""Parse dotted text, an iterable of segments, or a :class:`~redicts.core.names.Name`, which is one, into a path.

    The segments are exactly ``str``: a subclass may compare or hash differently, and paths are keys of dicts. Raises
    :class:`~redicts.errors.PathError` for a segment that is not text or is empty, for a backslash that does not precede
    a dot or a backslash, for more than :data:`MAX_DEPTH` segments, and for an iterable that raises an exception.

    >>> parse("a.b.c")
    ('a', 'b', 'c')
    >>> parse(r"www\.example\.org.port")
    ('www.example.org', 'port')
    >>> parse(["www.example.org", "port"])
    ('www.example.org', 'port')
    """
    if not issubclass(type(path), str):
        return _checked(_segments(path), path)
    text = path if type(path) is str else str.__str__(path)
    if type(path) is Name:
        return _checked((text,), path)
    return _checked(tuple(text.split(".") if "\\" not in text else _split_escaped(text)), text)


@lru_cache(maxsize=4096)
def below(above: Path, key: str) -> Path:
    """Parse dotted text relative to a path. Raises the errors of :func:`parse` and :func:`joined`.

    The key must be exactly a ``str``, not a subclass, because results are cached by equality.
    """
    return joined(above, parse(key))


def render(path: Path) -> str:
    r"""Render a path as dotted text, such that ``parse(render(path)) == path``. The root is the empty text.

    >>> render(("www.example.org", "port"))
    'www\\.example\\.org.port'
    """
    return ".".join([segment.replace("\\", "\\\\").replace(".", "\\.") for segment in path])


def joined(above: Path, below: Path) -> Path:
    """Concatenate two paths. Raises :class:`~redicts.errors.PathError` for more than :data:`MAX_DEPTH` segments."""
    path = above + below
    if len(path) > MAX_DEPTH:
        raise PathError(f"the path {shortened(render(path))} has {len(path)} segments; at most {MAX_DEPTH} are allowed")
    return path


def described(path: Path) -> str:
    """Render a path for an error message."""
    return repr(render(path)) if path else "the root"


def all_described(paths: Iterable[Path]) -> str:
    """Render several paths for an error message."""
    return " and ".join([described(path) for path in paths])


def _segments(path: Iterable[str]) -> Path:
    if not issubclass(type(path), Iterable) or isinstance(path, (bytes, bytearray)):
        raise PathError(
            f"a path must be dotted text or an iterable of segments, not {type(path).__name__}: {shortened(path)}"
        )
    try:
        segments = tuple(islice(path, MAX_DEPTH + 1))  # it may have no end
    except Exception as error:
        if is_interrupt(error):
            raise
        raise PathError(
            f"the segments of a path cannot be read from {type(path).__name__}: it raised {type(error).__name__}"
        ) from error
    if _TEXT.issuperset(map(type, segments)):
        return segments
    for segment in segments:
        if not issubclass(type(segment), str):
            raise PathError(
                f"a segment of a path must be text, not {type(segment).__name__}: {shortened(segment)} in "
                f"{shortened(path)}"
            )
    return tuple([str.__str__(segment) for segment in segments])


def _checked(segments: Path, given: object) -> Path:
    if len(segments) > MAX_DEPTH:
        number = len(segments) if isinstance(given, str) else f"at least {len(segments)}"
        raise PathError(f"the path {shortened(given)} has {number} segments; at most {MAX_DEPTH} are allowed")
    if "" in segments:
        raise PathError(f"the path {shortened(given)} has an empty segment; each needs one character or more")
    return segments


def shortened(given: object, most: int = 200) -> str:
    """Return a repr for an error message, truncated if it is long. An object without one is named by its class."""
    try:
        text = repr(given)
    except Exception as error:
        if is_interrupt(error):
            raise
        return f"<{type(given).__name__} whose repr() raises {type(error).__name__}>"
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def _split_escaped(path: str) -> list[str]:
    segments = [""]
    characters = iter(path)
    for character in characters:
        if character == ".":
            segments.append("")
        elif character == "\\":
            escaped = next(characters, "")
            if escaped not in (".", "\\"):
                raise PathError(
                    rf"the path {shortened(path)} has a backslash before {escaped!r}; write \\ for a backslash and \. "
                    "for a dot in a segment, or give the path as a list of segments"
                )
            segments[-1] += escaped
        else:
            segments[-1] += character
    return segments
