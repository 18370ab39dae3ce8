"""Code of the values themselves: its exceptions become errors with the path, and nothing is written."""

from __future__ import annotations

import dataclasses
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as File
from types import FrameType
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

import redicts.types
from redicts import Database, LeafError, PathError, RedictsError, SettingsError, UnreadableHere
from redicts import open as open_database
from redicts.codecs.json import codec as json_codec
from redicts.codecs.models import ModelsCodec
from redicts.codecs.pickle import PickleCodec
from redicts.core.codec import Codec
from redicts.core.envelope import LeafFormat
from redicts.core.leaves import leaves_of, nest

SECRET = "marker-of-a-secret"
KEY = "a key of sixteen bytes"
RAISED = (ValueError, KeyError, BufferError, RuntimeError, ZeroDivisionError, AttributeError, TypeError, RecursionError)
AT = ("a", "b")


class Items(dict[str, Any]):
    """A dict that raises when it is walked."""

    raised: type[Exception] = ValueError

    def items(self) -> Any:
        raise self.raised(SECRET)

    keys = __iter__ = items


class Truth(dict[str, Any]):
    """A dict whose truth value cannot be had."""

    raised: type[Exception] = ValueError

    def __bool__(self) -> bool:
        raise self.raised(SECRET)

    __len__ = __bool__


class Reduced:
    """An object that raises when it is pickled."""

    raised: type[Exception] = ValueError

    def __reduce__(self) -> Any:
        raise self.raised(SECRET)

    def __repr__(self) -> str:
        raise self.raised(SECRET)


class Lazy:
    """An object whose class is not what it is, and cannot be had."""

    raised: type[Exception] = ValueError

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise self.raised(SECRET)


class Keys(Mapping[str, Any]):
    """A mapping that is not a dict and raises when it is walked."""

    raised: type[Exception] = ValueError

    def __getitem__(self, key: str) -> Any:
        raise self.raised(SECRET)

    def __len__(self) -> int:
        raise self.raised(SECRET)

    def __iter__(self) -> Iterator[str]:
        raise self.raised(SECRET)


class Unequal:
    """An object that comes back, and cannot be compared."""

    raised: type[Exception] = ValueError

    def __eq__(self, other: object) -> bool:
        raise self.raised(SECRET)

    __hash__ = None  # type: ignore[assignment]


class Array:
    """An object whose comparison has no truth value, as that of arrays."""

    def __eq__(self, other: object) -> Any:
        return Truth()

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass
class Picky:
    """A dataclass that accepts its values only when they are made by hand."""

    x: Any
    raised: type[Exception] | None = None

    def __post_init__(self) -> None:
        raised = type(self).raised
        if raised is not None:
            raise raised(SECRET)


@dataclasses.dataclass
class Compared:
    """A dataclass with a comparison of its own."""

    x: int
    raised = ValueError

    def __eq__(self, other: object) -> bool:
        raise self.raised(SECRET)


class Account(BaseModel):
    """A model whose validators repeat the value."""

    token: int

    @field_validator("token")
    @classmethod
    def _check(cls, token: int) -> int:
        if token > 5:
            raise ValueError(f"{SECRET} {token}")
        return token


def operations(database: Database, value: Any) -> dict[str, Callable[[], object]]:
    """Return every operation that stores a value at ``a.b``."""
    proxy, root = database.root().get("a.b"), database.root()

    def in_transaction(name: str) -> None:
        with root.transaction() as changes:
            getattr(changes, name)("a.b", value)

    return {
        "set": lambda: root.set("a.b", value),
        "set with a TTL": lambda: root.set("a.b", value, expire=60),
        "set in a dict": lambda: root.set("a", {"b": value, **dict.fromkeys("cdefghijkl", 1)}),
        "update": lambda: root.get("a").update({"b": value}),
        "update_with": lambda: proxy.update_with(lambda _: value),
        "setdefault": lambda: root.setdefault("a.b", value),
        "compare_and_set": lambda: proxy.compare_and_set(redicts.ABSENT, value),
        "compare": lambda: proxy.compare_and_set(value, 1),
        "transaction set": lambda: in_transaction("set"),
        "transaction expect": lambda: in_transaction("expect"),
    }


