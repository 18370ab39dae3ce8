"""Plans the writes that store leaves or documents and keep the space prefix-free.

A leaf has no values below it. So storing at a path removes the leaves above it, and storing a leaf removes the values
below it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from redicts.core.documents import MOST_BYTES
from redicts.core.envelope import LeafFormat
from redicts.core.minitransaction import MAX_DEPTH, VALUES, Delete, Key, Path, Put, PutDocument, Scope, Write

_LEAST_LEAVES: Final = 8
"""The minimum number of leaves in a document. A smaller dict is as fast leaf by leaf."""


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
