"""Flattens nested values into leaves, plans the writes that store them, and nests leaves into values.

A dict is an inner node. Every other value is one leaf, and so are an empty dict and a :class:`Packed` one. A leaf has
no values below it. So storing at a path removes the leaves above it, and storing a leaf removes the values below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Final, final

from redicts.core.documents import MOST_BYTES, DocumentLeaves
from redicts.core.envelope import LeafFormat
from redicts.core.foreign import Redacted, is_interrupt
from redicts.core.minitransaction import MAX_DEPTH, VALUES, Delete, Key, Path, Put, PutDocument, Scope, Write
from redicts.core.paths import described, shortened
from redicts.errors import CorruptData, LeafError, PathError, RedictsError


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
_TEXT: Final = frozenset({str})

_LEAST_LEAVES: Final = 8
"""The minimum number of leaves in a document. A smaller dict is as fast leaf by leaf."""


def leaves_of(value: object, at: Path, form: LeafFormat) -> dict[Path, bytes]:
    """Flatten a value that is to be stored at a path into encoded leaves by relative path.

    An empty dict at the root has no leaves. Raises :class:`~redicts.errors.LeafError` for a value that the codec
    refuses, a cycle, a dict that is nested too deep and a leaf at the root, and if the code of the value raises an
    exception. Raises :class:`~redicts.errors.PathError` for a key that is not text or is empty. Both name the path.
    """
    is_node = type(value) is dict and bool(value)
    try:
        if not is_node:
            if isinstance(value, _DICTS) or value is ABSENT:
                value, is_node = _unwrapped(value, at)
            if not is_node:
                leaf = form.encode(value, at)
    except Exception as error:
        form.refuse(error, at)
    if not is_node:
        if not at:
            refuse_root(at)
        return {(): leaf}
    leaves: dict[Path, bytes] = {}
    _flatten(value, (), at, form, leaves, set())  # type: ignore[arg-type]  # it is a dict
    return leaves


def _unwrapped(value: Any, at: Path) -> tuple[Any, bool]:
    """Return what is stored for a dict or a :class:`Packed` value, and whether it is an inner node."""
    is_packed = isinstance(value, Packed)
    if is_packed:
        value = value.value
    if value is ABSENT:
        raise ValueError("ABSENT means that nothing is stored; use delete() to remove a value")
    return value, not is_packed and (bool(value) or not at)


def plain_dict(node: object, at: Path, form: LeafFormat) -> dict[str, Any]:
    """Copy a mapping that is stored at a path into a dict whose keys are exactly ``str``.

    A subclass of ``str`` may compare or hash differently from the text that is stored. Raises
    :class:`~redicts.errors.PathError` for a key that is not text and for two keys that are the same text, and
    :class:`~redicts.errors.LeafError` if the code of the mapping raises an exception.
    """
    try:
        found: dict[Any, Any] = dict(node)  # type: ignore[call-overload]  # whatever it is
    except Exception as error:
        form.refuse(error, at)
    plain: dict[str, Any] = {}
    for name, value in found.items():
        if not issubclass(type(name), str):
            raise _wrong_key(f"{type(name).__name__}: {shortened(name)}", at)
        text = str.__str__(name)
        if text in plain:
            raise PathError(f"two keys in the dict for {described(at)} are the same text: {shortened(text)}")
        plain[text] = value
    return plain


def refuse_root(path: Path) -> None:
    """Raise :class:`~redicts.errors.LeafError` for the root, which is always a dict."""
    if not path:
        raise LeafError("the root must be a dict and cannot be a leaf; store a dict there, or a value under a name")


def _flatten(
    node: dict[Any, Any], path: Path, at: Path, form: LeafFormat, leaves: dict[Path, bytes], above: set[int]
) -> None:
    full = at + path
    if id(node) in above:
        raise LeafError(f"the value for {described(full)} contains itself; store a value without cycles")
    if len(full) >= MAX_DEPTH:
        raise LeafError(f"the dict for {described(at)} is nested more than {MAX_DEPTH} levels deep")
    itself = id(node)
    above.add(itself)
    encode = form.encode
    where = full
    try:
        if type(node) is not dict or not _TEXT.issuperset(map(type, node)):
            node = plain_dict(node, full, form)
        for name, value in node.items():
            if not name:
                raise _wrong_key("empty", full)
            last = (name,)
            where = full + last
            leaf, is_node = value, False
            if isinstance(value, _DICTS) or value is ABSENT:
                leaf, is_node = (value, True) if type(value) is dict and value else _unwrapped(value, where)
            if is_node:
                _flatten(leaf, path + last, at, form, leaves, above)
            else:
                leaves[path + last] = encode(leaf, where)
            where = full
    except RedictsError:
        raise
    except Exception as error:  # of the code of a value, or because another thread changes the dict
        form.refuse(error, where)
    above.remove(itself)


def _wrong_key(what: str, at: Path) -> PathError:
    return PathError(f"a key in the dict for {described(at)} is {what}; keys must be text of one character or more")


def plain_number(value: Any) -> float | None:
    """Return a number as exactly an ``int`` or ``float``; ``None`` for any other object, a ``bool`` included."""
    kind = type(value)
    if issubclass(kind, int) and kind is not bool:
        return int.__pos__(value)
    return float.__pos__(value) if issubclass(kind, float) else None


def are_equal(one: object, other: object, path: Path) -> bool:
    """Return whether two values of a path are equal by ``==``.

    Raises :class:`~redicts.errors.LeafError` if ``==`` raises an exception, or if its result is not true or false, as
    that of arrays.
    """
    try:
        return bool(one == other)
    except Exception as error:
        if is_interrupt(error):
            raise
        raise LeafError(
            f"the value for {described(path)} cannot be compared by ==, which raised {type(error).__name__}"
        ) from Redacted.of(error)


def replacing(leaves: Mapping[Path, bytes], path: Path, ttl: int | None) -> tuple[Write, ...]:
    """Return the writes that replace everything at and below a path by leaves."""
    key = Key(VALUES, path)
    # A put replaces the leaf at the path itself, so only the values below are deleted: one change less for the store.
    scope = Scope.BELOW if () in leaves else Scope.SUBTREE
    puts = [Put(Key(VALUES, path + below), data, ttl) for below, data in leaves.items()]
    return (*clearing_above(path), Delete(key, scope), *puts)


def documents_of(value: dict[Any, Any], path: Path, form: LeafFormat) -> DocumentLeaves | None:
    """Encode a dict as a document, or ``None`` if it is better split into leaves.

    A dict that is larger than one document becomes several, one for each branch that fits, with leaves beside them. The
    leaves are those that ``leaves_of`` returns. Values that must be refused return ``None``, and ``leaves_of`` raises
    the error.
    """
    if not path:
        return None
    texts: dict[Path, bytes] = {}
    documents: set[Path] = set()
    try:
        # Counted are the values in a small dict and in its direct dicts.
        is_small = len(value) < _LEAST_LEAVES
        if is_small and sum([len(each) if type(each) is dict else 1 for each in value.values()]) < _LEAST_LEAVES:
            return None
        if not _collect_documents(value, (), path, form, texts, documents):
            return None
    except Exception as error:
        if is_interrupt(error):
            raise
        return None
    return DocumentLeaves(texts, documents)


def _collect_documents(
    node: dict[Any, Any], below: Path, path: Path, form: LeafFormat, texts: dict[Path, bytes], documents: set[Path]
) -> bool:
    """Collect the documents and leaves of a dict; return false if it must be split."""
    document = form.document(node, MAX_DEPTH - len(path) - len(below))
    if document is None:
        return False
    if len(document) <= MOST_BYTES:
        texts[below] = document
        documents.add(below)
        return True
    for name, value in node.items():
        at = (*below, name)
        if type(value) is not dict or not value:
            texts[at] = form.encode(value, path + at)
        elif not _collect_documents(value, at, path, form, texts, documents):
            return False
    return True


def putting(parts: DocumentLeaves, path: Path, ttl: int | None) -> tuple[Write, ...]:
    """Return the writes that replace everything at and below a path by documents, and by leaves beside them."""
    key = Key(VALUES, path)
    if () in parts.documents:
        return (*clearing_above(path), PutDocument(key, parts.texts[()], ttl))
    puts: list[Write] = []
    for below, text in parts.texts.items():
        at = Key(VALUES, path + below)
        puts.append(PutDocument(at, text, ttl) if below in parts.documents else Put(at, text, ttl))
    return (*clearing_above(path), Delete(key, Scope.SUBTREE), *puts)


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
    if type(leaves) is DocumentLeaves and form.reads_documents:
        leaves = leaves.texts  # the value of a document is that of its leaves
    if not leaves:
        return ABSENT
    if len(leaves) == 1 and () in leaves:
        return _decoded(leaves, at, form)[0]
    values = form.read_all(list(leaves.values())) or _decoded(leaves, at, form)
    whole: dict[str, object] = {}
    dicts: dict[Path, dict[str, object]] = {(): whole}
    above: Path = ()
    parent = whole
    for path, value in zip(leaves, values):
        inner = path[:-1]
        if inner != above:
            above = inner
            known = dicts.get(above)
            parent = _make(dicts, above, at) if known is None else known
        if not path or (name := path[-1]) in parent:
            raise _both(at + path)
        parent[name] = value
    return whole


def _decoded(leaves: Mapping[Path, bytes], at: Path, form: LeafFormat) -> list[object]:
    """Decode leaves one by one."""
    read = form.read
    values: list[object] = []
    for path, data in leaves.items():
        try:
            values.append(read(data, at + path))
        except Exception as error:
            values.append(form.recover(error, data, at + path))
    return values


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
