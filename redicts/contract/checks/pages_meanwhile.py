"""Pages meanwhile: a walk finds what stays, whatever becomes of the name or dict at which its last page ended."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Final

from redicts.contract.check import conformance_check
from redicts.contract.fixture import Fixture
from redicts.contract.requirements import require
from redicts.contract.walk import many, pages, pages_of_names
from redicts.core.minitransaction import Delete, Entries, Key, Names, Path, Put, Read, ReadNames, Scope, Write

_SIZES: Final = ((40, 1), (40, 7), (600, 400))
"""How many nodes lie in the dict that is walked over, and the limit of a page: as many as make several pages."""

_REWRITTEN: Final = 7
"""The limit with which all of the dict is written again after each page."""

_DICT: Final[tuple[Path, ...]] = (("a",), ("m", "x"), ("z",))


@conformance_check()
def a_walk_finds_what_stays(fixture: Fixture) -> None:
    """A walk finds the values that stay, though the node at which it stopped is deleted, replaced or renamed.

    Deletes, replaces and renames the node at which each page ended, or writes the whole dict again.
    """
    for size, limit in _SIZES:
        stays = _plant(fixture, size)
        found: set[Path] = set()
        ways = count()
        for page in pages([fixture.store], Read(fixture.key("d"), Scope.BELOW, limit), many(8 * size)):
            found.update(page.values)
            if page.cursor is not None and page.values:
                _change(fixture, list(page.values)[-1], ways)
                if limit == _REWRITTEN:
                    _rewrite(fixture)
        missed = sorted(set(stays) - found)
        require(not missed, f"a walk with the limit {limit} missed {missed[:3]!r}, which were there all the time")


@conformance_check()
def a_walk_over_names_finds_what_stays(fixture: Fixture) -> None:
    """A walk over names finds those that stay, though the one at which it stopped is deleted, replaced or renamed.

    Does the same between the pages of a walk over names.
    """
    for size, limit in _SIZES:
        stays = {path[0] for path in _plant(fixture, size)}
        found: set[str] = set()
        ways = count()
        for page in pages_of_names(fixture.store, ReadNames(fixture.key("d"), limit), many(3 * size)):
            found.update(page.names)
            if page.cursor is not None and page.names:
                _change(fixture, (page.names[-1],), ways)
                if limit == _REWRITTEN:
                    _rewrite(fixture)
        missed = sorted(stays - found)
        require(not missed, f"a walk over names with the limit {limit} missed {missed[:3]!r}, which stayed")


@conformance_check()
def a_page_shows_what_is_there(fixture: Fixture) -> None:
    """A page shows no value or name that was deleted before it was read, and of each replaced value the new one.

    Replaces a dict by half of it, with other values, after the first page of a walk over values and of one over names.
    """
    size, limit = _SIZES[-1]
    for of_names in (False, True):
        tree, root, most = _plant(fixture, size), fixture.key("d"), many(size)
        stays = dict.fromkeys(list(tree)[::2], b"new")
        found: dict[Path, bytes] = {}
        walk: Iterator[Entries | Names] = pages([fixture.store], Read(root, Scope.BELOW, limit), most)
        if of_names:
            walk = pages_of_names(fixture.store, ReadNames(root, limit), most)
        for number, page in enumerate(walk):
            if number == 0:
                fixture.store.apply(
                    Delete(root, Scope.SUBTREE), *[Put(fixture.key("d", *path), value) for path, value in stays.items()]
                )
            else:
                found |= page.values if isinstance(page, Entries) else {(name,): b"" for name in page.names}
        there = dict.fromkeys({path[:1] for path in stays}, b"") if of_names else stays
        old = sorted(path for path, value in found.items() if there.get(path) != value)
        require(not old, f"a page has what was replaced or deleted before it was read, for instance {old[:3]!r}")


def _plant(fixture: Fixture, size: int) -> dict[Path, bytes]:
    """Store a dict of as many nodes, three leaves of which every other is a dict; return what stays: half of both."""
    names = [f"n{number:04}" for number in range(size)]
    tree: dict[Path, bytes] = {(name, *path): b"1" for name in names for path in (_DICT if _is_dict(name) else ((),))}
    fixture.plant({("d", *path): value for path, value in tree.items()})
    return {path: value for path, value in tree.items() if not _goes(path[0])}


def _goes(name: str) -> bool:
    return len(name) > 5 or int(name[1:]) % 2 == 0  # longer names are those of what was renamed


def _is_dict(name: str) -> bool:
    return int(name[1:]) % 4 < 2


def _change(fixture: Fixture, last: Path, ways: Iterator[int]) -> None:
    """Change the node at which a page ended: if it stays, write it again as it is."""
    node = fixture.key("d", last[0])
    changes: list[Write]
    if _goes(last[0]):
        replacements = _replacements(node)
        way = next(ways) % (len(replacements) + 1)
        if way < len(replacements):
            changes = [Delete(node, Scope.SUBTREE), *replacements[way]]
        else:
            changes = [Delete(Key(node.space, node.path + last[1:]), Scope.SUBTREE)]
    else:
        again = _puts(node, _DICT if _is_dict(last[0]) else ((),), b"1")
        changes = [Delete(node, Scope.SUBTREE), *reversed(again)]
    fixture.store.apply(*changes)


def _rewrite(fixture: Fixture) -> None:
    """Replace the dict that is walked over by itself."""
    tree = fixture.store.read(fixture.key("d"))
    puts = [Put(fixture.key("d", *path), value) for path, value in tree.items()]
    fixture.store.apply(Delete(fixture.key("d"), Scope.SUBTREE), *puts)


def _replacements(node: Key) -> list[list[Write]]:
    """Return what may replace a node: nothing, a leaf, a dict, half of it, and it under another name."""
    earlier, later = (Key(node.space, (*node.path[:-1], name)) for name in (f"a{node.path[-1]}", f"{node.path[-1]}x"))
    return [
        [],
        [Put(node, b"a leaf")],
        _puts(node, [("other", "names")], b"2"),
        _puts(node, _DICT[1:], b"2"),
        _puts(earlier, _DICT, b"1"),
        _puts(later, _DICT, b"1"),
    ]


def _puts(node: Key, paths: Iterable[Path], value: bytes) -> list[Write]:
    return [Put(Key(node.space, node.path + path), value) for path in paths]
