"""Copies, comparisons and imports between stores in this process: every kind of value, batches, and what interrupts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redicts.api.opened import OpenedDatabase
from redicts.backends.memory import MemoryBackend
from redicts.codecs.json import codec
from redicts.core.backend import Backend, Capabilities
from redicts.core.codec import Codec
from redicts.core.envelope import LeafFormat
from redicts.core.minitransaction import Key, Outcome, Put, Status, Transaction
from redicts.errors import SettingsError, Unreachable, Unsupported
from redicts.transfer import copy, export_lines, import_lines, lines_of_value, verify
from redicts.transfer.checkpoints import SPACE, unfinished
from redicts.transfer.leaves import Leaf, Page
from redicts.transfer.lines import LineError

NAMES = st.text(min_size=1, max_size=5)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers())
TREES = st.recursive(
    st.dictionaries(NAMES, LEAVES, max_size=4), lambda inner: st.dictionaries(NAMES, inner | LEAVES, max_size=4)
)
MANY = {f"dict{one:02}": {f"name{two:03}": two for two in range(100)} for one in range(50)}


class Failing(Backend):
    """A store that is gone after so many writing transactions, or takes only so many values in one."""

    def __init__(self, writes: int = 10**9, most: int | None = None) -> None:
        self.store = MemoryBackend()
        self.left = writes
        self._most = most

    @property
    def capabilities(self) -> Capabilities:
        """What a store in memory can do, with a bound."""
        found = self.store.capabilities
        return Capabilities(found.ttl, found.processes, found.durable, self._most, found.push)

    def execute(self, transaction: Transaction, /) -> Outcome:
        """Execute it, or fail before it."""
        if transaction.writes:
            if not self.left:
                raise Unreachable("gone")
            self.left -= 1
            if self._most is not None and sum(isinstance(write, Put) for write in transaction.writes) > self._most:
                return Outcome(Status.TOO_LARGE)
        return self.store.execute(transaction)


def tree(value: object = None, backend: Backend | None = None) -> OpenedDatabase:
    """Return a tree in memory that holds a value."""
    made = OpenedDatabase(backend or MemoryBackend(), LeafFormat(codec))
    if value is not None:
        made.run(made.store.write((), value))
    return made


def content(of: OpenedDatabase) -> Any:
    """Return the leaves of a tree as they are stored."""
    return of.run(of.store.leaves(()))


@given(TREES)
def test_any_tree_is_equal_after_a_copy(value: dict[str, Any]) -> None:
    """Whatever the names and values, a copy holds the same leaves, and the comparison says so."""
    source, target = tree(value), tree()
    report = copy(source, target, "test")
    assert content(target) == content(source)
    found = verify(source, target)
    assert (found.holds, found.equal, found.extra) == (True, report.stored, 0)


@given(TREES)
def test_any_tree_is_equal_after_lines(value: dict[str, Any]) -> None:
    """Whatever the names and values, what was exported as lines is imported as it was."""
    source, target = tree(value), tree()
    import_lines(target, [line.encode() for page in export_lines(source) for line in page.lines])
    assert content(target) == content(source)


@given(TREES)
def test_a_whole_value_as_lines_is_what_a_set_stores(value: dict[str, Any]) -> None:
    """The import of a JSON document stores what ``set`` of the same value stores."""
    target = tree()
    import_lines(target, lines_of_value(value, ()))
    assert content(target) == content(tree(value))


@pytest.mark.parametrize("writes", range(6))
def test_a_copy_goes_on_wherever_it_ended(writes: int) -> None:
    """After a failure at any batch, or at the end, whole batches are there, and the next run is equal at its end."""
    source, backend = tree(MANY), Failing(writes)
    target = tree(backend=backend)
    with pytest.raises(Unreachable):
        copy(source, target, "test")
    assert len(content(target)) == writes * 1000
    backend.left = 10**9
    report = copy(source, target, "test")
    assert report.resumed + report.stored == 5000
    assert report.resumed == (writes * 1000 if writes < 5 else 0)  # the last mark has no place to go on from
    assert content(target) == content(source)
    assert unfinished(target) == {}


@pytest.mark.parametrize("writes", range(1, 6))
def test_an_import_goes_on_wherever_it_ended(writes: int) -> None:
    """After a failure at any batch, the next run with the same lines stores only what is missing."""
    lines = list(lines_of_value(MANY, ()))
    backend = Failing(writes)
    target = tree(backend=backend)
    with pytest.raises(Unreachable):
        import_lines(target, lines)
    assert len(content(target)) == writes * 1000
    backend.left = 10**9
    report = import_lines(target, lines)
    assert (report.resumed, report.stored, report.complete) == (writes * 1000, 5000 - writes * 1000, True)
    assert content(target) == content(tree(MANY))


def test_the_mark_is_no_value() -> None:
    """What says how far a copy has come lies in a space of its own, and not in the tree."""
    source, backend = tree(MANY), Failing(2)
    target = tree(backend=backend)
    with pytest.raises(Unreachable):
        copy(source, target, "test")
    assert set(target.run(target.store.names(()))) == {f"dict{number:02}" for number in range(20)}
    assert list(unfinished(target)) == ["test"]


def test_a_restart_begins_anew() -> None:
    """With ``restart`` nothing is taken for done."""
    source, backend = tree(MANY), Failing(2)
    target = tree(backend=backend)
    with pytest.raises(Unreachable):
        copy(source, target, "test")
    backend.left = 10**9
    assert copy(source, target, "test", restart=True).stored == 5000


def test_a_store_that_takes_little_at_once_gets_less() -> None:
    """A batch that is too large for the target is halved until it fits, and nothing is lost."""
    source, target = tree(MANY), tree(backend=Failing(most=100))
    assert copy(source, target, "test").stored == 5000
    assert content(target) == content(source)


def test_large_values_go_in_smaller_batches() -> None:
    """No transaction has more than a few megabytes of values, however many leaves a page has."""
    backend = Failing()
    sizes = []
    execute: Callable[[Transaction], Outcome] = backend.execute

    def watched(transaction: Transaction, /) -> Outcome:
        sizes.append(sum(len(write.value) for write in transaction.writes if isinstance(write, Put)))
        return execute(transaction)

    backend.execute = watched  # type: ignore[method-assign]
    source = tree({f"name{number}": "x" * 1_000_000 for number in range(12)})
    copy(source, tree(backend=backend), "test")
    assert sum(size >= 1_000_000 for size in sizes) >= 3
    assert max(sizes) < 6_000_000


@pytest.mark.parametrize("writes", range(1, 35, 3))
def test_a_mark_is_never_ahead_of_what_is_stored(writes: int) -> None:
    """Where one page takes several transactions, a failure between them loses nothing: the next run stores all."""
    source, backend = tree(MANY), Failing(writes, most=300)
    target = tree(backend=backend)
    with pytest.raises(Unreachable):
        copy(source, target, "test")
    backend.left = 10**9
    report = copy(source, target, "test")
    assert report.resumed % 1000 == 0
    assert content(target) == content(source)


@pytest.mark.parametrize("writes", range(1, 4))
def test_a_mark_is_never_ahead_of_large_values(writes: int) -> None:
    """The same where a page is stored in parts because its values are large."""
    lines = list(lines_of_value({f"name{number:04}": "x" * 8_000 for number in range(1_500)}, ()))
    backend = Failing(writes)
    source, target = tree(), tree(backend=backend)
    import_lines(source, lines)
    with pytest.raises(Unreachable):
        copy(source, target, "test")
    backend.left = 10**9
    copy(source, target, "test")
    assert content(target) == content(source)


def test_the_way_is_taken_from_a_ttl() -> None:
    """A TTL that was read some seconds ago is shorter by them when it is stored."""
    page = Page([], None, time.monotonic() - 10)
    ttl = page.ttl_now(Leaf(("a",), b"1", 15_000))
    assert ttl is not None
    assert ttl <= 5_000
    assert page.ttl_now(Leaf(("a",), b"1")) is None
    assert (page.ttl_now(Leaf(("a",), b"1", 9_000)) or 0) <= 0


def test_ttls_go_on_and_are_never_longer() -> None:
    """A copy lives no longer than the original, and what lives for ever stays so."""
    source, target = tree({"a": {"b": 1, "c": 2}, "d": 3}), tree()
    source.run(source.store.expire(("a",), 600_000))
    copy(source, target, "test")
    for path in (("a", "b"), ("a", "c")):
        one, two = source.run(source.store.ttl(path)), target.run(target.store.ttl(path))
        assert one is not None
        assert two is not None
        assert one - 1000 < two <= 600_000
    assert target.run(target.store.ttl(("d",))) is None
    target.run(target.store.expire(("d",), 600_000))
    found = verify(source, target)
    assert (found.different, found.paths) == (1, ["'d'"])
    assert verify(source, target, ttls=False).holds


def test_a_store_without_ttls_refuses_them() -> None:
    """Lives are not dropped silently: the leaf is named, and nothing of its batch is stored."""

    class Immortal(Failing):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities(False, False, False, None)

    source, target = tree({"a": 1, "b": 2}), tree(backend=Immortal())
    source.run(source.store.expire(("b",), 600_000))
    with pytest.raises(Unsupported, match="'b' has a TTL"):
        copy(source, target, "test")
    assert content(target) == {}
    assert copy(source, target, "test", ttls=False).stored == 2


@pytest.mark.parametrize(
    ("change", "missing", "different"),
    [({"a": {"b": 1}}, 1, 0), ({"a": {"b": 1, "c": 3}}, 0, 1), ({"a": {"b": True, "c": 2}}, 0, 1), ({"a": 5}, 2, 0)],
    ids=["missing", "another value", "equal, of another type", "a leaf in place of a dict"],
)
def test_a_comparison_finds_every_difference(change: dict[str, Any], missing: int, different: int) -> None:
    """What is not there, has another value, or another type, is counted and named."""
    found = verify(tree({"a": {"b": 1, "c": 2}}), tree(change))
    assert (found.missing, found.different, found.holds) == (missing, different, False)
    assert len(found.paths) == missing + different


def test_what_is_in_the_way_gives_way() -> None:
    """Leaves above, dicts at the place: a copy does what ``set`` does for each leaf, and leaves the rest."""
    target = tree({"a": 1, "b": {"c": {"d": 1}}, "kept": 2})
    copy(tree({"a": {"x": 1}, "b": {"c": 3}}), target, "test")
    assert target.run(target.store.read(())) == {"a": {"x": 1}, "b": {"c": 3}, "kept": 2}


def test_a_copy_into_itself_is_refused() -> None:
    """Within one tree a place is not copied onto itself, into itself, or over what is above it."""
    only = tree({"a": {"b": 1}})
    for at, to in (((), ("a",)), (("a",), ("a",)), (("a", "b"), ("a",))):
        with pytest.raises(SettingsError):
            copy(only, only, "test", at=at, to=to)
    copy(only, only, "test", at=("a",), to=("c",))
    assert only.run(only.store.read(())) == {"a": {"b": 1}, "c": {"b": 1}}


def test_a_mark_that_makes_no_sense_is_passed_over() -> None:
    """If something else wrote over the mark, the work begins again."""
    target = tree()
    for nonsense in (b"no json", b"[1]", b'{"cursor": 5}', b'{"cursor": "%", "done": 1, "skipped": 0}'):
        target.backend.execute(Transaction(writes=(Put(Key(SPACE, ("test",)), nonsense),)))
        assert copy(tree(MANY), target, "test").stored == 5000


def test_an_error_of_a_line_repeats_no_value() -> None:
    """What is wrong with a line is told without what is in it, for that may be a secret."""
    for line in (b'{"path": ["x"], "value": "sesame"', b'{"path": ["x", ""], "value": "sesame"}'):
        with pytest.raises(LineError) as caught:
            import_lines(tree(), [line])
        assert "sesame" not in str(caught.value)


class Reversed(Codec):
    """A codec whose bytes are those of JSON backwards, so that no other one reads them; it takes tuples for lists."""

    def __init__(self, *, takes: type = object) -> None:
        self._takes = takes

    @property
    def name(self) -> str:
        return "reversed"

    def encode(self, value: object, *_: object) -> bytes:
        if not isinstance(value, self._takes):
            raise TypeError("not this")
        return json.dumps(value).encode()[::-1]

    def decode(self, data: bytes, *_: object) -> object:
        return json.loads(data[::-1])


class Tupled(Reversed):
    """The same, and lists come back as tuples: a codec that changes what it is given."""

    def decode(self, data: bytes, *_: object) -> object:
        value = super().decode(data)
        return tuple(value) if isinstance(value, list) else value


def test_leaves_are_written_by_the_codec_of_the_target() -> None:
    """From one codec to another the values are equal, and the bytes are those of the target's codec."""
    source, target = tree({"a": {"b": "text"}, "c": 1}), OpenedDatabase(MemoryBackend(), LeafFormat(Reversed()))
    assert copy(source, target, "test").stored == 2
    assert content(target) == {("a", "b"): b'\x04reversed 6\n"txet"', ("c",): b"1"}
    assert verify(source, target).holds


def test_what_the_codec_of_the_target_refuses_or_changes_is_skipped() -> None:
    """A value that would not come back as it was is named and not stored; the others are."""
    source = tree({"number": 1, "list": [1, 2], "text": "ab"})
    refusing = OpenedDatabase(MemoryBackend(), LeafFormat(Reversed(takes=int)))
    report = copy(source, refusing, "test")
    assert (report.stored, report.skipped) == (1, 2)
    assert sorted(reason.split()[0] for reason in report.reasons) == ["'list'", "'text'"]
    changing = OpenedDatabase(MemoryBackend(), LeafFormat(Tupled()))
    report = copy(source, changing, "test")
    assert (report.stored, report.skipped) == (2, 1)
    assert report.reasons[0].startswith("'list' is not copied")
