"""Turns: who has waited long for the file's write lock writes before those who came later.

SQLite's lock goes to whoever tries at the right moment, mostly to the one that has just let go of it. That is fast, and
may starve somebody. So a writer that has met a locked file for some milliseconds gets into a queue; while somebody is
in it, nobody else begins to write, and the first of the queue tries at short intervals until it succeeds.

The queue is a file beside the store (``-queue`` added to the name), and is there only while somebody queues. Who comes
adds a byte to it; the position of that byte is the ticket, and a lock on that byte says that its owner is still there.
The first is who can lock all bytes before his own. The system lets go of the locks of a process that dies, so one that
is killed in the queue holds nobody up; a file that it leaves is removed by the next who writes.

One thread of a process at a time is in the queue, since the locks belong to processes. Where the file cannot be made or
locked, writers contend without it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from typing import Final
from weakref import WeakSet, WeakValueDictionary


class Turns:
    """The queue of those who want to write to one file, as one process sees it."""

    def __init__(self, path: str) -> None:
        self._store = path
        self._path = path + "-queue"
        self._file: int | None = None
        self._begin()
        _everywhere.add(self)

    def _begin(self) -> None:
        """Set up what belongs to one process: nobody of it is in the queue."""
        self._inside = threading.Lock()
        self._owner: int | None = None
        self._ticket = 0
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def mine(self) -> bool:
        """Tell whether somebody who is not in the queue may write now.

        Cost: a microsecond while there is no queue.
        """
        if not os.access(self._path, os.F_OK) or self._owner == threading.get_ident():
            return True
        if not self._inside.acquire(blocking=False):
            return False
        try:
            return not self._somebody_is_there()
        finally:
            self._inside.release()

    def join(self, seconds: float) -> bool:
        """Get into the queue, and tell whether that was possible; wait so long for other threads of this process."""
        if self._owner == threading.get_ident() or not self._inside.acquire(timeout=max(0.0, seconds)):
            return False
        try:
            self._owner = threading.get_ident()
            if self._take_a_ticket():
                return True
        except OSError:
            pass
        except BaseException:
            self.leave()
            raise
        self.leave()
        return False

    def first(self) -> bool:
        """Tell whether nobody is before this thread, which is in the queue."""
        return self._ticket == 0 or self._locks(fcntl.LOCK_SH, self._ticket, 0)

    def leave(self) -> None:
        """Get out of the queue, and remove it if nobody is left."""
        file, self._file = self._file, None
        try:
            if file is not None:
                self._close(file)
        finally:
            self._owner = None
            self._inside.release()

    def _take_a_ticket(self) -> bool:
        self._file = self._open(os.O_CREAT | os.O_APPEND)
        os.write(self._file, b".")
        self._ticket = os.lseek(self._file, 0, os.SEEK_CUR) - 1
        # If it was removed meanwhile, those who come do not see it.
        return self._locks(fcntl.LOCK_EX, 1, self._ticket) and self._is_in_place(self._file)

    def _open(self, flags: int) -> int:
        mode = os.stat(self._store).st_mode & 0o666
        file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | flags, mode)
        if flags & os.O_CREAT:
            # Whoever may write to the store may queue for it, whatever the mask of this process says.
            with contextlib.suppress(OSError):
                os.fchmod(file, mode)
        return file

    def _is_in_place(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), os.stat(self._path))
        except OSError:
            return False

    def _somebody_is_there(self) -> bool:
        """Look into a queue that no thread of this process is in, and remove it if its last one died."""
        try:
            file = self._open(0)
        except OSError:
            return False
        return not self._close(file)

    def _close(self, file: int) -> bool:
        """Close the file, and remove it before, if nobody has a lock on it but this process; return that."""
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._is_in_place(file):
                os.unlink(self._path)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            os.close(file)
        return True

    def _locks(self, kind: int, length: int, start: int) -> bool:
        assert self._file is not None
        try:
            fcntl.lockf(self._file, kind | fcntl.LOCK_NB, length, start)
        except OSError:
            return False
        return True


def turns_at(path: str) -> Turns:
    """Return the queue for a file, one for all in this process who write to it, by whatever path they know it."""
    real = os.path.realpath(path)
    with _growing:
        turns = _at_files.get(real)
        if turns is None:
            turns = _at_files[real] = Turns(real)
        return turns


_everywhere: Final[WeakSet[Turns]] = WeakSet()
_at_files: Final[WeakValueDictionary[str, Turns]] = WeakValueDictionary()
_growing = threading.RLock()


def _after_fork_in_child() -> None:
    """Begin again: the threads that queue are the parent's, and closing a copy of its file takes no lock of it away."""
    global _growing  # noqa: PLW0603  (the parent's may be held by a thread that is not here)
    _growing = threading.RLock()
    for turns in list(_everywhere):
        turns._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
