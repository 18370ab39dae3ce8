"""Every change is atomic: threads lose no update, readers see no intermediate state, failures change nothing."""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from redicts import ABSENT, Conflict, LeafError, Packed, Proxy, Transaction, Unsupported, WrongUse, root
from redicts.core import minitransaction
from redicts.core.backend import Capabilities
from tests.api.test_pool import run_python
from tests.support.stores import Store, Use, Wrapped, together

ROUNDS = 12


def by_update_with(place: Proxy) -> None:
    """Count by a function of the value."""
    place.update_with(lambda old: old + 1, default=0)


def by_float(place: Proxy) -> None:
    """Count by floats, which no store counts itself."""
    place.add(1.0)


def by_compare_and_set(place: Proxy) -> None:
    """Count by comparing until nobody was faster."""
    while True:
        old = place.val(ABSENT)
        if place.compare_and_set(old, 1 if old is ABSENT else old + 1):
            return


def by_transaction(place: Proxy) -> None:
    """Count by a transaction that expects what was read."""
    while True:
        old = place.val(ABSENT)
        try:
            with place.transaction() as changes:
                changes.expect([], old)
                changes.set([], 1 if old is ABSENT else old + 1)
        except Conflict:
            continue
        return


def by_adding_in_a_transaction(place: Proxy) -> None:
    """Count by the sum of a transaction."""
    with place.transaction() as changes:
        changes.add([], 1)


@pytest.mark.parametrize(
    "increment", [by_update_with, by_float, by_compare_and_set, by_transaction, by_adding_in_a_transaction]
)
def test_threads_lose_no_update(any_store: Store, increment: Callable[[Proxy], None]) -> None:
    """Every way to count is atomic: threads that count at one path lose no update."""

    def count() -> None:
        for _ in range(ROUNDS):
            increment(Proxy("tree.counter"))

    together(count, count, count)
    assert root().val() == {"tree": {"counter": 3 * ROUNDS}}


def test_threads_that_change_one_dict_lose_nothing(any_store: Store) -> None:
    """``update_with`` of a dict preserves concurrent changes of other threads."""

    def enter(name: str) -> None:
        for number in range(ROUNDS):
            entry = {f"{name}{number}": number}
            Proxy("guests").update_with(partial(operator.or_, entry), default={})

    together(*[partial(enter, name) for name in "abc"])
    assert len(Proxy("guests").val()) == 3 * ROUNDS


def test_one_of_several_threads_wins_setdefault(any_store: Store) -> None:
    """Of concurrent calls of ``setdefault`` one stores its value, and all return it."""
    for number in range(ROUNDS):
        place = root().get(f"race{number}")
        found = together(*[partial(place.setdefault, "by", {"name": name}) for name in "abc"])
        assert found == [place.get("by").val()] * 3


def test_each_value_is_popped_once(any_store: Store) -> None:
    """Of threads that pop the same key one gets the value."""
    root().set("jobs", {f"j{number}": {"n": number} for number in range(ROUNDS)})

    def take() -> list[Any]:
        return [Proxy("jobs").pop(f"j{number}", None) for number in range(ROUNDS)]

    found = [job["n"] for jobs in together(take, take, take) for job in jobs if job is not None]
    assert sorted(found) == list(range(ROUNDS))


def whole(number: int) -> dict[str, Any]:
    """Return a dict that says the same number in every part."""
    return {"one": number, "two": {"three": number, "four": [number]}}


def by_committing(number: int) -> None:
    """Replace the dict in a transaction."""
    with root().transaction() as changes:
        changes.set("d", whole(number))


REPLACE: dict[str, Callable[[int], object]] = {
    "set": lambda number: root().set("d", whole(number)),
    "update": lambda number: Proxy("d").update(whole(number)),
    "update_with": lambda number: Proxy("d").update_with(lambda _: whole(number)),
    "transaction": by_committing,
}


@pytest.mark.parametrize("way", REPLACE)
def test_a_reader_sees_the_old_value_or_the_new_one(any_store: Store, way: str) -> None:
    """While a dict is replaced again and again, every reader sees a whole one."""
    root().set("d", whole(0))
    done = threading.Event()

    def write() -> None:
        try:
            for number in range(1, 40):
                REPLACE[way](number)
        finally:
            done.set()

    def read() -> None:
        while not done.is_set():
            seen = Proxy("d").val()
            assert seen == whole(seen["one"])

    together(write, read)
    assert Proxy("d").val() == whole(39)


