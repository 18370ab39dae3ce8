"""Input that is not valid is refused before anything is written, with an error that names reason and path."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pydantic
import pytest

from redicts import (
    ABSENT,
    CorruptData,
    LeafError,
    Packed,
    PathError,
    Pool,
    Proxy,
    RedictsError,
    SettingsError,
    root,
    section,
)
from redicts.codecs.msgpack import MsgpackCodec
from redicts.core.minitransaction import VALUES, Key, Put, Transaction
from tests.support.stores import NoStore, Store, Use, Wrapped

TREE = {"a": {"b": 1, "c": {"d": "text"}}, "n": 5, "x": 2.5, "e": {}, "huge": 10**400}


class Refused(NamedTuple):
    """A call that is wrong, the error that it raises, and what the text of that must have in it."""

    call: Callable[[], object]
    error: type[BaseException]
    says: str


def cycle() -> dict[str, Any]:
    """Return a dict that is inside itself."""
    value: dict[str, Any] = {"a": {"b": {}}}
    value["a"]["b"]["c"] = value["a"]
    return value


def cyclic_list() -> list[Any]:
    """Return a list that is inside itself."""
    value: list[Any] = []
    value.append([value])
    return value


def nested(depth: int, value: object = 1) -> Any:
    """Return a value under so many dicts."""
    for _ in range(depth):
        value = {"d": value}
    return value


def nested_lists(depth: int) -> Any:
    """Return a list under so many lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def deep(depth: int) -> list[str]:
    """Return a path of so many segments."""
    return ["d"] * depth


def commit(change: Callable[[Any], object], at: Any = ()) -> None:
    """Make one change in a transaction at a place."""
    with Proxy(at).transaction() as changes:
        change(changes)


def explode(old: object) -> object:
    """Return what cannot be stored."""
    return {"fine": old, "bad": {1, 2}}


class Strange:
    """An object that no codec knows."""


