"""What has expired is gone: for every check, read, page and write, although its bytes may still be there."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

from collections.abc import Iterable, Mapping

from redicts.contract.bench import LONG, SHORT, Bench
from redicts.contract.law import Need, law, require, require_equal
from redicts.contract.trees import TREE, huge, large, names_below, scopes, within
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
)

_GONE = (("leaf",), ("inner", "deep", "a"), ("inner", "deep", "b", "c", "d"), ("innermost", "leaf"))


@law(needs=[Need.LIFE])
def exactly_does_not_see_it(bench: Bench) -> None:
    """Exactly holds for what is left, in every scope, and fails for what was there before."""
    left = _partly_expired(bench)
    for place, scope in scopes():
        key, now, before = bench.key(*place), within(left, place, scope), within(TREE, place, scope)
        require(
            bench.store.holds(Exactly(key, scope, now)), f"Exactly of the live values fails at {place!r}, {scope.name}"
        )
        if before != now:
            holds = bench.store.holds(Exactly(key, scope, before))
            require(not holds, f"Exactly of expired values holds at {place!r}, {scope.name}")


@law(needs=[Need.LIFE])
def it_is_not_fetched(bench: Bench) -> None:
    """What has expired is not fetched, by whoever has fetched it before; what got a new life is, or nothing is said."""
    keys = [bench.key(name) for name in ("gone", "renewed")]
    bench.store.apply(*[Put(key, b"1", SHORT) for key in keys])
    for key in keys:
        bench.store.fetch(key)
    bench.outlive()
    bench.store.apply(Put(keys[1], b"2", LONG))
    require(bench.store.fetch(keys[0]) is None, "an expired value is fetched")
    require(bench.store.fetch(keys[1]) in (b"2", None), "what is fetched is not the value that was put last")


@law(needs=[Need.LIFE])
def absence_can_be_claimed(bench: Bench) -> None:
    """A check for absence holds for an expired value, and the write with it is applied: so leases are taken over."""
    for path in (("a",), ("d", "a"), ("d", "e", "f", "a")):
        bench.store.apply(Put(bench.key(*path), b"theirs", SHORT))
    bench.outlive()
    for path in (("a",), ("d", "a"), ("d", "e", "f", "a")):
        outcome = bench.store.run(
            checks=[
                Exactly(bench.key(*path), Scope.SUBTREE, NOTHING),
                Prefixed(bench.key(path[0]), Scope.SUBTREE, b"mine"),
            ],
            writes=[Put(bench.key(*path), b"mine", LONG)],
        )
        require(outcome.applied, f"an expired value at {path!r} counts in a check")
    bench.expect({("a",): b"mine", ("d", "a"): b"mine", ("d", "e", "f", "a"): b"mine"})


@law(needs=[Need.LIFE])
def prefixed_does_not_see_it(bench: Bench) -> None:
    """Prefixed looks at live values only, in every scope."""
    bench.plant(TREE)
    bench.store.apply(*bench.puts(dict.fromkeys(_GONE, b"foreign"), SHORT))
    bench.outlive()
    for place, scope in scopes():
        left = {path: value for path, value in within(TREE, place, scope).items() if place + path not in _GONE}
        holds = bench.store.holds(Prefixed(bench.key(*place), scope, b"1"))
        wanted = all(value.startswith(b"1") for value in left.values())
        require_equal(holds, wanted, f"Prefixed at {place!r}, {scope.name}, where {left!r} is left, holds")
    bench.plant({("a", "b"): b"foreign", ("c",): b"foreign"}, SHORT)
    bench.outlive()
    for place in ((), ("a",), ("a", "b"), ("c",)):
        for scope in Scope:
            holds = bench.store.holds(Prefixed(bench.key(*place), scope, b"mine"))
            require(holds, f"Prefixed at {place!r}, {scope.name} counts an expired value")


@law(needs=[Need.LIFE])
def reads_do_not_see_it(bench: Bench) -> None:
    """Reads return live values only, in every scope, and no lives of others."""
    left = _partly_expired(bench)
    for place, scope in scopes():
        for lives in (False, True):
            answer = bench.store.entries(Read(bench.key(*place), scope, lives=lives))
            require_equal(
                dict(answer.values), within(left, place, scope), f"live values at {place!r}, {scope.name} are"
            )
            require_equal(dict(answer.lives), {}, f"lives at {place!r}, {scope.name} are")


@law(needs=[Need.LIFE])
def names_do_not_show_it(bench: Bench) -> None:
    """A name is gone when the last live value at or below it is; names of dicts on the way to it as well."""
    left = _partly_expired(bench)
    for place, _ in scopes():
        require_equal(bench.store.names(bench.key(*place)), names_below(left, place), f"the names below {place!r} are")
    bench.plant({("a", "b", "c", "d"): b"1", ("a", "e"): b"2"}, SHORT)
    bench.store.apply(Put(bench.key("z"), b"3"))
    bench.outlive()
    bench.expect({("z",): b"3"})
    for place in (("a",), ("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d")):
        require_equal(bench.store.names(bench.key(*place)), set(), f"the names below {place!r} are")


@law(needs=[Need.LIFE])
def pages_do_not_show_it(bench: Bench) -> None:
    """The pages of a walk hold each live value once and no other, of values and of names, with every limit."""
    for tree, limits in ((large(), (3, 50, 1000)), (huge(), (100,))):
        bench.plant(tree)
        gone = [path for number, path in enumerate(tree) if number % 5 and path[0] != "bushy"]
        for start in range(0, len(gone), 1000):
            bench.store.apply(*(Put(bench.key(*path), b"1", SHORT) for path in gone[start : start + 1000]))
        bench.outlive()
        left = _left(tree, gone)
        for limit in limits:
            found = walk(bench.store, Read(bench.key(), Scope.SUBTREE, limit), many(len(tree)))
            require_equal(sorted(found), sorted(left.items()), f"a walk with the limit {limit} finds")
            names = walk_names(bench.store, ReadNames(bench.key("wide"), limit), many(len(tree)))
            require_equal(
                sorted(names), sorted(names_below(left, ("wide",))), f"a walk over names, limit {limit}, finds"
            )


@law(needs=[Need.LIFE])
def add_counts_from_zero(bench: Bench) -> None:
    """Add to an expired value counts from 0, whatever the value was, and the sum lasts for ever."""
    bench.plant({("d", "count"): b"41", ("d", "text"): b"no counter", ("d", "most"): b"%d" % (2**63 - 1)}, SHORT)
    bench.outlive()
    keys = [bench.key("d", name) for name in ("count", "text", "most")]
    require_equal(bench.store.apply(*(Add(key, 1) for key in keys)).sums, (1, 1, 1), "the sums of expired counters are")
    require_equal(dict(bench.store.lives(bench.key())), {}, "the lives of counters that began anew are")
    bench.outlive()
    bench.expect({("d", "count"): b"1", ("d", "text"): b"1", ("d", "most"): b"1"})


@law(needs=[Need.LIFE])
def keep_life_keeps_none_of_it(bench: Bench) -> None:
    """Put with keep_life over an expired value makes a new one that lasts for ever."""
    bench.plant({("a",): b"old", ("d", "b"): b"old"}, SHORT)
    bench.outlive()
    bench.store.apply(*(Put(bench.key(*path), b"new", SHORT, keep_life=True) for path in (("a",), ("d", "b"))))
    require_equal(dict(bench.store.lives(bench.key())), {}, "the lives after keep_life over expired values are")
    bench.outlive()
    bench.expect({("a",): b"new", ("d", "b"): b"new"})


@law(needs=[Need.LIFE])
def put_begins_anew(bench: Bench) -> None:
    """Put over an expired value stores a new one, with its own life or none, that the old one's end cannot touch."""
    bench.plant({("a",): b"old", ("d", "b"): b"old", ("d", "c"): b"old"}, SHORT)
    bench.outlive()
    bench.store.apply(
        Put(bench.key("a"), b"new"), Put(bench.key("d", "b"), b"new", LONG), Put(bench.key("d", "c"), b"", SHORT)
    )
    require_equal(set(bench.store.lives(bench.key())) - {("d", "c")}, {("d", "b")}, "those that have a life are")
    bench.outlive()
    bench.expect({("a",): b"new", ("d", "b"): b"new"})


