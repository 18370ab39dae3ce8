"""Values: encoded values come back, and all others are refused."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from typing import Any

from redicts.contract.codecs.check import HERE, NO_VALUE, CodecFixture, codec_check
from redicts.contract.codecs.samples import AWKWARD, EQUAL_NAMES, NUMBERS, TEXTS, nested
from redicts.contract.requirements import CheckFailed, require, shortened


@codec_check()
def what_it_takes_comes_back(fixture: CodecFixture) -> None:
    """Every value that the harness declares is encoded, and comes back equal and of the same class.

    Encodes and decodes random values of the harness.
    """

    def check(value: Any) -> None:
        try:
            data = fixture.codec.encode(value, ("a", "b"))
        except Exception as error:
            raise CheckFailed(f"{shortened(value)} is refused: {type(error).__name__}: {error}") from error
        fixture.come_back(value, data, ("a", "b"))

    fixture.each(fixture.harness.values(), check)


@codec_check()
def other_values_come_back_or_are_refused(fixture: CodecFixture) -> None:
    """Any value, text and number comes back exactly, to the last bit, or is refused with TypeError or ValueError.

    Encodes and decodes numbers, texts and objects at the limits of their kinds, and a list in itself.
    """
    cycle: list[Any] = []
    cycle.append(cycle)
    data = fixture.encoded(cycle)
    if data is not None:
        back = fixture.codec.decode(data, HERE)
        require(isinstance(back, list) and back and back[0] is back, "a list in itself comes back as another list")
    for value in (*AWKWARD, *NUMBERS, *TEXTS, *([text] for text in TEXTS)):
        data = fixture.encoded(value)
        if data is not None:
            try:
                fixture.come_back(value, data)
            except NO_VALUE as error:
                raise CheckFailed(f"{shortened(value)} is encoded and cannot be decoded: {error}") from error


@codec_check()
def no_entry_is_lost(fixture: CodecFixture) -> None:
    """A dict comes back with as many entries as it has, at any depth, or is refused, also if its keys become text.

    Encodes dicts whose keys are equal as text, alone and in other values.
    """
    for value in EQUAL_NAMES:
        for nested_value in (value, [value], {"a": [({"b": value},)]}):
            data = fixture.encoded(nested_value)
            if data is not None:
                back = fixture.codec.decode(data, HERE)
                lost = _entries(nested_value) - _entries(back)
                require(not lost, f"{shortened(nested_value)} comes back as {shortened(back)}, without {lost} entries")


def _entries(value: Any) -> int:
    """Count the entries of all dicts in a value."""
    if isinstance(value, dict):
        return len(value) + sum(map(_entries, value.values()))
    return sum(map(_entries, value)) if isinstance(value, (list, tuple)) else 0


@codec_check()
def large_values_come_back(fixture: CodecFixture) -> None:
    """A megabyte of text and a list of a hundred thousand values come back.

    Encodes and decodes a megabyte of text and long lists.
    """
    for value in ("é" * 500_000, list(range(100_000)), ["x" * 1_000] * 500):
        data = fixture.encoded(value)
        require(data is not None, f"a large {type(value).__name__} of plain values is refused")
        assert data is not None
        fixture.come_back(value, data)


@codec_check()
def deep_values_come_back_or_are_refused(fixture: CodecFixture) -> None:
    """A value nested fifty levels deep comes back; one of a hundred thousand levels is refused, or comes back.

    Encodes and decodes lists nested 50 and 100,000 levels deep.
    """
    data = fixture.encoded(nested(50))
    require(data is not None, "a list nested fifty levels deep is refused")
    assert data is not None
    fixture.come_back(nested(50), data)
    data = fixture.encoded(nested(100_000))
    if data is not None:
        try:
            fixture.codec.decode(data, HERE)
        except NO_VALUE as error:
            raise CheckFailed(f"a very deep value is encoded and cannot be decoded: {type(error).__name__}") from error
