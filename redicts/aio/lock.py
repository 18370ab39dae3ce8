"""Lock: a hierarchical lock for tasks of asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from redicts.aio.functions import LocksFunctions
from redicts.aio.lockable import Lockable
from redicts.aio.loops import loops_of, run_for
from redicts.aio.twins import Call, twin_of
from redicts.api import lock
from redicts.api.lock import LockBase
from redicts.api.lock_info import LockInfo, infos_of
from redicts.core.locks.records import HOLDERS, WAITERS, Record
from redicts.locks import manager

_running: Final[set[asyncio.Task[object]]] = set()
"""The callbacks that are coroutines, while they run: a loop keeps no reference to its tasks."""


@twin_of(lock.Lock)
class Lock(LockBase["Lock"], LocksFunctions, Lockable["Lock"]):
    """A lock on a path and everything below it, for one task at a time, on this and on other hosts.

    Args:
        redis_conn: A :class:`Proxy` (``key`` is then relative to it), the :class:`Pool` or a :class:`Database`, of this
            module or a blocking one; a blocking redis-py client; or an opened backend.
        key: Dotted text, or an iterable of segments.
        expire_timeout: The lease in seconds, after which a lock expires that is neither released nor renewed.
        acquire_timeout: The maximum time to wait for the lock in seconds; ``None`` waits without limit.
        shared: Allow any number of shared owners while no owner holds it exclusively.
        renew: Renew the lease three times per lease for as long as the task is not done. It is renewed in a thread, so
            also while the loop is busy.
        on_renewal_overdue: Called with this lock, in the loop of its task, when two thirds of a lease have passed
            without a renewal. It may be a coroutine function.
        on_loss: Called in the same way when the lock is lost.

    A task may acquire its own lock again, or a path below it, without a round trip; a task that it creates may not.
    Tasks may share the object: each method acts for the task that calls it. A method takes one round trip unless it
    says otherwise, and raises a subclass of :class:`~redicts.errors.StoreError` if the store fails.

    """

    __slots__ = ()

    def extend(self, seconds: float | None = None) -> Call[None]:
        acquired = self._acquired()
        return run_for(acquired.manager, self._extend(acquired, seconds))

    def is_locked(self) -> Call[bool]:
        database = self._database()
        return loops_of(database).run(self._is_locked(database))

    def locked(self) -> Call[bool]:
        return self.is_locked()

    def holders(self) -> Call[list[LockInfo]]:
        return self._infos(HOLDERS)

    def waiters(self) -> Call[list[LockInfo]]:
        return self._infos(WAITERS)

    def break_locks(self) -> Call[list[LockInfo]]:
        database = self._database()
        return loops_of(database).run(self._break(database))

    async def _infos(self, space: str) -> list[LockInfo]:
        database = self._database()
        records: list[Record] = await loops_of(database).run(self._find(database, space))
        return infos_of(records)

    def _bound(self, callback: Callable[[Lock], object] | None) -> Callable[[], object] | None:
        if callback is None:
            return None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the call is made before its loop runs
            return partial(callback, self)
        return partial(_call_in, loop, partial(callback, self))


def _call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Call a callback in its loop. Raises ``RuntimeError`` if the loop is closed, which the caller logs."""
    loop.call_soon_threadsafe(_start, loop, callback)


def _start(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    try:
        result = callback()
    except Exception:
        manager.log.exception("a lock's callback failed")
        return
    if asyncio.iscoroutine(result):
        task = loop.create_task(_logged(result))
        _running.add(task)
        task.add_done_callback(_running.discard)


async def _logged(callback: Any) -> None:
    try:
        await callback
    except Exception:
        manager.log.exception("a lock's callback failed")
