"""The driver puts a store and a clock behind an operation, and adds nothing of its own."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from redicts.backends.memory import MemoryBackend
from redicts.core.backend import Backend, Capabilities
from redicts.core.driver import Pause, run
from redicts.core.minitransaction import VALUES, Key, Put, Read, Transaction
from redicts.core.minitransaction import Outcome as Result
from redicts.errors import Unreachable

WRITE = Transaction(writes=(Put(Key(VALUES, ("a",)), b"1"),))
READ = Transaction(reads=(Read(Key(VALUES, ("a",))),))


class Failing(Backend):
    """A store that fails with one error, so often, and then works."""

    def __init__(self, error: BaseException, times: int = 1) -> None:
        self._inner = MemoryBackend()
        self._error = error
        self._times = times
        self.calls = 0

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    def execute(self, transaction: Transaction, /) -> Result:
        self.calls += 1
        if self.calls <= self._times:
            raise self._error
        return self._inner.execute(transaction)


def test_run_sends_outcomes_and_returns_the_result() -> None:
    """Each transaction is executed in order, and the operation is sent its outcome."""

    def steps() -> Generator[Any, Result, list[Result]]:
        return [(yield READ), (yield WRITE), (yield READ)]

    outcomes = run(steps(), MemoryBackend())
    assert [outcome.applied for outcome in outcomes] == [True, True, True]
    assert [answer.values for outcome in outcomes for answer in outcome.answers] == [{}, {(): b"1"}]  # type: ignore[union-attr]


def test_an_operation_may_have_no_requests() -> None:
    """An operation that returns at once sends nothing to the store."""

    def steps() -> Generator[Any, Result, str]:
        return "done"
        yield READ

    store = Failing(Unreachable("away"))
    assert run(steps(), store) == "done"
    assert store.calls == 0


@pytest.mark.parametrize("error", [Unreachable("away"), ValueError("odd"), KeyboardInterrupt(), SystemExit(1)])
def test_errors_of_the_store_pass_through_the_operation(error: BaseException) -> None:
    """An error of the store is raised in the operation, which can clean up, and is not retried."""
    cleaned = []

    def steps() -> Generator[Any, Result, None]:
        try:
            yield WRITE
        finally:
            cleaned.append(True)

    store = Failing(error)
    with pytest.raises(type(error)) as caught:
        run(steps(), store)
    assert caught.value is error
    assert cleaned == [True]
    assert store.calls == 1


def test_an_operation_may_catch_errors_of_the_store() -> None:
    """An operation that catches the error continues with another request or returns a result."""

    def again() -> Generator[Any, Result, bool]:
        try:
            yield WRITE
        except Unreachable:
            return (yield READ).applied
        return False

    def give_up() -> Generator[Any, Result, str]:
        try:
            yield WRITE
        except Unreachable as error:
            return str(error)
        return ""

    assert run(again(), Failing(Unreachable("away"))) is True
    assert run(give_up(), Failing(Unreachable("away"))) == "away"


def test_errors_of_the_operation_are_raised() -> None:
    """An error of the operation is raised, before and after a request."""

    def before() -> Generator[Any, Result, None]:
        raise LookupError("before")
        yield READ

    def after() -> Generator[Any, Result, None]:
        yield READ
        raise LookupError("after")

    for steps in (before, after):
        with pytest.raises(LookupError, match=steps.__name__):
            run(steps(), MemoryBackend())


def test_a_pause_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause sleeps for its seconds, and sends nothing to the store."""
    slept: list[float] = []
    monkeypatch.setattr("redicts.core.driver.time.sleep", slept.append)

    def steps() -> Generator[Any, Result, Result]:
        yield Pause(0.25)
        return (yield Pause(0.5))

    store = Failing(Unreachable("away"))
    assert run(steps(), store) is None
    assert slept == [0.25, 0.5]
    assert store.calls == 0


def test_a_pause_can_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a pause reaches the operation like an error of the store."""

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("redicts.core.driver.time.sleep", interrupted)

    def steps() -> Generator[Any, Result, str]:
        try:
            yield Pause(1)
        except KeyboardInterrupt:
            return "cleaned up"
        return "slept"

    assert run(steps(), MemoryBackend()) == "cleaned up"
