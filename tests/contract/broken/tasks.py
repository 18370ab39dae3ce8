"""Backends whose part for asyncio is wrong, and whose calls by threads are right."""

from __future__ import annotations

import asyncio
import datetime
import math
import os
import time
from collections.abc import Callable
from typing import Any, Final
from weakref import finalize

from redicts.backends.sqlite import SqliteBackend
from redicts.core.async_backend import AsyncBackend, AsyncListener, CallbackListener
from redicts.core.minitransaction import Add, Outcome, Path, Put, Transaction
from redicts.errors import StoreError
from tests.contract.broken.failures import _Damaged
from tests.contract.broken.register import broken_network_client, broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.networks import NetworkClient, Number, ReplyLost
from tests.contract.reference_model import ChangeListener, DictBackend, DictListener, PlainBackend


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


class _AllAtOnce(_Listener):
    """Is closed together with all others of its part for asyncio."""

    def __init__(self, store: DictBackend, name: str, others: list[_Listener]) -> None:
        super().__init__(store, name)
        self.others = others
        others.append(self)

    def close(self) -> None:
        for other in self.others:
            other.inner.close()


class _ClosesAll(InTasks):
    def __init__(self, store: DictBackend) -> None:
        super().__init__(store)
        self.open: list[_Listener] = []

    async def listen(self, name: str, deadline: float | None = None, /) -> AsyncListener:
        return _AllAtOnce(self.store, name, self.open)


@broken_store("tasks.listeners_mean_the_same", alone=True)
class OneClosedListenerClosesAll(DictBackend):
    """When one listener of a task is closed, the others of its loop hear nothing any more."""

    def for_asyncio(self) -> AsyncBackend:
        return _ClosesAll(self)


class _Changes(CallbackListener):
    """A listener to changes."""

    def __init__(self, store: DictBackend, path: Path) -> None:
        super().__init__(asyncio.get_running_loop())
        self.inner = _Watching(store, path, self.notify_from_thread)

    def close(self) -> None:
        self.inner.close()


class _Watching(ChangeListener):
    def __init__(self, store: DictBackend, path: Path, bell: Callable[[], object]) -> None:
        super().__init__(store, b"a task", path)
        self._bell = bell

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "called" and value:
            self._bell()


class _WatchesItsSection(InTasks):
    async def listen_to_changes(self, name: str, path: Path, /) -> AsyncListener:
        return _Changes(self.store, path or ("nothing",))


@broken_store("tasks.listeners_mean_the_same")
class WatchersOfTheRootAreDeaf(DictBackend):
    """A task that listens to changes at the root hears of none."""

    def for_asyncio(self) -> AsyncBackend:
        return _WatchesItsSection(self)


class _OverANetwork(AsyncBackend):
    """A correct part for asyncio of a client on a network: it sends a request again, with its number."""

    def __init__(self, client: NetworkClient) -> None:
        self.client = client
        self.sessions: list[int] = []
        """Those that no request uses, the last one first: a request in doubt is overtaken by the next."""

    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        await asyncio.sleep(0)
        numbers = self.client.network.numbers
        session = self.sessions.pop() if self.sessions else next(numbers)
        number = session, next(numbers)
        try:
            while deadline is None or time.monotonic() < deadline:
                try:
                    return self.client.send(number, transaction)
                except ReplyLost as lost:
                    left = math.inf if deadline is None else deadline - time.monotonic()
                    await asyncio.sleep(max(0.0, min(lost.seconds, left)))
                    number = self.number_again(number)
        finally:
            self.sessions.append(session)
        raise self.given_up(transaction)

    async def listen(self, name: str, deadline: float | None = None, /) -> AsyncListener:
        store = self.client.network.server.store
        assert isinstance(store, DictBackend)
        return _Listener(store, name)

    def number_again(self, number: Number) -> Number:
        """Return the number under which a request is sent again."""
        return number

    def given_up(self, transaction: Transaction) -> StoreError:
        return self.client.given_up(bool(transaction.writes))


