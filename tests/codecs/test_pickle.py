"""A pickle that no key of the settings has signed is never run."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path as File
from typing import Any

import pytest
from pydantic import ValidationError

from redicts.backends.memory import MemoryBackend
from redicts.backends.redis import plugin as redis_plugin
from redicts.backends.sqlite import plugin as sqlite_plugin
from redicts.codecs.json import codec as json_codec
from redicts.codecs.msgpack import MsgpackCodec
from redicts.codecs.pickle import PickleCodec, PickleSettings, open_codec, redicts_codecs
from redicts.core.backend import Backend
from redicts.core.codec import Codec
from redicts.core.driver import run
from redicts.core.envelope import LeafFormat
from redicts.core.minitransaction import VALUES, Key, Path, Put, Transaction
from redicts.core.store import TreeStore
from redicts.errors import BadSignature, CodecRefused, CorruptData, LeafError, RedictsError, Truncated
from tests.support.executables import Executable, ServerMissing, each_executable
from tests.support.servers import RedisServer

AT: Path = ("a", "b")
KEY, OTHER = b"a key of sixteen", b"some other key of more"
SECRET = "marker-secret-of-this-test"

Plant = Callable[[Path, bytes], None]


class Bomb:
    """An object that creates a directory when it is unpickled."""

    def __init__(self, file: File) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests with the fixture ``target`` on every store, and on each version of Redis that is found."""
    if "target" in metafunc.fixturenames:
        found = each_executable()
        metafunc.parametrize(
            "target", ["memory", "sqlite", *found.values()], ids=["memory", "sqlite", *found], indirect=True
        )


@pytest.fixture
def target(
    request: pytest.FixtureRequest, tmp_path: File, servers: Callable[[Executable], RedisServer]
) -> Iterator[tuple[Backend, Plant]]:
    """Return a store, and a function that writes bytes into it as an attacker can: on Redis by a command."""
    if isinstance(request.param, ServerMissing):
        pytest.fail(str(request.param), pytrace=False)
    if isinstance(request.param, Executable):
        server = servers(request.param)
        server.flush()
        backend = redis_plugin.open(redis_plugin.model.model_validate({"port": server.port}), 0)

        def plant(path: Path, data: bytes) -> None:
            run(TreeStore(LeafFormat(json_codec), None).write(path, 1), backend)  # creates the inner nodes
            server.command("HSET", "v:" + "".join(f".{segment}" for segment in path[:-1]), path[-1], data)

    else:
        settings = sqlite_plugin.model.model_validate({"path": str(tmp_path / "state.db")})
        backend = MemoryBackend() if request.param == "memory" else sqlite_plugin.open(settings, 0)

        def plant(path: Path, data: bytes) -> None:
            backend.execute(Transaction(writes=(Put(Key(VALUES, path), data),)))

    yield backend, plant
    backend.close()


def store(writer: Codec, *readers: Codec) -> TreeStore:
    """Return a tree store with these codecs."""
    return TreeStore(LeafFormat(writer, readers), None)


def enveloped(payload: bytes) -> bytes:
    """Return a payload in the envelope of the codec pickle."""
    return b"\x04pickle %d\n%b" % (len(payload), payload)


def forgeries(file: File) -> dict[str, bytes]:
    """Return leaves with a pickle that runs code: unsigned, with a wrong signature, and without an envelope."""
    bomb = pickle.dumps(Bomb(file))
    return {
        "unsigned": enveloped(b"U" + bomb),
        "signature of zeros": enveloped(b"S" + bytes(32) + bomb),
        "signed with another key": enveloped(PickleCodec((OTHER,)).encode(Bomb(file), AT)),
        "without a signature": enveloped(bomb),
        "signed elsewhere": enveloped(PickleCodec((KEY,)).encode(Bomb(file), ("a", "elsewhere"))),
        "bare": bomb,
    }


NAMES = list(forgeries(File("nowhere")))
READERS: dict[str, tuple[Codec, ...]] = {
    "off": (json_codec,),
    "off, msgpack": (MsgpackCodec(), json_codec),
    "signed": (PickleCodec((KEY,)), json_codec),
    "signed, written as json": (json_codec, PickleCodec((KEY,))),
    "wrong key": (PickleCodec((b"a third key of yet more",)), json_codec),
    "two wrong keys": (PickleCodec((b"a third key of yet more", b"a fourth key of yet more")),),
}


