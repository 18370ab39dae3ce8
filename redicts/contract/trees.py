"""Trees for checks on scopes, and the reference definition of a scope."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Final

from redicts.core.minitransaction import Path, Scope

TREE: Final[Mapping[Path, bytes]] = {
    ("leaf",): b"1",
    ("in",): b"2",
    ("inner", "leaf"): b"3",
    ("inner", "deep", "a"): b"4",
    ("inner", "deep", "ab"): b"5",
    ("inner", "deep", "b", "c", "d"): b"",
    ("inner", "deeper"): b"7",
    ("innermost", "leaf"): b"8",
    ("other", "inner", "leaf"): b"9",
    ("inner.deep", "a"): b"10",
    ("inner*",): b"11",
}
"""A prefix-free tree, with inner nodes whose names begin alike."""

PATHS: Final[tuple[Path, ...]] = (
    (),
    ("inner",),
    ("inner", "deep"),
    ("inner", "deep", "b", "c"),
    ("inner", "leaf"),
    ("leaf",),
    ("inner", "de"),
    ("in", "absent"),
    ("absent",),
)
"""The root, inner nodes, leaves, and absent paths: between two that begin alike, and below a leaf."""


def within(entries: Mapping[Path, bytes], base: Path, scope: Scope) -> dict[Path, bytes]:
    """Return the entries in a scope of a path, by relative path."""
    relative = {path[len(base) :]: value for path, value in entries.items() if path[: len(base)] == base}
    return {path: value for path, value in relative.items() if scope.covers(path)}


def without(entries: Mapping[Path, bytes], base: Path, scope: Scope) -> dict[Path, bytes]:
    """Return the entries outside of a scope of a path."""
    gone = {base + path for path in within(entries, base, scope)}
    return {path: value for path, value in entries.items() if path not in gone}


def names_below(entries: Mapping[Path, bytes], base: Path) -> set[str]:
    """Return the names directly below a key."""
    return {path[0] for path in within(entries, base, Scope.BELOW)}


def scopes() -> Iterator[tuple[Path, Scope]]:
    """Yield every scope of every path."""
    yield from product(PATHS, Scope)


def huge() -> dict[Path, bytes]:
    """Return a tree of several thousand entries, for several pages of any store."""
    paths: list[Path] = [("wide", f"n{number}") for number in range(2300)]
    paths += [("dicts", f"d{number}", *path) for number in range(300) for path in (("a",), ("b",), ("c", "d"))]
    return {**large(), **{path: b"%d" % number for number, path in enumerate(paths)}}


def large() -> dict[Path, bytes]:
    """Return a tree of several hundred entries: a wide dict, a bushy one, a deep one, and single leaves."""
    paths: list[Path] = [("wide", f"n{number}") for number in range(220)]
    paths += [("bushy", *path) for path in product("abc", "xyz", ("0", "00", "1"), ("p", "p.q"))]
    paths += [("deep", *["down"] * depth, name) for depth in range(40) for name in ("leaf", "zleaf", "c")]
    paths += [("single",), ("wide.",), ("~",)]
    return {path: b"%d" % number for number, path in enumerate(paths)}
