"""Every interleaving of the lock protocol: clients meet in every order of their steps, with faults at every moment.

The rules that are checked after each step are in :mod:`tests.core.locks.rules`, what a choice is in
:mod:`tests.core.locks.explorer`, how scripts are written in :func:`tests.core.locks.clients.script`. What was explored
is printed (``pytest -rP``), and each test demands that it was no less than when the test was written.
"""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Final

import pytest

from tests.core.locks import broken
from tests.core.locks.clients import Making
from tests.core.locks.explorer import (
    ALL_FAULTS,
    CRASH,
    LATE,
    REPLY_LOST,
    STOPPED_AFTER,
    Explorer,
    Failure,
    Report,
    Scenario,
    real,
)

LONG: Final = os.environ.get("REDICTS_TESTS") == "long"

LOCKS: Final = [f"{mode}:{path}" for mode in "XS" for path in ("a", "a.b", "a.b.c", "x")]
"""One lock each: both modes, four paths."""

NESTED: Final = [
    ("X:a.b X:a -0 -1", "X:a S:a.b"),
    ("X:a.b X:a.c", "X:a"),
    ("X:a.b X:a", "X:a.b.c"),
    ("X:a X:a.b -0 -1", "S:a.b.c"),
    ("S:a.b X:a.b", "S:a"),
    ("S:a X:a.b.c", "S:a.b"),
    ("X:a.b+x", "X:x+a.b.c"),
    ("X:a.b+x X:a", "X:x"),
    ("X:a?", "S:a.b? X:a"),
    ("X:a?1.5", "X:a.b ~3"),
    ("X:a ~3 ^0 ~3", "S:a.b?1.5"),
    ("X:a.b -0 X:x", "X:x -0 X:a"),
]
"""Two clients that hold one lock while they acquire another, several at once, give up early, take long, renew."""

CIRCLES: Final = [
    ("X:a.b X:x", "X:x X:a"),
    ("S:a X:a", "S:a X:a"),
]
"""Two clients that may wait for each other."""

THREE: Final = [
    ("X:a", "X:a", "X:a"),
    ("X:a", "X:a.b", "X:a.b.c"),
    ("S:a", "X:a.b", "S:a.b.c"),
    ("S:a", "S:a.b", "X:a"),
    ("X:a.b", "X:a.c", "X:a"),
    ("X:a.b X:a.c", "X:a", "X:a.b"),
    ("X:a.b+x", "X:a.b.c", "X:x"),
    ("X:a?", "S:a?", "X:a.b"),
]

WALKED: Final = [
    ("X:a.b X:x", "X:x X:a", "X:a.b.c"),
    ("X:a.b X:a.c -0 S:x", "X:a S:x -0", "S:a.b X:x"),
    ("S:a X:a.b", "S:a X:a.b", "S:x X:a?1.5"),
    ("X:a ~3 ^0 ~3", "X:a.b?1.5 X:a", "S:a X:x -0"),
    ("X:a.b X:x", "X:x X:a.c.d", "X:a.c.d X:a.b"),
    ("S:a.b+x X:a.b.c", "X:x", "S:a X:x? -0 X:a"),
]


EDITS: Final = [
    ("E:a", "E:a"),
    ("E:a E:a", "E:a"),
    ("E:a", "X:a.b ~3"),
    ("E:a?1.5", "E:a ~3 E:a"),
    ("X:a.b E:a", "E:a"),
    ("S:a E:a", "E:a?"),
]
"""Two clients that edit a value, one after the other, and among other locks."""


class Total:
    """What several explorations met together."""

    def __init__(self) -> None:
        self.scenarios = self.states = self.schedules = self.listed = 0
        self.seconds = 0.0
        self.told: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    def add(self, report: Report) -> Report:
        """Add what one exploration met."""
        self.scenarios += 1
        self.states += report.states
        self.schedules += report.schedules
        self.listed += report.listed
        self.seconds = max(self.seconds, report.seconds)
        self.told.update(report.told)
        self.faults.update(report.faults)
        return report

    def __str__(self) -> str:
        return (
            f"{self.scenarios} scenarios, {self.states} states, {self.schedules} schedules, the longest "
            f"{self.seconds} s; told: {dict(self.told)}; faults: {dict(self.faults)}; "
            f"{self.listed} ends with a listener's name left"
        )


