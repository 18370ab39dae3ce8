"""What has expired is gone: for every check, read, page and write, although its bytes may still be there."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

from collections.abc import Iterable, Mapping

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.trees import TREE, huge, large, names_below, scopes, within
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
def equals_does_not_see_it(fixture: Fixture) -> None:
    """Exactly holds for what is left, in every scope, and fails for what was there before."""
    left = _partly_expired(fixture)
    for place, scope in scopes():
        key, now, before = fixture.key(*place), within(left, place, scope), within(TREE, place, scope)
        require(
            fixture.store.holds(Equals(key, scope, now)), f"Exactly of the live values fails at {place!r}, {scope.name}"
        )
        if before != now:
            holds = fixture.store.holds(Equals(key, scope, before))
            require(not holds, f"Exactly of expired values holds at {place!r}, {scope.name}")


@conformance_check(needs=[Need.TTL])
def it_is_not_fetched(fixture: Fixture) -> None:
    """What has expired is not fetched, by whoever has fetched it before; what got a new life is, or nothing is said."""
    keys = [fixture.key(name) for name in ("gone", "renewed")]
    fixture.store.apply(*[Put(key, b"1", SHORT) for key in keys])
    for key in keys:
        fixture.store.fetch(key)
    fixture.outlive()
    fixture.store.apply(Put(keys[1], b"2", LONG))
    require(fixture.store.fetch(keys[0]) is None, "an expired value is fetched")
    require(fixture.store.fetch(keys[1]) in (b"2", None), "what is fetched is not the value that was put last")


@conformance_check(needs=[Need.TTL])
def absence_can_be_claimed(fixture: Fixture) -> None:
    """A check for absence holds for an expired value, and the write with it is applied: so leases are taken over."""
    for path in (("a",), ("d", "a"), ("d", "e", "f", "a")):
        fixture.store.apply(Put(fixture.key(*path), b"theirs", SHORT))
    fixture.outlive()
    for path in (("a",), ("d", "a"), ("d", "e", "f", "a")):
        outcome = fixture.store.run(
            checks=[
                Equals(fixture.key(*path), Scope.SUBTREE, NOTHING),
                StartsWith(fixture.key(path[0]), Scope.SUBTREE, b"mine"),
            ],
            writes=[Put(fixture.key(*path), b"mine", LONG)],
        )
        require(outcome.applied, f"an expired value at {path!r} counts in a check")
    fixture.expect({("a",): b"mine", ("d", "a"): b"mine", ("d", "e", "f", "a"): b"mine"})


@conformance_check(needs=[Need.TTL])
def starts_with_does_not_see_it(fixture: Fixture) -> None:
    """Prefixed looks at live values only, in every scope."""
    fixture.plant(TREE)
    fixture.store.apply(*fixture.puts(dict.fromkeys(_GONE, b"foreign"), SHORT))
    fixture.outlive()
    for place, scope in scopes():
        left = {path: value for path, value in within(TREE, place, scope).items() if place + path not in _GONE}
        holds = fixture.store.holds(StartsWith(fixture.key(*place), scope, b"1"))
        wanted = all(value.startswith(b"1") for value in left.values())
        require_equal(holds, wanted, f"Prefixed at {place!r}, {scope.name}, where {left!r} is left, holds")
    fixture.plant({("a", "b"): b"foreign", ("c",): b"foreign"}, SHORT)
    fixture.outlive()
    for place in ((), ("a",), ("a", "b"), ("c",)):
        for scope in Scope:
            holds = fixture.store.holds(StartsWith(fixture.key(*place), scope, b"mine"))
            require(holds, f"Prefixed at {place!r}, {scope.name} counts an expired value")


@conformance_check(needs=[Need.TTL])
def reads_do_not_see_it(fixture: Fixture) -> None:
    """Reads return live values only, in every scope, and no TTLs of others."""
    left = _partly_expired(fixture)
    for place, scope in scopes():
        for ttls in (False, True):
            answer = fixture.store.entries(Read(fixture.key(*place), scope, ttls=ttls))
            require_equal(
                dict(answer.values), within(left, place, scope), f"live values at {place!r}, {scope.name} are"
            )
            require_equal(dict(answer.ttls), {}, f"lives at {place!r}, {scope.name} are")


@conformance_check(needs=[Need.TTL])
def names_do_not_show_it(fixture: Fixture) -> None:
    """A name is gone when the last live value at or below it is; names of dicts on the way to it as well."""
    left = _partly_expired(fixture)
    for place, _ in scopes():
        require_equal(
            fixture.store.names(fixture.key(*place)), names_below(left, place), f"the names below {place!r} are"
        )
    fixture.plant({("a", "b", "c", "d"): b"1", ("a", "e"): b"2"}, SHORT)
    fixture.store.apply(Put(fixture.key("z"), b"3"))
    fixture.outlive()
    fixture.expect({("z",): b"3"})
    for place in (("a",), ("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d")):
        require_equal(fixture.store.names(fixture.key(*place)), set(), f"the names below {place!r} are")


@conformance_check(needs=[Need.TTL])
def pages_do_not_show_it(fixture: Fixture) -> None:
    """The pages of a walk hold each live value once and no other, of values and of names, with every limit."""
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
    """Add to an expired value counts from 0, whatever the value was, and the sum lasts for ever."""
    fixture.plant({("d", "count"): b"41", ("d", "text"): b"no counter", ("d", "most"): b"%d" % (2**63 - 1)}, SHORT)
    fixture.outlive()
    keys = [fixture.key("d", name) for name in ("count", "text", "most")]
    require_equal(
        fixture.store.apply(*(Add(key, 1) for key in keys)).counters, (1, 1, 1), "the sums of expired counters are"
    )
    require_equal(dict(fixture.store.ttls(fixture.key())), {}, "the TTLs of counters that began again are")
    fixture.outlive()
    fixture.expect({("d", "count"): b"1", ("d", "text"): b"1", ("d", "most"): b"1"})


@conformance_check(needs=[Need.TTL])
def keep_ttl_keeps_none_of_it(fixture: Fixture) -> None:
    """Put with keep_life over an expired value makes a new one that lasts for ever."""
    fixture.plant({("a",): b"old", ("d", "b"): b"old"}, SHORT)
    fixture.outlive()
    fixture.store.apply(*(Put(fixture.key(*path), b"new", SHORT, keep_ttl=True) for path in (("a",), ("d", "b"))))
    require_equal(dict(fixture.store.ttls(fixture.key())), {}, "the lives after keep_life over expired values are")
    fixture.outlive()
    fixture.expect({("a",): b"new", ("d", "b"): b"new"})


@conformance_check(needs=[Need.TTL])
def put_begins_anew(fixture: Fixture) -> None:
    """Put over an expired value stores a new one, with its own TTL or none, that the old one's end cannot touch."""
    fixture.plant({("a",): b"old", ("d", "b"): b"old", ("d", "c"): b"old"}, SHORT)
    fixture.outlive()
    fixture.store.apply(
        Put(fixture.key("a"), b"new"), Put(fixture.key("d", "b"), b"new", LONG), Put(fixture.key("d", "c"), b"", SHORT)
    )
    require_equal(set(fixture.store.ttls(fixture.key())) - {("d", "c")}, {("d", "b")}, "those that have a TTL are")
    fixture.outlive()
    fixture.expect({("a",): b"new", ("d", "b"): b"new"})


