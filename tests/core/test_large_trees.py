"""Operations on stores that bound a transaction, cut their pages short or long: the same results as on any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redicts.backends.memory import MemoryBackend
from redicts.codecs.json import codec
from redicts.core import values as values_module
from redicts.core.backend import Backend, Capabilities
from redicts.core.driver import run
from redicts.core.envelope import LeafFormat
from redicts.core.leaves import ABSENT
from redicts.core.minitransaction import (
    VALUES,
    Delete,
    Entries,
    Equals,
    Expire,
    Key,
    Names,
    Outcome,
    Path,
    Put,
    Read,
    ReadNames,
    Scope,
    Status,
    Transaction,
)
from redicts.core.store import TreeStore
from redicts.errors import Unsupported

MOST = 1_000


class Limited(Backend):
    """A memory store that takes no transaction which touches more than so many values."""

    def __init__(self, most: int = MOST) -> None:
        self.inner = MemoryBackend()
        self.most = most
        self.sizes: list[int] = []
        """How many values each transaction touched that was executed."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(ttl=True, processes=False, durable=False, atomic_entries=self.most)

    def execute(self, transaction: Transaction, /) -> Outcome:
        size = self._size(transaction)
        if size > self.most:
            return Outcome(Status.TOO_LARGE)
        self.sizes.append(size)
        return self.inner.execute(transaction)

    def _size(self, transaction: Transaction) -> int:
        size = sum(self._live(check.key, check.scope) for check in transaction.checks)
        size += sum(isinstance(write, Put) for write in transaction.writes)
        for write in transaction.writes:
            if isinstance(write, (Delete, Expire)):
                size += self._live(write.key, write.scope)
        for read in transaction.reads:
            if read.limit is None:
                size += self._live(read.key, Scope.SUBTREE)
        return size

    def _live(self, key: Key, scope: Scope) -> int:
        (answer,) = self.inner.execute(Transaction((), (Read(key, scope),))).answers
        assert isinstance(answer, Entries)
        return len(answer.values)


class ShortPages(Backend):
    """A memory store whose pages hold less than was asked for, every second one nothing; the contract allows it."""

    def __init__(self) -> None:
        self.inner = MemoryBackend()
        self._pages = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(ttl=True, processes=False, durable=False, atomic_entries=MOST)

    def execute(self, transaction: Transaction, /) -> Outcome:
        reads = []
        for read in transaction.reads:
            cursor = None if read.cursor == b"begin" else read.cursor
            limit = None if read.limit is None else min(read.limit, 3)
            reads.append(read._replace(cursor=cursor, limit=limit))
        outcome = self.inner.execute(transaction._replace(reads=tuple(reads)))
        self._pages += any(read.limit is not None for read in transaction.reads)
        if self._pages % 2 == 0:
            return outcome
        answers = tuple(
            answer if read.limit is None else self._nothing_yet(answer, read)
            for read, answer in zip(transaction.reads, outcome.answers)
        )
        return outcome._replace(answers=answers)

    @staticmethod
    def _nothing_yet(answer: Entries | Names, read: Read | ReadNames) -> Entries | Names:
        cursor = read.cursor or b"begin"
        return Entries({}, cursor=cursor) if isinstance(answer, Entries) else Names((), cursor)


class LongPages(Backend):
    """A memory store whose pages hold a thousand values however few were asked for; the contract allows it."""

    def __init__(self) -> None:
        self.inner = MemoryBackend()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(ttl=True, processes=False, durable=False, atomic_entries=None)

    def execute(self, transaction: Transaction, /) -> Outcome:
        reads = [
            read if read.limit is None else read._replace(limit=max(read.limit, 1000)) for read in transaction.reads
        ]
        return self.inner.execute(transaction._replace(reads=tuple(reads)))


BACKENDS: list[Callable[[], Backend]] = [MemoryBackend, Limited, ShortPages, LongPages]
backends = pytest.mark.parametrize("make", BACKENDS)


