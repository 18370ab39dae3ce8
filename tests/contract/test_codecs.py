"""Our own codecs are certified, and the checks refuse every broken codec."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import BaseModel

import redicts.types
from redicts.cli import main
from redicts.codecs.json import JsonCodec
from redicts.codecs.models import ModelsCodec
from redicts.codecs.msgpack import MsgpackCodec
from redicts.codecs.pickle import PickleCodec
from redicts.contract import Report, Status
from redicts.contract.codecs import CODEC_CHECKS, CodecCheck, CodecExamination, CodecHarness, certify_codec
from redicts.contract.codecs.harness import json_values
from redicts.core.codec import Codec
from tests.contract.broken_codecs import BROKEN_CODECS, BrokenCodec, ClassHarness, PlainCodec, SignedCodec

_CHECKS: Final = {check.name: check for check in CODEC_CHECKS}


class Customer(BaseModel):
    """A model in a model."""

    name: str
    since: date


class Invoice(BaseModel):
    """A model of many kinds of fields."""

    number: int
    total: Decimal
    customer: Customer
    tags: set[str]
    at: tuple[int, int]


@dataclass(frozen=True)
class Place:
    """A dataclass."""

    x: int
    name: str | None = None
    key: UUID | None = None


@pytest.fixture(autouse=True)
def _types() -> Iterator[None]:
    """Register the types of these tests for each of them."""
    for name, kind in {"customer": Customer, "invoice": Invoice, "place": Place}.items():
        redicts.types.register(name, kind)
    yield
    for name in ("customer", "invoice", "place"):
        redicts.types.forget(name)


class JsonHarness(CodecHarness):
    """The codec ``json``, which takes some values for others."""

    def open(self) -> Codec:
        return JsonCodec()

    def values(self) -> SearchStrategy[Any]:
        return json_values() | st.tuples(json_values(), json_values())

    def given_back(self, value: Any) -> Any:
        return json.loads(json.dumps(value))


class ModelsHarness(CodecHarness):
    """The codec ``models``, with values of registered types in its values."""

    def open(self) -> Codec:
        return ModelsCodec()

    def values(self) -> SearchStrategy[Any]:
        text = st.text(max_size=5)
        customers = st.builds(Customer, name=text, since=st.dates())
        totals = st.decimals(allow_nan=False, allow_infinity=False, places=2)
        invoices = st.builds(
            Invoice, number=st.integers(), total=totals, customer=customers, tags=st.sets(text, max_size=3)
        )
        places = st.builds(Place, x=st.integers(-(2**63), 2**63), name=st.none() | text, key=st.none() | st.uuids())
        inner = st.one_of(customers, invoices, places, json_values())
        return st.one_of(
            inner, st.lists(inner, max_size=3), st.dictionaries(text, st.lists(inner, max_size=2), max_size=2)
        )

    def given_back(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [self.given_back(each) for each in value]
        if isinstance(value, dict):
            if any(type(key) is not str for key in value):
                return json.loads(json.dumps(value))
            return {key: self.given_back(each) for key, each in value.items()}
        return value if isinstance(value, (BaseModel, Place)) else json.loads(json.dumps(value))


class MsgpackHarness(CodecHarness):
    """The codec ``msgpack``, with all that it takes."""

    def open(self) -> Codec:
        return MsgpackCodec()

    def values(self) -> SearchStrategy[Any]:
        zones = st.none() | st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
        moments = st.builds(lambda moment, zone: moment.replace(tzinfo=zone, fold=0), st.datetimes(), zones)
        keys = (
            st.text(st.characters(), max_size=5)
            | st.integers(-(2**63), 2**64 - 1)
            | st.booleans()
            | st.binary(max_size=3)
        )
        scalars = json_values() | st.binary(max_size=8) | st.dates() | moments
        return st.recursive(
            scalars,
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.tuples(inner, inner)
                | st.dictionaries(keys | st.tuples(keys), inner, max_size=3)
            ),
            max_leaves=10,
        )

    def given_back(self, value: Any) -> Any:
        return bytes(value) if isinstance(value, (bytearray, memoryview)) else value


class PickleHarness(CodecHarness):
    """The codec ``pickle``, which takes nearly everything."""

    def __init__(self, *keys: bytes) -> None:
        self.keys = keys

    def open(self) -> Codec:
        return PickleCodec(self.keys)

    def values(self) -> SearchStrategy[Any]:
        more = st.one_of(st.sets(st.integers()), st.fractions(), st.complex_numbers(allow_nan=False), st.datetimes())
        return MsgpackHarness().values() | more | st.builds(Place, x=st.integers())


OURS: Final[dict[str, CodecHarness]] = {
    "json": JsonHarness(),
    "models": ModelsHarness(),
    "msgpack": MsgpackHarness(),
    "pickle signed": PickleHarness(b"a key of sixteen", b"an older key of more"),
    "pickle unsigned": PickleHarness(),
}


@pytest.mark.parametrize("check", CODEC_CHECKS, ids=str)
@pytest.mark.parametrize("harness", OURS.values(), ids=list(OURS))
def test_our_codecs_pass_the_check(harness: CodecHarness, check: CodecCheck) -> None:
    """Each of our codecs passes each check on its declared capabilities."""
    thorough = os.environ.get("REDICTS_TESTS") == "long"
    result = CodecExamination(harness, thorough=thorough).examine(check)
    if result.status is Status.NOT_RUN:
        assert check.needs
        assert not result.required
    else:
        assert result.status is Status.PASSED, f"{result.reason}\n{result.details}"


def test_what_our_codecs_declare() -> None:
    """These declared capabilities decide which checks run."""
    declared = {name: harness.open() for name, harness in OURS.items()}
    assert {name for name, codec in declared.items() if codec.deterministic} == {"json", "models", "msgpack"}
    assert {name for name, codec in declared.items() if codec.binds_path} == {"pickle signed"}
    assert {name for name, codec in declared.items() if not codec.safe} == {"pickle unsigned"}


@pytest.mark.parametrize("broken", BROKEN_CODECS, ids=lambda broken: broken.name)
def test_a_broken_codec_is_refused(broken: BrokenCodec, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``redicts certify`` exits with 1 and names the failed checks; no check fails by its time limit alone."""
    report = tmp_path / "report.json"
    checks = [word for name in broken.refused_by for word in ("--check", name)]
    harness = f"tests.contract.broken_codecs:of_{broken.name}"
    assert main(["certify", "--harness", harness, *checks, "--report", str(report)]) == 1, broken.says
    said = capsys.readouterr().out
    for result in json.loads(report.read_text(encoding="utf-8"))["checks"]:
        name = result["check"]
        assert result["status"] == "failed", f"{name} accepts a codec of which this is true: {broken.says}"
        assert not result["reason"].startswith("did not end")
        assert f"failed: {name}" in said


