"""Notify: it deletes its scope, notifies the listeners in it, and is a write like the others."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.form import entries_of, names_of
from redicts.contract.hostile import HOSTILE_VALUES
from redicts.contract.listening import fresh_name, list_at, require_notified
from redicts.contract.requirements import require_equal
from redicts.contract.trees import TREE, scopes, without
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Equals,
    Notify,
    Path,
    Put,
    Read,
    ReadNames,
    Scope,
    Status,
    Write,
)

_THREADS: Final = 8

_NO_NAMES: Final = (
    *HOSTILE_VALUES,
    b"/",
    b"//",
    b"/1",
    b"client/",
    b"client",
    b"client/1/2",
    b"client/1\x00",
    b"client/-1",
    "cli\u00ebnt/1".encode(),
    b"\xff\xfe/1",
    b"*/1",
    b"client/*",
    b"x" * 10_000,
    b"x" * 5_000 + b"/" + b"1" * 5_000,
)
"""Values that are not the name of a listener."""


@conformance_check()
def a_notify_clears_its_scope(fixture: Fixture) -> None:
    """Notify deletes exactly the values in its scope: at the root, inner nodes, leaves and absent keys.

    Notifies every scope of a tree, alone and after a put, and reads what is left.
    """
    for path, scope in scopes():
        fixture.plant(TREE)
        fixture.store.apply(Notify(fixture.key(*path), scope))
        fixture.expect(without(TREE, path, scope))
        fixture.plant(TREE)
        fixture.store.apply(Put(fixture.key("put"), b"1"), Notify(fixture.key(*path), scope))
        fixture.expect(without({**TREE, ("put",): b"1"}, path, scope))


@conformance_check()
def a_long_list_is_called_to_its_end(fixture: Fixture) -> None:
    """A Notify over a thousand values deletes all of them and notifies each of a hundred listeners among them.

    Notifies a list of a thousand values with a hundred listeners among them.
    """
    names = {number: fresh_name() for number in (*range(0, 999, 9), 999)}
    tree: dict[Path, bytes] = {("list", f"n{number:03}"): b"nobody/%d" % number for number in range(1000)}
    tree.update({("list", f"n{number:03}"): name.encode() for number, name in names.items()})
    fixture.plant({**tree, ("stays",): b"1"})
    with ExitStack() as stack:
        listeners = [stack.enter_context(fixture.store.listen(name)) for name in names.values()]
        fixture.store.apply(Notify(fixture.key("list"), Scope.BELOW))
        for number, listener in zip(names, listeners):
            require_notified(listener, fixture.timeout, f"listener {number} of a thousand")
    fixture.expect({("stays",): b"1"})


@conformance_check()
def what_names_nobody_harms_nobody(fixture: Fixture) -> None:
    """A Notify deletes any value, also one that names no listener, and notifies the listeners.

    Notifies lists of values that look like names of listeners, are cut, hostile or very long, with a listener
    before, among and after them.
    """
    tree: dict[Path, bytes] = {("list", f"n{number}"): value for number, value in enumerate(_NO_NAMES)}
    for path, value in tree.items():
        fixture.plant({path: value})
        fixture.store.apply(Notify(fixture.key("list"), Scope.SUBTREE))
        fixture.expect({})
    for entry in ("a", "n0", "z"):  # before them, among them, after them, in whatever order a store goes
        fixture.plant(tree)
        name = fresh_name()
        with fixture.store.listen(name) as listener:
            list_at(fixture.store, fixture.key("list", entry), name)
            fixture.store.apply(Notify(fixture.key("list"), Scope.BELOW))
            require_notified(listener, fixture.timeout, "a listener listed among values that name nobody")
        fixture.expect({})


@conformance_check(needs=[Need.TTL])
def expired_entries_are_passed_over(fixture: Fixture) -> None:
    """A Notify deletes values with a TTL, ignores expired ones, and notifies the listeners among the rest.

    Notifies a list of expired values with a listener before, among and after them.
    """
    for entry in ("a", "m", "z"):
        fixture.plant({("list", letter): b"client/1" for letter in "bcdwxy"}, SHORT)
        fixture.outlive()
        fixture.store.apply(Notify(fixture.key("list", "b"), Scope.NODE))
        name = fresh_name()
        with fixture.store.listen(name) as listener:
            fixture.store.apply(Put(fixture.key("list", entry), name.encode(), LONG))
            fixture.store.apply(Notify(fixture.key("list"), Scope.SUBTREE))
            require_notified(listener, fixture.timeout, "a listener listed beside expired values")
        fixture.expect({})


@conformance_check()
def a_notify_takes_effect_in_order(fixture: Fixture) -> None:
    """A Notify deletes and notifies what earlier writes of its transaction listed, and nothing later.

    Puts, notifies and puts at one key in one transaction, in each scope.
    """
    key, count = fixture.key("list", "a"), fixture.key("count")
    notifies = (
        Notify(key, Scope.NODE),
        Notify(fixture.key("list"), Scope.BELOW),
        Notify(fixture.key("list"), Scope.SUBTREE),
    )
    for notify in notifies:
        name = fresh_name()
        with fixture.store.listen(name) as listener:
            fixture.store.apply(Put(key, name.encode()), notify)
            require_notified(
                listener, fixture.timeout, "a listener listed in the same transaction as the Notify, before it,"
            )
            fixture.expect({})
            fixture.store.apply(Put(key, b"before"), notify, Put(key, name.encode()))
            fixture.expect({("list", "a"): name.encode()})
            fixture.store.apply(notify)
            require_notified(listener, fixture.timeout, "a listener listed after the Notify of an earlier transaction")
        fixture.store.apply(Put(key, b"5"), notify, Add(key, 1), Put(count, b"1"), notify, Add(count, 1))
        fixture.expect({("count",): b"2"})
        fixture.store.apply(Delete(fixture.key(), Scope.SUBTREE), notify)
        fixture.expect({})


@conformance_check()
def a_refused_transaction_clears_nothing(fixture: Fixture) -> None:
    """A Notify in a transaction that is refused changes nothing, and the list can be notified later.

    Notifies in transactions whose condition or counter is refused, and then in one that is applied.
    """
    name = fresh_name()
    tree = {("list", "a"): name.encode(), ("list", "b"): b"x/1", ("text",): b"x"}
    fixture.plant(tree)
    key, text, notify = fixture.key("list", "a"), fixture.key("text"), Notify(fixture.key("list"), Scope.BELOW)
    refused: Sequence[Sequence[Write]] = (
        [notify],
        [Put(text, b"y"), notify],
        [notify, Put(key, b"y")],
        [Add(text, 1), notify],
    )
    with fixture.store.listen(name) as listener:
        for writes in refused:
            outcome = fixture.store.run(checks=[Equals(text, Scope.NODE, NOTHING)], writes=writes)
            require_equal(outcome.status, Status.CHECK_FAILED, "the status of a Notify under a check that fails")
            fixture.expect(tree)
            outcome = fixture.store.run(writes=[*writes, Add(text, 1)])
            require_equal(outcome.status, Status.NOT_A_COUNTER, "the status of a Notify beside a refused Add")
            fixture.expect(tree)
        fixture.store.apply(notify)
        require_notified(listener, fixture.timeout, "a listener on a list that refused transactions had called")
    fixture.expect({("text",): b"x"})


@conformance_check()
def answers_and_counters_are_those_of_the_others(fixture: Fixture) -> None:
    """A Notify has no answer and no counter, and counts for the failed index.

    Mixes Notify with Add and with reads, and compares the failed index, the counters and the answers.
    """
    fixture.plant({("list", "a"): b"x/1", ("list", "b"): b"7", ("text",): b"x"})
    notify, one, two = Notify(fixture.key("list"), Scope.BELOW), fixture.key("one"), fixture.key("two")
    outcome = fixture.store.run(writes=[notify, Add(one, 5), notify, Add(fixture.key("text"), 1)])
    require_equal(
        (outcome.status, outcome.failed_index), (Status.NOT_A_COUNTER, 3), "the status and the failed index are"
    )
    adds: Sequence[Write] = [Add(one, 5), notify, Add(two, 6), notify, Add(one, 7), notify]
    outcome = fixture.store.run(reads=[Read(notify.key, Scope.BELOW), ReadNames(notify.key)], writes=adds)
    require_equal((outcome.status, outcome.counters), (Status.APPLIED, (5, 6, 12)), "the status and the counters are")
    entries, listing = outcome.answers
    require_equal(dict(entries_of(entries).values), {("a",): b"x/1", ("b",): b"7"}, "before the Notify, the list is")
    require_equal(set(names_of(listing).names), {"a", "b"}, "before the Notify, the names on the list are")
