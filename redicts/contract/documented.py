"""Documents for checks: dicts, their text, their leaves, and the values around them.

The leaves are computed from the dict, not from the text as backends do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from redicts.contract.client import Client
from redicts.contract.fixture import Fixture
from redicts.contract.form import entries_of, names_of
from redicts.contract.requirements import CheckFailed, require, require_equal, shortened
from redicts.contract.trees import PATHS, names_below, within, without
from redicts.core.documents import leaves_in
from redicts.core.minitransaction import (
    Add,
    AnyRead,
    Delete,
    Key,
    Notify,
    Path,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    Write,
    canonical_counter,
)

Tree = Mapping[str, Any]

WHOLE: Final[Tree] = {
    "leaf": 1,
    "in": "text",
    "inner": {"leaf": 2, "deep": {"a": -3, "ab": None, "b": {"c": {"d": ""}}}, "deeper": True},
    "innermost": {"leaf": [1, {"a": 2}]},
    "inner.deep": {"a": {}},
    "inner*": 1.5,
    "count": 41,
    "other": {"inner": {"leaf": "\u00e9\\\"'"}},
}
"""Of the shape of :data:`redicts.contract.trees.TREE`, with values of all kinds."""

OTHER: Final[Tree] = {
    "leaf": {"below": "a dict where a leaf was"},
    "inner": {"leaf": 12, "deep": 13},
    "only": {"in": {"this": [[]]}},
    "count": 51,
}
"""A replacement for it, with leaves for dicts, dicts for leaves, and little in common."""

BASES: Final[tuple[Path, ...]] = (("doc",), ("d", "e", "doc"))
"""The paths of the documents."""


def text_of(tree: Tree, *, escaped: bool = False) -> bytes:
    """Return the document of a dict, with all but ASCII escaped, or as it is."""
    return json.dumps(tree, ensure_ascii=escaped, separators=(",", ":")).encode()


def leaves_of(tree: Tree, *, escaped: bool = False) -> dict[Path, bytes]:
    """Return the leaves of a dict, by relative path."""
    leaves: dict[Path, bytes] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            leaves |= {(name, *path): leaf for path, leaf in leaves_of(value, escaped=escaped).items()}
        else:
            leaves[name,] = json.dumps(value, ensure_ascii=escaped, separators=(",", ":")).encode()
    return leaves


def lying_at(base: Path, tree: Tree) -> dict[Path, bytes]:
    """Return the leaves of a dict that is put at a path."""
    return {base + path: value for path, value in leaves_of(tree).items()}


def putting(fixture: Fixture, base: Path, tree: Tree, ttl: int | None = None) -> PutDocument:
    """Return the write that puts a dict."""
    return PutDocument(fixture.key(*base), text_of(tree), ttl)


def plant(fixture: Fixture, base: Path, tree: Tree = WHOLE, ttl: int | None = None) -> dict[Path, bytes]:
    """Continue in a new space with this document among other values and documents; return all entries.

    Only the document itself has the TTL.
    """
    above = base[:-1]
    values: dict[Path, bytes] = {
        (*above, "do"): b"1",
        (*above, "doc "): b"2",
        (*above, "doc.", "leaf"): b"3",
        (*above, "z"): b"4",
    }
    neighbours: list[Path] = [(*above, "dob"), (*above, "docs")]
    fixture.plant(values)
    fixture.store.apply(*[putting(fixture, path, OTHER) for path in neighbours], putting(fixture, base, tree, ttl))
    for path in neighbours:
        values |= lying_at(path, OTHER)
    return {**values, **lying_at(base, tree)}


def paths_around(base: Path) -> list[Path]:
    """Return the paths at which to examine a document: above, at and in it, at leaves and where nothing is stored."""
    return [*(base[:depth] for depth in range(len(base))), *(base + path for path in PATHS)]


def look(fixture: Fixture, entries: Mapping[Path, bytes], paths: Iterable[Path], client: Client | None = None) -> None:
    """Require that every scope of these paths and the names below read as expected."""
    client = client or fixture.store
    for path in paths:
        key = fixture.key(*path)
        reads: list[AnyRead] = [Read(key, scope) for scope in Scope]
        *answers, names = client.ask(*reads, ReadNames(key))
        for scope, answer in zip(Scope, answers):
            found = dict(entries_of(answer).values)
            require_equal(found, within(entries, path, scope), f"the values at {path!r}, {scope.name} are")
        require_equal(set(names_of(names).names), names_below(entries, path), f"the names below {path!r} are")


def fetch(fixture: Fixture, client: Client, entries: Mapping[Path, bytes], paths: Iterable[Path]) -> None:
    """Fetch these paths by the fast path, and require what :func:`fetch_at` does."""
    for path in paths:
        fetch_at(client, fixture.key(*path), within(entries, path, Scope.SUBTREE))


def fetch_at(client: Client, key: Key, there: Mapping[Path, bytes]) -> None:
    """Fetch by the fast path, and require the value, a document of exactly the values below, or ``None``."""
    found = client.fetch_document(key)
    if found is None:
        return
    what = f"what is fetched as a document at {key.path!r}"
    if () in there:
        require_equal(found, there[()], f"{what} is")
        return
    require(there, f"{what}, where nothing is stored, is {shortened(found)}")
    try:
        leaves = dict(leaves_in(found))
    except ValueError as error:
        raise CheckFailed(f"{what} is not a document: {error}") from error
    require_equal(leaves, dict(there), f"{what} has the leaves")


def after(entries: Mapping[Path, bytes], writes: Iterable[Write]) -> dict[Path, bytes] | None:
    """Return the entries after these writes; ``None`` if a value would lie below another or is not a counter."""
    left = dict(entries)
    for write in writes:
        node = write.key.path
        if isinstance(write, (Delete, Notify)):
            left = without(left, node, write.scope)
            continue
        new: dict[Path, bytes] = {}
        if isinstance(write, PutDocument):
            left = without(left, node, Scope.SUBTREE)
            new = lying_at(node, json.loads(write.document))
        elif isinstance(write, Put):
            new = {node: write.value}
        elif isinstance(write, Add):
            count = canonical_counter(left.get(node, b"0"))
            if count is None:
                return None
            new = {node: b"%d" % (count + write.amount)}
        if any(_is_below(one, path) or _is_below(path, one) for one in left for path in new):
            return None
        left |= new
    return left


def apply(
    fixture: Fixture, before: Mapping[Path, bytes], *writes: Write, client: Client | None = None
) -> dict[Path, bytes]:
    """Apply valid writes, require the expected entries, and return them."""
    left = after(before, writes)
    assert left is not None, writes
    (client or fixture.store).apply(*writes)
    fixture.expect(left, client)
    return left


def here(fixture: Fixture, writes: Iterable[Write]) -> list[Write]:
    """Return these writes with the current space."""
    return [write._replace(key=fixture.key(*write.key.path)) for write in writes]


def key_in(fixture: Fixture, base: Path, *path: str) -> Key:
    """Return the key of a path in a document."""
    return fixture.key(*base, *path)


def _is_below(path: Path, node: Path) -> bool:
    return len(path) > len(node) and path[: len(node)] == node
