"""The examination: one check at a time on one harness, each in a thread of its own that is not waited for for ever."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Final, Generic, Protocol, TypeVar

from redicts.contract.check import CheckFailed, ConformanceCheck, Need, NotRun
from redicts.contract.fixture import Fixture
from redicts.contract.harness import Harness, SharedBackend
from redicts.contract.hostile import HOSTILE_SEGMENTS
from redicts.contract.report import Result, Status
from redicts.core.backend import Capabilities

_WHOLE_CHECK: Final = 5
"""How many times its timeout a check may take, since it waits for several things."""

_THOROUGH: Final = 20
"""How many times as long a thorough check may take."""


class _Named(Protocol):
    """What every check has, whatever it is about."""

    @property
    def name(self) -> str: ...

    @property
    def says(self) -> str: ...

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
        """Examine one check. Whatever is under examination does, this returns, and within a bounded time.

        After a check that did not end, no other one is examined: its threads may still be at work.
        """
        if self._hanging is not None:
            reason = f"{self._hanging.name} did not end"
            return Result(check.name, check.says, Status.NOT_RUN, reason, capabilities=check.capabilities)
        results: list[Result] = []
        started = time.monotonic()
        thread = threading.Thread(target=lambda: results.append(self._result(check)), name=check.name, daemon=True)
        thread.start()
        limit = self.timeout * _WHOLE_CHECK * (_THOROUGH if self.thorough else 1)
        thread.join(limit)
        milliseconds = (time.monotonic() - started) * 1000
        if not results:
            self._hanging = check
            reason = f"did not end within {limit:g} seconds"
            results.append(Result(check.name, check.says, Status.FAILED, reason, capabilities=check.capabilities))
        return results[0].taking(milliseconds)

    def _result(self, check: _Check) -> Result:
        try:
            self._run(check)
        except NotRun as reason:
            status, why, demanded, details = Status.NOT_RUN, str(reason), reason.demanded, ""
        except BaseException as error:
            details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            status, why, demanded = Status.FAILED, _in_short(error), True
        else:
            status, why, demanded, details = Status.PASSED, "", True, ""
        return Result(check.name, check.says, status, why, demanded, details, capabilities=check.capabilities)

    @abstractmethod
    def _run(self, check: _Check) -> None:
        """Examine one check on a bench of its own. Raises ``NotRun`` if it cannot be, anything else if it is broken."""


class Examination(Examiner[ConformanceCheck]):
    """Examines checks on one harness, one after the other.

    Args:
        harness: The store under examination.
        thorough: Try for minutes what is otherwise tried for seconds.
        seed: Where random examples start; the same seed makes the same examples.
        timeout: Seconds that something may take that should take milliseconds. A check that waits longer is failed.

    """

    def __init__(self, harness: Harness, *, thorough: bool = False, seed: int = 0, timeout: float = 30.0) -> None:
        super().__init__(thorough=thorough, seed=seed, timeout=timeout)
        self.harness: Final = harness
        self.capabilities: Capabilities | None = None
        """What the store claims, known after the first check for which it could be opened."""
        self.backend: str | None = None
        """The name of the backend's class, known as the capabilities are."""
        self.about: Mapping[str, str] = {}
        """What the backend tells of its store, known as the capabilities are."""

    def _run(self, check: ConformanceCheck) -> None:
        fixture = Fixture(self.harness, thorough=self.thorough, seed=self.seed, timeout=self.timeout)
        try:
            self._get_to_know(fixture)
            for need in check.needs:
                _UNMET[need](fixture)
            before = self.harness.disturbed
            check.examine(fixture)
            if before is not None and before == self.harness.disturbed and Need.LOST_REPLIES in check.needs:
                raise NotRun("no reply was lost, though the harness was asked to lose one", demanded=True)
        except BaseException:
            _close_quietly(fixture)
            raise
        fixture.close()

    def _get_to_know(self, fixture: Fixture) -> None:
        if self.capabilities is None:
            backend = fixture.store.backend
            self.backend = type(backend.shared if isinstance(backend, SharedBackend) else backend).__name__
            fixture.store.run()
            self.capabilities = fixture.capabilities
            with contextlib.suppress(Exception):  # a server may not tell, and that is not what is examined
                self.about = {str(what): str(value) for what, value in backend.about().items()}


def names_left_out(harness: Harness) -> int:
    """Return how many of the hostile segments a harness keeps from its store."""
    return len(set(HOSTILE_SEGMENTS) - set(harness.names))


def _need_claim(name: str, wanted: bool) -> Callable[[Fixture], None]:
    def meet(fixture: Fixture) -> None:
        if getattr(fixture.capabilities, name) is not wanted:
            raise NotRun(f"the store {'does not claim' if wanted else 'claims'} {name}", demanded=False)

    return meet


def _need_limit(wanted: bool) -> Callable[[Fixture], None]:
    def meet(fixture: Fixture) -> None:
        if (fixture.capabilities.atomic_entries is not None) is not wanted:
            raise NotRun(f"the store claims atomic_entries={fixture.capabilities.atomic_entries}", demanded=False)

    return meet


def _need_opener(fixture: Fixture) -> None:
    if fixture.harness.opener is None:
        raise NotRun("the harness has no opener, so that no other process can open the store", demanded=True)


def _need_fork(_fixture: Fixture) -> None:
    if not hasattr(os, "fork"):
        raise NotRun("this platform has no fork", demanded=False)


def _need_lost_replies(fixture: Fixture) -> None:
    if not fixture.harness.networked:
        raise NotRun("no reply of this store can be lost: it is not networked", demanded=False)


def _need_raw(fixture: Fixture) -> None:
    if fixture.harness.raw is None:
        raise NotRun("the harness knows no way around the backend to the bytes of the store", demanded=False)


_UNMET: Final[dict[Need, Callable[[Fixture], None]]] = {
    Need.TTL: _need_claim("ttl", wanted=True),
    Need.NO_TTL: _need_claim("ttl", wanted=False),
    Need.PROCESSES: _need_claim("processes", wanted=True),
    Need.NO_PROCESSES: _need_claim("processes", wanted=False),
    Need.DURABLE: _need_claim("durable", wanted=True),
    Need.NO_DURABLE: _need_claim("durable", wanted=False),
    Need.PUSH: _need_claim("push", wanted=True),
    Need.DOCUMENTS: _need_claim("documents", wanted=True),
    Need.NO_DOCUMENTS: _need_claim("documents", wanted=False),
    Need.LIMIT: _need_limit(wanted=True),
    Need.NO_LIMIT: _need_limit(wanted=False),
    Need.FORK: _need_fork,
    Need.OPENER: _need_opener,
    Need.LOST_REPLIES: _need_lost_replies,
    Need.LATE_REQUESTS: _need_lost_replies,
    Need.RAW: _need_raw,
}
"""What raises ``NotRun`` if a need is not met. Whether a hook works shows only when a check uses it."""


def _close_quietly(fixture: Fixture) -> None:
    """Tidy up after a failure; another one would only hide it."""
    with contextlib.suppress(Exception):
        fixture.close()


def _in_short(error: BaseException) -> str:
    if isinstance(error, CheckFailed):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
