"""TTLs of documents: all leaves share the TTL of the document until it changes for some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.documented import (
    BASES,
    OTHER,
    WHOLE,
    apply,
    fetch,
    here,
    leaves_of,
    lying_at,
    paths_around,
    plant,
    putting,
)
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.requirements import require, require_equal
from redicts.contract.trees import names_below, within, without
from redicts.contract.walk import many
from redicts.core.minitransaction import (
    Add,
    Delete,
    Expire,
    Path,
    Put,
    Read,
    Scope,
    StartsWith,
    Status,
    Write,
)

_LONGER: Final = 100 * LONG
_NEEDS: Final = (Need.DOCUMENTS, Need.TTL)


@conformance_check(needs=_NEEDS)
def its_ttl_is_that_of_each_leaf(fixture: Fixture) -> None:
    """Each leaf of a document has its TTL, in every scope and in pages, until it is replaced or an Expire follows.

    Reads the TTLs of every scope around a document, whole and in pages, replaces it with and without a TTL, and removes
    its TTL. Gives one to a leaf, and to two. Then lets it end, after a condition on a part, and reads every scope and
    all names.
    """
    for base in BASES:
        there = plant(fixture, base, WHOLE, LONG)
        mortal = lying_at(base, WHOLE)
        _ttls(fixture, mortal)
        for path, scope in product(paths_around(base), Scope):
            ttls = fixture.store.ttls(fixture.key(*path), scope)
            require_equal(set(ttls), set(within(mortal, path, scope)), f"TTLs at {path!r}, {scope.name} are")
            for limit in (1, 3, 1000):
                _page_ttls(fixture, path, scope, limit, within(mortal, path, scope))
        there = apply(fixture, there, putting(fixture, base, OTHER, _LONGER))
        _ttls(fixture, lying_at(base, OTHER), LONG, _LONGER)
        for ttl, expiring in (
            (None, ()),
            (LONG, mortal),
        ):  # without the conditions of apply, for which a store may split it
            fixture.store.apply(putting(fixture, base, WHOLE, _LONGER))
            fixture.store.apply(Expire(fixture.key(*base), Scope.SUBTREE, ttl))
            _ttls(fixture, expiring)
        for count in (1, 2):
            leaves = [(*base, "inner", name) for name in ("leaf", "deeper")][:count]
            fixture.store.apply(putting(fixture, base, WHOLE))
            fixture.store.apply(*[Expire(fixture.key(*path), Scope.NODE, LONG) for path in leaves])
            _ttls(fixture, leaves)
        there = apply(fixture, there, putting(fixture, base, WHOLE))
        _ttls(fixture, ())
        fixture.store.apply(putting(fixture, base, WHOLE, SHORT))
        fixture.store.holds(StartsWith(fixture.key(*base, "inner"), Scope.SUBTREE, b""))  # a store may split it now
        fixture.outlive()
        left = without(there, base, Scope.SUBTREE)
        for path, scope in product(paths_around(base), Scope):
            found = dict(fixture.store.read(fixture.key(*path), scope))
            what = f"after the end of a document, the values at {path!r}, {scope.name} are"
            require_equal(found, within(left, path, scope), what)
        for path in paths_around(base):
            names = fixture.store.names(fixture.key(*path))
            require_equal(names, names_below(left, path), f"after the end of a document, the names below {path!r} are")
        for number in range(10):  # writes, after any of which a store may remove what has expired
            fixture.store.apply(Put(fixture.key("z"), b"%d" % number))
        fixture.expect({**left, ("z",): b"9"})


@conformance_check(needs=_NEEDS)
def expire_cannot_bring_it_back(fixture: Fixture) -> None:
    """Neither Expire nor a refused transaction revives an expired document or a part of it.

    Lets documents end, and expires every scope around them in one transaction that is refused and one that is
    applied.
    """
    paths = [path for path in paths_around(("doc",)) if path]
    cases = [(f"n{number}", *case) for number, case in enumerate(product([(), *paths], Scope, (None, LONG)))]
    # As many as can be in one transaction, since a store may remove what has expired after any.
    around: Sequence[Sequence[tuple[Path, Scope, int | None]]] = (
        [((name, *path), scope, ttl) for name, path, scope, ttl in cases],
        *([((), scope, ttl)] for scope, ttl in ((Scope.NODE, LONG), (Scope.BELOW, None), (Scope.SUBTREE, LONG))),
    )
    for expires in around:
        fixture.renew()
        fixture.store.apply(*[putting(fixture, (name, "doc"), WHOLE, SHORT) for name, *_ in cases[: len(expires) + 5]])
        fixture.outlive()
        writes: list[Write] = [Expire(fixture.key(*path), scope, ttl) for path, scope, ttl in expires]
        text = fixture.key("n0", "doc", "leaf")
        outcome = fixture.store.run(writes=[*writes, Put(text, b"x"), Add(text, 1)])
        require_equal(outcome.status, Status.NOT_A_COUNTER, "the status")
        fixture.expect({})
        fixture.store.apply(*writes)
        fixture.expect({})


@conformance_check(needs=_NEEDS)
def writes_to_its_ttls_take_effect_in_order(fixture: Fixture) -> None:
    """Of several writes to the TTLs of a document and its parts, each sees the earlier ones.

    Writes a document, parts of it and their TTLs in a dozen orders in one transaction each, and reads what is left
    when the short TTLs are over.
    """
    base = ("d", "doc")
    leaf, inner, all_of_it = ("leaf",), ("inner", "leaf"), set(leaves_of(WHOLE))
    in_inner = {path for path in all_of_it if path[0] == "inner"}
    short, long, lasting = (putting(fixture, base, WHOLE, ttl) for ttl in (SHORT, LONG, None))
    at = fixture.key(*base)
    cases: Sequence[tuple[Sequence[Write], Iterable[Path], Iterable[Path]]] = (
        ([short, lasting], all_of_it, ()),
        ([lasting, short], (), ()),
        ([short, Expire(at, Scope.BELOW, LONG)], all_of_it, all_of_it),
        ([long, Expire(at, Scope.SUBTREE, None)], all_of_it, ()),
        ([short, Expire(at, Scope.NODE, None)], (), ()),
        ([short, Put(fixture.key(*base, *leaf), b"1")], {leaf}, ()),
        ([short, Put(fixture.key(*base, *leaf), b"1", None, keep_ttl=True)], (), ()),
        ([long, Put(fixture.key(*base, *leaf), b"1", None, keep_ttl=True)], all_of_it, all_of_it),
        ([Put(fixture.key(*base, *leaf), b"1", LONG), lasting], all_of_it, ()),
        (
            [lasting, Expire(fixture.key(*base, "inner"), Scope.BELOW, LONG), Delete(at, Scope.NODE)],
            all_of_it,
            in_inner,
        ),
        ([short, Expire(fixture.key(*base, *inner), Scope.SUBTREE, LONG), Delete(at, Scope.NODE)], {inner}, {inner}),
        (
            [short, Add(fixture.key(*base, "count"), 1), Expire(fixture.key(*base, "count"), Scope.NODE, None)],
            {("count",)},
            (),
        ),
    )
    spaces: list[str] = []
    for writes, _, _ in cases:
        fixture.renew()
        fixture.store.apply(*here(fixture, writes))
        spaces.append(fixture.space)
    fixture.outlive()
    for fixture.space, (writes, stays, mortal) in zip(spaces, cases):
        left = set(fixture.store.read(fixture.key(*base)))
        require_equal(left, set(stays), f"after {[type(write).__name__ for write in writes]} what is left is")
        require_equal(set(fixture.store.ttls(fixture.key(*base))), set(mortal), "the paths with a TTL are")
        fetch(fixture, fixture.store, fixture.store.read(fixture.key()), [base])


def _ttls(fixture: Fixture, mortal: Iterable[Path], above: int = 0, most: int = LONG) -> None:
    """Require that just these have a TTL, between two numbers of milliseconds."""
    ttls = fixture.store.ttls(fixture.key())
    require_equal(set(ttls), set(mortal), "the paths with a TTL are")
    require(all(above < ttl <= most for ttl in ttls.values()), f"TTLs of {most} ms are now {ttls!r}")


def _page_ttls(fixture: Fixture, path: Path, scope: Scope, limit: int, mortal: Mapping[Path, bytes]) -> None:
    read = Read(fixture.key(*path), scope, limit, ttls=True)
    ttls: set[Path] = set()
    for _ in range(many(50)):
        page = fixture.store.entries(read)
        ttls |= set(page.ttls)
        if page.cursor is None:
            break
        read = read._replace(cursor=page.cursor)
    require_equal(ttls, set(mortal), f"TTLs in pages at {path!r}, {scope.name}, limit {limit}, are")