def attempts(tree: TreeStore) -> list[Any]:
    """Return every operation that reads the value at the forged path."""
    return [
        lambda: tree.read(AT),
        lambda: tree.read(("a",)),
        lambda: tree.read(()),
        lambda: tree.change(AT, lambda old: old),
        lambda: tree.add(AT, 1),
        lambda: tree.compare_and_set(AT, 1, 2),
        lambda: tree.set_default(AT, 1),
    ]


@pytest.mark.parametrize("forgery", NAMES)
@pytest.mark.parametrize("readers", READERS.values(), ids=list(READERS))
def test_a_bad_signature_pickle_runs_nothing(
    readers: tuple[Codec, ...], forgery: str, target: tuple[Backend, Plant], tmp_path: File
) -> None:
    """No operation that reads a forged pickle runs it; each raises an error with the path."""
    backend, plant = target
    file = tmp_path / "owned"
    plant(AT, forgeries(file)[forgery])
    for attempt in attempts(store(*readers)):
        with pytest.raises(RedictsError, match=r"'a\.b'"):
            run(attempt(), backend)
        assert not file.exists()


def test_the_same_pickle_runs_if_the_settings_allow_it(target: tuple[Backend, Plant], tmp_path: File) -> None:
    """The forgeries of these tests are real: ``unsigned`` runs them, and a valid signature does too."""
    backend, plant = target
    file = tmp_path / "owned"
    plant(AT, forgeries(file)["unsigned"])
    run(store(PickleCodec(())).read(AT), backend)
    assert file.exists()
    file.rmdir()
    plant(AT, enveloped(PickleCodec((KEY,)).encode(Bomb(file), AT)))
    run(store(PickleCodec((KEY,))).read(AT), backend)
    assert file.exists()


@pytest.mark.parametrize("forgery", [name for name in NAMES if name != "bare"])
def test_each_forgery_has_its_error(forgery: str, tmp_path: File) -> None:
    """Without pickle in the settings it is not accepted, with keys its signature is bad; errors name the setting."""
    backend = MemoryBackend()
    backend.execute(Transaction(writes=(Put(Key(VALUES, AT), forgeries(tmp_path / "owned")[forgery]),)))
    with pytest.raises(CodecRefused, match=r"'a\.b'.*'pickle'.*'accept'"):
        run(store(json_codec).read(AT), backend)
    expected: type[RedictsError] = CorruptData if forgery == "without a signature" else BadSignature
    with pytest.raises(expected, match=r"'a\.b'.*pickle") as caught:
        run(store(PickleCodec((KEY,))).read(AT), backend)
    assert expected is CorruptData or "'codec.keys'" in str(caught.value)
    assert ("it is not signed" in str(caught.value)) == (forgery == "unsigned")


def test_a_payload_moved_to_another_path_has_a_bad_signature(target: tuple[Backend, Plant]) -> None:
    """A value that was signed for one path is refused at another one, on the same server."""
    backend, plant = target
    tree = store(PickleCodec((KEY,)))
    run(tree.write(("users", "anna"), {"role": role_of("user"), "name": role_of("anna")}), backend)
    payload = PickleCodec((KEY,)).encode(role_of("user"), ("users", "anna", "role"))
    plant(("users", "berta", "role"), enveloped(payload))
    with pytest.raises(BadSignature, match=r"users\.berta\.role"):
        run(tree.read(("users", "berta")), backend)
    assert run(tree.read(("users", "anna", "role")), backend) == role_of("user")


def role_of(name: str) -> tuple[str, Fraction]:
    """Return a value that only pickle accepts."""
    return (name, Fraction(1, 3))