@law(needs=[Need.LIFE])
def delete_of_it_does_nothing(bench: Bench) -> None:
    """Deleting expired values is no error, alone and among live ones, and they stay gone."""
    for scope in Scope:
        left = _partly_expired(bench)
        bench.store.apply(*(Delete(bench.key(*path), scope) for path in _GONE))
        bench.expect(left)
    for scope in (Scope.BELOW, Scope.SUBTREE):
        _partly_expired(bench)
        bench.store.apply(Delete(bench.key(), scope))
        bench.expect({})


@law(needs=[Need.LIFE])
def expire_cannot_bring_it_back(bench: Bench) -> None:
    """Expire gives no life to what has expired: not a new one, not an endless one, in no scope."""
    for life in (None, LONG):
        for scope in Scope:
            left = _partly_expired(bench)
            places = {path[:depth] for path in _GONE for depth in range(len(path) + 1)}
            bench.store.apply(*(Expire(bench.key(*place), scope, life) for place in sorted(places)))
            bench.expect(left)


@law(needs=[Need.LIFE])
def a_refused_transaction_cannot_bring_it_back(bench: Bench) -> None:
    """What has expired stays gone when a transaction over it is refused and undone."""
    left = _partly_expired(bench)
    writes = [Put(bench.key(*path), b"1", keep_life=True) for path in _GONE]
    text = bench.key("other", "inner", "text")
    outcome = bench.store.run(
        writes=[*writes, Delete(bench.key("inner"), Scope.SUBTREE), Put(text, b"x"), Add(text, 1)]
    )
    require_equal(outcome.verdict, Verdict.NOT_A_COUNTER, "the verdict")
    bench.expect(left)