class Tree:
    """A store and its backend, with operations as plain calls."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._store = TreeStore(LeafFormat(codec), backend.capabilities.atomic_entries)

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._store, name)

        def call(*arguments: Any) -> Any:
            return run(operation(*arguments), self.backend)

        return call


A: Path = ("a",)


def large(count: int) -> dict[str, Any]:
    """Return a dict with so many leaves, some of them deeper than others."""
    return {f"n{number}": number if number % 3 else {"x": {"y": number}} for number in range(count)}


def walked(tree: Tree, path: Path) -> Iterator[Path]:
    """Yield the leaves of a walk over pages."""
    cursor = None
    while True:
        page, cursor = tree.leaf_page(path, cursor)
        yield from page
        if cursor is None:
            return


@backends
def test_a_large_dict_is_written_and_read(make: Callable[[], Backend]) -> None:
    """Every operation works on a dict of thousands of leaves."""
    tree = Tree(make())
    tree.write((), {"a": {"old": {"x": 1}, "n1": {"deep": 2}}, "b": 1})
    value = large(2_500)
    tree.write(A, value)
    assert tree.read(A) == value
    assert tree.read(()) == {"a": value, "b": 1}
    assert sorted(tree.names(A)) == sorted(value)
    assert sorted(path[1] for path in walked(tree, A)) == sorted(value)
    assert tree.exists(A)
    assert tree.ttl(A) is None
    other = large(1_500)
    tree.write(A, other)
    assert tree.read(A) == other
    tree.write(A, 5)
    assert tree.read(()) == {"a": 5, "b": 1}
    tree.write(("a", "deep", "er"), value)
    assert tree.read(()) == {"a": {"deep": {"er": value}}, "b": 1}
    tree.delete(())
    assert tree.read(()) is ABSENT


@backends
def test_what_is_large_is_merged(make: Callable[[], Backend]) -> None:
    """Leaves by the thousand are merged over thousands of others, through leaves above and over subtrees below."""
    tree = Tree(make())
    tree.write(A, large(2_000))
    tree.merge((), {"a": {"n1": {"now": "a dict"}, "n3": 5, **{f"m{number}": number for number in range(1_500)}}})
    expected = large(2_000) | {"n1": {"now": "a dict"}, "n3": 5} | {f"m{number}": number for number in range(1_500)}
    assert tree.read(A) == expected


@backends
def test_what_is_large_has_a_ttl(make: Callable[[], Backend]) -> None:
    """Thousands of leaves get a TTL, and the longest is found on whatever page it is."""
    tree = Tree(make())
    value = large(2_500)
    tree.write(A, value, 50_000)
    assert 40_000 < tree.ttl(A) <= 50_000
    tree.expire(A, 90_000)
    assert 80_000 < tree.ttl(A) <= 90_000
    tree.expire(("a", "n1777"), 200_000)
    assert 190_000 < tree.ttl(A) <= 200_000
    tree.expire(("a", "n1777"), None)
    assert tree.ttl(A) is None
    tree.expire(A, None)
    assert tree.ttl(("a", "n5")) is None
    assert tree.read(A) == value


@backends
def test_what_is_large_is_popped_whole(make: Callable[[], Backend]) -> None:
    """Everything removed is returned, however the store cuts its pages."""
    for count in (1, 5, 999, 1_000, 1_001, 2_500):
        tree = Tree(make())
        value = large(count)
        tree.write(A, value)
        assert tree.take(A) == value
        assert tree.read(()) is ABSENT


@backends
def test_a_default_never_hides_what_is_large(make: Callable[[], Backend]) -> None:
    """A default is not stored over a value, however large that is, and the value is returned whole."""
    for count in (1, 5, 999, 1_000, 1_001, 2_500):
        tree = Tree(make())
        value = large(count)
        tree.write(A, value)
        assert tree.set_default(A, "default") == value
        assert tree.read(A) == value


@backends
def test_small_values_are_compared_and_changed(make: Callable[[], Backend]) -> None:
    """What a store can do atomically it does, however it cuts its pages."""
    tree = Tree(make())
    value = large(50)
    tree.write(A, value)
    assert tree.compare_and_set(A, value, {**value, "n1": 1.0})
    assert tree.compare_and_set(A, value, {**value, "n2": 5})
    assert not tree.compare_and_set(A, value, "never")
    assert tree.change(A, lambda old: {**old, "n2": 2}) == value
    assert tree.read(A) == value
    assert tree.change(A, lambda old: ABSENT) is ABSENT
    assert not tree.exists(A)


def test_what_is_too_large_to_change_at_once_is_refused() -> None:
    """A change or comparison of more than the store takes at once is refused, and nothing is written."""
    tree = Tree(Limited())
    value = large(1_500)
    tree.write(A, value)
    calls: list[Callable[[], object]] = [
        lambda: tree.change(A, lambda old: {**old, "new": 1}),
        lambda: tree.compare_and_set(A, value, 1),
        lambda: tree.set_default(("b",), value),
        lambda: tree.merge((), {"a": {**value, "e": {}}}),
    ]
    for call in calls:
        with pytest.raises(Unsupported, match=str(MOST)):
            call()
        assert tree.read(()) == {"a": value}


def test_a_large_write_keeps_to_the_limit() -> None:
    """Each step of a large write touches as many values as one transaction may, or few less."""
    backend = Limited()
    tree = Tree(backend)
    tree.write(A, large(5_000))
    assert max(backend.sizes) == MOST
    writing = len(backend.sizes)
    assert writing <= 8
    backend.sizes.clear()
    tree.delete(())
    assert len(backend.sizes) <= 2 * 5_000 / MOST + 2


def test_a_large_merge_costs_no_transaction_per_leaf() -> None:
    """A merge of thousands of leaves takes few steps, as a write of as many does."""
    backend = Limited()
    Tree(backend).merge((), {"a": large(5_000)})
    assert len(backend.sizes) <= 50


def test_large_writes_leave_the_neighbours_alone() -> None:
    """However many steps a write or a removal takes, values at other paths are unchanged."""
    tree = Tree(Limited())
    for neighbour in (("b",), ("a b",), ("A",), ("aa",)):
        tree.write(neighbour, {"x": 1})
    tree.write(A, large(2_500))
    tree.write(A, large(1_500))
    tree.delete(A)
    assert tree.read(()) == {name: {"x": 1} for name in ("b", "a b", "A", "aa")}


class Model:
    """What a tree is: leaves by path, of which none lies below another."""

    def __init__(self) -> None:
        self.leaves: dict[Path, Any] = {}

    def read(self, path: Path) -> Any:
        """Return the value at a path."""
        if path in self.leaves:
            return self.leaves[path]
        value: dict[str, Any] = {}
        for leaf, data in self.leaves.items():
            if leaf[: len(path)] == path:
                inner = value
                for segment in leaf[len(path) : -1]:
                    inner = inner.setdefault(segment, {})
                inner[leaf[-1]] = data
        return value or ABSENT

    def delete(self, path: Path) -> None:
        """Remove all at and below a path."""
        self.leaves = {leaf: data for leaf, data in self.leaves.items() if leaf[: len(path)] != path}

    def write(self, path: Path, value: Any) -> None:
        """Replace all at and below a path."""
        self.delete(path)
        self.merge(path, value)

    def merge(self, path: Path, value: Any) -> None:
        """Store leaves over what is there."""
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                self.merge((*path, name), inner)
        elif path and not (value == {} and isinstance(self.read(path), dict)):
            self.delete(path)
            for depth in range(1, len(path)):
                self.leaves.pop(path[:depth], None)
            self.leaves[path] = value


names = st.sampled_from(["a", "b", "a.b", "*"])
somewhere = st.lists(names, min_size=1, max_size=3).map(tuple)
scalars: st.SearchStrategy[Any] = st.sampled_from([0, 1, None, "x", [], [{}]])
values = st.recursive(scalars, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=6)
dicts = st.dictionaries(names, values, max_size=3)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("write"), somewhere, values),
        st.tuples(st.just("write"), st.just(()), dicts),
        st.tuples(st.just("merge"), somewhere | st.just(()), dicts),
        st.tuples(st.just("delete"), somewhere | st.just(())),
        st.tuples(st.just("take"), somewhere | st.just(())),
        st.tuples(st.just("set_default"), somewhere, values),
        st.tuples(st.just("change"), somewhere, values),
        st.tuples(st.just("compare_and_set"), somewhere, values, values),
    ),
    max_size=8,
)


@pytest.mark.parametrize("make", [*BACKENDS, lambda: Limited(4)], ids=lambda make: getattr(make, "__name__", ""))
@given(calls=operations)
def test_the_tree_is_what_the_model_says(make: Callable[[], Backend], calls: list[Any]) -> None:
    """After any operations, on any store, the tree and the results equal those of a plain model."""
    tree, model = Tree(make()), Model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values_module, "_STEP", 4)
        for name, path, *arguments in calls:
            before = model.read(path)
            try:
                perform(tree, name, path, arguments, before, model)
            except Unsupported:
                assert isinstance(tree.backend, Limited)
                assert tree.backend.most < MOST
            assert tree.read(()) == model.read(())
            assert tree.read(path) == model.read(path)
            assert tree.exists(path) is (model.read(path) is not ABSENT)
            below = model.read(path)
            assert sorted(tree.names(path)) == (sorted(below) if isinstance(below, dict) else [])


def perform(tree: Tree, name: str, path: Path, arguments: list[Any], before: Any, model: Model) -> None:
    """Make a call on the tree, compare its result with the value that was there, and do the same to the model."""
    if name in ("write", "merge", "delete"):
        getattr(tree, name)(path, *arguments)
        if arguments != [{}] or name != "merge":
            getattr(model, name)(path, *arguments)
    elif name == "take":
        assert tree.take(path) == before
        model.delete(path)
    elif name == "set_default":
        value = arguments[0] if before is ABSENT else before
        assert tree.set_default(path, *arguments) == value
        if before is ABSENT:
            model.write(path, value)
    elif name == "change":
        assert tree.change(path, lambda old: [arguments[0], old is ABSENT]) == [arguments[0], before is ABSENT]
        model.write(path, [arguments[0], before is ABSENT])
    else:
        expected, value = arguments
        assert tree.compare_and_set(path, expected, value) is (before == expected)
        if before == expected:
            model.write(path, value)


def test_the_stores_made_up_here_keep_the_contract() -> None:
    """The limited store counts the values of a transaction; the others answer the same reads in other pages."""
    limited = Limited(2)
    puts = tuple(Put(Key(VALUES, ("a", name)), b"1") for name in "xyz")
    assert limited.execute(Transaction(writes=puts)).status is Status.TOO_LARGE
    for put in puts:
        assert limited.execute(Transaction(writes=(put,))).applied
    whole = Key(VALUES, ("a",))
    for touching in (
        Transaction(checks=(Equals(whole, Scope.SUBTREE, {}),)),
        Transaction(reads=(Read(whole, Scope.SUBTREE),)),
        Transaction(writes=(Delete(whole, Scope.BELOW),)),
        Transaction(writes=(Expire(whole, Scope.SUBTREE, 5),)),
    ):
        assert limited.execute(touching).status is Status.TOO_LARGE
    assert limited.execute(Transaction(reads=(Read(whole, Scope.SUBTREE, 2),))).applied
    for made in (ShortPages(), LongPages()):
        made.execute(Transaction(writes=tuple(Put(Key(VALUES, ("a", f"{n:02}")), b"1") for n in range(10))))
        pages, cursor = [], None
        while True:
            (answer,) = made.execute(Transaction(reads=(Read(whole, Scope.SUBTREE, 5, cursor),))).answers
            assert isinstance(answer, Entries)
            pages.append(list(answer.values))
            cursor = answer.cursor
            if cursor is None:
                break
        assert sorted(path for page in pages for path in page) == [(f"{n:02}",) for n in range(10)]
        sizes = [len(page) for page in pages]
        assert sizes == ([10] if isinstance(made, LongPages) else [0, 3, 0, 3, 0, 3, 0, 1])