def test_every_operation_reads_signed_values(target: tuple[Backend, Plant]) -> None:
    """Signed values can be read at their path alone, in a dict, after a change and as a default."""
    backend, _ = target
    tree = store(PickleCodec((KEY,)), json_codec)
    value = {"x": Fraction(1, 2), "y": {"z": {3}, "n": 5, "t": (1,)}}
    run(tree.write(AT, value), backend)
    assert run(tree.read(AT), backend) == value
    assert run(tree.read(()), backend) == {"a": {"b": value}}
    assert run(tree.change((*AT, "x"), lambda old: old * 3), backend) == Fraction(3, 2)
    assert run(tree.set_default((*AT, "new"), {4}), backend) == {4}
    assert run(tree.compare_and_set((*AT, "y", "z"), {3}, {5}), backend) is True
    assert run(tree.add((*AT, "y", "n"), 2), backend) == 7
    assert run(tree.add((*AT, "y", "n"), 0.5), backend) == 7.5
    run(tree.merge(AT, {"y": {"z": {6}}, "e": {}}), backend)
    assert run(tree.take(AT), backend) == {
        "x": Fraction(3, 2), "new": {4}, "y": {"z": {6}, "n": 7.5, "t": (1,)}, "e": {},
    }  # fmt: skip


def test_keys_rotate() -> None:
    """The first key signs, and values of all keys are read, so a new key is added in front of the old one."""
    old, both, new = PickleCodec((KEY,)), PickleCodec((OTHER, KEY)), PickleCodec((OTHER,))
    data = old.encode("x", AT)
    assert both.decode(data, AT) == "x"
    with pytest.raises(ValueError, match=r"codec\.keys"):
        new.decode(data, AT)
    assert new.decode(both.encode("x", AT), AT) == "x"
    with pytest.raises(ValueError, match=r"codec\.keys"):
        old.decode(both.encode("x", AT), AT)


def test_a_truncated_pickle_is_truncated() -> None:
    """An incomplete signature or pickle has a different error than a forgery."""
    short, unsigned = enveloped(b"S1234"), enveloped(b"U" + pickle.dumps([1, "x"])[:-3])
    backend = MemoryBackend()
    for data, codec in ((short, PickleCodec((KEY,))), (unsigned, PickleCodec(())), (enveloped(b""), PickleCodec(()))):
        backend.execute(Transaction(writes=(Put(Key(VALUES, AT), data),)))
        with pytest.raises((Truncated, CorruptData), match=r"'a\.b'"):
            run(store(codec).read(AT), backend)


def test_signed_values_are_not_read_without_keys() -> None:
    """The error says that the value is signed, and which setting takes the keys."""
    data = PickleCodec((KEY,)).encode("x", AT)
    with pytest.raises(ValueError, match=r"signed.*codec\.keys"):
        PickleCodec(()).decode(data, AT)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "'keys'"),
        ({"keys": []}, "'keys'"),
        ({"unsigned": False}, "'keys'"),
        ({"keys": [SECRET], "unsigned": True}, "exclude each other"),
        ({"keys": [SECRET, "short"]}, "at least 16 bytes"),
        ({"keys": [""]}, "at least 16 bytes"),
        ({"keys": SECRET}, "keys"),
        ({"keys": [SECRET], "unsigned": "yes"}, "unsigned"),
        ({"keys": [SECRET], "sign": True}, "sign"),
    ],
)
def test_the_settings_need_keys_or_the_explicit_unsigned(settings: dict[str, Any], says: str) -> None:
    """Without keys, only ``unsigned`` opens the codec; no error shows a key."""
    with pytest.raises(ValidationError, match=says) as caught:
        PickleSettings.model_validate(settings)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)


def test_the_plugin_opens_the_codec() -> None:
    """Neither its settings nor the codec shows a key."""
    (plugin,) = redicts_codecs()
    settings = plugin.model.model_validate({"keys": [SECRET]})
    assert SECRET not in repr(settings) + str(settings) + str(settings.model_dump())
    codec = plugin.open(settings)
    assert codec.name == plugin.name == "pickle"
    assert codec.decode(PickleCodec((SECRET.encode(),)).encode({1}, AT), AT) == {1}
    assert SECRET not in repr(codec) + str(vars(codec).keys())
    assert open_codec(PickleSettings(unsigned=True)).decode(PickleCodec(()).encode({1}, AT), AT) == {1}


def test_a_value_that_cannot_be_pickled_is_a_leaf_error() -> None:
    """Any error of the value's own methods becomes an error with the path."""

    class Local:
        def __reduce__(self) -> str:
            raise ZeroDivisionError("of its own")

    for value in (lambda: None, Local()):
        with pytest.raises(LeafError, match=r"'a\.b'.*pickle"):
            run(store(PickleCodec((KEY,))).write(AT, value), MemoryBackend())
