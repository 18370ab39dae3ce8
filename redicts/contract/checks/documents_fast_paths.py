"""Fast paths to documents: they return the whole state or nothing, and write all or nothing."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.documented import (
    BASES,
    OTHER,
    WHOLE,
    after,
    apply,
    fetch,
    fetch_at,
    here,
    key_in,
    leaves_of,
    lying_at,
    paths_around,
    plant,
    putting,
    text_of,
)
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.requirements import require, require_equal
from redicts.contract.trees import without
from redicts.core.documents import leaves_in
from redicts.core.minitransaction import Add, Delete, Expire, Key, Path, Put, PutDocument, Scope, Write

_LIMITS: Final = tuple(2**power - len('{"in":{"text":""}}') for power in range(5, 15))
"""Lengths of a text in documents of lengths with which a store may begin to keep them elsewhere."""

_AGAIN: Final = 20
"""So often is a thing done that a store may do otherwise every few times."""


@conformance_check(needs=[Need.DOCUMENTS])
def what_is_fetched_is_all_that_is_there(fixture: Fixture) -> None:
    """Fetching a document returns the value, a document of exactly the live values below, or None.

    Fetches at every path around a document, twice by two clients, before and after each kind of change.
    """
    other = fixture.client()
    for base in BASES:
        paths = paths_around(base)
        for writes in _changes(fixture, base):
            there = plant(fixture, base)
            for client in (fixture.store, other):
                fetch(fixture, client, there, paths)
                fetch(fixture, client, there, paths)
            there = apply(fixture, there, *here(fixture, writes), client=other)
            for client in (fixture.store, other):
                fetch(fixture, client, there, paths)
                fetch(fixture, client, there, paths)
            there = apply(fixture, there, putting(fixture, base, OTHER))
            for client in (fixture.store, other):
                fetch(fixture, client, there, [*paths, (*base, "only", "in")])


@conformance_check(needs=[Need.DOCUMENTS])
def one_of_any_size_is_fetched_whole(fixture: Fixture) -> None:
    """A document or value of any size is fetched whole or not at all, and after it was overwritten by any other.

    Puts documents and values of sizes around powers of two, with and without a TTL, and overwrites documents by short
    and long ones, beside others. Two clients fetch each of these twice.
    """
    clients, key, value = (fixture.store, fixture.client()), fixture.key("d", "doc"), fixture.key("d", "value")
    texts = [text_of({"in": {"text": "x" * max(0, limit + more)}}) for limit in _LIMITS for more in (-1, 0, 1)]
    beside = {fixture.key("d", "doc s"): texts[0], fixture.key("d", "another"): texts[-1]}
    fixture.store.apply(*[PutDocument(other, text) for other, text in beside.items()])

    def look(at: Key, text: bytes) -> None:
        for client in clients * 2:
            fetch_at(client, at, {(): text} if at == value else leaves_in(text))

    for text, ttl in product(texts, (None, LONG) if fixture.capabilities.ttl else (None,)):
        for other in (texts[0], texts[-1], text):
            fixture.store.apply(PutDocument(key, text, ttl), Put(value, text, ttl))
            look(key, text)
            look(value, text)
            if clients[1].overwrite_document(key, other):
                look(key, other)
                require_equal(dict(fixture.store.ttls(key)) if ttl else {}, {}, "the TTLs after an overwriting are")
    for neighbour, text in beside.items():
        look(neighbour, text)


@conformance_check(needs=[Need.DOCUMENTS])
def a_plain_fetch_gives_no_document(fixture: Fixture) -> None:
    """Fetching a value returns a leaf, also one in a document, and never the text of a document.

    Fetches values at every path around a document, before and after a part of it has changed.
    """
    for base in BASES:
        there = plant(fixture, base)
        for _ in range(2):
            for path in paths_around(base):
                found = fixture.store.fetch(fixture.key(*path))
                require(found is None or found == there.get(path), f"what is fetched at {path!r} is {found!r}")
            fixture.store.fetch_document(fixture.key(*base))
        there = apply(fixture, there, Put(key_in(fixture, base, "inner", "leaf"), b"new"))
        for path in paths_around(base):
            found = fixture.store.fetch(fixture.key(*path))
            require(found is None or found == there.get(path), f"what is fetched at {path!r} is {found!r}")


@conformance_check(needs=[Need.DOCUMENTS])
def overwriting_one_is_a_put_or_nothing(fixture: Fixture) -> None:
    """Overwriting a document replaces a dict and returns true, or changes nothing and returns false.

    Overwrites at every path around a document, after each kind of change, and many times in a row.
    """
    for base in BASES:
        for path in paths_around(base)[1:]:
            there = plant(fixture, base)
            _overwrite(fixture, there, path)
        for writes in _changes(fixture, base):
            there = plant(fixture, base)
            there = apply(fixture, there, *here(fixture, writes))
            for path in (base, (*base, "inner"), (*base, "leaf"), (*base, "only")):
                there = _overwrite(fixture, there, path)
    base = BASES[1]
    there = plant(fixture, base)
    for number in range(_AGAIN):
        there = _overwrite(fixture, there, base, number)
        fetch(fixture, fixture.store, there, [base])


@conformance_check(needs=[Need.DOCUMENTS])
def overwriting_a_leaf_leaves_documents_alone(fixture: Fixture) -> None:
    """Overwriting a value at, above or in a document replaces a value, or changes nothing.

    Overwrites a value at every path around a document, and reads and fetches all of it.
    """
    for base in BASES:
        for path in paths_around(base)[1:]:
            there = plant(fixture, base)
            written = fixture.store.overwrite(fixture.key(*path), b"new")
            require(not written or path in there, f"an overwriting of no value at {path!r} returns true")
            there = {**there, path: b"new"} if written else there
            fixture.expect(there)
            fetch(fixture, fixture.store, there, paths_around(base))


@conformance_check(needs=[Need.DOCUMENTS, Need.TTL])
def overwriting_one_gives_no_ttl(fixture: Fixture) -> None:
    """An overwritten document has no TTL, and an expired one is not overwritten.

    Overwrites documents with a TTL, expired ones, and one of which a part has expired.
    """
    for base in BASES:
        key, text = fixture.key(*base), text_of(OTHER)
        there = plant(fixture, base, WHOLE, LONG)
        key = fixture.key(*base)
        if fixture.store.overwrite_document(key, text):
            fixture.expect({**without(there, base, Scope.SUBTREE), **lying_at(base, OTHER)})
            require_equal(dict(fixture.store.ttls(key)), {}, "the TTLs after an overwriting are")
        else:
            fixture.expect(there)
            require_equal(set(fixture.store.ttls(key)), set(leaves_of(WHOLE)), "the TTLs after no overwriting are")
        part = plant(fixture, base)
        fixture.store.apply(Expire(key_in(fixture, base, "inner"), Scope.SUBTREE, SHORT))
        in_part = fixture.space
        left = without(plant(fixture, base, WHOLE, SHORT), base, Scope.SUBTREE)
        fixture.outlive()
        written = fixture.store.overwrite_document(fixture.key(*base), text)
        require(not written, "an overwriting of an expired document returns true")
        fixture.expect(left)
        leaf = key_in(fixture, base, "leaf")
        require(not fixture.store.overwrite(leaf, b"1"), "an overwriting in an expired document returns true")
        fixture.expect(left)
        fixture.space = in_part
        left = without(part, (*base, "inner"), Scope.SUBTREE)
        _overwrite(fixture, left, base)
        require_equal(dict(fixture.store.ttls(fixture.key())), {}, "the TTLs after an overwriting are")


def _changes(fixture: Fixture, base: Path) -> list[list[Write]]:
    """Return changes after which a document is not what it was."""
    at, leaf, inner = fixture.key(*base), key_in(fixture, base, "leaf"), key_in(fixture, base, "inner")
    return [
        [Put(leaf, b"new")],
        [Put(key_in(fixture, base, "new"), b"new")],
        [Put(key_in(fixture, base, "inner", "deep", "a"), b"new", keep_ttl=True)],
        [Add(key_in(fixture, base, "count"), 1)],
        [Delete(leaf, Scope.NODE)],
        [Delete(inner, Scope.SUBTREE)],
        [Delete(at, Scope.BELOW)],
        [Delete(at, Scope.SUBTREE)],
        [Delete(at, Scope.BELOW), Put(at, b"a leaf")],
        [Delete(inner, Scope.BELOW), Put(inner, b"a leaf")],
        [putting(fixture, base, OTHER)],
        [putting(fixture, (*base, "inner"), OTHER)],
        [Delete(at, Scope.SUBTREE), Put(leaf, b"all")],
        [Delete(fixture.key(), Scope.SUBTREE)],
        [
            Delete(fixture.key(), Scope.SUBTREE),
            putting(fixture, base, OTHER),
            Put(key_in(fixture, base, "new"), b"new"),
        ],
    ]


def _overwrite(fixture: Fixture, there: Mapping[Path, bytes], node: Path, number: int = 0) -> dict[Path, bytes]:
    """Overwrite a document at a path, require that it replaced a dict or nothing, and return the entries."""
    tree = {"number": number, "in": {"some": "thing", "leaf": [number]}}
    written = fixture.store.overwrite_document(fixture.key(*node), text_of(tree))
    is_dict = any(path[: len(node)] == node and path != node for path in there)
    require(not written or is_dict, f"an overwriting of no document at {node!r} returns true")
    left = after(there, [putting(fixture, node, tree)] if written else [])
    assert left is not None
    fixture.expect(left)
    fetch(fixture, fixture.store, left, [node, node[:-1]])
    return left
