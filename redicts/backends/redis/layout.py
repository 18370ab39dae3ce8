r"""The layout: how a tree is stored in Redis, as one hash per nested dict.

====================  =======================================================================================
key                   content
====================  =======================================================================================
``v:``                hash of the root dict of the space ``v``
``v:.a.b``            hash of the dict at ``a.b``: one field per name in it
``h:``                sorted set of all records of the record space ``h``, whose scores are 0
``x:``                sorted set of all leaves and records that have a TTL, by the millisecond at which it ends
``r:<session>``       number and reply of the last request of a session, for five minutes
====================  =======================================================================================

The other spaces are stored like ``v``, each under its own name, and the other record spaces like ``h``.

``s:<number of the database>:<client id>`` is the channel to which one process subscribes. A message there is the rest
of the name of the listener that it is for. The script first sends an empty message to the channel without a
client id, so that a missing permission stops it before the first change.

``s:<number of the database>:/<section>`` is the channel of changes in one section, ``.garage`` for instance. A message
there is the path that changed, as in the name of a hash, or one above it. ``/`` alone is the channel of changes of the
root, which concern every section. Watchers of the root subscribe to the pattern ``/*``. No client id contains a slash.
In a cluster, a channel of changes begins with the hash tag of its section, so that it is in the slot of the section.

Every key and channel begins with the prefix of the settings. In the name of a key, the bytes ``% . : { }`` and NUL of a
segment are written as ``%`` and two hexadecimal digits. So the last dot of a name always ends the parent's name. The
name of a field is the segment itself.

A field holds the value as it is, so ``HGET v:.a b`` shows ``42``. Four first bytes have a meaning:

- ``\1`` alone marks a dict, whose hash has the rest.
- ``\2`` and 16 digits precede a value with a TTL: the millisecond since the epoch at which it ends.
- ``\5``, 16 digits and 4 digits precede a document, the JSON text of a dict that was set whole. The first digits are
  those of its TTL, or zeros. The other ones are the number of its leaves, at most 1,000.
- ``\3`` precedes a value that itself begins with one of the four.

A record space holds the records of locks, of which most are written and removed soon. A hash for each path would make
and remove several keys with each. A member of its sorted set is the path, NUL, 16 digits, and the value. The digits are
the millisecond at which its TTL ends, or all 9. Each segment of the path is followed by ``\1``, and the bytes NUL,
``\1`` and ``\2`` in a segment are written as ``\2`` and ``0``, ``1`` or ``2``. So members are in the order of their
paths, and everything below a path is one range. In ``x:``, NUL, the name of the sorted set, NUL and the path stand for
a record. Earlier versions stored these spaces like ``v``: the first request that finds such a hash at ``h:`` has all of
them rewritten.

Between two requests, a hash exists only if the marker of its dict is in its parent's hash, up to the root. A document
has no hash. A leaf or document has a TTL if and only if it is in the sorted set.

A layout without documents, as version 2.0.0.dev0 writes it, is read as it is. That version does not know documents. It
reads one as a leaf that is not valid JSON, and raises ``CorruptData``. A leaf that it sets below one replaces it. So a
database must not have clients of both versions at once.
"""

from __future__ import annotations

import re
from typing import Final

from redicts.core.minitransaction import Path

CHANGES: Final = b"/"
"""What follows the number of the database in the names of channels of changes."""

_ESCAPED_BYTES: Final = re.compile(rb"[%.:{}\x00]")
_ESCAPE: Final = re.compile(rb"%([0-9A-F]{2})")
_SPECIAL_IN_PATTERNS: Final = re.compile(rb"[\\?*\[\]]")


def hash_name(prefix: bytes, space: str, path: Path) -> bytes:
    """Return the name of the hash that holds what lies directly below a key."""
    return prefix + space.encode() + b":" + suffix(path)


def name_bytes(name: str) -> bytes:
    """Return the bytes of a segment. Lone surrogates are valid in Python's text, so they are kept."""
    return name.encode("utf-8", "surrogatepass")


def name_text(name: bytes) -> str:
    """Return the segment of these bytes."""
    return name.decode("utf-8", "surrogatepass")


def suffix(path: Path) -> bytes:
    """Return what a path appends to the name of a hash."""
    return b"".join([b"." + _escaped(name_bytes(segment)) for segment in path])


def path_of(suffix: bytes) -> Path:
    """Return the path of a suffix of a name."""
    if not suffix:
        return ()
    return tuple([name_text(_ESCAPE.sub(_unescaped, segment)) for segment in suffix[1:].split(b".")])


class Pattern(bytes):
    """A pattern of names of channels."""

    __slots__ = ()


class Sharded(bytes):
    """The name of a channel that one node of a cluster has: the one with its slot."""

    __slots__ = ()


def channels_of_changes(channels: bytes, path: Path) -> tuple[bytes, ...]:
    """Return the channels, or the pattern of them, that have a message for each change at, above or below a path."""
    changes = channels + CHANGES
    if path:
        return changes + suffix(path[:1]), changes
    return (Pattern(_SPECIAL_IN_PATTERNS.sub(rb"\\\g<0>", changes) + b"*"),)


def channels_of_section(tag: bytes) -> bytes:
    """Return what begins the channels of a section of a cluster, given the hash tag that begins its keys."""
    return tag + b"s:"


def subscribing(channel: bytes, begin: bool = True) -> tuple[bytes, bytes]:
    """Return the command that subscribes to a channel or to a pattern of them, or ends that."""
    kind = b"P" if isinstance(channel, Pattern) else b"S" if isinstance(channel, Sharded) else b""
    return kind + (b"SUBSCRIBE" if begin else b"UNSUBSCRIBE"), channel


def _escaped(segment: bytes) -> bytes:
    if _ESCAPED_BYTES.search(segment) is None:
        return segment
    return _ESCAPED_BYTES.sub(lambda found: b"%%%02X" % found[0][0], segment)


def _unescaped(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 16)])
