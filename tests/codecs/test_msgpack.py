"""The codec ``msgpack`` gives back equal values of the same class, as bytes that any MessagePack library reads."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import msgpack
import pytest

from redicts.codecs.msgpack import MsgpackCodec
from redicts.core.codec import TruncatedContent
from redicts.core.minitransaction import Path

AT: Path = ("a",)
codec = MsgpackCodec()


@pytest.mark.parametrize(
    "value",
    [
        (1, (2, [3])), [()], {"t": (1,)}, {(1, 2): "k"}, {1: 2, b"k": 3, None: 4}, 2**64, -(2**63) - 1, 10**400,
        b"\x00\xff",
        "\ud800", date(2020, 2, 29), datetime(2020, 2, 29, 1, 2, 3, 4), datetime(1, 1, 1, tzinfo=timezone.utc),
        datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30, seconds=15))), float("inf"),
    ],
)  # fmt: skip
def test_values_come_back_unchanged(value: Any) -> None:
    """Tuples, integers of any size and datetimes with their offset from UTC come back equal and of the same class."""
    back = codec.decode(codec.encode(value, AT), AT)
    assert (back, type(back), repr(back)) == (value, type(value), repr(value))


@pytest.mark.parametrize("value", [None, True, 7, -5, 2**64 - 1, 1.5, "é", b"x", [1, [2]], {"a": {"b": None}}])
def test_standard_types_are_plain_msgpack(value: Any) -> None:
    """Any MessagePack library writes the same bytes for them and reads these."""
    assert codec.encode(value, AT) == msgpack.packb(value)
    assert msgpack.unpackb(codec.encode(value, AT), strict_map_key=False) == value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (datetime(2020, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")), r"astimezone\(timezone.utc\)"),
        (datetime(2020, 10, 25, 2, 30, fold=1), "astimezone"),
        ({1}, "set"),
        (object(), "object"),
    ],
)
def test_a_value_that_would_come_back_differently_is_refused(value: Any, says: str) -> None:
    """The error names the refused class, and the remedy for a time zone."""
    with pytest.raises(TypeError, match=says):
        codec.encode([value], AT)


@pytest.mark.parametrize(
    "data",
    [
        msgpack.packb(msgpack.ExtType(2, msgpack.packb(5))),
        msgpack.packb(msgpack.ExtType(2, b"")),
        msgpack.packb(msgpack.ExtType(3, b"yesterday")),
        msgpack.packb(msgpack.ExtType(3, b"\xff")),
        msgpack.packb(msgpack.ExtType(99, b"x")),
        msgpack.packb(msgpack.Timestamp(5)),
        b"\x81\x90\x01",
        b"\xc1",
    ],
)
def test_bytes_that_it_does_not_write_are_refused(data: bytes) -> None:
    """Extensions of other programs and invalid bytes raise ValueError; the standard's timestamp is read."""
    if data == msgpack.packb(msgpack.Timestamp(5)):
        assert codec.decode(data, AT) == msgpack.Timestamp(5)
        return
    with pytest.raises(ValueError):  # noqa: PT011  (the contract of codecs promises no more)
        codec.decode(data, AT)


def test_truncated_bytes_have_their_own_error() -> None:
    """The codec recognizes the library's messages about missing bytes."""
    data = codec.encode([1, "text", {"a": (1, 2)}], AT)
    for end in range(len(data)):
        with pytest.raises(TruncatedContent):
            codec.decode(data[:end], AT)
