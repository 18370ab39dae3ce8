"""Watch: the values of a subtree, one after the other, as they change."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Final

from redicts.api.opened import OpenedDatabase
from redicts.core import driver
from redicts.core.listener import Listener
from redicts.core.minitransaction import Path
from redicts.core.paths import render
from redicts.core.watching import Change, Watched
from redicts.errors import WrongUse
from redicts.locks.owner import request_name


class Watch(Iterator[Any]):
    """Iterates over the values of a subtree, as they change: from :meth:`Proxy.watch`.

    One thread at a time takes values from it. Any thread, and a signal handler, may close it: then the iteration ends,
    within a second if a thread waits. A forked child may go on with it. It ends by itself when nothing changes for
    its timeout, and may be continued then.

    >>> from redicts import Pool, Proxy
    >>> Pool().reload(cfg={"backend": "memory"})
    >>> wheels = Proxy("garage.car.wheels").put(3)
    >>> with wheels.watch(timeout=0) as watch:
    ...     print(next(watch))
    ...     wheels.put(4)
    ...     print(list(watch))
    3
    Proxy('garage.car.wheels')
    [4]
    """

    __slots__ = (
        "__weakref__",
        "_database",
        "_is_in_use",
        "_keys",
        "_listener",
        "_path",
        "_process",
        "_timeout",
        "_watched",
    )

    _listener: Listener | None

    def __init__(
        self, database: OpenedDatabase, path: Path, timeout: float | None, *, initial: bool, keys: bool
    ) -> None:
        self._database: Final = database
        self._path: Final = path
        self._timeout: Final = timeout
        self._keys: Final = keys
        self._watched: Final = Watched(database.store, path, time.monotonic)
        self._listener = None
        self._is_in_use = False
        self._process = os.getpid()
        if not initial:
            self._listener = self._listen()
            database.run(self._watched.begin())

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Any:
        """Wait for the next value. Raises what :meth:`Proxy.val` raises."""
        watched = self._watched
        try:
            # Before it looks whether it is closed: either this call closes the listener, or close() does.
            self._is_in_use = True
            change = self._next()
        finally:
            self._is_in_use = False
            if watched.is_closed:
                self._stop_listening()
        if change is None:
            raise StopIteration
        return handed_out(watched, change, self._path if self._keys else None)

    def _next(self) -> Change | None:
        watched = self._watched
        if self._process != os.getpid():
            # The listener is that of the parent, and what it was told of before this one listens is found by a look.
            self._process, self._listener = os.getpid(), None
        listener = self._listener
        if listener is None and not watched.is_closed:
            listener = self._listener = self._listen()
            watched.look_again()
        return driver.run(watched.next(self._timeout), self._database.backend, self._timeout, listener)

    def close(self) -> None:
        """End the iteration, and stop listening. Idempotent."""
        self._watched.is_closed = True
        if not self._is_in_use:
            self._stop_listening()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None and self._process == os.getpid():
            listener.close()

    def _listen(self) -> Listener:
        return driver.listen_to_changes(self._database.backend, request_name(), self._path)

    def __enter__(self) -> Watch:
        if self._watched.is_closed:
            raise WrongUse("this watch is closed; begin another one with watch()")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):  # it was not made, or the interpreter ends
            self.close()

    def __repr__(self) -> str:
        return f"<Watch of {render(self._path)!r}{', closed' if self._watched.is_closed else ''}>"


def handed_out(watched: Watched, change: Change, keys_below: Path | None) -> Any:
    """Return what users get of a change: the value, and with it the keys of the leaves that changed, if they want."""
    value = watched.value(change)
    if keys_below is None:
        return value
    return value, [render(keys_below + path) for path in change.paths()]
