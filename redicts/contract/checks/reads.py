"""Answers: what they hold, which state they show, and that they always come."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

from redicts.contract.check import conformance_check, require_equal
from redicts.contract.fixture import Fixture
from redicts.contract.hostile import HOSTILE_VALUES
from redicts.contract.trees import PLACES, TREE, large, names_below, scopes, within
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    AnyRead,
    Delete,
    Entries,
    Equals,
    Names,
    Outcome,
    Path,
    Put,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
)


@conformance_check()
def a_read_answers_its_scope(fixture: Fixture) -> None:
    """A read returns the values of its scope by relative path: at the root, at inner nodes, leaves and absent keys."""
    fixture.plant(TREE)
    for place, scope in scopes():
        values = fixture.store.read(fixture.key(*place), scope)
        require_equal(dict(values), within(TREE, place, scope), f"the values at {place!r}, {scope.name} are")


@conformance_check()
def what_is_fetched_is_there(fixture: Fixture) -> None:
    """What fetch returns is the value at exactly the key, also after others wrote; for all without one it is None."""
    other = fixture.client()
    fixture.plant(TREE)
    for place in PLACES:
        _fetch(fixture, place, TREE.get(place))
    _fetch(fixture, (), None)
    for number in range(3):
        other.apply(*fixture.puts(dict.fromkeys(TREE, b"%d" % number)))
        for path in TREE:
            _fetch(fixture, path, b"%d" % number)
    other.apply(Delete(fixture.key(), Scope.SUBTREE))
    for path in TREE:
        _fetch(fixture, path, None)
    for value in HOSTILE_VALUES:
        other.apply(Put(fixture.key("value"), value))
        _fetch(fixture, ("value",), value)


def _fetch(fixture: Fixture, path: Path, there: bytes | None) -> None:
    """Fetch, and insist on what is there, or on ``None``, which says nothing."""
    found = fixture.store.fetch(fixture.key(*path))
    if found is not None:
        require_equal(found, there, f"what is fetched at {path!r} is")


@conformance_check()
def names_are_those_directly_below(fixture: Fixture) -> None:
    """The names of a key are the first segments of all values below it, each once; leaves and absent keys have none."""
    fixture.plant(TREE)
    for place in PLACES:
        require_equal(
            fixture.store.names(fixture.key(*place)), names_below(TREE, place), f"the names below {place!r} are"
        )


@conformance_check()
def an_empty_space_answers_nothing(fixture: Fixture) -> None:
    """In a space that nobody has written to, every scope is empty and there are no names."""
    for place, scope in scopes():
        require_equal(
            dict(fixture.store.read(fixture.key(*place), scope)), {}, f"the values at {place!r}, {scope.name} are"
        )
        require_equal(fixture.store.names(fixture.key(*place)), set(), f"the names below {place!r} are")


@conformance_check()
def values_come_back_as_they_were(fixture: Fixture) -> None:
    """Every value comes back byte for byte, the empty one included, alone and among others."""
    fixture.plant({("dict", f"n{number}"): value for number, value in enumerate(HOSTILE_VALUES)})
    expected = {(f"n{number}",): value for number, value in enumerate(HOSTILE_VALUES)}
    found = fixture.store.read(fixture.key("dict"), Scope.BELOW)
    for number, value in enumerate(HOSTILE_VALUES):
        name = f"n{number}"
        require_equal(found.get((name,)), value, "among others, a value comes back as")
        require_equal(fixture.store.value(fixture.key("dict", name)), value, "a single value comes back as")
        holds = fixture.store.holds(Equals(fixture.key("dict", name), Scope.NODE, {(): value}))
        require_equal(holds, True, f"Exactly {value[:40]!r} holds")
    require_equal(dict(found), expected, "all values come back as")


@conformance_check()
def any_value_comes_back(fixture: Fixture) -> None:
    """Whatever bytes the harness draws come back as they were, and replace each other."""
    key = fixture.key("a", "b")

    def round_trips(value: bytes) -> None:
        fixture.store.apply(Put(key, value))
        require_equal(fixture.store.value(key), value, "the value comes back as")

    fixture.for_all(fixture.harness.values(), 300 if fixture.thorough else 40, round_trips)


@conformance_check()
def a_megabyte_comes_back(fixture: Fixture) -> None:
    """A value of one mebibyte is stored and comes back."""
    value = bytes(range(256)) * 4096
    fixture.plant({("a",): value})
    require_equal(fixture.store.value(fixture.key("a")), value, "a mebibyte comes back as")


@conformance_check()
def answers_come_in_the_order_of_reads(fixture: Fixture) -> None:
    """There is one answer per read, in the order of the reads, also when reads are repeated and overlap."""
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
def answers_show_the_state_before_the_writes(fixture: Fixture) -> None:
    """Reads see the state before the writes of their own transaction: values, names and scopes."""
    fixture.plant({("a",): b"1", ("dict", "old"): b"2", ("count",): b"5"})
    reads = (Read(fixture.key(), Scope.SUBTREE), ReadNames(fixture.key("dict")), Read(fixture.key("new")))
    before = fixture.store.run(reads=reads).answers
    writes = (
        Put(fixture.key("a"), b"9"),
        Delete(fixture.key("dict"), Scope.SUBTREE),
        Put(fixture.key("dict", "new"), b"9"),
        Put(fixture.key("new"), b"9"),
        Add(fixture.key("count"), 1),
    )
    outcome = fixture.store.run(reads=reads, writes=writes)
    require_equal([_plain(each) for each in outcome.answers], [_plain(each) for each in before], "the answers are")
    fixture.expect({("a",): b"9", ("dict", "new"): b"9", ("new",): b"9", ("count",): b"6"})


@conformance_check()
def answers_come_when_a_check_fails(fixture: Fixture) -> None:
    """Reads are answered in full although a check failed."""
    fixture.plant(TREE)
    reads = (Read(fixture.key(), Scope.SUBTREE), ReadNames(fixture.key("inner")), Read(fixture.key("absent")))
    expected = fixture.store.run(reads=reads)
    for check in (Equals(fixture.key("leaf"), Scope.NODE, NOTHING), StartsWith(fixture.key(), Scope.SUBTREE, b"x")):
        outcome = fixture.store.run(checks=[check], reads=reads, writes=[Put(fixture.key("new"), b"")])
        require_equal(outcome.status, Status.CHECK_FAILED, "the status")
        _same_answers(outcome, expected, "the answers when a check fails are")


@conformance_check()
def answers_come_when_a_counter_is_refused(fixture: Fixture) -> None:
    """Reads are answered in full, with the state before the writes, although a counter was refused."""
    fixture.plant(TREE)
    reads = (Read(fixture.key(), Scope.SUBTREE), ReadNames(fixture.key("inner")), Read(fixture.key("new")))
    expected = fixture.store.run(reads=reads)
    writes = (Put(fixture.key("new"), b"x"), Delete(fixture.key("inner"), Scope.SUBTREE), Add(fixture.key("new"), 1))
    outcome = fixture.store.run(reads=reads, writes=writes)
    require_equal(outcome.status, Status.NOT_A_COUNTER, "the status")
    _same_answers(outcome, expected, "the answers when a counter is refused are")


@conformance_check()
def an_unlimited_read_is_complete(fixture: Fixture) -> None:
    """A read without a limit answers all of a scope of several hundred entries, and all its names."""
    tree = large()
    fixture.plant(tree)
    for place in ((), ("wide",), ("bushy", "b"), ("deep", "down")):
        for scope in Scope:
            values = dict(fixture.store.read(fixture.key(*place), scope))
            require_equal(values, within(tree, place, scope), f"the values at {place!r}, {scope.name} are")
        require_equal(
            fixture.store.names(fixture.key(*place)), names_below(tree, place), f"the names below {place!r} are"
        )


def _same_answers(outcome: Outcome, expected: Outcome, what: str) -> None:
    require_equal([_plain(each) for each in outcome.answers], [_plain(each) for each in expected.answers], what)


def _plain(answer: Entries | Names) -> object:
    return dict(answer.values) if isinstance(answer, Entries) else set(answer.names)
