"""What type checkers say of a user's program is true: they accept what works, and find mistakes.

mypy checks the program with everything else; the settings of the project name it.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from redicts import Pool, RedictsError, root
from tests.typing import program

PROGRAM: Final = Path(program.__file__)
SOURCES: Final = PROGRAM.parents[2]

STRICT: Final = {
    "include": [PROGRAM.name],
    "extraPaths": [str(SOURCES)],
    "typeCheckingMode": "strict",
    "enableTypeIgnoreComments": False,
    "reportUnnecessaryTypeIgnoreComment": "error",
}
"""The configuration of pyright. Comments for mypy do not count, and one that ignores nothing is an error."""


@pytest.fixture(autouse=True)
def pool() -> None:
    """Let the program use a fresh store."""
    Pool().reload(cfg={"backend": "memory", "names": {"cats": 1}})


@pytest.mark.parametrize("use", program.CORRECT, ids=lambda use: str(use.__name__))
def test_what_type_checkers_accept_runs(use: Callable[[], None]) -> None:
    """Each correct part of the program runs, and its values have the types that it states."""
    use()


@pytest.mark.parametrize("name", program.MISTAKES)
def test_what_type_checkers_refuse_raises_at_once(name: str) -> None:
    """Each mistake that type checkers find raises an error before anything is stored or locked."""
    with pytest.raises((TypeError, ValueError, RedictsError)) as raised:
        program.MISTAKES[name]()
    if "misspelt" in name:
        assert isinstance(raised.value, TypeError)
        assert "unexpected keyword argument" in str(raised.value)
    assert root().val() is None


def test_pyright_agrees_with_the_program(tmp_path: Path) -> None:
    """In strict mode, pyright finds the types that the program states, and exactly the mistakes that it marks.

    The program is in a directory of its own, as a user's is. basedpyright contains pyright, so it downloads nothing.
    """
    if importlib.util.find_spec("basedpyright") is None:
        pytest.skip("basedpyright is not installed: pip install -r requirements-test.txt")
    (tmp_path / PROGRAM.name).write_bytes(PROGRAM.read_bytes())
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(STRICT), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    report: dict[str, Any] = json.loads(done.stdout)
    found = [
        f"line {each['range']['start']['line'] + 1}: {each.get('rule')}: {each['message']}"
        for each in report["generalDiagnostics"]
    ]
    assert found == [], done.stderr
    assert report["summary"]["filesAnalyzed"] == 1
