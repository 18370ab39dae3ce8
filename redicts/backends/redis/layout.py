r"""How the tree lies in Redis: one hash per nested dict.

====================  =======================================================================================
key                   what it holds
====================  =======================================================================================
``v:``                hash of the root dict of the space ``v``
``v:.a.b``            hash of the dict at ``a.b``: one field per name in it
``x:``                sorted set of all leaves that have a TTL, by the millisecond at which it ends
``r:<session>``          number and reply of the last request of a session, for five minutes
====================  =======================================================================================

The other spaces lie like ``v``, each under its own name; what they are for is nothing to us.

Besides, ``s:<number of the database>:<client_id>`` is the channel at which one process listens: a message there is the
rest of the name of the listener that it is for. An empty message to the channel with no client id is sent by whoever is
about to wake somebody, to meet a missing permission before the first change.

Every key and channel begins with the prefix of the settings. In the name of a key, the bytes ``% . : { }`` and NUL of a
segment are written as ``%`` and two hexadecimal digits, so that the last dot of a name always ends the parent's name. A
field is named by the segment itself.

A field holds the value as it is, so ``HGET v:.a b`` shows ``42``. Four first bytes are set apart: ``\1`` alone says
that a dict lies below; ``\2`` and 16 digits, the millisecond since the epoch at which the TTL of the value that
follows ends; ``\3`` goes before a value that itself begins with one of these three.

What holds between two requests: a hash exists only if the marker of its dict is in its parent's hash, up to the root;
and a leaf has a TTL if and only if it is in the sorted set.
"""

from __future__ import annotations

import re
from typing import Final

from redicts.core.minitransaction import Path

_SET_APART: Final = re.compile(rb"[%.:{}\x00]")
_WRITTEN: Final = re.compile(rb"%([0-9A-F]{2})")


def hash_name(prefix: bytes, space: str, path: Path) -> bytes:
    """Return the name of the hash that holds what lies directly below a key."""
    return prefix + space.encode() + b":" + suffix(path)


def name_bytes(name: str) -> bytes:
    """Return the bytes of a segment. Lone surrogates are legal in Python's text, so they are kept."""
    return name.encode("utf-8", "surrogatepass")


def name_text(name: bytes) -> str:
    """Return the segment that these bytes stand for."""
    return name.decode("utf-8", "surrogatepass")


def suffix(path: Path) -> bytes:
    """Return what a path adds to the name of a space's or a dict's hash."""
    return b"".join([b"." + _quoted(name_bytes(segment)) for segment in path])


def path_of(suffix: bytes) -> Path:
    """Return the path that such a suffix stands for."""
    if not suffix:
        return ()
    return tuple([name_text(_WRITTEN.sub(_unquoted, segment)) for segment in suffix[1:].split(b".")])


def _quoted(segment: bytes) -> bytes:
    if _SET_APART.search(segment) is None:
        return segment
    return _SET_APART.sub(lambda found: b"%%%02X" % found[0][0], segment)


def _unquoted(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 16)])
