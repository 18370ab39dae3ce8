"""Rules of skipping: every skip is reported, and in CI only the platform excuses one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.skips import EXCUSE, Skips

LAZY = "I feel lazy"


def module_with(reason: str) -> str:
    """Return a test module with a test that passes and one that is skipped."""
    return f"import pytest\ndef test_a(): pass\ndef test_b(): pytest.skip({reason!r})\n"


def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, module: str, *, ci: bool) -> tuple[int, str]:
    """Run pytest on a module; return its status and output."""
    (monkeypatch.setenv("CI", "true") if ci else monkeypatch.delenv("CI", raising=False))
    pytester.makepyfile(test_it=module)
    done = pytester.runpytest_inprocess(plugins=[Skips()])
    return int(done.ret), done.stdout.str()


def test_ci_fails_on_a_skip_without_excuse(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run fails, and names the test, the reason, and the valid excuse."""
    status, output = run(pytester, monkeypatch, module_with(LAZY), ci=True)
    assert status == 1
    assert f"test_it.py::test_b: {LAZY}" in output
    assert EXCUSE in output


def test_skips_of_workers_count(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """With xdist the run fails and reports as well."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makeconftest(
        "from tests.support.skips import Skips\ndef pytest_configure(config): config.pluginmanager.register(Skips())\n"
    )
    pytester.makepyfile(test_it=module_with(LAZY))
    done = pytester.runpytest_subprocess("-n", "1", "-p", "no:hypothesispytest")
    assert int(done.ret) == 1
    assert f"test_it.py::test_b: {LAZY}" in done.stdout.str()


@pytest.mark.parametrize(("reason", "ci"), [(LAZY, False), (f"{EXCUSE} no fork", True)])
def test_other_runs_report_skips_and_pass(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, reason: str, ci: bool
) -> None:
    """Outside of CI, or with the excuse, the run passes and still reports what was skipped."""
    status, output = run(pytester, monkeypatch, module_with(reason), ci=ci)
    assert status == 0
    assert f"test_it.py::test_b: {reason}" in output


def test_a_run_without_skips_passes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """In CI a run that skips nothing passes, and reports nothing."""
    status, output = run(pytester, monkeypatch, "def test_a(): pass", ci=True)
    assert status == 0
    assert "test_it.py::" not in output


def test_a_module_that_is_skipped_as_a_whole_counts(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A skip at module level is reported and fails in CI."""
    status, output = run(pytester, monkeypatch, "import pytest\npytest.importorskip('no_such_module')\n", ci=True)
    assert status == 1
    assert "test_it.py: could not import" in output
