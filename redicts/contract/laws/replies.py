"""Lost replies: a request that is sent again because its reply was lost is applied once, with the first outcome."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from redicts.contract.bench import LONG, Bench
from redicts.contract.client import Client
from redicts.contract.form import entries_of, names_of
from redicts.contract.law import Need, law, require, require_equal
from redicts.contract.listening import fresh_name, list_at, require_woken
from redicts.core.transaction import (
    NOTHING,
    Add,
    AnyRead,
    Check,
    Delete,
    Exactly,
    Expire,
    Outcome,
    Path,
    Prefixed,
    Put,
    Read,
    ReadNames,
    Scope,
    Verdict,
    Wake,
    Write,
)

_RACES: Final = 4


@law(needs=[Need.LOST_REPLIES])
def a_lost_add_counts_once(bench: Bench) -> None:
    """An Add whose reply is lost counts once, and tells the sum it made; so does one in the middle of other writes."""
    client, key = bench.lossy(), bench.key("d", "count")
    for number in range(1, 4):
        bench.lose_reply()
        require_equal(client.apply(Add(key, 1)).sums, (number,), "the sum of an Add with a lost reply is")
        bench.expect({("d", "count"): b"%d" % number})
    bench.lose_reply()
    outcome = client.apply(Put(key, b"10"), Add(key, 1), Add(bench.key("e"), 5), Add(key, -3))
    require_equal(outcome.sums, (11, 5, 8), "the sums of Adds with a lost reply are")
    bench.expect({("d", "count"): b"8", ("e",): b"5"})
    require_equal(client.apply(Add(key, 1)).sums, (9,), "the sum of the next Add is")


@law(needs=[Need.LOST_REPLIES])
def a_lost_claim_succeeds(bench: Bench) -> None:
    """A write under the check that nothing is there is APPLIED although its reply is lost: it never meets itself."""
    client = bench.lossy()
    for path in (("a",), ("d", "a"), ("d", "e", "f")):
        key = bench.key(*path)
        bench.lose_reply()
        outcome = client.run(checks=[Exactly(key, Scope.SUBTREE, NOTHING)], writes=[Put(key, b"mine")])
        require_equal(
            (outcome.verdict, outcome.culprit), (Verdict.APPLIED, None), "the outcome of a claim with a lost reply is"
        )
    bench.expect({("a",): b"mine", ("d", "a"): b"mine", ("d", "e", "f"): b"mine"})


@law(needs=[Need.LOST_REPLIES])
def the_first_outcome_is_told(bench: Bench) -> None:
    """For every kind of write, alone, under checks and beside reads, the outcome is that of the first execution."""
    client = bench.lossy()
    tree: dict[Path, bytes] = {("a",): b"5", ("d", "b"): b"6"}
    for number in range(len(_kinds(bench))):
        bench.plant(tree)
        writes, after = _kinds(bench)[number]  # made in the space that was planted
        checks: Sequence[Check] = (
            Exactly(bench.key(), Scope.SUBTREE, tree),
            Prefixed(bench.key("new"), Scope.NODE, b"!"),
        )
        reads: Sequence[AnyRead] = (Read(bench.key(), Scope.SUBTREE), ReadNames(bench.key()))
        bench.lose_reply()
        outcome = client.run(checks, reads, writes)
        require_equal((outcome.verdict, outcome.culprit), (Verdict.APPLIED, None), "the outcome of a lost write is")
        _answers_are(outcome, tree, {"a", "d"})
        bench.expect(after)


@law(needs=[Need.LOST_REPLIES])
def a_lost_refusal_is_told(bench: Bench) -> None:
    """A failed check and a refused counter are told although the reply was lost, with their culprit and answers."""
    client = bench.lossy()
    tree = {("a",): b"x", ("d", "b"): b"6"}
    bench.plant(tree)
    checks = (Prefixed(bench.key("d"), Scope.SUBTREE, b"6"), Exactly(bench.key("a"), Scope.NODE, NOTHING))
    reads = (Read(bench.key(), Scope.SUBTREE), ReadNames(bench.key()))
    bench.lose_reply()
    outcome = client.run(checks, reads, [Put(bench.key("a"), b"y")])
    require_equal((outcome.verdict, outcome.culprit), (Verdict.CHECK_FAILED, 1), "the outcome of a lost refusal is")
    _answers_are(outcome, tree, {"a", "d"})
    bench.lose_reply()
    outcome = client.run((), reads, [Put(bench.key("new"), b"y"), Add(bench.key("a"), 1)])
    require_equal((outcome.verdict, outcome.culprit), (Verdict.NOT_A_COUNTER, 1), "the outcome of a lost refusal is")
    _answers_are(outcome, tree, {"a", "d"})
    bench.expect(tree)


@law(needs=[Need.LOST_REPLIES])
def a_lost_read_is_answered(bench: Bench) -> None:
    """A read whose reply is lost is answered, a large one too."""
    client = bench.lossy()
    tree: dict[Path, bytes] = {("d", f"n{number}"): b"x" * 50 for number in range(500)}
    bench.plant(tree)
    bench.lose_reply()
    require_equal(dict(client.read(bench.key())), tree, "a read with a lost reply answers")
    bench.lose_reply()
    require_equal(client.names(bench.key()), {"d"}, "a listing with a lost reply answers")
    bench.lose_reply()
    require(
        client.holds(Exactly(bench.key("d", "n1"), Scope.SUBTREE, {(): b"x" * 50})), "a check with a lost reply fails"
    )


@law(needs=[Need.LOST_REPLIES])
def a_lost_put_overwrites_nobody(bench: Bench) -> None:
    """A Put whose reply was lost is not put again over what another client put there in the meantime."""
    for keep_life in (False, True):

        def put(keep_life: bool = keep_life) -> Write:
            return Put(bench.key("d", "a"), b"mine", keep_life=keep_life)

        def meanwhile(other: Client) -> bool:
            check = Exactly(bench.key("d", "a"), Scope.NODE, {(): b"mine"})
            return other.run(checks=[check], writes=[Put(bench.key("d", "a"), b"theirs")]).applied

        _race(bench, {}, put, meanwhile, {("d", "a"): b"theirs"})


@law(needs=[Need.LOST_REPLIES])
def a_lost_delete_removes_nothing_new(bench: Bench) -> None:
    """A Delete whose reply was lost does not remove what another client put there in the meantime."""
    for scope in (Scope.NODE, Scope.SUBTREE):

        def delete(scope: Scope = scope) -> Write:
            return Delete(bench.key("d", "a"), scope)

        def meanwhile(other: Client) -> bool:
            check = Exactly(bench.key("d", "a"), Scope.NODE, NOTHING)
            return other.run(checks=[check], writes=[Put(bench.key("d", "a"), b"theirs")]).applied

        _race(bench, {("d", "a"): b"old"}, delete, meanwhile, {("d", "a"): b"theirs"})


@law(needs=[Need.LOST_REPLIES])
def a_lost_wake_wakes(bench: Bench) -> None:
    """A Wake whose reply was lost wakes whoever is listed, and clears the list."""
    client, other = bench.lossy(), bench.client()
    for scope, path in ((Scope.NODE, ()), (Scope.SUBTREE, ("a", "b"))):
        name = fresh_name()
        with other.listen(name) as listener:
            list_at(other, bench.key("list", *path), name)
            bench.lose_reply()
            client.apply(Wake(bench.key("list"), scope))
            require_woken(listener, bench.patience, "a listener called by a Wake whose reply was lost")
        bench.expect({})


@law(needs=[Need.LOST_REPLIES])
def a_lost_wake_clears_nothing_new(bench: Bench) -> None:
    """A Wake whose reply was lost does not clear what another client listed in the meantime."""
    for scope in (Scope.NODE, Scope.SUBTREE):

        def wake(scope: Scope = scope) -> Write:
            return Wake(bench.key("list", "a"), scope)

        def meanwhile(other: Client) -> bool:
            check = Exactly(bench.key("list", "a"), Scope.NODE, NOTHING)
            return other.run(checks=[check], writes=[Put(bench.key("list", "a"), b"new/1")]).applied

        _race(bench, {("list", "a"): b"old/1"}, wake, meanwhile, {("list", "a"): b"new/1"})


@law(needs=[Need.LOST_REPLIES, Need.LIFE])
def a_lost_expire_changes_no_later_life(bench: Bench) -> None:
    """An Expire, or a Put with a life, whose reply was lost does not change the life that another client gave since."""
    makers: Sequence[Callable[[], Write]] = (
        lambda: Expire(bench.key("d"), Scope.SUBTREE, LONG),
        lambda: Put(bench.key("d", "a"), b"old", LONG),
    )
    for make in makers:

        def meanwhile(other: Client) -> bool:
            if not other.lives(bench.key("d", "a")):
                return False
            other.apply(Expire(bench.key("d", "a"), Scope.NODE, None))
            return True

        _race(bench, {("d", "a"): b"old"}, make, meanwhile, {("d", "a"): b"old"})
        require_equal(
            dict(bench.store.lives(bench.key())), {}, "after another client made the value lasting, lives are"
        )


@law(needs=[Need.LATE_REQUESTS])
def a_late_request_is_not_applied(bench: Bench) -> None:
    """A request that arrives after it was sent again, because its sender gave up waiting, is not applied again."""
    client, key = bench.lossy(), bench.key("d", "count")
    for number in range(1, 3):
        bench.hold_request()
        try:
            outcome = client.apply(Add(key, 1), Put(bench.key("a"), b"%d" % number))
            require_equal(outcome.sums, (number,), "the sum of an Add that was sent twice is")
            bench.store.apply(Put(bench.key("a"), b"later"))
        finally:
            bench.harness.deliver_request()
        bench.expect({("d", "count"): b"%d" % number, ("a",): b"later"})


def _race(
    bench: Bench,
    before: Mapping[Path, bytes],
    make: Callable[[], Write],
    meanwhile: Callable[[Client], bool],
    after: Mapping[Path, bytes],
) -> None:
    """Lose the reply of one write while another client waits for its effect, in order to write something later."""
    client, other = bench.lossy(), bench.client()
    for _ in range(_RACES):
        bench.plant(before)
        bench.lose_reply()
        deadline = time.monotonic() + bench.patience

        def watch(deadline: float = deadline) -> None:
            while not meanwhile(other):
                require(time.monotonic() < deadline, "the effect of a write whose reply was lost was never seen")

        bench.together([partial(client.apply, make()), watch])
        bench.expect(after)


def _answers_are(outcome: Outcome, values: Mapping[Path, bytes], names: set[str]) -> None:
    entries, listing = outcome.answers
    require_equal(dict(entries_of(entries).values), dict(values), "the answers of the first execution are")
    require_equal(set(names_of(listing).names), names, "the answers of the first execution are")


def _kinds(bench: Bench) -> list[tuple[list[Write], dict[Path, bytes]]]:
    """Return every kind of write, and what it leaves of ``a`` and ``d.b``."""
    put = Put(bench.key("new"), b"1")
    keep = Put(bench.key("a"), b"7", keep_life=True)
    delete = Delete(bench.key("d"), Scope.SUBTREE)
    add = Add(bench.key("a"), 1)
    cases: list[tuple[list[Write], dict[Path, bytes]]] = [
        ([put], {("a",): b"5", ("d", "b"): b"6", ("new",): b"1"}),
        ([keep], {("a",): b"7", ("d", "b"): b"6"}),
        ([delete], {("a",): b"5"}),
        ([add], {("a",): b"6", ("d", "b"): b"6"}),
        ([Wake(bench.key("d"), Scope.BELOW), add], {("a",): b"6"}),
        ([put, keep, delete, add], {("a",): b"8", ("new",): b"1"}),
        ([], {("a",): b"5", ("d", "b"): b"6"}),
    ]
    if bench.capabilities.life:
        expire = Expire(bench.key(), Scope.SUBTREE, LONG)
        cases.append(([expire, add], {("a",): b"6", ("d", "b"): b"6"}))
        cases.append(([Put(bench.key("a"), b"8", LONG), add], {("a",): b"9", ("d", "b"): b"6"}))
    return cases
