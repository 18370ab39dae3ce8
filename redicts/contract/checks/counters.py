"""Counters: decimal text of signed 64-bit integers, exact to the last digit."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from typing import Final

from redicts.contract.check import conformance_check
from redicts.contract.fixture import Fixture
from redicts.contract.requirements import require_equal
from redicts.core.minitransaction import Add, Put, Status

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

    Adds beyond both ends of 64 bits, also within one transaction.
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
