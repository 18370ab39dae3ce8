"""A document stands for the very leaves that the dict would be taken apart into, or there is none."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redicts.codecs.json import codec
from redicts.codecs.models import ModelsCodec
from redicts.core.backend import Backend, Capabilities
from redicts.core.codec import JsonText
from redicts.core.documents import MOST_BYTES, leaves_in
from redicts.core.driver import run
from redicts.core.envelope import LeafFormat
from redicts.core.leaves import Packed, document_of, leaves_of
from redicts.core.minitransaction import MAX_DEPTH, Delete, Key, Outcome, Put, PutDocument, Scope, Status, Transaction
from redicts.core.store import TreeStore
from redicts.errors import LeafError, PathError

FORM = LeafFormat(codec)
AT = ("some", "where")
WIDE = {f"name{number}": number for number in range(20)}

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
inside = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
trees = st.recursive(
    scalars | st.lists(inside, max_size=3),
    lambda inner: st.dictionaries(st.text(st.characters(), min_size=1, max_size=3), inner, max_size=5),
    max_leaves=30,
)
dicts = st.dictionaries(st.text(st.characters(), min_size=1, max_size=3), trees, min_size=4)


@given(value=dicts)
def test_a_document_has_the_bytes_of_the_leaves(value: dict[str, Any]) -> None:
    """A document has byte for byte the leaves of its dict, and is read as the dict."""
    document = codec.document(value, MAX_DEPTH)
    if document is not None:
        leaves = leaves_of(value, AT, FORM)
        assert dict(leaves_in(document)) == leaves
        assert repr(codec.decode(document)) == repr(codec.decode(codec.encode(value)))
    else:
        with pytest.raises(UnicodeEncodeError):
            json.dumps(value, ensure_ascii=False).encode()


class Name(str):
    """Text of a class of its own."""

    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [
        {"x": 1, 1: 2} | dict.fromkeys("abcdefgh", 1),
        {**WIDE, "": 2},
        {**WIDE, Name("x"): 2},
        {**WIDE, "x": Name("text")},
        {**WIDE, "x": (1, 2)},
        {**WIDE, "x": Packed({"a": 1})},
        {**WIDE, "x": OrderedDict(a=1)},
        {**WIDE, "x": {"y": {"": 1}}},
        {**WIDE, "x": {"y": {1: 1}}},
        {**WIDE, "x": {"y": {1, 2}}},
        {**WIDE, "x": [object()]},
        {**WIDE, "x": "\ud800"},
        {**WIDE, "x": 0.5, "\ud800": 1},
        OrderedDict(WIDE),
        Packed(WIDE),
        [*WIDE],
        "text",
        None,
        {},
    ],
)
def test_what_is_not_plain_has_no_document(value: object) -> None:
    """Whatever JSON gives back otherwise than the tree does, or refuses, is taken apart, or refused, as without."""
    try:
        request = next(TreeStore(FORM, documents=True).write(AT, value))
    except (LeafError, PathError):
        return
    assert isinstance(request, Transaction)
    assert not any(isinstance(write, PutDocument) for write in request.writes)


def test_a_dict_in_itself_has_no_document() -> None:
    """A cycle is left to what names it."""
    cycle: dict[str, Any] = dict(WIDE)
    cycle["x"] = cycle
    assert document_of(cycle, AT, FORM) is None
    hidden: list[object] = []
    hidden.append(hidden)
    assert document_of({**WIDE, "x": hidden}, AT, FORM) is None
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert document_of({**WIDE, "x": deep}, AT, FORM) is None


def test_no_leaf_of_a_document_is_too_deep() -> None:
    """A dict has a document as long as its leaves may lie where it is put, and is refused beyond."""
    for depth, fits in ((MAX_DEPTH - 3, True), (MAX_DEPTH - 2, False)):
        at = ("x",) * depth
        value = {**WIDE, "y": {"y": {"y": 1}}}
        assert (document_of(value, at, FORM) is not None) is fits
        if not fits:
            with pytest.raises(LeafError):
                leaves_of(value, at, FORM)
    assert document_of(WIDE, ("x",) * (MAX_DEPTH - 1), FORM) is not None
    assert document_of(WIDE, ("x",) * MAX_DEPTH, FORM) is None


def test_small_and_large_dicts_are_split() -> None:
    """A dict whose document would gain nothing, or be too long, is split into leaves."""
    assert document_of(dict(list(WIDE.items())[:7]), AT, FORM) is None
    assert document_of(dict(list(WIDE.items())[:8]), AT, FORM) is not None
    assert document_of({"a": {str(each): 1 for each in range(7)}, "b": {}}, AT, FORM) is None
    assert document_of({"a": {str(each): 1 for each in range(7)}, "b": 1}, AT, FORM) is not None
    text = "x" * (MOST_BYTES - len(codec.encode({**WIDE, "x": ""})))
    assert document_of({**WIDE, "x": text}, AT, FORM) is not None
    assert document_of({**WIDE, "x": f"{text}x"}, AT, FORM) is None


def test_the_root_has_no_document() -> None:
    """All that is stored would be part of it."""
    assert document_of(WIDE, (), FORM) is None


def test_other_codecs_make_no_document() -> None:
    """A codec that finds more in the text of a dict than in its leaves neither writes nor reads one."""
    form = LeafFormat(ModelsCodec(), [codec])
    assert document_of(WIDE, AT, form) is None
    assert not form.reads_documents


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "1",
        '{"a"',
        '{"a":',
        '{"a":1',
        '{"a":1,',
        '{"a":1,}',
        '{"a":1}}',
        '{"a":1} ',
        ' {"a":1}',
        '{"a": 1}',
        '{"a" :1}',
        '{"a":1, "b":2}',
        '{"a":1,"a":2}',
        '{"":1}',
        '{"a":{"":1}}',
        '{"a":{"b":1,"b":2}}',
        "{a:1}",
        '{"a":b}',
        '{"a":1;"b":2}',
        '{"a\n":1}',
        '{"a":01}',
        '{"a":+1}',
        '{"a":1.}',
        '{"a":"\\x"}',
        '{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1),
    ],
)
def test_what_is_no_document_is_refused(text: str) -> None:
    """Text that core would not put has no leaves; what became of the file is for others to say."""
    with pytest.raises(ValueError, match=r".+"):
        leaves_in(text.encode())
    with pytest.raises(ValueError, match=r".+"):
        leaves_in(b'{"a":"\xff"}')


@pytest.mark.parametrize(
    "data", [b"7" * 5_000, b"-7.5e+300", b"[" * 5_000 + b"]" * 5_000, b'[{"a":%b}]' % (b"7" * 5_000)]
)
def test_a_document_is_split_whatever_this_interpreter_reads(data: bytes) -> None:
    """A number with more digits, or a list nested deeper, than this interpreter reads is one leaf of a document."""
    leaves = leaves_in(b'{"a":{"b":%b},"c":"text"}' % data)
    assert leaves == {("a", "b"): data, ("c",): b'"text"'}


class Recording(Backend):
    """A store that claims documents, takes whatever it gets, and has nothing."""

    def __init__(self) -> None:
        self.seen: list[Transaction] = []

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(ttl=True, processes=False, durable=False, atomic_entries=None, documents=True)

    def execute(self, transaction: Transaction, /) -> Outcome:
        self.seen.append(transaction)
        return Outcome(Status.APPLIED)


@pytest.mark.parametrize("ttl", [None, 5000])
def test_a_dict_is_one_write_with_documents(ttl: int | None) -> None:
    """A store with documents gets a dict as one write after the clearing ones; any other gets its leaves."""
    key = Key("v", AT)
    above = Delete(Key("v", AT[:1]), Scope.NODE)
    for documents in (True, False):
        store, backend = TreeStore(FORM, None, documents=documents), Recording()
        run(store.write(AT, WIDE, ttl), backend)
        [(_, _, writes)] = backend.seen
        if documents:
            assert writes == (above, PutDocument(key, codec.encode(WIDE), ttl))
        else:
            puts = [Put(Key("v", (*AT, name)), b"%d" % value, ttl) for name, value in WIDE.items()]
            assert writes == (above, Delete(key, Scope.SUBTREE), *puts)


def test_values_are_refused_with_and_without_documents() -> None:
    """The errors for a value that cannot be stored do not depend on documents."""
    store = TreeStore(FORM, None, documents=True)
    with pytest.raises(LeafError, match=r"some\.where\.bad"):
        run(store.write(AT, {**WIDE, "bad": object()}), Recording())
    with pytest.raises(PathError, match="empty"):
        run(store.write(AT, {**WIDE, "": 1}), Recording())
    cycle: dict[str, Any] = dict(WIDE)
    cycle["x"] = cycle
    with pytest.raises(LeafError, match="contains itself"):
        run(store.write(AT, cycle), Recording())
    assert isinstance(ModelsCodec().encode(WIDE, AT), JsonText)
