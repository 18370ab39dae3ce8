"""Documents on SQLite: one row until a part is changed, and no visible difference from leaves."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from redicts import CorruptData, LeafError, Pool, Proxy, root, section
from redicts.backends.sqlite import documents
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.codecs.json import codec
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Equals,
    Expire,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    StartsWith,
)
from redicts.core.ordered_keys import below
from tests.backends.sqlite_tools import (
    Child,
    Clock,
    Meter,
    entries,
    is_sound,
    key,
    killed,
    names,
    plain,
    run,
    sql,
    tree,
    value,
    wait_for_kill,
)

WIDE: Final = {f"name{number:02}": number for number in range(20)}
TEXT: Final = codec.encode(WIDE)
NESTED: Final = b'{"a":1,"b":{"c":2}}'
TTL: Final = 1_000
LEAVES: Final = {(name,): b"%d" % number for name, number in WIDE.items()}


@pytest.fixture
def store(file: Path, meter: Meter, clock: Clock) -> Iterator[SqliteBackend]:
    """Open an empty store."""
    backend = SqliteBackend(str(file), clock=clock)
    yield backend
    backend.close()


def stored(file: Path) -> tuple[int, int]:
    """Return the numbers of entries and documents in the file, including expired ones."""
    found: tuple[int, int] = sql(file, "SELECT (SELECT count(*) FROM entries), (SELECT count(*) FROM documents)")
    return found


def test_a_dict_is_one_row(store: SqliteBackend, file: Path, meter: Meter) -> None:
    """A document is written as one row; from the second time on it is read, and replaced, by one statement."""
    run(store, PutDocument(key("a", "b"), TEXT))
    assert stored(file) == (0, 1)
    assert store.fetch_document(key("a", "b")) == TEXT
    meter.statements.clear()
    assert store.fetch_document(key("a", "b")) == TEXT
    assert store.overwrite_document(key("a", "b"), b'{"x":1}')
    assert [text.split()[0] for text in meter.statements] == ["SELECT", "UPDATE"]
    assert store.fetch_document(key("a", "b")) == b'{"x":1}'
    assert tree(store) == {("a", "b", "x"): b"1"}


@pytest.mark.parametrize(
    ("write", "changed"),
    [
        (Put(key("a", "name05"), b"new"), {("name05",): b"new"}),
        (Put(key("a", "new", "x"), b"new"), {("new", "x"): b"new"}),
        (Add(key("a", "name05"), 10), {("name05",): b"15"}),
        (Delete(key("a", "name05"), Scope.NODE), {("name05",): None}),
        (Delete(key("a", "name05"), Scope.SUBTREE), {("name05",): None}),
        (Expire(key("a", "name05"), Scope.NODE, 1000), {}),
        (Expire(key("a", "name05"), Scope.SUBTREE, None), {}),
    ],
    ids=lambda each: type(each).__name__,
)
def test_changing_a_part_splits_it_into_leaves(
    write: Any, changed: dict[Any, Any], store: SqliteBackend, file: Path
) -> None:
    """After a part was changed each leaf has a row, and all other leaves are unchanged."""
    run(store, PutDocument(key("a"), TEXT), Put(key("ab"), b"1"))
    run(store, write)
    expected = {path: data for path, data in {**LEAVES, **changed}.items() if data is not None}
    assert stored(file) == (len(expected) + 1, 0)
    assert tree(store, "a") == expected


@pytest.mark.parametrize(
    "write",
    [
        Delete(key("a"), Scope.NODE),
        Delete(key("ab"), Scope.SUBTREE),
        Delete(key("a", "b"), Scope.NODE),
        Put(key("aa"), b"1"),
        Expire(key("a"), Scope.SUBTREE, 5000),
        Expire(key("a", "b"), Scope.BELOW, 5000),
        Expire(key(), Scope.BELOW, 5000),
    ],
    ids=str,
)
def test_changing_no_part_leaves_it_whole(write: Any, store: SqliteBackend, file: Path) -> None:
    """A write outside a document, and one to all of its leaves, does not split it."""
    run(store, PutDocument(key("a", "b"), TEXT))
    whole = stored(file)
    run(store, write)
    assert tree(store, "a", "b") == LEAVES
    if not (isinstance(write, Delete) and write.key == key("a", "b")):
        assert stored(file)[1] == whole[1]


def test_reading_a_part_writes_nothing(store: SqliteBackend, file: Path, meter: Meter) -> None:
    """Reading leaves, names or pages of a document does not change it, and waits for no writer."""
    run(store, PutDocument(key("a"), TEXT))
    writer = plain(file)
    writer.execute("BEGIN IMMEDIATE")
    meter.statements.clear()
    assert store.fetch(key("a", "name03")) == b"3"
    assert store.fetch_document(key("a", "name03")) == b"3"
    assert store.fetch(key("a")) is None
    assert value(store, "a", "name04") == b"4"
    assert value(store, "a") is None
    assert set(names(store, ReadNames(key("a"))).names) == set(WIDE)
    first = entries(store, Read(key("a"), Scope.BELOW, limit=7))
    rest = entries(store, Read(key("a"), Scope.BELOW, cursor=first.cursor))
    assert {**first.values, **rest.values} == LEAVES
    assert len(first.values) == 7
    assert {text.split()[0] for text in meter.statements} <= {"SELECT", "BEGIN", "COMMIT"}
    writer.execute("ROLLBACK")
    writer.close()
    assert stored(file) == (0, 1)


@pytest.mark.parametrize("scope", [Scope.SUBTREE, Scope.BELOW])
def test_reading_a_part_encodes_that_part_only(
    store: SqliteBackend, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read of a part of a document makes rows of the leaves in that part, whatever the names of the others."""
    parts = {"a": 1, "a\x01": 2, "a\x01\x02": 3, "aa": {"b": 4}, "b": {"c": {"d": 5}, "e": 6}, "\u00e9": {"f": 7}}
    run(store, PutDocument(key("x"), codec.encode(parts)))
    encoded: list[tuple[str, ...]] = []

    def recorded(base: bytes, path: tuple[str, ...]) -> bytes:
        encoded.append(path)
        return below(base, path)

    monkeypatch.setattr(documents, "below", recorded)
    expected: dict[tuple[str, ...], dict[tuple[str, ...], bytes]] = {
        ("a",): {("a",): b"1"},
        ("a\x01",): {("a\x01",): b"2"},
        ("b",): {("b", "c", "d"): b"5", ("b", "e"): b"6"},
        ("b", "c"): {("b", "c", "d"): b"5"},
        ("\u00e9",): {("\u00e9", "f"): b"7"},
        ("z",): {},
    }
    for part, leaves in expected.items():
        encoded.clear()
        found = entries(store, Read(key("x", *part), scope)).values
        there = {path[len(part) :]: leaf for path, leaf in leaves.items() if scope is Scope.SUBTREE or path != part}
        assert found == there
        assert set(encoded) <= leaves.keys()
    first = entries(store, Read(key("x", "b"), scope, limit=1))
    assert first.values == {("c", "d"): b"5"}
    assert entries(store, Read(key("x", "b"), scope, cursor=first.cursor)).values == {("e",): b"6"}


