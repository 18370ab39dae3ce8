"""Expired documents: gone in the millisecond in which they end, and removed by whoever writes next."""

from __future__ import annotations

from pathlib import Path

import pytest

from redicts.backends.sqlite.backend import SqliteBackend
from redicts.core.transaction import (
    NOTHING,
    Exactly,
    Expire,
    Prefixed,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
)
from tests.backends.sqlite_tools import Clock, entries, key, names, plain, run

TEXT = b'{"a":1,"b":{"c":2}}'
LIFE = 1_000


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Name a file that is not there yet."""
    return str(tmp_path / "s.db")


def lying(file: str) -> int:
    """Return how many documents lie in a file, expired or not."""
    connection = plain(Path(file))
    try:
        found: int = connection.execute("SELECT count(*) FROM documents").fetchone()[0]
    finally:
        connection.close()
    return found


def test_expired_documents_are_removed_by_later_writes(file: str) -> None:
    """Writes of anything remove what has expired of documents, some at a time, and leave what has not."""
    clock = Clock()
    store = SqliteBackend(file, clock=clock)
    run(store, *[PutDocument(key("d", f"n{number}"), TEXT, LIFE) for number in range(200)])
    run(store, PutDocument(key("lasts"), TEXT), PutDocument(key("lives"), TEXT, 2 * LIFE))
    assert lying(file) == 202
    clock.milliseconds += LIFE
    run(store, Put(key("x"), b"1"))
    assert 2 < lying(file) < 202
    for _ in range(10):
        run(store, Put(key("x"), b"1"))
    assert lying(file) == 2
    store.close()


def test_the_short_way_is_closed_while_there_are_documents_to_remove(file: str) -> None:
    """A stream of overwritings, which removes nothing, goes the long way until no expired document is left."""
    clock = Clock()
    store = SqliteBackend(file, clock=clock)
    run(store, Put(key("x"), b"1"), *[PutDocument(key("d", f"n{number}"), TEXT, LIFE) for number in range(200)])
    assert store.overwrite(key("x"), b"2")
    clock.milliseconds += LIFE
    run(store, Put(key("x"), b"3"))
    assert lying(file) > 0
    assert not store.overwrite(key("x"), b"4")
    while lying(file):
        run(store, Put(key("x"), b"5"))
    run(store, Put(key("x"), b"6"))
    assert store.overwrite(key("x"), b"7")
    store.close()


def test_a_document_is_gone_in_the_millisecond_in_which_it_ends(file: str) -> None:
    """One millisecond before it is there for every word, and in that millisecond for none."""
    clock = Clock()
    store = SqliteBackend(file, clock=clock)
    at, leaf = key("doc"), key("doc", "b", "c")
    run(store, PutDocument(at, TEXT, LIFE))
    free = Exactly(at, Scope.SUBTREE, NOTHING)
    clock.milliseconds += LIFE - 1
    assert entries(store, Read(leaf, lives=True)).lives == {(): 1}
    assert store.fetch_document(at) == TEXT
    assert not run(store, checks=(free,)).applied
    clock.milliseconds += 1
    for scope in Scope:
        assert entries(store, Read(at, scope, lives=True)) == entries(store, Read(key("nothing"), scope))
    assert entries(store, Read(leaf)).values == {}
    assert names(store, ReadNames(at)).names == ()
    assert (store.fetch_document(at), store.fetch_document(leaf), store.fetch(leaf)) == (None, None, None)
    assert run(store, checks=(free, Prefixed(at, Scope.SUBTREE, b"x"), Exactly(leaf, Scope.NODE, NOTHING))).applied
    run(store, Expire(at, Scope.SUBTREE, None), Put(key("doc", "z"), b"1"))
    assert entries(store, Read(at, Scope.SUBTREE)).values == {("z",): b"1"}
    assert lying(file) == 0
    store.close()
