"""Copies, comparisons and imports in this process: all kinds of values, batches, and interrupted runs."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redicts.api.opened import OpenedDatabase
from redicts.backends.memory import MemoryBackend
from redicts.codecs.json import codec
from redicts.core.backend import Backend, Capabilities
from redicts.core.codec import BadSignatureContent, Codec
from redicts.core.envelope import LeafFormat
from redicts.core.minitransaction import VALUES, Key, Outcome, Path, Put, Status, Transaction
from redicts.errors import SettingsError, Unreachable, Unsupported
from redicts.transfer import copy, export_lines, import_lines, lines_of_value, verify
from redicts.transfer.checkpoints import SPACE, WORK, unfinished
from redicts.transfer.leaves import ttl_left
from redicts.transfer.lines import HEAD, LineError, last_line

NAMES = st.text(min_size=1, max_size=5)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers())
TREES = st.recursive(
    st.dictionaries(NAMES, LEAVES, max_size=4), lambda inner: st.dictionaries(NAMES, inner | LEAVES, max_size=4)
)
MANY = {f"dict{one:02}": {f"name{two:03}": two for two in range(100)} for one in range(50)}


class Limited(MemoryBackend):
    """A store that fails after so many writing transactions, takes only so many values in one, or keeps no TTLs."""

    def __init__(self, writes: int = 10**9, most: int | None = None, *, ttl: bool = True) -> None:
        super().__init__()
        self.left = writes
        self.sizes: list[int] = []
        self._most = most
        self._ttl = ttl

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, atomic_entries=self._most, ttl=self._ttl)

    def execute(self, transaction: Transaction, /) -> Outcome:
        if transaction.writes:
            if not self.left:
                raise Unreachable("gone")
            self.left -= 1
            puts = [write for write in transaction.writes if isinstance(write, Put)]
            if self._most is not None and len(puts) > self._most:
                return Outcome(Status.TOO_LARGE)
            self.sizes.append(sum(len(put.value) for put in puts))
        return super().execute(transaction)


def database_of(value: object = None, backend: Backend | None = None) -> OpenedDatabase:
    """Return a database in memory that holds a value."""
    database = OpenedDatabase(backend or MemoryBackend(), LeafFormat(codec))
    if value is not None:
        database.run(database.store.write((), value))
    return database


def content(database: OpenedDatabase) -> Any:
    """Return the leaves of a database as they are stored."""
    return database.run(database.store.leaves(()))


def exported(database: OpenedDatabase) -> list[bytes]:
    """Return all lines of an export."""
    lines = [line for page in export_lines(database) for line in page.lines]
    return [line.encode() for line in (json.dumps(HEAD), *lines, last_line(len(lines)))]


def interrupted_copy(source: OpenedDatabase, backend: Limited) -> OpenedDatabase:
    """Return a target whose store failed during a copy, and works again."""
    target = database_of(backend=backend)
    with pytest.raises(Unreachable):
        copy(source, target, "test")
    backend.left = 10**9
    return target


@given(TREES)
def test_a_copy_preserves_any_tree(value: dict[str, Any]) -> None:
    """A copy has the same leaves, and the comparison confirms it."""
    source, target = database_of(value), database_of()
    report = copy(source, target, "test")
    assert content(target) == content(source)
    found = verify(source, target)
    assert (found.holds, found.equal, found.extra) == (True, report.stored, 0)


@given(TREES)
def test_lines_preserve_any_tree(value: dict[str, Any]) -> None:
    """An import of exported lines, or of a value as lines, has the leaves that ``set`` stores."""
    source, target, other = database_of(value), database_of(), database_of()
    import_lines(target, exported(source))
    import_lines(other, lines_of_value(value, ()))
    assert content(target) == content(other) == content(source)


@pytest.mark.parametrize("writes", range(6))
def test_an_interrupted_copy_is_continued(writes: int) -> None:
    """After a failure at any batch, or at the end, whole batches are stored, and the next run stores the rest."""
    source = database_of(MANY)
    target = interrupted_copy(source, Limited(writes))
    assert len(content(target)) == writes * 1000
    report = copy(source, target, "test")
    assert report.resumed + report.stored == 5000
    assert report.resumed == (writes * 1000 if writes < 5 else 0)  # the last checkpoint has no cursor
    assert content(target) == content(source)
    assert target.run(unfinished()) == {}


@pytest.mark.parametrize("writes", range(1, 6))
def test_an_interrupted_import_is_continued(writes: int) -> None:
    """After a failure at any batch, the next run with the same lines stores the rest."""
    lines = list(lines_of_value(MANY, ()))
    backend = Limited(writes)
    target = database_of(backend=backend)
    with pytest.raises(Unreachable):
        import_lines(target, lines)
    assert len(content(target)) == writes * 1000
    backend.left = 10**9
    report = import_lines(target, lines)
    assert (report.resumed, report.stored, report.complete) == (writes * 1000, 5000 - writes * 1000, True)
    assert content(target) == content(database_of(MANY))


def test_a_checkpoint_is_not_a_value() -> None:
    """It is in a space of its own, and ``restart`` ignores it."""
    source = database_of(MANY)
    target = interrupted_copy(source, Limited(2))
    assert set(target.run(target.store.names(()))) == {f"dict{number:02}" for number in range(20)}
    assert list(target.run(unfinished())) == ["test"]
    assert copy(source, target, "test", restart=True).stored == 5000


def test_large_batches_are_split() -> None:
    """A batch that the target refuses as too large is halved until it fits."""
    source, target = database_of(MANY), database_of(backend=Limited(most=100))
    assert copy(source, target, "test").stored == 5000
    assert content(target) == content(source)


def test_large_values_make_small_batches() -> None:
    """No transaction has more than a few megabytes of values."""
    backend = Limited()
    copy(database_of({f"name{number}": "x" * 1_000_000 for number in range(12)}), database_of(backend=backend), "test")
    assert sum(size >= 1_000_000 for size in backend.sizes) >= 3
    assert max(backend.sizes) < 6_000_000


@pytest.mark.parametrize("writes", range(1, 35, 6))
def test_a_checkpoint_is_never_ahead_of_small_parts(writes: int) -> None:
    """After a failure between the transactions of one page, the next run stores all of it."""
    source = database_of(MANY)
    target = interrupted_copy(source, Limited(writes, most=300))
    assert copy(source, target, "test").resumed % 1000 == 0
    assert content(target) == content(source)


@pytest.mark.parametrize("writes", range(1, 4))
def test_a_checkpoint_is_never_ahead_of_large_values(writes: int) -> None:
    """The same if a page is stored in parts because its values are large."""
    source = database_of()
    import_lines(source, lines_of_value({f"name{number:04}": "x" * 8_000 for number in range(1_500)}, ()))
    target = interrupted_copy(source, Limited(writes))
    copy(source, target, "test")
    assert content(target) == content(source)


def test_ttls_run_on_during_a_copy() -> None:
    """The time since the read is subtracted from a TTL."""
    before = time.monotonic() - 10
    assert (ttl_left(15_000, before) or 0) <= 5_000
    assert (ttl_left(9_000, before) or 0) <= 0
    assert ttl_left(None, before) is None


def test_a_copy_preserves_ttls() -> None:
    """A copied TTL is never longer, no expiry stays so, and the comparison finds a TTL on one side only."""
    source, target = database_of({"a": {"b": 1, "c": 2}, "d": 3}), database_of()
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
    """The error names the leaf, nothing of its batch is stored, and ``ttls=False`` is the remedy."""
    source, target = database_of({"a": 1, "b": 2}), database_of(backend=Limited(ttl=False))
    source.run(source.store.expire(("b",), 600_000))
    with pytest.raises(Unsupported, match="'b' has a TTL"):
        copy(source, target, "test")
    assert content(target) == {}
    assert copy(source, target, "test", ttls=False).stored == 2


@pytest.mark.parametrize(
    ("change", "missing", "different"),
    [({"a": {"b": 1}}, 1, 0), ({"a": {"b": 1, "c": 3}}, 0, 1), ({"a": {"b": True, "c": 2}}, 0, 1), ({"a": 5}, 2, 0)],
    ids=["missing", "another value", "equal, of another type", "a leaf instead of a dict"],
)
def test_a_comparison_finds_every_difference(change: dict[str, Any], missing: int, different: int) -> None:
    """Leaves that are missing, or have another value or type, are counted and named."""
    found = verify(database_of({"a": {"b": 1, "c": 2}}), database_of(change))
    assert (found.missing, found.different, found.holds) == (missing, different, False)
    assert len(found.paths) == missing + different


def test_conflicting_nodes_are_replaced() -> None:
    """A leaf above, or a dict at the path, is replaced as ``set`` does for each leaf; the rest stays."""
    target = database_of({"a": 1, "b": {"c": {"d": 1}}, "kept": 2})
    copy(database_of({"a": {"x": 1}, "b": {"c": 3}}), target, "test")
    assert target.run(target.store.read(())) == {"a": {"x": 1}, "b": {"c": 3}, "kept": 2}


def test_a_copy_into_itself_is_refused() -> None:
    """Within one database a node is not copied onto itself, below itself, or above itself."""
    only = database_of({"a": {"b": 1}})
    for at, to in (((), ("a",)), (("a",), ("a",)), (("a", "b"), ("a",))):
        with pytest.raises(SettingsError):
            copy(only, only, "test", at=at, to=to)
    copy(only, only, "test", at=("a",), to=("c",))
    assert only.run(only.store.read(())) == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    "data",
    [
        b"no json",
        b"[1]",
        b"[" * 100_000,
        b'{"cursor": 5}',
        b'{"cursor": "%", "done": 1, "skipped": 0}',
        b'{"cursor": "", "done": 1e999, "skipped": 0}',
    ],
    ids=lambda data: str(data[:50]),
)
def test_a_checkpoint_that_is_not_valid_is_ignored(data: bytes) -> None:
    """If something else wrote to its key, the copy starts again."""
    target = database_of()
    target.backend.execute(Transaction(writes=(Put(Key(SPACE, (*WORK, "test")), data),)))
    assert copy(database_of(MANY), target, "test").stored == 5000


@pytest.mark.parametrize("state", [{"lines": 1e999}, {"lines": -5}, {"lines": 5, "done": -1}, {"lines": "x"}], ids=str)
def test_a_checkpoint_of_an_import_that_is_not_valid_is_ignored(state: dict[str, Any]) -> None:
    """If something else wrote to its key, the import starts again."""
    target, lines = database_of(), list(lines_of_value(MANY, ()))
    name = f"import () {hashlib.sha256(b''.join(lines[:2])).hexdigest()[:16]}"
    data = json.dumps({"done": 1, "digest": "", **state}).encode()
    target.backend.execute(Transaction(writes=(Put(Key(SPACE, (*WORK, name)), data),)))
    assert import_lines(target, lines).stored == 5000


@pytest.mark.parametrize("line", [b'{"path": ["x"], "value": "sesame"', b'{"path": ["x", ""], "value": "sesame"}'])
def test_the_error_of_a_line_has_no_value(line: bytes) -> None:
    """The value may be a secret."""
    with pytest.raises(LineError) as caught:
        import_lines(database_of(), [line])
    assert "sesame" not in str(caught.value)


class Reversed(Codec):
    """A codec that no other one reads: JSON backwards. It takes values of one type, and may change lists to tuples."""

    def __init__(self, *, takes: type = object, tuples: bool = False) -> None:
        self._takes = takes
        self._tuples = tuples

    @property
    def name(self) -> str:
        return "reversed"

    def encode(self, value: object, *_: object) -> bytes:
        if not isinstance(value, self._takes):
            raise TypeError("not this")
        return json.dumps(value).encode()[::-1]

    def decode(self, data: bytes, *_: object) -> object:
        value = json.loads(data[::-1])
        return tuple(value) if self._tuples and isinstance(value, list) else value


def test_leaves_are_written_by_the_codec_of_the_target_if_it_does_not_accept_theirs() -> None:
    """The values are equal, and the bytes are those of the target's codec."""
    source, target = database_of({"a": {"b": "text"}, "c": 1}), OpenedDatabase(MemoryBackend(), LeafFormat(Reversed()))
    assert copy(source, target, "test").stored == 2
    assert content(target) == {("a", "b"): b'\x04reversed 6\n"txet"', ("c",): b"1"}
    assert verify(source, target).holds


