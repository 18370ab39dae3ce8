"""Lost replies: a request that is sent again is applied once, and returns its first outcome."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.fixture import LONG, Fixture
from redicts.contract.form import entries_of, names_of
from redicts.contract.requirements import require, require_equal
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Answer,
    AnyRead,
    Check,
    Delete,
    Entries,
    Equals,
    Expire,
    Notify,
    Outcome,
    Path,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
    Write,
)

_RACES: Final = 4

_REQUESTS: Final = 150
"""How many requests come before one that is late: more than a server might remember that remembers few."""


@conformance_check(needs=[Need.LOST_REPLIES])
def a_lost_add_counts_once(fixture: Fixture) -> None:
    """An Add whose reply is lost counts once and returns its result, alone and among other writes.

    Loses the reply to Adds, alone and among other writes.
    """
    client, key = fixture.lossy(), fixture.key("d", "count")
    for number in range(1, 4):
        fixture.lose_reply()
        require_equal(client.apply(Add(key, 1)).counters, (number,), "the counter of an Add with a lost reply is")
        fixture.expect({("d", "count"): b"%d" % number})
    fixture.lose_reply()
    outcome = client.apply(Put(key, b"10"), Add(key, 1), Add(fixture.key("e"), 5), Add(key, -3))
    require_equal(outcome.counters, (11, 5, 8), "the counters of Adds with a lost reply are")
    fixture.expect({("d", "count"): b"8", ("e",): b"5"})
    require_equal(client.apply(Add(key, 1)).counters, (9,), "the counter of the next Add is")


@conformance_check(needs=[Need.LOST_REPLIES])
def the_first_outcome_is_returned(fixture: Fixture) -> None:
    """If a reply is lost, the outcome is that of the first execution, for every kind of write.

    Loses the reply to a transaction of each kind of write, with conditions and reads, and to one with each kind of
    read.
    """
    client = fixture.lossy()
    tree: dict[Path, bytes] = {("a",): b"5", ("d", "b"): b"6"}
    for number in range(len(_kinds(fixture))):
        fixture.plant(tree)
        writes, after = _kinds(fixture)[number]  # made in the space that was planted
        checks: Sequence[Check] = (
            Equals(fixture.key(), Scope.SUBTREE, tree),
            StartsWith(fixture.key("new"), Scope.NODE, b"!"),
        )
        reads: Sequence[AnyRead] = (Read(fixture.key(), Scope.SUBTREE), ReadNames(fixture.key()))
        fixture.lose_reply()
        outcome = client.run(checks, reads, writes)
        require_equal((outcome.status, outcome.failed_index), (Status.APPLIED, None), "the outcome of a lost write is")
        _answers_are(outcome, tree, {"a", "d"})
        fixture.expect(after)
    _answers_are_repeated(fixture, client)


@conformance_check(needs=[Need.LOST_REPLIES])
def a_lost_refusal_is_returned(fixture: Fixture) -> None:
    """If the reply to a refusal is lost, its status, failed index and answers are returned.

    Loses the reply to transactions whose condition or counter is refused.
    """
    client = fixture.lossy()
    tree = {("a",): b"x", ("d", "b"): b"6"}
    fixture.plant(tree)
    checks = (StartsWith(fixture.key("d"), Scope.SUBTREE, b"6"), Equals(fixture.key("a"), Scope.NODE, NOTHING))
    reads = (Read(fixture.key(), Scope.SUBTREE), ReadNames(fixture.key()))
    fixture.lose_reply()
    outcome = client.run(checks, reads, [Put(fixture.key("a"), b"y")])
    require_equal((outcome.status, outcome.failed_index), (Status.CHECK_FAILED, 1), "the outcome of a lost refusal is")
    _answers_are(outcome, tree, {"a", "d"})
    fixture.lose_reply()
    outcome = client.run((), reads, [Put(fixture.key("new"), b"y"), Add(fixture.key("a"), 1)])
    require_equal((outcome.status, outcome.failed_index), (Status.NOT_A_COUNTER, 1), "the outcome of a lost refusal is")
    _answers_are(outcome, tree, {"a", "d"})
    fixture.expect(tree)
    if fixture.capabilities.documents:
        new = fixture.key("new", "in", "it")
        document = PutDocument(fixture.key("new"), b'{"in":{"it":1,"b":2},"c":3}')
        fixture.lose_reply()
        outcome = client.run(writes=[Put(fixture.key("b"), b"1"), document, Put(new, b"y"), Add(fixture.key("a"), 1)])
        told = outcome.status, outcome.failed_index
        require_equal(told, (Status.NOT_A_COUNTER, 3), "the outcome of a lost refusal is")
        fixture.expect(tree)


@conformance_check(needs=[Need.LOST_REPLIES])
def a_lost_put_overwrites_nobody(fixture: Fixture) -> None:
    """A Put whose reply is lost does not overwrite a value that another client wrote since.

    Loses the reply to a put, and overwrites it by another client as soon as it is there.
    """
    for keep_ttl in (False, True):

        def put(keep_ttl: bool = keep_ttl) -> Write:
            return Put(fixture.key("d", "a"), b"mine", keep_ttl=keep_ttl)

        def meanwhile(other: Client) -> bool:
            check = Equals(fixture.key("d", "a"), Scope.NODE, {(): b"mine"})
            return other.run(checks=[check], writes=[Put(fixture.key("d", "a"), b"theirs")]).applied

        _race(fixture, {}, put, meanwhile, {("d", "a"): b"theirs"})


@conformance_check(needs=[Need.LATE_REQUESTS])
def a_late_request_is_not_applied(fixture: Fixture) -> None:
    """A request that arrives after it was sent again is not applied again, after hundreds of others either.

    Holds a request back until its client has sent it again, and delivers it after 150 others, of the same client and
    of another one.
    """
    client, key = fixture.lossy(), fixture.key("d", "count")
    for number, later in enumerate((client, fixture.store), 1):
        fixture.hold_request()
        try:
            outcome = client.apply(Add(key, 1), Put(fixture.key("a"), b"%d" % number))
            require_equal(outcome.counters, (number,), "the counter of an Add that was sent twice is")
            fixture.store.apply(Put(fixture.key("a"), b"later"))
            for _ in range(_REQUESTS):
                later.apply(Put(fixture.key("b"), b"1"))
        finally:
            fixture.harness.deliver_request()
        fixture.expect({("d", "count"): b"%d" % number, ("a",): b"later", ("b",): b"1"})


def _race(
    fixture: Fixture,
    before: Mapping[Path, bytes],
    make: Callable[[], Write],
    meanwhile: Callable[[Client], bool],
    after: Mapping[Path, bytes],
) -> None:
    """Lose the reply of one write while another client waits for its effect, in order to write something later."""
    client, other = fixture.lossy(), fixture.client()
    for _ in range(_RACES):
        fixture.plant(before)
        fixture.lose_reply()
        deadline = time.monotonic() + fixture.timeout

        def watch(deadline: float = deadline) -> None:
            while not meanwhile(other):
                require(time.monotonic() < deadline, "the effect of a write whose reply was lost was never seen")

        fixture.together([partial(client.apply, make()), watch])
        fixture.expect(after)


def _answers_are_repeated(fixture: Fixture, client: Client) -> None:
    """Lose the reply to a put with reads, one at a time and all of them, and require what they would find before."""
    has_ttls, ttl = fixture.capabilities.ttl, LONG if fixture.capabilities.ttl else None
    fixture.plant({("a",): b"5", ("d", "b"): b"6"})
    fixture.store.apply(Put(fixture.key("d", "e", "c"), b"7", ttl))
    reads: list[AnyRead] = [ReadNames(fixture.key("d"))]
    for path, scope in product((("a",), ("absent",), ("d",), ("d", "e", "c")), (Scope.NODE, Scope.SUBTREE)):
        reads += [Read(fixture.key(*path), scope, ttls=ttls) for ttls in {False, has_ttls}]
    for asked in (*([read] for read in reads), reads):
        expected = fixture.store.ask(*asked)
        fixture.lose_reply()
        answers = client.run((), asked, [Put(fixture.key("a"), b"5", keep_ttl=True)]).answers
        require_equal([_shown(each) for each in answers], [_shown(each) for each in expected], "repeated answers are")


def _shown(answer: Answer) -> object:
    """Return an answer without its order, and of TTLs the paths and whether they are possible."""
    if isinstance(answer, Entries):
        return dict(answer.values), {path: 0 < ttl <= LONG for path, ttl in answer.ttls.items()}
    return set(names_of(answer).names)


def _answers_are(outcome: Outcome, values: Mapping[Path, bytes], names: set[str]) -> None:
    entries, listing = outcome.answers
    require_equal(dict(entries_of(entries).values), dict(values), "the answers of the first execution are")
    require_equal(set(names_of(listing).names), names, "the answers of the first execution are")


def _kinds(fixture: Fixture) -> list[tuple[list[Write], dict[Path, bytes]]]:
    """Return every kind of write, and what it leaves of ``a`` and ``d.b``."""
    put = Put(fixture.key("new"), b"1")
    keep = Put(fixture.key("a"), b"7", keep_ttl=True)
    delete = Delete(fixture.key("d"), Scope.SUBTREE)
    add = Add(fixture.key("a"), 1)
    cases: list[tuple[list[Write], dict[Path, bytes]]] = [
        ([put], {("a",): b"5", ("d", "b"): b"6", ("new",): b"1"}),
        ([keep], {("a",): b"7", ("d", "b"): b"6"}),
        ([delete], {("a",): b"5"}),
        ([add], {("a",): b"6", ("d", "b"): b"6"}),
        ([Notify(fixture.key("d"), Scope.BELOW), add], {("a",): b"6"}),
        ([put, keep, delete, add], {("a",): b"8", ("new",): b"1"}),
        ([], {("a",): b"5", ("d", "b"): b"6"}),
    ]
    if fixture.capabilities.ttl:
        expire = Expire(fixture.key(), Scope.SUBTREE, LONG)
        cases.append(([expire, add], {("a",): b"6", ("d", "b"): b"6"}))
        cases.append(([Put(fixture.key("a"), b"8", LONG), add], {("a",): b"9", ("d", "b"): b"6"}))
    return cases
