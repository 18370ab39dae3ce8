"""Values: what is taken comes back, and everything else is refused."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

from typing import Any

from redicts.contract.check import CheckFailed, require, shortened
from redicts.contract.codecs.check import HERE, NO_VALUE, REFUSALS, CodecFixture, codec_check
from redicts.contract.codecs.samples import AWKWARD, NUMBERS, ORDINARY, TEXTS, nested


@codec_check()
def what_it_takes_comes_back(fixture: CodecFixture) -> None:
    """Every value that the harness says the codec takes is taken, and comes back equal and of the same class."""

    def check(value: Any) -> None:
        try:
            data = fixture.codec.encode(value, ("a", "b"))
        except Exception as error:
            raise CheckFailed(f"{shortened(value)} is refused: {type(error).__name__}: {error}") from error
        fixture.come_back(value, data, ("a", "b"))

    fixture.each(fixture.harness.values(), check)


@codec_check()
def what_does_not_come_back_is_refused(fixture: CodecFixture) -> None:
    """A value that would come back as another one, or not at all, is refused with TypeError or ValueError."""
    cycle: list[Any] = []
    cycle.append(cycle)
    data = fixture.encoded(cycle)
    if data is not None:
        back = fixture.codec.decode(data, HERE)
        require(isinstance(back, list) and back and back[0] is back, "a list in itself comes back as another one")
    for value in AWKWARD:
        data = fixture.encoded(value)
        if data is not None:
            _comes_back(fixture, value, data)


@codec_check()
def numbers_come_back_or_are_refused(fixture: CodecFixture) -> None:
    """Integers of any size, and floats to the last bit, NaN and infinities, come back exactly or are refused."""
    for value, data in fixture.taken(NUMBERS):
        _comes_back(fixture, value, data)


@codec_check()
def text_comes_back_or_is_refused(fixture: CodecFixture) -> None:
    """Text with any character, lone surrogates and control characters too, comes back exactly or is refused."""
    for text, data in fixture.taken([*TEXTS, *[[text] for text in TEXTS]]):
        _comes_back(fixture, text, data)


@codec_check()
def large_values_come_back(fixture: CodecFixture) -> None:
    """A megabyte of text and a list of a hundred thousand values come back."""
    for value in ("é" * 500_000, list(range(100_000)), ["x" * 1_000] * 500):
        data = fixture.encoded(value)
        require(data is not None, f"a large {type(value).__name__} of plain values is refused")
        assert data is not None
        fixture.come_back(value, data)


@codec_check()
def deep_values_come_back_or_are_refused(fixture: CodecFixture) -> None:
    """A value nested fifty levels deep comes back; one of a hundred thousand levels is refused, or comes back."""
    data = fixture.encoded(nested(50))
    require(data is not None, "a list nested fifty levels deep is refused")
    assert data is not None
    fixture.come_back(nested(50), data)
    data = fixture.encoded(nested(100_000))
    if data is not None:
        try:
            fixture.codec.decode(data, HERE)
        except NO_VALUE as error:
            raise CheckFailed(f"a very deep value was taken and is not given back: {type(error).__name__}") from error


@codec_check()
def ordinary_values_are_the_same_everywhere(fixture: CodecFixture) -> None:
    """What is taken at one path is taken at every path, the root and those of any characters too."""
    places: tuple[tuple[str, ...], ...] = ((), ("a",), ("a.b", "\x00", "\ud800", "é"), ("n",) * 128, ("x" * 2_000,))
    for value in ORDINARY:
        if fixture.encoded(value) is None:
            continue
        for place in places:
            try:
                data = fixture.codec.encode(value, place)
            except REFUSALS as error:
                raise CheckFailed(f"{shortened(value)} is refused at {shortened(place)}: {error}") from error
            fixture.come_back(value, data, place)


def _comes_back(fixture: CodecFixture, value: Any, data: bytes) -> None:
    """Demand that a value of these bytes, which was taken, comes back."""
    try:
        fixture.come_back(value, data)
    except NO_VALUE as error:
        raise CheckFailed(f"{shortened(value)} was taken and is not given back: {error}") from error