def test_an_expired_document_is_replaced_by_a_leaf_below_it(store: SqliteBackend, file: Path, clock: Clock) -> None:
    """A leaf that is put below an expired document is alone there."""
    run(store, PutDocument(key("a"), TEXT, 1000))
    clock.milliseconds += 1000
    run(store, Put(key("a", "name05"), b"new"))
    assert tree(store) == {("a", "name05"): b"new"}
    assert stored(file) == (1, 0)


def test_expired_documents_are_removed_by_later_writes(store: SqliteBackend, file: Path, clock: Clock) -> None:
    """Any write removes some expired documents, and no live one."""
    run(store, *[PutDocument(key("d", f"n{number}"), NESTED, TTL) for number in range(200)])
    run(store, PutDocument(key("lasts"), NESTED), PutDocument(key("ttls"), NESTED, 2 * TTL))
    assert stored(file)[1] == 202
    clock.milliseconds += TTL
    run(store, Put(key("x"), b"1"))
    assert 2 < stored(file)[1] < 202
    for _ in range(10):
        run(store, Put(key("x"), b"1"))
    assert stored(file)[1] == 2


def test_the_fast_path_is_closed_while_expired_documents_are_left(
    store: SqliteBackend, file: Path, clock: Clock
) -> None:
    """Overwriting, which removes nothing, takes the long path until no expired document is left."""
    run(store, Put(key("x"), b"1"), *[PutDocument(key("d", f"n{number}"), NESTED, TTL) for number in range(200)])
    assert store.overwrite(key("x"), b"2")
    clock.milliseconds += TTL
    run(store, Put(key("x"), b"3"))
    assert stored(file)[1] > 0
    assert not store.overwrite(key("x"), b"4")
    while stored(file)[1]:
        run(store, Put(key("x"), b"5"))
    run(store, Put(key("x"), b"6"))
    assert store.overwrite(key("x"), b"7")


