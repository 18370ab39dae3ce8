"""Flattens nested values into leaves, and nests leaves into values.

A dict is an inner node. Every other value is one leaf, and so are an empty dict and a :class:`Packed` one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, final

from redicts.core.envelope import LeafFormat
from redicts.core.minitransaction import MAX_DEPTH, Path
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
    except (TypeError, ValueError, RecursionError) as error:
        raise form.refusal(error, at) from error
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
        except (TypeError, ValueError, RecursionError) as error:
            raise form.refusal(error, full + last) from error
    above.pop()


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
        except (ValueError, RecursionError) as error:
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
        except (ValueError, RecursionError) as error:
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
