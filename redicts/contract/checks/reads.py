"""Answers: they contain exactly the state before the writes, whatever the status."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final

from redicts.contract.check import conformance_check
from redicts.contract.fixture import LONG, Fixture
from redicts.contract.form import entries_of
from redicts.contract.hostile import HOSTILE_VALUES
from redicts.contract.requirements import require, require_equal
from redicts.contract.trees import PATHS, TREE, large, names_below, within
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Answer,
    AnyRead,
    Check,
    Delete,
    Entries,
    Equals,
    Names,
    Path,
    Put,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
    Write,
)

_ENDED_SECS: Final = 0.003
"""Seconds in which a TTL of one millisecond has ended."""
_ALL: Final = 100
"""A limit beyond the values of :data:`~redicts.contract.trees.TREE`."""


@conformance_check()
def a_read_answers_its_scope(fixture: Fixture) -> None:
    """A read returns every value in its scope, by relative path, and ReadNames the names directly below its key.

    Reads every scope and lists every path of an empty, a small and a large tree.
    """
    tree = large()
    cases: list[tuple[Mapping[Path, bytes], Sequence[Path]]] = [
        ({}, PATHS),
        (TREE, PATHS),
        (tree, ((), ("wide",), ("bushy", "b"), ("deep", "down"))),
    ]
    for entries, paths in cases:
        fixture.plant(entries)
        for path in paths:
            key = fixture.key(*path)
            for scope in Scope:
                values = dict(fixture.store.read(key, scope))
                require_equal(values, within(entries, path, scope), f"the values at {path!r}, {scope.name} are")
            require_equal(fixture.store.names(key), names_below(entries, path), f"the names below {path!r} are")


@conformance_check()
def what_is_fetched_is_there(fixture: Fixture) -> None:
    """Fetch returns the value at exactly the key, also after writes of other clients, or None.

    Fetches at every path, while another client writes and deletes. Fetches what has been read before, while another
    client puts hostile values, a dict in place of a value, and values that end.
    """
    other = fixture.client()
    for _ in range(2):  # for both kinds of spaces
        fixture.plant(TREE)
        for node in PATHS:
            _fetch(fixture, node, TREE.get(node))
        _fetch(fixture, (), None)
        for number in range(3):
            other.apply(*fixture.puts(dict.fromkeys(TREE, b"%d" % number)))
            for path in TREE:
                _fetch(fixture, path, b"%d" % number)
                fixture.store.read(fixture.key(*path))
        other.apply(Delete(fixture.key(), Scope.SUBTREE))
        for path in TREE:
            _fetch(fixture, path, None)
        key = fixture.key("value")
        for value in HOSTILE_VALUES:
            other.apply(Put(key, b"plain"))
            fixture.store.read(key)
            other.apply(Put(key, value))
            _fetch(fixture, key.path, value)
        other.apply(Put(key, b"plain"))
        fixture.store.read(key)
        other.apply(Delete(key, Scope.NODE), Put(fixture.key("value", "below"), b"of a dict"))
        _fetch(fixture, key.path, None)
        for ttl in (LONG, 1) if fixture.capabilities.ttl else ():
            fixture.store.apply(Delete(key, Scope.SUBTREE), Put(key, b"lasting"))
            require_equal(fixture.store.read(key), {(): b"lasting"}, "the value without a TTL is")
            _fetch(fixture, key.path, b"lasting")
            other.apply(Put(key, b"ending", ttl))
            if ttl == 1:
                fixture.harness.advance(_ENDED_SECS)
            _fetch(fixture, key.path, None if ttl == 1 else b"ending")


def _fetch(fixture: Fixture, path: Path, there: bytes | None) -> None:
    """Fetch, and require the stored value or ``None``."""
    found = fixture.store.fetch(fixture.key(*path))
    if found is not None:
        require_equal(found, there, f"what is fetched at {path!r} is")


@conformance_check()
def values_come_back_as_they_were(fixture: Fixture) -> None:
    """A value comes back byte for byte, empty or of one mebibyte, alone and with others.

    Puts hostile values, some that begin with each byte, and one of a mebibyte. Reads each alone and all together, and
    those that begin with each byte also next to an Equals of them.
    """
    values = [*HOSTILE_VALUES, bytes(range(256)) * 4096]
    begun: dict[Path, bytes] = {(f"b{first}",): b"%c, a value" % first for first in range(256)}
    for _ in range(2):  # for both kinds of spaces
        fixture.plant(begun)
        require_equal(dict(fixture.store.read(fixture.key())), begun, "values that begin with each byte come back as")
        root = fixture.key()
        outcome = fixture.store.run([Equals(root, Scope.SUBTREE, begun)], [Read(root, Scope.SUBTREE)])
        require(outcome.applied, "Equals of values that begin with each byte fails")
        found = dict(entries_of(outcome.answers[0]).values)
        require_equal(found, begun, "next to an Equals of them, values that begin with each byte come back as")
    fixture.renew()
    for number, value in enumerate(values):
        fixture.store.apply(Put(fixture.key("dict", f"n{number}"), value))
        require_equal(fixture.store.value(fixture.key("dict", f"n{number}")), value, "a value comes back as")
    expected = {(f"n{number}",): value for number, value in enumerate(values)}
    require_equal(dict(fixture.store.read(fixture.key("dict"), Scope.BELOW)), expected, "all values come back as")


@conformance_check()
def answers_come_in_the_order_of_reads(fixture: Fixture) -> None:
    """Each read has one answer, in the order of the reads, also if they repeat and overlap.

    Compares seven reads of one transaction with the same reads alone.
    """
    fixture.plant(TREE)
    reads: list[AnyRead] = [
        ReadNames(fixture.key("inner")),
        Read(fixture.key("leaf")),
        Read(fixture.key(), Scope.SUBTREE),
        Read(fixture.key("absent")),
        Read(fixture.key("leaf")),
        ReadNames(fixture.key()),
        Read(fixture.key("inner"), Scope.BELOW),
    ]
    together = fixture.store.run(reads=reads).answers
    for number, read in enumerate(reads):
        alone = fixture.store.run(reads=[read]).answers[0]
        require_equal(_plain(together[number]), _plain(alone), f"answer {number} of several, to {read!r}, is")


@conformance_check()
def answers_come_with_any_status(fixture: Fixture) -> None:
    """All reads are answered, from the state before the writes, also if a condition fails or a counter is refused.

    Reads, all and one value, in transactions that are applied, whose condition fails, and whose counter is refused.
    """
    fixture.plant(TREE)
    reads = (Read(fixture.key(), Scope.SUBTREE), ReadNames(fixture.key("inner")), Read(fixture.key("new")))
    expected = [_plain(each) for each in fixture.store.run(reads=reads).answers]
    add, new = Add(fixture.key("new"), 1), Put(fixture.key("new"), b"x")
    cases: Sequence[tuple[Sequence[Check], Sequence[Write], Status]] = (
        ([Equals(fixture.key("leaf"), Scope.NODE, NOTHING)], [new], Status.CHECK_FAILED),
        ([StartsWith(fixture.key(), Scope.SUBTREE, b"x")], [], Status.CHECK_FAILED),
        ([], [new, Delete(fixture.key("inner"), Scope.SUBTREE), add], Status.NOT_A_COUNTER),
        ([Equals(fixture.key("leaf"), Scope.NODE, {(): b"1"})], [], Status.APPLIED),
    )
    for checks, writes, status in cases:
        outcome = fixture.store.run(checks, reads, writes)
        require_equal(outcome.status, status, "the status")
        require_equal([_plain(each) for each in outcome.answers], expected, f"the answers with {status.name} are")
    for checks, writes, status in cases:
        outcome = fixture.store.run(checks, [Read(fixture.key("leaf"))], writes)
        require_equal(outcome.status, status, "the status with one read is")
        require_equal([_plain(each) for each in outcome.answers], [{(): b"1"}], f"the answer with {status.name} is")


@conformance_check()
def an_answer_is_the_callers_own(fixture: Fixture) -> None:
    """A change to an answer shows in no other one, and no later call changes an answer or the entries of an Equals.

    Reads the same again and again, by two clients and twice at once, and changes each dict that it gets. Keeps answers
    while values are replaced and deleted. Compares by one dict in several transactions.
    """
    fixture.plant(TREE)
    entries = within(TREE, ("inner",), Scope.BELOW)
    if fixture.capabilities.ttl:
        fixture.store.apply(Put(fixture.key("inner", "mortal"), b"1", LONG))
        entries["mortal",] = b"1"
    fixture.store.apply(Put(fixture.key("count"), b"1"))
    root = fixture.key()
    reads: list[AnyRead] = [ReadNames(root), ReadNames(root, limit=_ALL)]
    for ttls in (False, True) if fixture.capabilities.ttl else (False,):
        reads.append(Read(fixture.key("leaf"), ttls=ttls))
        reads += [
            Read(root, scope, limit, ttls=ttls) for scope in (Scope.SUBTREE, Scope.BELOW) for limit in (None, _ALL)
        ]
    expected = {read: _in_full(fixture.store.ask(read)[0]) for read in reads}
    others = [read for read in reads if isinstance(read, ReadNames) or not read.ttls]
    for client, asked in ((fixture.store, reads), (fixture.client(), others), (fixture.store, reads)):
        for read in asked:
            for answer in client.ask(read, read):
                require_equal(_in_full(answer), expected[read], f"while other answers were changed, {read!r} gives")
                _spoil(answer)
    kept = {read: fixture.store.ask(read)[0] for read in reads}
    equals, given = Equals(fixture.key("inner"), Scope.BELOW, entries), dict(entries)
    wrong = StartsWith(fixture.key("leaf"), Scope.NODE, b"wrong")
    conditions: Sequence[Sequence[Check]] = ([equals], [equals, wrong], [equals, equals])
    for checks in conditions:
        require_equal(
            fixture.store.run(checks).applied, wrong not in checks, "whether a condition of one dict holds is"
        )
        require_equal(entries, given, "the entries of a condition are, after it was examined,")
    writes: list[Write] = [Put(fixture.key("leaf"), b"new"), Add(fixture.key("count"), 1)]
    writes += [Put(fixture.key("later"), b"1"), Delete(fixture.key("inner"), Scope.BELOW)]
    for write in writes:
        fixture.store.apply(write)
        for read, answer in kept.items():
            require_equal(
                _in_full(answer), expected[read], f"after a later {type(write).__name__}, the answer to {read!r}"
            )


def _in_full(answer: Answer) -> object:
    """Return a copy of an answer, with the paths of TTLs, since those pass."""
    return (dict(answer.values), set(answer.ttls)) if isinstance(answer, Entries) else set(answer.names)


def _spoil(answer: Answer) -> None:
    """Change whatever can be changed in an answer, as its caller may."""
    for mapping in (answer.values, answer.ttls) if isinstance(answer, Entries) else ():
        if isinstance(mapping, MutableMapping):
            mapping.clear()
            mapping["spoiled",] = b"spoiled"


def _plain(answer: Entries | Names) -> object:
    return dict(answer.values) if isinstance(answer, Entries) else set(answer.names)
