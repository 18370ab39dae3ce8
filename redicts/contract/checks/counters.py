"""Counters: decimal text of signed 64-bit integers, exact to the last digit."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from itertools import product
from typing import Final

from redicts.contract.check import conformance_check
from redicts.contract.fixture import Fixture
from redicts.contract.requirements import require_equal
from redicts.contract.trees import within
from redicts.core.minitransaction import (
    Add,
    Delete,
    Equals,
    Key,
    Notify,
    Path,
    Put,
    Scope,
    StartsWith,
    Status,
    Write,
)

_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1

NO_COUNTERS: Final = (
    b"", b"007", b"00", b"-0", b"-01", b"+1", b"+", b"-", b"--1", b" 1", b"1 ", b"\t1", b"1\n", b"1\x00", b"\x001",
    b"1.0", b"1.", b".5", b"1e3", b"0x1", b"1_000", b"1,000", b"nan", b"inf", b"-inf", b"true", b"abc", b"1a",
    b"\xd9\xa1", b"\xef\xbc\x91", b"\xff", b"9223372036854775808", b"-9223372036854775809", b"10000000000000000000",
    b"99999999999999999999", b"1" * 400,
)  # fmt: skip
"""Values that are no counters, although some language's parser takes most of them for integers."""


@conformance_check()
def add_counts_from_nothing(fixture: Fixture) -> None:
    """An absent counter counts as 0, and the result is stored as decimal text.

    Adds small, large and negative amounts to absent counters and reads the stored bytes.
    """
    for number, amount in enumerate((1, 0, -1, 42, _MOST, _LEAST, 10, -10, 100)):
        outcome = fixture.store.apply(Add(fixture.key("dict", f"n{number}"), amount))
        require_equal(outcome.counters, (amount,), "the counter of an absent counter is")
        require_equal(fixture.store.value(fixture.key("dict", f"n{number}")), b"%d" % amount, "the counter's bytes are")


@conformance_check()
def add_counts_on(fixture: Fixture) -> None:
    """Add adds to the stored value, exactly over all of signed 64 bits, and a counter may be put like any value.

    Adds to counters around 0, around 2**53 and at both ends of 64 bits, also to some that were put.
    """
    key = fixture.key("a")
    total = 0
    for amount in (5, -3, -2, -1, 0, 1, 10, 90, 900, -1000, 2**53, 1, 1, -(2**53), 2**62, -(2**62)):
        total += amount
        require_equal(fixture.store.apply(Add(key, amount)).counters, (total,), f"the counter after adding {amount} is")
        fixture.expect({("a",): b"%d" % total})
    for value, amount in [
        (-17, 18), (2**53, 1), (2**53 + 1, 1), (-(2**53), -1), (9007199254740993, 2), (_MOST - 1, 1), (_LEAST + 1, -1),
        (_MOST, 0), (_LEAST, 0), (_LEAST, _MOST), (_MOST, _LEAST), (1234567890123456789, 987654321), (_MOST, -1),
        (_LEAST, 1), (0, _MOST), (-1, _LEAST + 1), (999999999999999999, 1), (-999999999999999999, -1),
        (4611686018427387904, 4611686018427387903),
    ]:  # fmt: skip
        fixture.store.apply(Put(key, b"%d" % value))
        require_equal(fixture.store.apply(Add(key, amount)).counters, (value + amount,), f"{value} + {amount} is")
        fixture.expect({("a",): b"%d" % (value + amount)})


@conformance_check()
def only_canonical_text_is_a_counter(fixture: Fixture) -> None:
    """Add refuses a value that is not the canonical decimal text of a 64-bit integer, and does not change it.

    Adds 0, 1 and -1 to values that some language takes for a number: with blanks, signs, zeros, fractions, foreign
    digits.
    """
    for value in NO_COUNTERS:
        fixture.store.apply(Put(fixture.key("a"), value))
        for amount in (0, 1, -1):
            outcome = fixture.store.run(writes=[Add(fixture.key("a"), amount)])
            require_equal(outcome.status, Status.NOT_A_COUNTER, f"the status of adding {amount} to {value[:40]!r} is")
        fixture.expect({("a",): value})


