"""No test is skipped silently: the end of a run says what was not run, and why.

Where the environment variable ``CI`` is set, the only excuse is that the platform cannot run the test.
"""

from __future__ import annotations

import os
from typing import Final

import pytest

EXCUSE: Final = "not on this platform:"
"""How the reason of a skip must begin that does not make a run fail where ``CI`` is set."""


class Skips:
    """A pytest plugin that collects the skips of a run, those of xdist's workers included."""

    def __init__(self) -> None:
        self._reasons: Final[dict[str, str]] = {}

    @property
    def _unexcused(self) -> list[str]:
        return [name for name, reason in self._reasons.items() if not reason.startswith(EXCUSE)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a skipped test."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a module that was skipped as a whole."""
        if report.skipped:
            self._note(report)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Let the run fail in CI if a test was skipped without excuse."""
        passed = exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
        if os.environ.get("CI") and self._unexcused and passed:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what was not run, and why."""
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
