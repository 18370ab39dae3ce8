"""Each operation on values, step by step: which transactions it sends, and what it makes of the outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from redicts.codecs.json import codec
from redicts.core import values as values_module
from redicts.core.codec import Codec
from redicts.core.driver import Pause, Steps
from redicts.core.envelope import LeafFormat
from redicts.core.leaves import ABSENT, Packed
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    AnyRead,
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
    Write,
)
from redicts.core.store import TreeStore
from redicts.errors import Conflict, CorruptData, InternalError, LeafError, PathError, Unsupported

FORM = LeafFormat(codec)
NODE, BELOW, SUBTREE = Scope.NODE, Scope.BELOW, Scope.SUBTREE

APPLIED = Outcome(Status.APPLIED)
TOO_LARGE = Outcome(Status.TOO_LARGE)
NO_COUNTER = Outcome(Status.NOT_A_COUNTER, failed_index=0)


def k(*path: str) -> Key:
    """Return the key of a value."""
    return Key("v", path)


def found(
    values: Mapping[Path, bytes] = NOTHING,
    *,
    cursor: bytes | None = None,
    ttls: Mapping[Path, int] = NOTHING,  # type: ignore[assignment]  # both are empty mappings
    status: Status = Status.APPLIED,
) -> Outcome:
    """Return an outcome with one answer."""
    return Outcome(status, (Entries(values, ttls, cursor),), failed_index=0 if status is Status.CHECK_FAILED else None)


def failed(values: Mapping[Path, bytes] = NOTHING, cursor: bytes | None = None) -> Outcome:
    """Return the outcome of a transaction of which a check failed, with one answer."""
    return found(values, cursor=cursor, status=Status.CHECK_FAILED)


def read(*reads: AnyRead) -> Transaction:
    """Return a transaction that only reads."""
    return Transaction((), reads)


def write(*writes: Write) -> Transaction:
    """Return a transaction that only writes."""
    return Transaction((), (), writes)


def play(steps: Steps[Any], outcomes: Iterator[Outcome]) -> tuple[list[Transaction], list[Pause], Any]:
    """Run an operation on outcomes from a script; return its transactions, its pauses and its result."""
    transactions: list[Transaction] = []
    pauses: list[Pause] = []
    try:
        request = next(steps)
        while True:
            if isinstance(request, Pause):
                pauses.append(request)
                request = steps.send(None)
            else:
                assert isinstance(request, Transaction)
                transactions.append(request)
                request = steps.send(next(outcomes))
    except StopIteration as stop:
        return transactions, pauses, stop.value


class Case(NamedTuple):
    """An operation, the outcomes that it meets, the transactions that it must send for them, and its result."""

    operation: Callable[[TreeStore], Steps[Any]]
    outcomes: list[Outcome]
    sends: list[Transaction]
    result: Any = None
    most: int | None = None
    """``atomic_entries`` of the store."""


A, B, AB = ("a",), ("b",), ("a", "b")

READING = {
    "read a leaf": Case(lambda s: s.read(AB), [found({(): b"1"})], [read(Read(k("a", "b"), SUBTREE))], 1),
    "read a dict": Case(
        lambda s: s.read(A),
        [found({B: b"1", ("c", "d"): b"{}"})],
        [read(Read(k("a"), SUBTREE))],
        {"b": 1, "c": {"d": {}}},
    ),
    "read nothing": Case(lambda s: s.read(A), [found()], [read(Read(k("a"), SUBTREE))], ABSENT),
    "read the root": Case(lambda s: s.read(()), [found({A: b"1"})], [read(Read(k(), SUBTREE))], {"a": 1}),
    "read on a store with a limit": Case(
        lambda s: s.read(A), [found({(): b"1"})], [read(Read(k("a"), SUBTREE, 5000))], 1, most=5000
    ),
    "read in pages": Case(
        lambda s: s.read(A),
        [found({B: b"1"}, cursor=b"1"), found(cursor=b"2"), found({("c",): b"2"})],
        [read(Read(k("a"), SUBTREE, 5000, cursor)) for cursor in (None, b"1", b"2")],
        {"b": 1, "c": 2},
        most=5000,
    ),
    "exists": Case(lambda s: s.exists(A), [found({B: b"1"})], [read(Read(k("a"), SUBTREE, 1))], True),
    "exists for a page that is longer": Case(
        lambda s: s.exists(A), [found({B: b"1", ("c",): b"2"}, cursor=b"1")], [read(Read(k("a"), SUBTREE, 1))], True
    ),
    "exists not": Case(lambda s: s.exists(A), [found()], [read(Read(k("a"), SUBTREE, 1))], False),
    "exists after empty pages": Case(
        lambda s: s.exists(A),
        [found(cursor=b"1"), found(cursor=b"2"), found({B: b"1"}, cursor=b"3")],
        [read(Read(k("a"), SUBTREE, 1, cursor)) for cursor in (None, b"1", b"2")],
        True,
    ),
    "exists not after empty pages": Case(
        lambda s: s.exists(A),
        [found(cursor=b"1"), found()],
        [read(Read(k("a"), SUBTREE, 1, cursor)) for cursor in (None, b"1")],
        False,
    ),
    "the TTL of a leaf": Case(
        lambda s: s.ttl(A), [found({(): b"1"}, ttls={(): 5})], [read(Read(k("a"), SUBTREE, ttls=True))], 5
    ),
    "the TTL of a dict": Case(
        lambda s: s.ttl(A),
        [found({B: b"1", ("c",): b"1"}, ttls={B: 5, ("c",): 9})],
        [read(Read(k("a"), SUBTREE, ttls=True))],
        9,
    ),
    "the TTL of what lasts": Case(
        lambda s: s.ttl(A),
        [found({B: b"1", ("c",): b"1"}, ttls={B: 5}, cursor=b"1")],
        [read(Read(k("a"), SUBTREE, 5000, ttls=True))],
        None,
        most=5000,
    ),
    "the TTL of nothing": Case(lambda s: s.ttl(A), [found()], [read(Read(k("a"), SUBTREE, ttls=True))], 0),
    "the TTL over pages": Case(
        lambda s: s.ttl(A),
        [found({B: b"1"}, ttls={B: 9}, cursor=b"1"), found(cursor=b"2"), found({("c",): b"1"}, ttls={("c",): 5})],
        [read(Read(k("a"), SUBTREE, 5000, cursor, ttls=True)) for cursor in (None, b"1", b"2")],
        9,
        most=5000,
    ),
    "names": Case(
        lambda s: s.names(A), [Outcome(Status.APPLIED, (Names(("x", "y")),))], [read(ReadNames(k("a")))], ["x", "y"]
    ),
    "names over pages": Case(
        lambda s: s.names(()),
        [Outcome(Status.APPLIED, (Names(*page),)) for page in ((("x",), b"1"), ((), b"2"), (("y", "x"), None))],
        [read(ReadNames(k(), 5000, cursor)) for cursor in (None, b"1", b"2")],
        ["x", "y"],
        most=5000,
    ),
    "a page of leaves": Case(
        lambda s: s.leaf_page(A, b"1"),
        [found({B: b"1", ("c", "d"): b"1"}, cursor=b"2")],
        [read(Read(k("a"), SUBTREE, 1000, b"1"))],
        ([("a", "b"), ("a", "c", "d")], b"2"),
    ),
}

WRITING = {
    "write a leaf": Case(lambda s: s.write(A, 1), [APPLIED], [write(Delete(k("a"), BELOW), Put(k("a"), b"1"))]),
    "write a leaf with a TTL": Case(
        lambda s: s.write(A, 1, 5), [APPLIED], [write(Delete(k("a"), BELOW), Put(k("a"), b"1", 5))]
    ),
    "write a deep leaf": Case(
        lambda s: s.write(("a", "b", "c"), "x"),
        [APPLIED],
        [
            write(
                Delete(k("a"), NODE),
                Delete(k("a", "b"), NODE),
                Delete(k("a", "b", "c"), BELOW),
                Put(k("a", "b", "c"), b'"x"'),
            )
        ],
    ),
    "write a dict": Case(
        lambda s: s.write(A, {"b": 1, "c": {"d": None}}, 7),
        [APPLIED],
        [write(Delete(k("a"), SUBTREE), Put(k("a", "b"), b"1", 7), Put(k("a", "c", "d"), b"null", 7))],
    ),
    "write an empty dict": Case(
        lambda s: s.write(A, {}), [APPLIED], [write(Delete(k("a"), BELOW), Put(k("a"), b"{}"))]
    ),
    "write a packed dict": Case(
        lambda s: s.write(A, Packed({"b": 1})), [APPLIED], [write(Delete(k("a"), BELOW), Put(k("a"), b'{"b":1}'))]
    ),
    "write the root": Case(
        lambda s: s.write((), {"a": 1}), [APPLIED], [write(Delete(k(), SUBTREE), Put(k("a"), b"1"))]
    ),
    "write the root empty": Case(lambda s: s.write((), {}), [APPLIED], [write(Delete(k(), SUBTREE))]),
    "delete": Case(lambda s: s.delete(AB), [APPLIED], [write(Delete(k("a", "b"), SUBTREE))]),
    "expire": Case(lambda s: s.expire(A, 5), [APPLIED], [write(Expire(k("a"), SUBTREE, 5))]),
    "expire never": Case(lambda s: s.expire(A, None), [APPLIED], [write(Expire(k("a"), SUBTREE, None))]),
    "merge": Case(
        lambda s: s.merge(AB, {"c": 1}, 5),
        [APPLIED],
        [
            write(
                Delete(k("a"), NODE),
                Delete(k("a", "b"), NODE),
                Delete(k("a", "b", "c"), BELOW),
                Put(k("a", "b", "c"), b"1", 5),
            )
        ],
    ),
    "merge at the root": Case(
        lambda s: s.merge((), {"a": {"b": 1}, "c": 2}),
        [APPLIED],
        [
            write(
                Delete(k("a"), NODE),
                Delete(k("a", "b"), BELOW),
                Delete(k("c"), BELOW),
                Put(k("a", "b"), b"1"),
                Put(k("c"), b"2"),
            )
        ],
    ),
    "merge nothing": Case(lambda s: s.merge(A, {}), [], []),
    "merge an empty dict where nothing is": Case(
        lambda s: s.merge((), {"a": {}}),
        [found(), APPLIED],
        [
            read(Read(k("a"), BELOW, 1)),
            Transaction((Equals(k("a"), BELOW, NOTHING),), (), (Delete(k("a"), BELOW), Put(k("a"), b"{}"))),
        ],
    ),
    "merge an empty dict where a dict is": Case(
        lambda s: s.merge((), {"a": {}, "b": 1}),
        [found({("x",): b"1"}), APPLIED],
        [read(Read(k("a"), BELOW, 1)), write(Delete(k("b"), BELOW), Put(k("b"), b"1"))],
    ),
    "merge an empty dict after empty pages": Case(
        lambda s: s.merge((), {"a": {}, "b": 1}),
        [found(cursor=b"1"), found({("x",): b"1"}, cursor=b"2"), APPLIED],
        [
            read(Read(k("a"), BELOW, 1)),
            read(Read(k("a"), BELOW, 1, b"1")),
            write(Delete(k("b"), BELOW), Put(k("b"), b"1")),
        ],
    ),
    "merge an empty dict while others fill it": Case(
        lambda s: s.merge((), {"a": {}, "b": 1}),
        [found(), Outcome(Status.CHECK_FAILED, failed_index=0), found({("x",): b"1"}), APPLIED],
        [
            read(Read(k("a"), BELOW, 1)),
            Transaction(
                (Equals(k("a"), BELOW, NOTHING),),
                (),
                (Delete(k("a"), BELOW), Delete(k("b"), BELOW), Put(k("a"), b"{}"), Put(k("b"), b"1")),
            ),
            read(Read(k("a"), BELOW, 1)),
            write(Delete(k("b"), BELOW), Put(k("b"), b"1")),
        ],
    ),
}

ADD = Transaction((Equals(k("a", "b"), BELOW, NOTHING),), (), (Delete(k("a"), NODE), Add(k("a", "b"), 3)))
READ_AB = read(Read(k("a", "b"), SUBTREE, ttls=True))


def changed(old: Mapping[Path, bytes], *writes: Write, at: Path = AB) -> Transaction:
    """Return the transaction that replaces exactly these leaves."""
    return Transaction((Equals(Key("v", at), SUBTREE, old),), (), writes)


COUNTING = {
    "add": Case(lambda s: s.add(AB, 3), [Outcome(Status.APPLIED, counters=(7,))], [ADD], 7),
    "add to a float": Case(
        lambda s: s.add(AB, 3),
        [NO_COUNTER, found({(): b"1.5"}), APPLIED],
        [ADD, READ_AB, changed({(): b"1.5"}, Delete(k("a"), NODE), Put(k("a", "b"), b"4.5", keep_ttl=True))],
        4.5,
    ),
    "add to what is at the end of 64 bits": Case(
        lambda s: s.add(AB, 3),
        [NO_COUNTER, found({(): str(2**63 - 1).encode()}), APPLIED],
        [
            ADD,
            READ_AB,
            changed(
                {(): str(2**63 - 1).encode()},
                Delete(k("a"), NODE),
                Put(k("a", "b"), str(2**63 + 2).encode(), keep_ttl=True),
            ),
        ],
        2**63 + 2,
    ),
    "add a float": Case(
        lambda s: s.add(AB, 0.5),
        [found(), APPLIED],
        [READ_AB, changed({}, Delete(k("a"), NODE), Put(k("a", "b"), b"0.5"))],
        0.5,
    ),
    "add a large integer": Case(
        lambda s: s.add(AB, 2**63),
        [found({(): b"1"}), APPLIED],
        [
            READ_AB,
            changed({(): b"1"}, Delete(k("a"), NODE), Put(k("a", "b"), str(2**63 + 1).encode(), keep_ttl=True)),
        ],
        2**63 + 1,
    ),
    "add while others change": Case(
        lambda s: s.add(AB, 0.5),
        [found({(): b"1"}), failed(), found({(): b"2"}), APPLIED],
        [
            READ_AB,
            changed({(): b"1"}, Delete(k("a"), NODE), Put(k("a", "b"), b"1.5", keep_ttl=True)),
            READ_AB,
            changed({(): b"2"}, Delete(k("a"), NODE), Put(k("a", "b"), b"2.5", keep_ttl=True)),
        ],
        2.5,
    ),
}

READ_A = read(Read(k("a"), SUBTREE, ttls=True))

CHANGING = {
    "change a leaf": Case(
        lambda s: s.change(A, lambda old: [old]),
        [found({(): b"1"}), APPLIED],
        [READ_A, changed({(): b"1"}, Put(k("a"), b"[1]", keep_ttl=True), at=A)],
        [1],
    ),
    "change nothing into something": Case(
        lambda s: s.change(AB, lambda old: [old is ABSENT]),
        [found(), APPLIED],
        [READ_AB, changed({}, Delete(k("a"), NODE), Put(k("a", "b"), b"[true]"))],
        [True],
    ),
    "change nothing into nothing": Case(
        lambda s: s.change(AB, lambda old: old), [found(), APPLIED], [READ_AB, changed({})], ABSENT
    ),
    "change to the same": Case(
        lambda s: s.change(A, lambda old: old),
        [found({B: b"1", ("c",): b"2"}), APPLIED],
        [READ_A, changed({B: b"1", ("c",): b"2"}, at=A)],
        {"b": 1, "c": 2},
    ),
    "change part of a dict": Case(
        lambda s: s.change(A, lambda old: {"b": old["b"], "c": 3, "e": {"f": 4}}),
        [found({B: b"1", ("c",): b"2", ("d",): b"5"}), APPLIED],
        [
            READ_A,
            changed(
                {B: b"1", ("c",): b"2", ("d",): b"5"},
                Delete(k("a", "d"), NODE),
                Put(k("a", "c"), b"3", keep_ttl=True),
                Put(k("a", "e", "f"), b"4"),
                at=A,
            ),
        ],
        {"b": 1, "c": 3, "e": {"f": 4}},
    ),
    "change a dict into a leaf": Case(
        lambda s: s.change(A, lambda _: Packed({"p": 1})),
        [found({B: b"1"}), APPLIED],
        [READ_A, changed({B: b"1"}, Delete(k("a", "b"), NODE), Put(k("a"), b'{"p":1}'), at=A)],
        {"p": 1},
    ),
    "change a leaf into a dict": Case(
        lambda s: s.change(A, lambda old: {"b": old}),
        [found({(): b"1"}), APPLIED],
        [READ_A, changed({(): b"1"}, Delete(k("a"), NODE), Put(k("a", "b"), b"1"), at=A)],
        {"b": 1},
    ),
    "change into nothing": Case(
        lambda s: s.change(AB, lambda _: ABSENT),
        [found({B: b"1", ("c",): b"2"}), APPLIED],
        [READ_AB, changed({B: b"1", ("c",): b"2"}, Delete(k("a", "b", "b"), NODE), Delete(k("a", "b", "c"), NODE))],
        ABSENT,
    ),
    "change the root into nothing": Case(
        lambda s: s.change((), lambda _: {}),
        [found({A: b"1"}), APPLIED],
        [read(Read(k(), SUBTREE, ttls=True)), changed({A: b"1"}, Delete(k("a"), NODE), at=())],
        {},
    ),
    "change while others do": Case(
        lambda s: s.change(A, lambda old: old + 1),
        [found({(): b"1"}), failed(), found({(): b"5"}), failed(), found({(): b"8"}), APPLIED],
        [
            request
            for data, new in ((b"1", b"2"), (b"5", b"6"), (b"8", b"9"))
            for request in (READ_A, changed({(): data}, Put(k("a"), new, keep_ttl=True), at=A))
        ],
        9,
    ),
    "change of what comes in pages": Case(
        lambda s: s.change(A, lambda old: old["b"] + old["c"]),
        [found({B: b"1"}, cursor=b"1"), found({("c",): b"2"}), APPLIED],
        [
            read(Read(k("a"), SUBTREE, 5000, ttls=True)),
            read(Read(k("a"), SUBTREE, 5000, b"1", ttls=True)),
            changed(
                {B: b"1", ("c",): b"2"},
                Delete(k("a", "b"), NODE),
                Delete(k("a", "c"), NODE),
                Put(k("a"), b"3"),
                at=A,
            ),
        ],
        3,
        most=5000,
    ),
}


def compared(expected: Mapping[Path, bytes], *writes: Write) -> Transaction:
    """Return the transaction that stores if the value at ``a`` has exactly these leaves."""
    return Transaction((Equals(k("a"), SUBTREE, expected),), (Read(k("a"), SUBTREE),), writes)


STORE_2 = (Delete(k("a"), BELOW), Put(k("a"), b"2"))

COMPARING = {
    "compare and set": Case(
        lambda s: s.compare_and_set(A, 1, 2), [found({(): b"1"})], [compared({(): b"1"}, *STORE_2)], True
    ),
    "compare with another value": Case(
        lambda s: s.compare_and_set(A, 1, 2), [failed({(): b"5"})], [compared({(): b"1"}, *STORE_2)], False
    ),
    "compare with nothing": Case(
        lambda s: s.compare_and_set(A, 1, 2), [failed()], [compared({(): b"1"}, *STORE_2)], False
    ),
    "compare nothing with something": Case(
        lambda s: s.compare_and_set(A, ABSENT, 2), [failed({(): b"1"})], [compared({}, *STORE_2)], False
    ),
    "compare equal values of other bytes": Case(
        lambda s: s.compare_and_set(A, 1, 2),
        [failed({(): b"1.0"}), found({(): b"1.0"})],
        [compared({(): b"1"}, *STORE_2), compared({(): b"1.0"}, *STORE_2)],
        True,
    ),
    "compare equal values of other bytes that change": Case(
        lambda s: s.compare_and_set(A, 1, 2),
        [failed({(): b"1.0"}), failed({(): b"3"})],
        [compared({(): b"1"}, *STORE_2), compared({(): b"1.0"}, *STORE_2)],
        False,
    ),
    "compare with a value of many pages": Case(
        lambda s: s.compare_and_set(A, 1, 2),
        [TOO_LARGE, found({B: b"1"}, cursor=b"1"), found({("c",): b"2"})],
        [
            compared({(): b"1"}, *STORE_2),
            read(Read(k("a"), SUBTREE, 5000)),
            read(Read(k("a"), SUBTREE, 5000, b"1")),
        ],
        False,
        most=5000,
    ),
    "compare and remove": Case(
        lambda s: s.compare_and_set(A, {"b": 1}, ABSENT),
        [found({B: b"1"})],
        [compared({B: b"1"}, Delete(k("a"), SUBTREE))],
        True,
    ),
    "compare and set with a TTL": Case(
        lambda s: s.compare_and_set(A, ABSENT, 2, 5),
        [found()],
        [compared({}, Delete(k("a"), BELOW), Put(k("a"), b"2", 5))],
        True,
    ),
}

TAKING = {
    "take": Case(
        lambda s: s.take(AB),
        [found({B: b"1"})],
        [Transaction((), (Read(k("a", "b"), SUBTREE),), (Delete(k("a", "b"), SUBTREE),))],
        {"b": 1},
    ),
    "take nothing": Case(
        lambda s: s.take(A),
        [found()],
        [Transaction((), (Read(k("a"), SUBTREE),), (Delete(k("a"), SUBTREE),))],
        ABSENT,
    ),
    "set a default": Case(
        lambda s: s.set_default(AB, 2, 5),
        [found()],
        [
            Transaction(
                (Equals(k("a", "b"), SUBTREE, NOTHING),),
                (Read(k("a", "b"), SUBTREE),),
                (Delete(k("a"), NODE), Delete(k("a", "b"), BELOW), Put(k("a", "b"), b"2", 5)),
            )
        ],
        2,
    ),
    "set a default over a value": Case(
        lambda s: s.set_default(A, (2,)),
        [failed({B: b"1"})],
        [
            Transaction(
                (Equals(k("a"), SUBTREE, NOTHING),),
                (Read(k("a"), SUBTREE),),
                (Delete(k("a"), BELOW), Put(k("a"), b"[2]")),
            )
        ],
        {"b": 1},
    ),
    "set a default and get what JSON makes of it": Case(
        lambda s: s.set_default(A, (2,)),
        [found()],
        [
            Transaction(
                (Equals(k("a"), SUBTREE, NOTHING),),
                (Read(k("a"), SUBTREE),),
                (Delete(k("a"), BELOW), Put(k("a"), b"[2]")),
            )
        ],
        [2],
    ),
    "set the default of nothing at the root": Case(
        lambda s: s.set_default((), {}),
        [found()],
        [Transaction((Equals(k(), SUBTREE, NOTHING),), (Read(k(), SUBTREE),), (Delete(k(), SUBTREE),))],
        {},
    ),
    "set a default over a value of many pages": Case(
        lambda s: s.set_default(A, 2),
        [TOO_LARGE, found({B: b"1"}, cursor=b"1"), found({("c",): b"2"})],
        [
            Transaction(
                (Equals(k("a"), SUBTREE, NOTHING),),
                (Read(k("a"), SUBTREE),),
                (Delete(k("a"), BELOW), Put(k("a"), b"2")),
            ),
            read(Read(k("a"), SUBTREE, 5000)),
            read(Read(k("a"), SUBTREE, 5000, b"1")),
        ],
        {"b": 1, "c": 2},
        most=5000,
    ),
}

CASES = READING | WRITING | COUNTING | CHANGING | COMPARING | TAKING


@pytest.mark.parametrize("name", CASES)
def test_what_each_operation_sends(name: str) -> None:
    """Each operation sends these transactions and no more, and makes this result of their outcomes."""
    case = CASES[name]
    outcomes = iter(case.outcomes)
    sent, _, result = play(case.operation(TreeStore(FORM, case.most)), outcomes)
    assert sent == case.sends
    assert type(result) is type(case.result)
    assert result == case.result
    assert next(outcomes, None) is None


ONE = [name for name in CASES if len(CASES[name].sends) == 1]


def test_operations_are_one_transaction() -> None:
    """Whatever needs neither pages, nor a second try, nor to see a value before it is written, is one transaction."""
    several = {name for name, case in CASES.items() if len(case.sends) != 1}
    excused = (
        "pages",
        "change",
        "while",
        "other bytes",
        "float",
        "64 bits",
        "large",
        "merge an empty",
        "merge nothing",
    )
    assert [name for name in several if not any(word in name for word in excused)] == []
    assert len(ONE) > 30


@pytest.mark.parametrize(
    "name", ["change while others do", "add while others change", "merge an empty dict while others fill it"]
)
def test_between_two_tries_there_is_a_pause(name: str) -> None:
    """Before an optimistic change is tried again a random time passes, of 50 milliseconds at most."""
    case = CASES[name]
    _, pauses, _ = play(case.operation(TreeStore(FORM, None)), iter(case.outcomes))
    assert len(pauses) == sum(outcome.status is Status.CHECK_FAILED for outcome in case.outcomes)
    assert all(0 <= pause.seconds <= 0.05 for pause in pauses)


def test_pauses_grow_and_differ() -> None:
    """Pauses are random, short at first and longer with every try, so that rivals part."""
    firsts, lasts = [], []
    for _ in range(200):
        case = TreeStore(FORM, None).change(A, lambda old: 1)
        outcomes = iter([found(), failed()] * 9 + [found(), APPLIED])
        _, pauses, _ = play(case, outcomes)
        firsts.append(pauses[0].seconds)
        lasts.append(pauses[-1].seconds)
    assert len(set(firsts)) > 100
    assert max(firsts) < 0.002
    assert max(lasts) > 0.02


@pytest.mark.parametrize(
    "operation",
    [
        lambda s: s.change(A, lambda old: 1),
        lambda s: s.add(A, 0.5),
        lambda s: s.merge((), {"a": {}}),
    ],
)
def test_a_change_gives_up_after_a_thousand_tries(operation: Callable[[TreeStore], Steps[Any]]) -> None:
    """If others are faster a thousand times in a row it is a conflict that names the path, and nothing is written."""

    def interference() -> Iterator[Outcome]:
        while True:
            yield found()
            yield Outcome(Status.CHECK_FAILED, failed_index=0)

    steps = operation(TreeStore(FORM, None))
    with pytest.raises(Conflict, match=r"^(the root|'a') was changed by other clients 1000 times in a row"):
        play(steps, interference())


def test_comparing_gives_up_after_a_thousand_tries() -> None:
    """An equal value whose bytes change all the time is a conflict in the end."""

    def interference() -> Iterator[Outcome]:
        while True:
            yield failed({(): b"1.0"})
            yield failed({(): b"1.00"})

    with pytest.raises(Conflict, match="'a' was changed by other clients 1000 times"):
        play(TreeStore(FORM, None).compare_and_set(A, 1, 2), interference())


# What is too large for one transaction


@pytest.mark.parametrize(
    ("operation", "outcomes"),
    [
        (lambda s: s.change(A, lambda old: {"x": 1}), [found({B: b"1"}), TOO_LARGE]),
        (lambda s: s.compare_and_set(A, {"b": 1}, 2), [TOO_LARGE, found({B: b"1"})]),
        (lambda s: s.compare_and_set(A, ABSENT, 2), [TOO_LARGE, found()]),
        (lambda s: s.set_default(A, 2), [TOO_LARGE, found()]),
        (lambda s: s.merge((), {"a": {}}), [found(), TOO_LARGE]),
    ],
)
def test_what_must_not_be_torn_apart_is_refused(
    operation: Callable[[TreeStore], Steps[Any]], outcomes: list[Outcome]
) -> None:
    """What a store cannot do atomically, and must be, is refused with the path and the store's limit."""
    with pytest.raises(Unsupported, match=r"(the root|'a') has more values .* \(5000\)"):
        play(operation(TreeStore(FORM, 5000)), iter(outcomes))


