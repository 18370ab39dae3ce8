"""Observations: what each operation on a store was, how long it took, and how it ended.

An operation is a generator, and the driver carries out its requests. If there are observers, the driver makes an
:class:`Operation` before the first request, and ends it after the last one. If there are none, the driver looks at an
empty list, and calls nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Final, NamedTuple

from redicts.core.minitransaction import Path
from redicts.core.paths import render
from redicts.reports import HERE, REPEATS, Repeats, call_observers, report_later

KINDS: Final = {
    "read": "val",
    "leaves": "val",
    "read_several": "vals",
    "write": "set",
    "change": "update_with",
    "merge": "update",
    "take": "pop",
    "set_default": "setdefault",
    "commit": "transaction",
    "names": "keys",
    "leaf_paths": "iter_children",
    "item": "val",
    "item_or_default": "setdefault",
    "_open": "edit",
    "released": "release",
    "_find": "find_locks",
    "_is_locked": "is_locked",
    "_break": "break_locks",
    "_extend": "extend",
}
"""The kinds of operations whose functions have other names: those of the methods of proxies and locks."""


class Observation(NamedTuple):
    """One operation that has ended, as :func:`redicts.observe` reports it."""

    kind: str
    """The name of the method: ``val``, ``set``, ``add``, ``acquire``, ``release`` and so on."""
    segments: tuple[Path, ...]
    """The paths as segments; a lock and a transaction may have several. :attr:`path` is the first one as text."""
    backend: str
    """The name of the backend: ``redis``, ``sqlite``, ``memory`` or ``fakeredis``, or that of the class of another."""
    round_trips: int
    """How many requests the store answered. On Redis each was one round trip, unless it was sent again."""
    retries: int
    """How many times a request was sent again."""
    began: float
    """The time of ``time.time`` when the operation began."""
    seconds: float
    """How long it took, with all waits."""
    waited: float
    """How many seconds of these it waited for a notification or an interval, and not for the store."""
    held: float | None
    """For a release, the seconds since the lock was granted."""
    outcome: str
    """``ok``, ``not_free`` for an acquisition that did not get its lock, or the name of the error's class."""
    error: BaseException | None
    """The error that the operation raised. Its text has no secrets and no values."""
    opened: Any
    """The opened backend, for its settings and capabilities."""

    @property
    def path(self) -> str:
        """The path as dotted text, the first one if there are several. The empty text is the root, or no path."""
        return render(self.segments[0]) if self.segments else ""


Observer = Callable[[Observation], object]

OBSERVERS: Final[list[Observer]] = []
"""The functions that are called after each operation of this process."""


class Observing:
    """Calls an observer until it is closed, or until the end of its ``with`` block."""

    __slots__ = ("_observer",)

    def __init__(self, observer: Observer) -> None:
        self._observer = [observer]
        OBSERVERS.append(observer)

    def close(self) -> None:
        """Stop calling the observer. It may be called again."""
        while self._observer:
            OBSERVERS.remove(self._observer.pop())

    def __enter__(self) -> Observing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def observe(observer: Observer) -> Observing:
    """Call a function with an :class:`Observation` after each operation of this process, on every database.

    It is called in the thread or task of the operation, after the operation. Background work of redicts, such as
    renewals, is reported in a thread of its own. An exception of the function is logged to ``redicts.store``, and does
    not end the operation. Close the result to stop it, or use it in a ``with`` block. No round trip.

    >>> import redicts
    >>> seen = []
    >>> with redicts.open("memory://") as db, redicts.observe(seen.append):
    ...     db.root().set("answer", 42).val()
    {'answer': 42}
    >>> [(each.kind, each.path, each.backend, each.outcome) for each in seen]
    [('set', 'answer', 'memory', 'ok'), ('val', '', 'memory', 'ok')]
    """
    return Observing(observer)


