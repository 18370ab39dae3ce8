"""Writes: they change exactly their scope, in order, all or none."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from redicts.contract.check import conformance_check
from redicts.contract.fixture import Fixture
from redicts.contract.requirements import require, require_equal
from redicts.contract.trees import PATHS, TREE, large, scopes, without
from redicts.core.minitransaction import Add, Delete, Expire, Path, Put, Scope, Status, Write


@conformance_check()
def overwriting_is_a_put_or_nothing(fixture: Fixture) -> None:
    """Overwrite replaces a value and returns true, or changes nothing and returns false.

    Overwrites at leaves, dicts and absent paths of a tree.
    """
    for path in PATHS:
        fixture.plant(TREE)
        written = bool(path) and fixture.store.overwrite(fixture.key(*path), b"new")
        require(not written or path in TREE, f"an overwriting of nothing at {path!r} returns true")
        fixture.expect({**TREE, path: b"new"} if written else TREE)


@conformance_check()
def delete_removes_its_scope(fixture: Fixture) -> None:
    """Delete removes the values in its scope and no others, and none comes back when a parent is stored again.

    Deletes every scope of a tree, and stores at and below the deleted paths again, also in one transaction with puts
    of two values. Deletes three leaves, in any order, before a put below one of them, two of one dict before such a
    put, one of three that the transaction has put, and two of a dict.
    """
    for path, scope in scopes():
        fixture.plant(TREE)
        fixture.store.apply(Delete(fixture.key(*path), scope))
        fixture.expect(without(TREE, path, scope))
    deep = {("a", "b", "c", "d"): b"1", ("a", "b", "e"): b"2", ("a", "f"): b"3"}
    for scope in (Scope.BELOW, Scope.SUBTREE):
        for depth in range(3):
            path = ("a", "b", "c")[:depth]
            kept = without(deep, path, scope)
            fixture.plant(deep)
            fixture.store.apply(Delete(fixture.key(*path), scope))
            fixture.expect(kept)
            fixture.store.apply(Put(fixture.key(*path, "again"), b"4"))
            fixture.expect({**kept, (*path, "again"): b"4"})
            fixture.store.apply(Delete(fixture.key(*path), Scope.BELOW))
            fixture.expect(kept)
    for scope in (Scope.BELOW, Scope.BELOW, Scope.SUBTREE):  # twice, for both kinds of spaces
        fixture.plant(deep)
        a, b, below = fixture.key("a"), fixture.key("b"), ("a", "b", "x")
        fixture.store.apply(Delete(a, scope), Put(a, b"leaf"))
        fixture.expect({("a",): b"leaf"})
        fixture.store.apply(Delete(a, scope), Put(a, b"again"), Put(b, b"beside"))
        fixture.expect({("a",): b"again", ("b",): b"beside"})
        fixture.store.apply(Delete(a, Scope.NODE), Delete(b, Scope.NODE), Put(fixture.key(*below), b"5"))
        fixture.expect({below: b"5"})
        after: tuple[dict[Path, bytes], ...] = {below: b"6", ("a", "y"): b"7"}, {below: b"8"}
        for entries in after:
            fixture.store.apply(Delete(a, Scope.SUBTREE), Put(a, b"leaf"))
            fixture.store.apply(Delete(a, Scope.NODE), *fixture.puts(entries))
            fixture.expect(entries)
    beside: dict[Path, bytes] = {("d", "z"): b"1"}
    for there in (dict[Path, bytes](), {}, beside, beside):  # each for both kinds of spaces
        fixture.plant(there)
        first, second, third = [fixture.key("d", name) for name in ("a", "b", "c")]
        fixture.store.apply(Put(first, b"2"), Put(second, b"3"), Put(third, b"4"), Delete(first, Scope.NODE))
        fixture.expect({**there, ("d", "b"): b"3", ("d", "c"): b"4"})
        fixture.store.apply(Delete(second, Scope.NODE), Delete(third, Scope.NODE))
        fixture.expect(there)
    leaves: dict[Path, bytes] = {("x",): b"1", ("p", "q"): b"2", ("r", "s"): b"3"}
    for leaf in (("x",), ("p", "q")):
        for order in permutations(leaves):
            fixture.plant({**leaves, ("p", "stays"): b"4"})
            deletes = [Delete(fixture.key(*path), Scope.NODE) for path in order]
            fixture.store.apply(*deletes, Put(fixture.key(*leaf, "below"), b"5"))
            fixture.expect({("p", "stays"): b"4", (*leaf, "below"): b"5"})


@conformance_check()
def all_writes_or_none(fixture: Fixture) -> None:
    """If a counter is refused, no write of its transaction is applied, wherever the counter stands.

    Puts a refused Add at the beginning, in the middle and at the end of all kinds of writes.
    """
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
    """A refused counter at the end of several hundred writes undoes all of them.

    Puts a refused Add at the end of several hundred writes.
    """
    tree = large()
    fixture.plant(tree)
    paths = [path for path in tree if path[0] == "wide"]
    writes: list[Write] = [Put(fixture.key(*path), b"changed") for path in paths]
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