def refusing(*whole: Write, pages: list[Outcome]) -> Callable[[Transaction], Outcome]:
    """Return a store that says "too large" to these writes and to 1,001 of any kind, and reads these pages."""
    answers = iter(pages)

    def execute(transaction: Transaction) -> Outcome:
        if transaction.reads and not transaction.writes:
            return next(answers)
        large = any(each in whole for each in transaction.writes) or len(transaction.writes) > 1_000
        return TOO_LARGE if large else APPLIED

    return execute


def play_on(steps: Steps[Any], execute: Callable[[Transaction], Outcome]) -> tuple[list[Transaction], Any]:
    """Run an operation on a made-up store; return the transactions that were carried out, and its result."""
    done: list[Transaction] = []
    try:
        request = next(steps)
        while True:
            assert isinstance(request, Transaction)
            outcome = execute(request)
            if outcome.applied and any(request):
                done.append(request)
            request = steps.send(outcome)
    except StopIteration as stop:
        return done, stop.value


def test_a_large_write_goes_step_by_step() -> None:
    """A write that is too large is made a thousand elements at a time, in order, the clearing ones first."""
    value = {f"n{number}": number for number in range(2_500)}
    puts = [Put(k("a", "b", f"n{number}"), str(number).encode(), 9) for number in range(2_500)]
    done, _ = play_on(TreeStore(FORM, 1000).write(AB, value, 9), refusing(pages=[]))
    assert [each for transaction in done for each in transaction.writes] == [
        Delete(k("a"), NODE),
        Delete(k("a", "b"), SUBTREE),
        *puts,
    ]
    assert [len(transaction.writes) for transaction in done] == [1000, 1000, 502]