def test_transactions_preserve_a_sum(any_store: Store) -> None:
    """Transactions over several keys preserve their sum."""
    root().set("bank", {"anna": 100, "ben": 100, "cleo": 100})

    def move(giver: str, taker: str) -> None:
        for _ in range(ROUNDS):
            with Proxy("bank").transaction() as changes:
                changes.add(giver, -3)
                changes.add(taker, 3)

    def look() -> None:
        for _ in range(ROUNDS):
            assert sum(Proxy("bank").val().values()) == 300

    together(lambda: move("anna", "ben"), lambda: move("ben", "cleo"), look)
    assert Proxy("bank").val() == {"anna": 100 - 3 * ROUNDS, "ben": 100, "cleo": 100 + 3 * ROUNDS}


# update_with


def test_update_with_returns_the_new_value(any_store: Store) -> None:
    """The function gets the value, or the default if there is none, and what it returns is stored and returned."""
    assert Proxy("a").update_with(lambda old: [old], default="none yet") == ["none yet"]
    assert Proxy("a").update_with(lambda old: [*old, 1]) == ["none yet", 1]
    assert Proxy("a").update_with(lambda old: {"was": old, "e": {}}) == {"was": ["none yet", 1], "e": {}}
    assert root().update_with(lambda old: {**old, "b": 2}) == {"a": {"was": ["none yet", 1], "e": {}}, "b": 2}
    assert root().val() == {"a": {"was": ["none yet", 1], "e": {}}, "b": 2}


def test_update_with_of_none_gets_none_and_not_the_default(any_store: Store) -> None:
    """The default replaces an absent value only; a stored ``None`` is a value."""
    root().set("a", None)
    assert Proxy("a").update_with(lambda old: [old], default="none yet") == [None]


def test_update_with_removes_for_absent(any_store: Store) -> None:
    """A function that returns ``ABSENT`` removes the value; removing nothing is no error."""
    root().set("a", {"x": 1, "y": {"z": 2}})
    root().set("b", 1)
    assert Proxy("a").update_with(lambda _: ABSENT) is ABSENT
    assert root().val() == {"b": 1}
    assert Proxy("a").update_with(lambda old: ABSENT if old is None else old) is ABSENT
    assert root().val() == {"b": 1}


def test_update_with_removes_a_leaf_above(any_store: Store) -> None:
    """A leaf above is removed by ``update_with``, unless it stores nothing."""
    root().set("a", 1)
    Proxy("a.b").update_with(lambda _: ABSENT)
    assert root().val() == {"a": 1}
    Proxy("a.b").update_with(lambda old: old, default=2)
    assert root().val() == {"a": {"b": 2}}


def test_update_with_may_change_its_argument(any_store: Store) -> None:
    """A function may change the value that it gets and return it."""
    root().set("a", {"x": [1], "gone": 2})

    def change(old: dict[str, Any]) -> dict[str, Any]:
        old["x"].append(2)
        del old["gone"]
        return old

    assert Proxy("a").update_with(change) == {"x": [1, 2]}
    assert root().val() == {"a": {"x": [1, 2]}}


def test_update_with_calls_again_after_a_concurrent_change(any_store: Store) -> None:
    """The function is called again with the new value after a change of another client, and only then."""
    root().set("a", 1)
    seen = []

    def change(old: int) -> int:
        seen.append(old)
        if len(seen) == 1:
            Proxy("a").set([], 10)
        return old + 1

    assert Proxy("a").update_with(change) == 11
    assert seen == [1, 10]


def test_update_with_sees_a_new_neighbour_below(any_store: Store) -> None:
    """A key that another client adds to the dict meanwhile is a change too."""
    root().set("a", {"x": 1})
    seen = []

    def change(old: dict[str, int]) -> dict[str, int]:
        seen.append(dict(old))
        if len(seen) == 1:
            Proxy("a").set("y", 2)
        return {key: number + 1 for key, number in old.items()}

    assert Proxy("a").update_with(change) == {"x": 2, "y": 3}
    assert len(seen) == 2


