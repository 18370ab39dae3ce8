"""Conditions: what they look at, when they hold, and what follows if one does not."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

from collections.abc import Iterator, Mapping

from redicts.contract.bench import Bench
from redicts.contract.law import law, require, require_equal
from redicts.contract.trees import TREE, scopes, within
from redicts.core.transaction import NOTHING, Check, Delete, Exactly, Path, Prefixed, Put, Read, Scope, Verdict


@law()
def exactly_holds_for_what_is_there(bench: Bench) -> None:
    """Exactly holds for the live values of each scope of the root, of inner nodes, leaves and absent keys."""
    bench.plant(TREE)
    for place, scope in scopes():
        entries = within(TREE, place, scope)
        holds = bench.store.holds(Exactly(bench.key(*place), scope, entries))
        require(holds, f"Exactly of what is there fails at {place!r}, {scope.name}")


@law()
def exactly_refuses_missing_entries(bench: Bench) -> None:
    """Exactly fails if the scope lacks one of the entries, on every level."""
    bench.plant(TREE)
    for place, scope in scopes():
        for path in [(), ("absent",), ("absent", "deep", "down"), ("leaf", "below"), ("deep", "b")]:
            entries = within(TREE, place, scope)
            if scope.covers(path) and path not in entries:
                _refused(bench, Exactly(bench.key(*place), scope, {**entries, path: b"1"}), f"{path!r} is missing")


@law()
def exactly_refuses_extra_entries(bench: Bench) -> None:
    """Exactly fails if the scope holds one entry more, on every level."""
    bench.plant(TREE)
    for place, scope in scopes():
        entries = within(TREE, place, scope)
        for path in entries:
            fewer = {other: value for other, value in entries.items() if other != path}
            _refused(bench, Exactly(bench.key(*place), scope, fewer), f"{path!r} is there too")


@law()
def exactly_refuses_other_values(bench: Bench) -> None:
    """Exactly fails if one value is another: longer, shorter, empty, or different in one bit."""
    bench.plant(TREE)
    for place, scope in scopes():
        entries = within(TREE, place, scope)
        for path, value in entries.items():
            for other in _others(value):
                _refused(bench, Exactly(bench.key(*place), scope, {**entries, path: other}), f"{path!r} has {value!r}")


@law()
def exactly_nothing_says_absent(bench: Bench) -> None:
    """Exactly NOTHING holds just where the scope is empty."""
    bench.plant(TREE)
    for place, scope in scopes():
        empty = not within(TREE, place, scope)
        holds = bench.store.holds(Exactly(bench.key(*place), scope, NOTHING))
        require_equal(holds, empty, f"Exactly NOTHING at {place!r}, {scope.name} holds")


@law()
def exactly_tells_empty_bytes_from_absent(bench: Bench) -> None:
    """The empty bytes are a value: a key that holds them is not absent, and an absent key does not hold them."""
    bench.plant({("empty",): b"", ("dict", "empty"): b""})
    for key, scope, path in [
        (bench.key("empty"), Scope.NODE, ()),
        (bench.key("dict"), Scope.BELOW, ("empty",)),
        (bench.key("dict"), Scope.SUBTREE, ("empty",)),
    ]:
        require(bench.store.holds(Exactly(key, scope, {path: b""})), f"the empty bytes at {key.path!r} are not seen")
        _refused(bench, Exactly(key, scope, NOTHING), "the empty bytes are there")
    _refused(bench, Exactly(bench.key("absent"), Scope.NODE, {(): b""}), "there is nothing")


@law()
def prefixed_holds_for_free_and_mine(bench: Bench) -> None:
    """Prefixed holds if the scope is empty, and if each value starts with the prefix or is it."""
    bench.plant({("mine",): b"me", ("dict", "a"): b"me1", ("dict", "b", "c"): b"me", ("\x01",): b"me\x00"})
    for place, scope in [*_each_scope(()), *_each_scope(("dict",)), *_each_scope(("mine",)), *_each_scope(("absent",))]:
        for prefix in (b"me", b"m", b""):
            holds = bench.store.holds(Prefixed(bench.key(*place), scope, prefix))
            require(holds, f"Prefixed({prefix!r}) fails at {place!r}, {scope.name}, where every value starts with it")


@law()
def prefixed_refuses_foreign_values(bench: Bench) -> None:
    """Prefixed fails if one value in the scope does not start with the prefix: at every level, only in the scope."""
    foreign = (b"you", b"m", b"", b"ME", b"\x00me", b" me")
    mine: Mapping[Path, bytes] = {("a", "b"): b"me", ("a", "c", "d", "e"): b"me", ("ab",): b"me", ("z",): b"me"}
    for number, place in enumerate(mine):
        tree = {**mine, place: foreign[number % len(foreign)]}
        bench.plant(tree)
        for depth in range(len(place) + 1):
            for scope in Scope:
                inside = bool(within({place: b""}, place[:depth], scope))
                holds = bench.store.holds(Prefixed(bench.key(*place[:depth]), scope, b"me"))
                require_equal(holds, not inside, f"Prefixed at {place[:depth]!r}, {scope.name}, {tree!r} holds")
    for value in foreign:
        bench.plant({("a",): value})
        _refused(bench, Prefixed(bench.key("a"), Scope.NODE, b"me"), f"the value is {value!r}")


@law()
def prefixes_are_bytes(bench: Bench) -> None:
    """A prefix is compared byte by byte, whatever the bytes mean elsewhere."""
    prefixes = (
        b"\x00",
        b"\x01",
        b"\x02",
        b"\x03",
        b"\xc1",
        b"\xff\xfe",
        b"%",
        b"*",
        b"_",
        b"[a",
        b"\\",
        b"'",
        b"\xf0\x9f",
        b"0",
    )
    for prefix in prefixes:
        bench.plant({("mine",): prefix + b"a", ("dict", "mine"): prefix})
        require(
            bench.store.holds(Prefixed(bench.key(), Scope.SUBTREE, prefix)), f"own values under {prefix!r} are refused"
        )
        bench.plant({("yours",): b"b" + prefix})
        _refused(bench, Prefixed(bench.key(), Scope.SUBTREE, prefix), f"the value is {b'b' + prefix!r}")


@law()
def one_failed_check_stops_all_writes(bench: Bench) -> None:
    """Nothing is written if one check fails, whichever of them it is, and the culprit is its index."""
    good: list[Check] = [
        Exactly(bench.key("a"), Scope.NODE, {(): b"1"}),
        Exactly(bench.key("b"), Scope.SUBTREE, NOTHING),
        Prefixed(bench.key("a"), Scope.SUBTREE, b""),
    ]
    bad: list[Check] = [Exactly(bench.key("a"), Scope.NODE, NOTHING), Prefixed(bench.key("a"), Scope.NODE, b"2")]
    bench.store.apply(Put(bench.key("a"), b"1"))
    writes = (Put(bench.key("b"), b"2"), Delete(bench.key("a"), Scope.NODE))
    for wrong in bad:
        for index in range(len(good) + 1):
            outcome = bench.store.run(checks=[*good[:index], wrong, *good[index:]], writes=writes)
            require_equal(outcome.verdict, Verdict.CHECK_FAILED, "the verdict of a failed check")
            require_equal(outcome.culprit, index, "the culprit is the check")
            bench.expect({("a",): b"1"})
    require(bench.store.run(checks=good, writes=writes).applied, "checks that hold stop the writes")
    bench.expect({("b",): b"2"})


@law()
def checks_come_before_writes(bench: Bench) -> None:
    """Checks look at the state before the writes of their own transaction."""
    key = bench.key("a")
    first = bench.store.run(checks=[Exactly(key, Scope.NODE, NOTHING)], writes=[Put(key, b"1")])
    require(first.applied, "a check for absence met the value that its own transaction writes")
    second = bench.store.run(checks=[Exactly(key, Scope.NODE, {(): b"2"})], writes=[Put(key, b"2")])
    require_equal(second.verdict, Verdict.CHECK_FAILED, "the verdict of a check for what its own transaction writes")
    third = bench.store.run(checks=[Prefixed(key, Scope.NODE, b"3")], writes=[Delete(key, Scope.NODE)])
    require_equal(third.verdict, Verdict.CHECK_FAILED, "the verdict of a check for what its own transaction deletes")
    bench.expect({("a",): b"1"})


@law()
def checks_and_reads_see_one_state(bench: Bench) -> None:
    """A transaction of checks and reads alone is applied if the checks hold, and answers either way."""
    bench.plant(TREE)
    read = Read(bench.key("inner"), Scope.SUBTREE)
    for check, verdict in [
        (Exactly(bench.key("leaf"), Scope.NODE, {(): b"1"}), Verdict.APPLIED),
        (Exactly(bench.key("leaf"), Scope.NODE, {(): b"2"}), Verdict.CHECK_FAILED),
    ]:
        outcome = bench.store.run(checks=[check], reads=[read])
        require_equal(outcome.verdict, verdict, "the verdict")
        require_equal(outcome.answers, bench.store.run(reads=[read]).answers, f"the answers with {verdict.name}")


def _refused(bench: Bench, check: Check, why: str) -> None:
    require(
        not bench.store.holds(check),
        f"{type(check).__name__} at {check.key.path!r}, {check.scope.name} holds, but {why}",
    )


def _each_scope(place: Path) -> Iterator[tuple[Path, Scope]]:
    for scope in Scope:
        yield place, scope


def _others(value: bytes) -> list[bytes]:
    flipped = [bytes([value[0] ^ 1]) + value[1:]] if value else []
    return [other for other in (value + b"0", value[:-1], b"", *flipped) if other != value]
