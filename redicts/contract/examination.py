"""Examination of backends: runs the checks one by one, each in a thread with a time limit."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from redicts.contract.check import ConformanceCheck, Need
from redicts.contract.fixture import Fixture
from redicts.contract.harness import Harness, inner_of
from redicts.contract.hostile import HOSTILE_SEGMENTS
from redicts.contract.report import Result, Status
from redicts.contract.requirements import CheckFailed, NotRun
from redicts.contract.spawned import ProcessPool
from redicts.contract.subjects import Subject
from redicts.contract.through_tasks import offers_asyncio
from redicts.core.backend import Capabilities

if TYPE_CHECKING:
    from typing_extensions import Self

_WHOLE_CHECK: Final = 5
"""How many times its timeout a check may take, since it waits for several operations."""

_THOROUGH: Final = 20
"""How many times as long a thorough check may take."""


class _Named(Protocol):
    """The attributes that checks of backends and codecs share."""

    @property
    def name(self) -> str: ...

    @property
    def says(self) -> str: ...

    @property
    def subject(self) -> Subject: ...

    @property
    def capabilities(self) -> tuple[str, ...]: ...


_Check = TypeVar("_Check", bound=_Named)


class Examiner(ABC, Generic[_Check]):
    """Examines checks of one kind, one after the other."""

    def __init__(self, *, thorough: bool, seed: int, timeout: float) -> None:
        self.thorough: Final = thorough
        self.seed: Final = seed
        self.timeout: Final = timeout
        self._hanging: _Check | None = None

    def examine(self, check: _Check) -> Result:
        """Examine one check. It returns within a bounded time and raises nothing, whatever the check does.

        After a check that did not end, no other one runs: its threads may still be working.
        """
        if self._hanging is not None:
            return _result(check, Status.NOT_RUN, f"{self._hanging.name} did not end")
        results: list[Result] = []
        started = time.monotonic()
        thread = threading.Thread(target=lambda: results.append(self._result(check)), name=check.name, daemon=True)
        thread.start()
        limit = self.timeout * _WHOLE_CHECK * (_THOROUGH if self.thorough else 1)
        thread.join(limit)
        milliseconds = (time.monotonic() - started) * 1000
        if not results:
            self._hanging = check
            results.append(_result(check, Status.FAILED, f"did not end within {limit:g} seconds"))
        return results[0].taking(milliseconds)

    def _result(self, check: _Check) -> Result:
        try:
            self._run(check)
        except NotRun as reason:
            status, why, required, details = Status.NOT_RUN, str(reason), reason.required, ""
        except BaseException as error:
            details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            status, why, required = Status.FAILED, _in_short(error), True
        else:
            status, why, required, details = Status.PASSED, "", True, ""
        return _result(check, status, why, required, details)

    @abstractmethod
    def _run(self, check: _Check) -> None:
        """Examine one check in a new fixture. Raises ``NotRun`` if it cannot run, any other error if it fails."""


def _result(check: _Named, status: Status, reason: str, required: bool = True, details: str = "") -> Result:
    return Result(check.name, check.says, status, reason, required, details, 0.0, check.capabilities, check.subject)


class Examination(Examiner[ConformanceCheck]):
    """Examines checks on one harness, one after the other.

    In a ``with`` block the checks share the other processes that they need. Outside of one, each starts its own.

    Args:
        harness: The store under examination.
        thorough: Try for minutes instead of seconds.
        seed: The seed of random examples; the same seed makes the same examples.
        timeout: Seconds that an operation may take that should take milliseconds. A check that waits longer fails.

    """

    def __init__(self, harness: Harness, *, thorough: bool = False, seed: int = 0, timeout: float = 30.0) -> None:
        super().__init__(thorough=thorough, seed=seed, timeout=timeout)
        self.harness: Final = harness
        self.capabilities: Capabilities | None = None
        """The capabilities that the store declares, known once it could be opened."""
        self.backend: str | None = None
        """The name of the backend's class, known once it could be opened."""
        self.about: Mapping[str, str] = {}
        """Versions that the backend reports, known once it could be opened."""
        self._processes: Final = ProcessPool()
        self._shares_processes = False

    def __enter__(self) -> Self:
        self._shares_processes = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._shares_processes = False
        self._processes.close()

    def start_processes(self) -> None:
        """Have the other processes start that later checks need, while others run."""
        with contextlib.suppress(NotRun):  # no other process can open the store
            if self.capabilities is not None and self.harness.opener is not None:
                self._processes.prepare(2 if self.capabilities.processes else 1)

    def _run(self, check: ConformanceCheck) -> None:
        fixture = Fixture(
            self.harness, thorough=self.thorough, seed=self.seed, timeout=self.timeout, processes=self._processes
        )
        try:
            self._learn_about(fixture)
            for need in check.needs:
                _UNMET[need](fixture)
            before = self.harness.disturbed
            check.examine(fixture)
            if before is not None and before == self.harness.disturbed and Need.LOST_REPLIES in check.needs:
                raise NotRun("no reply was lost, though the harness was asked to lose one", required=True)
        except BaseException:
            _close_quietly(fixture)
            raise
        finally:
            if not self._shares_processes:
                self._processes.close()
        fixture.close()

    def _learn_about(self, fixture: Fixture) -> None:
        if self.capabilities is None:
            backend = fixture.store.backend
            self.backend = type(inner_of(backend)).__name__
            fixture.store.run()
            self.capabilities = fixture.capabilities
            with contextlib.suppress(Exception):  # a server may refuse to report its version
                self.about = {str(what): str(value) for what, value in backend.about().items()}


