"""Registered models and dataclasses keep their type; nothing stored chooses what is imported."""

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
from redicts.codecs.models import ModelsCodec
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
    """A model with fields of types that JSON does not have."""

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
    """A subclass of a registered class, itself not registered."""


class Forgetful(BaseModel):
    """A model that excludes a field."""

    shown: int
    hidden: int = Field(default=0, exclude=True)


class Grumpy(BaseModel):
    """A model whose validator raises an error of another class."""

    x: int

    @field_validator("x")
    @classmethod
    def _check(cls, x: int) -> int:
        if x > 5:
            raise ZeroDivisionError("of its own")
        return x


@dataclass
class Both(dict):  # type: ignore[type-arg]
    """A dataclass whose values JSON would store as dicts."""

    x: int = 0


@dataclass
class Strange:
    """A dataclass with a field that pydantic cannot handle."""

    x: Backend


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
    """Register the types for each test."""
    for name, kind in TYPES.items():
        redicts.types.register(name, kind)
    yield
    for name in TYPES:
        redicts.types.forget(name)


def bytes_at(backend: Backend, path: Path) -> bytes:
    """Return the bytes that are stored at a path."""
    (answer,) = backend.execute(Transaction(reads=(Read(Key(VALUES, path)),))).answers
    return answer.values[()]  # type: ignore[union-attr]  # it is an answer to a read of values


def stored(text: str) -> MemoryBackend:
    """Return a store with this text of the codec."""
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
def test_values_keep_their_type(value: Any) -> None:
    """A value of a registered type comes back equal and of its class, as a leaf and at any depth within one."""
    backend = MemoryBackend()
    run(TREE.write(AT, value), backend)
    back = run(TREE.read(AT), backend)
    assert same(back, value)


def test_the_stored_text_is_json() -> None:
    """The envelope holds JSON text with the registered name; a value without registered types is plain JSON."""
    backend = MemoryBackend()
    run(TREE.write(("a",), {"b": Point(1), "c": ["é", 1.5], "d": "text"}), backend)
    header, _, text = bytes_at(backend, AT).partition(b"\n")
    assert header == b"\x04models %d" % len(text)
    assert json.loads(text) == {"$type": "point", "value": {"x": 1, "y": [], "names": []}}
    assert bytes_at(backend, ("a", "c")) == '["é",1.5]'.encode()
    assert bytes_at(backend, ("a", "d")) == b'"text"'


def test_a_type_that_is_not_registered_has_its_own_error() -> None:
    """The error names path, codec, type and remedy; other leaves can be read."""
    backend = MemoryBackend()
    run(TREE.write(("a",), {"b": [Point(1)], "c": 5}), backend)
    redicts.types.forget("point")
    with pytest.raises(TypeUnknown, match=r"'a\.b'.*codec models.*'point'.*redicts\.types\.register"):
        run(TREE.read(("a",)), backend)
    assert run(TREE.read(("a", "c")), backend) == 5


@pytest.mark.parametrize(
    "name", ["os.system", "antigravity", "builtins.dict", "tests.codecs.test_models.Special", "", "Point"]
)
def test_a_stored_name_imports_nothing(name: str) -> None:
    """A stored type name is looked up among the registered types only."""
    before = set(sys.modules)
    with pytest.raises(TypeUnknown, match=r"'a\.b'"):
        run(TREE.read(AT), stored(json.dumps({"$type": name, "value": {"x": 1}})))
    assert set(sys.modules) - before == set()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"x": "no number"}, r"'point'.*x: .*integer"),
        ({}, r"'point'.*x: "),
        (5, "'point'"),
        (None, "'point'"),
    ],
)
def test_a_value_that_its_type_refuses_has_its_own_error(value: object, says: str) -> None:
    """The error names path, codec, type and field, and does not repeat the value."""
    with pytest.raises(ValidationFailed, match=rf"'a\.b'.*codec models.*{says}") as caught:
        run(TREE.read(AT), stored(json.dumps([{"$type": "point", "value": value}])))
    assert "no number" not in str(caught.value)


def test_any_error_of_a_validator_becomes_validation_failed() -> None:
    """An error of the type's own code is raised with the path too."""
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
def test_a_tag_of_another_form_is_corrupt_data(text: str) -> None:
    """A dict with the reserved key must have the form in which values of registered types are written."""
    with pytest.raises(CorruptData, match=r"'a\.b' is not valid models"):
        run(TREE.read(AT), stored(text))


def test_text_that_ends_too_early_is_truncated() -> None:
    """Incomplete JSON in the envelope has a different error than other corrupt data."""
    with pytest.raises(Truncated, match=r"'a\.b'"):
        run(TREE.read(AT), stored('{"$type":"point"'))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Special(**INVOICE.model_dump(by_alias=True)), r"Special.*not registered.*redicts\.types\.register"),
        (Customer(name="x"), r"Customer.*not registered"),
        (Forgetful(shown=1, hidden=2), "'forgetful' would come back as another"),
        (Point("no number"), "'point' is not valid"),  # type: ignore[arg-type]
        ({"k": Point(1, names=["$type"]), "t": [{"$type": 1}]}, r"key '\$type'"),
        ([{"a": {"$type": "point", "value": {}}}], r"key '\$type'"),
        ([object()], "object"),
        ([Invoice.model_construct(number="x")], "is not valid"),
    ],
    ids=["subclass", "not registered", "excluded field", "wrong field", "tag in a list", "tag", "object", "unchecked"],
)
def test_a_value_that_would_not_come_back_is_refused(value: Any, says: str) -> None:
    """A value that its type does not read back as equal is refused with path and reason, and nothing is written."""
    backend = MemoryBackend()
    with pytest.raises(LeafError, match=rf"'a\.b.*codec models.*{says}"):
        run(TREE.write(AT, value if isinstance(value, dict) else [value]), backend)
    assert backend.execute(Transaction(reads=(Read(Key(VALUES, ("a",))),))).answers[0].values == {}  # type: ignore[union-attr]


def test_a_name_stands_for_one_type() -> None:
    """A type has one name; registering the same pair again is not an error."""
    redicts.types.register("point", Point)
    with pytest.raises(SettingsError, match=r"'point'.*Invoice"):
        redicts.types.register("point", Invoice)
    with pytest.raises(SettingsError, match=r"'other'.*Point"):
        redicts.types.register("other", Point)


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("x", int, "must be a pydantic model or a dataclass"),
        ("x", Point(1), "must be a pydantic model or a dataclass"),
        ("", Point, "1 to 200"),
        ("a\n", Point, "1 to 200"),
        (5, Point, "1 to 200"),
        ("x", Both, "'x' must not also be a dict"),
        ("x", Strange, "'x' has a field that pydantic cannot handle"),
    ],
)
def test_an_unusable_name_or_type_is_refused(name: Any, kind: Any, says: str) -> None:
    """Only models and dataclasses that JSON would not store itself can be registered, under printable text."""
    with pytest.raises(SettingsError, match=says):
        redicts.types.register(name, kind)


def test_register_is_a_decorator() -> None:
    """Called without a type, it returns a decorator."""

    @redicts.types.register("decorated")
    @dataclass
    class Decorated:
        x: int

    backend = MemoryBackend()
    run(TREE.write(AT, Decorated(1)), backend)
    assert run(TREE.read(AT), backend) == Decorated(1)
    redicts.types.forget("decorated")
    redicts.types.forget("decorated")
