"""Counters: canonical decimal text of signed 64-bit integers, exact to the last digit."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from redicts.contract.bench import Bench
from redicts.contract.law import law, require_equal
from redicts.core.transaction import NOTHING, Add, Delete, Exactly, Put, Scope, Verdict, Write

_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1

NO_COUNTERS: Final = (
    b"", b"007", b"00", b"-0", b"-01", b"+1", b"+", b"-", b"--1", b" 1", b"1 ", b"\t1", b"1\n", b"1\x00", b"\x001",
    b"1.0", b"1.", b".5", b"1e3", b"0x1", b"1_000", b"1,000", b"nan", b"inf", b"-inf", b"true", b"abc", b"1a",
    b"\xd9\xa1", b"\xef\xbc\x91", b"\xff", b"9223372036854775808", b"-9223372036854775809", b"10000000000000000000",
    b"99999999999999999999", b"1" * 400,
)  # fmt: skip
"""Values that are no counters, although some language's parser takes most of them for integers."""


@law()
def add_counts_from_nothing(bench: Bench) -> None:
    """An absent counter counts as 0, and the sum is stored as plain decimal text."""
    for number, amount in enumerate((1, 0, -1, 42, _MOST, _LEAST, 10, -10, 100)):
        outcome = bench.store.apply(Add(bench.key("dict", f"n{number}"), amount))
        require_equal(outcome.sums, (amount,), "the sum of an absent counter is")
        require_equal(bench.store.value(bench.key("dict", f"n{number}")), b"%d" % amount, "the counter's bytes are")


@law()
def add_counts_on(bench: Bench) -> None:
    """Add adds to what is there, through zero and below, and a counter may be put like any value."""
    key = bench.key("a")
    total = 0
    for amount in (5, -3, -2, -1, 0, 1, 10, 90, 900, -1000, 2**53, 1, 1, -(2**53), 2**62, -(2**62)):
        total += amount
        require_equal(bench.store.apply(Add(key, amount)).sums, (total,), f"the sum after adding {amount} is")
        bench.expect({("a",): b"%d" % total})
    bench.store.apply(Put(key, b"-17"))
    require_equal(bench.store.apply(Add(key, 18)).sums, (1,), "the sum of -17 and 18 is")


@law()
def counters_are_exact(bench: Bench) -> None:
    """Sums are exact where floating point numbers are not, up to both ends of 64 bits."""
    for value, amount in [
        (2**53, 1), (2**53 + 1, 1), (-(2**53), -1), (9007199254740993, 2), (_MOST - 1, 1), (_LEAST + 1, -1),
        (_MOST, 0), (_LEAST, 0), (_LEAST, _MOST), (_MOST, _LEAST), (1234567890123456789, 987654321), (_MOST, -1),
        (_LEAST, 1), (0, _MOST), (-1, _LEAST + 1), (999999999999999999, 1), (-999999999999999999, -1),
        (4611686018427387904, 4611686018427387903),
    ]:  # fmt: skip
        bench.store.apply(Put(bench.key("a"), b"%d" % value))
        outcome = bench.store.apply(Add(bench.key("a"), amount))
        require_equal(outcome.sums, (value + amount,), f"the sum of {value} and {amount} is")
        bench.expect({("a",): b"%d" % (value + amount)})


@law()
def sums_come_in_the_order_of_adds(bench: Bench) -> None:
    """There is one sum per Add, in order, each as it was when its turn came; other writes have none."""
    key, other = bench.key("a"), bench.key("b", "c")
    writes = (
        Add(key, 1),
        Put(other, b"10"),
        Add(other, 5),
        Add(key, 1),
        Delete(key, Scope.NODE),
        Add(key, 7),
        Add(other, -1),
    )
    require_equal(bench.store.apply(*writes).sums, (1, 15, 2, 7, 14), "the sums are")
    bench.expect({("a",): b"7", ("b", "c"): b"14"})


@law()
def only_canonical_text_is_a_counter(bench: Bench) -> None:
    """Add refuses a value that is not the canonical decimal text of a 64-bit integer, and leaves it alone."""
    for value in NO_COUNTERS:
        for amount in (0, 1, -1):
            bench.store.apply(Put(bench.key("a"), value))
            outcome = bench.store.run(writes=[Add(bench.key("a"), amount)])
            require_equal(
                outcome.verdict, Verdict.NOT_A_COUNTER, f"the verdict of adding {amount} to {value[:40]!r} is"
            )
            bench.expect({("a",): value})


@law()
def a_sum_beyond_64_bits_is_refused(bench: Bench) -> None:
    """Add refuses a sum outside of signed 64 bits, and the counter keeps its value."""
    for value, amount in [
        (_MOST, 1),
        (_LEAST, -1),
        (_MOST, _MOST),
        (_LEAST, _LEAST),
        (1, _MOST),
        (-1, _LEAST),
        (2**62, 2**62),
    ]:
        bench.store.apply(Put(bench.key("a"), b"%d" % value))
        outcome = bench.store.run(writes=[Add(bench.key("a"), amount)])
        require_equal(outcome.verdict, Verdict.NOT_A_COUNTER, f"the verdict of adding {amount} to {value} is")
        bench.expect({("a",): b"%d" % value})
    outcome = bench.store.run(
        writes=[Add(bench.key("a"), 1), Put(bench.key("a"), b"%d" % _MOST), Add(bench.key("a"), 1)]
    )
    require_equal(outcome.culprit, 2, "the culprit of an overflow within a transaction is")


@law()
def the_refused_add_is_the_culprit(bench: Bench) -> None:
    """The culprit is the index of the refused Add among all writes."""
    bench.plant({("bad",): b"x", ("good",): b"1"})
    good, bad = Add(bench.key("good"), 1), Add(bench.key("bad"), 1)
    put, delete = Put(bench.key("new"), b"1"), Delete(bench.key("old"), Scope.SUBTREE)
    cases: Sequence[Sequence[Write]] = (
        [bad],
        [good, bad],
        [put, bad],
        [delete, put, good, bad, good],
        [put, delete, delete, bad, bad],
    )
    for writes in cases:
        outcome = bench.store.run(writes=writes)
        require_equal(outcome.verdict, Verdict.NOT_A_COUNTER, "the verdict")
        require_equal(outcome.culprit, writes.index(bad), "the culprit among the writes is")
        bench.expect({("bad",): b"x", ("good",): b"1"})


@law()
def a_failed_check_stops_counters(bench: Bench) -> None:
    """If a check fails, nothing is counted, and an Add that would be refused too is not looked at."""
    bench.plant({("a",): b"x", ("b",): b"1"})
    wrong = Exactly(bench.key("a"), Scope.NODE, NOTHING)
    outcome = bench.store.run(checks=[wrong], writes=[Add(bench.key("b"), 1), Add(bench.key("a"), 1)])
    require_equal((outcome.verdict, outcome.culprit), (Verdict.CHECK_FAILED, 0), "the verdict and the culprit are")
    bench.expect({("a",): b"x", ("b",): b"1"})
