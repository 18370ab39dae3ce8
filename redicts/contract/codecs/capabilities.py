"""Declared capabilities: the capabilities of a codec are true and complete."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from itertools import permutations
from typing import Any

from redicts.contract.codecs.check import HERE, CodecFixture, CodecNeed, codec_check, same
from redicts.contract.codecs.samples import ORDINARY
from redicts.contract.requirements import require, shortened
from redicts.core.envelope import LeafFormat

_ALIKE = (
    ("a", "b"), ("a.b",), ("ab",), ("a", "b", "b"), ("b", "a"), ("a",), (), ("a", "b."), ("a\x00b",), ("a/b",),
    ("a\\", "b"), ("a", "\\b"), ("a\x00", "b"), ("A", "b"), ("é",), ("e\u0301",), ("\ud83d\ude00",), ("\U0001f600",),
    ("\ud800",), ("\udfff",), ("?",), ("a", " b"), ("1", "ab"), ("1a", "b"), ("a" * 256, "b"), ("a" * 255, "ab"),
)  # fmt: skip
"""Different paths that a careless encoding confuses."""


@codec_check()
def its_name_fits_an_envelope(fixture: CodecFixture) -> None:
    """The name fits an envelope, and every instance has the same name.

    Makes an envelope of the name, and compares the names of two instances.
    """
    LeafFormat(fixture.codec)
    require(fixture.harness.open().name == fixture.codec.name, "two instances have different names")


@codec_check(CodecNeed.DETERMINISTIC)
def equal_values_have_equal_bytes(fixture: CodecFixture) -> None:
    """With the capability deterministic, a value has the same bytes in every call and every instance.

    Encodes random values twice, and by another instance.
    """
    other = fixture.harness.open()

    def check(value: Any) -> None:
        data = fixture.encoded(value)
        if data is not None:
            require(data == fixture.codec.encode(value, HERE), f"{shortened(value)} has new bytes in a second call")
            require(data == other.encode(value, HERE), f"{shortened(value)} has other bytes in a second instance")

    fixture.each(fixture.harness.values(), check)


@codec_check(CodecNeed.BINDS_PATH)
def bytes_are_bound_to_their_path(fixture: CodecFixture) -> None:
    """With the capability binds_path, bytes that were encoded for one path are refused at every other path.

    Decodes the bytes of each of some paths that look alike at each other one.
    """
    for value, _ in fixture.taken(ORDINARY[:3]):
        for path, other in permutations(_ALIKE, 2):
            data = fixture.codec.encode(value, path)
            require(
                not fixture.survives(data, "bytes of another path", other),
                f"bytes for {path!r} are decoded at {other!r}",
            )


@codec_check(CodecNeed.BINDS_PATH)
def altered_bytes_are_refused(fixture: CodecFixture) -> None:
    """With the capability binds_path, bytes are refused if any one is changed, missing or added.

    Changes, removes and adds each byte.
    """
    for value, data in fixture.taken(ORDINARY[:9]):
        for index in range(len(data)):
            for changed in (data[index] ^ 1, data[index] ^ 0x80, 0):
                altered = data[:index] + bytes([changed]) + data[index + 1 :]
                if altered != data:
                    refused = not fixture.survives(altered, "altered bytes")
                    require(refused, f"{shortened(value)} is decoded with byte {index} changed")
            require(
                not fixture.survives(data[:index], "a beginning"), f"{shortened(value)} is decoded from {index} bytes"
            )
            require(
                not fixture.survives(data[:index] + data[index + 1 :], "bytes with a gap"),
                f"a missing byte {index} is not noticed",
            )
        require(not fixture.survives(data + b"\x00", "an additional byte"), "an additional byte is not noticed")


@codec_check(CodecNeed.NO_BINDS_PATH)
def a_binding_is_declared(fixture: CodecFixture) -> None:
    """Without the capability binds_path, bytes of any path can be decoded at every other path.

    Decodes the bytes of several paths at another one.
    """
    for value, data in fixture.taken(ORDINARY):
        for path in _ALIKE:
            fixture.come_back(value, data, path)
            back = fixture.codec.decode(fixture.codec.encode(value, path), HERE)
            require(same(back, fixture.harness.given_back(value)), f"bytes of {path!r} are another value elsewhere")
