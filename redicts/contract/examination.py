"""The examination: one law at a time on one harness, each in a thread of its own that is not waited for for ever."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Final, Generic, Protocol, TypeVar

from redicts.contract.bench import Bench
from redicts.contract.harness import Harness, SharedBackend
from redicts.contract.hostile import HOSTILE_SEGMENTS
from redicts.contract.law import Law, LawBroken, Need, NotRun
from redicts.contract.report import Result, Status
from redicts.core.backend import Capabilities

_WHOLE_LAW: Final = 5
"""How many times its patience a law may take, since it waits for several things."""

_THOROUGH: Final = 20
"""How many times as long a thorough law may take."""


class _Named(Protocol):
    """What every law has, whatever it is about."""

    @property
    def name(self) -> str: ...

    @property
    def says(self) -> str: ...

    @property
    def capabilities(self) -> tuple[str, ...]: ...


_Law = TypeVar("_Law", bound=_Named)


class Examiner(ABC, Generic[_Law]):
    """Examines laws of one kind, one after the other."""

    def __init__(self, *, thorough: bool, seed: int, patience: float) -> None:
        self.thorough: Final = thorough
        self.seed: Final = seed
        self.patience: Final = patience
        self._hanging: _Law | None = None

    def examine(self, law: _Law) -> Result:
        """Examine one law. Whatever is under examination does, this returns, and within a bounded time.

        After a law that did not end, no other one is examined: its threads may still be at work.
        """
        if self._hanging is not None:
            reason = f"{self._hanging.name} did not end"
            return Result(law.name, law.says, Status.NOT_RUN, reason, capabilities=law.capabilities)
        results: list[Result] = []
        started = time.monotonic()
        thread = threading.Thread(target=lambda: results.append(self._result(law)), name=law.name, daemon=True)
        thread.start()
        limit = self.patience * _WHOLE_LAW * (_THOROUGH if self.thorough else 1)
        thread.join(limit)
        milliseconds = (time.monotonic() - started) * 1000
        if not results:
            self._hanging = law
            reason = f"did not end within {limit:g} seconds"
            results.append(Result(law.name, law.says, Status.FAILED, reason, capabilities=law.capabilities))
        return results[0].taking(milliseconds)

    def _result(self, law: _Law) -> Result:
        try:
            self._run(law)
        except NotRun as reason:
            status, why, demanded, details = Status.NOT_RUN, str(reason), reason.demanded, ""
        except BaseException as error:
            details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            status, why, demanded = Status.FAILED, _in_short(error), True
        else:
            status, why, demanded, details = Status.PASSED, "", True, ""
        return Result(law.name, law.says, status, why, demanded, details, capabilities=law.capabilities)

    @abstractmethod
    def _run(self, law: _Law) -> None:
        """Examine one law on a bench of its own. Raises ``NotRun`` if it cannot be, anything else if it is broken."""


class Examination(Examiner[Law]):
    """Examines laws on one harness, one after the other.

    Args:
        harness: The store under examination.
        thorough: Try for minutes what is otherwise tried for seconds.
        seed: Where random examples start; the same seed makes the same examples.
        patience: Seconds that something may take that should take milliseconds. A law that waits longer is failed.

    """

    def __init__(self, harness: Harness, *, thorough: bool = False, seed: int = 0, patience: float = 30.0) -> None:
        super().__init__(thorough=thorough, seed=seed, patience=patience)
        self.harness: Final = harness
        self.capabilities: Capabilities | None = None
        """What the store claims, known after the first law for which it could be opened."""
        self.backend: str | None = None
        """The name of the backend's class, known as the capabilities are."""
        self.about: Mapping[str, str] = {}
        """What the backend tells of its store, known as the capabilities are."""

    def _run(self, law: Law) -> None:
        bench = Bench(self.harness, thorough=self.thorough, seed=self.seed, patience=self.patience)
        try:
            self._get_to_know(bench)
            for need in law.needs:
                _UNMET[need](bench)
            before = self.harness.disturbed
            law.examine(bench)
            if before is not None and before == self.harness.disturbed and Need.LOST_REPLIES in law.needs:
                raise NotRun("no reply was lost, though the harness was asked to lose one", demanded=True)
        except BaseException:
            _close_quietly(bench)
            raise
        bench.close()

    def _get_to_know(self, bench: Bench) -> None:
        if self.capabilities is None:
            backend = bench.store.backend
            self.backend = type(backend.shared if isinstance(backend, SharedBackend) else backend).__name__
            bench.store.run()
            self.capabilities = bench.capabilities
            with contextlib.suppress(Exception):  # a server may not tell, and that is not what is examined
                self.about = {str(what): str(value) for what, value in backend.about().items()}


def names_left_out(harness: Harness) -> int:
    """Return how many of the hostile segments a harness keeps from its store."""
    return len(set(HOSTILE_SEGMENTS) - set(harness.names))


def _need_claim(name: str, wanted: bool) -> Callable[[Bench], None]:
    def meet(bench: Bench) -> None:
        if getattr(bench.capabilities, name) is not wanted:
            raise NotRun(f"the store {'does not claim' if wanted else 'claims'} {name}", demanded=False)

    return meet


def _need_limit(wanted: bool) -> Callable[[Bench], None]:
    def meet(bench: Bench) -> None:
        if (bench.capabilities.atomic_entries is not None) is not wanted:
            raise NotRun(f"the store claims atomic_entries={bench.capabilities.atomic_entries}", demanded=False)

    return meet


def _need_opener(bench: Bench) -> None:
    if bench.harness.opener is None:
        raise NotRun("the harness has no opener, so that no other process can open the store", demanded=True)


def _need_fork(_bench: Bench) -> None:
    if not hasattr(os, "fork"):
        raise NotRun("this platform has no fork", demanded=False)


def _need_lost_replies(bench: Bench) -> None:
    if not bench.harness.networked:
        raise NotRun("no reply of this store can be lost: it is not networked", demanded=False)


def _need_raw(bench: Bench) -> None:
    if bench.harness.raw is None:
        raise NotRun("the harness knows no way around the backend to the bytes of the store", demanded=False)


_UNMET: Final[dict[Need, Callable[[Bench], None]]] = {
    Need.LIFE: _need_claim("life", wanted=True),
    Need.NO_LIFE: _need_claim("life", wanted=False),
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
"""What raises ``NotRun`` if a need is not met. Whether a hook works shows only when a law uses it."""


def _close_quietly(bench: Bench) -> None:
    """Tidy up after a failure; another one would only hide it."""
    with contextlib.suppress(Exception):
        bench.close()


def _in_short(error: BaseException) -> str:
    if isinstance(error, LawBroken):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