@pytest.mark.parametrize(
    ("operation", "whole", "one"),
    [
        (lambda s: s.delete(A), Delete(k("a"), SUBTREE), lambda key: Delete(key, NODE)),
        (lambda s: s.expire(A, 7), Expire(k("a"), SUBTREE, 7), lambda key: Expire(key, NODE, 7)),
    ],
)
def test_a_large_scope_goes_page_by_page(
    operation: Callable[[TreeStore], Steps[Any]], whole: Write, one: Callable[[Key], Write]
) -> None:
    """A removal or a TTL of too many values is applied page by page."""
    pages = [
        found({(): b"1"}, cursor=b"1"),
        found(cursor=b"2"),
        found({B: b"1", ("c", "d"): b"1"}),
    ]
    done, _ = play_on(operation(TreeStore(FORM, 1000)), refusing(whole, pages=pages))
    assert done == [
        read(Read(k("a"), SUBTREE, 1000)),
        write(one(k("a"))),
        read(Read(k("a"), SUBTREE, 1000, b"1")),
        read(Read(k("a"), SUBTREE, 1000, b"2")),
        write(one(k("a", "b")), one(k("a", "c", "d"))),
    ]


def test_taking_too_much_reads_and_then_removes() -> None:
    """A value too large to be taken atomically is read in pages and then removed in pages."""
    pages = [found({B: b"1"}, cursor=b"1"), found({("c",): b"2"})]
    whole = Delete(k("a"), SUBTREE)
    done, result = play_on(TreeStore(FORM, 1000).take(A), refusing(whole, pages=pages * 2))
    assert result == {"b": 1, "c": 2}
    assert [bool(each.reads) for each in done] == [True, True, True, False, True, False]
    assert done[3] == write(Delete(k("a", "b"), NODE))
    assert done[5] == write(Delete(k("a", "c"), NODE))


