"""Short ways to documents: they give all that is there or say nothing, and write what is asked for or nothing."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from redicts.contract.bench import LONG, SHORT, Bench
from redicts.contract.documented import (
    BASES,
    OTHER,
    WHOLE,
    after,
    apply,
    fetch,
    here,
    key_in,
    leaves_of,
    lying_at,
    places_around,
    plant,
    putting,
    text_of,
)
from redicts.contract.law import Need, law, require, require_equal
from redicts.contract.trees import without
from redicts.core.transaction import Add, Delete, Expire, Path, Put, Scope, Write

_AGAIN: Final = 20
"""So often is a thing done that a store may do otherwise every few times."""


@law(needs=[Need.DOCUMENTS])
def what_is_fetched_is_all_that_is_there(bench: Bench) -> None:
    """What is fetched is the value, or a document of just the live values below, whoever changed a part of it."""
    other = bench.client()
    for base in BASES:
        places = places_around(base)
        for writes in _changes(bench, base):
            there = plant(bench, base)
            for client in (bench.store, other):
                fetch(bench, client, there, places)
                fetch(bench, client, there, places)
            there = apply(bench, there, *here(bench, writes), client=other)
            for client in (bench.store, other):
                fetch(bench, client, there, places)
                fetch(bench, client, there, places)
            there = apply(bench, there, putting(bench, base, OTHER))
            for client in (bench.store, other):
                fetch(bench, client, there, [*places, (*base, "only", "in")])


@law(needs=[Need.DOCUMENTS])
def a_plain_fetch_gives_no_document(bench: Bench) -> None:
    """What fetch returns is the value of a leaf, in a document too, and never the text of a document."""
    for base in BASES:
        there = plant(bench, base)
        for _ in range(2):
            for place in places_around(base):
                found = bench.store.fetch(bench.key(*place))
                require(found is None or found == there.get(place), f"what is fetched at {place!r} is {found!r}")
            bench.store.fetch_document(bench.key(*base))
        there = apply(bench, there, Put(key_in(bench, base, "inner", "leaf"), b"new"))
        for place in places_around(base):
            found = bench.store.fetch(bench.key(*place))
            require(found is None or found == there.get(place), f"what is fetched at {place!r} is {found!r}")


@law(needs=[Need.DOCUMENTS])
def overwriting_one_is_a_put_or_nothing(bench: Bench) -> None:
    """Overwriting a document puts the new one in its place, or changes nothing and says so, as where no dict is."""
    for base in BASES:
        for place in places_around(base)[1:]:
            there = plant(bench, base)
            _overwrite(bench, there, place)
        for writes in _changes(bench, base):
            there = plant(bench, base)
            there = apply(bench, there, *here(bench, writes))
            for place in (base, (*base, "inner"), (*base, "leaf"), (*base, "only")):
                there = _overwrite(bench, there, place)
    base = BASES[1]
    there = plant(bench, base)
    for number in range(_AGAIN):
        there = _overwrite(bench, there, base, number)
        fetch(bench, bench.store, there, [base])


@law(needs=[Need.DOCUMENTS])
def overwriting_a_leaf_leaves_documents_alone(bench: Bench) -> None:
    """Overwriting a value, at, above and in a document, puts it where a value is and changes nothing otherwise."""
    for base in BASES:
        for place in places_around(base)[1:]:
            there = plant(bench, base)
            written = bench.store.overwrite(bench.key(*place), b"new")
            require(not written or place in there, f"an overwriting of no value at {place!r} is said to be done")
            there = {**there, place: b"new"} if written else there
            bench.expect(there)
            fetch(bench, bench.store, there, places_around(base))


@law(needs=[Need.DOCUMENTS, Need.LIFE])
def overwriting_one_gives_no_life(bench: Bench) -> None:
    """After a document was overwritten its leaves last for ever, and one that is expired is not overwritten."""
    for base in BASES:
        key, text = bench.key(*base), text_of(OTHER)
        there = plant(bench, base, WHOLE, LONG)
        key = bench.key(*base)
        if bench.store.overwrite_document(key, text):
            bench.expect({**without(there, base, Scope.SUBTREE), **lying_at(base, OTHER)})
            require_equal(dict(bench.store.lives(key)), {}, "the lives after an overwriting are")
        else:
            bench.expect(there)
            require_equal(set(bench.store.lives(key)), set(leaves_of(WHOLE)), "the lives after no overwriting are")
        left = without(plant(bench, base, WHOLE, SHORT), base, Scope.SUBTREE)
        bench.outlive()
        written = bench.store.overwrite_document(bench.key(*base), text)
        require(not written, "an overwriting of an expired document is said to be done")
        bench.expect(left)
        leaf = key_in(bench, base, "leaf")
        require(not bench.store.overwrite(leaf, b"1"), "an overwriting in an expired document is said to be done")
        bench.expect(left)
        there = plant(bench, base)
        bench.store.apply(Expire(key_in(bench, base, "inner"), Scope.SUBTREE, SHORT))
        bench.outlive()
        left = without(there, (*base, "inner"), Scope.SUBTREE)
        _overwrite(bench, left, base)
        require_equal(dict(bench.store.lives(bench.key())), {}, "the lives after an overwriting are")


def _changes(bench: Bench, base: Path) -> list[list[Write]]:
    """Return changes after which a document is not what it was."""
    at, leaf, inner = bench.key(*base), key_in(bench, base, "leaf"), key_in(bench, base, "inner")
    return [
        [Put(leaf, b"new")],
        [Put(key_in(bench, base, "new"), b"new")],
        [Put(key_in(bench, base, "inner", "deep", "a"), b"new", keep_life=True)],
        [Add(key_in(bench, base, "count"), 1)],
        [Delete(leaf, Scope.NODE)],
        [Delete(inner, Scope.SUBTREE)],
        [Delete(at, Scope.BELOW)],
        [Delete(at, Scope.SUBTREE)],
        [Delete(at, Scope.BELOW), Put(at, b"a leaf")],
        [Delete(inner, Scope.BELOW), Put(inner, b"a leaf")],
        [putting(bench, base, OTHER)],
        [putting(bench, (*base, "inner"), OTHER)],
        [Delete(at, Scope.SUBTREE), Put(leaf, b"all")],
        [Delete(bench.key(), Scope.SUBTREE)],
        [Delete(bench.key(), Scope.SUBTREE), putting(bench, base, OTHER), Put(key_in(bench, base, "new"), b"new")],
    ]


def _overwrite(bench: Bench, there: Mapping[Path, bytes], place: Path, number: int = 0) -> dict[Path, bytes]:
    """Overwrite a document at a place, insist that it was put there or nowhere, and return what is there."""
    tree = {"number": number, "in": {"some": "thing", "leaf": [number]}}
    written = bench.store.overwrite_document(bench.key(*place), text_of(tree))
    is_dict = any(path[: len(place)] == place and path != place for path in there)
    require(not written or is_dict, f"an overwriting of no document at {place!r} is said to be done")
    left = after(there, [putting(bench, place, tree)] if written else [])
    assert left is not None
    bench.expect(left)
    fetch(bench, bench.store, left, [place, place[:-1]])
    return left
