"""The backend ``sqlite``: a tree in one SQLite file, shared by the threads and processes of one machine.

The path ``":memory:"`` stands for a store in the memory of this process, which no other process sees.

*Crashes.* They leave whole transactions: the file uses a write-ahead log (files with ``-wal`` and ``-shm`` added to the
name, present while the store is open). When a process dies, everything that it committed is kept. What the death of the
machine leaves is a setting, see :class:`~redicts.backends.sqlite.settings.SqliteSettings`.

*Forks.* A fork waits until no thread is inside a transaction, and closes the file; parent and child open it again when
they next use it. A store in memory is copied. A child that was forked inside a transaction, by a signal handler, cannot
use that file, and the error says so.

*File systems.* Use a local disk. Network file systems lack the locks and the shared memory that SQLite relies on.

*Notifications.* A waiting thread is notified at once by the threads of its own process. Those of other processes are
found by polling at intervals of 1 to 50 milliseconds; one thread of a process polls for all of them.

*Time.* TTLs end by a clock that the file keeps and that cannot be set, see ``clock.py``.

*Space.* Writers return the room of deleted and expired values to the file system, see ``vacuum.py``.

*Fairness.* No writer is overtaken for long, see ``write_queue.py``.
"""

from __future__ import annotations

import os
from typing import Final

from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.options import SqliteOptions, plain
from redicts.core.backend import BackendPlugin
from redicts.core.hooks import hookimpl

__all__ = ["SqliteBackend", "backup", "plugin", "redicts_backends"]


def backup(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Write a copy of a store's file, atomically, while any processes use it.

    Raises ``FileNotFoundError`` if there is no store, and otherwise what :meth:`SqliteBackend.backup` raises.
    """
    if not os.path.exists(source):
        raise FileNotFoundError(
            f"{os.fspath(source)!r} does not exist, so there is nothing to back up; correct the path"
        )
    store = SqliteBackend(os.fspath(source))
    try:
        store.backup(target)
    finally:
        store.close()


def _open(settings: SqliteOptions, database: int) -> SqliteBackend:
    return SqliteBackend(settings.path, database, settings.busy_timeout_secs, settings.durability)


plugin: Final = BackendPlugin(
    "sqlite",
    "redicts.backends.sqlite.settings:SqliteSettings",
    _open,
    contract=1,
    summary="one file on a local disk, for the processes of one machine",
    harness="redicts.contract.stores:SqliteStoreHarness",
    plain=plain,
)


@hookimpl
def redicts_backends() -> list[BackendPlugin]:
    """Return the backend ``sqlite``."""
    return [plugin]
