"""Pages: a walk over a large scope misses nothing, and repeats nothing if nothing changes."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from redicts.contract.check import Need, conformance_check
from redicts.contract.fixture import LONG, Fixture
from redicts.contract.form import entries_of, names_of
from redicts.contract.requirements import require, require_equal
from redicts.contract.trees import TREE, huge, large, names_below, scopes, within
from redicts.contract.walk import many, pages, require_walked, walk, walk_names
from redicts.core.minitransaction import (
    NOTHING,
    SMALL_PAGE,
    Delete,
    Equals,
    Path,
    Put,
    Read,
    ReadNames,
    Scope,
    Status,
    Write,
)

_Item = TypeVar("_Item", Path, str)

_CHANGES: Final = 100
"""After this many pages nothing changes any more, so that a walk over what is added meanwhile comes to an end."""

_LIMITS: Final = (7, 10_000)


@conformance_check()
def a_walk_stays_in_its_scope(fixture: Fixture) -> None:
    """Over its pages, a walk finds each value in its scope once and no other, in pages no larger than allowed.

    Walks over every scope of a small, a large and a huge tree, with limits from 1 to 10,000.
    """
    fixture.plant(TREE)
    for path, scope in scopes():
        for limit in (1, 3, 100):
            _walk(fixture, TREE, path, scope, limit)
    tree = large()
    fixture.plant(tree)
    for limit in _LIMITS:
        _walk(fixture, tree, (), Scope.SUBTREE, limit)
    for path in (("wide",), ("bushy",), ("bushy", "b", "y"), ("deep",), ("deep", "down", "down")):
        for scope in (Scope.BELOW, Scope.SUBTREE):
            _walk(fixture, tree, path, scope, 7)
    tree = huge()
    fixture.plant(tree)
    for limit in (100, SMALL_PAGE):
        _walk(fixture, tree, (), Scope.SUBTREE, limit)
    for limit in (1, 100, SMALL_PAGE, SMALL_PAGE + 500):
        page = fixture.store.entries(Read(fixture.key(), Scope.SUBTREE, limit))
        names = fixture.store.page_of_names(ReadNames(fixture.key("wide"), limit))
        require(page.cursor, f"a page of {len(page.values)} out of thousands of values has no cursor")
        require(names.cursor, f"a page of {len(names.names)} out of thousands of names has no cursor")


def _walk(fixture: Fixture, tree: Mapping[Path, bytes], path: Path, scope: Scope, limit: int) -> None:
    found = walk(fixture.store, Read(fixture.key(*path), scope, limit), many(len(tree)))
    require_walked(found, within(tree, path, scope), f"a walk at {path!r}, {scope.name} with the limit {limit}")


@conformance_check()
def a_walk_over_names_finds_each_once(fixture: Fixture) -> None:
    """A walk over names finds each name once, however many values lie below it.

    Walks over the names of wide, bushy and deep dicts with several limits, and one at a time where there are few.
    """
    some: dict[Path, bytes] = {("wide", f"n{number}"): b"1" for number in range(700)}
    # The last ones twice, for both kinds of spaces.
    for tree, limits in ((TREE, (1, 2)), (large(), _LIMITS), (huge(), (100, 1000)), (some, (100,)), (some, (100,))):
        fixture.plant(tree)
        for path in ((), ("wide",), ("dicts",), ("bushy",), ("deep", "down"), ("single",), ("inner", "deep")):
            names = names_below(tree, path)
            for limit in (1, *limits) if len(names) < 20 else limits:
                found = walk_names(fixture.store, ReadNames(fixture.key(*path), limit), many(len(names)))
                require_equal(
                    sorted(found), sorted(names), f"a walk over names at {path!r} with the limit {limit} finds"
                )


@conformance_check()
def pages_hold_hostile_names(fixture: Fixture) -> None:
    """A walk over values or names continues after any name, as a leaf and as a dict.

    Walks over every name of the harness, and over each pair of two, as leaves and as dicts, with small limits.
    """
    names = list(fixture.harness.names)
    longer = sorted({name + ending for name in names for ending in names[:12]})
    cases: list[tuple[dict[Path, bytes], tuple[int, ...]]] = [
        ({(name,): b"1" for name in names}, (1, 7)),
        ({(name, name): b"1" for name in names}, (1, 7)),
        ({(name,): b"1" for name in longer}, (100,)),
        ({(name, f"n{number}"): b"1" for name in names for number in range(12)}, (100,)),
    ]
    for tree, limits in cases:
        fixture.plant(tree)
        for limit in limits:
            found = walk(fixture.store, Read(fixture.key(), Scope.SUBTREE, limit), many(len(tree)))
            require_walked(found, tree, f"a walk over hostile names with the limit {limit}")
            listed = walk_names(fixture.store, ReadNames(fixture.key(), limit), many(len(tree)))
            expected = names_below(tree, ())
            require_equal(sorted(listed), sorted(expected), f"a walk over hostile names as names, limit {limit}, finds")


@conformance_check(needs=[Need.TTL])
def pages_tell_ttls(fixture: Fixture) -> None:
    """A walk with ttls returns the TTL of each value that has one.

    Walks over values of which every other has a TTL.
    """
    for size, limit in ((30, 7), (2000, 100)):
        fixture.plant({("d", f"n{number}"): b"" for number in range(size)})
        mortal: dict[Path, bytes] = {("d", f"n{number}"): b"" for number in range(0, size, 2)}
        fixture.store.apply(*fixture.puts(mortal, LONG))
        ttls: set[Path] = set()
        for page in pages([fixture.store], Read(fixture.key(), Scope.SUBTREE, limit, ttls=True), many(size)):
            ttls |= set(page.ttls)
        require_equal(ttls, set(mortal), "the paths with a TTL are")


@conformance_check()
def pages_come_with_any_status(fixture: Fixture) -> None:
    """A page shows the state before the writes of its transaction, and is returned if a condition fails.

    Reads pages in a transaction that deletes what they show, applied and refused.
    """
    tree: dict[Path, bytes] = {("d", f"n{number}"): b"1" for number in range(20)}
    fixture.plant(tree)
    wrong = Equals(fixture.key("d", "n0"), Scope.NODE, NOTHING)
    read, listing = Read(fixture.key("d"), Scope.BELOW, 7), ReadNames(fixture.key("d"), 7)
    for checks in ([wrong], []):
        writes: list[Write] = [Delete(fixture.key("d"), Scope.SUBTREE), Put(fixture.key("d", "new"), b"2")]
        outcome = fixture.store.run(checks=checks, reads=[read, listing], writes=writes)
        require_equal(outcome.status, Status.CHECK_FAILED if checks else Status.APPLIED, "the status")
        page, names = entries_of(outcome.answers[0]), names_of(outcome.answers[1])
        for name in [*(path[0] for path in page.values), *names.names]:
            require(("d", name) in tree, f"the page shows {name!r}, which was not there before the writes")
        require(
            page.cursor or len(page.values) == len(tree), f"a page of {len(page.values)} of 20 values has no cursor"
        )
        require(
            names.cursor or len(names.names) == len(tree), f"a page of {len(names.names)} of 20 names has no cursor"
        )
    fixture.expect({("d", "new"): b"2"})


@conformance_check()
def a_cursor_is_good_for_every_client(fixture: Fixture) -> None:
    """A cursor continues a walk in any client of the store, as often as it is used.

    Two clients read the pages of one walk in turn. Each goes on from the first cursor of a walk, over values and names.
    """
    tree = huge()
    fixture.plant(tree)
    clients = [fixture.store, fixture.client()]
    read = Read(fixture.key(), Scope.SUBTREE, 100)
    found = [entry for page in pages(clients, read, many(len(tree))) for entry in page.values.items()]
    require_walked(found, tree, "a walk of two clients in turn")
    read, of_names = read._replace(limit=SMALL_PAGE), ReadNames(fixture.key("wide"), SMALL_PAGE)
    page, names = fixture.store.entries(read), fixture.store.page_of_names(of_names)
    for client in clients:
        again = walk(client, read._replace(cursor=page.cursor), many(len(tree)))
        require_walked([*page.values.items(), *again], tree, "a walk that goes on twice from one cursor")
        others = walk_names(client, of_names._replace(cursor=names.cursor), many(len(tree)))
        expected = names_below(tree, ("wide",))
        require_equal({*names.names, *others}, expected, "a walk over names that goes on twice from one cursor finds")


@conformance_check()
def two_walks_do_not_meet(fixture: Fixture) -> None:
    """Walks at the same time, by one client and in one transaction, do not affect each other.

    Reads the pages of three walks in the same transactions.
    """
    tree: dict[Path, bytes] = {(name, f"n{number}"): b"1" for name in "ab" for number in range(1500)}
    fixture.plant(tree)
    paths: list[Path] = [("a",), ("b",), ()]
    reads = [Read(fixture.key(*path), Scope.SUBTREE, 100) for path in paths]
    found: list[list[tuple[Path, bytes]]] = [[] for _ in reads]
    going = dict(enumerate(reads))
    in_time = fixture.deadline()
    while going:
        in_time()
        answers = fixture.store.run(reads=list(going.values())).answers
        for number, page in zip(list(going), map(entries_of, answers)):
            found[number] += page.values.items()
            if page.cursor is None:
                del going[number]
            else:
                going[number] = going[number]._replace(cursor=page.cursor)
    for number, path in enumerate(paths):
        require_walked(found[number], within(tree, path, Scope.SUBTREE), f"a walk at {path!r} beside two others")


@conformance_check()
def what_stays_is_found_while_others_change(fixture: Fixture) -> None:
    """A walk finds every value that exists throughout, while others are added and deleted.

    Deletes and adds values after each page, and the last value of the page among them.
    """
    for size, limit in ((1, 1), (1, 7), (7, 100)):
        stays, comes = _staying(size), _coming(size)
        fixture.plant({**dict.fromkeys(stays, b"stays"), **dict.fromkeys(comes[::2], b"churn")})
        found: set[Path] = set()
        known = {*stays, *comes}
        for number, page in enumerate(
            pages([fixture.store], Read(fixture.key(), Scope.SUBTREE, limit), many(len(known)))
        ):
            found.update(page.values)
            if number < _CHANGES:
                _churn(fixture, comes, number, last=[path for path in list(page.values)[-1:] if path not in stays])
        missed = [path for path in stays if path not in found]
        require(not missed, f"a walk with the limit {limit} missed {missed[:5]!r}, which were there all the time")
        invented = [path for path in found if path not in known]
        require(not invented, f"a walk with the limit {limit} found {invented[:5]!r}, which never were there")


def _staying(size: int) -> set[Path]:
    paths: list[Path] = [("wide", f"n{number:04}") for number in range(0, 150 * size, 3)]
    paths += [("dicts", f"d{number:03}", leaf) for number in range(20 * size) for leaf in ("k", "m", "o")]
    paths += [("deep", *["down"] * depth, "m") for depth in range(20)]
    return set(paths)


def _coming(size: int) -> list[Path]:
    paths: list[Path] = [("wide", f"n{number:04}") for number in range(150 * size) if number % 3]
    paths += [("dicts", f"d{number:03}", leaf) for number in range(20 * size) for leaf in ("a", "l", "z")]
    paths += [("dicts", f"e{number:03}", "only", leaf) for number in range(20 * size) for leaf in ("a", "b")]
    paths += [("deep", *["down"] * depth, leaf) for depth in range(20) for leaf in ("a", "z")]
    return paths


def _churn(fixture: Fixture, comes: list[Path], number: int, last: list[Path]) -> None:
    """Delete some of what comes and goes, add some, and delete what the last page ended with, if that may go."""
    away, back = _chosen(comes, number)
    writes: list[Write] = [Delete(fixture.key(*path), Scope.NODE) for path in [*away, *last]]
    writes += [Put(fixture.key(*path), b"churn") for path in back]
    fixture.store.apply(*writes, Delete(fixture.key("dicts", f"e{number % 20:03}"), Scope.SUBTREE))


def _chosen(comes: list[_Item], number: int) -> tuple[list[_Item], list[_Item]]:
    """Return a twentieth of what comes and goes that shall go now, and another that shall come."""
    size = len(comes)
    away = [comes[(number * 17 + step * 20) % size] for step in range(size // 20)]
    back = [comes[(number * 29 + step * 20 + 7) % size] for step in range(size // 20)]
    return away, back
