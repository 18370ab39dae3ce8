"""Claims: what a codec says of itself is true, and it says all of it."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

from itertools import permutations
from typing import Any

from redicts.contract.check import require, shortened
from redicts.contract.codecs.check import HERE, CodecFixture, CodecNeed, codec_check, same
from redicts.contract.codecs.samples import ORDINARY
from redicts.core.envelope import LeafFormat

_ALIKE = (
    ("a", "b"), ("a.b",), ("ab",), ("a", "b", "b"), ("b", "a"), ("a",), (), ("a", "b."), ("a\x00b",), ("a/b",),
    ("a\\", "b"), ("a", "\\b"), ("a\x00", "b"), ("A", "b"), ("é",), ("e\u0301",), ("\ud83d\ude00",), ("\U0001f600",),
    ("\ud800",), ("\udfff",), ("?",), ("a", " b"), ("1", "ab"), ("1a", "b"), ("a" * 256, "b"), ("a" * 255, "ab"),
)  # fmt: skip
"""Paths that differ, and that a careless spelling takes for each other."""


@codec_check()
def its_name_fits_an_envelope(fixture: CodecFixture) -> None:
    """The name is text that an envelope can bear, and every instance has the same."""
    LeafFormat(fixture.codec)
    require(fixture.harness.open().name == fixture.codec.name, "two instances have two names")


@codec_check(CodecNeed.DETERMINISTIC)
def equal_values_have_equal_bytes(fixture: CodecFixture) -> None:
    """Where deterministic is claimed, a value has the same bytes in every call and every instance."""
    other = fixture.harness.open()

    def check(value: Any) -> None:
        data = fixture.encoded(value)
        if data is not None:
            require(data == fixture.codec.encode(value, HERE), f"{shortened(value)} has other bytes at the second time")
            require(data == other.encode(value, HERE), f"{shortened(value)} has other bytes in a second instance")

    fixture.each(fixture.harness.values(), check)


@codec_check(CodecNeed.BINDS_PATH)
def bytes_are_bound_to_their_path(fixture: CodecFixture) -> None:
    """Where binds_path is claimed, bytes that were encoded for one path are refused at every other, however alike."""
    for value, _ in fixture.taken(ORDINARY[:3]):
        for place, other in permutations(_ALIKE, 2):
            data = fixture.codec.encode(value, place)
            require(
                not fixture.survives(data, "what is bound elsewhere", other), f"bytes for {place!r} read at {other!r}"
            )


@codec_check(CodecNeed.BINDS_PATH)
def altered_bytes_are_refused(fixture: CodecFixture) -> None:
    """Where binds_path is claimed, bytes with any one changed, missing or added are refused."""
    for value, data in fixture.taken(ORDINARY[:9]):
        for index in range(len(data)):
            for changed in (data[index] ^ 1, data[index] ^ 0x80, 0):
                altered = data[:index] + bytes([changed]) + data[index + 1 :]
                if altered != data:
                    refused = not fixture.survives(altered, "altered bytes")
                    require(refused, f"{shortened(value)} is read with byte {index} changed")
            require(not fixture.survives(data[:index], "a beginning"), f"{shortened(value)} is read from {index} bytes")
            require(
                not fixture.survives(data[:index] + data[index + 1 :], "bytes with a gap"), f"byte {index} is missing"
            )
        require(not fixture.survives(data + b"\x00", "a byte more"), "a byte more is not noticed")


@codec_check(CodecNeed.NO_BINDS_PATH)
def a_binding_is_claimed(fixture: CodecFixture) -> None:
    """Where binds_path is not claimed, what is read at one path is read at every other."""
    for value, data in fixture.taken(ORDINARY):
        for place in _ALIKE:
            fixture.come_back(value, data, place)
            back = fixture.codec.decode(fixture.codec.encode(value, place), HERE)
            require(same(back, fixture.harness.given_back(value)), f"bytes of {place!r} are other values elsewhere")