@conformance_check(needs=[Need.TTL])
def delete_of_it_does_nothing(fixture: Fixture) -> None:
    """Deleting expired values is no error, alone and among live ones, and they stay gone."""
    for scope in Scope:
        left = _partly_expired(fixture)
        fixture.store.apply(*(Delete(fixture.key(*path), scope) for path in _GONE))
        fixture.expect(left)
    for scope in (Scope.BELOW, Scope.SUBTREE):
        _partly_expired(fixture)
        fixture.store.apply(Delete(fixture.key(), scope))
        fixture.expect({})


@conformance_check(needs=[Need.TTL])
def expire_cannot_bring_it_back(fixture: Fixture) -> None:
    """Expire gives no TTL to what has expired: not a new one, not an endless one, in no scope."""
    for ttl in (None, LONG):
        for scope in Scope:
            left = _partly_expired(fixture)
            places = {path[:depth] for path in _GONE for depth in range(len(path) + 1)}
            fixture.store.apply(*(Expire(fixture.key(*place), scope, ttl) for place in sorted(places)))
            fixture.expect(left)


@conformance_check(needs=[Need.TTL])
def a_refused_transaction_cannot_bring_it_back(fixture: Fixture) -> None:
    """What has expired stays gone when a transaction over it is refused and undone."""
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
    """An expired leaf does not stand in the way of a value below it, though nobody deleted the leaf."""
    fixture.plant({("a",): b"leaf", ("d", "b"): b"leaf"}, SHORT)
    fixture.outlive()
    new = {("a", "x"): b"1", ("d", "b", "y", "z"): b"2"}
    fixture.store.apply(*fixture.puts(new))
    fixture.expect(new)
    fixture.store.apply(Expire(fixture.key(), Scope.SUBTREE, None))
    fixture.expect(new)
    fixture.store.apply(Delete(fixture.key("a", "x"), Scope.NODE), Delete(fixture.key("d"), Scope.SUBTREE))
    fixture.expect({})


@conformance_check(needs=[Need.TTL])
def it_makes_way_for_a_value_above(fixture: Fixture) -> None:
    """An expired subtree does not stand in the way of a leaf at its root, nor come back when the leaf goes."""
    fixture.plant({("a", "x"): b"1", ("a", "y", "z"): b"2", ("d", "b", "c"): b"3"}, SHORT)
    fixture.outlive()
    new = {("a",): b"leaf", ("d", "b"): b"leaf"}
    fixture.store.apply(*fixture.puts(new))
    fixture.expect(new)
    fixture.store.apply(Delete(fixture.key("a"), Scope.NODE), Delete(fixture.key("d", "b"), Scope.NODE))
    fixture.expect({})
    again: dict[Path, bytes] = {("a", "y", "new"): b"4", ("d", "b", "new"): b"5"}
    fixture.store.apply(*fixture.puts(again))
    fixture.expect(again)


def _partly_expired(fixture: Fixture) -> Mapping[Path, bytes]:
    """Go on in a fresh space in which some values of the tree have expired; return those that are left."""
    fixture.plant(TREE)
    fixture.store.apply(*(Put(fixture.key(*path), TREE[path], SHORT) for path in _GONE))
    fixture.outlive()
    return _left(TREE, _GONE)


def _left(tree: Mapping[Path, bytes], gone: Iterable[Path]) -> dict[Path, bytes]:
    lost = set(gone)
    return {path: value for path, value in tree.items() if path not in lost}
