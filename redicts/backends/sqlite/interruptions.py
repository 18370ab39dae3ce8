"""What an interrupted call leaves behind: found on the stacks of the threads, because its own marks may be incomplete.

A signal handler or a finalizer runs between two instructions of the thread that it interrupts. It may call the store
again, and it may raise, also where the interrupted call was about to clean up. A mark such as "this thread is a member"
then stays. So code that meets a mark of another call, and would have to wait for it, looks whether that call is still
on the stack of its thread. Such a look takes some microseconds and is rarely needed.
"""

from __future__ import annotations

import contextlib
import threading

from redicts.errors import StoreBusy
from redicts.forks import stack


def is_under_way(thread: int, name: str, value: object) -> bool:
    """Tell whether a function on the stack of a thread has this object in a local variable of this name."""
    return any(name in frame.f_code.co_varnames and frame.f_locals.get(name) is value for frame in stack(thread))


def release(lock: threading.RLock) -> None:
    """Release a lock as often as this thread has acquired it. An exception may come between a block and its end."""
    with contextlib.suppress(RuntimeError):
        while True:
            lock.release()


def interrupting(path: str) -> StoreBusy:
    """Return the error for a call that cannot proceed because it interrupts another one."""
    return StoreBusy(
        f"SQLite file {path!r}: called by a signal handler or a finalizer that interrupted another call of the same "
        "thread; do such work elsewhere"
    )
