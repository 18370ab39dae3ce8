"""The tutorial "Write a backend": its files, typed in as it says, are a certified backend."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from redicts.contract import CHECKS
from tests.plugins.fresh import ROOT, FreshEnvironment
from tests.plugins.tutorial import files_of

TUTORIAL = ROOT / "docs" / "write-a-backend.md"
MOST_LINES = 150

SMALL = sorted({check.name.split(".")[0] for check in CHECKS} - {"pages", "pages_meanwhile", "sizes"})
"""The subjects of checks of few values: this store writes all of them each time. The short tests run the others on the
backend that appends to a file, where the same code evaluates transactions."""


@pytest.fixture(scope="module")
def typed_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory with the files of the tutorial."""
    tmp_path = tmp_path_factory.mktemp("typed_in")
    for name, text in files_of(TUTORIAL).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def installed(fresh: FreshEnvironment, typed_in: Path) -> dict[str, str]:
    """Install the files, and give the variables with which Python finds them."""
    target = typed_in / "installed"
    fresh.install(target, typed_in)
    (typed_in / "redicts_onefile.py").unlink()
    return {"PYTHONPATH": str(target)}


def test_the_backend_is_short() -> None:
    """The whole backend with its plugin, empty lines included, has at most 150 lines of at most 120 characters."""
    lines = files_of(TUTORIAL)["redicts_onefile.py"].splitlines()
    assert 50 < len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= 120


@pytest.mark.timeout(900)
def test_the_backend_is_certified(fresh: FreshEnvironment, typed_in: Path, installed: dict[str, str]) -> None:
    """The installed backend passes the checks, including those of processes; the long tests certify it."""
    program = ["certify_onefile.py"]
    if os.environ.get("REDICTS_TESTS") != "long":
        program = ["-m", "redicts", "certify", "--harness", "certify_onefile:OneFileHarness"]
        program += [word for subject in SMALL for word in ("--check", f"{subject}.*")]
    done = fresh.run(*program, cwd=typed_in, variables=installed)
    assert "0 failed" in done.stdout
    for check in ("processes.", "forks.", "ttl.", "threads.", "model."):
        assert any(check in line and "passed" in line for line in done.stdout.splitlines()), check


def test_the_pool_finds_the_backend(fresh: FreshEnvironment, typed_in: Path, installed: dict[str, str]) -> None:
    """A dict and a URL choose the installed backend."""
    done = fresh.run(
        "-c",
        "from redicts import Pool, root\n"
        "Pool().reload(cfg={'backend': 'onefile', 'path': 'a.json'})\n"
        "root().set('a', {'b': 42})\n"
        "Pool().reload(cfg='onefile://a.json')\n"
        "print(root().get('a.b').val())",
        cwd=typed_in,
        variables=installed,
    )
    assert done.stdout.split() == ["42"]
