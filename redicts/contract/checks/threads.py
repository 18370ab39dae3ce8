"""Threads: concurrent transactions are atomic, by one client and by several."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Final

from redicts.contract.check import conformance_check
from redicts.contract.client import Client
from redicts.contract.fixture import Fixture
from redicts.contract.form import entries_of, names_of
from redicts.contract.pauses import PausedCall
from redicts.contract.requirements import require, require_equal
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Equals,
    Path,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
)

_THREADS: Final = 4
_PAUSE_SECS: Final = 0.01
"""Seconds of a pause of a write, for which a fetch may wait."""


@conformance_check()
def adds_of_many_threads_sum_up(fixture: Fixture) -> None:
    """Adds of many threads, by one client and by several, all count, and each returns its own result.

    Four threads Add at the same time, by one client and by two, and compare all results.
    """
    key, adds = fixture.key("d", "count"), 250 if fixture.thorough else 50
    for clients in _one_and_several(fixture):
        fixture.store.apply(Delete(key, Scope.NODE))
        counters: list[int] = []

        def work(client: Client, counters: list[int] = counters) -> None:
            for _ in range(adds):
                counters.extend(client.apply(Add(key, 1)).counters)

        fixture.together([partial(work, client) for client in clients])
        require_equal(fixture.store.value(key), b"%d" % (adds * _THREADS), f"{_THREADS} threads of {adds} Adds count")
        require_equal(sorted(counters), list(range(1, adds * _THREADS + 1)), "the counters that the Adds were told are")


@conformance_check()
def overwrites_of_many_threads_are_there(fixture: Fixture) -> None:
    """What a fast path says that it wrote is there, also while other threads write.

    Four threads overwrite a value and a document of their own, by one client and by two, and read what they wrote.
    """
    rounds = 250 if fixture.thorough else 50

    def work(number: int, client: Client) -> None:
        value, document = fixture.key("value", f"n{number}"), fixture.key("document", f"n{number}")
        documents = fixture.capabilities.documents
        client.apply(Put(value, b""), *([PutDocument(document, b'{"x":0}')] if documents else []))
        for turn in range(rounds):
            text = b"%d" % turn
            if client.overwrite(value, text):
                require_equal(client.value(value), text, "after an overwrite that returns true, the value is")
            if documents and client.overwrite_document(document, b'{"x":%b}' % text):
                read = dict(client.read(document))
                require_equal(read, {("x",): text}, "after an overwrite of a document that returns true, it is")

    for clients in _one_and_several(fixture):
        fixture.together([partial(work, number, client) for number, client in enumerate(clients)])


@conformance_check()
def one_of_many_writers_finds_absence(fixture: Fixture) -> None:
    """Of many threads that write under a condition for absence of one subtree, exactly one succeeds.

    Four threads take one key, and overlapping keys, under the condition that nothing is there.
    """
    paths: Sequence[Path] = (("lock",), ("lock", "a"), ("lock", "a", "b"), ("lock", "c"))
    for clients in _one_and_several(fixture):
        for _ in range(10):
            fixture.renew()
            won: list[int] = []

            def write(number: int, client: Client, same: bool, won: list[int] = won) -> None:
                path = paths[0] if same else paths[number % len(paths)]
                free = Equals(fixture.key("lock"), Scope.SUBTREE, NOTHING)
                if client.run(checks=[free], writes=[Put(fixture.key(*path), b"%d" % number)]).applied:
                    won.append(number)

            for same in (True, False):
                won.clear()
                fixture.store.apply(Delete(fixture.key(), Scope.SUBTREE))
                fixture.together([partial(write, number, client, same) for number, client in enumerate(clients)])
                require_equal(
                    len(won), 1, "the transactions that succeeded, of several that need the same absence, are"
                )
                require_equal(list(fixture.store.read(fixture.key()).values()), [b"%d" % won[0]], "the stored value is")


@conformance_check()
def of_two_transactions_one_sees_the_other(fixture: Fixture) -> None:
    """Of two transactions that each write a value and read the other's, exactly one sees the other's, in any race.

    Four threads each put a name and list all names in one transaction.
    """
    for clients in _one_and_several(fixture):
        for _ in range(25 if fixture.thorough else 5):
            fixture.renew()
            seen: dict[int, set[str]] = {}

            def work(number: int, client: Client, seen: dict[int, set[str]] = seen) -> None:
                put, read = Put(fixture.key("d", f"n{number}"), b"1"), ReadNames(fixture.key("d"))
                seen[number] = set(names_of(client.run(reads=[read], writes=[put]).answers[0]).names)

            fixture.together([partial(work, number, client) for number, client in enumerate(clients)])
            for one, other in itertools.combinations(range(len(clients)), 2):
                found = (f"n{other}" in seen[one]) + (f"n{one}" in seen[other])
                require_equal(found, 1, "of two transactions at once, those that saw the other are")


@conformance_check()
def no_reader_sees_half_a_subtree(fixture: Fixture) -> None:
    """A reader sees one whole version of a subtree that a transaction replaces.

    One thread replaces a subtree, while three others read it, compare it and read it in pages.
    """
    shapes: Sequence[Sequence[Path]] = (
        [("t", "a"), *(("t", "d", f"n{number}") for number in range(12)), ("t", "d", "e", "f")],
        [("t", "a", "b"), *(("t", f"m{number}") for number in range(8)), ("t", "z", "y", "x", "w")],
        [("t",)],
    )
    rounds = 600 if fixture.thorough else 90
    for writer, *readers in _one_and_several(fixture):
        fixture.plant(dict.fromkeys(shapes[0], b"0."))

        def write(writer: Client = writer) -> None:
            for number in range(1, rounds):
                writes = [Put(fixture.key(*path), b"%d." % number) for path in shapes[number % len(shapes)]]
                writer.apply(Delete(fixture.key("t"), Scope.SUBTREE), *writes)

        def whole(reader: Client) -> None:
            answers = reader.ask(Read(fixture.key(), Scope.SUBTREE), ReadNames(fixture.key("t")))
            values, names = entries_of(answers[0]), names_of(answers[1])
            ages = set(values.values.values())
            require_equal(len(ages), 1, f"a subtree replaced as a whole shows values of the ages {ages!r}; ages are")
            expected = set(shapes[int(ages.pop()[:-1]) % len(shapes)])
            require_equal(set(values.values), expected, "a subtree replaced as a whole shows")
            require_equal(
                set(names.names),
                {path[1] for path in expected if len(path) > 1},
                "its names, in the same transaction, are",
            )

        def checked(reader: Client) -> None:
            before = reader.read(fixture.key())
            age = next(iter(before.values()))
            checks = (StartsWith(fixture.key("t"), Scope.SUBTREE, age), Equals(fixture.key(), Scope.SUBTREE, before))
            outcome = reader.run(checks=checks, reads=[Read(fixture.key(), Scope.SUBTREE)])
            answer = entries_of(outcome.answers[0])
            same = dict(answer.values) == dict(before)
            require_equal(
                outcome.applied, same, f"the reads show {'the same' if same else 'another'} subtree; checks for it hold"
            )

        def paged(reader: Client) -> None:
            page = reader.entries(Read(fixture.key(), Scope.SUBTREE, limit=500))
            ages = set(page.values.values())
            one_state = page.cursor is not None or len(ages) == 1
            require(one_state, f"a page without a cursor is one state, but it shows values of the ages {ages!r}")

        kinds = (whole, checked, paged)
        fixture.together([write], [partial(kind, reader) for kind, reader in zip(kinds, readers)])


@conformance_check()
def a_refused_transaction_is_never_seen(fixture: Fixture) -> None:
    """No reader ever sees the writes of a refused transaction.

    One thread writes transactions that are refused at their end, while two others read. Then such a write pauses
    wherever it calls a function, while another thread fetches.
    """
    fixture.plant({("a",): b"1", ("bad",): b"x", ("d", "b"): b"1"})
    tree = {("a",): b"1", ("bad",): b"x", ("d", "b"): b"1"}
    rounds = 800 if fixture.thorough else 120
    writer, *readers = [fixture.store, fixture.store, fixture.client(), fixture.client()]

    def write(rounds: int = rounds) -> None:
        for number in range(rounds):
            new = Put(fixture.key("new", f"{number}"), b"2")
            writes = (
                Put(fixture.key("a"), b"2"),
                new,
                Delete(fixture.key("d"), Scope.SUBTREE),
                Add(fixture.key("bad"), 1),
            )
            require_equal(writer.run(writes=writes).status, Status.NOT_A_COUNTER, "the status")

    def read(reader: Client) -> None:
        require_equal(dict(reader.read(fixture.key())), tree, "while transactions are refused, a reader sees")

    fixture.together([write], [partial(read, reader) for reader in readers])
    with PausedCall(partial(write, 1), writer.backend, fixture.timeout, at_most=_PAUSE_SECS) as paused:
        for point in paused:
            found = readers[0].fetch(fixture.key("a"))
            require(
                found in (b"1", None), f"{point} of a transaction that is refused, another thread fetches {found!r}"
            )
    fixture.expect(tree)


def _one_and_several(fixture: Fixture) -> list[list[Client]]:
    """Return clients for as many threads: all the same one, and two that alternate."""
    other = fixture.client()
    return [[fixture.store] * _THREADS, [fixture.store, other] * (_THREADS // 2)]