@pytest.mark.parametrize(
    ("codec", "kept"), [(Reversed(takes=int), {"list", "text"}), (Reversed(tuples=True), {"list"})]
)
def test_values_that_the_codec_of_the_target_does_not_preserve_keep_their_bytes(codec: Codec, kept: set[str]) -> None:
    """A value that it refuses or changes is copied as it is stored, and counted with its codec; nothing is lost."""
    source = database_of({"number": 1, "list": [1, 2], "text": "ab"})
    target = OpenedDatabase(MemoryBackend(), LeafFormat(codec))
    report = copy(source, target, "test")
    assert (report.stored, report.skipped, report.foreign) == (3, 0, {"json": len(kept)})
    same = {path for path, data in content(target).items() if data == content(source)[path]}
    assert same == {("number",), *[(name,) for name in kept]}
    back = database_of()
    copy(target, back, "test")
    assert {path: content(back)[path] for path in same} == {path: content(source)[path] for path in same}


OPAQUE = {
    "a codec that is not installed": b"\x04cbor2 3\n\x81\x01\xff",
    "a codec that is not accepted": b"\x04msgpack 1\n\x01",
    "a signed pickle without a key": b"\x04pickle 40\nS" + bytes(range(39)),
    "a registered type": b'\x04models 29\n{"$type":"invoice","value":1}',
    "an integer of 5,001 digits": b"1" + b"0" * 5000,
    "a list of 2,000 levels": b"[" * 2000 + b"]" * 2000,
    "text that is not compact": b'{"a": [1,  2]}',
    "two equal names": b'{"a":1,"a":2}',
    "an escape that is not needed": b'"\\u0041"',
    "bytes that nothing reads": b"\x00\xff",
    "an envelope that is cut short": b"\x04pickle 40\nS",
    "no bytes": b"",
    "the bytes of a directory in the layout of Redis": b"\x01",
    "a lone surrogate": b'"\\udc80"',
    "NaN": b"NaN",
    "a line end": b'"a\\nb"\n',
}