def error_of(operation: Callable[[], object]) -> RedictsError | None:
    """Return the error of ours that an operation raises, if it does."""
    try:
        operation()
    except RedictsError as error:
        return error
    return None


def shown(error: BaseException) -> str:
    """Return what a log shows of an error, with its causes."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__)).replace("raised(SECRET)", "")


@pytest.fixture(params=["json", "models", "pickle"])
def database(request: pytest.FixtureRequest, tmp_path: File) -> Iterator[Database]:
    """Return a database with each codec."""
    codec = {"name": "pickle", "keys": [KEY]} if request.param == "pickle" else request.param
    with open_database({"backend": "sqlite", "path": tmp_path / "state.db", "codec": codec}) as opened:
        yield opened


@pytest.mark.parametrize("raised", RAISED)
def test_no_foreign_error_comes_out_of_an_operation(database: Database, raised: type[Exception]) -> None:
    """Whatever the code of a value raises, every operation raises an error with the path, and writes nothing."""
    for kind in (Items, Truth, Reduced, Lazy):
        made: Any = type(kind.__name__, (kind,), {"raised": raised})
        values = [made(x=1)] if issubclass(kind, dict) else [made(), [made()], [{"deep": made()}]]
        if kind is Items:
            values += [[made(x=1)]]
        for value in values:
            for name, operation in operations(database, value).items():
                error = error_of(operation)
                if error is None:  # the codec has no use for that code
                    database.root().clear()
                    continue
                assert "'a.b" in str(error), name
                assert SECRET not in shown(error), name
                assert error.__cause__ is not None, name
                assert not database.root().exists(), name


@pytest.mark.parametrize("raised", RAISED)
def test_a_mapping_that_raises_is_refused_by_update(database: Database, raised: type[Exception]) -> None:
    """``update`` takes mappings of any class, whose code may raise anything."""
    made = type("Made", (Keys,), {"raised": raised})()
    with pytest.raises(LeafError, match=r"'a\.b'") as caught:
        database.root().get("a.b").update(made)
    assert SECRET not in shown(caught.value)
    assert not database.root().exists()


@pytest.mark.parametrize("raised", RAISED)
def test_a_path_that_raises_is_refused(database: Database, raised: type[Exception]) -> None:
    """Segments that cannot be read are a path that is not valid, and an endless iterable is refused."""

    def segments() -> Iterator[str]:
        yield "a"
        raise raised(SECRET)

    def endless() -> Iterator[str]:
        while True:
            yield "a"

    root = database.root()
    for key in (segments, type("Made", (Keys,), {"raised": raised}), endless):
        for attempt in (root.set, root.setdefault, lambda key, _: root.get(key), lambda key, _: root.pop(key)):
            with pytest.raises(PathError):
                attempt(key(), 1)
    wrong: list[Any] = [Lazy(), [Lazy()], [Reduced()], Reduced()]
    for key in wrong:
        with pytest.raises(PathError):
            root.set(key, 1)
    with pytest.raises(PathError, match=r"Reduced whose repr\(\) raises"):
        root.set("x", {Reduced(): 1})
    with pytest.raises(PathError, match=r"int whose repr\(\) raises|int: 1000"):
        root.set("x", {10**5_000: 1})
    assert not root.exists()


@pytest.mark.parametrize("raised", RAISED)
def test_values_that_cannot_be_compared_are_refused(tmp_path: File, raised: type[Exception], monkeypatch: Any) -> None:
    """A comparison that raises, or that is neither true nor false, is an error with the path; nothing is written."""
    monkeypatch.setattr(Unequal, "raised", raised)
    monkeypatch.setattr(Truth, "raised", raised)
    with open_database({"backend": "memory", "codec": {"name": "pickle", "keys": [KEY]}}) as database:
        for value in (Unequal(), Array()):
            database.root().set("a.b", [value, 1])
            with pytest.raises(LeafError, match=r"'a\.b' cannot be compared by ==, which raised") as caught:
                database.root().get("a.b").compare_and_set([value, 2], 1)
            assert SECRET not in shown(caught.value)
            assert type(database.root().get("a.b").val()[0]) is type(value)


@pytest.mark.parametrize("raised", [*RAISED, AssertionError])
def test_a_registered_type_that_raises_is_refused(raised: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """``__post_init__``, validators and ``__eq__`` of a type may raise anything, on writing and on reading."""
    redicts.types.register("picky", Picky)
    redicts.types.register("compared", Compared)
    try:
        with open_database({"backend": "memory", "codec": "models"}) as database:
            root = database.root()
            root.set("old", Picky(1))
            values = [Picky(SECRET), Compared(1)]
            monkeypatch.setattr(Picky, "raised", raised)
            monkeypatch.setattr(Compared, "raised", raised)
            for value in values:
                for name, operation in operations(database, value).items():
                    with pytest.raises(LeafError, match=r"'a\.b'") as caught:
                        operation()
                    assert SECRET not in shown(caught.value), name
                    assert not root.get("a").exists(), name
            with pytest.raises(UnreadableHere, match=r"'old'") as caught:
                root.get("old").val()
            assert SECRET not in shown(caught.value)
    finally:
        redicts.types.forget("picky")
        redicts.types.forget("compared")


def test_the_error_of_a_model_does_not_repeat_the_value() -> None:
    """Neither the error nor what a log shows of its causes has a value, and it names the field."""
    redicts.types.register("account", Account)
    try:
        with open_database({"backend": "memory", "codec": "models", "accept": ["json"]}) as database:
            for value in (Account.model_construct(token=SECRET), Account.model_construct(token=7)):
                with pytest.raises(LeafError, match=r"'a\.b'.*'account' is not valid for its type") as caught:
                    database.root().set("a.b", value)
                assert SECRET not in shown(caught.value)
            form = LeafFormat(ModelsCodec())
            text = b'{"$type":"account","value":{"token":%b}}'
            for token, says in ((b'"%b"' % SECRET.encode(), "token: .*valid integer"), (b"7", "token: value_error")):
                data = text % token
                with pytest.raises(UnreadableHere, match=rf"'a\.b'.*{says}") as caught:
                    nest({(): b"\x04models %d\n%b" % (len(data), data)}, AT, form)
                assert SECRET not in shown(caught.value)
    finally:
        redicts.types.forget("account")


def test_the_advice_to_register_works() -> None:
    """An error tells to register a type only if it can be registered, and then its values can be stored."""
    form = LeafFormat(ModelsCodec(), [json_codec])
    for value in (Picky(1), Account(token=1)):
        with pytest.raises(LeafError, match=r"not registered; call redicts\.types\.register"):
            leaves_of([value], AT, form)
        redicts.types.register("advised", type(value))
        assert nest(leaves_of([value], AT, form), AT, form) == [value]
        redicts.types.forget("advised")

    @dataclasses.dataclass
    class Strange:
        x: Database

    for refused in (b"x", {1}, object(), threading.Lock(), Strange(None)):  # type: ignore[arg-type]
        with pytest.raises(LeafError, match="not JSON serializable") as caught:
            leaves_of([refused], AT, form)
        assert "redicts.types.register" not in str(caught.value)
        with pytest.raises(SettingsError):
            redicts.types.register("advised", type(refused))


@pytest.mark.parametrize("codec", [json_codec, ModelsCodec(), PickleCodec((b"a key of sixteen",))])
def test_a_dict_that_is_changed_meanwhile_is_refused(codec: Codec) -> None:
    """A dict that another thread changes while it is stored is an error with its path."""

    class Changing(dict[str, Any]):
        """A dict of which a walk changes the dict that it is in, as another thread may."""

        def __bool__(self) -> bool:
            outer["new"] = 1
            return True

    outer: dict[str, Any] = {"x": Changing(y=1), "z": 2}
    with pytest.raises(LeafError, match=r"'a\.b\.o'.*changed size"):
        leaves_of({"o": outer}, AT, LeafFormat(codec, [] if codec is json_codec else [json_codec]))


def test_numbers_of_other_classes_are_added_as_numbers(database: Database) -> None:
    """The code of a subclass of ``int`` or ``float`` is not called by ``add``."""

    class Sum(int):
        def __radd__(self, other: object) -> Any:
            raise ValueError(SECRET)

        __add__ = __index__ = __le__ = __ge__ = __repr__ = __str__ = __format__ = __neg__ = __radd__  # type: ignore

    class Float(float):
        def __radd__(self, other: object) -> Any:
            raise ValueError(SECRET)

        __add__ = __repr__ = __radd__  # type: ignore

    root = database.root()
    assert root.get("n").add(Sum(2)) == 2
    assert root.get("n").add(Float(0.5)) == 2.5
    with root.transaction() as changes:
        changes.add("m", Sum(3))
    assert root.val() == {"n": 2.5, "m": 3}
    for wrong in (Lazy(), "1", None, True, Reduced()):
        with pytest.raises(LeafError, match="'n'"):
            root.get("n").add(wrong)  # type: ignore[arg-type]
        with pytest.raises(LeafError, match="'m'"), root.transaction() as changes:
            changes.add("m", wrong)  # type: ignore[arg-type]
    with pytest.raises(LeafError, match="'m'"), root.transaction() as changes:
        changes.add("m", 10**5_000)


@pytest.mark.parametrize("raised", [*RAISED, LeafError, PathError])
def test_the_function_of_update_with_raises_what_it_raises(database: Database, raised: type[Exception]) -> None:
    """An exception of the caller's own function reaches the caller unchanged."""
    error = raised(SECRET)

    def function(_: object) -> object:
        raise error

    with pytest.raises(raised) as caught:
        database.root().get("a.b").update_with(function)
    assert caught.value is error
    assert caught.value.__cause__ is None


