"""A leaf says which codec wrote it; who reads takes what the settings accept, and names what it refuses."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redicts.codecs.json import codec as json_codec
from redicts.codecs.models import ModelsCodec
from redicts.codecs.msgpack import MsgpackCodec
from redicts.codecs.pickle import PickleCodec
from redicts.core.codec import (
    BadSignatureContent,
    Codec,
    CorruptContent,
    TruncatedContent,
    UnknownType,
    ValidationFailedContent,
)
from redicts.core.envelope import LeafFormat
from redicts.core.leaves import Packed, leaves_of, nest
from redicts.core.minitransaction import Path
from redicts.errors import (
    BadSignature,
    CodecRefused,
    CodecUnknown,
    CorruptData,
    LeafError,
    ReadRefused,
    RedictsError,
    Truncated,
    TypeUnknown,
    UnreadableHere,
    ValidationFailed,
)

AT: Path = ("a", "b.c")
WHERE = re.escape(r"'a.b\\.c'")
KEY = b"a key of sixteen"
MSGPACK = MsgpackCodec()
WRITERS = {
    "json": json_codec,
    "models": ModelsCodec(),
    "msgpack": MSGPACK,
    "pickle": PickleCodec((KEY,)),
    "unsigned": PickleCodec(()),
}


class Raising(Codec):
    """A codec whose decoding raises what a test wants."""

    def __init__(self, error: Exception, name: str = "raising") -> None:
        self.error = error
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def encode(self, value: object, path: Path, /) -> bytes:
        return b"x"

    def decode(self, data: bytes, path: Path, /) -> object:
        raise self.error


def stored(value: object, writer: Codec, *readers: Codec) -> bytes:
    """Return how one leaf is stored."""
    (data,) = leaves_of(Packed(value), AT, LeafFormat(writer, readers)).values()
    return data


def read(data: bytes, form: LeafFormat) -> object:
    """Return what is read of one leaf."""
    return nest({(): data}, AT, form)


@pytest.mark.parametrize("writer", WRITERS.values(), ids=list(WRITERS))
@pytest.mark.parametrize("value", [0, 1, -1, 42, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("with_json", [True, False])
def test_counters_are_plain_in_every_codec(writer: Codec, value: int, with_json: bool) -> None:
    """A 64-bit integer is decimal text whatever codec writes, and is read whatever else is accepted."""
    readers = [json_codec] if with_json else []
    assert stored(value, writer, *readers) == b"%d" % value
    assert read(b"%d" % value, LeafFormat(writer, readers)) == value


@pytest.mark.parametrize("writer", WRITERS.values(), ids=list(WRITERS))
def test_empty_dicts_are_plain_in_every_codec(writer: Codec) -> None:
    """An empty dict has the same bytes whatever codec writes, so that merging knows it."""
    assert stored({}, writer) == b"{}"
    assert read(b"{}", LeafFormat(writer)) == {}


@pytest.mark.parametrize("name", ["msgpack", "pickle", "unsigned"])
@pytest.mark.parametrize("value", ["text", 1.5, None, True, [1], 2**64, {"a": 1}])
def test_other_values_lie_in_an_envelope(name: str, value: object) -> None:
    """A leaf that is not JSON begins with a byte that no JSON begins with, the name of its codec and the length."""
    writer = WRITERS[name]
    data = stored(value, writer, json_codec)
    header, _, payload = data.partition(b"\n")
    assert header == b"\x04%b %d" % (writer.name.encode(), len(payload))
    with pytest.raises(ValueError, match=r"."):
        json.loads(data)


def test_the_envelope_is_not_escaped_in_redis() -> None:
    """The first byte is none of those that the Redis layout sets apart."""
    assert stored("x", MSGPACK)[0] not in b"\x01\x02\x03"


def test_json_text_of_a_codec_needs_json_to_be_accepted() -> None:
    """A codec's JSON is stored as plain text if json may be read, and in an envelope otherwise."""
    models = ModelsCodec()
    assert stored("text", models, json_codec) == b'"text"'
    alone = stored("text", models)
    assert alone == b'\x04models 6\n"text"'
    assert read(alone, LeafFormat(models)) == "text"
    assert read(alone, LeafFormat(json_codec, [models])) == "text"