def of_raw(leaves: dict[str, bytes], ttl: int | None = None) -> OpenedDatabase:
    """Return a database in memory with these bytes as leaves."""
    database = database_of()
    writes = tuple([Put(Key(VALUES, ("x", name)), data, ttl) for name, data in leaves.items()])
    database.backend.execute(Transaction(writes=writes))
    return database


@pytest.mark.parametrize("ttl", [None, 600_000])
def test_bytes_that_cannot_be_read_here_move_unchanged(ttl: int | None) -> None:
    """A copy and an import store the bytes and TTLs of leaves that no codec here reads, at another path too."""
    source, copied, imported = of_raw(OPAQUE, ttl), database_of(), database_of()
    report = copy(source, copied, "test", at=("x",), to=("y", "z"))
    assert (report.stored, report.skipped, report.reasons) == (len(OPAQUE), 0, [])
    assert content(copied) == {("y", "z", name): data for name, data in OPAQUE.items()}
    assert verify(source, copied, at=("x",), to=("y", "z")).equal == len(OPAQUE)
    import_lines(imported, exported(source))
    assert content(imported) == content(source)
    assert verify(source, imported).holds
    for each in (copied, imported):
        left = each.run(each.store.ttl(()))
        assert left is None if ttl is None else 0 < (left or 0) <= ttl


