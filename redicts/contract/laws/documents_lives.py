"""Lives of documents: all leaves of one end together, unless some are given another life."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Final

from redicts.contract.bench import LONG, SHORT, Bench
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
from redicts.contract.law import Need, law, require, require_equal
from redicts.contract.trees import within, without
from redicts.contract.walk import many, walk, walk_names
from redicts.core.transaction import (
    NOTHING,
    Add,
    Delete,
    Exactly,
    Expire,
    Path,
    Prefixed,
    Put,
    Read,
    ReadNames,
    Scope,
    Verdict,
    Wake,
    Write,
)

_LONGER: Final = 100 * LONG
_NEEDS: Final = (Need.DOCUMENTS, Need.LIFE)


@law(needs=_NEEDS)
def its_leaves_end_together(bench: Bench) -> None:
    """All leaves of a document live as long as it was given, and all that lasts around it stays."""
    for base in _bases(bench):
        there = plant(bench, base, WHOLE, SHORT)
        bench.outlive()
        left = without(there, base, Scope.SUBTREE)
        fetch(bench, bench.store, left, places_around(base))
        bench.expect(left)
        look(bench, left, places_around(base))
        there = plant(bench, base, WHOLE, LONG)
        bench.outlive()
        bench.expect(there)


@law(needs=_NEEDS)
def its_life_is_told_of_each_leaf(bench: Bench) -> None:
    """Each leaf of a document has its life, in every scope, in pages too; put anew it has the new one, or none."""
    for base in BASES:
        there = plant(bench, base, WHOLE, LONG)
        mortal = lying_at(base, WHOLE)
        _lives(bench, mortal)
        for place, scope in product(places_around(base), Scope):
            lives = bench.store.lives(bench.key(*place), scope)
            require_equal(set(lives), set(within(mortal, place, scope)), f"lives at {place!r}, {scope.name} are")
            for limit in (1, 3, 1000):
                _page_lives(bench, place, scope, limit, within(mortal, place, scope))
        there = apply(bench, there, putting(bench, base, OTHER, _LONGER))
        _lives(bench, lying_at(base, OTHER), LONG, _LONGER)
        apply(bench, there, putting(bench, base, WHOLE))
        _lives(bench, ())


@law(needs=_NEEDS)
def a_part_has_the_life_it_is_given(bench: Bench) -> None:
    """A leaf that is put or added in a document has its own life, kept or new, and all other leaves keep theirs."""
    for base in BASES:
        leaf, count, new = (key_in(bench, base, *path) for path in (("inner", "leaf"), ("count",), ("inner", "new")))
        cases: Sequence[tuple[Sequence[Write], set[Path], set[Path]]] = (
            ([Put(leaf, b"1")], {leaf.path}, set()),
            ([Put(leaf, b"1", LONG)], set(), {leaf.path}),
            ([Put(leaf, b"1", LONG, keep_life=True)], set(), set()),
            ([Put(leaf, b"1", None, keep_life=True)], set(), set()),
            ([Put(new, b"1")], set(), set()),
            ([Put(new, b"1", LONG)], {new.path}, {new.path}),
            ([Put(new, b"1", LONG, keep_life=True)], set(), set()),
            ([Add(count, 1)], set(), set()),
            ([Add(new, 1)], set(), set()),
            ([Add(count, 1), Put(count, b"2")], {count.path}, set()),
            ([Expire(leaf, Scope.NODE, None), Put(count, b"2", LONG)], {leaf.path}, {count.path}),
            ([putting(bench, (*base, "inner"), OTHER)], set(lying_at((*base, "inner"), WHOLE["inner"])), set()),
        )
        for writes, lasting, mortal in cases:
            apply(bench, plant(bench, base, WHOLE, LONG), *here(bench, writes))
            _lives(bench, set(lying_at(base, WHOLE)) - lasting | mortal)
            apply(bench, plant(bench, base), *here(bench, writes))
            _lives(bench, mortal)


@law(needs=_NEEDS)
def a_deleted_part_leaves_the_other_lives(bench: Bench) -> None:
    """What is left of a document of which a part is deleted, cleared or replaced keeps its life."""
    for base in BASES:
        for place, scope in product(places_around(base), Scope):
            for kind in (Delete, Wake):
                there = plant(bench, base, WHOLE, LONG)
                there = apply(bench, there, kind(bench.key(*place), scope))
                _lives(bench, set(there) & set(lying_at(base, WHOLE)))


@law(needs=_NEEDS)
def expire_gives_its_scope_a_life(bench: Bench) -> None:
    """Expire gives its scope a life, or none, above, at, in and deep in a document, and leaves all others alone."""
    for base in BASES:
        for place, scope in product(places_around(base), Scope):
            at = f"after Expire at {place!r}, {scope.name}"
            there = plant(bench, base)
            bench.store.apply(Expire(bench.key(*place), scope, LONG))
            bench.expect(there)
            lives = bench.store.lives(bench.key())
            mortal = {place + path for path in within(there, place, scope)}
            require_equal(set(lives), mortal, f"{at}, those that have a life are")
            require(all(0 < life <= LONG for life in lives.values()), f"{at}, lives of {LONG} ms are {lives!r}")
            there = plant(bench, base, WHOLE, LONG)
            bench.store.apply(Expire(bench.key(*place), scope, None))
            bench.expect(there)
            lasting = {place + path for path in within(there, place, scope)}
            left = set(lying_at(base, WHOLE)) - lasting
            require_equal(set(bench.store.lives(bench.key())), left, f"{at} for ever, those that have a life are")


@law(needs=_NEEDS)
def a_part_may_end_alone(bench: Bench) -> None:
    """A part of a document that was given a shorter life ends alone, and one that was given a longer one stays."""
    for base in _bases(bench):
        parts = [(("leaf",), Scope.NODE), (("inner", "deep"), Scope.SUBTREE), (("inner",), Scope.BELOW)]
        for path, scope in parts:
            for life in (None, LONG):
                place = (*base, *path)
                there = plant(bench, base, WHOLE, life)
                bench.store.apply(Expire(bench.key(*place), scope, SHORT))
                bench.outlive()
                left = without(there, place, scope)
                bench.expect(left)
                look(bench, left, places_around(base))
                fetch(bench, bench.store, left, places_around(base))
                there = plant(bench, base, WHOLE, SHORT)
                bench.store.apply(Expire(bench.key(*place), scope, life))
                bench.outlive()
                stays = {place + below: value for below, value in within(there, place, scope).items()}
                bench.expect({**without(there, base, Scope.SUBTREE), **stays})


@law(needs=_NEEDS)
def an_expired_one_is_gone(bench: Bench) -> None:
    """An expired document is gone for every check, read, page and name, for the short ways, and for other clients."""
    other = bench.client()
    for base in _bases(bench):
        there = plant(bench, base, WHOLE, SHORT)
        for client in (bench.store, other):
            client.fetch_document(bench.key(*base))
            client.fetch(key_in(bench, base, "leaf"))
        bench.outlive()
        left = without(there, base, Scope.SUBTREE)
        for place in places_around(base):
            key = bench.key(*place)
            for scope in Scope:
                now = within(left, place, scope)
                require(bench.store.holds(Exactly(key, scope, now)), "Exactly of the live values fails")
                if now != within(there, place, scope):
                    was = Exactly(key, scope, within(there, place, scope))
                    require(not bench.store.holds(was), f"Exactly of an expired document holds at {place!r}")
                wanted = all(value.startswith(b"x") for value in now.values())
                require_equal(bench.store.holds(Prefixed(key, scope, b"x")), wanted, f"Prefixed at {place!r} holds")
                for limit in (1, 3, 1000):
                    found = dict(walk(bench.store, Read(key, scope, limit), many(len(now))))
                    require_equal(found, now, f"a walk at {place!r} beside an expired document finds")
            names = walk_names(bench.store, ReadNames(key, 1), many(len(left)))
            require_equal(set(names), bench.store.names(key), f"a walk over names at {place!r} finds")
        for client in (bench.store, other):
            look(bench, left, places_around(base), client)
            fetch(bench, client, left, places_around(base))
            for path in leaves_of(WHOLE):
                require(client.fetch(key_in(bench, base, *path)) is None, f"an expired leaf {path!r} is fetched")
        bench.expect(left)


@law(needs=_NEEDS)
def nothing_keeps_an_expired_one(bench: Bench) -> None:
    """Add in an expired document counts from 0, keep_life keeps none, and no write brings any other leaf back."""
    for base in _bases(bench):
        key = bench.key(*base)
        changes: Sequence[Sequence[Write]] = (
            [Add(key_in(bench, base, "count"), 7)],
            [Add(key_in(bench, base, "in"), 7)],
            [Put(key_in(bench, base, "leaf"), b"new", SHORT, keep_life=True)],
            [Put(key_in(bench, base, "inner", "leaf"), b"new"), Put(key_in(bench, base, "new"), b"new")],
            [Put(key_in(bench, base, "leaf", "below"), b"below a leaf that was")],
            [Put(key, b"above all")],
            [Put(key_in(bench, base, "inner"), b"above some")],
            [putting(bench, (*base, "inner"), OTHER)],
            [putting(bench, (*base, "leaf", "below"), OTHER)],
            [putting(bench, base, OTHER)],
            [Delete(key_in(bench, base, "inner"), Scope.SUBTREE), Add(key_in(bench, base, "inner", "leaf"), 1)],
            *[[Delete(bench.key(*place), scope)] for place in ((*base, "inner"), base) for scope in Scope],
        )
        for writes in changes:
            left = without(plant(bench, base, WHOLE, SHORT), base, Scope.SUBTREE)
            bench.outlive()
            left = apply(bench, left, *here(bench, writes))
            _lives(bench, ())
            bench.store.apply(Expire(bench.key(), Scope.SUBTREE, None))
            bench.expect(left)
            fetch(bench, bench.store, left, places_around(base))
            _is_empty_after_deletes(bench, left)


@law(needs=_NEEDS)
def expire_cannot_bring_it_back(bench: Bench) -> None:
    """Expire gives no life to an expired document, above, at and in it, nor does a transaction that is refused."""
    places = [place for place in places_around(("doc",)) if place]
    cases = [(f"n{number}", place, scope) for number, (place, scope) in enumerate(product(places, Scope))]
    for life in (None, LONG):
        # All in one transaction, since a store may remove what has expired after any.
        around: Sequence[Sequence[tuple[Path, Scope]]] = (
            [((name, *place), scope) for name, place, scope in cases],
            *([((), scope)] for scope in Scope),
            *([((name,), scope) for name, _, _ in cases] for scope in Scope),
        )
        for scopes in around:
            bench.renew()
            bench.store.apply(*[putting(bench, (name, "doc"), WHOLE, SHORT) for name, _, _ in cases])
            bench.outlive()
            writes: list[Write] = [Expire(bench.key(*place), scope, life) for place, scope in scopes]
            text = bench.key("n0", "doc", "leaf")
            outcome = bench.store.run(writes=[*writes, Put(text, b"x"), Add(text, 1)])
            require_equal(outcome.verdict, Verdict.NOT_A_COUNTER, "the verdict")
            bench.expect({})
            bench.store.apply(*writes)
            bench.expect({})


@law(needs=_NEEDS)
def it_may_be_claimed_anew(bench: Bench) -> None:
    """A check for absence holds for an expired document, and the document that is put with it is all that is there."""
    for base in _bases(bench):
        left = without(plant(bench, base, WHOLE, SHORT), base, Scope.SUBTREE)
        bench.outlive()
        free = Exactly(bench.key(*base), Scope.SUBTREE, NOTHING)
        outcome = bench.store.run(checks=[free], writes=[putting(bench, base, OTHER, LONG)])
        require(outcome.applied, f"an expired document at {base!r} counts in a check")
        there = {**left, **lying_at(base, OTHER)}
        bench.expect(there)
        require(not bench.store.holds(free), "a check for absence holds for a document")
        fetch(bench, bench.store, there, places_around(base))
        _lives(bench, lying_at(base, OTHER))


@law(needs=_NEEDS)
def a_refused_counter_changes_none_of_its_lives(bench: Bench) -> None:
    """If a counter is refused, a document that would have been changed has all its lives as they were."""
    for base in _bases(bench):
        changes: Sequence[Sequence[Write]] = (
            [Put(key_in(bench, base, "leaf"), b"1")],
            [Put(key_in(bench, base, "inner", "leaf"), b"1", SHORT)],
            [Expire(key_in(bench, base, "inner"), Scope.BELOW, SHORT), Add(key_in(bench, base, "count"), 1)],
            [Expire(bench.key(), Scope.SUBTREE, SHORT)],
            [putting(bench, (*base, "inner"), OTHER, SHORT)],
            [putting(bench, base, WHOLE, SHORT)],
        )
        for writes, life in product(changes, (None, LONG)):
            there = plant(bench, base, WHOLE, life)
            outcome = bench.store.run(writes=[*here(bench, writes), Add(key_in(bench, base, "in"), 1)])
            require_equal(outcome.verdict, Verdict.NOT_A_COUNTER, "the verdict")
            bench.outlive()
            bench.expect(there)
            _lives(bench, () if life is None else lying_at(base, WHOLE))


@law(needs=_NEEDS)
def writes_to_its_lives_take_effect_in_order(bench: Bench) -> None:
    """Of writes that give a document and its parts lives in one transaction, each sees the ones before."""
    base = ("d", "doc")
    leaf, inner, all_of_it = ("leaf",), ("inner", "leaf"), set(leaves_of(WHOLE))
    in_inner = {path for path in all_of_it if path[0] == "inner"}
    short, long, lasting = (putting(bench, base, WHOLE, life) for life in (SHORT, LONG, None))
    at = bench.key(*base)
    cases: Sequence[tuple[Sequence[Write], Iterable[Path], Iterable[Path]]] = (
        ([short, lasting], all_of_it, ()),
        ([lasting, short], (), ()),
        ([short, Expire(at, Scope.BELOW, LONG)], all_of_it, all_of_it),
        ([long, Expire(at, Scope.SUBTREE, None)], all_of_it, ()),
        ([short, Expire(at, Scope.NODE, None)], (), ()),
        ([short, Put(bench.key(*base, *leaf), b"1")], {leaf}, ()),
        ([short, Put(bench.key(*base, *leaf), b"1", None, keep_life=True)], (), ()),
        ([long, Put(bench.key(*base, *leaf), b"1", None, keep_life=True)], all_of_it, all_of_it),
        ([Put(bench.key(*base, *leaf), b"1", LONG), lasting], all_of_it, ()),
        ([lasting, Expire(bench.key(*base, "inner"), Scope.BELOW, LONG), Delete(at, Scope.NODE)], all_of_it, in_inner),
        ([short, Expire(bench.key(*base, *inner), Scope.SUBTREE, LONG), Delete(at, Scope.NODE)], {inner}, {inner}),
        (
            [short, Add(bench.key(*base, "count"), 1), Expire(bench.key(*base, "count"), Scope.NODE, None)],
            {("count",)},
            (),
        ),
    )
    for writes, stays, mortal in cases:
        bench.renew()
        bench.store.apply(*here(bench, writes))
        bench.outlive()
        left = set(bench.store.read(bench.key(*base)))
        require_equal(left, set(stays), f"after {[type(write).__name__ for write in writes]} what is left is")
        require_equal(set(bench.store.lives(bench.key(*base))), set(mortal), "those that have a life are")
        fetch(bench, bench.store, bench.store.read(bench.key()), [base])


def _bases(bench: Bench) -> Sequence[Path]:
    """Return where documents are put, one place if lives are really waited for."""
    return BASES[1:2] if bench.harness.waits and not bench.thorough else BASES


def _lives(bench: Bench, mortal: Iterable[Path], above: int = 0, most: int = LONG) -> None:
    """Insist that just these have a life, between two numbers of milliseconds."""
    lives = bench.store.lives(bench.key())
    require_equal(set(lives), set(mortal), "those that have a life are")
    require(all(above < life <= most for life in lives.values()), f"lives of {most} ms are now {lives!r}")


def _page_lives(bench: Bench, place: Path, scope: Scope, limit: int, mortal: Mapping[Path, bytes]) -> None:
    read = Read(bench.key(*place), scope, limit, lives=True)
    lives: set[Path] = set()
    for _ in range(many(50)):
        page = bench.store.entries(read)
        lives |= set(page.lives)
        if page.cursor is None:
            break
        read = read._replace(cursor=page.cursor)
    require_equal(lives, set(mortal), f"lives in pages at {place!r}, {scope.name}, limit {limit}, are")


def _is_empty_after_deletes(bench: Bench, left: Mapping[Path, bytes]) -> None:
    """Delete what is there, one by one, and insist that nothing else comes to light."""
    for path in left:
        bench.store.apply(Delete(bench.key(*path), Scope.NODE))
    bench.expect({})
