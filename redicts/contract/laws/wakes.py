"""Wake: what it clears, whom it calls, and that it is a write like the others."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from redicts.contract.bench import LONG, SHORT, Bench
from redicts.contract.client import Client
from redicts.contract.form import entries_of, names_of
from redicts.contract.hostile import HOSTILE_VALUES
from redicts.contract.law import Need, law, require, require_equal
from redicts.contract.listening import await_listing, fresh_name, list_at, require_woken, wait_until_cleared
from redicts.contract.trees import TREE, scopes, within, without
from redicts.core.transaction import (
    NOTHING,
    Add,
    Delete,
    Exactly,
    Key,
    Path,
    Put,
    Read,
    ReadNames,
    Scope,
    Verdict,
    Wake,
    Write,
)

_THREADS: Final = 8

_NO_NAMES: Final = (
    *HOSTILE_VALUES,
    b"/",
    b"//",
    b"/1",
    b"station/",
    b"station",
    b"station/1/2",
    b"station/1\x00",
    b"station/-1",
    "st\u00e4tion/1".encode(),
    b"\xff\xfe/1",
    b"*/1",
    b"station/*",
    b"x" * 10_000,
    b"x" * 5_000 + b"/" + b"1" * 5_000,
)
"""Values under which nobody listens, because they are no names or nobody's."""


@law()
def a_wake_clears_its_scope(bench: Bench) -> None:
    """Wake deletes all values in its scope and no other: at the root, inner nodes, leaves and absent keys."""
    for place, scope in scopes():
        bench.plant(TREE)
        bench.store.apply(Wake(bench.key(*place), scope))
        bench.expect(without(TREE, place, scope))


@law()
def an_empty_list_is_no_error(bench: Bench) -> None:
    """Wake over a scope that holds nothing changes nothing and is applied, in an empty space and beside values."""
    trees: Sequence[Mapping[Path, bytes]] = ({}, TREE)
    for tree in trees:
        bench.plant(tree)
        for place, scope in scopes():
            if not within(tree, place, scope):
                bench.store.apply(Wake(bench.key(*place), scope), Wake(bench.key(*place), scope))
        bench.expect(tree)


@law()
def whoever_is_listed_is_woken(bench: Bench) -> None:
    """A Wake wakes the listener that is listed in its scope, whichever client applies it, on every level."""
    lists: Sequence[tuple[Path, Scope, Path]] = (
        (("list",), Scope.NODE, ("list",)),
        (("list",), Scope.SUBTREE, ("list",)),
        (("list",), Scope.SUBTREE, ("list", "a")),
        (("list",), Scope.BELOW, ("list", "a")),
        (("list",), Scope.BELOW, ("list", "a", "b", "c")),
        ((), Scope.SUBTREE, ("list", "a", "b")),
        ((), Scope.BELOW, ("list",)),
    )
    for waker in (bench.store, bench.client()):
        for place, scope, entry in lists:
            bench.renew()
            name = fresh_name()
            with bench.store.listen(name) as listener:
                list_at(bench.store, bench.key(*entry), name)
                waker.apply(Wake(bench.key(*place), scope))
                require_woken(listener, bench.patience, f"a listener listed at {entry!r}, called at {place!r}, {scope}")
            bench.expect({})


