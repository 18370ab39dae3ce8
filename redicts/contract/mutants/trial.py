"""One trial: the checks run on a mutant, in a process of its own, until one refuses it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from redicts.contract.check import ConformanceCheck
from redicts.contract.examination import Examination
from redicts.contract.harness import Harness
from redicts.contract.mutants import substitute
from redicts.contract.mutants.mutant import Mutant
from redicts.contract.mutants.probes import Probes
from redicts.contract.mutants.target import Target
from redicts.contract.report import crossed_out

_MOST_MEMORY: Final = 4 << 30
"""Bytes of data that the process of a mutant may have, so that an endless list ends."""

_LARGEST_FILE: Final = 1 << 30
"""Bytes of a file that it may write."""


@dataclass(frozen=True, slots=True)
class Examined:
    """One check of a trial."""

    check: str
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a trial: which check refused the mutant and why, or no check."""

    refused_by: str = ""
    reason: str = ""
    hung: bool = False
    """Whether it was refused by a time limit."""
    examined: tuple[Examined, ...] = ()
    executed: tuple[int, ...] = ()
    """The numbers of the statements that were executed, if the trial had probes."""


@dataclass(frozen=True, slots=True)
class How:
    """How the checks run."""

    make: Callable[[], Harness]
    """Makes the harness, in an empty directory, which is the current one."""
    checks: Sequence[ConformanceCheck]
    seed: int
    timeout: float


class Trial:
    """A process that examines the original, with probes or without, or a mutant. It ends with :meth:`finish`."""

    def __init__(
        self, how: How, target: Target, limit: float, *, mutant: Mutant | None = None, probes: Probes | None = None
    ) -> None:
        self.mutant: Final = mutant
        self._limit: Final = limit
        self.deadline: Final = time.monotonic() + limit
        self._directory: Final = tempfile.mkdtemp(prefix="redicts-mutant-")
        self.answer, theirs = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._process: Final = os.fork()
        if self._process == 0:
            os.close(self.answer)
            _run(how, target, mutant, probes, Path(self._directory), theirs)
        os.close(theirs)
        with contextlib.suppress(OSError):
            os.setpgid(self._process, self._process)  # here too, for a kill that comes before the process does it

    def finish(self) -> Ended:
        """Read the answer, which is there or never comes, and end the process with all that it started."""
        try:
            os.set_blocking(self.answer, False)
            received = b""
            if time.monotonic() < self.deadline:
                os.set_blocking(self.answer, True)
                while piece := os.read(self.answer, 1 << 16):
                    received += piece
                if not received:
                    return Ended("the process", "the process ended by itself")
                told = json.loads(received)
                told["examined"] = tuple(Examined(**each) for each in told["examined"])
                return Ended(**told | {"executed": tuple(told.get("executed", ()))})
            return Ended("the time limit", f"did not end within {self._limit:.0f} seconds", hung=True)
        finally:
            self.kill()

    def kill(self) -> None:
        """End the process with all that it started, and remove its directory."""
        os.close(self.answer)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        shutil.rmtree(self._directory, ignore_errors=True)


def _run(
    how: How, target: Target, mutant: Mutant | None, probes: Probes | None, directory: Path, answer: int
) -> NoReturn:
    """Examine in this process, a fork, and end it without running what its parent has registered for its end."""
    try:
        os.setpgid(0, 0)
        told = _examine(how, target, mutant, probes, directory)
        if probes is not None:
            told["executed"] = probes.executed()
        with open(answer, "wb") as file:
            file.write(json.dumps(told).encode())
    finally:
        os._exit(0)


def _examine(how: How, target: Target, mutant: Mutant | None, probes: Probes | None, directory: Path) -> dict[str, Any]:
    for which, most in ((resource.RLIMIT_DATA, _MOST_MEMORY), (resource.RLIMIT_FSIZE, _LARGEST_FILE)):
        hard = resource.getrlimit(which)[1]
        resource.setrlimit(which, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    sys.path[:] = [os.path.abspath(each) for each in sys.path]
    empty = directory / "empty"
    empty.mkdir()
    os.chdir(empty)
    (directory / "temporary").mkdir()
    os.environ["TMPDIR"] = tempfile.tempdir = str(directory / "temporary")
    if probes is not None:
        probes.start(directory)

    def changed(file: str, source: bytes) -> bytes:
        if mutant is not None and file == mutant.file:
            return mutant.edit.applied(source)
        return source if probes is None else probes.probed(file, source)

    substitute.install(target.name, target.copy(directory, changed))
    examined: list[dict[str, Any]] = []
    try:
        harness = how.make()
    except Exception as error:
        return {"refused_by": "opening the store", "reason": f"{type(error).__name__}: {error}", "examined": []}
    with Examination(harness, seed=how.seed, timeout=how.timeout) as examination:
        for check in how.checks:
            result = examination.examine(check)
            examined.append({"check": check.name, "milliseconds": result.milliseconds})
            if result.blocks_certification:
                reason = crossed_out(result.reason, harness.secrets)
                hung = reason.startswith("did not end")
                return {"refused_by": check.name, "reason": reason, "hung": hung, "examined": examined}
    return {"examined": examined}
