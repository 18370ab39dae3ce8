"""The adapters of blocking backends are certified by the checks of parts for asyncio."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from redicts.aio import Proxy, adapters
from redicts.aio.adapters import InLoop, InThreads
from redicts.backends.memory import MemoryBackend
from redicts.contract import CHECKS, certify
from redicts.core.async_backend import AsyncBackend
from redicts.core.listener import Listener
from redicts.core.minitransaction import Outcome, Transaction
from tests.contract.harnesses import InstanceHarness
from tests.support.stores import Use, Wrapped
from tests.support.waiting import TIMEOUT


class CalledInTheLoop(MemoryBackend):
    """The store in memory, as tasks call it."""

    def for_asyncio(self) -> AsyncBackend:
        return InLoop(self)


class CalledInThreads(MemoryBackend):
    """A store that is called in threads."""

    def for_asyncio(self) -> AsyncBackend:
        return InThreads(self)


@pytest.mark.parametrize("kind", [CalledInTheLoop, CalledInThreads])
def test_an_adapter_keeps_the_rules(kind: type[MemoryBackend]) -> None:
    """Each check of parts for asyncio passes, so every plugin works under asyncio as it does for threads."""
    checks = [check for check in CHECKS if check.name.startswith("tasks.")]
    report = certify(InstanceHarness(kind), checks=checks)
    assert report.passed, str(report)
    assert len(report.results) == len(checks)


def test_calls_in_the_loop_leave_room_for_other_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tasks call at once, together they take the loop for little more than a millisecond at a time."""
    now = [0.0]
    monkeypatch.setattr(adapters, "monotonic", lambda: now[0])
    backend = InLoop(MemoryBackend())
    calls = 0

    async def use() -> None:
        nonlocal calls
        for _ in range(30):
            await backend.next_turn()
            now[0] += 0.0004
            calls += 1

    async def main() -> None:
        tasks = [asyncio.create_task(use()) for _ in range(8)]
        before = 0
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            assert calls - before <= 4
            before = calls
            if calls == 40:
                tasks[0].cancel()
        assert calls >= 30 * 7

    asyncio.run(main())


class Slow(Wrapped):
    """A backend that executes some writes only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()

    def execute(self, transaction: Transaction, /) -> Outcome:
        if "early" in str(transaction.writes):
            self.has_begun.set()
            assert self.may_go_on.wait(TIMEOUT)
        return super().execute(transaction)


def test_a_write_waits_for_one_whose_task_was_cancelled(use: Use) -> None:
    """A call in a thread goes on after its task was cancelled, so a later write waits, and is the last one."""
    backend = Slow()
    use(backend)

    async def main() -> None:
        early = asyncio.ensure_future(Proxy("a").put("early"))
        assert await asyncio.to_thread(backend.has_begun.wait, TIMEOUT)
        early.cancel()
        await asyncio.wait([early])
        assert early.cancelled()
        late = asyncio.ensure_future(Proxy("a").put("late"))
        assert await Proxy("a").val() is None, "reads do not wait"
        assert not late.done()
        backend.may_go_on.set()
        await late
        assert await Proxy("a").val() == "late"

    asyncio.run(main())


def test_a_listener_that_comes_after_a_cancellation_is_closed() -> None:
    """A task that is cancelled while a thread makes its listener leaves none open."""
    has_begun, may_go_on, closed = threading.Event(), threading.Event(), threading.Event()

    class Recorded(Listener):
        def wait(self, timeout: float) -> bool:
            raise AssertionError(timeout)

        def close(self) -> None:
            closed.set()

    class SlowToListen(MemoryBackend):
        def listen(self, name: str, /) -> Any:
            has_begun.set()
            assert may_go_on.wait(TIMEOUT)
            return Recorded()

    async def main() -> None:
        backend = InThreads(SlowToListen())
        task = asyncio.create_task(backend.listen("a"))
        assert await asyncio.to_thread(has_begun.wait, TIMEOUT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_go_on.set()
        assert await asyncio.to_thread(closed.wait, TIMEOUT)
        backend.close(False)

    asyncio.run(main())