class _NumbersAgain(_OverANetwork):
    def number_again(self, number: Number) -> Number:
        return number[0], next(self.client.network.numbers)


@broken_network_client("tasks.faults_mean_the_same", of=PlainBackend, alone=True)
class TasksSendAgainAsNew(NetworkClient):
    """A task whose reply was lost sends its request again with another number."""

    def for_asyncio(self) -> AsyncBackend:
        return _NumbersAgain(self)


class _Sure(_OverANetwork):
    def given_up(self, transaction: Transaction) -> StoreError:
        return self.client.given_up(False)


@broken_network_client("tasks.faults_mean_the_same", of=DictBackend, alone=True)
class DoubtOfTasksIsNotTold(NetworkClient):
    """A write of a task to which no reply came is said not to be applied."""

    def for_asyncio(self) -> AsyncBackend:
        return _Sure(self)


class _InTheLoop(AsyncBackend):
    def __init__(self, store: SqliteBackend) -> None:
        self.store: Final = store

    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        await asyncio.sleep(0)
        return self.store.execute(transaction, deadline)


@broken_shared_store("tasks.a_task_that_waits_lets_others_run", alone=True)
class TasksHoldUpTheirLoop(OnSqlite):
    """The part for asyncio calls the store in the event loop, which stands still while that waits for a writer."""

    def for_asyncio(self) -> AsyncBackend:
        return _InTheLoop(self.store)


class _OneErrorForAll(InTasks):
    error: StoreError | None = None

    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        try:
            return self.store.execute(transaction)
        except StoreError as error:
            self.error = error
            try:
                await asyncio.sleep(0)
            finally:
                self.error = None
            raise


@broken_store("tasks.a_refused_request_is_its_tasks_own", alone=True)
class TasksShareTheirErrors(_Damaged):
    """A task whose request follows a refused one of another task gets the error of that."""

    def for_asyncio(self) -> AsyncBackend:
        return _OneErrorForAll(self)


class _LeftOpen(InTasks):
    def __init__(self, store: DictBackend) -> None:
        super().__init__(store)
        ends = os.pipe()
        for end in ends:
            finalize(self, os.close, end)


@broken_store("tasks.each_loop_has_one")
class LoopsLeaveConnectionsOpen(DictBackend):
    """Closing the part for asyncio does not close its connection."""

    def for_asyncio(self) -> AsyncBackend:
        return _LeftOpen(self)


class _WithDates(InTasks):
    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        if deadline is not None:
            datetime.timedelta(seconds=deadline)
        return await super().execute(transaction, deadline)


@broken_store("tasks.transactions_mean_the_same")
class DeadlinesOfTasksAreDates(DictBackend):
    """The deadline of a task is made a date, which infinity is not."""

    def for_asyncio(self) -> AsyncBackend:
        return _WithDates(self)


class _LongOnesFirst(InTasks):
    def __init__(self, store: DictBackend) -> None:
        super().__init__(store)
        self.waiting: list[tuple[Transaction, asyncio.Future[Outcome]]] = []

    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if not self.waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self.waiting.append((transaction, future))
        return await future

    def flush(self) -> None:
        """Send what waits, the long requests first, and give the replies to the tasks in their order."""
        waiting, self.waiting = self.waiting, []
        for (transaction, _), (_, future) in zip(sorted(waiting, key=lambda each: -_size(each[0])), waiting):
            outcome = self.store.execute(transaction)
            if not future.done():
                future.set_result(outcome)


def _size(transaction: Transaction) -> int:
    longest = max([len(write.value) for write in transaction.writes if isinstance(write, Put)], default=0)
    return longest if longest >= 4096 else 0


@broken_store("tasks.tasks_share_it", alone=True)
class LongRequestsOfTasksComeFirst(DictBackend):
    """A long request of a task is sent before those that wait, and replies go to the tasks in their order."""

    def for_asyncio(self) -> AsyncBackend:
        return _LongOnesFirst(self)