def names_left_out(harness: Harness) -> int:
    """Return how many of the hostile segments a harness withholds from its store."""
    return len(set(HOSTILE_SEGMENTS) - set(harness.names))


def _need_capability(name: str, wanted: bool) -> Callable[[Fixture], None]:
    def meet(fixture: Fixture) -> None:
        if getattr(fixture.capabilities, name) is not wanted:
            raise NotRun(f"the store {'does not declare' if wanted else 'declares'} {name}", required=False)

    return meet


def _need_limit(wanted: bool) -> Callable[[Fixture], None]:
    def meet(fixture: Fixture) -> None:
        if (fixture.capabilities.atomic_entries is not None) is not wanted:
            raise NotRun(f"the store declares atomic_entries={fixture.capabilities.atomic_entries}", required=False)

    return meet


def _need_opener(fixture: Fixture) -> None:
    if fixture.harness.opener is None:
        raise NotRun("the harness has no opener, so no other process can open the store", required=True)


def _need_fork(_fixture: Fixture) -> None:
    if not hasattr(os, "fork"):
        raise NotRun("this platform has no fork", required=False)


def _need_lost_replies(fixture: Fixture) -> None:
    if not fixture.harness.networked:
        raise NotRun("no reply of this store can be lost: it is not networked", required=False)


def _need_raw(fixture: Fixture) -> None:
    if fixture.harness.raw is None:
        raise NotRun("the harness has no raw access to the store", required=False)


def _need_databases(fixture: Fixture) -> None:
    if not fixture.databases:
        raise NotRun("the harness does not offer other databases of the store", required=False)


def _need_size(fixture: Fixture) -> None:
    if fixture.harness.size() is None:
        raise NotRun("the harness does not offer the size of the store", required=False)


def _need_lasting(fixture: Fixture) -> None:
    if fixture.harness.lasting() is None:
        raise NotRun("the harness does not tell how many records of the store last", required=False)


def _need_wall_clock(fixture: Fixture) -> None:
    if not fixture.harness.set_clock(0.0):
        raise NotRun("the harness cannot set the clock of the store's machine", required=False)


def _need_no_network(fixture: Fixture) -> None:
    if fixture.harness.networked:
        raise NotRun("the store is networked, so other processes write its files", required=False)


def _need_hook(name: str) -> Callable[[Fixture], None]:
    def meet(fixture: Fixture) -> None:
        if getattr(type(fixture.harness), name) is getattr(Harness, name):
            raise NotRun(f"the harness does not offer {name}", required=False)

    return meet


def _need_asyncio(fixture: Fixture) -> None:
    if not offers_asyncio(fixture.store.backend):
        raise NotRun("the backend has no part for asyncio: threads make the calls of tasks", required=False)


_UNMET: Final[dict[Need, Callable[[Fixture], None]]] = {
    Need.TTL: _need_capability("ttl", wanted=True),
    Need.NO_TTL: _need_capability("ttl", wanted=False),
    Need.PROCESSES: _need_capability("processes", wanted=True),
    Need.NO_PROCESSES: _need_capability("processes", wanted=False),
    Need.DURABLE: _need_capability("durable", wanted=True),
    Need.NO_DURABLE: _need_capability("durable", wanted=False),
    Need.PUSH: _need_capability("push", wanted=True),
    Need.CHANGES: _need_capability("changes", wanted=True),
    Need.DOCUMENTS: _need_capability("documents", wanted=True),
    Need.NO_DOCUMENTS: _need_capability("documents", wanted=False),
    Need.SHARDED: _need_capability("sharded", wanted=True),
    Need.LIMIT: _need_limit(wanted=True),
    Need.NO_LIMIT: _need_limit(wanted=False),
    Need.FORK: _need_fork,
    Need.OPENER: _need_opener,
    Need.LOST_REPLIES: _need_lost_replies,
    Need.LATE_REQUESTS: _need_lost_replies,
    Need.RAW: _need_raw,
    Need.DATABASES: _need_databases,
    Need.SIZE: _need_size,
    Need.WALL_CLOCK: _need_wall_clock,
    Need.FORGETTING: _need_hook("forget"),
    Need.UNUSABLE: _need_hook("unusable"),
    Need.FAILING_COMMITS: _need_hook("fail_commit"),
    Need.SILENCE: _need_hook("mute"),
    Need.FULL: _need_hook("fill"),
    Need.DAMAGE: _need_hook("damage"),
    Need.LASTING: _need_lasting,
    Need.PATHS: _need_hook("open_at"),
    Need.LOCAL: _need_no_network,
    Need.ASYNCIO: _need_asyncio,
}
"""For each need, the function that raises ``NotRun`` if it is not met."""


def _close_quietly(fixture: Fixture) -> None:
    """Clean up after a failure; a second failure would hide it."""
    with contextlib.suppress(Exception):
        fixture.close()


def _in_short(error: BaseException) -> str:
    if isinstance(error, CheckFailed):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    position = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{position}"
