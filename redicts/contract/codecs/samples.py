"""Values that codecs get wrong: some codec confuses each with another value, or fails on it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any, Final, NamedTuple
from uuid import UUID


class Colour(IntEnum):
    """An integer with a name."""

    RED = 3


class Shade(Enum):
    """A name with a value."""

    DARK = "dark"


class Point(NamedTuple):
    """A tuple with names."""

    x: int
    y: int


class Name(str):
    """Text of a class of its own."""

    __slots__ = ()


class Alone(str):
    """Text that is equal to itself only, so that a dict may have it and equal text as two keys."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class Secret:
    """An object that no codec of plain values encodes, and whose repr must not be shown."""

    def __repr__(self) -> str:
        return MARKER


class Count(int):
    """A number of a class of its own."""

    __slots__ = ()


MARKER: Final = "marker-of-a-value"
"""A text that no error may contain."""


def _generator() -> Iterator[int]:
    yield 1


_SCALARS: Final = (None, True, False, 0, 1, -1, 0.0, -0.0, 1.0, 1.5, "", "a", b"", b"\x00\xff")

NUMBERS: Final = (
    *[sign * 2**bits + more for bits in (7, 8, 15, 16, 31, 32, 53, 63, 64, 65, 127, 128) for more in (-1, 0, 1)
      for sign in (1, -1)],
    10**400, -(10**400), 0.1, 1e300, 1e-5, 1e-7, 5e-324, 1.7976931348623157e308, 2.0**53, 1e16, 1e22, 0.0, -0.0,
    float("inf"), float("-inf"), float("nan"), 1, 1.0, True,
)  # fmt: skip

TEXTS: Final = (
    "", " ", "\x00", "a\x00b", "\n", "\r\n", "\x04", "\x7f", '"', "\\", "\\u0041", "'", "é", "e\u0301", "ß", "\u2028",
    "\ufeff", "\ufffe", "\uffff", "\U0001f600", "\U0010ffff", "\ud800", "\udfff", "\ud83d\ude00", "\ude00\ud83d",
    "a\ud800z", "null", "1", "1.0", "true", "NaN", "{}", "[]", "$type", "__class__", "!!python/none", "2020-01-01",
    "10:30", "~", "yes", "0x10", "1_000", "=1+1",
)  # fmt: skip

AWKWARD: Final[tuple[Any, ...]] = (
    *_SCALARS, bytearray(b"x"), (), (1, 2), [(1,)], [[1], (1, [2])], {"a": (1,)}, {1: 2}, {None: 1}, {True: 1},
    {1.5: 2},
    {(1, 2): 3}, {b"k": 1}, {"1": 1, "a": {"b": [None, {}]}}, {"$type": "x"}, {"$type": "x", "value": 1}, {"": 0},
    {"__class__": "x"}, {"key": {"$type": 1}}, set(), {1}, frozenset({1, 2}), OrderedDict(a=1), Colour.RED,
    [Colour.RED],
    {"a": Colour.RED}, Shade.DARK, Point(1, 2), Name("x"), {Name("k"): 1}, Count(5), [Count(5)], 1j, Decimal("1.10"),
    Fraction(1, 3), date(2020, 2, 29), datetime(2020, 2, 29, 23, 59, 59, 999999), time(1, 2),
    datetime(1, 1, 1, tzinfo=timezone.utc), datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-5))),
    datetime(2020, 10, 25, 2, 30, fold=1), timedelta(days=-1, microseconds=1), UUID(int=5), range(3), slice(1, 2), ...,
    NotImplemented, int, ValueError, len, memoryview(b"x"), lambda: None, _generator(), threading.Lock(),
)  # fmt: skip
"""Values that few codecs encode, each in its own way."""

EQUAL_NAMES: Final[tuple[dict[Any, Any], ...]] = (
    {1: "a", "1": "b"}, {None: 1, "null": 2}, {True: 1, "true": 2}, {1.5: 1, "1.5": 2}, {b"k": 1, "k": 2},
    {Alone("k"): 1, "k": 2},
)  # fmt: skip
"""Dicts with two keys that some codec makes the same."""

ORDINARY: Final[tuple[Any, ...]] = (
    None, True, 7, -1, 1.5, "text", "é\U0001f600", [1, "two", None], {"a": [1, {"b": 2.5}]}, [[], {}, [{}]],
    list(range(50)), {f"key {number}": number for number in range(20)},
)  # fmt: skip
"""Values that nearly every codec encodes."""


def nested(depth: int) -> list[Any]:
    """Return a list in a list, and so on."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value