PATHS: dict[str, Refused] = {
    "an empty segment": Refused(lambda: Proxy("a..b"), PathError, "'a..b'"),
    "an empty first segment": Refused(lambda: Proxy(".a"), PathError, "'.a'"),
    "an empty last segment": Refused(lambda: Proxy("a."), PathError, "'a.'"),
    "an empty key": Refused(lambda: root().get(""), PathError, "''"),
    "an empty segment in an iterable": Refused(lambda: Proxy(["a", ""]), PathError, "['a', '']"),
    "a segment that is no text": Refused(lambda: Proxy(["a", 1]), PathError, "1"),  # type: ignore[list-item]
    "a segment that is bytes": Refused(lambda: Proxy([b"a"]), PathError, "b'a'"),  # type: ignore[list-item]
    "bytes": Refused(lambda: Proxy(b"a"), PathError, "bytes"),  # type: ignore[arg-type]
    "a number": Refused(lambda: root().get(5), PathError, "int"),  # type: ignore[arg-type]
    "None": Refused(lambda: Proxy(None), PathError, "NoneType"),  # type: ignore[arg-type]
    "an unknown escape": Refused(lambda: Proxy(r"a\b"), PathError, r"'a\\b'"),
    "a backslash at the end": Refused(lambda: Proxy("a\\"), PathError, r"'a\\'"),
    "too many segments": Refused(lambda: Proxy(deep(129)), PathError, "129"),
    "too many segments in text": Refused(lambda: Proxy(".".join(deep(129))), PathError, "129"),
    "too many segments together": Refused(lambda: Proxy(deep(100)).get(deep(29)), PathError, "129"),
    "a section": Refused(lambda: section("a..b"), PathError, "'a..b'"),
}
KEYS: dict[str, Refused] = {
    "set": Refused(lambda: root().set("", 1), PathError, "''"),
    "set too deep": Refused(lambda: Proxy(deep(128)).set("x", 1), PathError, "129"),
    "set at a number": Refused(lambda: root().set(1, 1), PathError, "int"),  # type: ignore[arg-type]
    "[] =": Refused(lambda: root().__setitem__("a..b", 1), PathError, "'a..b'"),
    "[]": Refused(lambda: root()["a..b"], PathError, "'a..b'"),
    "delete": Refused(lambda: root().delete("a."), PathError, "'a.'"),
    "del": Refused(lambda: root().__delitem__(""), PathError, "''"),
    "in": Refused(lambda: "" in root(), PathError, "''"),
    "pop": Refused(lambda: root().pop("", None), PathError, "''"),
    "setdefault": Refused(lambda: root().setdefault("", 1), PathError, "''"),
    "transaction.set": Refused(lambda: commit(lambda c: c.set("", 1)), PathError, "''"),
    "transaction.set too deep": Refused(lambda: commit(lambda c: c.set("x", 1), deep(128)), PathError, "129"),
    "transaction.add too deep": Refused(lambda: commit(lambda c: c.add("x", 1), deep(128)), PathError, "129"),
    "transaction.delete": Refused(lambda: commit(lambda c: c.delete("a..b")), PathError, "'a..b'"),
    "transaction.expect": Refused(lambda: commit(lambda c: c.expect("a..b", 1)), PathError, "'a..b'"),
    "transaction.expire": Refused(lambda: commit(lambda c: c.expire("a..b", 1)), PathError, "'a..b'"),
    "another proxy": Refused(lambda: root().get(Proxy("a")), PathError, "Proxy"),
}
VALUES_REFUSED: dict[str, Refused] = {
    "a set": Refused(lambda: root().set("a", {1}), LeafError, "'a'"),
    "an object": Refused(lambda: Proxy("p").set("q.r", Strange()), LeafError, "'p.q.r'"),
    "bytes": Refused(lambda: root().set("a", {"fine": 1, "x": {"y": b""}}), LeafError, "'a.x.y'"),
    "an object in a list": Refused(lambda: root().set("a", {"x": [1, Strange()]}), LeafError, "'a.x'"),
    "a packed set": Refused(lambda: root().set("a", {"x": Packed({1})}), LeafError, "'a.x'"),
    "a path with dots": Refused(lambda: root().set(["w.w"], {"x.y": {1}}), LeafError, r"'w\\.w.x\\.y'"),
    "a packed value in a list": Refused(lambda: root().set("a", [Packed({})]), LeafError, "'a'"),
    "a cycle of dicts": Refused(lambda: root().set("a", cycle()), LeafError, "'a.a.b.c'"),
    "a cycle of lists": Refused(lambda: root().set("a", {"x": cyclic_list()}), LeafError, "'a.x'"),
    "a packed cycle": Refused(lambda: root().set("a", Packed(cycle())), LeafError, "'a'"),
    "very deep lists": Refused(lambda: root().set("a", {"x": nested_lists(200_000)}), LeafError, "'a.x'"),
    "dicts too deep": Refused(lambda: root().set("a", nested(128)), LeafError, "'a'"),
    "dicts far too deep": Refused(lambda: root().set("a", nested(100_000)), LeafError, "'a'"),
    "a dict below a deep path": Refused(lambda: root().set(deep(128), {"x": 1}), LeafError, "deep"),
    "an update of a deep path": Refused(lambda: Proxy(deep(128)).update({"x": 1}), LeafError, "deep"),
    "a key that is no text": Refused(lambda: root().set("a", {"b": {"c": 1, 5: 2}}), PathError, "'a.b'"),
    "a key that is None": Refused(lambda: root().set("a", {None: 2}), PathError, "'a'"),
    "a key that is bytes": Refused(lambda: root().set("a", {b"k": 2}), PathError, "'a'"),
    "an empty key": Refused(lambda: root().set("a", {"b": {"": 2}}), PathError, "'a.b'"),
    "a number of too many digits": Refused(lambda: root().set("a", 10**5000), LeafError, "'a'"),
    "a leaf at the root": Refused(lambda: root().set([], 5), LeafError, "root"),
    "a packed dict at the root": Refused(lambda: root().set([], Packed({"a": 1})), LeafError, "root"),
    "None at the root": Refused(lambda: root().set([], None), LeafError, "root"),
    "update with a list": Refused(lambda: root().update([("a", 1)]), LeafError, "list"),  # type: ignore[arg-type]
    "update with a bad value": Refused(lambda: Proxy("a").update({"new": 1, "b": {1}}), LeafError, "'a.b'"),
    "update with a bad key": Refused(lambda: Proxy("a").update({"new": 1, 5: 1}), PathError, "'a'"),  # type: ignore[dict-item]
    "update_with": Refused(lambda: Proxy("a").update_with(explode), LeafError, "'a.bad'"),
    "update_with at the root": Refused(lambda: root().update_with(lambda _: 5), LeafError, "root"),
    "setdefault": Refused(lambda: root().setdefault("new", {"x": {1}}), LeafError, "'new.x'"),
    "setdefault at the root": Refused(lambda: root().setdefault([], 1), LeafError, "root"),
    "compare_and_set": Refused(lambda: Proxy("n").compare_and_set(5, {1}), LeafError, "'n'"),
    "compare_and_set expecting": Refused(lambda: Proxy("n").compare_and_set({1}, 5), LeafError, "'n'"),
    "compare_and_set at the root": Refused(lambda: root().compare_and_set(TREE, 5), LeafError, "root"),
    "transaction.set": Refused(lambda: commit(lambda c: c.set("b", {1}), "a"), LeafError, "'a.b'"),
    "transaction.set at the root": Refused(lambda: commit(lambda c: c.set([], 1)), LeafError, "root"),
    "transaction.expect": Refused(lambda: commit(lambda c: c.expect("b", {1}), "a"), LeafError, "'a.b'"),
    "ABSENT as a value": Refused(lambda: root().set("a", ABSENT), LeafError, "'a'"),
}
COUNTS: dict[str, Refused] = {
    "add to text": Refused(lambda: Proxy("a.c.d").add(1), LeafError, "'a.c.d'"),
    "add to a dict": Refused(lambda: Proxy("a").add(1), LeafError, "'a'"),
    "add a float to a dict": Refused(lambda: Proxy("a").add(0.5), LeafError, "'a'"),
    "add to an empty dict": Refused(lambda: Proxy("e").add(1), LeafError, "'e'"),
    "add to the root": Refused(lambda: root().add(1), LeafError, "root"),
    "add text": Refused(lambda: Proxy("n").add("1"), LeafError, "'n'"),  # type: ignore[call-overload]
    "add a bool": Refused(lambda: Proxy("n").add(True), LeafError, "'n'"),
    "add None": Refused(lambda: Proxy("n").add(None), LeafError, "'n'"),  # type: ignore[call-overload]
    "add a float to a large integer": Refused(lambda: Proxy("huge").add(0.5), LeafError, "'huge'"),
    "add a large integer to a float": Refused(lambda: Proxy("x").add(10**400), LeafError, "'x'"),
    "transaction.add of a float": Refused(lambda: commit(lambda c: c.add("n", 0.5)), LeafError, "'n'"),
    "transaction.add of a bool": Refused(lambda: commit(lambda c: c.add("n", True)), LeafError, "'n'"),
    "transaction.add of too much": Refused(lambda: commit(lambda c: c.add("n", 2**63)), LeafError, "'n'"),
    "transaction.add at the root": Refused(lambda: commit(lambda c: c.add([], 1)), LeafError, "root"),
    "transaction.add to text": Refused(lambda: commit(lambda c: c.add("c.d", 1), "a"), LeafError, "'a.c.d'"),
    "transaction.add to a dict": Refused(lambda: commit(lambda c: c.add("c", 1), "a"), LeafError, "'a.c'"),
}
EXPIRING: dict[str, Callable[[Any], object]] = {
    "set": lambda seconds: root().set("a", 1, expire=seconds),
    "expire": lambda seconds: Proxy("a").expire(seconds),
    "update": lambda seconds: root().update({"a": 1}, expire=seconds),
    "setdefault": lambda seconds: root().setdefault("new", 1, expire=seconds),
    "compare_and_set": lambda seconds: Proxy("n").compare_and_set(5, 6, expire=seconds),
    "transaction.set": lambda seconds: commit(lambda c: c.set("a", 1, expire=seconds)),
    "transaction.expire": lambda seconds: commit(lambda c: c.expire("a", seconds)),
}
NO_TTLS: list[Any] = [0, -1, 0.0, -0.001, float("nan"), float("inf"), "10", True, []]
TTLS = {
    f"{name} of {seconds!r}": Refused(partial(call, seconds), LeafError, repr(seconds))
    for name, call in EXPIRING.items()
    for seconds in NO_TTLS
}
BEFORE_THE_STORE = {
    f"{kind}: {name}": case
    for kind, cases in {"path": PATHS, "key": KEYS, "value": VALUES_REFUSED, "ttl": TTLS}.items()
    for name, case in cases.items()
}


