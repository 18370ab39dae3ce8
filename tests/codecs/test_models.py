"""Registered models and dataclasses come back as what they were; nothing stored chooses what is imported."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, Field, field_validator

import redicts.types
from redicts.backends.memory import MemoryBackend
from redicts.codecs.json import codec as json_codec
from redicts.codecs.models import ModelsCodec, redicts_codecs
from redicts.contract.codecs.check import same
from redicts.core.backend import Backend
from redicts.core.driver import run
from redicts.core.envelope import LeafFormat
from redicts.core.minitransaction import VALUES, Key, Path, Put, Read, Transaction
from redicts.core.store import TreeStore
from redicts.errors import CorruptData, LeafError, SettingsError, Truncated, TypeUnknown, ValidationFailed

AT: Path = ("a", "b")
TREE = TreeStore(LeafFormat(ModelsCodec(), [json_codec]), None)


class Customer(BaseModel):
    """A model within a model."""

    name: str
    email: str = Field(default="", alias="e-mail")


class Invoice(BaseModel):
    """A model with fields that JSON does not know."""

    number: int
    total: Decimal
    at: datetime
    customer: Customer
    tags: frozenset[str] = frozenset()


@dataclass
class Point:
    """A dataclass."""

    x: int
    y: tuple[int, ...] = ()
    names: list[str] = field(default_factory=list)


class Special(Invoice):
    """A class below a registered one, and not registered."""


class Forgetful(BaseModel):
    """A model that does not write all it has."""

    shown: int
    hidden: int = Field(default=0, exclude=True)


class Grumpy(BaseModel):
    """A model whose validator raises what it likes."""

    x: int

    @field_validator("x")
    @classmethod
    def _check(cls, x: int) -> int:
        if x > 5:
            raise ZeroDivisionError("of its own")
        return x


INVOICE = Invoice(
    number=7,
    total=Decimal("1.10"),
    at=datetime(2020, 1, 2, tzinfo=timezone.utc),
    customer=Customer(name="Anna", **{"e-mail": "a@example.org"}),
    tags=frozenset({"x"}),
)
TYPES: dict[str, type] = {"invoice": Invoice, "point": Point, "forgetful": Forgetful, "grumpy": Grumpy}


@pytest.fixture(autouse=True)
def _types() -> Iterator[None]:
    """Register the types of these tests for each of them."""
    for name, kind in TYPES.items():
        redicts.types.register(name, kind)
    yield
    for name in TYPES:
        redicts.types.forget(name)


def bytes_at(backend: Backend, path: Path) -> bytes:
    """Return what is stored at a path."""
    (answer,) = backend.execute(Transaction(reads=(Read(Key(VALUES, path)),))).answers
    return answer.values[()]  # type: ignore[union-attr]  # it is an answer to a read of values


def stored(text: str) -> MemoryBackend:
    """Return a store in which this text of the codec lies."""
    backend = MemoryBackend()
    data = text.encode()
    backend.execute(Transaction(writes=(Put(Key(VALUES, AT), b"\x04models %d\n%b" % (len(data), data)),)))
    return backend


@pytest.mark.parametrize(
    "value",
    [
        INVOICE,
        Point(1, (2, 3), ["n"]),
        [INVOICE, {"deep": [Point(1)], "n": 1}],
        {"x": {"y": Point(5)}, "z": [Point(6), INVOICE], "n": 5, "t": "text", "e": {}},
    ],
    ids=["model", "dataclass", "in a list", "in a dict"],
)
def test_they_come_back_as_what_they_were(value: Any) -> None:
    """A registered value comes back equal and of its class: as a leaf, and at any depth within one."""
    backend = MemoryBackend()
    run(TREE.write(AT, value), backend)
    back = run(TREE.read(AT), backend)
    assert same(back, value)


def test_what_is_stored_can_be_read_by_people() -> None:
    """After the envelope there is JSON text with the stable name; a value without registered types is plain JSON."""
    backend = MemoryBackend()
    run(TREE.write(("a",), {"b": Point(1), "c": ["é", 1.5], "d": "text"}), backend)
    header, _, text = bytes_at(backend, AT).partition(b"\n")
    assert header == b"\x04models %d" % len(text)
    assert json.loads(text) == {"$type": "point", "value": {"x": 1, "y": [], "names": []}}
    assert bytes_at(backend, ("a", "c")) == '["é",1.5]'.encode()
    assert bytes_at(backend, ("a", "d")) == b'"text"'


def test_an_unknown_type_is_an_error_of_its_own() -> None:
    """The error names path, codec and type, and what to do; other leaves are read."""
    backend = MemoryBackend()
    run(TREE.write(("a",), {"b": [Point(1)], "c": 5}), backend)
    redicts.types.forget("point")
    with pytest.raises(TypeUnknown, match=r"'a\.b'.*codec models.*'point'.*redicts\.types\.register"):
        run(TREE.read(("a",)), backend)
    assert run(TREE.read(("a", "c")), backend) == 5


@pytest.mark.parametrize(
    "name", ["os.system", "antigravity", "builtins.dict", "tests.codecs.test_models.Special", "", "Point"]
)
def test_nothing_is_imported_by_what_is_stored(name: str) -> None:
    """A type that a stranger names is looked up among the registered ones, and nowhere else."""
    before = set(sys.modules)
    with pytest.raises(TypeUnknown, match=r"'a\.b'"):
        run(TREE.read(AT), stored(json.dumps({"$type": name, "value": {"x": 1}})))
    assert set(sys.modules) - before == set()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"x": "no number"}, r"'point'.*x: .*integer"),
        ({}, r"'point'.*x: "),
        (5, "'point'"),
        (None, "'point'"),
    ],
)
def test_what_does_not_fit_its_type_is_an_error_of_its_own(value: object, said: str) -> None:
    """The error names path, codec, type and field, and does not repeat the value."""
    with pytest.raises(ValidationFailed, match=rf"'a\.b'.*codec models.*{said}") as caught:
        run(TREE.read(AT), stored(json.dumps([{"$type": "point", "value": value}])))
    assert "no number" not in str(caught.value)


def test_whatever_a_validator_raises_is_a_validation_failed() -> None:
    """An error of the type's own code is told with the path as well."""
    with pytest.raises(ValidationFailed, match=r"'a\.b'.*'grumpy'.*ZeroDivisionError"):
        run(TREE.read(AT), stored('{"$type":"grumpy","value":{"x":6}}'))