# What is wrong


def test_errors_come_before_any_transaction() -> None:
    """A value is refused before the first request."""
    store = TreeStore(FORM, None)
    wrong: list[tuple[Steps[Any], type[Exception]]] = [
        (store.write(A, {1}), LeafError),
        (store.write((), 1), LeafError),
        (store.write(A, {"": 1}), PathError),
        (store.merge(A, {"b": {1}}), LeafError),
        (store.compare_and_set(A, {1}, 1), LeafError),
        (store.compare_and_set(A, 1, {1}), LeafError),
        (store.set_default(A, {1}), LeafError),
        (store.set_default((), 1), LeafError),
        (store.add((), 1), LeafError),
        (store.add(A, True), LeafError),
        (store.add(A, "1"), LeafError),  # type: ignore[arg-type]
    ]
    for steps, error in wrong:
        with pytest.raises(error):
            next(steps)


@pytest.mark.parametrize("stored", [b'"7"', b"null", b"true", b"[]", b"{}"])
def test_add_to_another_type_writes_nothing(stored: bytes) -> None:
    """The error names the path and the type of the value, after a read and without a write."""
    outcomes = iter([NO_COUNTER, found({(): stored})])
    with pytest.raises(LeafError, match=r"'a\.b' holds a .*, not a number"):
        play(TreeStore(FORM, None).add(AB, 3), outcomes)


