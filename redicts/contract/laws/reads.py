"""Answers: what they hold, which state they show, and that they always come."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

from redicts.contract.bench import Bench
from redicts.contract.hostile import HOSTILE_VALUES
from redicts.contract.law import law, require_equal
from redicts.contract.trees import PLACES, TREE, large, names_below, scopes, within
from redicts.core.transaction import (
    NOTHING,
    Add,
    AnyRead,
    Delete,
    Entries,
    Exactly,
    Names,
    Outcome,
    Path,
    Prefixed,
    Put,
    Read,
    ReadNames,
    Scope,
    Verdict,
)


@law()
def a_read_answers_its_scope(bench: Bench) -> None:
    """A read returns the values of its scope by relative path: at the root, at inner nodes, leaves and absent keys."""
    bench.plant(TREE)
    for place, scope in scopes():
        values = bench.store.read(bench.key(*place), scope)
        require_equal(dict(values), within(TREE, place, scope), f"the values at {place!r}, {scope.name} are")


@law()
def what_is_fetched_is_there(bench: Bench) -> None:
    """What fetch returns is the value at exactly the key, also after others wrote; for all without one it is None."""
    other = bench.client()
    bench.plant(TREE)
    for place in PLACES:
        _fetch(bench, place, TREE.get(place))
    _fetch(bench, (), None)
    for number in range(3):
        other.apply(*bench.puts(dict.fromkeys(TREE, b"%d" % number)))
        for path in TREE:
            _fetch(bench, path, b"%d" % number)
    other.apply(Delete(bench.key(), Scope.SUBTREE))
    for path in TREE:
        _fetch(bench, path, None)
    for value in HOSTILE_VALUES:
        other.apply(Put(bench.key("value"), value))
        _fetch(bench, ("value",), value)


def _fetch(bench: Bench, path: Path, there: bytes | None) -> None:
    """Fetch, and insist on what is there, or on ``None``, which says nothing."""
    found = bench.store.fetch(bench.key(*path))
    if found is not None:
        require_equal(found, there, f"what is fetched at {path!r} is")


@law()
def names_are_those_directly_below(bench: Bench) -> None:
    """The names of a key are the first segments of all values below it, each once; leaves and absent keys have none."""
    bench.plant(TREE)
    for place in PLACES:
        require_equal(bench.store.names(bench.key(*place)), names_below(TREE, place), f"the names below {place!r} are")


@law()
def an_empty_space_answers_nothing(bench: Bench) -> None:
    """In a space that nobody has written to, every scope is empty and there are no names."""
    for place, scope in scopes():
        require_equal(
            dict(bench.store.read(bench.key(*place), scope)), {}, f"the values at {place!r}, {scope.name} are"
        )
        require_equal(bench.store.names(bench.key(*place)), set(), f"the names below {place!r} are")


@law()
def values_come_back_as_they_were(bench: Bench) -> None:
    """Every value comes back byte for byte, the empty one included, alone and among others."""
    bench.plant({("dict", f"n{number}"): value for number, value in enumerate(HOSTILE_VALUES)})
    expected = {(f"n{number}",): value for number, value in enumerate(HOSTILE_VALUES)}
    found = bench.store.read(bench.key("dict"), Scope.BELOW)
    for number, value in enumerate(HOSTILE_VALUES):
        name = f"n{number}"
        require_equal(found.get((name,)), value, "among others, a value comes back as")
        require_equal(bench.store.value(bench.key("dict", name)), value, "a single value comes back as")
        holds = bench.store.holds(Exactly(bench.key("dict", name), Scope.NODE, {(): value}))
        require_equal(holds, True, f"Exactly {value[:40]!r} holds")
    require_equal(dict(found), expected, "all values come back as")


@law()
def any_value_comes_back(bench: Bench) -> None:
    """Whatever bytes the harness draws come back as they were, and replace each other."""
    key = bench.key("a", "b")

    def round_trips(value: bytes) -> None:
        bench.store.apply(Put(key, value))
        require_equal(bench.store.value(key), value, "the value comes back as")

    bench.for_all(bench.harness.values(), 300 if bench.thorough else 40, round_trips)


@law()
def a_megabyte_comes_back(bench: Bench) -> None:
    """A value of one mebibyte is stored and comes back."""
    value = bytes(range(256)) * 4096
    bench.plant({("a",): value})
    require_equal(bench.store.value(bench.key("a")), value, "a mebibyte comes back as")


@law()
def answers_come_in_the_order_of_reads(bench: Bench) -> None:
    """There is one answer per read, in the order of the reads, also when reads are repeated and overlap."""
    bench.plant(TREE)
    reads: list[AnyRead] = [
        ReadNames(bench.key("inner")),
        Read(bench.key("leaf")),
        Read(bench.key(), Scope.SUBTREE),
        Read(bench.key("absent")),
        Read(bench.key("leaf")),
        ReadNames(bench.key()),
        Read(bench.key("inner"), Scope.BELOW),
    ]
    together = bench.store.run(reads=reads).answers
    for number, read in enumerate(reads):
        alone = bench.store.run(reads=[read]).answers[0]
        require_equal(_plain(together[number]), _plain(alone), f"answer {number} of several, to {read!r}, is")


@law()
def answers_show_the_state_before_the_writes(bench: Bench) -> None:
    """Reads see the state before the writes of their own transaction: values, names and scopes."""
    bench.plant({("a",): b"1", ("dict", "old"): b"2", ("count",): b"5"})
    reads = (Read(bench.key(), Scope.SUBTREE), ReadNames(bench.key("dict")), Read(bench.key("new")))
    before = bench.store.run(reads=reads).answers
    writes = (
        Put(bench.key("a"), b"9"),
        Delete(bench.key("dict"), Scope.SUBTREE),
        Put(bench.key("dict", "new"), b"9"),
        Put(bench.key("new"), b"9"),
        Add(bench.key("count"), 1),
    )
    outcome = bench.store.run(reads=reads, writes=writes)
    require_equal([_plain(each) for each in outcome.answers], [_plain(each) for each in before], "the answers are")
    bench.expect({("a",): b"9", ("dict", "new"): b"9", ("new",): b"9", ("count",): b"6"})


@law()
def answers_come_when_a_check_fails(bench: Bench) -> None:
    """Reads are answered in full although a check failed."""
    bench.plant(TREE)
    reads = (Read(bench.key(), Scope.SUBTREE), ReadNames(bench.key("inner")), Read(bench.key("absent")))
    expected = bench.store.run(reads=reads)
    for check in (Exactly(bench.key("leaf"), Scope.NODE, NOTHING), Prefixed(bench.key(), Scope.SUBTREE, b"x")):
        outcome = bench.store.run(checks=[check], reads=reads, writes=[Put(bench.key("new"), b"")])
        require_equal(outcome.verdict, Verdict.CHECK_FAILED, "the verdict")
        _same_answers(outcome, expected, "the answers when a check fails are")


@law()
def answers_come_when_a_counter_is_refused(bench: Bench) -> None:
    """Reads are answered in full, with the state before the writes, although a counter was refused."""
    bench.plant(TREE)
    reads = (Read(bench.key(), Scope.SUBTREE), ReadNames(bench.key("inner")), Read(bench.key("new")))
    expected = bench.store.run(reads=reads)
    writes = (Put(bench.key("new"), b"x"), Delete(bench.key("inner"), Scope.SUBTREE), Add(bench.key("new"), 1))
    outcome = bench.store.run(reads=reads, writes=writes)
    require_equal(outcome.verdict, Verdict.NOT_A_COUNTER, "the verdict")
    _same_answers(outcome, expected, "the answers when a counter is refused are")


@law()
def an_unlimited_read_is_complete(bench: Bench) -> None:
    """A read without a limit answers all of a scope of several hundred entries, and all its names."""
    tree = large()
    bench.plant(tree)
    for place in ((), ("wide",), ("bushy", "b"), ("deep", "down")):
        for scope in Scope:
            values = dict(bench.store.read(bench.key(*place), scope))
            require_equal(values, within(tree, place, scope), f"the values at {place!r}, {scope.name} are")
        require_equal(bench.store.names(bench.key(*place)), names_below(tree, place), f"the names below {place!r} are")


def _same_answers(outcome: Outcome, expected: Outcome, what: str) -> None:
    require_equal([_plain(each) for each in outcome.answers], [_plain(each) for each in expected.answers], what)


def _plain(answer: Entries | Names) -> object:
    return dict(answer.values) if isinstance(answer, Entries) else set(answer.names)