def test_a_document_with_a_ttl_is_not_overwritten(store: SqliteBackend, clock: Clock) -> None:
    """The fast path replaces only persistent documents, because it does not read the clock."""
    run(store, PutDocument(key("a"), TEXT, 1000), PutDocument(key("b"), TEXT))
    assert not store.overwrite_document(key("a"), TEXT)
    clock.milliseconds += 1000
    assert not store.overwrite_document(key("a"), TEXT)
    assert store.overwrite_document(key("b"), TEXT)


def test_a_document_is_gone_in_the_millisecond_in_which_it_ends(store: SqliteBackend, file: Path, clock: Clock) -> None:
    """One millisecond before its end every operation finds a document, and at its end none does."""
    at, leaf = key("doc"), key("doc", "b", "c")
    run(store, PutDocument(at, NESTED, TTL))
    free = Equals(at, Scope.SUBTREE, NOTHING)
    clock.milliseconds += TTL - 1
    assert entries(store, Read(leaf, ttls=True)).ttls == {(): 1}
    assert store.fetch_document(at) == NESTED
    assert not run(store, checks=(free,)).applied
    clock.milliseconds += 1
    for scope in Scope:
        assert entries(store, Read(at, scope, ttls=True)) == entries(store, Read(key("nothing"), scope))
    assert entries(store, Read(leaf)).values == {}
    assert names(store, ReadNames(at)).names == ()
    assert (store.fetch_document(at), store.fetch_document(leaf), store.fetch(leaf)) == (None, None, None)
    assert run(store, checks=(free, StartsWith(at, Scope.SUBTREE, b"x"), Equals(leaf, Scope.NODE, NOTHING))).applied
    run(store, Expire(at, Scope.SUBTREE, None), Put(key("doc", "z"), b"1"))
    assert entries(store, Read(at, Scope.SUBTREE)).values == {("z",): b"1"}
    assert stored(file)[1] == 0


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b'{"a":1}}', b"\xff", b'{"a": 1, "a": 2}'])
def test_an_altered_document_is_reported_and_can_be_removed(text: bytes, file: Path) -> None:
    """A row that another program altered is reported with its path, affects no other, and can be replaced."""
    Pool().reload(cfg={"backend": "sqlite", "path": file})
    section("a").set("b", WIDE).set("c", 1)
    sql(file, f"UPDATE documents SET document = x'{text.hex()}'")
    if text in {b"[1]", b'{"a": 1, "a": 2}'}:
        assert section("a").get("b").val() == codec.decode(text)
    else:
        with pytest.raises((CorruptData, LeafError), match=r"'a\.b'"):
            section("a").get("b").val()
        with pytest.raises((CorruptData, LeafError), match=r"'a\.b'"):
            section("a").val()
    assert section("a").get("c").val() == 1
    assert section("a").get("b.x").val(None) is None
    section("a").set("b.x", 1)
    assert root().val() == {"a": {"b": {"x": 1}, "c": 1}}
    section("a").set("b", WIDE)
    section("a").get("b").clear()
    assert root().val() == {"a": {"c": 1}}
    Pool().reload(cfg={"backend": "memory"})