@pytest.mark.parametrize(
    "text",
    [
        '{"$type":5,"value":1}',
        '{"$type":"point"}',
        '{"$type":"point","value":{},"more":1}',
        '{"$type":["point"],"value":1}',
    ],
)
def test_a_tag_of_another_form_is_damage(text: str) -> None:
    """What looks like a registered value and is not of the form in which they are written is damage, with the path."""
    with pytest.raises(CorruptData, match=r"'a\.b' is not models"):
        run(TREE.read(AT), stored(text))


def test_text_that_ends_too_early_is_truncated() -> None:
    """JSON in the envelope that ends before the value does is told apart from other damage."""
    with pytest.raises(Truncated, match=r"'a\.b'"):
        run(TREE.read(AT), stored('{"$type":"point"'))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Special(**INVOICE.model_dump(by_alias=True)), r"Special.*not registered.*redicts\.types\.register"),
        (Customer(name="x"), r"Customer.*not registered"),
        (Forgetful(shown=1, hidden=2), "'forgetful' would not come back"),
        (Point("no number"), "'point' does not fit"),  # type: ignore[arg-type]
        ({"k": Point(1, names=["$type"]), "t": [{"$type": 1}]}, r"key '\$type'"),
        ([{"a": {"$type": "point", "value": {}}}], r"key '\$type'"),
        ([object()], "object"),
        ([Invoice.model_construct(number="x")], "does not fit"),
    ],
    ids=["subclass", "not registered", "excluded field", "wrong field", "tag in a list", "tag", "object", "unchecked"],
)
def test_what_would_not_come_back_is_refused(value: Any, said: str) -> None:
    """A value that its type would not read back as equal is refused with path and reason, and nothing is written."""
    backend = MemoryBackend()
    with pytest.raises(LeafError, match=rf"'a\.b.*codec models.*{said}"):
        run(TREE.write(AT, value if isinstance(value, dict) else [value]), backend)
    assert backend.execute(Transaction(reads=(Read(Key(VALUES, ("a",))),))).answers[0].values == {}  # type: ignore[union-attr]


def test_names_are_registered_once() -> None:
    """A name means one type and a type has one name; the same again is no error."""
    redicts.types.register("point", Point)
    with pytest.raises(SettingsError, match=r"'point'.*Invoice"):
        redicts.types.register("point", Invoice)
    with pytest.raises(SettingsError, match=r"'other'.*Point"):
        redicts.types.register("other", Point)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("x", int, "no pydantic model and no dataclass"),
        ("x", Point(1), "no pydantic model and no dataclass"),
        ("", Point, "1 to 200"),
        ("a\n", Point, "1 to 200"),
        (5, Point, "1 to 200"),
    ],
)
def test_what_cannot_be_registered_is_refused(name: Any, kind: Any, said: str) -> None:
    """Only models and dataclasses are registered, under text of printable characters."""
    with pytest.raises(SettingsError, match=said):
        redicts.types.register(name, kind)


def test_types_that_json_takes_for_its_own_are_refused() -> None:
    """A dataclass that is a dict as well would be stored as a dict, so it is not registered."""

    @dataclass
    class Both(dict):  # type: ignore[type-arg]
        x: int = 0

    with pytest.raises(SettingsError, match="'both'"):
        redicts.types.register("both", Both)


def test_fields_that_pydantic_does_not_know_are_refused() -> None:
    """A dataclass with a field that cannot be checked is refused when it is registered, not when it is stored."""

    @dataclass
    class Strange:
        x: Backend

    with pytest.raises(SettingsError, match="'strange'"):
        redicts.types.register("strange", Strange)


def test_register_decorates() -> None:
    """Without a type it is a decorator."""

    @redicts.types.register("decorated")
    @dataclass
    class Decorated:
        x: int

    backend = MemoryBackend()
    run(TREE.write(AT, Decorated(1)), backend)
    assert run(TREE.read(AT), backend) == Decorated(1)
    redicts.types.forget("decorated")
    redicts.types.forget("decorated")


def test_its_plugin() -> None:
    """Settings choose it as ``models``; it has none of its own."""
    (plugin,) = redicts_codecs()
    assert plugin.open(plugin.settings()).name == plugin.name == "models"
