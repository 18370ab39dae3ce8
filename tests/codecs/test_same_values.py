"""A value comes back as it was, as the table of codecs says, or is refused with its path."""

from __future__ import annotations

import dataclasses
import json
from array import array
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path as File
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, RootModel

import redicts.types
from redicts import ABSENT, CorruptData, Database, LeafError, Name, Packed, PathError, Pool, Proxy, UnreadableHere
from redicts import open as open_database
from redicts.codecs.json import codec as json_codec
from redicts.codecs.models import ModelsCodec
from redicts.codecs.msgpack import MsgpackCodec
from redicts.codecs.pickle import PickleCodec
from redicts.contract.codecs.samples import Alone
from redicts.core.codec import Codec
from redicts.core.envelope import LeafFormat
from redicts.core.leaves import leaves_of, nest
from redicts.core.minitransaction import Path

AT: Path = ("a", "b")
BERLIN, SYDNEY = ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Sydney")
WIDE = {f"name{number}": number for number in range(20)}
CODECS: dict[str, Codec] = {
    "json": json_codec,
    "models": ModelsCodec(),
    "msgpack": MsgpackCodec(),
    "pickle": PickleCodec((b"a key of sixteen",)),
}


class Colour(str, Enum):
    """Text with a name; its hash is that of the name."""

    RED = "red"


class Count(IntEnum):
    """An integer with a name."""

    THREE = 3