def test_add_to_a_dict_writes_nothing() -> None:
    """A dict is no number."""
    outcomes = iter([Outcome(Status.CHECK_FAILED, failed_index=0), found({B: b"1"})])
    with pytest.raises(LeafError, match=r"'a\.b' holds a dict"):
        play(TreeStore(FORM, None).add(AB, 3), outcomes)


def test_a_function_that_raises_ends_the_change() -> None:
    """Nothing is sent after the function has raised."""

    def fail(_: object) -> object:
        raise LookupError

    outcomes = iter([found({(): b"1"})])
    with pytest.raises(LookupError):
        play(TreeStore(FORM, None).change(A, fail), outcomes)
    assert next(outcomes, None) is None


def test_answers_of_the_wrong_kind_are_the_stores_fault() -> None:
    """A store that answers names to a read of values, or the other way round, has broken the contract."""
    with pytest.raises(InternalError, match="Names"):
        play(TreeStore(FORM, None).read(A), iter([Outcome(Status.APPLIED, (Names(("x",)),))]))
    with pytest.raises(InternalError, match="Entries"):
        play(TreeStore(FORM, None).names(A), iter([found()]))


def test_damage_names_the_path() -> None:
    """What cannot be decoded is damage at its path, in every operation that reads."""
    store = TreeStore(FORM, None)
    for steps, outcome in (
        (store.read(A), found({B: b"{"})),
        (store.change(A, lambda old: old), found({B: b"{"})),
        (store.take(A), found({B: b"{"})),
        (store.set_default(A, 1), failed({B: b"{"})),
        (store.compare_and_set(A, 1, 2), failed({B: b"{"})),
    ):
        with pytest.raises(CorruptData, match=r"'a\.b'"):
            play(steps, iter([outcome]))


