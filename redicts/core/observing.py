"""Observations: what each operation on a store was, how long it took, and how it ended.

An operation is a generator, and the driver carries out its requests. If there are observers, the driver runs
:func:`observed` in its stead, which passes the requests on and counts them. If there are none, the driver looks at an
empty list, and calls nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Final, NamedTuple, TypeVar

from redicts.core.minitransaction import Path
from redicts.core.paths import render
from redicts.reports import REPEATS, Repeats, call_observer

_Result = TypeVar("_Result")

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


def observed(steps: Generator[Any, Any, _Result], backend: object) -> Generator[Any, Any, _Result]:
    """Carry out an operation, and call the observers when it has ended."""
    kind, paths, granted_at = _description(steps)
    repeats = Repeats()
    before = REPEATS.get()
    REPEATS.set(repeats)
    failure: BaseException | None = None
    found: Any = None
    round_trips, waited = 0, 0.0
    began, start = time.time(), time.perf_counter()
    try:
        try:
            # Not in a generator of its own: a leaf of SQLite is read in the time of ten calls.
            request = next(steps)
            while True:
                asked_at = time.perf_counter() if type(request).__name__ in _WAITS else 0.0
                round_trips += not asked_at
                try:
                    answer = yield request
                except BaseException as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(answer)
                finally:
                    if asked_at:
                        waited += time.perf_counter() - asked_at
        finally:
            steps.close()
    except StopIteration as stop:
        found = stop.value
        result: _Result = found
        return result
    except BaseException as error:
        failure = error
        raise
    finally:
        seconds = time.perf_counter() - start
        if REPEATS.get() is repeats:
            REPEATS.set(before)  # not reset, which fails if a collection closes the generator in another context
        held = None if granted_at is None else time.monotonic() - granted_at
        outcome = _outcome(kind, found) if failure is None else type(failure).__name__
        times = began, seconds, waited, held
        name = _names.get(type(backend)) or _name_of(backend)
        if round_trips or kind not in _INTERNAL:
            seen = Observation(kind, paths, name, round_trips, repeats.count, *times, outcome, failure, backend)
            for observer in tuple(OBSERVERS):
                call_observer(observer, seen)


_INTERNAL: Final = frozenset({"end"})
"""Background work that is not worth an observation if it asked the store for nothing."""

_WAITS: Final = frozenset({"Pause", "Listen", "Await"})


def _outcome(kind: str, found: object) -> str:
    return "not_free" if kind == "acquire" and found is False else "ok"


def _description(steps: Any) -> tuple[str, tuple[Path, ...], float | None]:
    """Return the kind of an operation, its paths, and the time when a lock that it releases was granted.

    The function of the generator is the kind, and its arguments have the paths. A generator that guards or watches
    another one has it as the argument ``steps``.
    """
    given: Any = {}
    while (frame := getattr(steps, "gi_frame", None)) is not None:
        given = frame.f_locals
        if not hasattr(given.get("steps"), "gi_frame"):
            break
        steps = given["steps"]
    name = getattr(steps, "__name__", "operation")
    kind = KINDS.get(name) or name.lstrip("_")
    path = given.get("path")
    if path is not None:
        return kind, (path,), None
    acquired = given.get("acquired")
    if acquired is not None:
        lock = acquired.relies_on if kind == "release" else None
        return kind, acquired.paths, None if lock is None else lock.since
    if "changes" in given:
        return kind, tuple(dict.fromkeys(given["changes"].paths)), None
    if "paths" in given:
        return kind, tuple(given["paths"]), None
    looked_at = getattr(given.get("self"), "_releases", None)  # of a lock
    return kind, () if looked_at is None else looked_at()[1], None


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
