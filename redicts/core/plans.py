"""The writes that put leaves in place of what is stored.

A space is prefix-free: a leaf has nothing below it. So storing at a path removes the leaves above it, and storing a
leaf removes what is below.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from redicts.core.documents import MOST_BYTES
from redicts.core.envelope import LeafFormat
from redicts.core.minitransaction import MAX_DEPTH, VALUES, Delete, Key, Path, Put, PutDocument, Scope, Write

_LEAST_LEAVES: Final = 8
"""A dict of fewer is as fast leaf by leaf, and likely to be changed so."""


def replacing(leaves: dict[Path, bytes], path: Path, ttl: int | None) -> tuple[Write, ...]:
    """Return the writes that put these leaves in place of everything at and below a path."""
    key = Key(VALUES, path)
    # A leaf is put over the one that is there, so only what is below must go: one change less for the store.
    scope = Scope.BELOW if () in leaves else Scope.SUBTREE
    puts = [Put(Key(VALUES, path + below), data, ttl) for below, data in leaves.items()]
    return (*clearing_above(path), Delete(key, scope), *puts)


def document_of(value: object, path: Path, form: LeafFormat) -> bytes | None:
    """Return the document that stands for the leaves of a value, or ``None`` if it is better taken apart.

    It stands for the very bytes that ``leaves_of`` returns. What must be refused is left to that.
    """
    if type(value) is not dict or not path:
        return None
    if len(value) < _LEAST_LEAVES and _values_near(value) < _LEAST_LEAVES:
        return None
    document = form.document(value, MAX_DEPTH - len(path))
    return document if document is not None and len(document) <= MOST_BYTES else None


def _values_near(node: dict[Any, Any]) -> int:
    """Return how many values there are in a small dict and in the dicts in it."""
    return sum([len(inner) if type(inner) is dict else 1 for inner in node.values()])


def putting(document: bytes, path: Path, ttl: int | None) -> tuple[Write, ...]:
    """Return the writes that put a document in place of everything at and below a path."""
    return (*clearing_above(path), PutDocument(Key(VALUES, path), document, ttl))


def merging(leaves: dict[Path, bytes], path: Path, ttl: int | None) -> tuple[Write, ...]:
    """Return the writes that put these leaves over what is there and leave the rest."""
    in_the_way = {path[:depth]: None for depth in range(1, len(path))}
    for below in leaves:
        full = path + below
        in_the_way |= {full[:depth]: None for depth in range(max(1, len(path)), len(full))}
    return (
        *[Delete(Key(VALUES, above), Scope.NODE) for above in in_the_way],
        *[Delete(Key(VALUES, path + below), Scope.BELOW) for below in leaves],
        *[Put(Key(VALUES, path + below), data, ttl) for below, data in leaves.items()],
    )


@lru_cache(maxsize=4096)
def clearing_above(path: Path) -> tuple[Write, ...]:
    """Return the writes that remove the leaves above a path."""
    return tuple([Delete(Key(VALUES, path[:depth]), Scope.NODE) for depth in range(1, len(path))])
