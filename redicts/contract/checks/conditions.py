"""Conditions: what they compare, and what follows if one fails."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Final

from redicts.contract.check import conformance_check
from redicts.contract.fixture import LONG, Fixture
from redicts.contract.form import entries_of
from redicts.contract.requirements import require, require_equal, shortened
from redicts.contract.trees import TREE, scopes, within
from redicts.core.minitransaction import (
    NOTHING,
    Check,
    Delete,
    Equals,
    Key,
    Path,
    Put,
    PutDocument,
    Read,
    Scope,
    StartsWith,
    Status,
    Transaction,
)

_LENGTHS: Final = (800, 3_000, 40_000)
"""Half the lengths of values that a store may keep elsewhere."""


@conformance_check()
def equals_compares_its_scope(fixture: Fixture) -> None:
    """Equals holds only if its entries are exactly the values in its scope; one that is outside of it makes it fail.

    Compares each scope of a tree with its values, with one value more, one less and one changed, with values that are
    stored and outside of it, and the empty value with nothing.
    """
    fixture.plant(TREE)
    for node, scope in scopes():
        key, entries = fixture.key(*node), within(TREE, node, scope)
        at = f"at {node!r}, {scope.name}"
        require(fixture.store.holds(Equals(key, scope, entries)), f"Equals of the stored values fails {at}")
        require_equal(fixture.store.holds(Equals(key, scope, NOTHING)), not entries, f"Equals of NOTHING {at} holds")
        for path in [(), ("absent",), ("absent", "deep", "down"), ("leaf", "below"), ("deep", "b")]:
            if scope.covers(path) and path not in entries:
                _refused(fixture, Equals(key, scope, {**entries, path: b"1"}), f"{path!r} is missing")
        for path, value in entries.items():
            fewer = {other: value for other, value in entries.items() if other != path}
            _refused(fixture, Equals(key, scope, fewer), f"{path!r} exists too")
            for other in _others(value):
                _refused(fixture, Equals(key, scope, {**entries, path: other}), f"{path!r} has {value!r}")
    fixture.plant({("empty",): b"", ("dict", "empty"): b""})
    for key, scope, path in [
        (fixture.key("empty"), Scope.NODE, ()),
        (fixture.key("dict"), Scope.BELOW, ("empty",)),
        (fixture.key("dict"), Scope.SUBTREE, ("empty",)),
    ]:
        require(fixture.store.holds(Equals(key, scope, {path: b""})), f"the empty bytes at {key.path!r} are not seen")
        _refused(fixture, Equals(key, scope, NOTHING), "the empty bytes are stored")
    _refused(fixture, Equals(fixture.key("absent"), Scope.NODE, {(): b""}), "no value is stored")
    outside: Sequence[tuple[Key, Scope, Mapping[Path, bytes]]] = (
        (fixture.key("empty"), Scope.NODE, {("x",): b""}),
        (fixture.key("empty"), Scope.NODE, {(): b"", ("x",): b""}),
        (fixture.key("empty"), Scope.BELOW, {(): b""}),
        (fixture.key("dict"), Scope.NODE, {("empty",): b""}),
        (fixture.key("dict"), Scope.BELOW, {(): b""}),
    )
    for key, scope, values in outside:
        _refused(fixture, Equals(key, scope, values), f"an entry of {values!r} is outside of the scope")


@conformance_check()
def starts_with_compares_its_scope(fixture: Fixture) -> None:
    """StartsWith holds if every value in its scope starts with the prefix, and for an empty scope; else it fails.

    Plants one foreign value at a time, at several depths, and asks for the prefix at each path above it and in each
    scope. Asks for the prefix of several hundred values and of long ones, too.
    """
    fixture.plant({("mine",): b"me", ("dict", "a"): b"me1", ("dict", "b", "c"): b"me", ("\x01",): b"me\x00"})
    paths: tuple[Path, ...] = ((), ("dict",), ("mine",), ("absent",))
    for path in paths:
        for scope in Scope:
            for prefix in (b"me", b"m", b""):
                holds = fixture.store.holds(StartsWith(fixture.key(*path), scope, prefix))
                require(holds, f"StartsWith {prefix!r} fails at {path!r}, {scope.name}, where every value starts so")
    foreign = (b"you", b"m", b"", b"ME", b"\x00me", b" me")
    mine: Mapping[Path, bytes] = {("a", "b"): b"me", ("a", "c", "d", "e"): b"me", ("ab",): b"me", ("z",): b"me"}
    for number, path in enumerate(mine):
        tree = {**mine, path: foreign[number % len(foreign)]}
        fixture.plant(tree)
        for depth in range(len(path) + 1):
            for scope in Scope:
                inside = bool(within({path: b""}, path[:depth], scope))
                holds = fixture.store.holds(StartsWith(fixture.key(*path[:depth]), scope, b"me"))
                require_equal(holds, not inside, f"StartsWith at {path[:depth]!r}, {scope.name}, {tree!r} holds")
    for value in foreign:
        fixture.plant({("a",): value})
        _refused(fixture, StartsWith(fixture.key("a"), Scope.NODE, b"me"), f"the value is {value!r}")
    for size in (200, 200, 500, 500):  # twice, for both kinds of spaces
        fixture.plant({("d", f"n{number}"): b"me" for number in range(size)})
        check, one = StartsWith(fixture.key("d"), Scope.SUBTREE, b"me"), fixture.key("d", f"n{size // 2}")
        holds = fixture.store.holds(check, Equals(one, Scope.NODE, {(): b"me"}))
        require(holds, f"StartsWith fails, or Equals after it, where {size} values start so")
        fixture.store.apply(Put(one, b"you"))
        _refused(fixture, check, f"one of {size} values does not start so")
    _compare_long_prefixes(fixture)


def _compare_long_prefixes(fixture: Fixture) -> None:
    """Ask for short and long prefixes where there is a long value."""
    for size in _LENGTHS:
        value = b"me" * size
        fixture.plant({("d", "long"): value, ("d", "short"): b"me"})
        key = fixture.key("d", "long")
        for prefix, root in ((b"me", fixture.key("d")), (value[:-1], key), (value, key)):
            holds = fixture.store.holds(StartsWith(root, Scope.SUBTREE, prefix))
            require(holds, f"StartsWith {len(prefix)} bytes fails where a value of {len(value):,} bytes starts so")
        for prefix in (b"you", value + b"m", value[:-1] + b"m"):
            what = f"a value of {len(value):,} bytes differs from the {len(prefix):,} of the prefix"
            _refused(fixture, StartsWith(fixture.key("d"), Scope.BELOW, prefix), what)


@conformance_check()
def prefixes_are_bytes(fixture: Fixture) -> None:
    """A prefix is compared byte by byte, whatever the bytes mean elsewhere.

    Compares values with prefixes of control bytes, wildcards, quotes and parts of a character.
    """
    prefixes = (
        b"\x00", b"\x01", b"\x02", b"\x03", b"\xc1", b"\xff\xfe", b"%", b"*", b"_", b"[a", b"\\", b"'", b"\xf0\x9f",
        b"0",
    )  # fmt: skip
    for prefix in prefixes:
        fixture.plant({("mine",): prefix + b"a", ("dict", "mine"): prefix})
        holds = fixture.store.holds(StartsWith(fixture.key(), Scope.SUBTREE, prefix))
        require(holds, f"values that start with {prefix!r} are refused")
        fixture.plant({("yours",): b"b" + prefix})
        _refused(fixture, StartsWith(fixture.key(), Scope.SUBTREE, prefix), f"the value is {b'b' + prefix!r}")


@conformance_check()
def one_failed_check_stops_all_writes(fixture: Fixture) -> None:
    """If any condition fails, nothing is written, and the failed index is the index of that condition.

    Puts one condition that fails before, between and after others that hold, together with a put and a delete.
    """
    good: list[Check] = [
        Equals(fixture.key("a"), Scope.NODE, {(): b"1"}),
        Equals(fixture.key("b"), Scope.SUBTREE, NOTHING),
        StartsWith(fixture.key("a"), Scope.SUBTREE, b""),
        StartsWith(fixture.key("b"), Scope.SUBTREE, b""),
    ]
    bad: list[Check] = [Equals(fixture.key("a"), Scope.NODE, NOTHING), StartsWith(fixture.key("a"), Scope.NODE, b"2")]
    fixture.store.apply(Put(fixture.key("a"), b"1"))
    writes = (Put(fixture.key("b"), b"2"), Delete(fixture.key("a"), Scope.NODE))
    for wrong in bad:
        for index in range(len(good) + 1):
            outcome = fixture.store.run(checks=[*good[:index], wrong, *good[index:]], writes=writes)
            require_equal(outcome.status, Status.CHECK_FAILED, "the status of a failed condition")
            require_equal(outcome.failed_index, index, "the failed index is")
            fixture.expect({("a",): b"1"})
    require(fixture.store.run(checks=good, writes=writes).applied, "conditions that hold stop the writes")
    fixture.expect({("b",): b"2"})


@conformance_check()
def each_of_many_prefixes_is_compared(fixture: Fixture) -> None:
    """Of several StartsWith with one prefix, in a space and in any two, each is compared with all values in its scope.

    Plants one foreign value at a time at and near several conditions on nested keys, as for a lock, and more than a
    dozen, and asks several times. Then it replaces one of them by one of another prefix, or by Equals.
    """
    spaces = [fixture.space, fixture.fresh_space(), fixture.fresh_space(), fixture.fresh_space()]
    nodes: list[Path] = [("ab",), *[("a",) * depth for depth in range(1, 9)]]
    for chosen in (spaces[:1], spaces[1:2], spaces[::2], spaces[1::2], spaces[:2]):
        for few in (nodes[:4], nodes):
            keys = [Key(space, node) for space in chosen for node in few] * (3 - len(chosen))
            for scope in (Scope.BELOW, Scope.SUBTREE):
                _plant_near(fixture, keys, scope)
                fixture.store.apply(*[Delete(Key(space, ()), Scope.SUBTREE) for space in chosen])
        _plant_others(fixture, keys[: len(nodes)])
        fixture.store.apply(*[Delete(Key(space, ()), Scope.SUBTREE) for space in chosen])


def _plant_near(fixture: Fixture, keys: Sequence[Key], scope: Scope) -> None:
    """Require that conditions of one prefix fail by any value in their scopes that does not start with it."""
    asked = Transaction(tuple([StartsWith(key, scope, b"me") for key in keys]))
    require(fixture.store.execute(asked).applied, "conditions fail that each hold alone")
    for number, key in enumerate(keys[::2]):
        planted = key if scope is Scope.SUBTREE and number % 3 else Key(key.space, (*key.path, "other"))
        whole = number % 2 and fixture.capabilities.documents
        fixture.store.apply(PutDocument(planted, b'{"x":{"y":1}}') if whole else Put(planted, b"m"))
        outcome = fixture.store.execute(asked)
        what = f"with another value at {planted!r}, the status of {len(keys)} conditions is"
        require_equal(outcome.status, Status.CHECK_FAILED, what)
        failed = keys[outcome.failed_index or 0]
        inside = failed.space == planted.space and planted.path[: len(failed.path)] == failed.path
        require(inside, f"of conditions on {keys!r}, that on {failed!r} fails by a value at {planted!r}")
        fixture.store.apply(Delete(planted, Scope.SUBTREE))
    fixture.store.apply(Put(Key(keys[-1].space, (*keys[-1].path, "mine")), b"me 1"))
    require(fixture.store.execute(asked).applied, "conditions fail, though all values start with the prefix")


def _plant_others(fixture: Fixture, keys: Sequence[Key]) -> None:
    """Require that among conditions of one prefix, one that asks for something else fails as it does alone."""
    fixture.store.apply(*[Put(Key(key.space, (*key.path, "mine")), b"me 1") for key in keys])
    for index, key in enumerate(keys):
        for other in (StartsWith(key, Scope.BELOW, b"you"), Equals(key, Scope.BELOW, NOTHING)):
            conditions: list[Check] = [StartsWith(each, Scope.BELOW, b"me") for each in keys]
            conditions[index] = other
            outcome = fixture.store.execute(Transaction(tuple(conditions)))
            require_equal(
                outcome.failed_index, index, f"of {len(keys)} conditions, of which {other!r} fails, one fails:"
            )


@conformance_check()
def what_is_expected_can_be_deleted(fixture: Fixture) -> None:
    """A Delete of exactly the key that Equals compares deletes the value, or the condition fails and it stays.

    Compares values of all sizes with others and deletes them in the same transaction, as when a lock is released, first
    or last among its writes, also beside a condition that fails, and reads them there.
    """
    for _ in range(2):
        fixture.renew()  # a space of the other kind
        key, beside = fixture.key("d", "a"), fixture.key("d", "b")
        for value in (b"", b"1", b"me/7", b"x" * 5_000):
            for ttl in (None, LONG) if fixture.capabilities.ttl else (None,):
                fixture.store.apply(Put(key, value, ttl), Put(beside, value + b"?"))
                writes = (Delete(key, Scope.NODE), Put(fixture.key("done"), value))
                for other in (*_others(value), None):
                    expected: Mapping[Path, bytes] = NOTHING if other is None else {(): other}
                    status = fixture.store.run([Equals(key, Scope.NODE, expected)], writes=writes).status
                    require_equal(status, Status.CHECK_FAILED, f"the status of Equals of {shortened(expected)} is")
                    require_equal(fixture.store.value(key), value, "after a condition failed, the value is")
                both = [Equals(key, Scope.NODE, {(): value}), Equals(beside, Scope.NODE, NOTHING)]
                for order in (1, -1):
                    status = fixture.store.run(both[::order], writes=writes).status
                    require_equal(status, Status.CHECK_FAILED, "the status of two conditions, one of which fails, is")
                outcome = fixture.store.run([Equals(key, Scope.NODE, {(): value})], writes=writes)
                require(outcome.applied, f"Equals of the stored value {shortened(value)} fails")
                fixture.expect({("d", "b"): value + b"?", ("done",): value})
                for reads, order in ((), -1), ((Read(key),), 1):
                    fixture.store.apply(Put(key, value, ttl), Delete(fixture.key("done"), Scope.NODE))
                    outcome = fixture.store.run([Equals(key, Scope.NODE, {(): value})], reads, writes[::order])
                    read = [dict(entries_of(answer).values) for answer in outcome.answers]
                    require_equal(read, [{(): value}] * len(reads), "beside a delete of a value, it is read as")
                    fixture.expect({("d", "b"): value + b"?", ("done",): value})
                fixture.store.apply(Put(key, value))
                outcome = fixture.store.run(
                    [Equals(key, Scope.NODE, {(): value + b"?"})], writes=[Delete(beside, Scope.NODE)]
                )
                require_equal(outcome.status, Status.CHECK_FAILED, "the status of Equals of what is elsewhere is")
                fixture.store.apply(Delete(key, Scope.NODE))
                again = fixture.store.run([Equals(key, Scope.NODE, {(): value})], writes=writes).status
                require_equal(again, Status.CHECK_FAILED, "the status of the same, once more, is")
    for compared, deleted in product(Scope, repeat=2):
        for _ in range(2):
            tree: dict[Path, bytes] = {("d", "a"): b"me", ("e",): b"me"}
            fixture.plant(tree)
            wrong = Equals(fixture.key("e"), Scope.BELOW, {(): b"me"})
            status = fixture.store.run([wrong], writes=[Delete(fixture.key("e"), deleted)]).status
            require_equal(status, Status.CHECK_FAILED, f"the status of {wrong!r}, whose entry is outside, is")
            for check in (StartsWith(fixture.key("d"), compared, b"me"), Equals(fixture.key("d"), compared, NOTHING)):
                holds = isinstance(check, StartsWith) or compared is Scope.NODE
                applied = fixture.store.run([check], writes=[Delete(fixture.key("d"), deleted)]).applied
                require_equal(applied, holds, f"a delete of {deleted.name} under {check!r} is applied:")
                fixture.expect({("e",): b"me"} if holds and deleted is not Scope.NODE else tree)
                fixture.store.apply(*fixture.puts(tree))


def _refused(fixture: Fixture, check: Check, why: str) -> None:
    at = f"{type(check).__name__} at {check.key.path!r}, {check.scope.name}"
    require(not fixture.store.holds(check), f"{at} holds, but {why}")


def _others(value: bytes) -> list[bytes]:
    """Return values that differ from this one: longer, shorter, empty, and in one bit."""
    flipped = [bytes([value[0] ^ 1]) + value[1:]] if value else []
    return [other for other in (value + b"0", value[:-1], b"", *flipped) if other != value]
