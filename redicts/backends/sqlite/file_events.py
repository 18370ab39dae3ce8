"""File events: the kernel tells when a file was written, moved or removed, on Linux by inotify.

So a process that waits for a change of a quiet file need not look at it. The standard library has no function for this,
hence ``ctypes``. On other systems, and where the kernel refuses because too many processes watch files, nothing is
told, and each answer is that the files may have changed.

The kernel tells of writes that go through itself. So this serves for files whose users also share memory, as those of a
write-ahead log do.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Final

_CHANGES: Final = 0x002 | 0x004 | 0x800
"""``IN_MODIFY``, ``IN_ATTRIB`` (also told when a name of the file is removed), ``IN_MOVE_SELF``."""

_NONE: Final = -1
_READ_BYTES: Final = 4096


class _Descriptor(int):
    """The number of an open file, or -1. It is closed when nobody holds it, so none is used that is that of another."""

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self)


class Alarm:
    """Ends one :meth:`FileEvents.wait`, the current one or a later one. Any thread or signal handler may ring it."""

    __slots__ = ("descriptor",)

    def __init__(self) -> None:
        self.descriptor: Final = _Descriptor(os.eventfd(0))  # a child that executes a program does not inherit it

    def ring(self) -> None:
        """End the wait."""
        os.eventfd_write(self.descriptor, 1)


class FileEvents:
    """What the kernel tells of some files. One thread at a time uses it. It is open from the first question on."""

    _descriptor: _Descriptor
    _watched: list[int]

    def __init__(self) -> None:
        self.close()

    def have_come(self, *paths: str) -> bool:
        """Return whether any of the files at these paths may have changed since the last call.

        Cost: about ten microseconds.
        """
        functions = _inotify()
        if functions is None:
            return True
        begin, watch = functions
        if self._descriptor == _NONE:
            self._descriptor = _Descriptor(begin(os.O_CLOEXEC | os.O_NONBLOCK))
        # A file that is watched already has the same number again. One that has replaced it has another one.
        watched = [watch(self._descriptor, os.fsencode(path), _CHANGES) for path in paths]
        is_same, self._watched = watched == self._watched, watched
        try:
            os.read(self._descriptor, _READ_BYTES)
        except OSError:  # there are no events, or the kernel has refused
            return not is_same or _NONE in watched
        return True

    def wait(self, alarm: Alarm, seconds: float) -> bool:
        """Return true as soon as a file changes that the last question named, or false after so many seconds.

        The alarm ends it, too. The events stay for the next question.
        """
        events = self._descriptor
        if events == _NONE:  # this is the child of a fork by a signal handler
            return True
        poll = select.poll()
        poll.register(events, select.POLLIN)
        poll.register(alarm.descriptor, select.POLLIN)
        return any(descriptor == events for descriptor, _ in poll.poll(1000 * seconds))

    def close(self) -> None:
        """Forget the files, while no other thread uses this. The next question begins again."""
        self._descriptor = _Descriptor(_NONE)
        self._watched = []


@lru_cache(maxsize=1)
def _inotify() -> tuple[Callable[[int], int], Callable[[int, bytes, int], int]] | None:
    """Return the functions ``inotify_init1`` and ``inotify_add_watch`` of the C library, or ``None`` without them."""
    if not hasattr(os, "eventfd"):
        return None
    try:
        import ctypes  # noqa: PLC0415  (needed only by processes that wait for long)

        library = ctypes.CDLL(None)
        return library.inotify_init1, library.inotify_add_watch
    except (ImportError, OSError, AttributeError):
        return None