LOST: dict[str, tuple[Any, Callable[[Any], object]]] = {
    "append": ([1], lambda old: old.append(2)),
    "update": ({"x": 1}, lambda old: old.update(y=2)),
    "an entry": ({"x": {"y": 1}}, lambda old: old["x"].__setitem__("y", 2)),
    "clear": ({"x": 1}, lambda old: old.clear()),
    "a packed dict": (Packed({"x": 1}), lambda old: old.update(y=2)),
    "what cannot be stored": ([1], lambda old: old.append(object())),
    "a key that cannot be stored": ({"x": 1}, lambda old: old.__setitem__(1, 1)),
}
"""Stored values, and functions that change them and return ``None``."""


@pytest.mark.parametrize("name", LOST)
def test_a_function_that_changes_its_argument_must_return_it(any_store: Store, name: str) -> None:
    """A function that changes the value in place and returns ``None`` gets an error, and nothing is written."""
    stored, function = LOST[name]
    root().set("a", stored)
    before = root().val()
    with pytest.raises(LeafError, match="'a' changed its argument and returned None; return the new value"):
        Proxy("a").update_with(function)
    assert root().val() == before


@pytest.mark.parametrize("default", [[], {}, {"x": 1}, [[1]]])
def test_a_function_that_changes_the_default_must_return_it(any_store: Store, default: Any) -> None:
    """The same holds for a default, which is the argument if nothing is stored."""

    def change(old: Any) -> None:
        old.append(1) if isinstance(old, list) else old.update(y=1)

    with pytest.raises(LeafError, match="changed its argument"):
        Proxy("a").update_with(change, default=deepcopy(default))
    assert root().val() is None


@pytest.mark.parametrize("stored", [1, "text", [1], {}, {"x": float("nan")}, [float("nan")], None, Packed({"x": [2]})])
def test_a_function_may_return_none_on_purpose(any_store: Store, stored: Any) -> None:
    """``None`` from a function that leaves its argument unchanged is stored."""
    root().set("a", stored)
    assert Proxy("a").update_with(lambda _: None) is None
    assert root().val() == {"a": None}
    for default in (None, [], {"x": 1}, object()):
        root().delete("a")
        assert Proxy("a").update_with(lambda _: None, default=default) is None
        assert root().val() == {"a": None}


# compare_and_set


def test_compare_and_set_returns_whether_it_stored(any_store: Store) -> None:
    """It stores only if the current value equals the expected one by Python's ``==``, also for subtrees."""
    place = Proxy("a")
    assert not place.compare_and_set(1, 2)
    assert not place.compare_and_set({}, 2)
    assert not place.compare_and_set(None, 2)
    assert place.compare_and_set(ABSENT, {"x": 1, "y": {"z": [1]}})
    assert not place.compare_and_set(ABSENT, 2)
    assert not place.compare_and_set({"x": 1}, 2)
    assert not place.compare_and_set({"x": 1, "y": {"z": [1]}, "w": 1}, 2)
    assert place.compare_and_set({"y": {"z": (1,)}, "x": 1}, {"x": 5})
    assert place.compare_and_set({"x": 5.0}, {"x": 6})
    assert place.val() == {"x": 6}
    assert place.compare_and_set({"x": 6}, ABSENT)
    assert not place.exists()
    assert place.compare_and_set(ABSENT, ABSENT)


def test_compare_and_set_compares_as_python_does(any_store: Store) -> None:
    """Values that are equal in Python are equal here, though their text differs; others are not."""
    place = Proxy("a")
    alike: list[tuple[Any, Any]] = [(1, 1.0), (1.0, True), (False, 0), ([1.0], [1]), (float("inf"), float("inf"))]
    for stored, equal in alike:
        place.set([], stored)
        assert place.compare_and_set(equal, "new")
        assert place.val() == "new"
    unlike: list[tuple[Any, Any]] = [(1, "1"), (None, 0), ("a", "A"), ("e\u0301", "\u00e9"), ([], {}), ([1, 2], [2, 1])]
    for stored, different in unlike:
        place.set([], stored)
        assert not place.compare_and_set(different, "new")
        assert place.val() == stored


def test_compare_and_set_at_the_root(any_store: Store) -> None:
    """At the root an empty dict and nothing are the same."""
    assert root().compare_and_set({}, {"a": 1})
    assert not root().compare_and_set({}, {"b": 1})
    assert root().compare_and_set({"a": 1}, {})
    assert root().compare_and_set(ABSENT, {"c": 1})
    assert root().val() == {"c": 1}


