"""The backend ``sqlite``: a tree in one SQLite file, shared by the threads and processes of one machine.

The path ``":memory:"`` stands for a store in the memory of the process, which nobody else sees and which ends with it.

*What a crash leaves.* Whole transactions, always: the file uses a write-ahead log (while it is open, files with
``-wal`` and ``-shm`` added to the name lie beside it). When a process dies, all that it has committed is there. What
the death of the machine leaves is a setting, see :class:`SqliteSettings`.

*Forks.* A fork of the process waits until no thread is in the midst of a transaction, and closes the file; parent and
child open it again when they next use it. A store in memory is copied. What a child cannot do is use a file in whose
transaction it was forked (by a signal handler): it is told so.

*Where it works.* On a local disk. Network file systems lack the locks and the shared memory that SQLite relies on.

*Waking.* A thread that waits, for a lock say, is notified at once by the threads of its own process. What other
processes do it sees by looking, at intervals of 1 to 50 milliseconds; one thread of a process looks for all of them.

*Time.* Lives end by a clock that the file keeps and nobody can set, see ``clock.py``.

*Space.* What is deleted or expires is given back to the file system bit by bit, by those who write.

*Turns.* No writer is overtaken for long, see ``turns.py``.
"""

from __future__ import annotations

import os
from typing import Final

from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.settings import SqliteSettings
from redicts.core.backend import BackendPlugin
from redicts.core.hooks import hookimpl

__all__ = ["SqliteBackend", "SqliteSettings", "backup", "plugin", "redicts_backends"]


def backup(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Write a copy of a store's file, as it is atomically, while any processes use it.

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


def _open(settings: SqliteSettings, database: int) -> SqliteBackend:
    return SqliteBackend(settings.path, database, settings.busy_timeout_secs, settings.durability)


plugin: Final = BackendPlugin(
    "sqlite", SqliteSettings, _open, contract=1, summary="one file on a local disk, for the processes of one machine"
)


@hookimpl
def redicts_backends() -> list[BackendPlugin]:
    """Offer the backend ``sqlite``."""
    return [plugin]
