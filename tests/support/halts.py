"""Runs a test again that failed while the machine halted its processes, and reports it.

Leases, timeouts and failovers take seconds here, and a shared machine may halt a process for as long. Where it did not,
a test that fails stays failed.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

import pytest

_LONGEST_SECS: Final = 0.3
"""The longest time that a thread which sleeps may take to run again. No test depends on less."""

_SLEEP_SECS: Final = 0.05
_ATTEMPTS: Final = 2


class Halts:
    """A pytest plugin that writes down when the machine has halted, for all processes of a run."""

    def __init__(self) -> None:
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._file = Path()
        self._ends = threading.Event()
        self._began = 0.0
        self._repeated: Final[dict[str, None]] = {}

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Begin to look, in the process that controls the run: a busy test does not look like a halt there."""
        found: dict[str, Any] | None = getattr(session.config, "workerinput", None)
        if found is not None:
            self._file = Path(found["halts"])
            return
        self._directory = tempfile.TemporaryDirectory()
        self._file = Path(self._directory.name, "last-halt")
        threading.Thread(target=self._look, name="tests-halts", daemon=True).start()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a process of xdist where the halts are written down."""
        node.workerinput["halts"] = str(self._file)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Have each test run again if the machine halted, unless a debugger is to stop at a failure."""
        for item in () if config.getoption("usepdb") else items:
            item.add_marker(pytest.mark.flaky(reruns=_ATTEMPTS, condition=self._excuses))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        """Note when an attempt begins."""
        self._began = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a test that runs again."""
        if report.outcome == "rerun":  # type: ignore[comparison-overlap]  # pytest-rerunfailures adds it
            self._repeated[report.nodeid] = None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print which tests ran again."""
        if self._repeated:
            terminalreporter.section("run again, because the machine had halted")
            for name in self._repeated:
                terminalreporter.write_line(name)

    def pytest_unconfigure(self) -> None:
        """Look no more."""
        self._ends.set()
        if self._directory is not None:
            self._directory.cleanup()

    def _excuses(self, error: BaseException | None) -> bool:
        """Return whether the machine has halted since the attempt began that ended with this error."""
        if error is None:
            return False
        time.sleep(2 * _SLEEP_SECS)  # so that the halt is written down, if there was one just now
        return self._file.exists() and float(self._file.read_text()) >= self._began

    def _look(self) -> None:
        before = time.monotonic()
        while not self._ends.wait(_SLEEP_SECS):
            now = time.monotonic()
            if now - before > _SLEEP_SECS + _LONGEST_SECS:
                written = self._file.with_suffix(".new")
                written.write_text(str(now))
                written.replace(self._file)
            before = now