@given(
    names=st.lists(st.sampled_from(sorted(WRITERS)), min_size=1, max_size=6),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=5,
    ),
)
@example(names=["unsigned"], value=[1])
def test_each_leaf_is_read_by_its_own_codec(names: list[str], value: Any) -> None:
    """A tree with leaves of several codecs is read by every format that accepts all of them, whichever it writes."""
    names = [name for name in names if name != "unsigned"] or ["json"]
    accepted = [WRITERS[name] for name in ("json", "models", "msgpack", "pickle")]
    leaves: dict[Path, bytes] = {}
    for number, name in enumerate(names):
        leaves |= {
            (f"n{number}",): data for data in leaves_of(value, (*AT, f"n{number}"), LeafFormat(WRITERS[name])).values()
        }
    for writer in accepted:
        form = LeafFormat(writer, [codec for codec in accepted if codec is not writer])
        assert nest(leaves, AT, form) == {f"n{number}": value for number in range(len(names))}


@pytest.mark.parametrize("writer", ["json", "models", "msgpack"])
def test_what_is_not_accepted_is_refused(writer: str) -> None:
    """The refusal names the path, the codec found, those accepted, and the setting to change; nothing is decoded."""
    data = stored("x", PickleCodec((KEY,)))
    form = LeafFormat(WRITERS[writer])
    with pytest.raises(CodecRefused, match=rf"{WHERE}.*'pickle'.*accepted are: {writer}.*'accept'"):
        read(data, form)
    with pytest.raises(CodecRefused, match=r"b\\\\.c\.x'.*'pickle'"):
        nest({("x",): data, ("y",): b"1"}, AT, form)


@pytest.mark.parametrize(
    "data", [b'"text"', b"1.5", b"true", b"007", b"-0", b"9223372036854775808", b"[1]", b"", b"+1"]
)
def test_json_too_can_be_refused(data: bytes) -> None:
    """Where json is not accepted, plain text is refused, but for counters and empty dicts."""
    with pytest.raises(CodecRefused, match=rf"{WHERE}.*'json'.*'accept'"):
        read(data, LeafFormat(PickleCodec((KEY,))))


def test_a_codec_that_is_not_installed_has_an_error_of_its_own() -> None:
    """A codec must be installed before it is accepted, and the error says so."""
    asked: list[str] = []

    def is_installed(name: str) -> bool:
        asked.append(name)
        return name == "msgpack"

    form = LeafFormat(json_codec, (), is_installed)
    with pytest.raises(CodecUnknown, match=rf"{WHERE}.*'zlib'.*not installed.*'accept'"):
        read(b"\x04zlib 1\nx", form)
    with pytest.raises(CodecRefused, match="'msgpack'"):
        read(b"\x04msgpack 1\nx", form)
    assert asked == ["zlib", "msgpack"]


@pytest.mark.parametrize("writer", ["json", "msgpack", "pickle"])
def test_what_ends_too_early_is_truncated(writer: str) -> None:
    """Any beginning of a leaf in an envelope is ``Truncated``, and the error names path and, once known, codec."""
    data = stored(["text", 1.5], MSGPACK)
    form = LeafFormat(WRITERS[writer], [MSGPACK] if writer != "msgpack" else [json_codec])
    for end in range(1, len(data)):
        with pytest.raises(Truncated, match=WHERE) as caught:
            read(data[:end], form)
        assert ("codec msgpack" in str(caught.value)) == (b"\n" in data[:end])


@pytest.mark.parametrize("data", [b"[1, 2", b'"tex', b"", b'{"a":'])
def test_truncated_json_is_truncated(data: bytes) -> None:
    """Plain text that ends too early raises Truncated, not only CorruptData."""
    for form in (LeafFormat(json_codec), LeafFormat(MSGPACK, [json_codec])):
        with pytest.raises(Truncated, match=f"{WHERE} with the codec json ends too early"):
            read(data, form)


