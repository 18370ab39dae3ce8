"""A value that cannot be read here, one that the settings refuse, and a corrupt one have different errors."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as File
from types import ModuleType

import msgpack
import pytest

from redicts import CorruptData, Database, ReadRefused, RedictsError, Truncated, UnreadableHere
from redicts import open as open_database
from redicts.codecs.models import ModelsCodec
from redicts.codecs.msgpack import MsgpackCodec
from redicts.codecs.pickle import PickleCodec
from redicts.core.codec import Codec
from redicts.core.envelope import LeafFormat
from redicts.core.leaves import nest
from redicts.core.minitransaction import Path

AT: Path = ("a", "b")
KEY = b"a key of sixteen"
SIGNED, UNSIGNED = PickleCodec((KEY,)), PickleCodec(())
WIDE = {f"name{number}": number for number in range(20)}


class Fickle:
    """A class whose values cannot be restored where it is told so."""

    raised: Exception | None = None

    def __setstate__(self, state: object) -> None:
        if self.raised is not None:
            raise self.raised

    def __getstate__(self) -> object:
        return {"x": 1}


@contextmanager
def without_limit() -> Iterator[None]:
    """Stand for an interpreter that reads any number of digits."""
    digits = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(digits)


def read(data: bytes, codec: Codec) -> object:
    """Return what is read of the bytes of a codec."""
    return nest({(): b"\x04%b %d\n%b" % (codec.name.encode(), len(data), data)}, AT, LeafFormat(codec))


@pytest.fixture(params=["memory", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: File) -> Iterator[Database]:
    """Return a database, on a store that has documents."""
    path = {"path": tmp_path / "state.db"} if request.param == "sqlite" else {}
    with open_database({"backend": request.param, **path}) as opened:
        yield opened


def test_a_value_beyond_the_limits_of_this_interpreter_is_unreadable_here(database: Database) -> None:
    """The error names path and limit; the values around it can be read, and it can be replaced and removed."""
    root, number = database.root(), 10**5_000
    with without_limit():
        root.set("leaf", number).set("doc", {**WIDE, "x": {"y": number, "z": 1}})
    for path in ("leaf", "doc", "doc.x", "doc.x.y"):
        with pytest.raises(UnreadableHere, match=rf"'{path}.*cannot be read here.*sys\.set_int_max_str_digits"):
            root.get(path).val()
    assert root.get("doc.x.z").val() == 1
    assert set(root.get("doc").keys()) == {*WIDE, "x"}
    with pytest.raises(UnreadableHere, match=r"'leaf'"):
        root.get("leaf").compare_and_set(1, 2)
    root.get("doc").set("name1", "new")
    with without_limit():
        assert root.get("leaf").val() == root.get("doc.x.y").val() == number
        assert root.get("doc").val() == {**WIDE, "name1": "new", "x": {"y": number, "z": 1}}
    root.set("doc.x.y", 5).delete("leaf")
    assert root.val() == {"doc": {**WIDE, "name1": "new", "x": {"y": 5, "z": 1}}}


def test_digits_in_a_model_and_levels_in_msgpack_are_unreadable_here() -> None:
    """The limits of a library are limits of this program, too."""
    with pytest.raises(UnreadableHere, match="4300"):
        read(b"[%b]" % (b"7" * 5_000), ModelsCodec())
    with pytest.raises(UnreadableHere, match="deep"):
        read(b"\x91" * 5_000 + b"\xc0", MsgpackCodec())


@pytest.mark.parametrize("codec", [SIGNED, UNSIGNED], ids=["signed", "unsigned"])
def test_a_missing_class_or_module_is_named(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which class or module this program lacks, and the bytes are not called corrupt."""
    module = ModuleType("shop_of_another_program")
    exec("class Order:\n    pass", vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    data = codec.encode(module.Order(), AT)
    kept = module.Order
    del module.Order
    with pytest.raises(UnreadableHere, match=r"needs 'shop_of_another_program\.Order'"):
        read(data, codec)
    monkeypatch.delitem(sys.modules, module.__name__)
    with pytest.raises(UnreadableHere, match=r"needs the module 'shop_of_another_program'"):
        read(data, codec)
    module.Order = kept  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert isinstance(read(data, codec), kept)


@pytest.mark.parametrize("codec", [SIGNED, UNSIGNED], ids=["signed", "unsigned"])
@pytest.mark.parametrize(
    "raised", [EOFError, ValueError, KeyError, pickle.UnpicklingError, MemoryError, RecursionError]
)
def test_a_class_that_cannot_be_restored_is_unreadable_here(
    codec: Codec, raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any exception of the code of a class is no proof against the bytes, and its message is not shown."""
    data = codec.encode(Fickle(), AT)
    monkeypatch.setattr(Fickle, "raised", raised("marker"))
    with pytest.raises(UnreadableHere, match=r"'a\.b' with the codec pickle cannot be read here") as caught:
        read(data, codec)
    assert raised is RecursionError or raised.__name__ in str(caught.value)
    assert "marker" not in str(caught.value)


def test_bytes_after_a_valid_signature_are_never_corrupt() -> None:
    """The signature proves that the pickle is as it was written, whatever pickle says about it."""
    payload = pickle.dumps(["x"])[:-3]
    signed = PickleCodec((KEY,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("redicts.codecs.pickle.pickle.dumps", lambda *_: payload)
        data = signed.encode("x", AT)
    with pytest.raises(UnreadableHere, match=r"'a\.b'"):
        read(data, signed)


def test_only_the_structure_proves_an_unsigned_pickle_corrupt() -> None:
    """Bytes that are not instructions of pickle are corrupt, and a pickle that ends too early is truncated."""
    data = UNSIGNED.encode([1, {"a": ("text", 2.5, 10**30)}, b"bytes"], AT)
    for end in range(len(data)):
        with pytest.raises(Truncated, match=r"'a\.b'"):
            read(data[:end], UNSIGNED)
    for corrupt in (b"U\xff\xfe.", b"Unothing", b"X" + data[1:]):
        with pytest.raises(CorruptData, match=r"'a\.b'") as caught:
            read(corrupt, UNSIGNED)
        assert type(caught.value) is CorruptData


@pytest.mark.parametrize(
    ("data", "expected", "says"),
    [
        (SIGNED.encode({1}, AT), UnreadableHere, r"signed; give its keys in the setting 'codec\.keys'"),
        (UNSIGNED.encode({1}, AT), ReadRefused, r"requires a signature"),
        (PickleCodec((b"a key that is gone",)).encode({1}, AT), ReadRefused, r"add the key"),
        (SIGNED.encode({1}, AT)[:-1], ReadRefused, r"signed"),
        (SIGNED.encode({1}, AT)[:20], Truncated, r"cut short"),
        (b"", Truncated, r"ends too early"),
    ],
    ids=["no keys", "no signature", "another key", "altered", "short", "empty"],
)
def test_a_signature_that_cannot_be_checked_is_no_damage(data: bytes, expected: type[RedictsError], says: str) -> None:
    """A value without a valid signature is refused: its key may be missing, so nothing proves it corrupt."""
    codec = UNSIGNED if says.startswith("signed;") else SIGNED
    with pytest.raises(expected, match=rf"'a\.b'.*{says}"):
        read(data, codec)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (msgpack.packb(msgpack.ExtType(99, b"x")), UnreadableHere),
        (b"\x81\x90\x01", UnreadableHere),
        (msgpack.packb(msgpack.ExtType(2, msgpack.packb(5))), CorruptData),
        (msgpack.packb(msgpack.ExtType(3, b"yesterday")), CorruptData),
        (msgpack.packb(msgpack.ExtType(3, b"\xff")), CorruptData),
        (b"\xc1", CorruptData),
        (b"\xc0\xc0", CorruptData),
        (b"\xa1\xff", CorruptData),
        (b"\x92\xc0", Truncated),
    ],
)
def test_messagepack_of_others_is_not_damage(data: bytes, expected: type[RedictsError]) -> None:
    """An extension or a key of another program is valid MessagePack; only what breaks its structure is corrupt."""
    with pytest.raises(expected, match=r"'a\.b'") as caught:
        read(data, MsgpackCodec())
    assert type(caught.value) is expected


def test_json_of_the_codec_models_is_corrupt_only_if_it_is_not_json() -> None:
    """A type that is missing or refuses the value is no damage."""
    missing = json.dumps({"$type": "missing", "value": 1}).encode()
    with pytest.raises(UnreadableHere, match="'missing'"):
        read(missing, ModelsCodec())
    for data, expected in ((b"\xff", CorruptData), (b"[1}", CorruptData), (b"[1", Truncated)):
        with pytest.raises(expected, match=r"'a\.b'"):
            read(data, ModelsCodec())


class Foreign(Codec):
    """A codec of a third party, which raises what its library raises."""

    name = "foreign"

    def encode(self, value: object, path: Path, /) -> bytes:
        """Return nothing."""
        return b""

    def decode(self, data: bytes, path: Path, /) -> object:
        """Raise a foreign error."""
        known: dict[bytes, object] = {}
        return known[data]


def test_a_foreign_error_of_a_codec_is_unreadable_here() -> None:
    """An exception that the contract does not know proves nothing about the bytes; it is chained, with the path."""
    with pytest.raises(UnreadableHere, match=r"'a\.b' with the codec foreign cannot be read here: KeyError") as caught:
        read(b"x", Foreign())
    assert isinstance(caught.value.__cause__, KeyError)