def explored(scripts: Iterable[tuple[str, ...]], faults: int, *, counter: int | None = None) -> Total:
    """Explore some scenarios, and say how much that was."""
    total = Total()
    for each in scripts:
        scenario = Scenario(each, faults)
        total.add(Explorer(scenario if counter is None else scenario._replace(counter=counter)).explore())
    print(total)
    return total


def test_two_clients_with_one_lock_each() -> None:
    """All pairs of locks: the rules hold, each request is granted, and no time passes, so no client polls."""
    total = explored(itertools.product(LOCKS, repeat=2), 0)
    assert total.scenarios == 64
    assert total.states >= 1_300
    assert total.schedules >= 450
    assert set(total.told) == {"granted"}
    assert total.seconds == 0


def test_two_clients_with_one_lock_each_and_a_fault() -> None:
    """Pairs of locks with one fault of any kind at any step: the rules hold, and all end within seconds."""
    total = explored(itertools.product(LOCKS if LONG else ["X:a", "S:a.b"], LOCKS), 1)
    assert total.states >= 5_500
    assert total.schedules >= 6_500
    assert set(total.faults) == ALL_FAULTS
    assert total.seconds <= 8


def test_two_clients_with_several_locks() -> None:
    """Nested, together, tried, timed, renewed, given back in any order: the rules hold."""
    total = explored([each for pair in NESTED for each in (pair, pair[::-1])], 0)
    assert total.states >= 1_700
    assert total.schedules >= 2_300
    assert {"granted", "not free", "timeout"} <= set(total.told)
    assert "deadlock" not in total.told
    assert total.seconds <= 7


@pytest.mark.parametrize("scripts", NESTED if LONG else NESTED[1::3], ids=" | ".join)
def test_two_clients_with_several_locks_and_a_fault(scripts: tuple[str, ...]) -> None:
    """The same with one fault of any kind at any step."""
    total = explored([scripts], 1)
    assert total.states >= 500
    assert set(total.faults) >= {CRASH, LATE, REPLY_LOST, STOPPED_AFTER}
    assert total.seconds <= 15


def test_two_clients_that_may_deadlock() -> None:
    """One of two gets Deadlock as soon as it searches, and none where there is no cycle."""
    total = explored(CIRCLES, 0)
    assert total.states >= 1_000
    assert total.told["deadlock"] >= 50
    assert total.seconds <= 3.5


def test_three_clients() -> None:
    """Three clients in every order: the rules hold, and no time passes, so each release notifies the right waiter."""
    scripts = itertools.combinations_with_replacement(LOCKS, 3) if LONG else THREE
    total = explored(scripts, 0)
    assert total.states >= 4_000
    assert total.schedules >= 200_000
    assert total.seconds == 0


def test_three_clients_one_of_which_loses_its_record() -> None:
    """A waiter that was stopped until its record expired queues again at the end, at any step."""
    scenario = Scenario(("X:a ~8", "X:a", "~0.5 X:a"), 1, frozenset({LATE}))
    report = Explorer(scenario).explore()
    print(report)
    assert report.states >= 8_000


@pytest.mark.parametrize(
    ("scripts", "faults"),
    [
        (("X:a", "X:a"), 0),
        (("X:a", "X:x"), 0),
        (("X:a", "X:x", "X:a.b"), 0),
        (("X:a X:x", "X:x X:a"), 0),
        (("X:a", "X:a"), 2 if LONG else 1),
        (("X:a", "X:x"), 1),
    ],
)
def test_a_store_that_is_new(scripts: tuple[str, ...], faults: int) -> None:
    """While the counter of tokens is set up the rules hold as well, and tokens of conflicting locks rise."""
    report = Explorer(Scenario(scripts, faults, counter=0)).explore(20_000)
    print(report)
    assert report.told["granted"] >= 10


@pytest.mark.parametrize("scripts", WALKED, ids=" | ".join)
def test_three_clients_with_several_locks_and_faults(scripts: tuple[str, ...]) -> None:
    """Three clients, several locks each, and up to three faults: the rules hold on a random choice of schedules."""
    explorer = Explorer(Scenario(scripts, 3))
    steps = 0
    for seed in range(1_500 if LONG else 30):
        try:
            steps += explorer.walk(random.Random(seed))
        except Failure as failure:
            raise AssertionError(f"seed {seed}: {failure}") from None
    print(f"{seed + 1} schedules, {steps} steps, told: {dict(explorer.told)}, faults: {dict(explorer.faults)}")
    assert steps >= 15 * (seed + 1)
    assert set(explorer.faults) >= {CRASH, LATE, REPLY_LOST, STOPPED_AFTER}