def test_compare_and_set_removes_a_leaf_above(any_store: Store) -> None:
    """A leaf above is removed if the expectation holds, and stays if not."""
    root().set("a", 1)
    assert not Proxy("a.b").compare_and_set(5, 2)
    assert root().val() == {"a": 1}
    assert Proxy("a.b").compare_and_set(ABSENT, 2)
    assert root().val() == {"a": {"b": 2}}


# Transactions


def test_a_transaction_makes_all_changes_in_their_order(any_store: Store) -> None:
    """Changes see the ones before them, keys are relative to the path, and nothing happens before the end."""
    root().set("t", {"a": 1, "b": {"x": 1}, "c": 5})
    place = Proxy("t")
    with place.transaction() as changes:
        changes.set("a", {"deep": 1})
        changes.set("a.deep", {"er": 2})
        changes.delete("b")
        changes.set("b.y", 3)
        changes.add("c", 2)
        changes.add("new.counter", -4)
        changes.add("new.counter", 1)
        assert place.val() == {"a": 1, "b": {"x": 1}, "c": 5}
    assert place.val() == {"a": {"deep": {"er": 2}}, "b": {"y": 3}, "c": 7, "new": {"counter": -3}}


def test_a_transaction_without_changes_does_nothing(any_store: Store) -> None:
    """An empty ``with`` block is allowed."""
    root().set("a", 1)
    with root().transaction():
        pass
    assert root().val() == {"a": 1}


def test_what_is_expected_and_is_not_so_is_a_conflict(any_store: Store) -> None:
    """If one expectation fails nothing is changed, and the error names the path."""
    root().set("a", {"x": 1, "y": {"z": 2}})
    before = root().val()
    for key, value in (("x", 2), ("y", {"z": 3}), ("y", {}), ("y", ABSENT), ("gone", None), ("x", 1.0)):
        with pytest.raises(Conflict, match=rf"'a\.{key}'"), Proxy("a").transaction() as changes:  # noqa: PT012
            changes.expect("x", 1)
            changes.expect(key, value)
            changes.set("x", 5)
            changes.delete("y")
            changes.add("n", 1)
        assert root().val() == before
    with Proxy("a").transaction() as changes:
        changes.expect("x", 1)
        changes.expect("y", {"z": 2})
        changes.expect("gone", ABSENT)
        changes.expect([], {"x": 1, "y": {"z": 2}})
        changes.set("x", 5)
    assert Proxy("a.x").val() == 5


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_a_block_that_raises_changes_nothing(any_store: Store, error: type[BaseException]) -> None:
    """Whatever leaves the ``with`` block as an exception leaves the tree as it was."""
    root().set("a", 1)
    with pytest.raises(error), root().transaction() as changes:  # noqa: PT012  (what comes before must have no effect)
        changes.set("a", 2)
        changes.delete("a")
        raise error
    assert root().val() == {"a": 1}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_function_that_raises_changes_nothing(any_store: Store, error: type[BaseException]) -> None:
    """An exception of the function of ``update_with`` is raised, and the value stays."""
    root().set("a", {"x": 1})

    def fail(old: dict[str, int]) -> object:
        old["x"] = 2
        raise error

    with pytest.raises(error):
        Proxy("a").update_with(fail)
    assert root().val() == {"a": {"x": 1}}


COLLECT: dict[str, Callable[[Transaction], object]] = {
    "expect": lambda changes: changes.expect("a", 1),
    "set": lambda changes: changes.set("a", 2),
    "delete": lambda changes: changes.delete("a"),
    "add": lambda changes: changes.add("a", 1),
    "expire": lambda changes: changes.expire("a", 5),
}


@pytest.mark.parametrize("change", COLLECT)
def test_changes_outside_of_the_block_are_refused(any_store: Store, change: str) -> None:
    """Before and after its block a transaction collects nothing, and says so."""
    root().set("a", 1)
    changes = root().transaction()
    with pytest.raises(WrongUse, match="collects changes only in its block"):
        COLLECT[change](changes)
    with changes:
        pass
    with pytest.raises(WrongUse, match="has ended; begin another one"):
        COLLECT[change](changes)
    assert root().val() == {"a": 1}


