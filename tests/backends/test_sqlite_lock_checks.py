"""Transactions of locks take fewer statements than others, and have the same outcomes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.keys import EncodedKeys
from redicts.backends.sqlite.lock_checks import PREPARED, prepared
from redicts.core.minitransaction import (
    Add,
    Check,
    Delete,
    Equals,
    Notify,
    Put,
    PutDocument,
    Read,
    Scope,
    StartsWith,
    Status,
)
from redicts.core.ordered_keys import CACHED
from tests.backends.sqlite_tools import Clock, Meter, entries, key, run

LOCKED = tuple(
    [
        StartsWith(key(*path, space=space), Scope.BELOW, b"mine")
        for space in ("h", "w")
        for path in (("!",), ("/a", "!"), ("/a", "/b"))
    ]
)
"""The checks of a lock on ``a.b``."""

NEAR = {"between the scopes": ("/a", "/aa", "!", "r"), "in a section after them": ("/b", "!", "r")}
"""Records that are near the lock, and do not overlap with it."""


@pytest.fixture
def store(meter: Meter, path: str, clock: Clock) -> Iterator[SqliteBackend]:
    """Open an empty store, in a file and in memory, whose connections are measured."""
    backend = SqliteBackend(path, clock=clock)
    yield backend
    backend.close()


def test_what_was_used_before_is_forgotten() -> None:
    """The keys and the checks of locks that are remembered are bounded, however many a process uses."""
    keys = EncodedKeys("0")
    for number in range(CACHED + 1):
        keys[key(str(number))]
        assert prepared("0", (*LOCKED,)) is not None
        assert max(len(keys), len(PREPARED)) <= CACHED


@pytest.mark.parametrize("failing", range(len(LOCKED)))
def test_each_scope_of_a_lock_is_checked(store: SqliteBackend, failing: int) -> None:
    """A record of another owner in one of the scopes fails this check, with records of this owner in all others."""
    for index, check in enumerate(LOCKED):
        run(store, Put(check.key._replace(path=(*check.key.path, "r")), b"mine" if index != failing else b"other"))
    outcome = run(store, Add(key("token", space="f"), 1), checks=LOCKED)
    assert (outcome.status, outcome.failed_index) == (Status.CHECK_FAILED, failing)


@pytest.mark.parametrize("where", NEAR)
def test_records_near_a_lock_do_not_count(store: SqliteBackend, where: str) -> None:
    """Records of other owners that overlap with no scope let the checks hold."""
    run(store, *[Put(key(*NEAR[where], space=space), b"other") for space in ("h", "w")])
    assert run(store, Add(key("token", space="f"), 1), checks=LOCKED).applied


def test_an_expired_record_does_not_count(store: SqliteBackend, clock: Clock) -> None:
    """A lock is free at the end of the TTL of a record, which is still in the file."""
    run(store, Put(key("/a", "/b", "!", "r", space="h"), b"other", 5))
    assert not run(store, Add(key("token", space="f"), 1), checks=LOCKED).applied
    clock.milliseconds += 5
    assert run(store, Add(key("token", space="f"), 1), checks=LOCKED).applied


@pytest.mark.parametrize("stored", [b"other", None, b"mine" * 1_000], ids=["another", "none", "a long one"])
def test_a_release_deletes_only_what_it_checks(store: SqliteBackend, stored: bytes | None) -> None:
    """A record that is another one stays, and one that is too long to be in the tree is deleted whole."""
    record = key("/a", "!", "r", space="h")
    expected = stored if stored is not None and len(stored) > 100 else b"mine"
    if stored is not None:
        run(store, Put(record, stored))
    checks: tuple[Check, ...] = (Equals(record, Scope.NODE, {(): expected}),)
    writes = Delete(record, Scope.NODE), Notify(key("r", space="n"), Scope.BELOW), Put(key("x"), b"1")
    outcome = run(store, *writes, checks=checks)
    assert outcome.applied is (stored == expected)
    left = {(): stored} if stored is not None and not outcome.applied else {}
    assert entries(store, Read(record)).values == left
    assert entries(store, Read(key("x"))).values == ({(): b"1"} if outcome.applied else {})


def test_locks_take_few_statements(store: SqliteBackend, meter: Meter) -> None:
    """An acquire takes six statements and a release four, from the second time on."""
    record = key("/a", "/b", "!", "r", space="h")
    acquire = Put(record, b"mine", 30_000), Add(key("token", space="f"), 1)
    release = Delete(record, Scope.NODE), Notify(key("r", space="n"), Scope.BELOW)
    for _ in range(2):
        meter.statements.clear()
        assert run(store, *acquire, checks=LOCKED).applied
        acquired = len(meter.statements)
        assert run(store, *release, checks=(Equals(record, Scope.NODE, {(): b"mine"}),)).applied
    assert acquired <= 6
    assert len(meter.statements) <= acquired + 4


def test_a_counter_is_what_another_client_made_it(store: SqliteBackend, path: str, clock: Clock) -> None:
    """An addition relies on nothing that this process knows of a counter: not after a Put, a TTL or a rollback."""
    counter = key("token", space="f")
    assert [run(store, Add(counter, 1)).counters[0] for _ in range(2)] == [1, 2]
    run(store, Put(counter, b"40"))
    assert run(store, Add(counter, 2)).counters == (42,)
    assert run(store, Add(counter, 1), Add(key("x"), 2**63 - 1), Add(key("x"), 1)).status is Status.NOT_A_COUNTER
    assert run(store, Add(counter, 1)).counters == (43,)
    run(store, Put(counter, b"43", 5))
    clock.milliseconds += 5
    assert run(store, Add(counter, 1)).counters == (1,)
    run(store, Put(counter, b"%d" % (2**63 - 2)))
    assert run(store, Add(counter, 1)).counters == (2**63 - 1,)
    assert run(store, Add(counter, 1)).status is Status.NOT_A_COUNTER


def test_documents_in_other_spaces_are_split(store: SqliteBackend) -> None:
    """A document in a space of records is its leaves at once, so that checks there need not look for documents."""
    run(store, Put(key("/a", "old", space="h"), b"1"))
    run(store, PutDocument(key("/a", space="h"), b'{"b":{"c":"other"},"d":1}'))
    assert entries(store, Read(key("/a", space="h"), Scope.SUBTREE)).values == {("b", "c"): b'"other"', ("d",): b"1"}
    check = StartsWith(key("/a", "b", space="h"), Scope.BELOW, b"mine")
    assert run(store, Put(key("z", space="h"), b"1"), checks=(check, LOCKED[0])).failed_index == 0
    run(store, Delete(key("/a", "b", space="h"), Scope.SUBTREE))
    assert run(store, Put(key("z", space="h"), b"1"), checks=(check, LOCKED[0])).applied
