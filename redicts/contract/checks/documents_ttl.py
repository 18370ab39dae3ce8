"""Lives of documents: all leaves of one end together, unless some are given another life."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Final

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.documented import (
    BASES,
    OTHER,
    WHOLE,
    apply,
    fetch,
    here,
    key_in,
    leaves_of,
    look,
    lying_at,
    places_around,
    plant,
    putting,
)
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.trees import within, without
from redicts.contract.walk import many, walk, walk_names
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Equals,
    Expire,
    Notify,
    Path,
    Put,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
    Write,
)

_LONGER: Final = 100 * LONG
_NEEDS: Final = (Need.DOCUMENTS, Need.TTL)


@conformance_check(needs=_NEEDS)
def its_leaves_end_together(fixture: Fixture) -> None:
    """All leaves of a document live as long as it was given, and all that lasts around it stays."""
    for base in _bases(fixture):
        there = plant(fixture, base, WHOLE, SHORT)
        fixture.outlive()
        left = without(there, base, Scope.SUBTREE)
        fetch(fixture, fixture.store, left, places_around(base))
        fixture.expect(left)
        look(fixture, left, places_around(base))
        there = plant(fixture, base, WHOLE, LONG)
        fixture.outlive()
        fixture.expect(there)


@conformance_check(needs=_NEEDS)
def its_ttl_is_told_of_each_leaf(fixture: Fixture) -> None:
    """Each leaf of a document has its TTL, in every scope, in pages too; put again it has the new one, or none."""
    for base in BASES:
        there = plant(fixture, base, WHOLE, LONG)
        mortal = lying_at(base, WHOLE)
        _ttls(fixture, mortal)
        for place, scope in product(places_around(base), Scope):
            ttls = fixture.store.ttls(fixture.key(*place), scope)
            require_equal(set(ttls), set(within(mortal, place, scope)), f"lives at {place!r}, {scope.name} are")
            for limit in (1, 3, 1000):
                _page_ttls(fixture, place, scope, limit, within(mortal, place, scope))
        there = apply(fixture, there, putting(fixture, base, OTHER, _LONGER))
        _ttls(fixture, lying_at(base, OTHER), LONG, _LONGER)
        apply(fixture, there, putting(fixture, base, WHOLE))
        _ttls(fixture, ())


@conformance_check(needs=_NEEDS)
def a_part_has_the_ttl_it_is_given(fixture: Fixture) -> None:
    """A leaf that is put or added in a document has its own TTL, kept or new, and all other leaves keep theirs."""
    for base in BASES:
        leaf, count, new = (key_in(fixture, base, *path) for path in (("inner", "leaf"), ("count",), ("inner", "new")))
        cases: Sequence[tuple[Sequence[Write], set[Path], set[Path]]] = (
            ([Put(leaf, b"1")], {leaf.path}, set()),
            ([Put(leaf, b"1", LONG)], set(), {leaf.path}),
            ([Put(leaf, b"1", LONG, keep_ttl=True)], set(), set()),
            ([Put(leaf, b"1", None, keep_ttl=True)], set(), set()),
            ([Put(new, b"1")], set(), set()),
            ([Put(new, b"1", LONG)], {new.path}, {new.path}),
            ([Put(new, b"1", LONG, keep_ttl=True)], set(), set()),
            ([Add(count, 1)], set(), set()),
            ([Add(new, 1)], set(), set()),
            ([Add(count, 1), Put(count, b"2")], {count.path}, set()),
            ([Expire(leaf, Scope.NODE, None), Put(count, b"2", LONG)], {leaf.path}, {count.path}),
            ([putting(fixture, (*base, "inner"), OTHER)], set(lying_at((*base, "inner"), WHOLE["inner"])), set()),
        )
        for writes, lasting, mortal in cases:
            apply(fixture, plant(fixture, base, WHOLE, LONG), *here(fixture, writes))
            _ttls(fixture, set(lying_at(base, WHOLE)) - lasting | mortal)
            apply(fixture, plant(fixture, base), *here(fixture, writes))
            _ttls(fixture, mortal)


@conformance_check(needs=_NEEDS)
def a_deleted_part_leaves_the_other_ttls(fixture: Fixture) -> None:
    """What is left of a document of which a part is deleted, cleared or replaced keeps its TTL."""
    for base in BASES:
        for place, scope in product(places_around(base), Scope):
            for kind in (Delete, Notify):
                there = plant(fixture, base, WHOLE, LONG)
                there = apply(fixture, there, kind(fixture.key(*place), scope))
                _ttls(fixture, set(there) & set(lying_at(base, WHOLE)))


@conformance_check(needs=_NEEDS)
def expire_gives_its_scope_a_ttl(fixture: Fixture) -> None:
    """Expire gives its scope a TTL, or none, above, at, in and deep in a document, and leaves all others alone."""
    for base in BASES:
        for place, scope in product(places_around(base), Scope):
            at = f"after Expire at {place!r}, {scope.name}"
            there = plant(fixture, base)
            fixture.store.apply(Expire(fixture.key(*place), scope, LONG))
            fixture.expect(there)
            ttls = fixture.store.ttls(fixture.key())
            mortal = {place + path for path in within(there, place, scope)}
            require_equal(set(ttls), mortal, f"{at}, those that have a TTL are")
            require(all(0 < ttl <= LONG for ttl in ttls.values()), f"{at}, TTLs of {LONG} ms are {ttls!r}")
            there = plant(fixture, base, WHOLE, LONG)
            fixture.store.apply(Expire(fixture.key(*place), scope, None))
            fixture.expect(there)
            lasting = {place + path for path in within(there, place, scope)}
            left = set(lying_at(base, WHOLE)) - lasting
            require_equal(set(fixture.store.ttls(fixture.key())), left, f"{at} for ever, those that have a TTL are")


@conformance_check(needs=_NEEDS)
def a_part_may_end_alone(fixture: Fixture) -> None:
    """A part of a document that was given a shorter life ends alone, and one that was given a longer one stays."""
    for base in _bases(fixture):
        parts = [(("leaf",), Scope.NODE), (("inner", "deep"), Scope.SUBTREE), (("inner",), Scope.BELOW)]
        for path, scope in parts:
            for ttl in (None, LONG):
                place = (*base, *path)
                there = plant(fixture, base, WHOLE, ttl)
                fixture.store.apply(Expire(fixture.key(*place), scope, SHORT))
                fixture.outlive()
                left = without(there, place, scope)
                fixture.expect(left)
                look(fixture, left, places_around(base))
                fetch(fixture, fixture.store, left, places_around(base))
                there = plant(fixture, base, WHOLE, SHORT)
                fixture.store.apply(Expire(fixture.key(*place), scope, ttl))
                fixture.outlive()
                stays = {place + below: value for below, value in within(there, place, scope).items()}
                fixture.expect({**without(there, base, Scope.SUBTREE), **stays})


@conformance_check(needs=_NEEDS)
def an_expired_one_is_gone(fixture: Fixture) -> None:
    """An expired document is gone for every check, read, page and name, for the short ways, and for other clients."""
    other = fixture.client()
    for base in _bases(fixture):
        there = plant(fixture, base, WHOLE, SHORT)
        for client in (fixture.store, other):
            client.fetch_document(fixture.key(*base))
            client.fetch(key_in(fixture, base, "leaf"))
        fixture.outlive()
        left = without(there, base, Scope.SUBTREE)
        for place in places_around(base):
            key = fixture.key(*place)
            for scope in Scope:
                now = within(left, place, scope)
                require(fixture.store.holds(Equals(key, scope, now)), "Exactly of the live values fails")
                if now != within(there, place, scope):
                    was = Equals(key, scope, within(there, place, scope))
                    require(not fixture.store.holds(was), f"Exactly of an expired document holds at {place!r}")
                wanted = all(value.startswith(b"x") for value in now.values())
                require_equal(fixture.store.holds(StartsWith(key, scope, b"x")), wanted, f"Prefixed at {place!r} holds")
                for limit in (1, 3, 1000):
                    found = dict(walk(fixture.store, Read(key, scope, limit), many(len(now))))
                    require_equal(found, now, f"a walk at {place!r} beside an expired document finds")
            names = walk_names(fixture.store, ReadNames(key, 1), many(len(left)))
            require_equal(set(names), fixture.store.names(key), f"a walk over names at {place!r} finds")
        for client in (fixture.store, other):
            look(fixture, left, places_around(base), client)
            fetch(fixture, client, left, places_around(base))
            for path in leaves_of(WHOLE):
                require(client.fetch(key_in(fixture, base, *path)) is None, f"an expired leaf {path!r} is fetched")
        fixture.expect(left)


@conformance_check(needs=_NEEDS)
def nothing_keeps_an_expired_one(fixture: Fixture) -> None:
    """Add in an expired document counts from 0, keep_life keeps none, and no write brings any other leaf back."""
    for base in _bases(fixture):
        key = fixture.key(*base)
        changes: Sequence[Sequence[Write]] = (
            [Add(key_in(fixture, base, "count"), 7)],
            [Add(key_in(fixture, base, "in"), 7)],
            [Put(key_in(fixture, base, "leaf"), b"new", SHORT, keep_ttl=True)],
            [Put(key_in(fixture, base, "inner", "leaf"), b"new"), Put(key_in(fixture, base, "new"), b"new")],
            [Put(key_in(fixture, base, "leaf", "below"), b"below a leaf that was")],
            [Put(key, b"above all")],
            [Put(key_in(fixture, base, "inner"), b"above some")],
            [putting(fixture, (*base, "inner"), OTHER)],
            [putting(fixture, (*base, "leaf", "below"), OTHER)],
            [putting(fixture, base, OTHER)],
            [Delete(key_in(fixture, base, "inner"), Scope.SUBTREE), Add(key_in(fixture, base, "inner", "leaf"), 1)],
            *[[Delete(fixture.key(*place), scope)] for place in ((*base, "inner"), base) for scope in Scope],
        )
        for writes in changes:
            left = without(plant(fixture, base, WHOLE, SHORT), base, Scope.SUBTREE)
            fixture.outlive()
            left = apply(fixture, left, *here(fixture, writes))
            _ttls(fixture, ())
            fixture.store.apply(Expire(fixture.key(), Scope.SUBTREE, None))
            fixture.expect(left)
            fetch(fixture, fixture.store, left, places_around(base))
            _is_empty_after_deletes(fixture, left)


@conformance_check(needs=_NEEDS)
def expire_cannot_bring_it_back(fixture: Fixture) -> None:
    """Expire gives no TTL to an expired document, above, at and in it, nor does a transaction that is refused."""
    places = [place for place in places_around(("doc",)) if place]
    cases = [(f"n{number}", place, scope) for number, (place, scope) in enumerate(product(places, Scope))]
    for ttl in (None, LONG):
        # All in one transaction, since a store may remove what has expired after any.
        around: Sequence[Sequence[tuple[Path, Scope]]] = (
            [((name, *place), scope) for name, place, scope in cases],
            *([((), scope)] for scope in Scope),
            *([((name,), scope) for name, _, _ in cases] for scope in Scope),
        )
        for scopes in around:
            fixture.renew()
            fixture.store.apply(*[putting(fixture, (name, "doc"), WHOLE, SHORT) for name, _, _ in cases])
            fixture.outlive()
            writes: list[Write] = [Expire(fixture.key(*place), scope, ttl) for place, scope in scopes]
            text = fixture.key("n0", "doc", "leaf")
            outcome = fixture.store.run(writes=[*writes, Put(text, b"x"), Add(text, 1)])
            require_equal(outcome.status, Status.NOT_A_COUNTER, "the status")
            fixture.expect({})
            fixture.store.apply(*writes)
            fixture.expect({})


@conformance_check(needs=_NEEDS)
def it_may_be_claimed_anew(fixture: Fixture) -> None:
    """A check for absence holds for an expired document, and the document that is put with it is all that is there."""
    for base in _bases(fixture):
        left = without(plant(fixture, base, WHOLE, SHORT), base, Scope.SUBTREE)
        fixture.outlive()
        free = Equals(fixture.key(*base), Scope.SUBTREE, NOTHING)
        outcome = fixture.store.run(checks=[free], writes=[putting(fixture, base, OTHER, LONG)])
        require(outcome.applied, f"an expired document at {base!r} counts in a check")
        there = {**left, **lying_at(base, OTHER)}
        fixture.expect(there)
        require(not fixture.store.holds(free), "a check for absence holds for a document")
        fetch(fixture, fixture.store, there, places_around(base))
        _ttls(fixture, lying_at(base, OTHER))


@conformance_check(needs=_NEEDS)
def a_refused_counter_changes_none_of_its_ttls(fixture: Fixture) -> None:
    """If a counter is refused, a document that would have been changed has all its lives as they were."""
    for base in _bases(fixture):
        changes: Sequence[Sequence[Write]] = (
            [Put(key_in(fixture, base, "leaf"), b"1")],
            [Put(key_in(fixture, base, "inner", "leaf"), b"1", SHORT)],
            [Expire(key_in(fixture, base, "inner"), Scope.BELOW, SHORT), Add(key_in(fixture, base, "count"), 1)],
            [Expire(fixture.key(), Scope.SUBTREE, SHORT)],
            [putting(fixture, (*base, "inner"), OTHER, SHORT)],
            [putting(fixture, base, WHOLE, SHORT)],
        )
        for writes, ttl in product(changes, (None, LONG)):
            there = plant(fixture, base, WHOLE, ttl)
            outcome = fixture.store.run(writes=[*here(fixture, writes), Add(key_in(fixture, base, "in"), 1)])
            require_equal(outcome.status, Status.NOT_A_COUNTER, "the status")
            fixture.outlive()
            fixture.expect(there)
            _ttls(fixture, () if ttl is None else lying_at(base, WHOLE))


@conformance_check(needs=_NEEDS)
def writes_to_its_ttls_take_effect_in_order(fixture: Fixture) -> None:
    """Of writes that give a document and its parts lives in one transaction, each sees the ones before."""
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
    for writes, stays, mortal in cases:
        fixture.renew()
        fixture.store.apply(*here(fixture, writes))
        fixture.outlive()
        left = set(fixture.store.read(fixture.key(*base)))
        require_equal(left, set(stays), f"after {[type(write).__name__ for write in writes]} what is left is")
        require_equal(set(fixture.store.ttls(fixture.key(*base))), set(mortal), "those that have a TTL are")
        fetch(fixture, fixture.store, fixture.store.read(fixture.key()), [base])


def _bases(fixture: Fixture) -> Sequence[Path]:
    """Return where documents are put, one place if TTLs are really waited for."""
    return BASES[1:2] if fixture.harness.waits and not fixture.thorough else BASES


def _ttls(fixture: Fixture, mortal: Iterable[Path], above: int = 0, most: int = LONG) -> None:
    """Insist that just these have a TTL, between two numbers of milliseconds."""
    ttls = fixture.store.ttls(fixture.key())
    require_equal(set(ttls), set(mortal), "those that have a TTL are")
    require(all(above < ttl <= most for ttl in ttls.values()), f"TTLs of {most} ms are now {ttls!r}")


def _page_ttls(fixture: Fixture, place: Path, scope: Scope, limit: int, mortal: Mapping[Path, bytes]) -> None:
    read = Read(fixture.key(*place), scope, limit, ttls=True)
    ttls: set[Path] = set()
    for _ in range(many(50)):
        page = fixture.store.entries(read)
        ttls |= set(page.ttls)
        if page.cursor is None:
            break
        read = read._replace(cursor=page.cursor)
    require_equal(ttls, set(mortal), f"lives in pages at {place!r}, {scope.name}, limit {limit}, are")


def _is_empty_after_deletes(fixture: Fixture, left: Mapping[Path, bytes]) -> None:
    """Delete what is there, one by one, and insist that nothing else comes to light."""
    for path in left:
        fixture.store.apply(Delete(fixture.key(*path), Scope.NODE))
    fixture.expect({})