class Limit(Exception):
    """A soft time limit, as task queues raise it in a signal handler."""


@pytest.mark.parametrize("codec", [json_codec, ModelsCodec(), PickleCodec((b"a key of sixteen",))])
def test_an_exception_of_a_signal_handler_is_not_one_of_the_value(codec: Codec) -> None:
    """A handler that raises while a value is encoded or decoded stops the operation with its own exception."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        raise Limit

    def any_arguments(*_: object) -> None:
        handler(0, None)

    class Slow(dict[str, Any]):
        """A dict whose walk takes so long that a signal arrives."""

        def __bool__(self) -> bool:
            signal.raise_signal(signal.SIGUSR1)
            return True

        items = __iter__ = __reduce__ = __bool__  # type: ignore[assignment]

    form = LeafFormat(codec)
    before = signal.getsignal(signal.SIGUSR1)
    try:
        for each in (handler, any_arguments):
            signal.signal(signal.SIGUSR1, each)
            for value in (Slow(x=1), {"x": Slow(x=1)}):
                with pytest.raises(Limit):
                    leaves_of(value, AT, form)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_exception_of_a_trace_function_is_not_one_of_the_value(no_collections: None) -> None:
    """An interrupt at any line of encoding and decoding reaches the caller, and the next call works."""
    form = LeafFormat(PickleCodec((b"a key of sixteen",)))
    value = {"x": [1, {"y": "text"}], "z": {"u": {1}}}
    points = 0

    def both() -> object:
        return nest(leaves_of(value, AT, form), AT, form)

    def interrupted_at(number: int) -> bool:
        count = 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal count
            count += "redicts" in frame.f_code.co_filename
            if count == number:
                count += 1
                raise Limit
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            both()
        except Limit:
            return True
        finally:
            sys.settrace(before)
        return False

    while interrupted_at(points + 1):
        points += 1
    assert points > 50
    assert both() == value
