r"""Encodes keys as bytes, in an order in which every scope is one range.

A key is the number of its database, its space and the segments of its path, in UTF-8, each followed by a zero byte. In
them the bytes 0 and 1 are escaped as ``01 02`` and ``01 03``. So a zero byte always ends a segment, and sorts before
all others: a key precedes the keys below it, and these precede its next sibling.
"""

from __future__ import annotations

from redicts.plugin import Key, Path, Scope


def encode(database: int, key: Key) -> bytes:
    """Return the bytes of a key. Lone surrogates are allowed."""
    parts = [part.replace("\x01", "\x01\x03").replace("\x00", "\x01\x02") for part in (key.space, *key.path)]
    return "\x00".join((str(database), *parts, "")).encode("utf-8", "surrogatepass")


def decode(rest: bytes) -> Path:
    """Return the path of a key relative to another one, given the bytes after the other one's."""
    if not rest:
        return ()
    segments = rest[:-1].decode("utf-8", "surrogatepass").split("\x00")
    if b"\x01" in rest:
        segments = [segment.replace("\x01\x02", "\x00").replace("\x01\x03", "\x01") for segment in segments]
    return tuple(segments)


def bounds(encoded: bytes, scope: Scope) -> tuple[bytes, bytes]:
    """Return the exclusive lower and upper bound of a scope."""
    if scope is Scope.NODE:
        return encoded[:-1], encoded + b"\x00"
    return encoded if scope is Scope.BELOW else encoded[:-1], past(encoded)


def past(encoded: bytes) -> bytes:
    """Return a bound after this key and all keys below it, and before every later key."""
    return encoded[:-1] + b"\x01"