@law(needs=[Need.LIFE])
def it_makes_way_for_values_below(bench: Bench) -> None:
    """An expired leaf does not stand in the way of a value below it, though nobody deleted the leaf."""
    bench.plant({("a",): b"leaf", ("d", "b"): b"leaf"}, SHORT)
    bench.outlive()
    new = {("a", "x"): b"1", ("d", "b", "y", "z"): b"2"}
    bench.store.apply(*bench.puts(new))
    bench.expect(new)
    bench.store.apply(Expire(bench.key(), Scope.SUBTREE, None))
    bench.expect(new)
    bench.store.apply(Delete(bench.key("a", "x"), Scope.NODE), Delete(bench.key("d"), Scope.SUBTREE))
    bench.expect({})


@law(needs=[Need.LIFE])
def it_makes_way_for_a_value_above(bench: Bench) -> None:
    """An expired subtree does not stand in the way of a leaf at its root, nor come back when the leaf goes."""
    bench.plant({("a", "x"): b"1", ("a", "y", "z"): b"2", ("d", "b", "c"): b"3"}, SHORT)
    bench.outlive()
    new = {("a",): b"leaf", ("d", "b"): b"leaf"}
    bench.store.apply(*bench.puts(new))
    bench.expect(new)
    bench.store.apply(Delete(bench.key("a"), Scope.NODE), Delete(bench.key("d", "b"), Scope.NODE))
    bench.expect({})
    again: dict[Path, bytes] = {("a", "y", "new"): b"4", ("d", "b", "new"): b"5"}
    bench.store.apply(*bench.puts(again))
    bench.expect(again)


def _partly_expired(bench: Bench) -> Mapping[Path, bytes]:
    """Go on in a fresh space in which some values of the tree have expired; return those that are left."""
    bench.plant(TREE)
    bench.store.apply(*(Put(bench.key(*path), TREE[path], SHORT) for path in _GONE))
    bench.outlive()
    return _left(TREE, _GONE)


def _left(tree: Mapping[Path, bytes], gone: Iterable[Path]) -> dict[Path, bytes]:
    lost = set(gone)
    return {path: value for path, value in tree.items() if path not in lost}
