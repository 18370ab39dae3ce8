"""Reads of several paths: those that include each other are read once, and the answer is split into their values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from redicts.core.minitransaction import Path


def grouped(paths: Iterable[Path]) -> dict[Path, list[Path]]:
    """Group distinct paths by the shortest one of them that is at or above each."""
    groups: dict[Path, list[Path]] = {}
    top: Path | None = None
    for path in sorted(set(paths)):  # a path precedes all that are below it
        if top is None or path[: len(top)] != top:
            top = path
            groups[top] = []
        groups[top].append(path)
    return groups


def split(leaves: Mapping[Path, bytes], paths: Collection[Path], at: Path) -> dict[Path, Mapping[Path, bytes]]:
    """Return the leaves at and below each path, by relative path, of those that were read at one at or above them."""
    if len(paths) == 1:
        return dict.fromkeys(paths, leaves)
    parts: dict[Path, dict[Path, bytes]] = {path[len(at) :]: {} for path in paths}
    for depth in {len(below) for below in parts}:
        for below, data in leaves.items():
            part = parts.get(below[:depth])
            if part is not None:
                part[below[depth:]] = data
    return {at + below: part for below, part in parts.items()}