def lasting() -> dict[str, bool]:
    """Tell of each leaf whether it lasts for ever."""
    return {each.key(): each.time_to_live() == -1 for each in root().iter_children()}


def assert_refused(case: Refused) -> None:
    """Make the call on a tree with and without lives; see its error, and that the tree is the same afterwards."""
    root().set([], TREE)
    Proxy("a.b").expire(10_000)
    before = root().val(), lasting()
    with pytest.raises(case.error) as caught:
        case.call()
    assert type(caught.value) is case.error
    assert isinstance(caught.value, RedictsError)
    assert isinstance(caught.value, ValueError)
    assert case.says in str(caught.value)
    assert (root().val(), lasting()) == before


@pytest.mark.parametrize("name", BEFORE_THE_STORE)
def test_input_that_is_not_valid_is_refused(name: str) -> None:
    """Each input that is not valid raises its own class of error, with reason and path; nothing is written."""
    assert_refused(BEFORE_THE_STORE[name])


@pytest.mark.parametrize("name", COUNTS)
def test_what_cannot_be_added_is_refused(any_store: Store, name: str) -> None:
    """A value that is not a number, stored or given, is refused on every store. Nothing is written."""
    assert_refused(COUNTS[name])


@pytest.mark.parametrize("name", PATHS | {name: case for name, case in KEYS.items() if "transaction" not in name})
def test_wrong_paths_cost_no_round_trip(use: Use, name: str) -> None:
    """A path is checked before the first request."""
    use(NoStore())
    with pytest.raises(PathError):
        (PATHS | KEYS)[name].call()


