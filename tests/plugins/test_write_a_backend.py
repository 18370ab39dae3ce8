"""The tutorial "Write a backend", followed by somebody who types in what it says, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugins.fresh import ROOT, FreshEnvironment
from tests.plugins.tutorial import files_of

TUTORIAL = ROOT / "docs" / "write-a-backend.md"
MOST_LINES = 150


@pytest.fixture
def typed_in(tmp_path: Path) -> Path:
    """Give a directory with the files of the tutorial."""
    for name, text in files_of(TUTORIAL).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_backend_is_short() -> None:
    """The whole backend with its plugin, empty lines and all, has at most 150 lines of at most 120 characters."""
    lines = files_of(TUTORIAL)["redicts_onefile.py"].splitlines()
    assert 100 < len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= 120


@pytest.mark.timeout(900)
def test_it_is_certified(fresh: FreshEnvironment, typed_in: Path) -> None:
    """Typed in and installed, the backend is certified over all checks, those on processes included."""
    told = fresh.run("-m", "pip", "install", "--quiet", "--no-deps", "--target", typed_in / "installed", typed_in)
    assert told.returncode == 0, told.stderr
    (typed_in / "redicts_onefile.py").unlink()
    certified = fresh.run(
        typed_in / "certify_onefile.py", cwd=typed_in, variables={"PYTHONPATH": str(typed_in / "installed")}
    )
    assert certified.returncode == 0, certified.stdout + certified.stderr
    for check in ("processes.", "forks.", "ttl.", "threads.", "model."):
        assert any(check in line and "passed" in line for line in certified.stdout.splitlines()), check


def test_the_pool_finds_it(fresh: FreshEnvironment, typed_in: Path) -> None:
    """Installed, it is chosen by its name, and by its URL."""
    told = fresh.run("-m", "pip", "install", "--quiet", "--no-deps", "--target", typed_in / "installed", typed_in)
    assert told.returncode == 0, told.stderr
    told = fresh.run(
        "-c",
        "from redicts import Pool, root\n"
        "Pool().reload(cfg={'backend': 'onefile', 'path': 'a.json'})\n"
        "root().set('a', {'b': 42})\n"
        "Pool().reload(cfg='onefile://a.json')\n"
        "print(root().get('a.b').val())",
        cwd=typed_in,
        variables={"PYTHONPATH": str(typed_in / "installed")},
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.split() == ["42"]
