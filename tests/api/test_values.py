"""Values and keys are read as they were stored, on every store, and replace the values that were there."""

from __future__ import annotations

import json
from collections import OrderedDict, defaultdict
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from redicts import Packed, Proxy, root
from tests.support.stores import Store

few = settings(
    max_examples=max(15, settings().max_examples // 5), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
"""Each example makes several round trips, on each of five stores and more."""

HOSTILE = (
    ".",
    "..",
    "\\",
    "\\.",
    "*",
    "?",
    "[a-z]",
    "a*",
    " ",
    "\n",
    "\x00",
    "a\x00b",
    "\x7f",
    "\ud800",
    "\udfff\ud800",
    "\ud83d\ude00",
    "\U0001f600",
    "\ue000",
    "\uffff",
    "e\u0301",
    "\u00e9",
    "v:",
    "{tag}",
    "%2E",
    "%",
    "'",
    '"',
    "NULL",
    "0",
    "-1",
    "x" * 20_000,
    "\u20ac" * 5_000,
)
"""Keys that are data everywhere here, and mean something to some store or to some layer between."""

segments = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(), min_size=1, max_size=8))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=20),
    st.integers(2**64, 2**200),
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(segments | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
"""Values that ``json.dumps`` takes; the text that is no key of a dict may be empty, but keys may not."""
trees = st.recursive(
    scalars | st.lists(documents, max_size=3),
    lambda inner: st.dictionaries(segments, inner, max_size=4),
    max_leaves=12,
)


def as_stored(value: Any) -> Any:
    """Return what comes back for a value: inner nodes as they are, each leaf as JSON gives it back."""
    if isinstance(value, dict) and value:
        return {key: as_stored(inner) for key, inner in value.items()}
    return json.loads(json.dumps(value))


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same in every type and bit; NaN is the same as NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


@few
@given(value=trees)
@example(value={"a": {"b": {}, "c": [], "d": None, "e": "", "f": 0, "g": [{}, [[]]]}})
@example(value=[float("nan"), float("inf"), -0.0, 1e308, 5e-324, 2**53 + 1, 10**300])
@example(value="\u2028\x00\x1f\ud800 \U0001f600 é")
@example(value={"a": {"true": True, "one": 1, "1.0": 1.0}})
def test_values_are_read_as_json_decodes_them(any_store: Store, value: Any) -> None:
    """Every value that ``json.dumps`` takes is read with the types that JSON gives it."""
    Proxy("some.place").set("v", value)
    assert same(Proxy("some.place.v").val(), as_stored(value))


@few
@given(path=st.lists(segments, min_size=1, max_size=5))
@example(path=list(HOSTILE[:-2]))
@example(path=["\ud83d\ude00"])
def test_keys_are_read_unchanged(any_store: Store, path: list[str]) -> None:
    """Any text of one character or more is a segment of a path and a key of a dict, unchanged."""
    root().clear()
    expected: Any = 1
    for segment in reversed(path):
        expected = {segment: expected}
    root().set(path, 1)
    assert root().val() == expected
    assert Proxy(Proxy(path).key()) is Proxy(path)
    assert root().get(path).val() == 1
    assert root().keys() == path[:1]
    assert Proxy(path[:-1]).keys() == path[-1:]
    assert [each.key() for each in root().iter_children()] == [Proxy(path).key()]
    root().set([], expected)
    assert Proxy(path).val() == 1
    root().delete(path)
    assert root().val() is None


def test_hostile_keys_stay_apart(any_store: Store) -> None:
    """Keys that are alike to globs, escapes or Unicode normal forms are different keys."""
    value = {key: {"self": number} for number, key in enumerate(HOSTILE)}
    root().set("all", value)
    assert Proxy("all").val() == value
    assert sorted(Proxy("all").keys()) == sorted(HOSTILE)
    left = dict(value)
    for key in HOSTILE:
        assert Proxy(["all", key, "self"]).val() == left[key]["self"]
        Proxy("all").delete([key])
        del left[key]
        assert Proxy("all").val() == (left or None)


def test_pages_lose_no_key(any_store: Store) -> None:
    """A page continues after the last key of the one before, also if a key is not valid Unicode."""
    first = [f"{number:03}" for number in range(999)]
    for last in ("a", "a\x00", "\u00e9", "\ud800", "\ud83d\ude00", "\udfff\ud800", "\uffff", "\U0001f600"):
        value = dict.fromkeys([*first, last, last + "\x00", "\ue000", "\U0001f5ff", "\U0010ffff"], 1)
        root().set("many", value)
        assert sorted(Proxy(each.key())._path[1] for each in Proxy("many").iter_children()) == sorted(value), last


def test_a_large_value_is_stored(any_store: Store) -> None:
    """One leaf may be a megabyte."""
    text = "0123456789abcde\u00e9" * 65_536
    root().set("large", text)
    assert root().get("large").val() == text


def test_a_dict_of_thousands_stays_whole(fast_store: Store) -> None:
    """A dict of thousands of dicts is read, returned by ``setdefault`` and popped as one complete value."""
    value = {f"n{number}": {"x": number} for number in range(2_600)}
    root().set("many", value)
    assert Proxy("many").val() == value
    assert root().setdefault("many", "default") == value
    assert root().pop("many.n1") == {"x": 1}
    del value["n1"]
    assert root().pop("many") == value
    assert not Proxy("many").exists()
    value = {f"n{number}": {"x": number} for number in range(2_000)}
    root().set("many", value)
    assert root().pop("many") == value


def test_a_deep_value_is_stored(any_store: Store) -> None:
    """A path may have 128 segments, from the path itself or from nested dicts."""
    path = [f"d{level}" for level in range(128)]
    value: Any = "ground"
    for segment in reversed(path[64:]):
        value = {segment: value}
    Proxy(path[:32]).set(path[32:64], value)
    assert Proxy(path).val() == "ground"
    assert Proxy(path[:64]).val() == value


@pytest.mark.parametrize("subclass", [OrderedDict, lambda value: defaultdict(list, value)])
def test_subclasses_of_dict_are_dicts(any_store: Store, subclass: Any) -> None:
    """A value that is a subclass of ``dict``, at any depth, is an inner node."""
    root().set("a", subclass({"x": subclass({"y": 1}), "z": subclass({})}))
    assert Proxy("a.x.y").val() == 1
    assert root().val() == {"a": {"x": {"y": 1}, "z": {}}}


def test_tuples_are_read_as_lists(any_store: Store) -> None:
    """As in JSON, a tuple is read as a list."""
    root().set("a", {"x": (1, (2,))})
    assert root().val() == {"a": {"x": [1, [2]]}}


def test_a_packed_dict_is_one_leaf(any_store: Store) -> None:
    """A packed dict is written and read whole, and nothing inside has a path."""
    root().set("user", {"name": "anna", "settings": Packed({"theme": {"dark": True}})})
    assert root().val() == {"user": {"name": "anna", "settings": {"theme": {"dark": True}}}}
    assert Proxy("user.settings").val() == {"theme": {"dark": True}}
    assert Proxy("user.settings.theme").val() is None
    assert Proxy("user.settings").keys() == []
    assert sorted(each.key() for each in root().iter_children()) == ["user.name", "user.settings"]


def test_packed_values_everywhere(any_store: Store) -> None:
    """Every method that stores takes packed values."""
    root().update({"a": Packed({"x": 1})})
    assert root().setdefault("b", Packed({"x": 2})) == {"x": 2}
    assert Proxy("c").update_with(lambda old: Packed({"x": 3, "old": old})) == {"x": 3, "old": None}
    assert Proxy("d").compare_and_set(None, Packed({})) is False
    assert Proxy("a").compare_and_set(Packed({"x": 1}), Packed({"x": 4}))
    assert Proxy("a").compare_and_set({"x": 4}, Packed({"x": 5}))
    with root().transaction() as changes:
        changes.expect("b", Packed({"x": 2}))
        changes.set("d", Packed([6]))
    assert root().val() == {"a": {"x": 5}, "b": {"x": 2}, "c": {"x": 3, "old": None}, "d": [6]}
    assert sorted(each.key() for each in root().iter_children()) == ["a", "b", "c", "d"]
    assert repr(Packed({"x": 1})) == "Packed({'x': 1})"


def test_set_below_a_packed_dict_replaces_it(any_store: Store) -> None:
    """A packed dict is a leaf, so a value stored below it replaces all of it."""
    root().set("a", Packed({"x": 1}))
    root().set("a.y", 2)
    assert root().val() == {"a": {"y": 2}}


REPLACED = {
    "a leaf over a leaf": ("a.b", 1, "a.b", 2, {"a": {"b": 2}}),
    "a leaf over a subtree": ("a.b", {"c": {"d": 1}, "e": 2}, "a.b", 3, {"a": {"b": 3}}),
    "a subtree over a leaf": ("a.b", 1, "a.b", {"c": {"d": 2}}, {"a": {"b": {"c": {"d": 2}}}}),
    "a subtree over another": ("a", {"b": {"c": 1}, "d": 2}, "a", {"b": {"x": 3}}, {"a": {"b": {"x": 3}}}),
    "below a leaf": ("a", 1, "a.b.c", 2, {"a": {"b": {"c": 2}}}),
    "far below a leaf": ("a", {"x": 1, "b": 2}, "a.b.c.d.e", 3, {"a": {"x": 1, "b": {"c": {"d": {"e": 3}}}}}),
    "an empty dict over a subtree": ("a", {"b": {"c": 1}}, "a.b", {}, {"a": {"b": {}}}),
    "below an empty dict": ("a", {}, "a.b", 1, {"a": {"b": 1}}),
    "None over a subtree": ("a", {"b": 1}, "a", None, {"a": None}),
    "the whole tree": ("a", {"b": 1}, [], {"c": {"d": 2}}, {"c": {"d": 2}}),
    "the whole tree by nothing": ("a", {"b": 1}, [], {}, None),
}


@pytest.mark.parametrize("case", REPLACED)
def test_set_replaces_all_of_it(any_store: Store, case: str) -> None:
    """``set`` replaces everything at and below its key and removes a leaf above; other values stay."""
    first_key, first, key, value, expected = REPLACED[case]
    root().set("neighbour", {"x": 1})
    root().set(first_key, first)
    root().set(key, value)
    assert root().val() == (expected if key == [] else {**expected, "neighbour": {"x": 1}})  # type: ignore[dict-item]


def test_a_dict_without_leaves_is_absent(any_store: Store) -> None:
    """An inner node exists while it has leaves below; only a stored empty dict stays empty."""
    root().set("a", {"b": {"c": 1}, "e": {}})
    root().delete("a.b.c")
    assert not Proxy("a.b").exists()
    assert root().val() == {"a": {"e": {}}}
    root().set("a.e.x", 1)
    root().delete("a.e.x")
    assert root().val() is None


def test_what_is_read_is_the_readers_own(any_store: Store) -> None:
    """To change a value that was read, or one that was set, changes nothing in the store."""
    value = {"x": [1]}
    root().set("a", value)
    value["x"].append(2)
    read = Proxy("a").val()
    read["x"].append(3)
    assert Proxy("a").val() == {"x": [1]}