def test_codecs_are_certified_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A codec is given by its name, or as a dict with its settings, whose keys are never printed."""
    report, key = tmp_path / "report.txt", "a marker of sixteen characters"
    one = CODEC_CHECKS[0].name
    for name in ("json", "models", "msgpack"):
        assert main(["certify", "--codec", name, "--check", one]) == 0
        assert f"plugin {name}, distribution redicts" in capsys.readouterr().out
    signed = {"name": "pickle", "keys": [key]}
    assert main(["certify", "--codec", json.dumps(signed), "--report", str(report)]) == 0
    said = capsys.readouterr()
    assert "plugin pickle, distribution redicts" in said.out
    assert "\nCERTIFIED: " in report.read_text(encoding="utf-8")
    assert key not in said.out + said.err + report.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--codec", "jsno"], "did you mean 'json'?"),
        (["--codec", '{"nam": "json"}'], "did you mean 'name'?"),
        (["--codec", '{"name": "json", "keys": ["marker"]}'], "there is no setting 'keys'; there are none"),
        (["memory", "--codec", "json"], "not both"),
        (["memory", "--harness", "tests.contract.test_codecs:JsonHarness"], "is for a codec"),
        (["--codec", "json", "--harness", "tests.contract.harnesses:MemoryHarness"], "is for a backend"),
        (["--codec", "json", "--check", "writes.*"], "there is no such check"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong use exits with 2 and one line, which contains no value of the settings."""
    assert main(["certify", *arguments]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert "marker" not in said.err


@pytest.mark.parametrize("sound", [SignedCodec, PlainCodec])
def test_what_they_are_derived_from_is_certified(sound: type[Codec]) -> None:
    """The correct codecs behind the broken ones are certified, so each refusal is due to its fault.

    The report names the codec, its declared capabilities and each check, in text and as JSON.
    """
    report = certify_codec(ClassHarness(sound), seed=3)
    assert isinstance(report, Report)
    assert report.certified, str(report)
    assert f"codec {sound.__name__}, seed 3" in str(report)
    told = json.loads(json.dumps(report.to_dict()))
    assert told["codec"] == sound.__name__
    assert told["capabilities"].keys() == {"name", "deterministic", "binds_path", "safe"}
    assert [each["check"] for each in told["checks"]] == [check.name for check in CODEC_CHECKS]


def test_no_check_of_codecs_is_redundant() -> None:
    """Each check refuses a broken codec that no other check refuses, as ``tests.contract.refusals`` verifies."""
    assert {broken.refused_by for broken in BROKEN_CODECS if broken.alone} == {(name,) for name in _CHECKS}
    assert len({broken.name for broken in BROKEN_CODECS}) == len(BROKEN_CODECS) >= 10


def test_what_cannot_be_made_is_not_certified() -> None:
    """A codec that cannot be made gets a report, and no certificate."""

    def made() -> Codec:
        raise RuntimeError("no key is there")

    report = certify_codec(ClassHarness(made))
    assert not report.certified
    assert "the codec could not be opened" in str(report)
    assert "no key is there" in str(report)
