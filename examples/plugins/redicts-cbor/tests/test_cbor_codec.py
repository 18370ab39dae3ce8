"""The codec gives back equal values of the same class, and refuses all others."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redicts_cbor import CborCodec, CborSettings, redicts_codecs

PATH = ("a", "b")
CODEC = CborCodec(CborSettings.model_validate({}).max_bytes)

_zones: Any = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_years = {"min_value": datetime(1, 1, 3), "max_value": datetime(9999, 12, 29)}
_scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.decimals(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_zero()),
    st.fractions(),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=_zones, **_years).map(lambda found: found.replace(fold=0)),
)
_keys = st.one_of(st.text(), st.integers(min_value=2), st.binary(), st.uuids())
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner) | st.dictionaries(_keys, inner) | st.sets(_keys), max_leaves=20
)


@given(_values)
def test_accepted_values_come_back(value: object) -> None:
    """A value comes back equal, and is encoded to the same bytes again."""
    data = CODEC.encode(value, PATH)
    back = CODEC.decode(data, PATH)
    assert back == value
    assert type(back) is type(value)
    assert CODEC.encode(back, PATH) == data


@pytest.mark.parametrize(
    "value",
    [Decimal("1.10"), Fraction(1, 3), UUID(int=7), {1, 2}, b"\x00", date(2020, 1, 2), -0.0, 2**200, [[]], {}],
    ids=repr,
)
def test_classes_are_kept(value: object) -> None:
    """A value that equals one of another class comes back in its own class."""
    back = CODEC.decode(CODEC.encode(value, PATH), PATH)
    assert (type(back), repr(back)) == (type(value), repr(value))


def test_nan_comes_back() -> None:
    """A float that is NaN comes back as NaN."""
    back = CODEC.decode(CODEC.encode(math.nan, PATH), PATH)
    assert isinstance(back, float)
    assert math.isnan(back)


class _Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        [(1,)],
        {(1,): 2},
        frozenset({1}),
        bytearray(b"x"),
        _Text("x"),
        object(),
        "\ud800",
        Decimal("NaN"),
        Decimal("-0"),
        datetime(2020, 1, 2),
        1j,
        range(3),
    ],
    ids=repr,
)
def test_a_value_that_would_come_back_differently_is_refused(value: object) -> None:
    """A value that CBOR would change, or does not have, raises TypeError or ValueError."""
    with pytest.raises((TypeError, ValueError)):
        CODEC.encode(value, PATH)


def test_a_list_that_contains_itself_is_refused() -> None:
    """Encoding it raises ValueError, not RecursionError."""
    ring: list[object] = []
    ring.append(ring)
    with pytest.raises(ValueError, match="nested deeper"):
        CODEC.encode(ring, PATH)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x82\x01",  # a list of two with one item
        b"\x01\x02",  # a byte after the value
        b"\xff",
        b"\x9f\x01\xff",  # a list of indefinite length
        b"\x18\x01",  # 1 in two bytes
        b"\xd8\x23\x61a",  # a regular expression
        b"\xd8\x24\x61a",  # an e-mail
        b"\xd8\x1c\x81\xd8\x1d\x00",  # a list that contains itself
        b"\x81" * 5000 + b"\x01",
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xa2\x01\x01\x01\x02",  # a key twice
        b"\xc0\x01",  # a datetime that is not text
    ],
    ids=lambda data: data[:8].hex() or "nothing",
)
def test_other_bytes_are_refused(data: bytes) -> None:
    """Decoding bytes that this codec does not write raises ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011  (their messages differ)
        CODEC.decode(data, PATH)


@given(st.binary(max_size=60))
def test_decode_accepts_only_its_own_bytes(data: bytes) -> None:
    """For any bytes, decode returns a value that is encoded to them, or raises ValueError."""
    try:
        value = CODEC.decode(data, PATH)
    except ValueError:
        return
    assert CODEC.encode(value, PATH) == data


def test_truncated_bytes_are_refused() -> None:
    """Bytes that end early anywhere raise ValueError."""
    data = CODEC.encode({"a": [1, 2.5, Decimal("1.1")], "b": b"bytes", "c": {1, 2}}, PATH)
    for length in range(len(data)):
        with pytest.raises(ValueError):  # noqa: PT011
            CODEC.decode(data[:length], PATH)


def test_max_bytes_limits_leaves() -> None:
    """A leaf that is larger than max_bytes is neither encoded nor decoded."""
    small = CborCodec(10)
    with pytest.raises(ValueError, match="max_bytes"):
        small.encode("x" * 20, PATH)
    with pytest.raises(ValueError, match="max_bytes"):
        small.decode(CODEC.encode("x" * 20, PATH), PATH)


def test_the_plugin_opens_the_codec() -> None:
    """The hook returns the codec under the name of its entry point, for the first version of the contract."""
    [plugin] = redicts_codecs()
    assert (plugin.name, plugin.contract) == ("cbor", 1)
    assert plugin.open(plugin.model()).name == "cbor"
