"""Expiry: an expired value is absent for every condition, read, page and write, even if its bytes are still stored."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from collections.abc import Iterable, Mapping

from redicts.contract.check import Need, conformance_check
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.requirements import require, require_equal
from redicts.contract.trees import TREE, huge, large, names_below
from redicts.contract.walk import many, walk, walk_names
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Equals,
    Expire,
    Path,
    Put,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
)

_GONE = (("leaf",), ("inner", "deep", "a"), ("inner", "deep", "b", "c", "d"), ("innermost", "leaf"))


@conformance_check(needs=[Need.TTL])
def an_expired_value_is_absent(fixture: Fixture) -> None:
    """A condition for absence holds for an expired value, so that a lease can be taken over.

    Lets values end, lists the names beside them, and takes their keys under the condition that nothing is there. Stores
    a value below another one.
    """
    fixture.store.apply(Put(fixture.key("n", "stays", "x"), b"1"))
    for path in (("a",), ("d", "a"), ("d", "e", "f", "a"), ("n", "ends", "x"), ("n", "ends", "y"), ("leaf",)):
        fixture.store.apply(Put(fixture.key(*path), b"theirs", SHORT))
    fixture.outlive()
    require_equal(fixture.store.names(fixture.key("n")), {"stays"}, "beside expired values, the names are")
    fixture.store.apply(Put(fixture.key("leaf", "below"), b"1"))
    stay: dict[Path, bytes] = {("n", "stays", "x"): b"1", ("leaf", "below"): b"1"}
    for path in (("a",), ("d", "a"), ("d", "e", "f", "a")):
        outcome = fixture.store.run(
            checks=[
                Equals(fixture.key(*path), Scope.SUBTREE, NOTHING),
                StartsWith(fixture.key(path[0]), Scope.SUBTREE, b"mine"),
            ],
            writes=[Put(fixture.key(*path), b"mine", LONG)],
        )
        require(outcome.applied, f"an expired value at {path!r} counts in a check")
    fixture.expect({**stay, ("a",): b"mine", ("d", "a"): b"mine", ("d", "e", "f", "a"): b"mine"})


@conformance_check(needs=[Need.TTL])
def pages_do_not_show_it(fixture: Fixture) -> None:
    """A walk over values or names finds each live one once and no expired one, with every limit.

    Lets four in five values of a large tree end, and walks over values and names with several limits.
    """
    for tree, limits in ((large(), (3, 50, 1000)), (huge(), (100,))):
        fixture.plant(tree)
        gone = [path for number, path in enumerate(tree) if number % 5 and path[0] != "bushy"]
        for start in range(0, len(gone), 1000):
            fixture.store.apply(*(Put(fixture.key(*path), b"1", SHORT) for path in gone[start : start + 1000]))
        fixture.outlive()
        left = _left(tree, gone)
        for limit in limits:
            found = walk(fixture.store, Read(fixture.key(), Scope.SUBTREE, limit), many(len(tree)))
            require_equal(sorted(found), sorted(left.items()), f"a walk with the limit {limit} finds")
            names = walk_names(fixture.store, ReadNames(fixture.key("wide"), limit), many(len(tree)))
            require_equal(
                sorted(names), sorted(names_below(left, ("wide",))), f"a walk over names, limit {limit}, finds"
            )


@conformance_check(needs=[Need.TTL])
def add_counts_from_zero(fixture: Fixture) -> None:
    """Add to an expired value counts from 0, whatever the value was, and the result has no TTL.

    Adds to a counter, a text and the largest counter that have expired, and to a counter that was made by Adds.
    """
    fixture.plant({("d", "count"): b"41", ("d", "text"): b"no counter", ("d", "most"): b"%d" % (2**63 - 1)}, SHORT)
    made = fixture.key("d", "made")
    for _ in range(3):
        fixture.store.apply(Add(made, 5))
    fixture.store.apply(Expire(made, Scope.NODE, SHORT))
    fixture.outlive()
    keys = [made, *[fixture.key("d", name) for name in ("count", "text", "most")]]
    counters = [fixture.store.apply(Add(key, 1)).counters for key in keys]
    require_equal(counters, [(1,)] * 4, "the counters of expired counters are")
    require_equal(dict(fixture.store.ttls(fixture.key())), {}, "the TTLs of counters that began again are")
    fixture.outlive()
    fixture.expect({key.path: b"1" for key in keys})


@conformance_check(needs=[Need.TTL])
def keep_ttl_keeps_none_of_it(fixture: Fixture) -> None:
    """Put with keep_ttl over an expired value stores a value without expiry.

    Puts with keep_ttl over expired values and waits once more.
    """
    fixture.plant({("a",): b"old", ("d", "b"): b"old"}, SHORT)
    fixture.outlive()
    fixture.store.apply(*(Put(fixture.key(*path), b"new", SHORT, keep_ttl=True) for path in (("a",), ("d", "b"))))
    require_equal(dict(fixture.store.ttls(fixture.key())), {}, "the TTLs after keep_ttl over expired values are")
    fixture.outlive()
    fixture.expect({("a",): b"new", ("d", "b"): b"new"})


@conformance_check(needs=[Need.TTL])
def put_stores_a_new_value(fixture: Fixture) -> None:
    """Put over an expired value stores a new one, which the end of the old TTL does not affect.

    Puts over expired values with and without a TTL, and waits once more.
    """
    fixture.plant({("a",): b"old", ("d", "b"): b"old", ("d", "c"): b"old"}, SHORT)
    fixture.outlive()
    fixture.store.apply(
        Put(fixture.key("a"), b"new"), Put(fixture.key("d", "b"), b"new", LONG), Put(fixture.key("d", "c"), b"", SHORT)
    )
    require_equal(set(fixture.store.ttls(fixture.key())) - {("d", "c")}, {("d", "b")}, "the paths with a TTL are")
    fixture.outlive()
    fixture.expect({("a",): b"new", ("d", "b"): b"new"})


@conformance_check(needs=[Need.TTL])
def delete_of_it_does_nothing(fixture: Fixture) -> None:
    """Deleting expired values is not an error, alone and with live ones, and they stay absent.

    Deletes expired values in each scope, among others that are alive.
    """
    for scope in Scope:
        left = _partly_expired(fixture)
        fixture.store.apply(*(Delete(fixture.key(*path), scope) for path in _GONE))
        fixture.expect(left)
    for scope in (Scope.BELOW, Scope.SUBTREE):
        _partly_expired(fixture)
        fixture.store.apply(Delete(fixture.key(), scope))
        fixture.expect({})


@conformance_check(needs=[Need.TTL])
def a_refused_transaction_cannot_bring_it_back(fixture: Fixture) -> None:
    """An expired value stays absent when a transaction over it is refused.

    Puts with keep_ttl over expired values in a transaction that is refused.
    """
    left = _partly_expired(fixture)
    writes = [Put(fixture.key(*path), b"1", keep_ttl=True) for path in _GONE]
    text = fixture.key("other", "inner", "text")
    outcome = fixture.store.run(
        writes=[*writes, Delete(fixture.key("inner"), Scope.SUBTREE), Put(text, b"x"), Add(text, 1)]
    )
    require_equal(outcome.status, Status.NOT_A_COUNTER, "the status")
    fixture.expect(left)


@conformance_check(needs=[Need.TTL])
def it_makes_way_for_values_below(fixture: Fixture) -> None:
    """A value can be written below an expired leaf that was not deleted, and below one that was, before its end.

    Writes below leaves that have expired, renews them and deletes them. Then writes below leaves that were deleted
    before their end, and goes on writing after it.
    """
    fixture.plant({("a",): b"leaf", ("d", "b"): b"leaf"}, SHORT)
    fixture.outlive()
    new: dict[Path, bytes] = {("a", "x"): b"1", ("d", "b", "y", "z"): b"2"}
    fixture.store.apply(*fixture.puts(new))
    fixture.expect(new)
    fixture.store.apply(Expire(fixture.key(), Scope.SUBTREE, None))
    fixture.expect(new)
    fixture.store.apply(Delete(fixture.key("a", "x"), Scope.NODE), Delete(fixture.key("d"), Scope.SUBTREE))
    fixture.expect({})
    fixture.plant({("a",): b"leaf", ("d", "b"): b"leaf"}, SHORT)
    deletes = [Delete(fixture.key(*path), Scope.NODE) for path in (("a",), ("d", "b"))]
    fixture.store.apply(*deletes, *fixture.puts(new))
    fixture.outlive()
    for number in range(3):  # each of which frees expired values
        new[("other", f"n{number}")] = b"3"
        fixture.store.apply(Put(fixture.key("other", f"n{number}"), b"3"))
    fixture.expect(new)


@conformance_check(needs=[Need.TTL])
def it_makes_way_for_a_value_above(fixture: Fixture) -> None:
    """A value can be written above expired ones, stays when they are freed, and can be deleted before that.

    Writes and deletes values where expired ones are below, and reads them after those have been freed.
    """
    fixture.plant({("a", "x"): b"leaf", ("d", "b", "y", "z"): b"leaf", ("e", "x"): b"leaf"}, SHORT)
    fixture.outlive()
    new: dict[Path, bytes] = {("a",): b"1", ("d", "b"): b"2"}
    passing = fixture.key("e")
    fixture.store.apply(*fixture.puts(new), Put(passing, b"3"), Delete(passing, Scope.NODE))
    fixture.expect(new)
    for number in range(3):  # each of which frees expired values
        new[("other", f"n{number}")] = b"3"
        fixture.store.apply(Put(fixture.key("other", f"n{number}"), b"3"))
    fixture.expect(new)


def _partly_expired(fixture: Fixture) -> Mapping[Path, bytes]:
    """Continue in a new space in which some values of the tree have expired; return those that are left."""
    fixture.plant(TREE)
    fixture.store.apply(*(Put(fixture.key(*path), TREE[path], SHORT) for path in _GONE))
    fixture.outlive()
    return _left(TREE, _GONE)


def _left(tree: Mapping[Path, bytes], gone: Iterable[Path]) -> dict[Path, bytes]:
    lost = set(gone)
    return {path: value for path, value in tree.items() if path not in lost}
