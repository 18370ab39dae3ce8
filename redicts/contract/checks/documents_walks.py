"""Walks over documents: pages continue inside a document, whatever happens to it meanwhile."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.documented import Tree, leaves_of, putting
from redicts.contract.fixture import Fixture
from redicts.contract.requirements import require
from redicts.contract.trees import names_below
from redicts.contract.walk import many, pages, pages_of_names, require_walked, walk
from redicts.core.minitransaction import Delete, Path, Put, Read, ReadNames, Scope

_VAST: Final = 100_000
"""A limit beyond all leaves."""

_CHANGES: Final = 120
"""After this many pages nothing changes any more, so that a walk comes to an end."""


@conformance_check(needs=[Need.DOCUMENTS])
def each_leaf_is_found_once(fixture: Fixture) -> None:
    """A walk finds each leaf of many documents once, and each value between them.

    Walks with small and large pages over twelve documents, which have more leaves together than these, and reads all of
    their dict as one page.
    """
    tree = {f"n{number:03}": number for number in range(150)}
    documents = [("d", f"doc{number}") for number in range(12)]
    values: dict[Path, bytes] = {("d", "doc7x"): b"1", ("d", "in", "a"): b"2", ("d", "z"): b"3"}
    there = {(*node, *path): value for node in documents for path, value in leaves_of(tree).items()} | values
    for limit in (100, 1000, 1000, 100):  # each for both kinds of spaces
        fixture.plant(values)
        for node in documents:
            fixture.store.apply(putting(fixture, node, tree))
        found = walk(fixture.store, Read(fixture.key(), Scope.SUBTREE, limit), many(len(there)))
        require_walked(found, there, f"a walk over documents with the limit {limit}")
    fixture.store.apply(Delete(fixture.key("d", "in"), Scope.SUBTREE))
    inner = {path[1:]: value for path, value in there.items() if path[1] != "in"}
    found = walk(fixture.store, Read(fixture.key("d"), Scope.SUBTREE, _VAST), many(len(inner)))
    require_walked(found, inner, f"a read of documents with the limit {_VAST}")


@conformance_check(needs=[Need.DOCUMENTS])
def what_stays_is_found_while_it_is_split(fixture: Fixture) -> None:
    """A walk finds every value that exists throughout, while documents are changed, split and replaced.

    Walks with several limits while another client changes, replaces and cuts the document in which the last page
    ended.
    """
    other = fixture.client()
    for change in (_change_a_part, _put_again, _delete_beside):
        for limit in (1, 3, 10):
            stays, known = _plant_churn(fixture)
            found: set[Path] = set()
            read = Read(fixture.key(), Scope.SUBTREE, limit)
            for number, page in enumerate(pages([fixture.store], read, many(len(known)))):
                found.update(page.values)
                if number < _CHANGES:
                    last = list(page.values)[-1:] or [("d", "n00")]
                    change(fixture, other, last[0], number)
            what = f"a walk with the limit {limit} beside {change.__name__.strip('_')}"
            missed = [path for path in stays if path not in found]
            require(not missed, f"{what} missed {missed[:5]!r}, which were there all the time")
            invented = [path for path in found if path not in known]
            require(not invented, f"{what} found {invented[:5]!r}, which never were there")


@conformance_check(needs=[Need.DOCUMENTS])
def names_that_stay_are_found_while_it_is_split(fixture: Fixture) -> None:
    """A walk over names finds every name that exists throughout, while documents change.

    Walks over names in and above documents while another client changes them.
    """
    other = fixture.client()
    for change in (_change_a_part, _put_again, _delete_beside):
        for limit in (1, 3):
            for path in (("d",), ("d", "n03")):
                stays, known = _plant_churn(fixture)
                found: list[str] = []
                read = ReadNames(fixture.key(*path), limit)
                for number, page in enumerate(pages_of_names(fixture.store, read, many(len(known)))):
                    found += page.names
                    if number < _CHANGES:
                        change(fixture, other, ("d", "n03", "x"), number)
                missed = names_below(dict.fromkeys(stays, b""), path).difference(found)
                what = f"a walk over names at {path!r} with the limit {limit} beside {change.__name__.strip('_')}"
                require(not missed, f"{what} missed {sorted(missed)!r}, which were there all the time")
                invented = set(found) - names_below(dict.fromkeys(known, b""), path)
                require(not invented, f"{what} found {sorted(invented)!r}, which never were there")


def _churning(turn: int) -> Tree:
    """Return a dict some of whose leaves are always there."""
    stays: dict[str, object] = {f"s{number}": number for number in range(6)}
    return {**stays, "in": {"b": turn, "s": {"t": 1, "u": "x"}, f"c{turn % 5}": 1}, f"c{turn % 7}": turn, "z": turn}


def _plant_churn(fixture: Fixture) -> tuple[set[Path], set[Path]]:
    """Continue in a new space with documents between values; return the paths that stay, and all there may ever be."""
    fixture.renew()
    documents = [("d", f"n{number:02}") for number in range(0, 10, 2)]
    documents += [("d", "n03")]
    values: dict[Path, bytes] = {("d", f"n{number:02}"): b"1" for number in range(1, 10, 2) if number != 3}
    fixture.store.apply(*fixture.puts(values), *[putting(fixture, node, _churning(0)) for node in documents])
    leaves = [set(leaves_of(_churning(turn))) for turn in range(35)]
    always = set.intersection(*leaves) - {("in", "b"), ("z",)}
    ever = set.union(*leaves) | {("s00",), ("in", "new")}
    stays = {(*node, *path) for node in documents for path in always} | set(values)
    return stays, {(*node, *path) for node in documents for path in ever} | set(values)


def _change_a_part(fixture: Fixture, other: Client, last: Path, _number: int) -> None:
    """Put a leaf into the document in which the last page ended, and make the one after it whole again."""
    path = last[:2] if len(last) > 2 else ("d", "n03")
    other.apply(Put(fixture.key(*path, "s00"), b"1"), Put(fixture.key(*path, "in", "new"), b"2"))


def _put_again(fixture: Fixture, other: Client, last: Path, number: int) -> None:
    """Put the document in which the last page ended once more, with some other leaves."""
    path = last[:2] if len(last) > 2 else ("d", "n03")
    other.apply(putting(fixture, path, _churning(number + 1)))


def _delete_beside(fixture: Fixture, other: Client, last: Path, number: int) -> None:
    """Delete some leaves in the document in which the last page ended, and every third time put it again."""
    node = last[:2] if len(last) > 2 else ("d", "n03")
    if number % 3 == 2:
        _put_again(fixture, other, last, number)
    else:
        parts: list[Path] = [("z",), ("in", "b"), *((f"c{each}",) for each in range(7))]
        other.apply(*[Delete(fixture.key(*node, *path), Scope.SUBTREE) for path in parts])
