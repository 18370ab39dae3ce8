"""Documents: the text of a dict contains the bytes of each of its leaves, or there is no document."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from redicts.contract.codecs.check import HERE, CodecFixture, codec_check
from redicts.contract.codecs.samples import AWKWARD, EQUAL_NAMES, NUMBERS, ORDINARY, TEXTS, Count, Name, nested
from redicts.contract.hostile import HOSTILE_SEGMENTS
from redicts.contract.requirements import CheckFailed, require, require_equal, shortened
from redicts.core.codec import Codec
from redicts.core.documents import leaves_in
from redicts.core.envelope import LeafFormat
from redicts.core.leaves import Packed, leaves_of
from redicts.core.minitransaction import MAX_DEPTH, Path
from redicts.errors import RedictsError

_LEVELS: Final = MAX_DEPTH - len(HERE)


class _Own(dict[str, Any]):
    """A dict of a class of its own."""


_MEMBERS: Final[tuple[Any, ...]] = (
    *ORDINARY,
    *AWKWARD,
    *NUMBERS,
    *TEXTS,
    Packed({"a": 1}),
    _Own(a=1),
    _Own(),
    nested(50),
    OrderedDict({1: 2}),
    _Own({"": 1}),
    [(1,)],
    *([value] for value in EQUAL_NAMES),
    {"b": {"c": float("nan"), "d": 1e16, "e": 10**30}},
)
"""Members for dicts."""


@codec_check()
def a_document_has_the_bytes_of_its_leaves(fixture: CodecFixture) -> None:
    """The document of a dict is None, or a text whose leaves are the bytes of each leaf encoded alone.

    Compares the documents of known and random dicts with their leaves, each encoded alone.
    """
    _each(fixture, lambda value: _has_the_bytes(fixture, value))


@codec_check()
def a_document_is_the_dict_again(fixture: CodecFixture) -> None:
    """A document is decoded as the dict from which it was made.

    Decodes the documents of known and random dicts.
    """

    def check(value: dict[Any, Any]) -> None:
        document = _document(fixture, value)
        if document is not None:
            fixture.come_back(value, document)

    _each(fixture, check)


@codec_check()
def a_dict_that_is_no_document_has_none(fixture: CodecFixture) -> None:
    """A dict has no document if it is empty, too deep, contains itself, or has a name that is empty or not text.

    Asks for the documents of dicts that are empty, too deep, in themselves, or have other names.
    """
    itself: dict[str, Any] = {"a": 1}
    itself["in"] = {"itself": itself}
    names: tuple[Any, ...] = ("", 1, None, True, 1.5, b"a", ("a",), Count(1))
    cases: list[dict[Any, Any]] = [{}, itself, *({name: 1} for name in names), *({"a": {name: 1}} for name in names)]
    cases += [{**dict.fromkeys("abcdefghijkl", 1), name: 1} for name in names]
    for value in cases:
        found = _document(fixture, value)
        require(found is None, f"{shortened(value)} has the document {shortened(found)}")
    for levels in (0, 1, 2, _LEVELS):
        leaves: tuple[Any, ...] = (1, 1.5, [], "x", {})
        for leaf in leaves:
            found = _document(fixture, _nested_dicts(levels + 1, leaf), levels)
            require(found is None, f"a dict of {levels + 1} levels has a document of {levels}")
            if levels:
                _has_the_bytes(fixture, _nested_dicts(levels, leaf), levels)
    for deep in (_nested_dicts(1_000, 1), _nested_dicts(100_000, 1), {"a": nested(100_000)}):
        found = _document(fixture, deep)
        if found is not None:
            _has_the_bytes(fixture, deep)


@codec_check()
def making_a_document_changes_nothing(fixture: CodecFixture) -> None:
    """Making a document does not change the dict, and gives the same text in every call and instance.

    Compares dicts before and after, and the texts of two calls and two instances.
    """
    other = fixture.harness.open()
    for value in _samples():
        before = repr(value)
        first = _document(fixture, value)
        require(repr(value) == before, f"{before} is {shortened(value)} after its document was made")
        require(_document(fixture, value) == first, f"{before} has a different document in a second call")
        require(other.document(value, _LEVELS) == first, f"{before} has a different document in a second instance")


def _each(fixture: CodecFixture, check: Callable[[dict[Any, Any]], None]) -> None:
    """Run a check on known dicts and, if the codec makes documents at all, on random ones."""
    for value in _samples():
        check(value)
    if type(fixture.codec).document is not Codec.document:
        fixture.each(_dicts(fixture), check)


def _samples() -> list[dict[Any, Any]]:
    """Return dicts with each member, alone, with others and deeper, and dicts with all names."""
    many = dict.fromkeys((f"key {number}" for number in range(12)), "a text that makes it long")
    found: list[dict[Any, Any]] = []
    for member in _MEMBERS:
        found += [{"a": member}, {"a": {"b": member, "c": 1}}, {**many, "z": member}, {"a": {"b": many}, "z": [member]}]
    names = [*HOSTILE_SEGMENTS, *(text for text in TEXTS if text), Name("own")]
    found += [{name: 1} for name in names]
    found += [{"a": {name: {name: 1.5}}} for name in names]
    return [*found, dict.fromkeys(names, 1), {"a": {name: [1.5] for name in names}, "b": {}}]


def _dicts(fixture: CodecFixture) -> SearchStrategy[dict[Any, Any]]:
    """Return a strategy for nested dicts of values that the codec encodes."""
    names = st.one_of(st.sampled_from(HOSTILE_SEGMENTS), st.text(st.characters(), min_size=1, max_size=5))
    values = fixture.harness.values()
    inner = st.dictionaries(names, values | st.dictionaries(names, values, max_size=2), max_size=3)
    return st.dictionaries(names, values | inner, min_size=1, max_size=10)


def _document(fixture: CodecFixture, value: dict[Any, Any], levels: int = _LEVELS) -> bytes | None:
    try:
        return fixture.codec.document(value, levels)
    except Exception as error:
        what = f"making the document of {shortened(value)} raises {type(error).__name__}: {error}"
        raise CheckFailed(f"{what}; for no document it must return None") from error


def _has_the_bytes(fixture: CodecFixture, value: dict[Any, Any], levels: int = _LEVELS) -> None:
    document = _document(fixture, value, levels)
    if document is None:
        return
    require(type(document) is bytes, f"the document of {shortened(value)} is {type(document).__name__}")
    try:
        leaves = dict(leaves_in(document))
    except ValueError as error:
        raise CheckFailed(f"the document {shortened(document)} is not valid: {error}") from error
    require_equal(leaves, _encoded(fixture, value), f"the document of {shortened(value)} has the leaves")


def _encoded(fixture: CodecFixture, value: dict[Any, Any]) -> dict[Path, bytes]:
    """Return the bytes of each leaf of a dict, encoded alone."""
    form = LeafFormat(fixture.codec)
    form.encode = fixture.codec.encode  # without the envelope, which documents lack
    try:
        return leaves_of(value, HERE, form)
    except RedictsError as error:
        raise CheckFailed(f"{shortened(value)} has a document, but the codec refuses its leaves: {error}") from error


def _nested_dicts(levels: int, leaf: object) -> dict[Any, Any]:
    """Return a dict in a dict, and so on, with a leaf in the innermost."""
    value = leaf
    for _ in range(levels):
        value = {"d": value}
    return value  # type: ignore[return-value]  # there is one level at least
