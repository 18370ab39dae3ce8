"""Guards: an operation writes only while they hold, and otherwise does the same as without them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from redicts.backends.memory import MemoryBackend
from redicts.codecs.json import codec
from redicts.core import driver
from redicts.core.backend import Backend
from redicts.core.driver import Await, Listen, Pause, Steps
from redicts.core.envelope import LeafFormat
from redicts.core.leaves import ABSENT
from redicts.core.locks.guards import guarded
from redicts.core.minitransaction import (
    NOTHING,
    VALUES,
    Add,
    Check,
    Delete,
    Equals,
    Key,
    Outcome,
    Put,
    Read,
    Scope,
    Status,
    Transaction,
)
from redicts.core.store import TreeStore
from redicts.errors import Conflict, LeafError, LockLost, Unreachable
from tests.core.test_large_trees import Limited

LOCK = Key("h", ("/a", "!", "here/1"))
OTHER = Key("h", ("/b", "!", "here/2"))
MINE = Equals(LOCK, Scope.NODE, {(): b"mine"})
ALSO_MINE = Equals(OTHER, Scope.NODE, {(): b"mine"})
A, AB = ("a",), ("a", "b")
STORE = TreeStore(LeafFormat(codec), None)

Operation = Callable[[TreeStore], Steps[Any]]


def k(*path: str) -> Key:
    """Return the key of a value."""
    return Key(VALUES, path)


def refusal(index: int) -> Steps[Exception]:
    """Make the exception for a guard, without asking anything."""
    return LockLost(f"guard {index}")
    yield Pause(0)


def lock(backend: Backend, *keys: Key) -> None:
    """Put what the guards look for."""
    backend.execute(Transaction(writes=tuple(Put(key, b"mine") for key in keys)))


def refused(backend: Backend, steps: Steps[Any], guards: tuple[Check, ...] = (MINE,)) -> str:
    """Run a guarded operation that must be refused, and return what it says."""
    with pytest.raises(LockLost) as caught:
        driver.run(guarded(steps, guards, refusal), backend)
    return str(caught.value)


def changing(store: TreeStore) -> Steps[Any]:
    """Change two values, one by its sum."""
    changes = store.begin()
    changes.expect(A, {"b": 1})
    changes.write(("x",), 1, None)
    changes.add(("n",), 2)
    return store.commit(changes)


WRITING: dict[str, tuple[Operation, Any, Any]] = {
    "write": (lambda s: s.write(A, {"c": 2}), None, {"a": {"c": 2}}),
    "write a deep leaf": (lambda s: s.write(("a", "b", "c"), 2), None, {"a": {"b": {"c": 2}}}),
    "merge": (lambda s: s.merge(A, {"c": 2}), None, {"a": {"b": 1, "c": 2}}),
    "merge an empty dict": (lambda s: s.merge(A, {"c": {}}), None, {"a": {"b": 1, "c": {}}}),
    "add": (lambda s: s.add(AB, 2), 3, {"a": {"b": 3}}),
    "add a float": (lambda s: s.add(AB, 0.5), 1.5, {"a": {"b": 1.5}}),
    "change": (lambda s: s.change(A, lambda old: {**old, "c": 2}), {"b": 1, "c": 2}, {"a": {"b": 1, "c": 2}}),
    "change to nothing": (lambda s: s.change(A, lambda old: ABSENT), ABSENT, ABSENT),
    "take": (lambda s: s.take(A), {"b": 1}, ABSENT),
    "set_default": (lambda s: s.set_default(("a", "c"), 2), 2, {"a": {"b": 1, "c": 2}}),
    "compare_and_set": (lambda s: s.compare_and_set(A, {"b": 1}, 2), True, {"a": 2}),
    "compare_and_set of other bytes": (lambda s: s.compare_and_set(A, {"b": 1.0}, 2), True, {"a": 2}),
    "delete": (lambda s: s.delete(A), None, ABSENT),
    "expire": (lambda s: s.expire(A, 60_000), None, {"a": {"b": 1}}),
    "commit": (changing, None, {"a": {"b": 1}, "x": 1, "n": 2}),
}


@pytest.mark.parametrize("name", WRITING)
def test_a_write_is_made_only_if_its_guards_hold(name: str) -> None:
    """With all guards held the operation does the same as without; with a failed one it writes nothing and raises."""
    operation, result, after = WRITING[name]
    for held, guard in (((LOCK, OTHER), None), ((LOCK,), 1), ((OTHER,), 0), ((), 0)):
        backend = MemoryBackend()
        driver.run(STORE.write((), {"a": {"b": 1}}), backend)
        lock(backend, *held)
        if guard is None:
            assert driver.run(guarded(operation(STORE), (MINE, ALSO_MINE), refusal), backend) == result
            assert driver.run(STORE.read(()), backend) == after
        else:
            assert refused(backend, operation(STORE), (MINE, ALSO_MINE)) == f"guard {guard}"
            assert driver.run(STORE.read(()), backend) == {"a": {"b": 1}}
            assert driver.run(STORE.ttl(()), backend) is None


@pytest.mark.parametrize("name", WRITING)
def test_a_guarded_write_takes_no_transaction_more(name: str) -> None:
    """Guards ride along: as many transactions as without, the same reads and writes."""
    operation, _, _ = WRITING[name]
    sent: list[list[Transaction]] = []
    for guards in ((), (MINE,)):
        backend = MemoryBackend()
        driver.run(STORE.write((), {"a": {"b": 1}}), backend)
        lock(backend, LOCK)
        sent.append([])
        steps = guarded(operation(STORE), guards, refusal) if guards else operation(STORE)
        try:
            request = next(steps)
            while True:
                assert isinstance(request, Transaction)
                sent[-1].append(request)
                request = steps.send(backend.execute(request))
                while isinstance(request, Pause):
                    request = steps.send(Outcome(Status.APPLIED))
        except StopIteration:
            pass
    plain, with_guards = sent
    assert len(plain) == len(with_guards)
    for one, other in zip(plain, with_guards):
        assert other == (one._replace(checks=(MINE, *one.checks)) if one.writes else one)


def test_reading_is_not_guarded() -> None:
    """A transaction without writes is unchanged, and needs no lock."""
    backend = MemoryBackend()
    driver.run(STORE.write((), {"a": {"b": 1}}), backend)
    assert driver.run(guarded(STORE.read(A), (MINE,), refusal), backend) == {"b": 1}
    assert driver.run(guarded(STORE.names(()), (MINE,), refusal), backend) == ["a"]
    read = Transaction((Equals(k("a"), Scope.NODE, NOTHING),), (Read(k("a")),))
    steps = guarded(asking(read), (MINE,), refusal)
    assert next(steps) is read
    steps.close()


def test_other_requests_are_passed_on() -> None:
    """Pauses and waits are passed on unchanged."""
    asked: list[Any] = [Pause(0.5), Listen("here/1"), Await(2)]
    steps = guarded(asking(*asked), (MINE,), refusal)
    assert [next(steps), steps.send(Outcome(Status.APPLIED)), steps.send(Outcome(Status.APPLIED))] == asked
    with pytest.raises(StopIteration) as stop:
        steps.send(Outcome(Status.APPLIED))
    assert stop.value.value == [Outcome(Status.APPLIED)] * 3


def asking(*requests: Any) -> Steps[Any]:
    """Ask for these, and return what came of it."""
    outcomes = []
    for request in requests:
        outcomes.append((yield request))  # noqa: PERF401  (a comprehension cannot yield)
    return outcomes


def test_culprits_are_those_of_the_operation() -> None:
    """A failed check of the operation itself has the number that it has without guards; so has a write."""
    backend = MemoryBackend()
    lock(backend, LOCK, OTHER)
    fails = Equals(k("a"), Scope.NODE, {(): b"1"})
    write = Put(k("b"), b"1")
    transaction = Transaction((Equals(k("b"), Scope.NODE, NOTHING), fails), (), (write,))
    (outcome,) = driver.run(guarded(asking(transaction), (MINE, ALSO_MINE), refusal), backend)
    assert (outcome.status, outcome.failed_index) == (Status.CHECK_FAILED, 1)
    backend.execute(Transaction(writes=(Put(k("c"), b"x"),)))
    (outcome,) = driver.run(
        guarded(asking(Transaction(writes=(write, Add(k("c"), 1)))), (MINE, ALSO_MINE), refusal), backend
    )
    assert (outcome.status, outcome.failed_index) == (Status.NOT_A_COUNTER, 1)
    changes = STORE.begin()
    changes.add(("n",), 1)
    changes.expect(A, 5)
    with pytest.raises(Conflict, match="'a'"):
        driver.run(guarded(STORE.commit(changes), (MINE, ALSO_MINE), refusal), backend)
    driver.run(STORE.write(("n",), {"x": 1}), backend)
    changes = STORE.begin()
    changes.add(("n",), 1)
    with pytest.raises(LeafError, match="holds a dict"):
        driver.run(guarded(STORE.commit(changes), (MINE, ALSO_MINE), refusal), backend)


def test_a_guard_that_fails_later_ends_the_operation_there() -> None:
    """A lock that is lost between two writes stops the second one; the first one was made while it held."""
    backend = MemoryBackend()
    lock(backend, LOCK)
    first, second = (Transaction(writes=(Put(k(name), b"1"),)) for name in "ab")
    steps = guarded(asking(first, second), (MINE,), refusal)
    request = next(steps)
    assert isinstance(request, Transaction)
    request = steps.send(backend.execute(request))
    backend.execute(Transaction(writes=(Delete(LOCK, Scope.NODE),)))
    assert isinstance(request, Transaction)
    with pytest.raises(LockLost):
        steps.send(backend.execute(request))
    assert driver.run(STORE.read(()), backend) == {"a": 1}


def test_a_refusal_may_read_the_store() -> None:
    """The refusal is steps that may read the store, and receives the index of the guard."""
    backend = MemoryBackend()
    backend.execute(Transaction(writes=(Put(LOCK, b"yours"), Put(OTHER, b"mine"))))

    def naming(index: int) -> Steps[Exception]:
        outcome = yield Transaction((), (Read(LOCK),))
        return LockLost(f"guard {index}: {outcome.answers[0].values[()]!r}")

    with pytest.raises(LockLost, match="guard 1: b'yours'"):
        driver.run(guarded(STORE.write(A, 1), (ALSO_MINE, MINE), naming), backend)


def test_the_operation_sees_errors_of_the_store() -> None:
    """An error of the store is raised inside the operation, which may go on; its next write is guarded too."""

    def stubborn() -> Steps[Any]:
        try:
            yield Transaction(writes=(Put(k("a"), b"1"),))
        except Unreachable:
            return (yield Transaction(writes=(Put(k("b"), b"1"),)))

    steps = guarded(stubborn(), (MINE,), refusal)
    next(steps)
    again = steps.throw(Unreachable("away"))
    assert again == Transaction((MINE,), (), (Put(k("b"), b"1"),))
    with pytest.raises(StopIteration) as stop:
        steps.send(Outcome(Status.APPLIED))
    assert stop.value.value == Outcome(Status.APPLIED)

    error = Unreachable("away")
    steps = guarded(STORE.write(A, 1), (MINE,), refusal)
    next(steps)
    with pytest.raises(Unreachable) as caught:
        steps.throw(error)
    assert caught.value is error


@pytest.mark.parametrize("ending", ["result", "refusal", "error", "close", "interrupt", "own error"])
def test_the_operation_is_closed(ending: str) -> None:
    """However a guarded operation ends, the operation within has ended with it."""
    events: list[str] = []

    def inner() -> Generator[Any, Outcome, str]:
        try:
            yield Transaction(writes=(Put(k("a"), b"1"),))
            if ending == "own error":
                raise LookupError
            return "done"
        finally:
            events.append("closed")

    within = inner()  # held on to, or it would be closed when nobody refers to it any more
    steps = guarded(within, (MINE,), refusal)
    next(steps)
    assert not events
    if ending == "result":
        with pytest.raises(StopIteration):
            steps.send(Outcome(Status.APPLIED))
    elif ending == "refusal":
        with pytest.raises(LockLost):
            steps.send(Outcome(Status.CHECK_FAILED, failed_index=0))
    elif ending == "own error":
        with pytest.raises(LookupError):
            steps.send(Outcome(Status.APPLIED))
    elif ending == "close":
        steps.close()
    else:
        error: type[BaseException] = Unreachable if ending == "error" else KeyboardInterrupt
        with pytest.raises(error):
            steps.throw(error("x"))
    assert events == ["closed"]


def test_nothing_to_do_needs_no_lock() -> None:
    """An operation without requests returns at once."""
    assert driver.run(guarded(STORE.merge(A, {}), (MINE,), refusal), MemoryBackend()) is None


# Large trees: an operation of many transactions is guarded in each of them.

MANY = {f"k{number:04}": number for number in range(2_500)}


def of_many(store: TreeStore) -> dict[str, Steps[Any]]:
    """Return operations on many values."""
    return {
        "write": store.write(("b",), MANY),
        "merge": store.merge(("b",), MANY),
        "delete": store.delete(A),
        "expire": store.expire(A, 60_000),
        "take": store.take(A),
    }


@pytest.mark.parametrize("most", [1_000, 1_100])
@pytest.mark.parametrize("name", ["write", "merge", "delete", "expire", "take"])
def test_large_operations_are_done_in_full_with_guards(name: str, most: int) -> None:
    """An operation on more values than a store takes at once does the same with guards as without.

    A thousand is the least that a store may take at once; there the guards count too.
    """
    trees = []
    for guards in ((), (MINE, ALSO_MINE)):
        backend = Limited(most)
        store = TreeStore(LeafFormat(codec), backend.most)
        lock(backend, LOCK, OTHER)
        driver.run(store.write(A, MANY), backend)
        steps = of_many(store)[name]
        driver.run(guarded(steps, guards, refusal) if guards else steps, backend)
        mortal = driver.run(store.ttl(A), backend) is not None
        trees.append((driver.run(store.read(()), backend), mortal))
    assert trees[0] == trees[1]


@pytest.mark.parametrize("most", [1_000, 1_100])
@pytest.mark.parametrize("name", ["write", "merge", "delete", "expire", "take"])
def test_large_operations_stop_when_the_lock_is_lost(name: str, most: int) -> None:
    """Each part of a large operation is guarded: after the lock is lost nothing is written any more."""

    class Losing(Limited):
        def __init__(self) -> None:
            super().__init__(most)
            self.written: list[bool] = []

        def execute(self, transaction: Transaction, /) -> Outcome:
            outcome = super().execute(transaction)
            if MINE in transaction.checks and outcome.status is not Status.TOO_LARGE:
                self.written.append(outcome.applied)
                self.inner.execute(Transaction(writes=(Delete(LOCK, Scope.NODE),)))
            return outcome

    backend = Losing()
    store = TreeStore(LeafFormat(codec), backend.most)
    driver.run(store.write(A, MANY), backend)
    lock(backend, LOCK)
    assert refused(backend, of_many(store)[name]) == "guard 0"
    assert backend.written == [True, False], "one part was written while the lock was held, and none after"
