"""Flattens nested values into leaves, plans the writes that store them, and nests leaves into values.

A dict is an inner node. Every other value is one leaf, and so are an empty dict and a :class:`Packed` one. A leaf has
no values below it. So storing at a path removes the leaves above it, and storing a leaf removes the values below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Final, final

from redicts.core.documents import MOST_BYTES
from redicts.core.envelope import LeafFormat
from redicts.core.minitransaction import MAX_DEPTH, VALUES, Delete, Key, Path, Put, PutDocument, Scope, Write
from redicts.core.paths import described, shortened
from redicts.errors import CorruptData, LeafError, PathError


@final
class Absent(Enum):
    """The type of :data:`ABSENT`."""

    ABSENT = "ABSENT"

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent.ABSENT
"""Means that nothing is stored. ``None`` is a value that can be stored."""


class Packed:
    """Wraps a dict to store it as one leaf.

    It is read and written as fast as a number, and is read as a plain dict. Its items have no paths of their own.

    >>> Packed({"user": 7})
    Packed({'user': 7})
    """

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Packed({self.value!r})"


_DICTS: Final = (dict, Packed)

_LEAST_LEAVES: Final = 8
"""The minimum number of leaves in a document. A smaller dict is as fast leaf by leaf."""


def leaves_of(value: object, at: Path, form: LeafFormat) -> dict[Path, bytes]:
    """Flatten a value that is to be stored at a path into encoded leaves by relative path.

    An empty dict at the root has no leaves. Raises :class:`~redicts.errors.LeafError` for a value that the codec
    refuses, a cycle, a dict that is nested too deep and a leaf at the root. Raises :class:`~redicts.errors.PathError`
    for a key that is not text or is empty. Both name the path.
    """
    if isinstance(value, _DICTS):
        if isinstance(value, Packed):
            value = value.value
        elif value:
            leaves: dict[Path, bytes] = {}
            _flatten(value if type(value) is dict else dict(value), (), at, form, leaves, [])
            return leaves
        elif not at:
            return {}
    try:
        leaf = form.encode(value, at)
    except Exception as error:
        form.refuse(error, at)
    refuse_root(at)
    return {(): leaf}


def refuse_root(path: Path) -> None:
    """Raise :class:`~redicts.errors.LeafError` for the root, which is always a dict."""
    if not path:
        raise LeafError("the root must be a dict and cannot be a leaf; store a dict there, or a value under a name")


def _flatten(
    node: dict[Any, Any], path: Path, at: Path, form: LeafFormat, leaves: dict[Path, bytes], above: list[dict[Any, Any]]
) -> None:
    full = at + path
    if any(node is other for other in above):
        raise LeafError(f"the value for {described(full)} contains itself; store a value without cycles")
    if len(full) >= MAX_DEPTH:
        raise LeafError(f"the dict for {described(at)} is nested more than {MAX_DEPTH} levels deep")
    above.append(node)
    encode = form.encode
    for name, value in node.items():
        if not isinstance(name, str) or not name:
            what = "empty" if name == "" else f"{type(name).__name__}: {shortened(name)}"
            raise PathError(
                f"a key in the dict for {described(full)} is {what}; keys must be text of one character or more"
            )
        last = (name,)
        leaf = value
        if isinstance(value, _DICTS):
            if isinstance(value, Packed):
                leaf = value.value
            elif value:
                _flatten(value, path + last, at, form, leaves, above)
                continue
        try:
            leaves[path + last] = encode(leaf, full + last)
        except Exception as error:
            form.refuse(error, full + last)
    above.pop()


def replacing(leaves: dict[Path, bytes], path: Path, ttl: int | None) -> tuple[Write, ...]:
    """Return the writes that replace everything at and below a path by leaves."""
    key = Key(VALUES, path)
    # A put replaces the leaf at the path itself, so only the values below are deleted: one change less for the store.
    scope = Scope.BELOW if () in leaves else Scope.SUBTREE
    puts = [Put(Key(VALUES, path + below), data, ttl) for below, data in leaves.items()]
    return (*clearing_above(path), Delete(key, scope), *puts)


def document_of(value: object, path: Path, form: LeafFormat) -> bytes | None:
    """Encode a value as a document, or return ``None`` if it is better split into leaves.

    The leaves of the document are those that ``leaves_of`` returns. Values that must be refused return ``None``, and
    ``leaves_of`` raises the error.
    """
    if type(value) is not dict or not path:
        return None
    if len(value) < _LEAST_LEAVES and _values_near(value) < _LEAST_LEAVES:
        return None
    document = form.document(value, MAX_DEPTH - len(path))
    return document if document is not None and len(document) <= MOST_BYTES else None


def _values_near(node: dict[Any, Any]) -> int:
    """Count the values in a small dict and in its direct dicts."""
    return sum([len(inner) if type(inner) is dict else 1 for inner in node.values()])


def putting(document: bytes, path: Path, ttl: int | None) -> tuple[Write, ...]:
    """Return the writes that replace everything at and below a path by a document."""
    return (*clearing_above(path), PutDocument(Key(VALUES, path), document, ttl))


def merging(leaves: dict[Path, bytes], path: Path, ttl: int | None) -> tuple[Write, ...]:
    """Return the writes that store leaves and preserve all others that do not conflict with them."""
    conflicting = {path[:depth]: None for depth in range(1, len(path))}
    for below in leaves:
        full = path + below
        conflicting |= {full[:depth]: None for depth in range(max(1, len(path)), len(full))}
    return (
        *[Delete(Key(VALUES, above), Scope.NODE) for above in conflicting],
        *[Delete(Key(VALUES, path + below), Scope.BELOW) for below in leaves],
        *[Put(Key(VALUES, path + below), data, ttl) for below, data in leaves.items()],
    )


@lru_cache(maxsize=4096)
def clearing_above(path: Path) -> tuple[Write, ...]:
    """Return the writes that remove the leaves above a path."""
    return tuple([Delete(Key(VALUES, path[:depth]), Scope.NODE) for depth in range(1, len(path))])


def _both(at: Path) -> CorruptData:
    return CorruptData(f"both a value and values below it are stored at {described(at)}")


def nest(leaves: Mapping[Path, bytes], at: Path, form: LeafFormat) -> object:
    """Nest leaves, by path relative to ``at``, into a value; :data:`ABSENT` if there are none."""
    if not leaves:
        return ABSENT
    read = form.read
    if len(leaves) == 1 and () in leaves:
        try:
            return read(leaves[()], at)
        except Exception as error:
            return form.recover(error, leaves[()], at)
    whole: dict[str, object] = {}
    dicts: dict[Path, dict[str, object]] = {(): whole}
    above: Path = ()
    parent = whole
    for path, data in leaves.items():
        inner = path[:-1]
        if inner != above:
            above = inner
            known = dicts.get(above)
            parent = _make(dicts, above, at) if known is None else known
        if not path or (name := path[-1]) in parent:
            raise _both(at + path)
        try:
            parent[name] = read(data, at + path)
        except Exception as error:
            parent[name] = form.recover(error, data, at + path)
    return whole


def _make(dicts: dict[Path, dict[str, object]], path: Path, at: Path) -> dict[str, object]:
    """Add a dict at this path to its parent, after adding missing parents, and return it."""
    parent = dicts.get(path[:-1])
    if parent is None:
        parent = _make(dicts, path[:-1], at)
    if path[-1] in parent:
        raise _both(at + path)
    made: dict[str, object] = {}
    parent[path[-1]] = made
    dicts[path] = made
    return made
