"""Deadlocks: a cycle of waiting owners is resolved soon, at the cost of at most one request."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from redicts.core.driver import Await
from redicts.core.locks import deadlocks
from redicts.core.locks.acquisition import Grant
from redicts.core.locks.records import HOLDERS, WAITING_FOR, Mode, Owner, Record, Request
from redicts.core.minitransaction import Delete, Entries, Key, Outcome, Path, Put, Scope, Status, Transaction
from redicts.errors import Deadlock, LockTimeout
from tests.core.locks.simulation import TIMING, Actor, S, Simulation, X

A, B, C, AB, AC = ("a",), ("b",), ("c",), ("a", "b"), ("a", "c")

LONG_ENOUGH = TIMING.first_heartbeat + 2 * TIMING.heartbeat
"""Seconds within which a cycle is resolved."""

Wanted = tuple[str, Path, Mode]
"""An owner, a path and a mode."""


class Scenario:
    """Owners that hold locks and then wait for others, one after the other."""

    def __init__(self, holding: Iterable[Wanted], timeout: float | None = None) -> None:
        self.simulation = Simulation()
        self.held: dict[str, list[Request]] = {}
        self.waiting: dict[str, Actor[Grant | None]] = {}
        self.requests: dict[str, Request] = {}
        self.timeout = timeout
        for owner, path, mode in holding:
            self.held.setdefault(owner, []).append(self.simulation.hold(owner, path, mode=mode, own=self.own(owner)))

    def own(self, owner: str) -> list[Request]:
        return self.held.get(owner, [])

    def wait(self, owner: str, *paths: Path, mode: Mode = X) -> Actor[Grant | None]:
        """Let an owner wait for a lock, and advance the clock a little."""
        request = self.requests[owner] = self.simulation.request(owner, *paths, mode=mode)
        actor = self.simulation.start(request, self.timeout, self.own(owner))
        assert not actor.done
        self.waiting[owner] = actor
        self.simulation.advance(0.01)
        return actor

    def pass_time(self) -> None:
        self.simulation.advance(LONG_ENOUGH)

    @property
    def raised(self) -> dict[str, BaseException]:
        """The errors by owner."""
        return {owner: actor.error for owner, actor in self.waiting.items() if actor.error is not None}

    def loser(self) -> Deadlock:
        """Return the only error."""
        (error,) = self.raised.values()
        assert isinstance(error, Deadlock)
        return error

    @property
    def granted(self) -> set[str]:
        return {owner for owner, actor in self.waiting.items() if actor.result is not None}


CIRCLES: dict[str, tuple[list[Wanted], list[Wanted]]] = {
    "two": ([("1", A, X), ("2", B, X)], [("1", B, X), ("2", A, X)]),
    "two, the second one first": ([("2", A, X), ("1", B, X)], [("1", A, X), ("2", B, X)]),
    "three": ([("1", A, X), ("2", B, X), ("3", C, X)], [("1", B, X), ("2", C, X), ("3", A, X)]),
    "three, in another order": ([("1", A, X), ("2", B, X), ("3", C, X)], [("2", C, X), ("1", B, X), ("3", A, X)]),
    "below what is held": ([("1", A, X), ("2", B, X)], [("1", ("b", "x"), X), ("2", ("a", "x", "y"), X)]),
    "above what is held": ([("1", AB, X), ("2", AC, X)], [("1", AC, X), ("2", AB, X)]),
    "the parent of both": ([("1", AB, X), ("2", AC, X)], [("1", A, X), ("2", A, X)]),
    "the root": ([("1", AB, X), ("2", C, X)], [("1", C, X), ("2", (), X)]),
    "readers of what is written": ([("1", A, X), ("2", B, X)], [("1", B, S), ("2", A, S)]),
    "writers of what is read": ([("1", A, S), ("2", B, S)], [("1", B, X), ("2", A, X)]),
    "two readers who want to write": ([("1", A, S), ("2", A, S)], [("1", A, X), ("2", A, X)]),
    "readers who want to write below": ([("1", A, S), ("2", A, S)], [("1", AB, X), ("2", AB, X)]),
    "readers who want to write above": ([("1", AB, S), ("2", AC, S)], [("1", A, X), ("2", A, X)]),
}


@pytest.mark.parametrize("name", CIRCLES)
def test_the_latest_request_of_a_cycle_fails(name: str) -> None:
    """In a cycle of held locks exactly one request gets Deadlock, the latest, and the others are granted."""
    holding, wanting = CIRCLES[name]
    scenario = Scenario(holding)
    for owner, path, mode in wanting:
        scenario.wait(owner, path, mode=mode)
    scenario.pass_time()
    last = wanting[-1][0]
    assert set(scenario.raised) == {last}
    error = str(scenario.loser())
    for owner, path, _ in wanting:
        assert f"host {owner} waits for {'the root' if not path else repr('.'.join(path))}" in error
    for owner, path, _ in holding:
        assert f"'{'.'.join(path)}' by host {owner}" in error
    kept = [(owner, path) for owner, path, _ in holding if owner == last]
    assert set(kept) <= scenario.simulation.holders(), "it keeps its own"
    assert last not in {owner for owner, _ in scenario.simulation.waiters()}
    for request in scenario.held[last]:
        scenario.simulation.release(request)
    others = {owner for owner, *_ in wanting[:-1]}
    while others:
        (owner,) = scenario.granted & others  # one after the other goes on
        for request in [*scenario.held[owner], scenario.requests[owner]]:
            scenario.simulation.release(request)
        others.remove(owner)
    assert set(scenario.simulation.left()) <= {"n"}


def test_a_cycle_is_found_at_the_first_heartbeat_of_the_latest() -> None:
    """Deadlock is raised about a second after the cycle is complete, long before a timeout."""
    scenario = Scenario([("1", A, X), ("2", B, X)], timeout=60)
    scenario.wait("1", B)
    scenario.simulation.advance(10)
    scenario.wait("2", A)
    scenario.simulation.advance(TIMING.first_heartbeat)
    assert "waits for" in str(scenario.loser())


def test_the_latest_request_fails_and_not_the_one_that_searches() -> None:
    """An earlier request that finds the cycle later does not fail."""
    scenario = Scenario([("1", A, X), ("2", B, X)])
    earlier = scenario.simulation.request("2", A)
    scenario.wait("1", B)
    scenario.waiting["2"] = scenario.simulation.start(earlier, None, scenario.own("2"))
    scenario.pass_time()
    assert set(scenario.raised) == {"1"}
    assert scenario.granted == set(), "1 still holds a"


CHAINS: dict[str, tuple[list[Wanted], list[Wanted]]] = {
    "two": ([("1", A, X), ("2", B, X)], [("1", B, X)]),
    "three": ([("1", A, X), ("2", B, X), ("3", C, X)], [("1", B, X), ("2", C, X)]),
    "two for one": ([("1", A, X)], [("2", A, X), ("3", A, X)]),
    "for a parent and a child": ([("1", A, X), ("2", B, X)], [("2", AB, X), ("3", A, X)]),
    "a reader who wants to write": ([("1", A, S), ("2", A, S)], [("1", A, X)]),
    "beside each other": ([("1", AB, X), ("2", ("x", "b"), X)], [("1", ("x",), X)]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_not_a_cycle(name: str) -> None:
    """A waiter whose blocker does not wait for it waits on, however long."""
    holding, wanting = CHAINS[name]
    scenario = Scenario(holding)
    for owner, path, mode in wanting:
        scenario.wait(owner, path, mode=mode)
    scenario.simulation.advance(20)  # less than a lease
    assert not scenario.raised
    assert not scenario.granted
    assert not any(actor.done for actor in scenario.waiting.values())


def test_a_waiter_of_a_soft_cycle_is_passed() -> None:
    """A soft cycle costs no request: a waiter that is blocked by this one anyway is passed."""
    scenario = Scenario([("1", A, X), ("1", C, X), ("3", B, X)])
    scenario.wait("2", A, B)  # waits for 1 and 3
    scenario.held["1"] = scenario.held["1"][1:]  # that 1 holds A is not told, so 2 is on its ticket
    waiting = scenario.wait("1", B, mode=S)
    scenario.pass_time()
    assert not scenario.raised
    assert not waiting.done, "3 holds it"
    scenario.simulation.release(scenario.held["3"][0])
    assert waiting.result is not None
    assert ("2", A) in scenario.simulation.waiters()


def test_a_soft_cycle_of_three_is_resolved() -> None:
    """The waiter may be blocked indirectly: 1 is behind 2, which waits for 3, which waits for 1."""
    scenario = Scenario([("1", A, X), ("3", C, X)])
    scenario.wait("2", B, C)
    scenario.wait("3", A)
    behind = scenario.wait("1", B)
    assert not behind.done
    scenario.pass_time()
    assert behind.result is not None
    assert not scenario.raised
    assert scenario.granted == {"1"}


def test_waiters_outside_a_cycle_are_not_passed() -> None:
    """A waiter is passed only if it is part of a cycle."""
    scenario = Scenario([("1", A, X), ("3", C, X)])
    scenario.wait("2", B, C)
    behind = scenario.wait("1", B)
    scenario.simulation.advance(20)
    assert not behind.done
    assert not scenario.raised
    scenario.simulation.release(scenario.held["3"][0])
    assert scenario.granted == {"2"}


def waits_at(actor: Actor[Grant | None], transactions: int) -> None:
    """Let an actor go on until it has sent so many transactions."""
    while transactions:
        transactions -= isinstance(actor.asked, Transaction)
        actor.step()


@pytest.mark.parametrize("opening", ["release", "expiry", "withdrawal", "another wish"])
def test_a_cycle_that_resolves_meanwhile_raises_nothing(opening: str) -> None:
    """A cycle may resolve between its detection and its confirmation; then no request fails."""
    scenario = Scenario([("1", A, X), ("2", B, X)])
    first = scenario.wait("1", B)
    scenario.simulation.advance(1.5)
    last = scenario.wait("2", A)
    last.stopped = True
    scenario.simulation.clock.advance(TIMING.first_heartbeat)
    scenario.simulation.settle()
    last.stopped = False
    last.step()
    waits_at(last, 2)  # it renews its place, writes down whom it waits for, and reads what that one waits for
    confirming = last.asked
    assert isinstance(confirming, Transaction)
    assert any(check.key.space == "d" for check in confirming.checks)
    assert not confirming.writes
    simulation = scenario.simulation
    if opening == "release":
        simulation.do(simulation.protocol.release(scenario.held["1"][0]))
    elif opening == "expiry":
        simulation.do(simulation.protocol.renew([(scenario.held["1"][0], 1)]))
        simulation.clock.advance(0.001)
    elif opening == "withdrawal":
        first.throw(KeyboardInterrupt())
        while not first.done:
            first.step()
    else:
        edge = Key(WAITING_FOR, ("here.1",))
        simulation.backend.execute(Transaction(writes=(Put(edge, b'[1, "here/9", "something else", []]'),)))
    last.run()
    simulation.settle()
    simulation.advance(1.0)
    assert last.error is None
    if opening in {"release", "expiry"}:
        assert last.result is not None


def test_a_cycle_is_confirmed_in_one_transaction() -> None:
    """If the cycle does not resolve, the same steps end in Deadlock: the test above can fail."""
    scenario = Scenario([("1", A, X), ("2", B, X)])
    scenario.wait("1", B)
    scenario.simulation.advance(1.5)
    last = scenario.wait("2", A)
    last.stopped = True
    scenario.simulation.clock.advance(TIMING.first_heartbeat)
    scenario.simulation.settle()
    last.stopped = False
    last.step()
    waits_at(last, 3)
    while not last.done:
        assert not isinstance(last.asked, Await)
        last.step()
    assert isinstance(last.error, Deadlock)


def test_separate_cycles_cost_one_request_each() -> None:
    """Two cycles without a common owner are resolved separately, each by its latest request."""
    scenario = Scenario([("1", A, X), ("2", B, X), ("3", C, X), ("4", ("d",), X)])
    for owner, path in (("1", B), ("3", ("d",)), ("4", C), ("2", A)):
        scenario.wait(owner, path)
    scenario.pass_time()
    assert set(scenario.raised) == {"2", "4"}


def test_two_cycles_through_one_owner() -> None:
    """The latest request, in two cycles, fails once and resolves both."""
    scenario = Scenario([("1", A, S), ("2", A, S), ("3", B, X)])
    scenario.wait("1", B, mode=S)
    scenario.wait("2", B, mode=S)
    scenario.wait("3", A)
    scenario.pass_time()
    assert set(scenario.raised) == {"3"}


def test_a_timeout_before_the_first_heartbeat_is_a_timeout() -> None:
    """A waiter whose deadline is before the search gets LockTimeout, and the other one its lock."""
    scenario = Scenario([("1", A, X), ("2", B, X)])
    scenario.wait("1", B)
    scenario.timeout = TIMING.first_heartbeat / 2
    scenario.wait("2", A)
    scenario.pass_time()
    assert isinstance(scenario.raised["2"], LockTimeout)
    assert set(scenario.raised) == {"2"}


# What strangers write down

GARBAGE = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe\x00",
    "a number": b"5",
    "null": b"null",
    "a text of four": b'"abcd"',
    "a dict of four": b'{"a": 1, "b": 2, "c": 3, "d": 4}',
    "too short": b"[1, 2, 3]",
    "no links": b'[1, "n", "t", 5]',
    "no time": b'["x", "n", "t", []]',
    "not a number": b'[NaN, "n", "t", []]',
    "infinite": b'[Infinity, "n", "t", []]',
    "a huge float": b'[1e999, "n", "t", []]',
    "a huge integer": b"[" + b"1" * 5_000 + b', "n", "t", []]',
    "deep": b"[" * 100_000,
    "links of other things": b'[1, "n", "t", [1, null, "abcd", {"a": 1}, [1, 2, 3, 4]]]',
    "a link to the root": b'[1, "n", "t", [[[], "here.2", true, "t"]]]',
    "a link to an empty segment": b'[1, "n", "t", [[[""], "here.2", true, "t"]]]',
    "a link to an owner without a name": b'[1, "n", "t", [[["/b", "!", "x"], "", true, "t"]]]',
    "a link to itself": b'[1, "n", "t", [[["/b", "!", "x"], "here.1", true, "t"]]]',
    "a link to somebody unknown": b'[1, "n", "t", [[["/b", "!", "x"], "nobody", true, "t"]]]',
    "a link to what nobody holds": b'[1, "n", "t", [[["/b", "!", "x"], "here.2", true, "t"]]]',
    "a deep link": json.dumps([1, "n", "t", [[["a"] * 500, "here.2", True, "t"]]]).encode(),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_foreign_links_are_ignored(name: str) -> None:
    """Links that no owner wrote are ignored, and the waiter gets the lock."""
    scenario = Scenario([("1", A, X)])
    waiting = scenario.wait("2", A)
    for heartbeat in range(4):
        scenario.simulation.backend.execute(Transaction(writes=(Put(Key(WAITING_FOR, ("here.1",)), GARBAGE[name]),)))
        scenario.simulation.advance(1 if heartbeat else TIMING.first_heartbeat)
    assert waiting.error is None
    assert all(segment for sent in scenario.simulation.sent for read in sent.reads for segment in read.key.path)
    assert all(len(read.key.path) <= 128 for sent in scenario.simulation.sent for read in sent.reads)
    scenario.simulation.release(scenario.held["1"][0])
    assert waiting.result is not None


def test_a_cycle_is_found_among_foreign_links() -> None:
    """Foreign links of other owners do not hide a cycle."""
    scenario = Scenario([("1", A, S), ("2", B, X), ("3", A, S)])
    scenario.simulation.backend.execute(Transaction(writes=(Put(Key(WAITING_FOR, ("here.3",)), b"{"),)))
    scenario.wait("1", B)
    scenario.wait("2", A)
    scenario.pass_time()
    assert set(scenario.raised) == {"2"}


def test_links_preserve_any_segment() -> None:
    """A cycle over paths with odd segments is found, also with lone surrogates that would form a pair."""
    for segment in ("!", ".", "\x00", "\ud800", "\u00e9", "\ud83d\ude00", "\U0001f600"):
        scenario = Scenario([("1", (segment, "a"), X), ("2", (segment, "b"), X)])
        scenario.wait("1", (segment, "b"))
        scenario.wait("2", (segment, "a"))
        scenario.pass_time()
        assert set(scenario.raised) == {"2"}, ascii(segment)


def test_links_are_removed_after_the_wait() -> None:
    """A waiter writes its links from the first heartbeat on, and removes them at the end."""
    scenario = Scenario([("1", A, X)])
    waiting = scenario.wait("2", A)
    assert "d" not in scenario.simulation.left()
    scenario.simulation.advance(TIMING.first_heartbeat)
    edges = scenario.simulation.entries("d")
    assert set(edges.values) == {("here.2",)}
    assert edges.ttls[("here.2",)] <= TIMING.waiter_ttl * 1000
    scenario.simulation.release(scenario.held["1"][0])
    assert waiting.result is not None
    assert "d" not in scenario.simulation.left()


def test_many_readers_who_want_to_write() -> None:
    """Two of many readers upgrade: a cycle, however many others read."""
    readers = deadlocks._MOST_LINKS + 20
    for one, other in ((1, 2), (97, 98), (10, readers - 1)):
        scenario = Scenario([(str(number), A, S) for number in range(readers)])
        scenario.wait(str(one), A)
        scenario.wait(str(other), A)
        scenario.pass_time()
        assert set(scenario.raised) == {str(other)}


def test_a_dead_owner_is_no_deadlock_for_long() -> None:
    """A crashed waiter is part of no cycle after its links expire; then only its lease counts."""
    scenario = Scenario([("1", A, X), ("2", B, X)])
    first = scenario.wait("1", B)
    scenario.simulation.advance(TIMING.first_heartbeat)
    first.abandon()
    scenario.simulation.advance(TIMING.waiter_ttl)
    last = scenario.wait("2", A)
    scenario.pass_time()
    assert not last.done
    scenario.simulation.backend.execute(Transaction(writes=(Delete(Key("h", ("/a",)), Scope.BELOW),)))
    scenario.simulation.advance(TIMING.heartbeat)
    assert last.result is not None


@pytest.mark.parametrize("holds", [False, True])
def test_only_owners_of_locks_search(holds: bool) -> None:
    """Every waiter writes its links; one that holds no lock does not search."""
    request = Request("s/1", Owner("s.1", "host:1:one"), Mode.EXCLUSIVE, [A], 1)
    key = Key(HOLDERS, ("/a", "!", "s/2"))
    blocker = Record(key, b"", "s/2", A, (A,), Mode.EXCLUSIVE, "s.2", 0, "host:1:two")
    steps = deadlocks.Waiting(request, 6_000, holds=holds).resolve([blocker])
    asked = next(steps)
    assert isinstance(asked, Transaction)
    assert [write.key for write in asked.writes] == [Key(WAITING_FOR, ("s.1",))]
    links = [read.key for read in asked.reads if read.key.space == WAITING_FOR]
    assert links == ([Key(WAITING_FOR, ("s.2",))] if holds else [])
    with pytest.raises(StopIteration) as ended:
        steps.send(Outcome(Status.APPLIED, tuple([Entries({})] * len(asked.reads))))
    assert ended.value.value == []