def test_errors_are_short(use: Use) -> None:
    """An error about something very long does not repeat all of it."""
    use(NoStore())
    for wrong in ("x" * 100_000 + "..", "\\" + "x" * 100_000, ["x" * 100_000, ""], b"x" * 100_000, [b"x" * 100_000]):
        with pytest.raises(PathError) as caught:
            Proxy(wrong)  # type: ignore[arg-type]
        assert len(str(caught.value)) < 1_000
    with pytest.raises(PathError) as caught:
        root().set("a", {b"x" * 100_000: 1})
    assert len(str(caught.value)) < 1_000
    with pytest.raises(LeafError) as refused:
        root().set("a", 1, expire="x" * 100_000)  # type: ignore[arg-type]
    assert len(str(refused.value)) < 1_000


def test_the_error_of_a_refused_value_names_its_cause() -> None:
    """The error names the codec and the refused type, and has the codec's error as its cause."""
    with pytest.raises(LeafError, match=r"codec json.*Strange.*not JSON serializable") as caught:
        root().set("a", Strange())
    assert isinstance(caught.value.__cause__, TypeError)


@dataclasses.dataclass
class _Point:
    x: int


class _Model(pydantic.BaseModel):
    x: int = 1


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (datetime.datetime(2026, 1, 1), '"codec": "msgpack"'),
        (datetime.date(2026, 1, 1), '"codec": "msgpack"'),
        ([{"a": b"x"}], '"codec": "msgpack"'),
        (_Point(1), '"codec": "models" in the settings, and register the type'),
        (_Model(), '"codec": "models" in the settings, and register the type'),
        ({1, 2}, "such as pickle"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_the_error_of_a_refused_value_names_the_codec_that_takes_it(value: object, advice: str) -> None:
    """And the setting; the advice is right for the codecs that come with redicts."""
    with pytest.raises(LeafError, match="cannot be stored with the codec json") as caught:
        root().set("a.b", {"c": value})
    assert advice in str(caught.value)
    assert "'a.b.c'" in str(caught.value)
    if "msgpack" in advice:
        assert MsgpackCodec().decode(MsgpackCodec().encode(value, ()), ()) == value


def test_what_redicts_did_not_write_is_damaged(use: Use) -> None:
    """Bytes that are no value of the codec are reported as damage, with the path, and are no ``ValueError``."""
    store = Wrapped()
    use(store)
    root().set("a.fine", 1)
    for data in (b"", b"{", b"\xff", b"nope", b"[1}"):
        store.inner.execute(Transaction(writes=(Put(Key(VALUES, ("a", "b.c")), data),)))
        for read in (lambda: Proxy("a").val(), lambda: Proxy("a").items(), lambda: Proxy(["a", "b.c"]).val()):
            with pytest.raises(CorruptData, match=re.escape(repr(r"a.b\.c"))) as caught:
                read()
            assert not isinstance(caught.value, ValueError)
        assert Proxy("a.fine").val() == 1
        assert Proxy(["a", "b.c"]).exists()


def test_an_unknown_database_is_refused() -> None:
    """A name that the settings do not have raises SettingsError on first use, with the nearest known name."""
    Pool().reload(cfg={"backend": "memory", "names": {"persons": 1}})
    proxy = Proxy("a", db_name="person")
    with pytest.raises(SettingsError, match="'person'; did you mean 'persons'"):
        proxy.val()
    Pool().reload(cfg={"backend": "memory"})
    with pytest.raises(SettingsError, match="'person'; the settings name none"):
        proxy.set("b", 1)