@pytest.mark.parametrize("ends_with", [None, ValueError, KeyboardInterrupt, Conflict])
def test_a_transaction_has_one_block(any_store: Store, ends_with: type[BaseException] | None) -> None:
    """A second block is refused, however the first one ended, and nothing is applied twice."""
    root().set("n", 1)
    changes = root().transaction()
    with suppress(*[ends_with] if ends_with else []), changes:
        changes.add("n", 1)
        if ends_with is Conflict:
            changes.expect("n", 7)
        elif ends_with:
            raise ends_with
    expected = 1 if ends_with else 2
    assert Proxy("n").val() == expected
    for _ in range(2):
        with pytest.raises(WrongUse, match="has one with block; begin another one"), changes:
            changes.add("n", 1)  # never reached
    assert Proxy("n").val() == expected


def test_a_transaction_is_not_nested_in_itself(any_store: Store) -> None:
    """Entering it again inside its block is refused; if the block goes on, its changes are applied once."""
    with root().transaction() as changes:
        changes.add("n", 1)
        with pytest.raises(WrongUse, match="has one with block"), changes:
            pass
        changes.add("n", 1)
    assert Proxy("n").val() == 2


def test_a_transaction_belongs_to_the_thread_of_its_block(any_store: Store) -> None:
    """Another thread can neither add changes nor end the block."""
    with root().transaction() as changes:
        changes.add("n", 1)
        for use in (lambda: changes.add("n", 1), lambda: changes.__exit__(None, None, None)):
            with pytest.raises(WrongUse, match="in the process and thread of its with block only"):
                together(use)
    assert Proxy("n").val() == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_does_not_commit_the_transaction_of_its_parent(tmp_path: Path) -> None:
    """If a child that was forked in the block leaves it too, only the parent's changes are applied, once."""
    program = f"""
import os
from redicts import Pool, Proxy, WrongUse, root
Pool().reload("sqlite:///{tmp_path}/s.db")
try:
    with root().transaction() as changes:
        changes.add("n", 1)
        child = os.fork()
except WrongUse:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), Proxy("n").val())
"""
    assert run_python(program) == "7 1\n"


@pytest.mark.parametrize(
    "stored", ["text", "7", None, True, 1.5, [1], 2**63, 2**63 - 1, {}, {"below": 1}, Packed({"p": 1})]
)
def test_add_in_a_transaction_to_what_is_no_counter(any_store: Store, stored: object) -> None:
    """To add to anything but a 64-bit integer, or beyond its range, is refused, names the path, changes nothing."""
    root().set("a", {"n": stored, "other": 1})
    before = root().val()
    with pytest.raises(LeafError, match=r"'a\.n'"), Proxy("a").transaction() as changes:  # noqa: PT012  (raises at the end)
        changes.set("other", 2)
        changes.add("n", 1)
    assert root().val() == before


def test_add_in_a_transaction_after_the_path_was_cleared(any_store: Store) -> None:
    """A value that the transaction has removed counts as 0."""
    root().set("a", {"n": {"below": 1}, "m": "text"})
    with Proxy("a").transaction() as changes:
        changes.delete("n")
        changes.add("n", 1)
        changes.delete("m")
        changes.add("m", 2)
    assert root().val() == {"a": {"n": 1, "m": 2}}


def test_add_in_a_transaction_removes_a_leaf_above(any_store: Store) -> None:
    """A leaf above a counter is removed."""
    root().set("a", "leaf")
    with root().transaction() as changes:
        changes.add("a.n", 1)
    assert root().val() == {"a": {"n": 1}}


def test_a_transaction_for_a_smaller_store_is_refused(use: Use) -> None:
    """More changes than a store takes at once are refused whole, with the number it takes."""
    from redicts.core.minitransaction import Outcome, Status

    class Small(Wrapped):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities(ttl=True, processes=False, durable=False, atomic_entries=1000)

        def execute(self, transaction: minitransaction.Transaction, /) -> Outcome:
            if len(transaction.writes) > 1000:
                return Outcome(Status.TOO_LARGE)
            return super().execute(transaction)

    use(Small())
    root().set("a", 1)
    with pytest.raises(Unsupported, match="1000"), root().transaction() as changes:  # noqa: PT012  (it raises at the end)
        for number in range(1001):
            changes.set(f"n{number}", number)
    assert root().val() == {"a": 1}
