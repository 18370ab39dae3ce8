"""Reports every skipped test and its reason at the end of a run.

Where the environment variable ``CI`` is set, only the platform excuses a skip.
"""

from __future__ import annotations

import os
from typing import Final

import pytest

EXCUSE: Final = "not on this platform:"
"""Begins the reason of a skip that does not fail a run where ``CI`` is set."""


class Skips:
    """A pytest plugin that collects the skips of a run, including those of xdist's workers."""

    def __init__(self) -> None:
        self._reasons: Final[dict[str, str]] = {}

    @property
    def _unexcused(self) -> list[str]:
        return [name for name, reason in self._reasons.items() if not reason.startswith(EXCUSE)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a skipped test."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a module that is skipped as a whole."""
        if report.skipped:
            self._note(report)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail the run in CI if a test was skipped without excuse."""
        passed = exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
        if os.environ.get("CI") and self._unexcused and passed:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print what was skipped, and why."""
        if not self._reasons:
            return
        terminalreporter.section("not run")
        for name, reason in sorted(self._reasons.items()):
            terminalreporter.write_line(f"{name}: {reason}")
        if os.environ.get("CI") and self._unexcused:
            terminalreporter.write_line(
                f"CI is set, and {len(self._unexcused)} of these give no reason that begins with {EXCUSE!r}: failed",
                red=True,
            )

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        described = report.longrepr
        reason = described[2] if isinstance(described, tuple) else str(described)
        self._reasons[report.nodeid] = reason.removeprefix("Skipped: ")
