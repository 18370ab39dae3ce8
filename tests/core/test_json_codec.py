"""The codec ``json`` means what ``json.dumps`` and ``json.loads`` mean, and writes plain text."""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redicts.codecs.json import codec
from redicts.core.codec import TruncatedContent

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(2**63, 2**300),
    st.floats(),
    st.text(st.characters(), max_size=10),
)
keys = st.one_of(st.text(st.characters(), max_size=5), st.integers(), st.booleans(), st.none(), st.floats())
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=20,
)


class Colour(IntEnum):
    """An integer with a name."""

    RED = 3


class Name(str):
    """Text of a user's own class."""


@given(value=values)
@example(value="\ud800")
@example(value=["\ud83d\ude00", "\U0001f600", "é\ud800"])
@example(value={"\ud800": 1, 5: 2, None: 3, True: 4, 1.5: 5})
@example(value=[float("nan"), float("inf"), float("-inf"), -0.0])
@example(value=[Colour.RED, Name("x"), {Name("k"): (1, (2,))}])
def test_values_are_those_of_the_json_module(value: Any) -> None:
    """Decoded values equal ``json.loads(json.dumps(...))``, and the bytes are that JSON text."""
    expected = json.loads(json.dumps(value))
    data = codec.encode(value)
    assert repr(codec.decode(data)) == repr(expected)
    assert repr(json.loads(data)) == repr(expected)


@given(value=values, indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
def test_json_of_others_is_read(value: Any, indent: int | None, ascii_only: bool) -> None:
    """What another program has written is read, however it puts its blanks and escapes."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    data = f" {text}\n".encode("utf-8", "surrogatepass" if ascii_only else "replace")
    assert repr(codec.decode(data)) == repr(json.loads(data.decode()))


@given(text=st.text(st.sampled_from('[]{}":,0123.eE-+ \n\ttruefalsnINaiy\\/bu'), max_size=12))
@example(text="")
@example(text=" ")
@example(text="1 2")
@example(text="[1,]")
@example(text="nul")
@example(text="-")
@example(text="\ufeff1")
@example(text='"\\x"')
@example(text='"\n"')
@example(text="01")
def test_what_is_no_json_is_refused(text: str) -> None:
    """Text is read or refused exactly as ``json.loads`` does it; what is refused raises ``ValueError``."""
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011  (the contract of codecs promises no more)
            codec.decode(text.encode())
    else:
        assert repr(codec.decode(text.encode())) == repr(expected)


@pytest.mark.parametrize("data", [b"\xff", b'"\xed\xa0\x80"', b"\x80", '"a"'.encode("utf-16"), b"\x01json"])
def test_what_is_no_utf_8_is_refused(data: bytes) -> None:
    """Bytes that are no UTF-8 are no value."""
    with pytest.raises(ValueError):  # noqa: PT011  (the contract of codecs promises no more)
        codec.decode(data)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (42, b"42"),
        (-1, b"-1"),
        (0, b"0"),
        (10**30, b"1" + b"0" * 30),
        (True, b"true"),
        (False, b"false"),
        (None, b"null"),
        (1.5, b"1.5"),
        (1.0, b"1.0"),
        (1e100, b"1e+100"),
        (float("nan"), b"NaN"),
        (float("inf"), b"Infinity"),
        (float("-inf"), b"-Infinity"),
        ("", b'""'),
        ("plain", b'"plain"'),
        ('quote" and \\', b'"quote\\" and \\\\"'),
        ("line\n\x00", b'"line\\n\\u0000"'),
        ("\u00e9\U0001f600", '"\u00e9\U0001f600"'.encode()),
        ("\u00e9\ud800", b'"\\u00e9\\ud800"'),
        ([1, 2], b"[1,2]"),
        ((1, 2), b"[1,2]"),
        ([], b"[]"),
        ({}, b"{}"),
        ({"a": {"b": None}}, b'{"a":{"b":null}}'),
        (Colour.RED, b"3"),
        (Name("x"), b'"x"'),
    ],
)
def test_the_text_of_values(value: object, data: bytes) -> None:
    """The bytes are plain, compact JSON in UTF-8; only text that UTF-8 does not know is escaped."""
    assert codec.encode(value) == data


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (object(), TypeError),
        ({1}, TypeError),
        (b"x", TypeError),
        (1j, TypeError),
        ({(1,): 2}, TypeError),
        (10**5000, ValueError),
    ],
    ids=["object", "set", "bytes", "complex", "tuple as key", "too many digits"],
)
def test_what_json_does_not_take_is_refused(value: object, error: type[Exception]) -> None:
    """What ``json.dumps`` refuses is refused with the same class of error."""
    with pytest.raises(error):
        json.dumps(value)
    with pytest.raises(error):
        codec.encode(value)
    with pytest.raises(error):
        codec.encode([value])


def test_cycles_are_refused() -> None:
    """A list in itself is a ``ValueError``, as for ``json.dumps``."""
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(ValueError, match="Circular"):
        codec.encode(cycle)


@pytest.mark.parametrize("data", [b"", b"[1", b'["a', b'{"a":', b'"text', b"[1, ", b'{"a"'])
def test_text_that_ends_too_early_is_truncated(data: bytes) -> None:
    """Text that ends before its value does has an error of its own."""
    with pytest.raises(TruncatedContent):
        codec.decode(data)


@pytest.mark.parametrize("data", [b"nope", b"[1}", b'{"a" 1}', b"1 2", b"\x04json 1\n1"])
def test_what_does_not_end_too_early_is_not(data: bytes) -> None:
    """Text with a fault before its end is reported as not valid JSON."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the class is what is looked at)
        codec.decode(data)
    assert not isinstance(caught.value, TruncatedContent)


@given(
    st.dictionaries(
        st.text(st.characters(), max_size=4),
        st.none() | st.booleans() | st.integers() | st.integers(-(2**200), 2**200) | st.text(st.characters()),
        min_size=9,
    )
)
@example({**dict.fromkeys("abcdefgh"), "\x00\x1f\x7f\u2028\\/": 2**64, "lone": "\ud800"})
@example({chr(number): chr(number) for number in range(0x3000)})
def test_a_large_flat_dict_has_the_text_of_the_json_module(value: dict[str, Any]) -> None:
    """However a dict is written, its bytes are those of the json module: equal values are compared by their bytes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        expected = text.encode()
    except UnicodeEncodeError:
        expected = json.dumps(value, separators=(",", ":")).encode()
    assert codec.encode(value) == expected


def test_its_name() -> None:
    """Settings choose it as ``json``."""
    assert codec.name == "json"
