"""Damage: whatever anybody has stored, decoding gives a value or a ValueError, and does nothing else."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

import pickle
from typing import Any, Final

from hypothesis import strategies as st

from redicts.contract.check import require, shortened
from redicts.contract.codecs.check import CodecFixture, CodecNeed, codec_check
from redicts.contract.codecs.samples import ORDINARY

_sprung: Final[list[str]] = []


def spring(trap: str) -> None:
    """Record that a decoder ran what it was given."""
    _sprung.append(trap)


class _Trap:
    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return spring, (self.name,)


_HERE: Final = "redicts.contract.codecs.damage"
_TRAPS: Final = (
    *[pickle.dumps(_Trap(f"a pickle of protocol {number}"), number) for number in range(pickle.HIGHEST_PROTOCOL + 1)],
    f"__import__({_HERE!r}, fromlist=['x']).spring('a Python expression')".encode(),
    f"!!python/object/apply:{_HERE}.spring ['a YAML tag']\n".encode(),
    f'{{"$type":"{_HERE}.spring","value":"a tag"}}'.encode(),
    f'{{"py/reduce":[{{"py/function":"{_HERE}.spring"}},{{"py/tuple":["a jsonpickle"]}}]}}'.encode(),
)

_GARBAGE: Final = (
    b"", b"\x00", b"\x01", b"\x04", b"\xff", b"\xff" * 50, b"\x00" * 50, b"{", b"}", b"[", b'"', b"nul", b"1 1", b"--1",
    b"9" * 5_000, b"[" * 50_000, b"\x91" * 50_000, b"(" * 50_000, b'{"a":' * 20_000, b"\xdf\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff", b"\xc9\x00\x00\x00\x02\x01", b"\xc7\x01\x02\xc0", b"\xd4\x03T", b"\x81\x90\x01",
    b"\x80\x04.", b"\x80\x04N.", b"cos\nsystem\n.", b"S" + b"0" * 40, b"U", b"UN.", b"SN.", b'{"$type":1}',
    b'{"$type":"x","value":1}', b'{"$type":{},"value":1}', b'{"$type":"x"}', b"\x1f\x8b\x08\x00",
    b"x\x9c\x03\x00\x00\x00\x00\x01", b"\xef\xbb\xbf1", bytes(range(256)),
)  # fmt: skip


@codec_check()
def truncated_bytes_are_a_value_error(fixture: CodecFixture) -> None:
    """Any beginning of the bytes of a value is another value, or raises ValueError and nothing else."""
    for _, data in fixture.taken(ORDINARY):
        for end in range(len(data)):
            fixture.survives(data[:end], "a beginning")


@codec_check()
def garbage_is_a_value_error(fixture: CodecFixture) -> None:
    """Any bytes at all are a value, or raise ValueError and nothing else."""
    beginnings = {data[:size] for _, data in fixture.taken(ORDINARY) for size in (0, 1, 2, 3, 4, 8)}
    for data in _GARBAGE:
        for beginning in beginnings:
            fixture.survives(beginning + data, "garbage")

    def check(data: bytes) -> None:
        fixture.survives(data, "garbage")

    fixture.each(st.binary(max_size=40), check)


@codec_check()
def altered_bytes_are_a_value_error(fixture: CodecFixture) -> None:
    """The bytes of a value with one changed, missing or repeated are a value, or raise ValueError and nothing else."""
    for _, data in fixture.taken(ORDINARY[:10]):
        for index in range(len(data)):
            for changed in (data[index] ^ 1, data[index] ^ 0x80, 0, 255):
                fixture.survives(data[:index] + bytes([changed]) + data[index + 1 :], "altered bytes")
            fixture.survives(data[:index] + data[index + 1 :], "bytes with a gap")
            fixture.survives(data[:index] + data[index:] * 2, "repeated bytes")


@codec_check(CodecNeed.SAFE)
def decoding_runs_nothing(fixture: CodecFixture) -> None:
    """Where safe is claimed, decoding calls nothing that the bytes name: no pickle, expression or tag of anybody's."""
    _sprung.clear()
    beginnings = {data[:size] for _, data in fixture.taken(ORDINARY) for size in range(min(len(data), 40))} | {
        b"U",
        b"S",
    }
    for trap in _TRAPS:
        for beginning in beginnings:
            fixture.survives(beginning + trap, "a trap")
            require(not _sprung, f"decoding {shortened(beginning + trap)} has run {_sprung}")


@codec_check()
def what_is_refused_says_so_in_words(fixture: CodecFixture) -> None:
    """A refusal of bytes has a message; who reads it sees what is wrong, and no more than a page of it."""
    for data in _GARBAGE:
        try:
            fixture.codec.decode(data, ("a",))
        except (ValueError, RecursionError) as error:
            told = str(error)
            require(told, f"the {type(error).__name__} for {shortened(data)} has no message")
            require(len(told) <= 4_000, f"the message for {shortened(data)} has {len(told)} characters")
        except Exception:  # noqa: S110  (another check refuses it)
            pass