@pytest.mark.parametrize(
    "data",
    [
        b"\x04\x04", b"\x04 1\nx", b"\x04msgpack\n", b"\x04msgpack 01\nx", b"\x04msgpack -1\nx", b"\x04msgpack 1 x",
        b"\x04msgpack  1\nx", b"\x04" + b"n" * 65 + b" 1\nx", b"\x04.x 1\nx", b"\x04a/b 1\nx", b"\x04msgpack 0\nx",
        b"\x04msgpack 1\n\xc0\xc0", b"\x04msgpack 9999999999999\nx",
    ],
)  # fmt: skip
def test_what_is_no_envelope_is_damaged(data: bytes) -> None:
    """What begins like an envelope and is none is damage of the store, with the path, and not ``Truncated``."""
    for form in (LeafFormat(json_codec, [MSGPACK]), LeafFormat(MSGPACK)):
        with pytest.raises(CorruptData, match=WHERE) as caught:
            read(data, form)
        assert type(caught.value) is CorruptData


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ValueError("why"), UnreadableHere),
        (LookupError("why"), UnreadableHere),
        (MemoryError("why"), UnreadableHere),
        (CorruptContent("why"), CorruptData),
        (TruncatedContent("why"), Truncated),
        (BadSignatureContent("why"), BadSignature),
        (UnknownType("why"), TypeUnknown),
        (ValidationFailedContent("why"), ValidationFailed),
    ],
)
@pytest.mark.parametrize("name", ["raising", "json"])
def test_each_reason_of_a_codec_has_an_error_of_its_own(
    raised: Exception, expected: type[RedictsError], name: str
) -> None:
    """Each reason of a codec is an error of its own, with path, codec and message."""
    codec = Raising(raised, name)
    data = b"x" if name == "json" else b"\x04raising 1\nx"
    for form in (LeafFormat(codec), LeafFormat(MSGPACK, [codec])):
        with pytest.raises(expected, match=rf"{WHERE}.*{name}.*why") as caught:
            read(data, form)
        assert type(caught.value) is expected
        assert caught.value.__cause__ is raised


def test_a_value_that_is_nested_too_deep_for_this_interpreter_is_not_corrupt() -> None:
    """``RecursionError`` says what this interpreter lacks, and nothing about the bytes."""
    codec = Raising(RecursionError("why"))
    with pytest.raises(UnreadableHere, match=rf"{WHERE}.*raising cannot be read here.*sys\.setrecursionlimit"):
        read(b"\x04raising 1\nx", LeafFormat(codec))


def test_each_error_of_a_read_is_one_of_three_answers() -> None:
    """A value that cannot be read here, one that the settings refuse, and corrupt bytes have no common subclass."""
    answers: dict[type[RedictsError], tuple[type[RedictsError], ...]] = {
        UnreadableHere: (CodecUnknown, TypeUnknown, ValidationFailed),
        ReadRefused: (CodecRefused, BadSignature),
        CorruptData: (Truncated,),
    }
    for answer, kinds in answers.items():
        for kind in (answer, *kinds):
            assert [each for each in answers if issubclass(kind, each)] == [answer]


@pytest.mark.parametrize("name", ["", "a b", "a\n", "é", ".a", "n" * 65, "a/b", "a\x00"])
def test_a_codec_name_that_is_not_valid_is_refused(name: str) -> None:
    """A codec with a name that the envelope cannot contain is refused."""
    with pytest.raises(ValueError, match="name"):
        LeafFormat(Raising(ValueError(), name))


def test_two_codecs_of_one_name_are_refused() -> None:
    """It would depend on their order which of them reads."""
    with pytest.raises(ValueError, match="names of codecs must differ; got two named 'msgpack'"):
        LeafFormat(json_codec, [MsgpackCodec(), MsgpackCodec()])
    LeafFormat(MSGPACK, [MSGPACK])


def test_a_refused_value_names_the_codec_that_writes() -> None:
    """What the writing codec does not take is refused with path and codec, before anything is written."""
    with pytest.raises(LeafError, match=rf"{WHERE}.*codec msgpack"):
        leaves_of({1}, AT, LeafFormat(MSGPACK, [json_codec]))
