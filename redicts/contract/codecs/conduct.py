"""Conduct: a codec changes nothing, shares nothing, and remembers nothing from one call to the next."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

import copy
import threading
from typing import Any

from redicts.codecs.json import codec as json_codec
from redicts.contract.codecs.law import HERE, CodecBench, codec_law, same
from redicts.contract.codecs.samples import AWKWARD, NUMBERS, ORDINARY, TEXTS
from redicts.contract.law import LawBroken, require, shortened
from redicts.core.codec import JsonText


@codec_law()
def it_returns_bytes(bench: CodecBench) -> None:
    """Encoding returns bytes, and no bytearray, text or view that somebody could still change."""
    for value, data in bench.taken(ORDINARY):
        require(isinstance(data, bytes), f"{shortened(value)} is encoded as {type(data).__name__}")


@codec_law()
def plain_text_is_json(bench: CodecBench) -> None:
    """What is returned as JsonText is JSON that the codec json reads as the same value."""
    for value, data in bench.taken([*ORDINARY, *AWKWARD, *NUMBERS, *TEXTS]):
        if isinstance(data, JsonText):
            try:
                plain = json_codec.decode(bytes(data))
            except ValueError as error:
                raise LawBroken(f"{shortened(value)} is returned as JsonText and is none: {error}") from error
            require(same(plain, bench.codec.decode(data, HERE)), f"{shortened(value)} is another value in plain JSON")


@codec_law()
def it_does_not_change_what_it_is_given(bench: CodecBench) -> None:
    """A value is the same after encoding as before, also if it was refused."""
    for value in [
        *ORDINARY,
        {"b": [3, 1, 2], "a": {"z": 1, "y": [{}]}},
        {"a": object, "b": 1},
        [{1: 2}],
        ["b", {"c": {1}}],
    ]:
        given = copy.deepcopy(value)
        bench.encoded(given)
        require(same(given, value) and repr(given) == repr(value), f"{shortened(value)} was changed by encoding it")


@codec_law()
def each_read_gives_a_value_of_its_own(bench: CodecBench) -> None:
    """What is changed in a value that was read is not changed in what the next read gives."""
    for value, data in bench.taken([[1, [2, 3]], {"a": [1], "b": {"c": 2}}, [[]], [{}]]):
        _spoil(bench.codec.decode(data, HERE))
        bench.come_back(value, data)
    for value in ([1, [2, 3]], {"a": [1], "b": {"c": 2}}):
        given = copy.deepcopy(value)
        written = bench.encoded(given)
        if written is not None:
            _spoil(given)
            bench.come_back(value, written)


@codec_law()
def bytes_stand_for_themselves(bench: CodecBench) -> None:
    """Bytes are read in any order, any number of times, after any other calls, and by another instance."""
    taken = bench.taken([*ORDINARY, *ORDINARY, *reversed(ORDINARY)])
    other = bench.harness.open()
    for value, data in [*reversed(taken), *taken]:
        try:
            bench.come_back(value, data)
            back = other.decode(data, HERE)
        except ValueError as error:
            raise LawBroken(f"{shortened(value)} cannot be read after other calls: {error}") from error
        require(same(back, bench.harness.given_back(value)), f"another instance reads {shortened(value)} otherwise")


@codec_law()
def a_refusal_leaves_nothing_behind(bench: CodecBench) -> None:
    """After a value or bytes were refused, the next ones are taken as if that had not been."""
    before = bench.taken(ORDINARY)
    for value, data in before:
        for refused in (object(), [1, {"a": lambda: None}], {"a": [1, object()]}):
            bench.encoded(refused)
        bench.survives(b"\xff\x00garbage", "garbage")
        after = bench.encoded(value)
        require(after is not None, f"{shortened(value)} is refused after another value was")
        assert after is not None
        bench.come_back(value, after)
        bench.come_back(value, data)


@codec_law()
def threads_do_not_meet(bench: CodecBench) -> None:
    """Threads that use one instance at the same time get their own bytes and their own values."""
    failures: list[BaseException] = []
    together = threading.Barrier(4)

    def work(number: int) -> None:
        try:
            together.wait(bench.patience)
            for turn in range(50):
                value = [number, turn, f"thread {number}" * (turn % 7), {"n": number}]
                bench.come_back(value, bench.codec.encode(value, HERE))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(bench.patience)
        require(not thread.is_alive(), "a thread did not end")
    require(not failures, f"in a thread: {shortened(failures[:1])}")


def _spoil(value: Any) -> None:
    """Change a value wherever it can be changed."""
    inner = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
    for each in inner:
        _spoil(each)
    if isinstance(value, list):
        value.append("spoilt")
    elif isinstance(value, dict):
        value["spoilt"] = True