class Folded(str):
    """Text that compares without case."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and str.lower(self) == str.lower(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(str.lower(self))


class Number(float):
    """A float of a class of its own, as those of numpy."""

    __slots__ = ()


class Point(NamedTuple):
    """A tuple with names."""

    x: int


class Names(list[str]):
    """A list of a class of its own."""


class Moment(datetime):
    """A datetime of a class of its own."""


class Odd(tzinfo):
    """A time zone that no other program knows."""

    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, dt: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, dt: datetime | None) -> str:
        return "odd"


class Stop(BaseModel):
    """A model with a datetime."""

    at: datetime


@dataclasses.dataclass
class Journey:
    """A dataclass with datetimes at any depth."""

    start: datetime
    stops: list[Stop] = dataclasses.field(default_factory=list)
    by_name: dict[int, datetime] = dataclasses.field(default_factory=dict)
    days: frozenset[datetime] = frozenset()
    by_time: dict[datetime, int] = dataclasses.field(default_factory=dict)
    opens: time | None = None
    price: Decimal = Decimal(1)
    pair: tuple[datetime, ...] = ()


Instant = RootModel[datetime]


@pytest.fixture(autouse=True)
def _types() -> Iterator[None]:
    for name, kind in {"journey": Journey, "stop": Stop, "instant": Instant}.items():
        redicts.types.register(name, kind)
    yield
    for name in ("journey", "stop", "instant"):
        redicts.types.forget(name)


@pytest.fixture(params=["memory", "sqlite", "fakeredis"])
def database(request: pytest.FixtureRequest, tmp_path: File) -> Iterator[Database]:
    """Return a database on each kind of store."""
    path = {"path": tmp_path / "state.db"} if request.param == "sqlite" else {}
    with open_database({"backend": request.param, **path}) as opened:
        yield opened


def back(value: Any, codec: Codec) -> Any:
    """Return a value as a tree with this codec gives it back."""
    form = LeafFormat(codec, [] if codec is json_codec else [json_codec])
    return nest(leaves_of(value, AT, form), AT, form)


@pytest.mark.parametrize("codec", ["json", "models"])
@pytest.mark.parametrize(
    "value",
    [
        [{1: "a", "1": "b"}],
        [[{"x": ({"y": {True: 1, "true": 2}},)}]],
        Packed({None: 1, "null": 2}),
        Packed({"x": {1.5: 1, "1.5": 2}}),
        [{float("nan"): 1, "NaN": 2}],
        [{float("nan"): 1, -float("nan"): 2}],
        [{Alone("red"): 1, "red": 2}],
        [{Folded("FOO"): 1, "other": {2: 2, "2": 3}}],
        {**WIDE, "x": [1, {1: "a", "1": "b"}]},
        {**WIDE, "x": {"y": [[{1: "a", "1": "b"}]]}},
    ],
)
def test_keys_that_json_makes_the_same_are_refused(codec: str, value: Any) -> None:
    """A dict of which JSON would lose an entry is refused with the path, in a list, a packed dict and a document."""
    with pytest.raises(LeafError, match=r"'a\.b.*two keys that are the same text"):
        back(value, CODECS[codec])
    with open_database({"backend": "memory", "codec": codec}) as opened:
        with pytest.raises(LeafError, match=r"'a\.b.*two keys"):
            opened.root().set("a.b", value)
        assert not opened.root().exists()


@pytest.mark.parametrize("codec", ["json", "models"])
def test_keys_within_a_leaf_become_text_in_json(codec: str) -> None:
    """As documented, keys of dicts in lists and in packed dicts come back as their text in JSON."""
    assert back(Packed({259: "x", None: {True: 1}}), CODECS[codec]) == {"259": "x", "null": {"true": 1}}
    assert back([{1.5: 1, "1": {2: "a"}}], CODECS[codec]) == [{"1.5": 1, "1": {"2": "a"}}]
    assert back(Packed({259: "x"}), CODECS["msgpack"]) == {259: "x"}
    assert back(Packed({259: "x"}), CODECS["pickle"]) == {259: "x"}


def test_names_are_plain_text(database: Database) -> None:
    """A key of a subclass of ``str`` is the text that it has, wherever it comes back."""
    root = database.root()
    root.set("s", {Colour.RED: 1, "deep": {Folded("FOO"): 2, "bar": 3}})
    root.get("s").update({Colour.RED: 4, "more": {Folded("Bar"): 5}})
    root.set([Folded("S"), Colour.RED], {Colour.RED: 6})
    with root.transaction() as changes:
        changes.set(["t", Folded("Up")], {Folded("X"): 7})
    expected = {
        "s": {"red": 4, "deep": {"FOO": 2, "bar": 3}, "more": {"Bar": 5}},
        "S": {"red": {"red": 6}},
        "t": {"Up": {"X": 7}},
    }
    assert root.val() == expected

    def kinds(value: Any) -> Iterator[type]:
        for name, inner in value.items() if isinstance(value, dict) else ():
            yield type(name)
            yield from kinds(inner)

    assert set(kinds(root.val())) == {str}
    assert {type(name) for name in root.get("s")} == {Name}, "names from the store are segments"
    assert {type(str(name)) for name in root.get("s")} == {str}
    assert {type(leaf.key()) for leaf in root.iter_children()} == {str}


def test_two_names_that_are_the_same_text_are_refused(database: Database) -> None:
    """A dict with two keys of the same text has no place for one of them: an error names its path."""
    for value in ({Alone("red"): 1, "red": 2}, {"x": {"red": 1, Alone("red"): {"y": 2}}}):
        for attempt in (database.root().set, lambda _, value: database.root().update(value)):
            with pytest.raises(PathError, match=r"two keys in the dict for .* are the same text: 'red'"):
                attempt("s", value)
    assert not database.root().exists()


def test_a_proxy_is_found_by_exact_text() -> None:
    """A segment that compares without case neither becomes part of a proxy nor is taken for another one."""
    Pool().reload(cfg={"backend": "memory"})
    folded = Proxy(["s", Folded("FOO")])
    assert folded.key() == "s.FOO"
    assert folded is Proxy("s.FOO")
    assert Proxy("s.foo") is not folded
    Proxy("s.foo").set("x", 1)
    assert Proxy("s").val() == {"foo": {"x": 1}}
    assert Proxy(Folded("s.FOO")) is folded
    assert Proxy("s")[Folded("FOO")] is folded
    assert type(Proxy([Colour.RED]).key()) is str
    assert Proxy(Colour.RED) is Proxy("red")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Count.THREE, 3), (Colour.RED, "red"), (Number(0.5), 0.5), (Folded("FOO"), "FOO"), (Point(1), [1]),
        (Names(["x"]), ["x"]), ([Count.THREE, Number(1.5)], [3, 1.5]), ([OrderedDict(a=1)], [{"a": 1}]),
        ([defaultdict(int, a=1)], [{"a": 1}]), ((1, 2), [1, 2]), ([(1,)], [[1]]), (-0.0, -0.0),
        (float("inf"), float("inf")),
        (10**300, 10**300), ("\ud800", "\ud800"), (["\udfffx"], ["\udfffx"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("codec", ["json", "models"])
def test_json_gives_back_the_plain_class(codec: str, value: Any, plain: Any) -> None:
    """As documented, a value of a subclass comes back as one of the class of JSON, and a tuple as a list."""
    found = back(value, CODECS[codec])
    assert (repr(found), type(found)) == (repr(plain), type(plain))


@pytest.mark.parametrize(
    "value",
    [
        Count.THREE, Colour.RED, Number(0.5), Folded("FOO"), Point(1), Names(["x"]), [OrderedDict(a=1)],
        [{Colour.RED: 1}],
        {1}, Decimal("1.10"), Moment(2020, 1, 1), datetime(2020, 1, 1, tzinfo=BERLIN),
        datetime(2020, 1, 1, tzinfo=Odd()),
        time(1), memoryview(array("i", [1])), [(memoryview(b"abcd").cast("I"),)], {"x": [memoryview(b"ab").cast("c")]},
        memoryview(b"abcd").cast("B", (2, 2)), memoryview(b"abcdef")[::2],
    ],
)  # fmt: skip
def test_msgpack_refuses_what_would_come_back_differently(value: Any) -> None:
    """A value of another class, a time zone or an array is refused with the path."""
    with pytest.raises(LeafError, match=r"'a\.b"):
        back(value, CODECS["msgpack"])


def test_msgpack_takes_buffers_of_bytes() -> None:
    """As documented, a bytearray and a memoryview of bytes come back as bytes."""
    value = [memoryview(b"x"), bytearray(b"y"), {memoryview(b"k"): b"\xc4"}, "Ċ" * 50]
    assert back(value, CODECS["msgpack"]) == [b"x", b"y", {b"k": b"\xc4"}, "Ċ" * 50]


@pytest.mark.parametrize("value", [Count.THREE, Point(1), OrderedDict(), [OrderedDict(a=1)], {1}, Moment(2020, 1, 1)])
def test_pickle_gives_back_the_class(value: Any) -> None:
    """Pickle preserves classes, except that of an empty dict, which is stored without it."""
    found = back([value], CODECS["pickle"])[0]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("codec", CODECS)
def test_absent_is_not_a_value(codec: str) -> None:
    """``ABSENT`` means that nothing is stored, so it cannot be stored, with any codec."""
    for value in (ABSENT, Packed(ABSENT), {"x": {"y": ABSENT}}, {**WIDE, "y": ABSENT}):
        with pytest.raises(LeafError, match=r"'a\.b.*ABSENT means that nothing is stored; use delete\(\)"):
            back(value, CODECS[codec])


@pytest.mark.parametrize(
    "value",
    [
        Journey(datetime(2020, 7, 1, 12, tzinfo=BERLIN)),
        Journey(datetime(2020, 10, 25, 2, 30, tzinfo=BERLIN, fold=0)),
        Journey(datetime(2020, 10, 25, 2, 30, tzinfo=BERLIN, fold=1)),
        Journey(
            datetime(2020, 1, 1, tzinfo=timezone.utc),
            [Stop(at=datetime(2020, 7, 1, tzinfo=BERLIN)), Stop(at=datetime(2020, 7, 1, 1, 2, 3, 4, tzinfo=SYDNEY))],
            {5: datetime(2020, 7, 1, tzinfo=BERLIN), 6: datetime(2020, 7, 1)},
            pair=(datetime(2020, 1, 1), datetime(2020, 1, 1, tzinfo=SYDNEY)),
            price=Decimal("1.10"),
        ),
        Journey(datetime(2020, 1, 1), days=frozenset({datetime(2020, 1, 1, tzinfo=timezone.utc)}), opens=time(1)),
        Instant(datetime(2020, 7, 1, tzinfo=BERLIN)),
        [{"x": Stop(at=datetime(2020, 7, 1, tzinfo=ZoneInfo("UTC")))}],
    ],
)
def test_a_time_zone_of_a_model_comes_back(value: Any) -> None:
    """A datetime of a registered type keeps its zone, and so its meaning after arithmetic, also where clocks change."""
    found = back(value, ModelsCodec())
    assert found == value

    def zones(value: Any) -> Iterator[tuple[object, object, object]]:
        if isinstance(value, datetime):
            is_fixed = value.tzinfo is None or not isinstance(value.tzinfo, ZoneInfo)
            yield (value.utcoffset() if is_fixed else value.tzinfo, value.fold, value.utcoffset())
        elif isinstance(value, BaseModel):
            yield from zones(list(vars(value).values()))
        elif dataclasses.is_dataclass(value):
            yield from zones([getattr(value, field.name) for field in dataclasses.fields(value)])
        elif isinstance(value, (list, tuple, frozenset, dict)):
            for each in value.values() if isinstance(value, dict) else value:
                yield from zones(each)

    assert list(zones(found)) == list(zones(value))


def test_an_hour_later_is_an_hour_later() -> None:
    """The day after the clocks changed has the same hour, as it had before it was stored."""
    start = datetime(2020, 10, 24, 12, tzinfo=BERLIN)
    found = back(Journey(start), ModelsCodec()).start
    assert (found + timedelta(days=1)).utcoffset() == (start + timedelta(days=1)).utcoffset() == timedelta(hours=1)


@pytest.mark.parametrize(
    "value",
    [
        Journey(datetime(2020, 1, 1, tzinfo=Odd())),
        Journey(datetime(2020, 1, 1, fold=1)),
        Journey(datetime(2020, 1, 1, tzinfo=timezone.utc, fold=1)),
        Journey(datetime(2020, 3, 29, 2, 30, tzinfo=BERLIN)),
        Journey(datetime(2020, 1, 1), days=frozenset({datetime(2020, 1, 1, tzinfo=BERLIN)})),
        Journey(datetime(2020, 1, 1), by_time={datetime(2020, 1, 1, tzinfo=BERLIN): 1}),
        Journey(datetime(2020, 1, 1), opens=time(1, tzinfo=BERLIN)),
    ],
    ids=["own zone", "fold", "fold of an offset", "no such time", "in a set", "as a key", "time"],
)
def test_a_time_whose_meaning_would_be_lost_is_refused(value: Any) -> None:
    """A datetime whose zone or fold JSON cannot represent is refused with the path, and the advice works."""
    with pytest.raises(LeafError, match=r"'a\.b'.*(astimezone|would come back)"):
        back(value, ModelsCodec())
    with pytest.raises(LeafError):
        back([value], ModelsCodec())
    fixed = value.start.astimezone(timezone.utc).replace(fold=0)
    assert back(Journey(fixed), ModelsCodec()).start == fixed


@pytest.mark.parametrize(
    ("zones", "expected"),
    [
        ({"Mars/Olympus": [["at"]]}, UnreadableHere),
        ({"Europe/Berlin": [["elsewhere"]]}, CorruptData),
        ({"Europe/Berlin": [[]]}, CorruptData),
        ({"Europe/Berlin": 5}, CorruptData),
        ([["at"]], CorruptData),
        ({"Europe/Berlin": [["at", 0]]}, CorruptData),
    ],
)
def test_zones_that_do_not_fit_are_told_apart(zones: object, expected: type[Exception]) -> None:
    """A zone of which this system has no data is unreadable here; positions that are not in the value are corrupt."""
    text = json.dumps({"$type": "stop", "value": {"at": "2020-07-01T00:00:00+02:00"}, "zones": zones}).encode()
    with pytest.raises(expected, match=r"'a\.b'"):
        nest({(): b"\x04models %d\n%b" % (len(text), text)}, AT, LeafFormat(ModelsCodec()))


def test_dates_are_not_moments_for_msgpack() -> None:
    """A fixed offset comes back, without its name, and its advice for a time zone works."""
    offset = timezone(timedelta(hours=1), "CET")
    found = back([datetime(2020, 1, 1, tzinfo=offset), date(2020, 1, 1)], CODECS["msgpack"])
    assert found == [datetime(2020, 1, 1, tzinfo=offset), date(2020, 1, 1)]
    moment = datetime(2020, 1, 1, tzinfo=BERLIN)
    with pytest.raises(LeafError, match=r"astimezone\(timezone\.utc\)"):
        back(moment, CODECS["msgpack"])
    assert back(moment.astimezone(timezone.utc), CODECS["msgpack"]) == moment
