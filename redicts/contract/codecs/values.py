"""Values: what is taken comes back, and everything else is refused."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

from typing import Any

from redicts.contract.codecs.law import HERE, NO_VALUE, REFUSALS, CodecBench, codec_law
from redicts.contract.codecs.samples import AWKWARD, NUMBERS, ORDINARY, TEXTS, nested
from redicts.contract.law import LawBroken, require, shortened


@codec_law()
def what_it_takes_comes_back(bench: CodecBench) -> None:
    """Every value that the harness says the codec takes is taken, and comes back equal and of the same class."""

    def check(value: Any) -> None:
        try:
            data = bench.codec.encode(value, ("a", "b"))
        except Exception as error:
            raise LawBroken(f"{shortened(value)} is refused: {type(error).__name__}: {error}") from error
        bench.come_back(value, data, ("a", "b"))

    bench.each(bench.harness.values(), check)


@codec_law()
def what_does_not_come_back_is_refused(bench: CodecBench) -> None:
    """A value that would come back as another one, or not at all, is refused with TypeError or ValueError."""
    cycle: list[Any] = []
    cycle.append(cycle)
    data = bench.encoded(cycle)
    if data is not None:
        back = bench.codec.decode(data, HERE)
        require(isinstance(back, list) and back and back[0] is back, "a list in itself comes back as another one")
    for value in AWKWARD:
        data = bench.encoded(value)
        if data is not None:
            _comes_back(bench, value, data)


@codec_law()
def numbers_come_back_or_are_refused(bench: CodecBench) -> None:
    """Integers of any size, and floats to the last bit, NaN and infinities, come back exactly or are refused."""
    for value, data in bench.taken(NUMBERS):
        _comes_back(bench, value, data)


@codec_law()
def text_comes_back_or_is_refused(bench: CodecBench) -> None:
    """Text with any character, lone surrogates and control characters too, comes back exactly or is refused."""
    for text, data in bench.taken([*TEXTS, *[[text] for text in TEXTS]]):
        _comes_back(bench, text, data)


@codec_law()
def large_values_come_back(bench: CodecBench) -> None:
    """A megabyte of text and a list of a hundred thousand values come back."""
    for value in ("é" * 500_000, list(range(100_000)), ["x" * 1_000] * 500):
        data = bench.encoded(value)
        require(data is not None, f"a large {type(value).__name__} of plain values is refused")
        assert data is not None
        bench.come_back(value, data)


@codec_law()
def deep_values_come_back_or_are_refused(bench: CodecBench) -> None:
    """A value nested fifty levels deep comes back; one of a hundred thousand levels is refused, or comes back."""
    data = bench.encoded(nested(50))
    require(data is not None, "a list nested fifty levels deep is refused")
    assert data is not None
    bench.come_back(nested(50), data)
    data = bench.encoded(nested(100_000))
    if data is not None:
        try:
            bench.codec.decode(data, HERE)
        except NO_VALUE as error:
            raise LawBroken(f"a very deep value was taken and is not given back: {type(error).__name__}") from error


@codec_law()
def ordinary_values_are_the_same_everywhere(bench: CodecBench) -> None:
    """What is taken at one path is taken at every path, the root and those of any characters too."""
    places: tuple[tuple[str, ...], ...] = ((), ("a",), ("a.b", "\x00", "\ud800", "é"), ("n",) * 128, ("x" * 2_000,))
    for value in ORDINARY:
        if bench.encoded(value) is None:
            continue
        for place in places:
            try:
                data = bench.codec.encode(value, place)
            except REFUSALS as error:
                raise LawBroken(f"{shortened(value)} is refused at {shortened(place)}: {error}") from error
            bench.come_back(value, data, place)


def _comes_back(bench: CodecBench, value: Any, data: bytes) -> None:
    """Demand that a value of these bytes, which was taken, comes back."""
    try:
        bench.come_back(value, data)
    except NO_VALUE as error:
        raise LawBroken(f"{shortened(value)} was taken and is not given back: {error}") from error
