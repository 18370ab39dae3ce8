"""Conditions: what they look at, when they hold, and what follows if one does not."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

from collections.abc import Iterator, Mapping

from redicts.contract.check import conformance_check, require, require_equal
from redicts.contract.fixture import Fixture
from redicts.contract.trees import TREE, scopes, within
from redicts.core.minitransaction import NOTHING, Check, Delete, Equals, Path, Put, Read, Scope, StartsWith, Status


@conformance_check()
def equals_holds_for_what_is_there(fixture: Fixture) -> None:
    """Exactly holds for the live values of each scope of the root, of inner nodes, leaves and absent keys."""
    fixture.plant(TREE)
    for place, scope in scopes():
        entries = within(TREE, place, scope)
        holds = fixture.store.holds(Equals(fixture.key(*place), scope, entries))
        require(holds, f"Exactly of what is there fails at {place!r}, {scope.name}")


@conformance_check()
def equals_refuses_missing_entries(fixture: Fixture) -> None:
    """Exactly fails if the scope lacks one of the entries, on every level."""
    fixture.plant(TREE)
    for place, scope in scopes():
        for path in [(), ("absent",), ("absent", "deep", "down"), ("leaf", "below"), ("deep", "b")]:
            entries = within(TREE, place, scope)
            if scope.covers(path) and path not in entries:
                _refused(fixture, Equals(fixture.key(*place), scope, {**entries, path: b"1"}), f"{path!r} is missing")


@conformance_check()
def equals_refuses_extra_entries(fixture: Fixture) -> None:
    """Exactly fails if the scope holds one entry more, on every level."""
    fixture.plant(TREE)
    for place, scope in scopes():
        entries = within(TREE, place, scope)
        for path in entries:
            fewer = {other: value for other, value in entries.items() if other != path}
            _refused(fixture, Equals(fixture.key(*place), scope, fewer), f"{path!r} is there too")


@conformance_check()
def equals_refuses_other_values(fixture: Fixture) -> None:
    """Exactly fails if one value is another: longer, shorter, empty, or different in one bit."""
    fixture.plant(TREE)
    for place, scope in scopes():
        entries = within(TREE, place, scope)
        for path, value in entries.items():
            for other in _others(value):
                _refused(
                    fixture, Equals(fixture.key(*place), scope, {**entries, path: other}), f"{path!r} has {value!r}"
                )


@conformance_check()
def equals_nothing_says_absent(fixture: Fixture) -> None:
    """Exactly NOTHING holds just where the scope is empty."""
    fixture.plant(TREE)
    for place, scope in scopes():
        empty = not within(TREE, place, scope)
        holds = fixture.store.holds(Equals(fixture.key(*place), scope, NOTHING))
        require_equal(holds, empty, f"Exactly NOTHING at {place!r}, {scope.name} holds")


@conformance_check()
def equals_tells_empty_bytes_from_absent(fixture: Fixture) -> None:
    """The empty bytes are a value: a key that holds them is not absent, and an absent key does not hold them."""
    fixture.plant({("empty",): b"", ("dict", "empty"): b""})
    for key, scope, path in [
        (fixture.key("empty"), Scope.NODE, ()),
        (fixture.key("dict"), Scope.BELOW, ("empty",)),
        (fixture.key("dict"), Scope.SUBTREE, ("empty",)),
    ]:
        require(fixture.store.holds(Equals(key, scope, {path: b""})), f"the empty bytes at {key.path!r} are not seen")
        _refused(fixture, Equals(key, scope, NOTHING), "the empty bytes are there")
    _refused(fixture, Equals(fixture.key("absent"), Scope.NODE, {(): b""}), "there is nothing")


@conformance_check()
def starts_with_holds_for_free_and_mine(fixture: Fixture) -> None:
    """Prefixed holds if the scope is empty, and if each value starts with the prefix or is it."""
    fixture.plant({("mine",): b"me", ("dict", "a"): b"me1", ("dict", "b", "c"): b"me", ("\x01",): b"me\x00"})
    for place, scope in [*_each_scope(()), *_each_scope(("dict",)), *_each_scope(("mine",)), *_each_scope(("absent",))]:
        for prefix in (b"me", b"m", b""):
            holds = fixture.store.holds(StartsWith(fixture.key(*place), scope, prefix))
            require(holds, f"Prefixed({prefix!r}) fails at {place!r}, {scope.name}, where every value starts with it")


@conformance_check()
def starts_with_refuses_foreign_values(fixture: Fixture) -> None:
    """Prefixed fails if one value in the scope does not start with the prefix: at every level, only in the scope."""
    foreign = (b"you", b"m", b"", b"ME", b"\x00me", b" me")
    mine: Mapping[Path, bytes] = {("a", "b"): b"me", ("a", "c", "d", "e"): b"me", ("ab",): b"me", ("z",): b"me"}
    for number, place in enumerate(mine):
        tree = {**mine, place: foreign[number % len(foreign)]}
        fixture.plant(tree)
        for depth in range(len(place) + 1):
            for scope in Scope:
                inside = bool(within({place: b""}, place[:depth], scope))
                holds = fixture.store.holds(StartsWith(fixture.key(*place[:depth]), scope, b"me"))
                require_equal(holds, not inside, f"Prefixed at {place[:depth]!r}, {scope.name}, {tree!r} holds")
    for value in foreign:
        fixture.plant({("a",): value})
        _refused(fixture, StartsWith(fixture.key("a"), Scope.NODE, b"me"), f"the value is {value!r}")


@conformance_check()
def prefixes_are_bytes(fixture: Fixture) -> None:
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
        fixture.plant({("mine",): prefix + b"a", ("dict", "mine"): prefix})
        require(
            fixture.store.holds(StartsWith(fixture.key(), Scope.SUBTREE, prefix)),
            f"own values under {prefix!r} are refused",
        )
        fixture.plant({("yours",): b"b" + prefix})
        _refused(fixture, StartsWith(fixture.key(), Scope.SUBTREE, prefix), f"the value is {b'b' + prefix!r}")


@conformance_check()
def one_failed_check_stops_all_writes(fixture: Fixture) -> None:
    """Nothing is written if one check fails, whichever of them it is, and the failed index is its index."""
    good: list[Check] = [
        Equals(fixture.key("a"), Scope.NODE, {(): b"1"}),
        Equals(fixture.key("b"), Scope.SUBTREE, NOTHING),
        StartsWith(fixture.key("a"), Scope.SUBTREE, b""),
    ]
    bad: list[Check] = [Equals(fixture.key("a"), Scope.NODE, NOTHING), StartsWith(fixture.key("a"), Scope.NODE, b"2")]
    fixture.store.apply(Put(fixture.key("a"), b"1"))
    writes = (Put(fixture.key("b"), b"2"), Delete(fixture.key("a"), Scope.NODE))
    for wrong in bad:
        for index in range(len(good) + 1):
            outcome = fixture.store.run(checks=[*good[:index], wrong, *good[index:]], writes=writes)
            require_equal(outcome.status, Status.CHECK_FAILED, "the status of a failed check")
            require_equal(outcome.failed_index, index, "the failed index is the check")
            fixture.expect({("a",): b"1"})
    require(fixture.store.run(checks=good, writes=writes).applied, "checks that hold stop the writes")
    fixture.expect({("b",): b"2"})


@conformance_check()
def checks_come_before_writes(fixture: Fixture) -> None:
    """Checks look at the state before the writes of their own transaction."""
    key = fixture.key("a")
    first = fixture.store.run(checks=[Equals(key, Scope.NODE, NOTHING)], writes=[Put(key, b"1")])
    require(first.applied, "a check for absence met the value that its own transaction writes")
    second = fixture.store.run(checks=[Equals(key, Scope.NODE, {(): b"2"})], writes=[Put(key, b"2")])
    require_equal(second.status, Status.CHECK_FAILED, "the status of a check for what its own transaction writes")
    third = fixture.store.run(checks=[StartsWith(key, Scope.NODE, b"3")], writes=[Delete(key, Scope.NODE)])
    require_equal(third.status, Status.CHECK_FAILED, "the status of a check for what its own transaction deletes")
    fixture.expect({("a",): b"1"})


@conformance_check()
def checks_and_reads_see_one_state(fixture: Fixture) -> None:
    """A transaction of checks and reads alone is applied if the checks hold, and answers either way."""
    fixture.plant(TREE)
    read = Read(fixture.key("inner"), Scope.SUBTREE)
    for check, status in [
        (Equals(fixture.key("leaf"), Scope.NODE, {(): b"1"}), Status.APPLIED),
        (Equals(fixture.key("leaf"), Scope.NODE, {(): b"2"}), Status.CHECK_FAILED),
    ]:
        outcome = fixture.store.run(checks=[check], reads=[read])
        require_equal(outcome.status, status, "the status")
        require_equal(outcome.answers, fixture.store.run(reads=[read]).answers, f"the answers with {status.name}")


def _refused(fixture: Fixture, check: Check, why: str) -> None:
    require(
        not fixture.store.holds(check),
        f"{type(check).__name__} at {check.key.path!r}, {check.scope.name} holds, but {why}",
    )


def _each_scope(place: Path) -> Iterator[tuple[Path, Scope]]:
    for scope in Scope:
        yield place, scope


def _others(value: bytes) -> list[bytes]:
    flipped = [bytes([value[0] ^ 1]) + value[1:]] if value else []
    return [other for other in (value + b"0", value[:-1], b"", *flipped) if other != value]