class Untouchable(Codec):
    """A codec whose values nobody may decode."""

    def __init__(self, name: str, *, binds_path: bool = False) -> None:
        self._name = name
        self.binds_path = binds_path

    @property
    def name(self) -> str:
        return self._name

    def encode(self, value: object, *_: object) -> bytes:
        return json.dumps(value).encode()

    def decode(self, data: bytes, *_: object) -> object:
        raise AssertionError("a leaf that only moves was decoded")


def test_data_that_only_moves_is_not_decoded() -> None:
    """Neither a copy with its comparison, an export nor an import calls the codec that both sides have."""
    form = LeafFormat(Untouchable("x"), [Untouchable("signed", binds_path=True), codec])
    source, target, other = [OpenedDatabase(MemoryBackend(), form) for _ in range(3)]
    source.backend.execute(Transaction(writes=(Put(Key(VALUES, ("a",)), b"\x04signed 1\n1"),)))
    source.run(source.store.write(("b",), {"c": "text", "d": 1}))
    copy(source, target, "test")
    assert verify(source, target).holds
    import_lines(other, exported(source))
    assert content(target) == content(other) == content(source)


class Signed(Codec):
    """A codec that binds its bytes to their path."""

    binds_path = True

    def __init__(self, key: str = "k") -> None:
        self._key = key

    @property
    def name(self) -> str:
        return "signed"

    def encode(self, value: object, path: Path, /) -> bytes:
        return json.dumps([self._key, path, value]).encode()

    def decode(self, data: bytes, path: Path, /) -> object:
        key, bound, value = json.loads(data)
        if (key, tuple(bound)) != (self._key, path):
            raise BadSignatureContent("wrong key or path")
        return value