@pytest.mark.parametrize(
    ("scripts", "faults"),
    [
        (("X:a", "X:a"), 1),
        (("X:a.b X:a.c", "X:a"), 0),
        (("S:a X:a", "S:a"), 0),
        (("X:a?1.5", "X:a.b ~3"), 0),
        (("X:a", "S:a", "S:a.b"), 0),
    ],
)
def test_pruning_loses_nothing(scripts: tuple[str, ...], faults: int) -> None:
    """There are as many schedules if only clients with the same past are taken for equal."""
    pruned = Explorer(Scenario(scripts, faults)).explore()
    thorough = Explorer(Scenario(scripts, faults), by_history=True).explore()
    assert thorough.states > pruned.states
    assert thorough.schedules == pruned.schedules
    assert thorough.seconds == pruned.seconds
    assert set(thorough.told) == set(pruned.told)


@pytest.mark.parametrize("scripts", CIRCLES, ids=" | ".join)
def test_two_clients_that_may_deadlock_and_a_fault(scripts: tuple[str, ...]) -> None:
    """Deadlocks are resolved also with a fault at any step."""
    kinds = ALL_FAULTS if LONG else frozenset({CRASH, STOPPED_AFTER})
    report = Explorer(Scenario(scripts, 1, kinds)).explore()
    print(report)
    assert report.states >= 2_000
    assert report.told["deadlock"] >= 50


def test_two_clients_and_two_faults() -> None:
    """Pairs of locks with two faults of any kind."""
    assert explored(itertools.product(LOCKS, repeat=2) if LONG else [("X:a", "S:a.b")], 2).states >= 3_000


@pytest.mark.parametrize("scripts", THREE if LONG else THREE[:1], ids=" | ".join)
def test_three_clients_and_a_fault(scripts: tuple[str, ...]) -> None:
    """Three clients, one of which has a fault at any step."""
    kinds = ALL_FAULTS if LONG else frozenset({CRASH})
    report = Explorer(Scenario(scripts, 1, kinds)).explore()
    print(report)
    assert report.states >= 1_000


def test_two_clients_that_edit() -> None:
    """Edits of one value in every order: none is lost, none is stored in part, and no edit meets a conflict."""
    total = explored(EDITS, 0)
    assert total.told["edited"] >= 20
    assert total.states >= 100


@pytest.mark.parametrize("scripts", EDITS if LONG else EDITS[2:3], ids=" | ".join)
def test_two_clients_that_edit_and_a_fault(scripts: tuple[str, ...]) -> None:
    """The same with one fault of any kind at any step: crashes, lost replies and requests, and leases that end."""
    total = explored([scripts], 1)
    assert set(total.faults) >= {CRASH, LATE, REPLY_LOST, STOPPED_AFTER}
    assert total.told["edited"] >= 20


def test_two_clients_that_edit_and_two_faults() -> None:
    """The same with two faults, as a lease that ends and a reply that is lost."""
    total = explored([EDITS[0]], 2)
    assert set(total.faults) == ALL_FAULTS


def test_three_clients_that_edit() -> None:
    """Three clients in every order: no time passes, so each release notifies the right waiter."""
    total = explored([("E:a", "E:a", "E:a")], 0)
    assert total.told["edited"] >= 20
    assert total.seconds == 0


@pytest.mark.parametrize("kind", [CRASH, REPLY_LOST, LATE] if LONG else [REPLY_LOST])
def test_three_clients_that_edit_and_a_fault(kind: str) -> None:
    """The same with a crash, a lost reply or a lease that ends, at any step."""
    report = Explorer(Scenario(("E:a", "E:a", "E:a"), 1, frozenset({kind}))).explore()
    print(report)
    assert report.told["edited"] >= 20


