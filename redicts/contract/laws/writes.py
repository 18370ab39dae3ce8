"""Writes: what each does, in which order they take effect, and that it is all of them or none."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from redicts.contract.bench import LONG, SHORT, Bench
from redicts.contract.law import Need, law, require, require_equal
from redicts.contract.trees import PLACES, TREE, large, scopes, within, without
from redicts.core.transaction import Add, Delete, Expire, Path, Put, Scope, Verdict, Write


@law()
def put_replaces_what_was_there(bench: Bench) -> None:
    """Put stores these bytes at exactly this key, over what was there, and nowhere else."""
    bench.plant(TREE)
    for value in (b"new", b"", b"longer than before", b"0"):
        bench.store.apply(Put(bench.key("inner", "deep", "a"), value))
        bench.expect({**TREE, ("inner", "deep", "a"): value})


@law()
def overwriting_is_a_put_or_nothing(bench: Bench) -> None:
    """Overwrite puts the value over one that is there, or it changes nothing and says so."""
    for place in PLACES:
        bench.plant(TREE)
        written = bool(place) and bench.store.overwrite(bench.key(*place), b"new")
        require(not written or place in TREE, f"an overwriting of nothing at {place!r} is said to be done")
        bench.expect({**TREE, place: b"new"} if written else TREE)


@law(needs=[Need.LIFE])
def overwriting_gives_no_life(bench: Bench) -> None:
    """A value that was put by overwrite lasts for ever, and an expired one is not overwritten."""
    gone, lives = bench.key("gone"), bench.key("lives")
    bench.store.apply(Put(gone, b"old", SHORT), Put(lives, b"old", LONG))
    bench.outlive()
    require(not bench.store.overwrite(gone, b"new"), "an overwriting of an expired value is said to be done")
    require(bench.store.value(gone) is None, "an expired value was overwritten")
    if bench.store.overwrite(lives, b"new"):
        require_equal(dict(bench.store.lives(lives)), {}, "the lives after an overwriting are")


@law()
def delete_removes_its_scope(bench: Bench) -> None:
    """Delete removes all values in its scope and no other: at the root, inner nodes, leaves and absent keys."""
    for place, scope in scopes():
        bench.plant(TREE)
        bench.store.apply(Delete(bench.key(*place), scope))
        bench.expect(without(TREE, place, scope))


@law()
def deleting_nothing_is_no_error(bench: Bench) -> None:
    """Deleting what is not there changes nothing and is applied, in an empty space and beside other values."""
    trees: Sequence[Mapping[Path, bytes]] = ({}, TREE)
    for tree in trees:
        bench.plant(tree)
        for place, scope in scopes():
            if not within(tree, place, scope):
                bench.store.apply(Delete(bench.key(*place), scope), Delete(bench.key(*place), scope))
        bench.expect(tree)


@law()
def delete_leaves_no_orphans(bench: Bench) -> None:
    """What is deleted with its parents does not come back when a parent is stored again, as a leaf or as a dict."""
    deep = {("a", "b", "c", "d"): b"1", ("a", "b", "e"): b"2", ("a", "f"): b"3"}
    for scope in (Scope.BELOW, Scope.SUBTREE):
        for depth in range(3):
            place = ("a", "b", "c")[:depth]
            kept = without(deep, place, scope)
            bench.plant(deep)
            bench.store.apply(Delete(bench.key(*place), scope))
            bench.expect(kept)
            bench.store.apply(Put(bench.key(*place, "again"), b"4"))
            bench.expect({**kept, (*place, "again"): b"4"})
            bench.store.apply(Delete(bench.key(*place), Scope.BELOW))
            bench.expect(kept)
    bench.plant(deep)
    bench.store.apply(Delete(bench.key("a"), Scope.SUBTREE), Put(bench.key("a"), b"leaf"))
    bench.expect({("a",): b"leaf"})
    bench.store.apply(Delete(bench.key("a"), Scope.NODE), Put(bench.key("a", "b", "x"), b"5"))
    bench.expect({("a", "b", "x"): b"5"})


@law()
def the_last_value_takes_its_parents_along(bench: Bench) -> None:
    """A dict whose last value is deleted is gone: no names are left of it, on any level above."""
    for path in (("a",), ("a", "b"), ("a", "b", "c", "d", "e")):
        bench.plant({path: b"1", ("z",): b"2"})
        bench.store.apply(Delete(bench.key(*path), Scope.NODE))
        bench.expect({("z",): b"2"})
        bench.store.apply(Delete(bench.key("z"), Scope.NODE))
        bench.expect({})


@law()
def writes_take_effect_in_order(bench: Bench) -> None:
    """Each write sees the ones before it: all sequences of puts, adds and deletes end as if sent one by one."""
    befores: Sequence[Mapping[Path, bytes]] = ({}, {("a", "b"): b"5"})
    for length in (2, 3):
        for kinds in product(_KINDS, repeat=length):
            for before in befores:
                bench.plant(before)
                key = bench.key("a", "b")
                writes: list[Write] = []
                value: bytes | None = before.get(("a", "b"))
                sums: list[int] = []
                for number, kind in enumerate(kinds):
                    if kind == "put":
                        value = b"%d" % (10 * number + 10)
                        writes.append(Put(key, value))
                    elif kind == "add":
                        sums.append(int(value or b"0") + 3)
                        value = b"%d" % sums[-1]
                        writes.append(Add(key, 3))
                    else:
                        value = None
                        writes.append(Delete(bench.key(*(("a", "b") if kind == "delete" else ("a",))), Scope.SUBTREE))
                outcome = bench.store.apply(*writes)
                require_equal(outcome.sums, tuple(sums), f"the sums of {kinds} on {before!r} are")
                bench.expect({} if value is None else {("a", "b"): value})


@law()
def scopes_of_writes_see_earlier_writes(bench: Bench) -> None:
    """A delete removes what the same transaction put into its scope before, and not what it puts there afterwards."""
    tree: Mapping[Path, bytes] = {("a", "x"): b"1", ("a", "y", "z"): b"2", ("b",): b"3"}
    for scope in Scope:
        bench.renew()
        first, kept = bench.puts(tree), without(tree, ("a",), scope)
        bench.store.apply(*first, Delete(bench.key("a"), scope))
        bench.expect(kept)
        bench.store.apply(Delete(bench.key("a"), scope), *bench.puts({("a", "new"): b"4"}))
        bench.expect({**kept, ("a", "new"): b"4"})


@law()
def a_subtree_is_replaced_in_one_transaction(bench: Bench) -> None:
    """Delete and puts in one transaction replace a subtree, a leaf by a dict and a dict by a leaf, at every depth."""
    shapes: Sequence[Mapping[Path, bytes]] = (
        {("a",): b"leaf"},
        {("a", "x"): b"1"},
        {("a", "x", "y"): b"2", ("a", "z"): b"3"},
        {("a", "x", "y", "z"): b"4"},
        {("a", "x", "y", "other"): b"5"},
    )
    for old, new in product(shapes, repeat=2):
        bench.plant({**old, ("ab",): b"beside"})
        bench.store.apply(Delete(bench.key("a"), Scope.SUBTREE), *bench.puts(new))
        bench.expect({**new, ("ab",): b"beside"})


@law()
def a_leaf_gives_way(bench: Bench) -> None:
    """After a delete of exactly the leaf, values may lie below it, in the same transaction and afterwards."""
    for leaf in (("a",), ("a", "b")):
        bench.plant({leaf: b"leaf", ("beside",): b"1"})
        bench.store.apply(Delete(bench.key(*leaf), Scope.NODE), Put(bench.key(*leaf, "x", "y"), b"2"))
        bench.expect({(*leaf, "x", "y"): b"2", ("beside",): b"1"})
        bench.store.apply(Delete(bench.key(*leaf), Scope.BELOW), Put(bench.key(*leaf), b"leaf again"))
        bench.expect({leaf: b"leaf again", ("beside",): b"1"})


@law()
def all_writes_or_none(bench: Bench) -> None:
    """If a counter is refused, nothing of the transaction is written: no put, no delete, no sum, wherever it stands."""
    tree = {**TREE, ("count",): b"5", ("text",): b"no counter"}
    others: Sequence[Write] = (
        Put(bench.key("leaf"), b"changed"),
        Put(bench.key("brand", "new"), b"1"),
        Delete(bench.key("inner", "deep"), Scope.SUBTREE),
        Delete(bench.key("in"), Scope.NODE),
        Add(bench.key("count"), 1),
        Add(bench.key("another", "count"), 1),
        Delete(bench.key(), Scope.SUBTREE),
        Put(bench.key("text"), b"still none"),
        Put(bench.key("inner"), b"a leaf where a dict was"),
    )
    bench.store.apply(*bench.puts(tree))
    for index in (len(others), 0, 3):
        writes = [*others[:index], Add(bench.key("text"), 1), *others[index:]]
        if index > 6:  # the root was deleted, so that "text" must be written again to be refused
            writes.insert(index, Put(bench.key("text"), b"x"))
        refused = next(i for i, write in enumerate(writes) if isinstance(write, Add) and write.key.path == ("text",))
        outcome = bench.store.run(writes=writes)
        require_equal(outcome.verdict, Verdict.NOT_A_COUNTER, f"the verdict with the refused Add at {refused}")
        require_equal(outcome.culprit, refused, "the culprit among the writes is")
        bench.expect(tree)


@law()
def many_writes_or_none(bench: Bench) -> None:
    """A refused counter at the end of several hundred writes undoes them all."""
    tree = large()
    bench.plant(tree)
    places = [path for path in tree if path[0] == "wide"]
    writes: list[Write] = [Put(bench.key(*path), b"changed") for path in places]
    writes += [Put(bench.key("fresh", f"n{number}"), b"new") for number in range(100)]
    writes += [Delete(bench.key("bushy", letter), Scope.SUBTREE) for letter in "abc"]
    writes += [Add(bench.key("counts", f"n{number}"), 1) for number in range(100)]
    writes += [Expire(bench.key("deep"), Scope.SUBTREE, None), Add(bench.key("fresh", "n0"), 1)]
    if not bench.capabilities.life:
        del writes[-2]
    outcome = bench.store.run(writes=writes)
    require_equal(outcome.verdict, Verdict.NOT_A_COUNTER, "the verdict")
    require_equal(outcome.culprit, len(writes) - 1, "the culprit among the writes is")
    bench.expect(tree)


_KINDS = ("put", "add", "delete", "delete parent")
