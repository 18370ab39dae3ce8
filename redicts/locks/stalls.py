"""Refuses a blocking acquisition that would stall an event loop: a task holds its lock, and needs the loop to go on.

The wait would last until its timeout, with all tasks of the loop.
"""

from __future__ import annotations

from typing import TypeVar

from redicts.core.driver import Await, Steps
from redicts.core.locks.records import HOLDERS, WAITERS, Request, scopes_of
from redicts.core.minitransaction import Key
from redicts.core.paths import all_described
from redicts.core.store import TreeStore
from redicts.errors import Deadlock
from redicts.locks.manager import Acquired
from redicts.locks.owner import owners_on_this_loop

_Result = TypeVar("_Result")


def without_stall(steps: Steps[_Result], acquired: Acquired) -> Steps[_Result]:
    """Run an acquisition by a task, but raise :class:`~redicts.errors.Deadlock` before it waits for one of its loop.

    One more transaction before the first wait.
    """
    try:
        request = next(steps)
        while True:
            try:
                if isinstance(request, Await):
                    yield from _refuse(acquired)
                answer = yield request
            except GeneratorExit:
                raise
            except BaseException as error:
                request = steps.throw(error)
            else:
                request = steps.send(answer)
    except StopIteration as stop:
        result: _Result = stop.value
        return result
    finally:
        steps.close()


def _refuse(acquired: Acquired) -> Steps[None]:
    """Raise an error if the lock is held by another task of the loop that runs in this thread."""
    owners = owners_on_this_loop()
    request = acquired.request
    if request is None or len(owners) < 2:
        return
    store: TreeStore = acquired.manager.store
    for record in (yield from store.find_locks(_scopes(request))):
        if record.owner in owners and record.conflicts(request):
            raise Deadlock(
                f"the lock on {all_described(acquired.paths)} is {'held' if record.held else 'waited for'} by "
                f"{record.label}, which cannot go on while this blocking call waits: both run on one event loop; "
                "use the lock of redicts.aio, or acquire it without blocking"
            )


def _scopes(request: Request) -> list[Key]:
    spaces = (HOLDERS, WAITERS)
    return list(dict.fromkeys([key for path in request.paths for space in spaces for key in scopes_of(path, space)]))
