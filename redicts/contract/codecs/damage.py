"""Corrupt data: whatever bytes are stored, decoding returns a value or raises ValueError, and does nothing else."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import contextlib
import pickle
import sys
from collections.abc import Iterator
from typing import Any, Final

from hypothesis import strategies as st

from redicts.contract.codecs.check import HERE, NO_VALUE, CodecFixture, CodecNeed, codec_check
from redicts.contract.codecs.samples import ORDINARY, nested
from redicts.contract.requirements import CheckFailed, require, shortened
from redicts.core.codec import CorruptContent

_sprung: Final[list[str]] = []


def spring(trap: str) -> None:
    """Record that a decoder executed its input."""
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
def any_bytes_are_a_value_or_a_value_error(fixture: CodecFixture) -> None:
    """Any bytes, also those of a value that are cut, altered or repeated, are a value or raise ValueError.

    Decodes values that are cut, altered and repeated, known garbage and random bytes.
    """
    taken = fixture.taken(ORDINARY)
    for _, data in taken:
        for end in range(len(data)):
            fixture.survives(data[:end], "a beginning")
    for _, data in taken[:10]:
        for index in range(len(data)):
            for changed in (data[index] ^ 1, data[index] ^ 0x80, 0, 255):
                fixture.survives(data[:index] + bytes([changed]) + data[index + 1 :], "altered bytes")
            fixture.survives(data[:index] + data[index + 1 :], "bytes with a gap")
            fixture.survives(data[:index] + data[index:] * 2, "repeated bytes")
    for garbage in _GARBAGE:
        for beginning in {data[:size] for _, data in taken for size in (0, 1, 2, 3, 4, 8)}:
            fixture.survives(beginning + garbage, "garbage")
    fixture.each(st.binary(max_size=40), lambda data: fixture.survives(data, "garbage"))


@codec_check(CodecNeed.SAFE)
def decoding_runs_nothing(fixture: CodecFixture) -> None:
    """With the capability safe, decoding calls nothing that the bytes name, in a pickle, an expression or a tag.

    Decodes bytes that would call a function as a pickle, an expression or a tag, after each beginning of valid
    bytes.
    """
    _sprung.clear()
    beginnings = {data[:size] for _, data in fixture.taken(ORDINARY) for size in range(min(len(data), 40))} | {
        b"U",
        b"S",
    }
    for trap in _TRAPS:
        for beginning in beginnings:
            fixture.survives(beginning + trap, "a trap")
            require(not _sprung, f"decoding {shortened(beginning + trap)} executed {_sprung}")


@codec_check()
def a_refusal_has_a_message(fixture: CodecFixture) -> None:
    """The error for bytes that are refused has a message of at most a page.

    Reads the messages of the errors for garbage.
    """
    for data in _GARBAGE:
        try:
            fixture.codec.decode(data, ("a",))
        except (ValueError, RecursionError) as error:
            message = str(error)
            require(message, f"the {type(error).__name__} for {shortened(data)} has no message")
            require(len(message) <= 4_000, f"the message for {shortened(data)} has {len(message)} characters")
        except Exception:  # noqa: S110  (another check refuses it)
            pass


@codec_check()
def limits_of_the_interpreter_are_not_damage(fixture: CodecFixture) -> None:
    """Valid bytes are never CorruptContent, also if they exceed this interpreter's limits of digits or recursion.

    Decodes long integers and deep values with few digits allowed, and near the end of the stack.
    """
    deep = [10**700, [{"a": 10**700}, nested(40)], nested(40), {"a": [1, {"b": "text"}]}]
    for value, data in fixture.taken([*deep, *ORDINARY]):
        with _fewest_digits():
            _is_not_corrupt(fixture, value, data)
        _at_the_end_of_the_stack(lambda: _is_not_corrupt(fixture, value, data))  # noqa: B023  (called at once)


def _is_not_corrupt(fixture: CodecFixture, value: Any, data: bytes) -> None:
    try:
        fixture.codec.decode(data, HERE)
    except CorruptContent as error:
        raise CheckFailed(
            f"{shortened(value)} exceeds a limit of this interpreter and is called corrupt, but others can read it"
        ) from error
    except NO_VALUE:
        pass


@contextlib.contextmanager
def _fewest_digits() -> Iterator[None]:
    """Let this interpreter convert as few digits of integers as it can be set to."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(sys.int_info.str_digits_check_threshold)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(before)


def _at_the_end_of_the_stack(call: Any, tries: int = 40) -> None:
    """Call a function where few calls are left, then where one more is left, and so on."""
    left = tries

    def deeper() -> None:
        nonlocal left
        with contextlib.suppress(RecursionError):
            deeper()
        if left:
            left -= 1
            with contextlib.suppress(RecursionError):
                call()

    deeper()