@conformance_check()
def a_sum_beyond_64_bits_is_refused(fixture: Fixture) -> None:
    """Add refuses a result outside of signed 64 bits, and the counter keeps its value.

    Adds beyond both ends of 64 bits, also within one transaction, and to counters that Adds have made.
    """
    for value, amount in [
        (_MOST, 1),
        (_LEAST, -1),
        (_MOST, _MOST),
        (_LEAST, _LEAST),
        (1, _MOST),
        (-1, _LEAST),
        (2**62, 2**62),
    ]:
        fixture.store.apply(Put(fixture.key("a"), b"%d" % value))
        outcome = fixture.store.run(writes=[Add(fixture.key("a"), amount)])
        require_equal(outcome.status, Status.NOT_A_COUNTER, f"the status of adding {amount} to {value} is")
        fixture.expect({("a",): b"%d" % value})
    outcome = fixture.store.run(
        writes=[Add(fixture.key("a"), 1), Put(fixture.key("a"), b"%d" % _MOST), Add(fixture.key("a"), 1)]
    )
    require_equal(outcome.failed_index, 2, "the failed index of an overflow within a transaction is")
    for end, amount in ((_MOST, 1), (_LEAST, -1)):
        key = fixture.key("added", f"{amount}")
        fixture.store.apply(Add(key, end))
        outcome = fixture.store.run(writes=[Add(key, amount)])
        require_equal(outcome.status, Status.NOT_A_COUNTER, f"the status of adding {amount} to a sum of {end} is")
        require_equal(fixture.store.value(key), b"%d" % end, "after a sum was refused, the counter is")


@conformance_check()
def add_counts_from_what_is_left(fixture: Fixture) -> None:
    """Add counts from what the writes before it in its transaction have left, and from 0 if one of them deleted it.

    Puts, deletes and notifies at, above, below and beside a counter and in other spaces, before and between Adds to it.
    Adds to several counters under each condition that holds, at, above, below and beside them.
    """
    path, tree = ("d", "n"), {("d", "n"): b"5", ("d", "other"): b"6", ("n",): b"7"}
    others = [fixture.fresh_space(), fixture.fresh_space()]  # one of each kind

    def cases(space: str) -> list[tuple[list[Write], int | None]]:
        """Return writes, each time with the counter that they leave, or None if they leave the one that is there."""
        put, beside = Put(Key(space, path), b"40"), Put(Key(space, ("d", "other")), b"n")
        leaves: list[Write] = [Delete(Key(space, ("d", name)), Scope.NODE) for name in ("other", "n")]
        dicts: list[Write] = [Delete(Key(space, (name,)), Scope.SUBTREE) for name in ("d", "n")]
        found: list[tuple[list[Write], int | None]]
        found = [([put], 40), ([put, beside], 40), ([beside, put], 40), ([*leaves, put], 40)]
        found += [(leaves, 0), (leaves[::-1], 0), (dicts, 0), (dicts[::-1], 0)]
        found += [([beside, Put(Key(space, ("d", "z")), b"50")], None), ([Put(Key(space, ("e", "n")), b"50")], None)]
        gone = [(path, Scope.NODE), (path, Scope.SUBTREE), ((), Scope.SUBTREE)]
        for at, scope in [*gone, (("d",), Scope.SUBTREE), (("d",), Scope.BELOW)]:
            found += [([kind(Key(space, at), scope)], 0) for kind in (Delete, Notify)]
            found += [([kind(Key(other, at), scope)], None) for kind in (Delete, Notify) for other in others]
        for at, scope in [(path, Scope.BELOW), (("d",), Scope.NODE), (("d", "other"), Scope.SUBTREE)]:
            found += [([kind(Key(space, at), scope)], None) for kind in (Delete, Notify)]
        return found

    for index in range(len(cases(fixture.space))):
        for _ in range(2):  # for both kinds of spaces
            fixture.plant(tree)
            writes, left = cases(fixture.space)[index]
            key, beside = fixture.key(*path), Delete(fixture.key("d", "other"), Scope.NODE)
            counters = fixture.store.apply(*writes, Add(key, 2)).counters
            require_equal(counters, (2 + (5 if left is None else left),), f"the counter after {writes!r} is")
            fixture.store.apply(*fixture.puts(tree))
            first = 1 + (7 if left is None else left)
            counters = fixture.store.apply(Add(key, 2), *writes, Add(key, 1), beside, Add(key, 1)).counters
            require_equal(counters, (7, first, first + 1), f"the counters around {writes!r} are")
            require_equal(fixture.store.value(key), b"%d" % (first + 1), f"the counter around {writes!r} is")
    counted = {**tree, ("(a", "n"): b"8", ("(a", "o"): b"9"}  # in some stores the bound of a range begins like these
    nodes: list[Path] = [(), ("d",), *counted, ("d", "n", "below"), ("a",), ("(a",), ("(a", "a"), ("e", "n")]
    for _ in range(2):  # for both kinds of spaces
        fixture.plant(counted)
        for node, scope in product(nodes, Scope):
            key, there = fixture.key(*node), within(counted, node, scope)
            for check in (StartsWith(key, scope, b""), Equals(key, scope, there)):
                adds = [Add(fixture.key(*at), 0) for at in counted]
                counters = fixture.store.run([check], (), adds).counters
                require_equal(counters, tuple(map(int, counted.values())), f"the counters of Adds under {check!r} are")