@law()
def each_on_the_list_is_woken(bench: Bench) -> None:
    """One Wake wakes all that are listed in its scope: many threads, of one client and of several."""
    other = bench.client()
    for clients in ([bench.store] * _THREADS, [bench.store, other] * (_THREADS // 2)):
        bench.renew()
        keys = [bench.key("list", f"n{number}") for number in range(_THREADS)]
        root, in_time = bench.key("list"), bench.deadline()

        def sleep(number: int, client: Client, keys: Sequence[Key] = keys) -> None:
            name = fresh_name()
            with client.listen(name) as listener:
                list_at(client, keys[number], name)
                wait_until_cleared(listener, client, keys[number], bench.patience)

        def call(keys: Sequence[Key] = keys, root: Key = root, in_time: Callable[[], None] = in_time) -> None:
            await_listing(other, *keys, in_time=in_time)
            other.apply(Wake(root, Scope.BELOW))

        bench.together([call, *(partial(sleep, number, client) for number, client in enumerate(clients))])
        bench.expect({})


@law()
def a_long_list_is_called_to_its_end(bench: Bench) -> None:
    """A Wake over a thousand values deletes them all, and wakes the listeners among them, wherever they stand."""
    names = {number: fresh_name() for number in (0, 499, 999)}
    tree: dict[Path, bytes] = {("list", f"n{number:03}"): b"nobody/%d" % number for number in range(1000)}
    tree.update({("list", f"n{number:03}"): name.encode() for number, name in names.items()})
    bench.plant({**tree, ("stays",): b"1"})
    with ExitStack() as stack:
        listeners = [stack.enter_context(bench.store.listen(name)) for name in names.values()]
        bench.store.apply(Wake(bench.key("list"), Scope.BELOW))
        for number, listener in zip(names, listeners):
            require_woken(listener, bench.patience, f"the listener at place {number} of a thousand")
    bench.expect({("stays",): b"1"})


@law()
def what_names_nobody_harms_nobody(bench: Bench) -> None:
    """Whatever a value is, a Wake deletes it, and wakes the listener that is listed beside it."""
    tree: dict[Path, bytes] = {("list", f"n{number}"): value for number, value in enumerate(_NO_NAMES)}
    for path, value in tree.items():
        bench.plant({path: value})
        bench.store.apply(Wake(bench.key("list"), Scope.SUBTREE))
        bench.expect({})
    for place in ("a", "n0", "z"):  # before them, among them, after them, in whatever order a store goes
        bench.plant(tree)
        name = fresh_name()
        with bench.store.listen(name) as listener:
            list_at(bench.store, bench.key("list", place), name)
            bench.store.apply(Wake(bench.key("list"), Scope.BELOW))
            require_woken(listener, bench.patience, "a listener listed among values that name nobody")
        bench.expect({})


@law(needs=[Need.LIFE])
def expired_entries_are_passed_over(bench: Bench) -> None:
    """A Wake deletes what has a life, passes over what has expired, and wakes whom it finds beside that."""
    for place in ("a", "m", "z"):
        bench.plant({("list", letter): b"station/1" for letter in "bcdwxy"}, SHORT)
        bench.outlive()
        bench.store.apply(Wake(bench.key("list", "b"), Scope.NODE))
        name = fresh_name()
        with bench.store.listen(name) as listener:
            bench.store.apply(Put(bench.key("list", place), name.encode(), LONG))
            bench.store.apply(Wake(bench.key("list"), Scope.SUBTREE))
            require_woken(listener, bench.patience, "a listener listed beside expired values")
        bench.expect({})


@law()
def a_wake_has_its_place_among_the_writes(bench: Bench) -> None:
    """A Wake calls and clears what the same transaction listed before it, and nothing that comes after it."""
    key, count = bench.key("list", "a"), bench.key("count")
    wakes = (Wake(key, Scope.NODE), Wake(bench.key("list"), Scope.BELOW), Wake(bench.key("list"), Scope.SUBTREE))
    for wake in wakes:
        name = fresh_name()
        with bench.store.listen(name) as listener:
            bench.store.apply(Put(key, name.encode()), wake)
            require_woken(listener, bench.patience, "a listener listed in the same transaction as the Wake, before it,")
            bench.expect({})
            bench.store.apply(Put(key, b"before"), wake, Put(key, name.encode()))
            bench.expect({("list", "a"): name.encode()})
            bench.store.apply(wake)
            require_woken(listener, bench.patience, "a listener listed after the Wake of an earlier transaction")
        bench.store.apply(Put(key, b"5"), wake, Add(key, 1), Put(count, b"1"), wake, Add(count, 1))
        bench.expect({("count",): b"2"})
        bench.store.apply(Delete(bench.key(), Scope.SUBTREE), wake)
        bench.expect({})


@law()
def a_refused_transaction_clears_nothing(bench: Bench) -> None:
    """A Wake beside a check that fails, or an Add that is refused, leaves the list as it is, and it can be called."""
    name = fresh_name()
    tree = {("list", "a"): name.encode(), ("list", "b"): b"x/1", ("text",): b"x"}
    bench.plant(tree)
    key, text, wake = bench.key("list", "a"), bench.key("text"), Wake(bench.key("list"), Scope.BELOW)
    refused: Sequence[Sequence[Write]] = ([wake], [Put(text, b"y"), wake], [wake, Put(key, b"y")], [Add(text, 1), wake])
    with bench.store.listen(name) as listener:
        for writes in refused:
            outcome = bench.store.run(checks=[Exactly(text, Scope.NODE, NOTHING)], writes=writes)
            require_equal(outcome.verdict, Verdict.CHECK_FAILED, "the verdict of a Wake under a check that fails")
            bench.expect(tree)
            outcome = bench.store.run(writes=[*writes, Add(text, 1)])
            require_equal(outcome.verdict, Verdict.NOT_A_COUNTER, "the verdict of a Wake beside a refused Add")
            bench.expect(tree)
        bench.store.apply(wake)
        require_woken(listener, bench.patience, "a listener on a list that refused transactions had called")
    bench.expect({("text",): b"x"})


@law()
def answers_and_sums_are_those_of_the_others(bench: Bench) -> None:
    """A Wake has no answer and no sum: those beside it stay in order, and a culprit is counted with it."""
    bench.plant({("list", "a"): b"x/1", ("list", "b"): b"7", ("text",): b"x"})
    wake, one, two = Wake(bench.key("list"), Scope.BELOW), bench.key("one"), bench.key("two")
    outcome = bench.store.run(writes=[wake, Add(one, 5), wake, Add(bench.key("text"), 1)])
    require_equal((outcome.verdict, outcome.culprit), (Verdict.NOT_A_COUNTER, 3), "the verdict and the culprit are")
    adds: Sequence[Write] = [Add(one, 5), wake, Add(two, 6), wake, Add(one, 7), wake]
    outcome = bench.store.run(reads=[Read(wake.key, Scope.BELOW), ReadNames(wake.key)], writes=adds)
    require_equal((outcome.verdict, outcome.sums), (Verdict.APPLIED, (5, 6, 12)), "the verdict and the sums are")
    entries, listing = outcome.answers
    require_equal(dict(entries_of(entries).values), {("a",): b"x/1", ("b",): b"7"}, "before the Wake, the list is")
    require_equal(set(names_of(listing).names), {"a", "b"}, "before the Wake, the names on the list are")


@law()
def a_wake_and_the_writes_beside_it_are_one_instant(bench: Bench) -> None:
    """Nobody sees a list cleared without what the same transaction wrote, nor that beside the list."""
    rounds = 1000 if bench.thorough else 150
    root, entry, flag = bench.key(), bench.key("list", "a"), bench.key("z")
    writer, *readers = [bench.store, bench.store, bench.client()]
    writer.apply(Put(entry, b"x/1"))

    def write() -> None:
        for _ in range(rounds):
            writer.apply(Wake(bench.key("list"), Scope.SUBTREE), Put(flag, b"cleared"))
            writer.apply(Delete(flag, Scope.NODE), Put(entry, b"x/1"))

    def look(reader: Client) -> None:
        seen = set(reader.read(root))
        require(len(seen) == 1, f"of a list and what is written when it is cleared, a reader sees {seen!r}")

    bench.together([write], [partial(look, reader) for reader in readers])
