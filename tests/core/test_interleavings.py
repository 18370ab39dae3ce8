"""Two clients at once, in every order in which their steps can meet: what each was told is what the tree shows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redicts.backends.memory import MemoryBackend
from redicts.codecs.json import codec
from redicts.core.driver import Pause, Steps, run
from redicts.core.envelope import LeafFormat
from redicts.core.leaves import ABSENT
from redicts.core.minitransaction import Path
from redicts.core.store import TreeStore
from redicts.errors import LeafError, RedictsError

STORE = TreeStore(LeafFormat(codec), None)
A: Path = ("a",)

Operation = Callable[[], Steps[Any]]


class Client:
    """One operation that is run a request at a time."""

    def __init__(self, operation: Operation, backend: MemoryBackend) -> None:
        self._steps = operation()
        self._backend = backend
        self.result: Any = None
        self.done = False
        self._request = self._advance(lambda: next(self._steps))

    def step(self) -> None:
        """Have the request that is waiting executed, and take the next one."""
        request = self._request
        outcome = None if isinstance(request, Pause) else self._backend.execute(request)
        self._request = self._advance(lambda: self._steps.send(outcome))

    def _advance(self, advance: Callable[[], Any]) -> Any:
        try:
            return advance()
        except StopIteration as stop:
            self.result = stop.value
        except RedictsError as error:
            self.result = error
        self.done = True
        return None


def outcomes(before: Any, *operations: Operation) -> Iterator[tuple[Any, list[Any]]]:
    """Yield the tree and the results of every interleaving of the first eight steps of some operations."""
    for schedule in itertools.product(range(len(operations)), repeat=8):
        backend = MemoryBackend()
        run(STORE.write((), before), backend)
        clients = [Client(operation, backend) for operation in operations]
        for index in schedule:
            if not clients[index].done:
                clients[index].step()
        for client in clients:
            while not client.done:
                client.step()
        yield run(STORE.read(()), backend), [client.result for client in clients]


def increment() -> Steps[Any]:
    """Count by a function."""
    return STORE.change(A, lambda old: (0 if old is ABSENT else old) + 1)


def add(amount: float) -> Operation:
    """Count by an amount."""
    return lambda: STORE.add(A, amount)


@pytest.mark.parametrize(
    "operations",
    [
        (increment, increment),
        (increment, add(1)),
        (add(1.0), increment),
        (add(1), add(1)),
        (add(1.0), add(1)),
        (increment, increment, add(1)),
    ],
)
@pytest.mark.parametrize("before", [{}, {"a": 5}])
def test_no_count_is_lost(operations: tuple[Operation, ...], before: dict[str, int]) -> None:
    """However clients that count interleave, each gets another sum, and the highest is stored."""
    first = before.get("a", 0)
    for tree, results in outcomes(before, *operations):
        assert sorted(results) == [first + number for number in range(1, len(operations) + 1)]
        assert tree == {"a": first + len(operations)}


def test_keys_that_two_clients_add_to_one_dict_are_both_stored() -> None:
    """A change of a dict preserves a key that another client adds, at any step."""

    def entering(name: str) -> Operation:
        return lambda: STORE.change(A, lambda old: {**({} if old is ABSENT else old), name: 1})

    for tree, _ in outcomes({}, entering("x"), entering("y")):
        assert tree == {"a": {"x": 1, "y": 1}}


def test_one_of_two_wins_a_comparison() -> None:
    """Of two that compare with the same value exactly one stores, also if the bytes of that value differ."""
    for stored in (1, 1.0):
        for tree, results in outcomes(
            {"a": stored},
            lambda: STORE.compare_and_set(A, 1, "first"),
            lambda: STORE.compare_and_set(A, 1, "second"),
        ):
            assert sorted(results) == [False, True]
            assert tree == {"a": "first" if results[0] else "second"}


def test_one_of_two_takes_a_value() -> None:
    """A value is taken by one; the other one finds what is left."""
    for tree, results in outcomes({"a": {"x": 1}}, lambda: STORE.take(A), lambda: STORE.take(A)):
        assert tree is ABSENT
        assert {"x": 1} in results
        assert ABSENT in results


def test_two_defaults_are_one() -> None:
    """Both that set a default get the one that was stored."""
    for tree, results in outcomes({}, lambda: STORE.set_default(A, {"x": 1}), lambda: STORE.set_default(A, {"y": 2})):
        assert results[0] == results[1]
        assert tree == {"a": results[0]}


def test_a_merged_empty_dict_never_removes_values() -> None:
    """A value that another client stores below a merged empty dict stays, at any step."""
    for tree, _ in outcomes({}, lambda: STORE.merge((), {"a": {}, "b": 1}), lambda: STORE.write(("a", "x"), 1)):
        assert tree == {"a": {"x": 1}, "b": 1}
    for tree, _ in outcomes({"a": {"x": 1}}, lambda: STORE.merge((), {"a": {}}), lambda: STORE.delete(("a", "x"))):
        assert tree in ({"a": {}}, ABSENT)


def test_a_leaf_and_a_dict_at_one_path_never_meet() -> None:
    """The last write decides whether a path is a leaf or a dict; it is never both."""
    for operation in (
        lambda: STORE.add(A, 1),
        lambda: STORE.write(A, 1),
        lambda: STORE.merge((), {"a": 1}),
        lambda: STORE.set_default(A, 1),
        lambda: STORE.change(A, lambda old: 1),
    ):
        for tree, results in outcomes({}, operation, lambda: STORE.write(("a", "b"), {"c": 2})):
            assert tree in ({"a": 1}, {"a": {"b": {"c": 2}}})
            assert isinstance(results[0], (int, LeafError, type(None), dict))
            assert results[1] is None
    for tree, _ in outcomes({"a": 1}, lambda: STORE.change(("a", "b"), lambda old: 2), lambda: STORE.write(A, 3)):
        assert tree in ({"a": {"b": 2}}, {"a": 3})