class Operation(Repeats):
    """An observed operation that has begun: what it is and when it began. It counts its requests that are sent again.

    It is made before the first request. The function of the generator is the kind, and its arguments have the paths. A
    generator that guards or watches another one has it as the argument ``steps``.
    """

    __slots__ = ("_backend", "_before", "_began", "_granted_at", "_kind", "_paths", "_start", "_waited", "_waits")

    def __init__(self, steps: Any, backend: object) -> None:
        self.count = self._waits = 0
        self._waited = 0.0
        self._backend = backend
        given: Any = {}
        while (frame := getattr(steps, "gi_frame", None)) is not None:
            given = frame.f_locals
            if not hasattr(given.get("steps"), "gi_frame"):
                break
            steps = given["steps"]
        name = getattr(steps, "__name__", "operation")
        self._kind = KINDS.get(name) or name.lstrip("_")
        self._granted_at: float | None = None
        path = given.get("path")
        self._paths: tuple[Path, ...] = (path,) if path is not None else self._several(given)
        self._before = REPEATS.get()
        REPEATS.set(self)
        self._began, self._start = time.time(), time.perf_counter()

    def _several(self, given: Any) -> tuple[Path, ...]:
        """Return the paths of an operation that has none or several, and note when a lock that it ends was granted."""
        acquired = given.get("acquired")
        if acquired is not None:
            lock = acquired.relies_on if self._kind == "release" else None
            self._granted_at = None if lock is None else lock.since
            return acquired.paths  # type: ignore[no-any-return]
        if "changes" in given:
            return tuple(dict.fromkeys(given["changes"].paths))
        if "paths" in given:
            return tuple(given["paths"])
        looked_at = getattr(given.get("self"), "_releases", None)  # of a lock
        return () if looked_at is None else looked_at()[1]

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Take the time of a request that is a wait, and not a round trip."""
        self._waits += 1
        since = time.perf_counter()
        try:
            yield
        finally:
            self._waited += time.perf_counter() - since

    def end(self, requests: int, end: BaseException) -> None:
        """Call the observers, after so many requests, with the error or the ``StopIteration`` that ended the steps."""
        seconds = time.perf_counter() - self._start
        if REPEATS.get() is self:
            REPEATS.set(self._before)  # not reset, which fails if a collection ends a task in another context
        kind, backend = self._kind, self._backend
        round_trips = requests - self._waits
        if not round_trips and kind in _INTERNAL:
            return
        failure: BaseException | None = None
        if not isinstance(end, StopIteration):
            failure, outcome = end, type(end).__name__
        else:
            outcome = "not_free" if kind == "acquire" and end.value is False else "ok"
        held = None if self._granted_at is None else time.monotonic() - self._granted_at
        name = _names.get(type(backend)) or _name_of(backend)
        times = self._began, seconds, self._waited, held
        fields = kind, self._paths, name, round_trips, self.count, *times, outcome, failure, backend
        seen: Observation = _new(Observation, fields)
        if HERE.is_background:
            report_later(partial(call_observers, tuple(OBSERVERS), seen))
        else:
            call_observers(OBSERVERS, seen)


_new: Final = tuple.__new__
"""Makes an observation without the call of a function in Python that its constructor is."""

_INTERNAL: Final = frozenset({"end"})
"""Background work that is not worth an observation if it asked the store for nothing."""

_names: Final[dict[type, str]] = {}
"""The names of the backends of classes."""


def _name_of(backend: object) -> str:
    kind = type(backend)
    # Of an adapter for tasks, or a cache.
    inner = getattr(backend, "_inner" if kind.__module__.startswith("redicts.api.") else "_backend", None)
    if kind.__module__.startswith(("redicts.aio.", "redicts.api.")) and inner is not None:
        return _name_of(inner)
    built_in = kind.__module__.startswith("redicts.backends.")
    name = kind.__module__.split(".")[2] if built_in else kind.__name__.removesuffix("Backend").lower()
    return _names.setdefault(kind, name)
