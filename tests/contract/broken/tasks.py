"""Backends whose part for asyncio is wrong, and whose calls by threads are right."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redicts.core.async_backend import AsyncBackend, AsyncListener, CallbackListener
from redicts.core.minitransaction import Add, Outcome, Transaction
from tests.contract.broken.register import broken_store
from tests.contract.reference_model import DictBackend, DictListener


class InTasks(AsyncBackend):
    """A correct part for asyncio: it lets other tasks run before and after it has executed."""

    def __init__(self, store: DictBackend) -> None:
        self.store = store

    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        await asyncio.sleep(0)
        outcome = self.store.execute(transaction)
        await asyncio.sleep(0)
        return outcome

    async def listen(self, name: str, deadline: float | None = None, /) -> AsyncListener:
        return _Listener(self.store, name)


class _Calling(DictListener):
    """A listener that also calls back."""

    def __init__(self, store: DictBackend, name: bytes, bell: Callable[[], object]) -> None:
        super().__init__(store, name)
        self._bell = bell

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "called" and value:
            self._bell()


class _Listener(CallbackListener):
    def __init__(self, store: DictBackend, name: str) -> None:
        super().__init__(asyncio.get_running_loop())
        self.inner = _Calling(store, name.encode(), self.rung)

    def rung(self) -> None:
        self.notify_from_thread()

    def close(self) -> None:
        self.inner.close()


class ForTasks(DictBackend):
    """A correct store with a part for asyncio."""

    def for_asyncio(self) -> AsyncBackend:
        return InTasks(self)


class _Forgetful(InTasks):
    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        outcome = await super().execute(transaction, deadline)
        return outcome if outcome.failed_index is None else outcome._replace(failed_index=0)


@broken_store("tasks.transactions_mean_the_same", alone=True)
class TasksBlameTheFirstCheck(DictBackend):
    """A refused transaction of a task always names its first check."""

    def for_asyncio(self) -> AsyncBackend:
        return _Forgetful(self)


class _Mixed(InTasks):
    def __init__(self, store: DictBackend) -> None:
        super().__init__(store)

    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        await asyncio.sleep(0)
        self.outcome = self.store.execute(transaction)
        await asyncio.sleep(0)
        return self.outcome


@broken_store("tasks.tasks_share_it", alone=True)
class TasksShareOneOutcome(DictBackend):
    """The outcome is kept in an attribute, where another task replaces it."""

    def for_asyncio(self) -> AsyncBackend:
        return _Mixed(self)


class _Queue(InTasks):
    def __init__(self, store: DictBackend) -> None:
        super().__init__(store)
        self.replies: list[Outcome] = []
        self.lock = asyncio.Lock()

    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        async with self.lock:
            self.replies.append(self.store.execute(transaction))
            await asyncio.sleep(0)
            return self.replies.pop(0)


@broken_store("tasks.a_cancelled_task_takes_its_reply_along", alone=True)
class NextTaskReadsTheReply(DictBackend):
    """The reply to a cancelled request stays on the connection, where the next request reads it."""

    def for_asyncio(self) -> AsyncBackend:
        return _Queue(self)


class _Late(InTasks):
    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        is_put = any(not isinstance(write, Add) for write in transaction.writes)
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if is_put:
                asyncio.get_running_loop().call_later(0.001, self.store.execute, transaction)
            raise
        return self.store.execute(transaction)


@broken_store("tasks.a_cancelled_write_is_not_late", alone=True)
class CancelledWritesAreLate(DictBackend):
    """A write whose task is cancelled is still carried out, a millisecond later."""

    def for_asyncio(self) -> AsyncBackend:
        return _Late(self)


class _WrongThread(_Listener):
    def rung(self) -> None:
        self.notify()


class _RingsInAnyThread(InTasks):
    async def listen(self, name: str, deadline: float | None = None, /) -> AsyncListener:
        return _WrongThread(self.store, name)


@broken_store("tasks.a_task_is_notified", alone=True)
class ListenersRingInTheWrongThread(DictBackend):
    """A notification by another thread does not wake the event loop of the task."""

    def for_asyncio(self) -> AsyncBackend:
        return _RingsInAnyThread(self)


class _Bound(InTasks):
    def __init__(self, store: DictBackend) -> None:
        super().__init__(store)
        self.loop = asyncio.get_running_loop()

    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        await self.loop.run_in_executor(None, int)
        return self.store.execute(transaction)


@broken_store("tasks.each_loop_has_one")
class OneForAllLoops(DictBackend):
    """All event loops get the one that was made for the first."""

    made: AsyncBackend | None = None

    def for_asyncio(self) -> AsyncBackend:
        if self.made is None:
            self.made = _Bound(self)
        return self.made


class _Slow(InTasks):
    def __init__(self, store: DictBackend) -> None:
        super().__init__(store)
        self.loop = asyncio.get_running_loop()

    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        if self.store.made is not self:  # type: ignore[attr-defined]
            raise RuntimeError("the connections belong to another event loop")
        return await super().execute(transaction, deadline)


@broken_store("tasks.each_loop_has_one", alone=True)
class LastLoopWins(DictBackend):
    """The connections are those of the loop that was opened last; the others cannot go on."""

    made: AsyncBackend | None = None

    def for_asyncio(self) -> AsyncBackend:
        self.made = made = _Slow(self)
        return made
