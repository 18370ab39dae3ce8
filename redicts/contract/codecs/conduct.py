"""Side effects: a codec changes no argument, shares no object, and keeps no state between calls."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import copy
import threading
from typing import Any

from redicts.codecs.json import codec as json_codec
from redicts.contract.codecs.check import HERE, NO_VALUE, REFUSALS, CodecFixture, codec_check, same
from redicts.contract.codecs.samples import AWKWARD, MARKER, NUMBERS, ORDINARY, TEXTS, Secret
from redicts.contract.requirements import CheckFailed, require, shortened
from redicts.core.codec import JsonText


@codec_check()
def plain_text_is_json(fixture: CodecFixture) -> None:
    """A JsonText that encoding returns is JSON that the codec json decodes as the same value.

    Decodes each JsonText by the codec json.
    """
    for value, data in fixture.taken([*ORDINARY, *AWKWARD, *NUMBERS, *TEXTS]):
        if isinstance(data, JsonText):
            try:
                plain = json_codec.decode(bytes(data))
            except ValueError as error:
                raise CheckFailed(f"{shortened(value)} is encoded as a JsonText that is not JSON: {error}") from error
            require(same(plain, fixture.codec.decode(data, HERE)), f"{shortened(value)} is another value in plain JSON")


@codec_check()
def it_does_not_change_what_it_is_given(fixture: CodecFixture) -> None:
    """Encoding does not change the value, also if it refuses it.

    Compares values before and after they are encoded or refused.
    """
    for value in [
        *ORDINARY,
        {"b": [3, 1, 2], "a": {"z": 1, "y": [{}]}},
        {"a": object, "b": 1},
        [{1: 2}],
        ["b", {"c": {1}}],
    ]:
        given = copy.deepcopy(value)
        fixture.encoded(given)
        require(same(given, value) and repr(given) == repr(value), f"{shortened(value)} was changed by encoding it")


@codec_check()
def each_read_gives_a_value_of_its_own(fixture: CodecFixture) -> None:
    """A change to a decoded value does not show in what is decoded later, nor one to an encoded value in its bytes.

    Changes decoded and encoded lists and dicts, and decodes once more.
    """
    for value, data in fixture.taken([[1, [2, 3]], {"a": [1], "b": {"c": 2}}, [[]], [{}]]):
        _spoil(fixture.codec.decode(data, HERE))
        fixture.come_back(value, data)
    for value in ([1, [2, 3]], {"a": [1], "b": {"c": 2}}):
        given = copy.deepcopy(value)
        written = fixture.encoded(given)
        if written is not None:
            _spoil(given)
            fixture.come_back(value, written)


@codec_check()
def bytes_stand_for_themselves(fixture: CodecFixture) -> None:
    """Bytes can be decoded in any order, repeatedly, after any other calls, and by another instance.

    Decodes many values backwards, again, and by another instance.
    """
    taken = fixture.taken([*ORDINARY, *ORDINARY, *reversed(ORDINARY)])
    other = fixture.harness.open()
    for value, data in [*reversed(taken), *taken]:
        try:
            fixture.come_back(value, data)
            back = other.decode(data, HERE)
        except ValueError as error:
            raise CheckFailed(f"{shortened(value)} cannot be decoded after other calls: {error}") from error
        require(same(back, fixture.harness.given_back(value)), f"another instance decodes {shortened(value)} otherwise")


@codec_check()
def a_refusal_leaves_nothing_behind(fixture: CodecFixture) -> None:
    """A refused value or refused bytes do not affect later calls.

    Encodes and decodes between values and bytes that are refused.
    """
    before = fixture.taken(ORDINARY)
    for value, data in before:
        for refused in (object(), [1, {"a": lambda: None}], {"a": [1, object()]}):
            fixture.encoded(refused)
        fixture.survives(b"\xff\x00garbage", "garbage")
        after = fixture.encoded(value)
        require(after is not None, f"{shortened(value)} is refused after another value was refused")
        assert after is not None
        fixture.come_back(value, after)
        fixture.come_back(value, data)


@codec_check()
def an_error_does_not_repeat_the_value(fixture: CodecFixture) -> None:
    """The error for a value or bytes that are refused does not contain a part of the value: users log it.

    Searches the errors for values and for altered bytes for a marker that is in them.
    """
    secret = Secret()
    for value in (
        secret,
        [MARKER, secret],
        {"a": MARKER, "b": {"c": secret}},
        [{"a": (MARKER, object())}],
        {1: secret},
    ):
        try:
            fixture.codec.encode(value, HERE)
        except REFUSALS as error:
            require(MARKER not in str(error), f"the error for a value that is refused repeats it: {error}")
    for _, data in fixture.taken([MARKER, [MARKER, 1], {"a": MARKER, "b": 2.5}]):
        for altered in (data[:-1], data[:-3], data + data, data[1:], b"\x00" + data, data[:3] + b"\xff" + data[3:]):
            try:
                fixture.codec.decode(altered, HERE)
            except NO_VALUE as error:
                require(MARKER not in str(error), f"the error for altered bytes repeats the value: {error}")


@codec_check()
def threads_do_not_meet(fixture: CodecFixture) -> None:
    """Threads that use one instance at the same time get their own bytes and values.

    Four threads encode and decode their own values by one instance.
    """
    failures: list[BaseException] = []
    together = threading.Barrier(4)

    def work(number: int) -> None:
        try:
            together.wait(fixture.timeout)
            for round_ in range(50):
                value = [number, round_, f"thread {number}" * (round_ % 7), {"n": number}]
                fixture.come_back(value, fixture.codec.encode(value, HERE))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(fixture.timeout)
        require(not thread.is_alive(), "a thread did not end")
    require(not failures, f"in a thread: {shortened(failures[:1])}")


def _spoil(value: Any) -> None:
    """Change a value wherever it is mutable."""
    inner = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
    for each in inner:
        _spoil(each)
    if isinstance(value, list):
        value.append("spoilt")
    elif isinstance(value, dict):
        value["spoilt"] = True