@pytest.mark.parametrize("scripts", [("E:a", "E:a E:a", "E:a"), ("E:a", "E:a ~3", "X:a.b E:a")], ids=" | ".join)
def test_three_clients_that_edit_and_faults(scripts: tuple[str, ...]) -> None:
    """Up to three faults of any kind, on a random choice of schedules."""
    explorer = Explorer(Scenario(scripts, 3))
    for seed in range(1_500 if LONG else 60):
        try:
            explorer.walk(random.Random(seed))
        except Failure as failure:
            raise AssertionError(f"seed {seed}: {failure}") from None
    assert set(explorer.faults) >= {CRASH, LATE, REPLY_LOST, STOPPED_AFTER}


def found(making: Making, scripts: tuple[str, ...], kinds: Iterable[str] = ()) -> Failure:
    """Return the shortest schedule that breaks a rule, with one fault of these kinds if any, after replaying it."""
    scenario = Scenario(scripts, 1 if kinds else 0, frozenset(kinds))
    explorer = Explorer(scenario, making)
    with pytest.raises(Failure) as failing:
        explorer.explore(50_000)
    print(failing.value)
    assert Explorer(scenario, making).replay(failing.value.choices) == list(failing.value.steps)
    return failing.value


@pytest.mark.parametrize(
    ("making", "scripts", "kinds", "rule"),
    [
        (broken.looking_upwards, ("X:a.b", "X:a"), (), "two hold what conflicts"),
        (broken.changed(broken.without_holder_checks), ("X:a", "X:a.b"), (), "two hold what conflicts"),
        (broken.changed(broken.without_ticket), ("X:a", "X:a", "X:a"), (), "passed"),
        (broken.changed(broken.leaving_waiters), ("X:a ~3", "X:a?1"), (), "left in the store"),
        (broken.changed(broken.leaving_holders), ("X:a", "X:x"), (REPLY_LOST,), "left in the store"),
        (broken.changed(broken.releasing_by_path), ("X:a", "X:a"), (LATE,), "believes to hold"),
        (broken.changed(broken.waking_nobody), ("X:a", "X:a.b"), (), "was not notified"),
        (broken.changed(broken.counting_down), ("X:a", "X:a"), (), "tokens out of order"),
        (broken.changed(broken.for_ever), ("X:a", "X:a"), (), "stored for ever"),
        (broken.changed(broken.without_own_place), ("X:a ~8", "X:a", "~0.5 X:a"), (LATE,), "passed"),
        (broken.changed(broken.without_guards), ("E:a", "E:a"), (LATE,), "an edit is lost"),
        (broken.changed(broken.in_part), ("E:a", "X:x"), (), "stored in part"),
        (broken.reading_first, ("E:a", "E:a"), (), "met a change"),
    ],
)
def test_a_broken_protocol_is_found_out(
    making: Making, scripts: tuple[str, ...], kinds: tuple[str, ...], rule: str
) -> None:
    """The explorer finds what is wrong with each of these protocols, and a schedule that shows it."""
    assert rule in found(making, scripts, kinds).broken


def test_queueing_again_under_the_old_name_blocks_later_waiters() -> None:
    """Later waiters wait for that name, and it waits for them: a cycle of queues alone, which no owner searches."""
    with broken.keeping_the_name() as making:
        scenario = Scenario(("X:a ~8", "X:a", "~0.5 X:a"), 1, frozenset({LATE}))
        with pytest.raises(AssertionError, match="a schedule that never ends"):
            Explorer(scenario, making).explore(50_000)


@pytest.mark.parametrize(
    ("breaking", "scripts", "kinds", "rule"),
    [
        (broken.without_bypass, ("X:a.b X:a.c", "X:a"), (), "was not notified"),
        (broken.impatient_with_deadlocks, ("X:a ~3", "X:a"), (), "there is none"),
    ],
)
def test_a_protocol_with_a_broken_part_is_found_out(
    breaking: Callable[[], AbstractContextManager[Making]], scripts: tuple[str, ...], kinds: tuple[str, ...], rule: str
) -> None:
    """The same for what is broken in the middle of the protocol."""
    with breaking() as making:
        assert rule in found(making, scripts, kinds).broken


def test_a_missing_deadlock_search_is_found() -> None:
    """Without deadlock detection, a schedule lasts until a lease is over."""
    scenario = Scenario(("X:a.b X:x", "X:x X:a"))
    usual = Explorer(scenario, real).explore().seconds
    with broken.without_deadlocks() as making:
        assert Explorer(scenario, making).explore().seconds >= 5 > usual