# Changes of a transaction


def test_changes_are_one_transaction() -> None:
    """Whatever a transaction collects is sent as one, checks apart from writes, each in its order."""
    store = TreeStore(FORM, None)
    changes = store.begin()
    changes.expect(AB, {"c": 1})
    changes.write(AB, 2, 5)
    changes.expect(("a", "x"), ABSENT)
    changes.delete(("a", "c"))
    changes.expire(("a", "d"), 7)
    changes.expire(A, None)
    changes.write(A, {"e": {}}, None)
    sent, _, _ = play(store.commit(changes), iter([APPLIED]))
    assert sent == [
        Transaction(
            (Equals(k("a", "b"), SUBTREE, {("c",): b"1"}), Equals(k("a", "x"), SUBTREE, NOTHING)),
            (),
            (
                Delete(k("a"), NODE),
                Delete(k("a", "b"), BELOW),
                Put(k("a", "b"), b"2", 5),
                Delete(k("a", "c"), SUBTREE),
                Expire(k("a", "d"), SUBTREE, 7),
                Expire(k("a"), SUBTREE, None),
                Delete(k("a"), SUBTREE),
                Put(k("a", "e"), b"{}"),
            ),
        )
    ]


def test_the_counters_of_a_transaction_clear_their_way() -> None:
    """An amount is added after the leaves above it are removed, if no dict is at its path."""
    store = TreeStore(FORM, None)
    changes = store.begin()
    changes.add(("a", "b", "n"), 3)
    changes.add(("a", "b", "n"), -(2**63))
    (sent,), _, _ = play(store.commit(changes), iter([Outcome(Status.APPLIED, counters=(3, 3 - 2**63))]))
    adds = [each for each in sent.writes if isinstance(each, Add)]
    assert adds == [Add(k("a", "b", "n"), 3), Add(k("a", "b", "n"), -(2**63))]
    assert list(sent.writes[:3]) == [Delete(k("a"), NODE), Delete(k("a", "b"), NODE), adds[0]]
    assert set(map(repr, sent.checks)) == {repr(Equals(k("a", "b", "n"), BELOW, NOTHING))}


