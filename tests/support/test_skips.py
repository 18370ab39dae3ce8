"""The rules of skipping: every skip is told, and in CI only the platform is an excuse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_CONFTEST = """
from tests.support.skips import Skips
def pytest_configure(config):
    config.pluginmanager.register(Skips())
"""


def run(directory: Path, reason: str | None, *arguments: str, ci: bool) -> tuple[int, str]:
    """Run pytest on one test that passes, and one that is skipped for this reason; return its status and output."""
    (directory / "conftest.py").write_text(_CONFTEST)
    skip = "" if reason is None else f"def test_b():\n    pytest.skip({reason!r})\n"
    (directory / "test_it.py").write_text(f"import pytest\ndef test_a(): pass\n{skip}")
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "PYTEST_ADDOPTS"}}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(directory), *arguments],
        cwd=directory,
        env=environment | ({"CI": "true"} if ci else {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "with workers"])
def test_ci_accepts_no_skip_without_excuse(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """In CI a run with a skipped test fails, and says which test, why it was skipped, and what would excuse it."""
    status, output = run(tmp_path, "I feel lazy", *workers, ci=True)
    assert status == 1
    assert "test_it.py::test_b: I feel lazy" in output
    assert "not on this platform:" in output


@pytest.mark.parametrize(
    ("reason", "ci"), [("I feel lazy", False), ("not on this platform: no fork", True), (None, True)]
)
def test_other_runs_pass_and_tell(tmp_path: Path, reason: str | None, ci: bool) -> None:
    """Outside of CI, or with the excuse, the run passes; what was skipped is told all the same."""
    status, output = run(tmp_path, reason, ci=ci)
    assert status == 0
    assert (f"test_it.py::test_b: {reason}" in output) is (reason is not None)


def test_a_module_that_is_skipped_as_a_whole_counts(tmp_path: Path) -> None:
    """A skip at the top of a module is a skip of all its tests."""
    (tmp_path / "test_other.py").write_text("import pytest\npytest.importorskip('no_such_module_anywhere')\n")
    status, output = run(tmp_path, None, ci=True)
    assert status == 1
    assert "test_other.py" in output
