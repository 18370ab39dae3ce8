"""The write queue: writers that have waited long for the file's lock write before later ones.

SQLite grants its lock to whichever writer tries at the right moment, usually to the one that has just released it. This
is fast, and can starve a writer. So a writer that has found the file locked for some milliseconds joins a queue. Other
writers look for it at intervals of ``LOOK_SECS``, which costs less than a look by each write, and do not begin while
it has members. The first member tries at short intervals until it succeeds.

The queue is a file (``-queue`` added to the name of the store) that exists only while it has members. To join, a writer
appends a byte; the size of the file is then its ticket, from 1 on, and a lock on the byte at this position shows that
the member is alive. A member is first if it can lock all bytes before its own. The system releases the locks of a
process that dies, so a killed member delays nobody; the next writer removes a file that was left behind.

One thread of a process at a time is a member, because the locks belong to processes. If an exception of a signal
handler ended its waiting before it could leave, another thread finds that it does not wait any more, and takes its
position. Where the file cannot be created or locked, writers contend without it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from io import FileIO
from time import monotonic, sleep
from typing import Final

from redicts.backends.sqlite.interruptions import is_under_way, release
from redicts.forks import ForkSafeLock, ResetInChild, stack
from redicts.handles import SharedByName
from redicts.randomness import RANDOM

_FIRST_DELAY_SECS: Final = 0.0005
_LONGEST_DELAY_SECS: Final = 0.005
_MEMBER_DELAY_SECS: Final = 0.0002

_JOIN_AFTER_SECS: Final = 0.05
"""How long a writer contends for the lock before it joins the queue. Nobody is overtaken for longer than this, plus the
time that the members before it take."""


class WriteQueue(ResetInChild):
    """The queue of writers to one file, as one process sees it."""

    def __init__(self, store: str) -> None:
        self.path: Final = store + "-queue"
        self._store = store
        # It guards the files that are open: when one is closed, this process loses its locks on all.
        self._files = ForkSafeLock()
        self._file: FileIO | None = None
        self.look_due = 0.0
        """The time from which on a writer looks whether the queue has members."""
        self.reset_in_child()
        super().__init__()

    def reset_in_child(self) -> None:
        """Let no thread be a member. Closing the copy of the parent's file releases none of the parent's locks."""
        self._member: Retry | None = None
        self._ticket = 0
        if self._file is not None:
            self._file.close()

    def admits_others(self) -> bool:
        """Tell whether a writer that is not a member may write now: the queue is empty, or this thread's own."""
        if not os.access(self.path, os.F_OK):
            return True
        member = self._member
        if member is not None and member.is_waiting():
            return member.thread == threading.get_ident()
        try:
            with self._files:
                # No thread of this process is a member. If the last member died, the file is removed here.
                return member is self._member and self._close(self._open(0))
        except OSError:
            return True
        finally:
            self._release()

    def join(self, retry: Retry) -> bool:
        """Make a call a member, and tell whether that was possible: no other call of this process may be one."""
        if self._join(retry):
            return True
        self.leave(retry)
        return False

    def _join(self, retry: Retry) -> bool:
        try:
            with self._files:
                member = self._member
                if member is not None and member.is_waiting():
                    return False
                self._drop()
                self._member = retry
                file = self._file = self._open(os.O_CREAT | os.O_APPEND)
                file.write(b".")
                self._ticket = file.tell()
                # If the file was removed meanwhile, later writers do not see it.
                return self._lock(fcntl.LOCK_EX, 1, self._ticket) and self._is_in_place(file)
        except OSError:
            return False
        finally:
            self._release()

    def is_first(self) -> bool:
        """Tell whether no member is before this thread, which is a member."""
        # A child that was forked by a member has no ticket.
        return not self._ticket or self._lock(fcntl.LOCK_SH, self._ticket, 0)

    def leave(self, retry: Retry) -> None:
        """End the membership of a call, and remove the queue if it was the last member.

        Until this has ended, the call is waiting, and no other thread of this process opens or closes the file.
        """
        if self._member is retry:
            self._drop()
            self._member = None

    def _release(self) -> None:
        """Release ``_files`` after an exception before the end of a block, unless an interrupted call holds it."""
        if len([frame for frame in stack() if frame.f_code in _HOLDING and frame.f_locals["self"] is self]) == 1:
            release(self._files)

    def _drop(self) -> None:
        if self._file is not None:
            self._close(self._file)
            self._file = None

    def _open(self, flags: int) -> FileIO:
        mode = os.stat(self._store).st_mode & 0o666
        file = FileIO(self.path, "r+", opener=lambda path, _: os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, mode))
        if flags & os.O_CREAT:
            # Every user who may write to the store may join, whatever the umask of this process is.
            with contextlib.suppress(OSError):
                os.fchmod(file.fileno(), mode)
        return file

    def _is_in_place(self, file: FileIO) -> bool:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(self.path))

    def _close(self, file: FileIO) -> bool:
        """Close the file, and remove it first if no other process has a lock on it; tell whether none has."""
        try:
            if not file.closed:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_in_place(file):
                    os.unlink(self.path)
        except BlockingIOError:
            return False
        except OSError:
            pass
        finally:
            file.close()
        return True

    def _lock(self, kind: int, length: int, start: int) -> bool:
        file = self._file
        if file is None or file.closed:
            return False
        try:
            fcntl.lockf(file, kind | fcntl.LOCK_NB, length, start)
        except OSError:
            return False
        return True


_HOLDING: Final = {each.__code__ for each in (WriteQueue.admits_others, WriteQueue._join)}
"""The code that holds the lock of the files."""


class Retry:
    """The waiting of one call that found the file locked; a writer joins the queue when it has waited long.

    The call is repeated as a whole, and SQLite itself does not wait. So a fork need not wait for a call that waits, and
    no single wait is longer than a few milliseconds.
    """

    def __init__(self, timeout: float, queue: WriteQueue | None) -> None:
        self._deadline = monotonic() + timeout
        self._queue = queue
        self._delay = _FIRST_DELAY_SECS
        # Only time in which this call was allowed to write counts. Otherwise every writer would end up in the queue,
        # and a lock that is handed from one sleeping process to the next serves a tenth of the writers.
        self._contended = 0.0
        self._contends = True
        self._is_member = False
        self.thread: Final = threading.get_ident()

    def is_waiting(self) -> bool:
        """Tell whether the call is still under way: its thread has this object in a local variable ``retry``."""
        return is_under_way(self.thread, "retry", self)

    def end(self) -> None:
        """Leave the queue. If an exception prevents that, another thread takes the position."""
        if self._queue is not None:
            self._queue.leave(self)

    def wait(self) -> bool:
        """Sleep until the call may try again; return false when its time is over."""
        queue = self._queue
        while True:
            now = monotonic()
            if now >= self._deadline:
                return False
            if queue is not None and not self._is_member and self._contended >= _JOIN_AFTER_SECS:
                self._is_member = queue.join(self)
            jitter = RANDOM.uniform(0.5, 1.5)
            sleep(min(self._delay * jitter, self._deadline - now))
            if self._contends:
                self._contended += monotonic() - now
            self._delay = _MEMBER_DELAY_SECS if self._is_member else min(2 * self._delay, _LONGEST_DELAY_SECS)
            self._contends = queue is None or (queue.is_first() if self._is_member else queue.admits_others())
            if self._contends:
                return True


def shared_queue(path: str) -> WriteQueue:
    """Return the queue of a file, the same for all backends of this process that use it, by whatever path."""
    real = os.path.realpath(path)
    return _by_file.get(real, lambda: WriteQueue(real))


_by_file: Final = SharedByName[WriteQueue]()