@pytest.mark.parametrize(
    "clear",
    [
        lambda changes: changes.delete(AB),
        lambda changes: changes.delete(A),
        lambda changes: changes.delete(()),
        lambda changes: changes.write(AB, 5, None),
        lambda changes: changes.write(A, 5, None),
        lambda changes: changes.write(A, {"other": 5}, None),
        lambda changes: changes.write(AB, {}, None),
    ],
)
def test_where_a_transaction_has_cleared_it_demands_nothing(clear: Callable[[Any], None]) -> None:
    """What the transaction itself has removed before need not be absent from the store."""
    changes = TreeStore(FORM, None).begin()
    clear(changes)
    changes.add(AB, 1)
    assert changes.checks == []


def test_a_transaction_adds_to_no_dict_of_its_own() -> None:
    """A path that the transaction has made a dict cannot be added to."""
    for path in (("a", "b", "c"), ("a", "b", "c", "d")):
        changes = TreeStore(FORM, None).begin()
        changes.write(path, 1, None)
        with pytest.raises(LeafError, match=r"'a\.b' becomes a dict"):
            changes.add(AB, 1)


def test_what_becomes_of_a_transaction() -> None:
    """A failed check is a conflict, a failed sum a wrong leaf, both by path; too much is unsupported."""
    store = TreeStore(FORM, 1000)
    changes = store.begin()
    changes.expect(("a", "x"), 1)
    changes.expect(("a", "y"), 1)
    changes.write(("a", "z"), 1, None)
    changes.add(("a", "n"), 1)
    index = next(index for index, each in enumerate(changes.writes) if isinstance(each, Add))
    with pytest.raises(Conflict, match=r"'a\.y' does not have the expected value"):
        play(store.commit(changes), iter([Outcome(Status.CHECK_FAILED, failed_index=1)]))
    with pytest.raises(LeafError, match=r"'a\.n' holds a dict"):
        play(store.commit(changes), iter([Outcome(Status.CHECK_FAILED, failed_index=2)]))
    with pytest.raises(LeafError, match=r"'a\.n' holds no 64-bit integer"):
        play(store.commit(changes), iter([Outcome(Status.NOT_A_COUNTER, failed_index=index)]))
    with pytest.raises(Unsupported, match="1000"):
        play(store.commit(changes), iter([TOO_LARGE]))


