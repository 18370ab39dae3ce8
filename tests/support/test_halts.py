"""Rules of halts: a test that fails while the machine halts runs again, and no other one does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

IN_ITS_GROUP = """
import os, sys
os.setsid()
os.execv(sys.executable, [sys.executable, "-m", "pytest", *sys.argv[1:]])
"""

CONFTEST = """
from tests.support.halts import Halts

def pytest_configure(config):
    config.pluginmanager.register(Halts(), "halts")
"""

HALTED = """
import os, signal, subprocess, sys

def halt():
    \"\"\"Stop all processes of this run for half a second, as a machine would.\"\"\"
    told = subprocess.Popen([sys.executable, "-c", "input(); import os, signal, time\\n"
        f"os.killpg({os.getpgrp()}, signal.SIGSTOP)\\ntime.sleep(0.5)\\nos.killpg({os.getpgrp()}, signal.SIGCONT)"],
        stdin=subprocess.PIPE, start_new_session=True)
    told.communicate(b"\\n")
"""


def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, test: str, *options: str) -> tuple[int, str]:
    """Run pytest on a test in a process group of its own; return its status and output."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=HALTED + test)
    done = pytester.run(sys.executable, "-c", IN_ITS_GROUP, "-p", "no:hypothesispytest", *options)
    return int(done.ret), done.stdout.str()


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_a_test_that_fails_at_a_halt_runs_again(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """It passes if the next attempt does, and the run names it."""
    test = """
attempts = []
def test_a():
    attempts.append(1)
    if len(attempts) == 1:
        halt()
        assert False
"""
    status, output = run(pytester, monkeypatch, test, *options)
    assert status == 0, output
    assert "run again" in output
    assert "test_it.py::test_a" in output


def test_a_test_that_fails_without_a_halt_fails(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has one attempt, also if the machine halted during another test."""
    test = """
attempts = []
def test_a():
    halt()
def test_b():
    attempts.append(1)
    assert len(attempts) > 1
"""
    status, output = run(pytester, monkeypatch, test)
    assert status == 1, output
    assert "1 failed, 1 passed" in output
    assert "run again" not in output