def test_other_codecs_read_the_leaves(file: Path) -> None:
    """To any other codec a document is a dict of its leaves, and the reverse."""
    Pool().reload(cfg={"backend": "sqlite", "path": file})
    tagged = {**WIDE, "$type": "invoice", "value": {"a": 1}}
    root().set("a", tagged)
    assert stored(file) == (0, 1)
    for codec_name in ("models", "msgpack"):
        Pool().reload(cfg={"backend": "sqlite", "path": file, "codec": codec_name, "accept": ["json"]})
        assert root().get("a").val() == tagged
        assert root().val() == {"a": tagged}
        root().set("b", WIDE)
        assert stored(file)[1] == 1
        root().get("b").clear()
    Pool().reload(cfg={"backend": "sqlite", "path": file, "codec": "msgpack", "accept": []})
    assert root().get("a.name05").val() == 5
    with pytest.raises(LeafError, match=r"'a\.\$type'"):
        root().get("a").val()
    Pool().reload(cfg={"backend": "memory"})


def set_and_change(file: Path, writing: int) -> None:
    """Put a document and change a part of it, again and again, and write a number after each commit."""
    Pool().reload(cfg={"backend": "sqlite", "path": file, "busy_timeout_secs": 60})
    parent = section("a")
    number = int(str(parent.get("b.number").val(0)))
    while True:
        number += 1
        parent.set("b", {**dict.fromkeys(WIDE, number), "number": number})
        os.write(writing, b"%d\n" % number)
        with parent.transaction() as changes:
            for name in WIDE:
                changes.set(f"b.{name}", number + 1)
            changes.set("b.number", number + 1)
        number += 1
        os.write(writing, b"%d\n" % number)


@pytest.mark.timeout(300)
def test_a_kill_at_any_point_leaves_a_whole_document(file: Path) -> None:
    """After a kill of a writer that puts and splits documents, exactly what it committed is there."""
    SqliteBackend(str(file)).close()
    for _ in range(20):
        committed = killed(lambda writing: set_and_change(file, writing))
        store = SqliteBackend(str(file))
        found = tree(store, "a", "b")
        store.close()
        assert len(found) == len(WIDE) + 1
        assert set(found.values()) in ({b"%d" % committed}, {b"%d" % (committed + 1)})
    assert is_sound(file)


@pytest.mark.timeout(120)
def test_readers_see_whole_documents_while_others_change_them(file: Path) -> None:
    """Readers see all of one version of a dict, while other processes put and split documents."""
    Pool().reload(cfg={"backend": "sqlite", "path": file, "busy_timeout_secs": 60})
    proxy = Proxy("a.b")
    proxy.set((), {**WIDE, "number": -1})
    proxy.update(dict.fromkeys(WIDE, -1))
    Pool().reload(cfg={"backend": "memory"})
    reading, writing = os.pipe()
    writers = [Child(lambda: set_and_change(file, writing)) for _ in range(2)]

    def look() -> int:
        Pool().reload(cfg={"backend": "sqlite", "path": file, "busy_timeout_secs": 60})
        seen: set[int] = set()
        while len(seen) < 200:
            for found in (proxy.val(), root().val()["a"]["b"], dict(proxy.items())):
                assert len(found) == len(WIDE) + 1, found
                assert len(set(found.values())) == 1, found
                seen.add(found["number"])
        return len(seen)

    readers = [Child(look) for _ in range(2)]
    os.close(writing)
    drain = Child(lambda: sum(1 for _ in iter(lambda: os.read(reading, 65536), b"")))
    for reader in readers:
        assert reader.result(within=100) >= 200
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        wait_for_kill(writer)
    drain.result()
    os.close(reading)
    assert is_sound(file)