@pytest.mark.parametrize("amount", [True, 0.5, "1", None, 2**63, -(2**63) - 1])
def test_what_a_transaction_cannot_add(amount: Any) -> None:
    """A transaction adds integers of 64 bits."""
    changes = TreeStore(FORM, None).begin()
    with pytest.raises(LeafError, match=r"'a\.n'.*64-bit integer"):
        changes.add(("a", "n"), amount)
    with pytest.raises(LeafError, match="root"):
        changes.add((), 1)
    assert (changes.checks, changes.writes) == ([], [])


# Other codecs


class Boxed(Codec):
    """A codec of which equal values may have other bytes."""

    @property
    def name(self) -> str:
        return "boxed"

    def encode(self, value: object, path: Path, /) -> bytes:
        return b"box:" + codec.encode(value)

    def decode(self, data: bytes, path: Path, /) -> object:
        return codec.decode(data[4:])


BOXED = LeafFormat(Boxed(), [codec])


def test_integers_are_counted_by_the_store_in_every_codec() -> None:
    """Whatever codec writes, a 64-bit integer is plain text, so that ``add`` after ``set`` is one transaction."""
    store = TreeStore(BOXED, None)
    (sent,), _, _ = play(store.write(A, 5), iter([APPLIED]))
    assert sent.writes[-1] == Put(k("a"), b"5")
    adding, _, result = play(store.add(A, 2), iter([Outcome(Status.APPLIED, counters=(7,))]))
    assert result == 7
    assert [Add(k("a"), 2)] == list(adding[0].writes)


def test_other_numbers_are_counted_optimistically_in_every_codec() -> None:
    """A float is in the codec's envelope, so ``add`` reads it and writes the sum."""
    old, new = b"\x04boxed 7\nbox:5.5", b"\x04boxed 7\nbox:7.5"
    sent, _, result = play(TreeStore(BOXED, None).add(A, 2.0), iter([found({(): old}), APPLIED]))
    assert result == 7.5
    assert sent == [READ_A, changed({(): old}, Put(k("a"), new, keep_ttl=True), at=A)]


def test_the_time_of_the_function_counts() -> None:
    """The TTL of a new leaf ends when the longest that there was ends, however long the function takes."""
    seconds = iter([100.0, 102.5])
    tree = TreeStore(LeafFormat(codec), None, clock=lambda: next(seconds))
    steps = tree.change(A, lambda _: [1, 2])
    next(steps)
    sent = steps.send(Outcome(Status.APPLIED, (Entries({B: b"1", ("c",): b"2"}, {B: 4_000, ("c",): 10_000}),)))
    assert isinstance(sent, Transaction)
    assert sent.writes[-1] == Put(k("a"), b"[1,2]", 7_500)


def test_an_empty_dict_is_known_in_every_codec() -> None:
    """Merging recognises empty dicts by their bytes, which do not depend on the codec."""
    sent, _, _ = play(TreeStore(BOXED, None).merge((), {"a": {}}), iter([found({B: b"1"}), APPLIED]))
    assert sent[0] == read(Read(k("a"), BELOW, 1))


def test_what_may_have_other_bytes_is_not_expected() -> None:
    """A transaction compares bytes, so it refuses to expect what may be stored as others; numbers may not."""
    changes = TreeStore(BOXED, None).begin()
    with pytest.raises(Unsupported, match=r"codec boxed.*'a'.*compare_and_set"):
        changes.expect(A, "text")
    changes.expect(A, 5)
    assert changes.checks == [Equals(k("a"), SUBTREE, {(): b"5"})]


def test_values_with_other_bytes_are_compared_and_set() -> None:
    """``compare_and_set`` compares values: it takes other bytes of an equal value, and refuses those of another one."""
    equal, other = b"\x04boxed 8\nbox:[1 ]", b"\x04boxed 7\nbox:[2]"
    refused = Outcome(Status.CHECK_FAILED, found({(): equal}).answers, failed_index=0)
    sent, _, result = play(TreeStore(BOXED, None).compare_and_set(A, [1], 2), iter([refused, APPLIED]))
    assert result is True
    assert sent[1].checks == (Equals(k("a"), SUBTREE, {(): equal}),)
    refused = Outcome(Status.CHECK_FAILED, found({(): other}).answers, failed_index=0)
    _, _, result = play(TreeStore(BOXED, None).compare_and_set(A, [1], 2), iter([refused]))
    assert result is False


def test_the_limits_are_those_documented() -> None:
    """A step holds as many values as every store takes at once, and a change is tried a thousand times."""
    assert values_module._STEP == 1_000
    assert values_module._ATTEMPTS == 1_000
