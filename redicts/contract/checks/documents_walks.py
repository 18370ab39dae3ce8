"""Walks over documents: pages go on in the middle of one, whatever becomes of it meanwhile."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.client import Client
from redicts.contract.documented import BASES, WHOLE, Tree, leaves_of, lying_at, places_around, plant, putting
from redicts.contract.fixture import Fixture
from redicts.contract.trees import names_below, within
from redicts.contract.walk import many, pages, pages_of_names, require_walked, walk, walk_names
from redicts.core.minitransaction import Delete, Path, Put, Read, ReadNames, Scope, Write

_LIMITS: Final = (1, 2, 3, 1000)

_CHANGES: Final = 120
"""After this many pages nothing changes any more, so that a walk comes to an end."""


@conformance_check(needs=[Need.DOCUMENTS])
def a_walk_finds_each_leaf_once(fixture: Fixture) -> None:
    """Over the pages of a walk, each leaf of documents and each value between them appears exactly once."""
    there = _plant_many(fixture)
    places: list[Path] = [(), ("s",), ("d",), ("d", "n07"), ("d", "n08"), ("d", "n08", "inner"), ("d", "absent")]
    for limit in _LIMITS:
        for place in places:
            _walk_both(fixture, there, place, limit)


@conformance_check(needs=[Need.DOCUMENTS])
def a_walk_stays_in_its_scope(fixture: Fixture) -> None:
    """A walk at any place around and in a document finds what a read finds there, and so does one over names."""
    for base in BASES:
        there = plant(fixture, base)
        for place in places_around(base):
            for limit in _LIMITS:
                _walk_both(fixture, there, place, limit)


@conformance_check(needs=[Need.DOCUMENTS])
def a_walk_goes_on_within_one(fixture: Fixture) -> None:
    """A document larger than a page is read in several, also if other clients go on with the cursors."""
    sizes = (40, 1200)
    for size in sizes:
        tree: Tree = {
            f"n{number:04}": {"a": number, "b": {"c": "x"}} if number % 3 else number for number in range(size)
        }
        fixture.renew()
        there: dict[Path, bytes] = {("a",): b"1", ("d", "e"): b"2", ("d", "g"): b"3", ("z",): b"4"}
        fixture.store.apply(*fixture.puts(there), putting(fixture, ("d", "f"), tree))
        there |= lying_at(("d", "f"), tree)
        clients = [fixture.store, fixture.client()]
        for limit in (7, 100) if size == sizes[0] else (100, 1000):
            for place in ((), ("d",), ("d", "f")):
                read = Read(fixture.key(*place), Scope.SUBTREE, limit)
                found = [entry for page in pages(clients, read, many(len(there))) for entry in page.values.items()]
                require_walked(
                    found, within(there, place, Scope.SUBTREE), f"a walk at {place!r} with the limit {limit}"
                )
            names = walk_names(fixture.store, ReadNames(fixture.key("d", "f"), limit), many(size))
            require_equal(sorted(names), sorted(tree), f"a walk over the names of a document, limit {limit}, finds")


@conformance_check(needs=[Need.DOCUMENTS])
def what_stays_is_found_while_it_is_taken_apart(fixture: Fixture) -> None:
    """A value that is there throughout is found, though documents are changed, taken apart and put again meanwhile."""
    other = fixture.client()
    for change in (_change_a_part, _put_anew, _delete_beside):
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
def names_that_stay_are_found_while_it_is_taken_apart(fixture: Fixture) -> None:
    """A name in a document that is there throughout is found, though the document changes meanwhile."""
    other = fixture.client()
    for change in (_change_a_part, _put_anew, _delete_beside):
        for limit in (1, 3):
            for place in (("d",), ("d", "n03")):
                stays, known = _plant_churn(fixture)
                found: list[str] = []
                read = ReadNames(fixture.key(*place), limit)
                for number, page in enumerate(pages_of_names(fixture.store, read, many(len(known)))):
                    found += page.names
                    if number < _CHANGES:
                        change(fixture, other, ("d", "n03", "x"), number)
                missed = names_below(dict.fromkeys(stays, b""), place).difference(found)
                what = f"a walk over names at {place!r} with the limit {limit} beside {change.__name__.strip('_')}"
                require(not missed, f"{what} missed {sorted(missed)!r}, which were there all the time")
                invented = set(found) - names_below(dict.fromkeys(known, b""), place)
                require(not invented, f"{what} found {sorted(invented)!r}, which never were there")


def _plant_many(fixture: Fixture) -> dict[Path, bytes]:
    """Go on in a fresh space with a dozen documents and as many values in turn; return all that is there."""
    fixture.renew()
    there: dict[Path, bytes] = {}
    writes: list[Write] = []
    for number in range(24):
        place = ("d", f"n{number:02}")
        if number % 2:
            leaves: dict[Path, bytes] = {place: b"1"} if number % 4 == 1 else {(*place, "a"): b"2", (*place, "z"): b"3"}
            there |= leaves
            writes += fixture.puts(leaves)
        else:
            there |= lying_at(place, WHOLE)
            writes.append(putting(fixture, place, WHOLE))
    there["z",] = b"4"
    fixture.store.apply(*writes, Put(fixture.key("z"), b"4"), putting(fixture, ("a",), WHOLE))
    there |= lying_at(("a",), WHOLE)
    # Of these, each is one leaf and one name.
    for number in range(12):
        place = ("s", f"n{number:02}")
        fixture.store.apply(putting(fixture, place, {"a": number}))
        there |= lying_at(place, {"a": number})
    # One of the documents is no longer whole.
    fixture.store.apply(Put(fixture.key("d", "n10", "inner", "leaf"), b"5"))
    return {**there, ("d", "n10", "inner", "leaf"): b"5"}


def _churning(turn: int) -> Tree:
    """Return a dict some of whose leaves are always there."""
    stays: dict[str, object] = {f"s{number}": number for number in range(6)}
    return {**stays, "in": {"b": turn, "s": {"t": 1, "u": "x"}, f"c{turn % 5}": 1}, f"c{turn % 7}": turn, "z": turn}


def _plant_churn(fixture: Fixture) -> tuple[set[Path], set[Path]]:
    """Go on in a fresh space with documents between values; return the paths that stay, and all there may ever be."""
    fixture.renew()
    documents = [("d", f"n{number:02}") for number in range(0, 10, 2)]
    documents += [("d", "n03")]
    values: dict[Path, bytes] = {("d", f"n{number:02}"): b"1" for number in range(1, 10, 2) if number != 3}
    fixture.store.apply(*fixture.puts(values), *[putting(fixture, place, _churning(0)) for place in documents])
    leaves = [set(leaves_of(_churning(turn))) for turn in range(35)]
    always = set.intersection(*leaves) - {("in", "b"), ("z",)}
    ever = set.union(*leaves) | {("s00",), ("in", "new")}
    stays = {(*place, *path) for place in documents for path in always} | set(values)
    return stays, {(*place, *path) for place in documents for path in ever} | set(values)


def _change_a_part(fixture: Fixture, other: Client, last: Path, _number: int) -> None:
    """Put a leaf into the document in which the last page ended, and make the one after it whole again."""
    place = last[:2] if len(last) > 2 else ("d", "n03")
    other.apply(Put(fixture.key(*place, "s00"), b"1"), Put(fixture.key(*place, "in", "new"), b"2"))


def _put_anew(fixture: Fixture, other: Client, last: Path, number: int) -> None:
    """Put the document in which the last page ended once more, with some other leaves."""
    place = last[:2] if len(last) > 2 else ("d", "n03")
    other.apply(putting(fixture, place, _churning(number + 1)))


def _delete_beside(fixture: Fixture, other: Client, last: Path, number: int) -> None:
    """Delete some leaves in the document in which the last page ended, and every third time put it again."""
    place = last[:2] if len(last) > 2 else ("d", "n03")
    if number % 3 == 2:
        _put_anew(fixture, other, last, number)
    else:
        parts: list[Path] = [("z",), ("in", "b"), *((f"c{each}",) for each in range(7))]
        other.apply(*[Delete(fixture.key(*place, *path), Scope.SUBTREE) for path in parts])


def _walk_both(fixture: Fixture, there: Mapping[Path, bytes], place: Path, limit: int) -> None:
    """Walk over values, in every scope, and names; insist that each that is there is found exactly once."""
    for scope in Scope:
        expected = within(there, place, scope)
        found = walk(fixture.store, Read(fixture.key(*place), scope, limit), many(len(expected)))
        require_walked(found, expected, f"a walk at {place!r}, {scope.name} with the limit {limit}")
    names = walk_names(fixture.store, ReadNames(fixture.key(*place), limit), many(len(there)))
    require_equal(sorted(names), sorted(names_below(there, place)), f"a walk over names at {place!r}, {limit}, finds")
