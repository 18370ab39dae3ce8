"""Writes: what each does, in which order they take effect, and that it is all of them or none."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.trees import PLACES, TREE, large, scopes, within, without
from redicts.core.minitransaction import Add, Delete, Expire, Path, Put, Scope, Status, Write


@conformance_check()
def put_replaces_what_was_there(fixture: Fixture) -> None:
    """Put stores these bytes at exactly this key, over what was there, and nowhere else."""
    fixture.plant(TREE)
    for value in (b"new", b"", b"longer than before", b"0"):
        fixture.store.apply(Put(fixture.key("inner", "deep", "a"), value))
        fixture.expect({**TREE, ("inner", "deep", "a"): value})


@conformance_check()
def overwriting_is_a_put_or_nothing(fixture: Fixture) -> None:
    """Overwrite puts the value over one that is there, or it changes nothing and says so."""
    for place in PLACES:
        fixture.plant(TREE)
        written = bool(place) and fixture.store.overwrite(fixture.key(*place), b"new")
        require(not written or place in TREE, f"an overwriting of nothing at {place!r} is said to be done")
        fixture.expect({**TREE, place: b"new"} if written else TREE)


@conformance_check(needs=[Need.TTL])
def overwriting_gives_no_ttl(fixture: Fixture) -> None:
    """A value that was put by overwrite lasts for ever, and an expired one is not overwritten."""
    gone, ttls = fixture.key("gone"), fixture.key("ttls")
    fixture.store.apply(Put(gone, b"old", SHORT), Put(ttls, b"old", LONG))
    fixture.outlive()
    require(not fixture.store.overwrite(gone, b"new"), "an overwriting of an expired value is said to be done")
    require(fixture.store.value(gone) is None, "an expired value was overwritten")
    if fixture.store.overwrite(ttls, b"new"):
        require_equal(dict(fixture.store.ttls(ttls)), {}, "the lives after an overwriting are")


@conformance_check()
def delete_removes_its_scope(fixture: Fixture) -> None:
    """Delete removes all values in its scope and no other: at the root, inner nodes, leaves and absent keys."""
    for place, scope in scopes():
        fixture.plant(TREE)
        fixture.store.apply(Delete(fixture.key(*place), scope))
        fixture.expect(without(TREE, place, scope))


@conformance_check()
def deleting_nothing_is_no_error(fixture: Fixture) -> None:
    """Deleting what is not there changes nothing and is applied, in an empty space and beside other values."""
    trees: Sequence[Mapping[Path, bytes]] = ({}, TREE)
    for tree in trees:
        fixture.plant(tree)
        for place, scope in scopes():
            if not within(tree, place, scope):
                fixture.store.apply(Delete(fixture.key(*place), scope), Delete(fixture.key(*place), scope))
        fixture.expect(tree)


@conformance_check()
def delete_leaves_no_orphans(fixture: Fixture) -> None:
    """What is deleted with its parents does not come back when a parent is stored again, as a leaf or as a dict."""
    deep = {("a", "b", "c", "d"): b"1", ("a", "b", "e"): b"2", ("a", "f"): b"3"}
    for scope in (Scope.BELOW, Scope.SUBTREE):
        for depth in range(3):
            place = ("a", "b", "c")[:depth]
            kept = without(deep, place, scope)
            fixture.plant(deep)
            fixture.store.apply(Delete(fixture.key(*place), scope))
            fixture.expect(kept)
            fixture.store.apply(Put(fixture.key(*place, "again"), b"4"))
            fixture.expect({**kept, (*place, "again"): b"4"})
            fixture.store.apply(Delete(fixture.key(*place), Scope.BELOW))
            fixture.expect(kept)
    fixture.plant(deep)
    fixture.store.apply(Delete(fixture.key("a"), Scope.SUBTREE), Put(fixture.key("a"), b"leaf"))
    fixture.expect({("a",): b"leaf"})
    fixture.store.apply(Delete(fixture.key("a"), Scope.NODE), Put(fixture.key("a", "b", "x"), b"5"))
    fixture.expect({("a", "b", "x"): b"5"})


@conformance_check()
def the_last_value_takes_its_parents_along(fixture: Fixture) -> None:
    """A dict whose last value is deleted is gone: no names are left of it, on any level above."""
    for path in (("a",), ("a", "b"), ("a", "b", "c", "d", "e")):
        fixture.plant({path: b"1", ("z",): b"2"})
        fixture.store.apply(Delete(fixture.key(*path), Scope.NODE))
        fixture.expect({("z",): b"2"})
        fixture.store.apply(Delete(fixture.key("z"), Scope.NODE))
        fixture.expect({})


@conformance_check()
def writes_take_effect_in_order(fixture: Fixture) -> None:
    """Each write sees the ones before it: all sequences of puts, adds and deletes end as if sent one by one."""
    befores: Sequence[Mapping[Path, bytes]] = ({}, {("a", "b"): b"5"})
    for length in (2, 3):
        for kinds in product(_KINDS, repeat=length):
            for before in befores:
                fixture.plant(before)
                key = fixture.key("a", "b")
                writes: list[Write] = []
                value: bytes | None = before.get(("a", "b"))
                counters: list[int] = []
                for number, kind in enumerate(kinds):
                    if kind == "put":
                        value = b"%d" % (10 * number + 10)
                        writes.append(Put(key, value))
                    elif kind == "add":
                        counters.append(int(value or b"0") + 3)
                        value = b"%d" % counters[-1]
                        writes.append(Add(key, 3))
                    else:
                        value = None
                        writes.append(Delete(fixture.key(*(("a", "b") if kind == "delete" else ("a",))), Scope.SUBTREE))
                outcome = fixture.store.apply(*writes)
                require_equal(outcome.counters, tuple(counters), f"the sums of {kinds} on {before!r} are")
                fixture.expect({} if value is None else {("a", "b"): value})


@conformance_check()
def scopes_of_writes_see_earlier_writes(fixture: Fixture) -> None:
    """A delete removes what the same transaction put into its scope before, and not what it puts there afterwards."""
    tree: Mapping[Path, bytes] = {("a", "x"): b"1", ("a", "y", "z"): b"2", ("b",): b"3"}
    for scope in Scope:
        fixture.renew()
        first, kept = fixture.puts(tree), without(tree, ("a",), scope)
        fixture.store.apply(*first, Delete(fixture.key("a"), scope))
        fixture.expect(kept)
        fixture.store.apply(Delete(fixture.key("a"), scope), *fixture.puts({("a", "new"): b"4"}))
        fixture.expect({**kept, ("a", "new"): b"4"})


@conformance_check()
def a_subtree_is_replaced_in_one_transaction(fixture: Fixture) -> None:
    """Delete and puts in one transaction replace a subtree, a leaf by a dict and a dict by a leaf, at every depth."""
    shapes: Sequence[Mapping[Path, bytes]] = (
        {("a",): b"leaf"},
        {("a", "x"): b"1"},
        {("a", "x", "y"): b"2", ("a", "z"): b"3"},
        {("a", "x", "y", "z"): b"4"},
        {("a", "x", "y", "other"): b"5"},
    )
    for old, new in product(shapes, repeat=2):
        fixture.plant({**old, ("ab",): b"beside"})
        fixture.store.apply(Delete(fixture.key("a"), Scope.SUBTREE), *fixture.puts(new))
        fixture.expect({**new, ("ab",): b"beside"})


@conformance_check()
def a_leaf_gives_way(fixture: Fixture) -> None:
    """After a delete of exactly the leaf, values may lie below it, in the same transaction and afterwards."""
    for leaf in (("a",), ("a", "b")):
        fixture.plant({leaf: b"leaf", ("beside",): b"1"})
        fixture.store.apply(Delete(fixture.key(*leaf), Scope.NODE), Put(fixture.key(*leaf, "x", "y"), b"2"))
        fixture.expect({(*leaf, "x", "y"): b"2", ("beside",): b"1"})
        fixture.store.apply(Delete(fixture.key(*leaf), Scope.BELOW), Put(fixture.key(*leaf), b"leaf again"))
        fixture.expect({leaf: b"leaf again", ("beside",): b"1"})


@conformance_check()
def all_writes_or_none(fixture: Fixture) -> None:
    """If a counter is refused, nothing of the transaction is written: no put, no delete, no sum, wherever it stands."""
    tree = {**TREE, ("count",): b"5", ("text",): b"no counter"}
    others: Sequence[Write] = (
        Put(fixture.key("leaf"), b"changed"),
        Put(fixture.key("brand", "new"), b"1"),
        Delete(fixture.key("inner", "deep"), Scope.SUBTREE),
        Delete(fixture.key("in"), Scope.NODE),
        Add(fixture.key("count"), 1),
        Add(fixture.key("another", "count"), 1),
        Delete(fixture.key(), Scope.SUBTREE),
        Put(fixture.key("text"), b"still none"),
        Put(fixture.key("inner"), b"a leaf where a dict was"),
    )
    fixture.store.apply(*fixture.puts(tree))
    for index in (len(others), 0, 3):
        writes = [*others[:index], Add(fixture.key("text"), 1), *others[index:]]
        if index > 6:  # the root was deleted, so that "text" must be written again to be refused
            writes.insert(index, Put(fixture.key("text"), b"x"))
        refused = next(i for i, write in enumerate(writes) if isinstance(write, Add) and write.key.path == ("text",))
        outcome = fixture.store.run(writes=writes)
        require_equal(outcome.status, Status.NOT_A_COUNTER, f"the status with the refused Add at {refused}")
        require_equal(outcome.failed_index, refused, "the failed index among the writes is")
        fixture.expect(tree)


@conformance_check()
def many_writes_or_none(fixture: Fixture) -> None:
    """A refused counter at the end of several hundred writes undoes them all."""
    tree = large()
    fixture.plant(tree)
    places = [path for path in tree if path[0] == "wide"]
    writes: list[Write] = [Put(fixture.key(*path), b"changed") for path in places]
    writes += [Put(fixture.key("fresh", f"n{number}"), b"new") for number in range(100)]
    writes += [Delete(fixture.key("bushy", letter), Scope.SUBTREE) for letter in "abc"]
    writes += [Add(fixture.key("counts", f"n{number}"), 1) for number in range(100)]
    writes += [Expire(fixture.key("deep"), Scope.SUBTREE, None), Add(fixture.key("fresh", "n0"), 1)]
    if not fixture.capabilities.ttl:
        del writes[-2]
    outcome = fixture.store.run(writes=writes)
    require_equal(outcome.status, Status.NOT_A_COUNTER, "the status")
    require_equal(outcome.failed_index, len(writes) - 1, "the failed index among the writes is")
    fixture.expect(tree)


_KINDS = ("put", "add", "delete", "delete parent")
