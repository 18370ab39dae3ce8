"""A value is taken apart into leaves and put together again without loss, or refused with the path."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redicts.codecs.json import codec
from redicts.core.envelope import LeafFormat
from redicts.core.leaves import ABSENT, Packed, leaves_of, nest
from redicts.core.minitransaction import MAX_DEPTH, Path
from redicts.errors import CorruptData, LeafError, PathError, StoreError, UnreadableHere

FORM = LeafFormat(codec)
AT: Path = ("up", "here.now")
WHERE = re.escape(r"'up.here\\.now")
"""How errors name that path, but for the end of the quotes, as a pattern."""

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
trees = st.recursive(
    scalars | st.lists(documents, max_size=3),
    lambda inner: st.dictionaries(st.text(st.characters(), min_size=1, max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(value=trees)
def test_leaves_make_the_value_again(value: Any) -> None:
    """The leaves of a value nest to the same value."""
    assert nest(leaves_of(value, AT, FORM), AT, FORM) == value


@given(value=trees)
def test_leaves_are_prefix_free(value: Any) -> None:
    """No leaf lies below another one."""
    leaves = leaves_of(value, AT, FORM)
    assert leaves
    for path in leaves:
        assert not any(path[:depth] in leaves for depth in range(len(path)))


@given(value=trees.filter(lambda value: isinstance(value, dict) and value), order=st.randoms(use_true_random=False))
def test_the_order_of_leaves_does_not_matter(value: Any, order: Any) -> None:
    """A store may answer leaves in any order."""
    leaves = list(leaves_of(value, (), FORM).items())
    order.shuffle(leaves)
    assert nest(dict(leaves), (), FORM) == value


@pytest.mark.parametrize(
    ("value", "leaves"),
    [
        (5, {(): b"5"}),
        (None, {(): b"null"}),
        ({}, {(): b"{}"}),
        ([], {(): b"[]"}),
        ([{"a": {}}], {(): b'[{"a":{}}]'}),
        ({"a": 1, "b": {"c": {}, "d": [{}]}}, {("a",): b"1", ("b", "c"): b"{}", ("b", "d"): b"[{}]"}),
        ({"a.b": {"c": 1}}, {("a.b", "c"): b"1"}),
        (Packed({"a": 1}), {(): b'{"a":1}'}),
        ({"a": Packed({}), "b": Packed(5)}, {("a",): b"{}", ("b",): b"5"}),
        (OrderedDict(a=OrderedDict(b=1)), {("a", "b"): b"1"}),
        (OrderedDict(), {(): b"{}"}),
    ],
)
def test_what_is_a_leaf(value: object, leaves: dict[Path, bytes]) -> None:
    """A dict with keys is an inner node; all else is one leaf, an empty dict and a packed value included."""
    assert leaves_of(value, AT, FORM) == leaves


def test_one_dict_at_two_paths_is_not_a_cycle() -> None:
    """The same dict may occur several times, at the same and at different depths."""
    shared = {"x": {"y": 1}}
    value = {"a": shared, "b": {"c": shared, "d": shared}}
    assert nest(leaves_of(value, (), FORM), (), FORM) == value


def test_cycles_are_refused_with_the_path() -> None:
    """A dict inside itself is refused where it occurs again, through lists and subclasses of dict, too."""
    plain: dict[str, Any] = {"a": {"b": {}}}
    plain["a"]["b"]["c"] = plain["a"]
    with pytest.raises(LeafError, match=rf"{WHERE}\.a\.b\.c' contains itself"):
        leaves_of(plain, AT, FORM)
    special: OrderedDict[str, Any] = OrderedDict()
    special["a"] = special
    with pytest.raises(LeafError, match=r"contains itself"):
        leaves_of(special, AT, FORM)
    through: dict[str, Any] = {}
    through["a"] = [through]
    with pytest.raises(LeafError, match=rf"{WHERE}\.a'"):
        leaves_of(through, AT, FORM)


@pytest.mark.parametrize("above", [0, 1, 100, MAX_DEPTH - 1])
def test_the_depth_of_dicts_is_bounded(above: int) -> None:
    """A leaf may lie as deep as a path may be, counted from the root, and one level more is refused."""
    at = ("u",) * above

    def nested(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = {"d": value}
        return value

    (deepest,) = leaves_of(nested(MAX_DEPTH - above), at, FORM)
    assert len(at + deepest) == MAX_DEPTH
    with pytest.raises(LeafError, match=f"more than {MAX_DEPTH} levels"):
        leaves_of(nested(MAX_DEPTH - above + 1), at, FORM)


def test_below_the_deepest_path_there_is_no_dict() -> None:
    """Where the path is as deep as it may be, a leaf can be stored and a dict cannot."""
    deepest = ("u",) * MAX_DEPTH
    assert leaves_of({}, deepest, FORM) == {(): b"{}"}
    with pytest.raises(LeafError, match=f"more than {MAX_DEPTH} levels"):
        leaves_of({"d": 1}, deepest, FORM)


@pytest.mark.parametrize(
    ("key", "says"), [("", "empty"), (5, "int: 5"), (None, "NoneType"), (b"k", "bytes"), ((), "tuple")]
)
def test_keys_that_are_no_text_are_refused_with_the_path(key: object, says: str) -> None:
    """A key of a dict is text of one character or more; the error names the dict that has another one."""
    with pytest.raises(PathError, match=rf"{WHERE}' is {says}"):
        leaves_of({key: 1}, AT, FORM)
    with pytest.raises(PathError, match=rf"{WHERE}\.a\.b' is {says}"):
        leaves_of({"fine": 1, "a": {"b": {key: {}}}}, AT, FORM)


def test_what_the_codec_refuses_is_named() -> None:
    """The error names path and codec, and is caused by what the codec raised."""
    with pytest.raises(LeafError, match=rf"{WHERE}\.a' cannot be stored with the codec json") as caught:
        leaves_of({"a": {1}}, AT, FORM)
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(LeafError, match="the root"):
        leaves_of({1}, (), FORM)


def test_what_cannot_be_decoded_is_damage() -> None:
    """Bytes that the codec does not understand are damage of the store, no mistake of the caller."""
    damaged: list[tuple[dict[Path, bytes], str]] = [
        ({(): b"{"}, "'"),
        ({("a",): b"{", ("b",): b"1"}, r"\.a'"),
        ({("b",): b"1", ("c", "a"): b""}, r"\.c\.a'"),
    ]
    for leaves, end in damaged:
        says = rf"{WHERE}{end} (is not valid json:|with the codec json ends too early)"
        with pytest.raises(CorruptData, match=says) as caught:
            nest(leaves, AT, FORM)
        assert isinstance(caught.value, StoreError)
        assert not isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("data", "says"), [(b"[" * 200_000 + b"]" * 200_000, "sys.setrecursionlimit"), (b"7" * 5_000, "4300")]
)
def test_what_this_interpreter_cannot_decode_is_not_damage(data: bytes, says: str) -> None:
    """JSON that is nested deeper, or has more digits, than this interpreter reads is not corrupt."""
    found: list[tuple[dict[Path, bytes], str]] = [
        ({(): data}, "'"),
        ({("a",): b"1", ("b",): data}, r"\.b'"),
        ({("a",): b"[1,%b]" % data}, r"\.a'"),
    ]
    for leaves, end in found:
        with pytest.raises(UnreadableHere, match=rf"{WHERE}{end} with the codec json cannot be read here.*{says}"):
            nest(leaves, AT, FORM)


@pytest.mark.parametrize(
    "leaves",
    [
        {(): b"1", ("a",): b"2"},
        {("a",): b"2", (): b"1"},
        {("a",): b"1", ("a", "b"): b"2"},
        {("a", "b"): b"2", ("a",): b"1"},
        {("a",): b"1", ("a", "b", "c", "d"): b"2"},
        {("a", "b", "c", "d"): b"2", ("a",): b"1"},
        {("x",): b"0", ("a", "b", "c"): b"2", ("a", "b"): b"1"},
        {("a",): b"{}", ("a", "b"): b"2"},
    ],
)
def test_a_leaf_below_a_leaf_is_corruption(leaves: dict[Path, bytes]) -> None:
    """A value with values below it in the store raises CorruptData, in any order."""
    with pytest.raises(CorruptData, match=f"both a value and values below it are stored at {WHERE}"):
        nest(leaves, AT, FORM)


def test_no_leaves_are_nothing() -> None:
    """Nothing stored is no value, not even ``None``."""
    assert nest({}, AT, FORM) is ABSENT
    assert repr(ABSENT) == "ABSENT"


def test_a_packed_value_shows_what_it_holds() -> None:
    """The repr of a packed value is the expression that makes it."""
    assert repr(Packed({"a": [1]})) == "Packed({'a': [1]})"