def test_values_that_are_signed_for_their_path_are_signed_again_for_another_one() -> None:
    """With the key the target reads them; without it they are named and not stored; at the same path bytes move."""
    source = OpenedDatabase(MemoryBackend(), LeafFormat(Signed()))
    source.run(source.store.write(("a",), {"b": "text", "c": 1}))
    target, other = OpenedDatabase(MemoryBackend(), LeafFormat(Signed())), database_of()
    assert copy(source, target, "test", at=("a",), to=("z",)).stored == 2
    assert target.run(target.store.read(("z",))) == {"b": "text", "c": 1}
    assert verify(source, target, at=("a",), to=("z",)).holds
    wrong = OpenedDatabase(source.backend, LeafFormat(Signed("another key")))
    report = copy(wrong, target, "test", at=("a",), to=("new",))
    assert (report.stored, report.skipped) == (1, 1)
    assert report.reasons[0].startswith("'a.b' is not copied: the codec signed signs it for its path")
    copy(wrong, other, "test")
    assert content(other) == content(source)


def test_what_a_run_would_remove_is_counted_before_it_is_removed() -> None:
    """Leaves below a stored one, above it and at its path count, unless they stay the same; a refusal stops the run."""
    existing = {"same": 1, "changed": 1, "dict": {f"n{number}": number for number in range(30)}, "leaf": 1, "far": 2}
    new = {"same": 1, "changed": 2, "dict": 3, "leaf": {"a": 1, "b": 1}, "new": {"x": 1}}
    counted: list[int] = []
    target = database_of(existing)
    copy(database_of(new), target, "test", confirm=counted.append)
    assert counted == [32]
    copy(database_of(new), target, "test", confirm=counted.append)
    assert counted == [32]

    def refuse(_: int) -> None:
        raise KeyboardInterrupt

    target = database_of(existing)
    with pytest.raises(KeyboardInterrupt):
        copy(database_of(new), target, "test", confirm=refuse)
    with pytest.raises(KeyboardInterrupt):
        import_lines(target, lines_of_value(new, ()), confirm=refuse)
    assert content(target) == content(database_of(existing))


def test_many_leaves_of_many_dicts_are_counted() -> None:
    """The count needs no transaction that the store does not take."""
    counted: list[int] = []
    target = database_of(MANY, Limited(most=300))
    copy(database_of(dict.fromkeys(MANY, 1)), target, "test", confirm=counted.append)
    assert counted[0] >= 1000


def test_an_empty_dict_is_imported() -> None:
    """``{}`` alone is a value, except at the root, where it is no leaf."""
    database = database_of()
    assert import_lines(database, lines_of_value({}, ("a",)), ("a",)).stored == 1
    assert import_lines(database, lines_of_value({}, ())).stored == 0
    assert content(database) == {("a",): b"{}"}


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ([], "the input is empty"),
        ([b"\n", b"  \n"], "the input is empty"),
        ([b'{"path":["a"],"value":1}\n', b'{"end":true,"leaves":1}'], "line 1 must be the first one of the format"),
        ([json.dumps(HEAD).encode(), b'{"path":["a"],"value":{"b":1,"b":2}}'], "has the name 'b' twice"),
        ([json.dumps(HEAD).encode(), b'{"path":["a"],"value":' + b"9" * 5000 + b"}"], "more digits"),
    ],
)
def test_an_input_that_cannot_be_whole_is_refused(lines: list[bytes], error: str) -> None:
    """An empty input, one without its beginning, and values of which something would be lost, are errors."""
    database = database_of()
    with pytest.raises(LineError, match=f"{error}.*nothing is stored"):
        import_lines(database, lines)
    assert content(database) == {}


def test_the_error_of_a_line_says_how_many_leaves_are_stored() -> None:
    """Earlier batches stay, and the corrected input continues after them."""
    database, lines = database_of(), list(lines_of_value(dict.fromkeys(map(str, range(25)), 1), ()))
    with pytest.raises(LineError, match="20 leaves before it are stored"):
        import_lines(database, [*lines[:24], b"{", *lines[24:]], batch=10)
    assert import_lines(database, lines, batch=10).resumed == 20
    assert len(content(database)) == 25
