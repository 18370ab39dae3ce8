"""The codec ``msgpack`` gives back values of the classes that it takes, and is read by any MessagePack library."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import msgpack
import pytest

from redicts.codecs.msgpack import MsgpackCodec, redicts_codecs
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
def test_values_come_back_as_they_were(value: Any) -> None:
    """Tuples stay tuples, integers of any size and moments with their distance from UTC come back equal."""
    back = codec.decode(codec.encode(value, AT), AT)
    assert (back, type(back), repr(back)) == (value, type(value), repr(value))


@pytest.mark.parametrize("value", [None, True, 7, -5, 2**64 - 1, 1.5, "é", b"x", [1, [2]], {"a": {"b": None}}])
def test_it_is_plain_msgpack(value: Any) -> None:
    """What MessagePack knows itself is what any of its libraries writes and reads."""
    assert codec.encode(value, AT) == msgpack.packb(value)
    assert msgpack.unpackb(codec.encode(value, AT), strict_map_key=False) == value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (datetime(2020, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")), r"astimezone\(timezone.utc\)"),
        (datetime(2020, 10, 25, 2, 30, fold=1), "astimezone"),
        ({1}, "set"),
        (object(), "object"),
    ],
)
def test_what_would_come_back_as_another_is_refused(value: Any, said: str) -> None:
    """The error says which class is refused, and for a time zone what to do."""
    with pytest.raises(TypeError, match=said):
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
def test_what_it_does_not_write_is_a_value_error_or_a_value(data: bytes) -> None:
    """Extensions of other programs, and what no library writes, are refused; the timestamp of the standard is read."""
    if data == msgpack.packb(msgpack.Timestamp(5)):
        assert codec.decode(data, AT) == msgpack.Timestamp(5)
        return
    with pytest.raises(ValueError):  # noqa: PT011  (the contract of codecs promises no more)
        codec.decode(data, AT)


def test_what_ends_too_early_is_told_apart() -> None:
    """The library's message for missing bytes is the one that this codec looks for."""
    data = codec.encode([1, "text", {"a": (1, 2)}], AT)
    for end in range(len(data)):
        with pytest.raises(TruncatedContent):
            codec.decode(data[:end], AT)


def test_its_plugin() -> None:
    """Settings choose it as ``msgpack``; it has none of its own."""
    (plugin,) = redicts_codecs()
    assert plugin.open(plugin.settings()).name == plugin.name == "msgpack"
