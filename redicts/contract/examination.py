"""The examination: one law at a time on one harness, each in a thread of its own that is not waited for for ever."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Callable
from typing import Final

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


class Examination:
    """Examines laws on one harness, one after the other.

    Args:
        harness: The store under examination.
        thorough: Try for minutes what is otherwise tried for seconds.
        seed: Where random examples start; the same seed makes the same examples.
        patience: Seconds that something may take that should take milliseconds. A law that waits longer is failed.

    """

    def __init__(self, harness: Harness, *, thorough: bool = False, seed: int = 0, patience: float = 30.0) -> None:
        self.harness: Final = harness
        self.thorough: Final = thorough
        self.seed: Final = seed
        self.patience: Final = patience
        self.capabilities: Capabilities | None = None
        """What the store claims, known after the first law for which it could be opened."""
        self.backend: str | None = None
        """The name of the backend's class, known as the capabilities are."""
        self._hanging: Law | None = None

    def examine(self, law: Law) -> Result:
        """Examine one law. Whatever the store does, this returns, and within a bounded time.

        After a law that did not end, no other one is examined: its threads may still be at work on the store.
        """
        if self._hanging is not None:
            return Result(law.name, law.says, Status.NOT_RUN, f"{self._hanging.name} did not end", demanded=True)
        results: list[Result] = []
        started = time.monotonic()
        thread = threading.Thread(target=lambda: results.append(self._result(law)), name=law.name, daemon=True)
        thread.start()
        limit = self.patience * _WHOLE_LAW * (_THOROUGH if self.thorough else 1)
        thread.join(limit)
        milliseconds = (time.monotonic() - started) * 1000
        if not results:
            self._hanging = law
            results.append(Result(law.name, law.says, Status.FAILED, f"did not end within {limit:g} seconds"))
        return results[0].taking(milliseconds)

    def _result(self, law: Law) -> Result:
        try:
            self._run(law)
        except NotRun as reason:
            return Result(law.name, law.says, Status.NOT_RUN, str(reason), demanded=reason.demanded)
        except BaseException as error:
            details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            return Result(law.name, law.says, Status.FAILED, _in_short(error), details=details)
        return Result(law.name, law.says, Status.PASSED)

    def _run(self, law: Law) -> None:
        bench = Bench(self.harness, thorough=self.thorough, seed=self.seed, patience=self.patience)
        try:
            self._get_to_know(bench)
            for need in law.needs:
                _UNMET[need](bench)
            law.examine(bench)
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


_UNMET: Final[dict[Need, Callable[[Bench], None]]] = {
    Need.LIFE: _need_claim("life", wanted=True),
    Need.NO_LIFE: _need_claim("life", wanted=False),
    Need.PROCESSES: _need_claim("processes", wanted=True),
    Need.NO_PROCESSES: _need_claim("processes", wanted=False),
    Need.DURABLE: _need_claim("durable", wanted=True),
    Need.PUSH: _need_claim("push", wanted=True),
    Need.LIMIT: _need_limit(wanted=True),
    Need.NO_LIMIT: _need_limit(wanted=False),
    Need.FORK: _need_fork,
    Need.OPENER: _need_opener,
    Need.LOST_REPLIES: _need_lost_replies,
    Need.LATE_REQUESTS: _need_lost_replies,
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
