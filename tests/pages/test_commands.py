"""The commands in the pages are run, in the order of the page, and print what the page shows.

Each page has its own folder. A block below a comment ``<!-- file: visit.py -->`` is saved there under that name.
Where the page shows no output, the command only has to succeed.
"""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.pages.parsing import PAGES, ROOT, Command, blocks, commands

NOT_RUN: Final = {
    r"pip install ": "installs from the package index",
    r"python3 tasks\.py (test|docs|demo|build)\b": "runs these tests, or takes long; its switches have tests below",
    r"\.venv/bin/python ": "is the environment of a clone, which runs these tests",
    r"redicts certify ": "takes minutes, or needs a server at a fixed port; the tests of the contract run it",
    r"redicts mutants ": "takes minutes; tests/contract/test_mutants.py runs it on a small backend",
    r"redicts (copy|doctor) .*redis://": "needs a server at a fixed port; tests/cli runs it on others",
    r"python -m benchmarks\.\w+": "takes minutes; its switches have tests below",
    r"python -m tests\.outages ": "takes a minute; tests/outages runs one of the outages, and all in the long run",
    r"python3 examples/migrate_from_1_0\.py ": "needs a server at a fixed port; tests/migration runs it",
}
"""Commands that are not run, by the beginning of their text, with the reason."""

TIMEOUT: Final = 120.0


def reason_not_to_run(command: Command) -> str | None:
    """Return why a command is not run, or ``None`` if it is."""
    return next((reason for pattern, reason in NOT_RUN.items() if re.match(pattern, command.text)), None)


def shown_on(page: Path) -> list[Command]:
    """Return the commands that a page shows."""
    return [command for block in blocks(page) if block.language == "console" for command in commands(block)]


ALL: Final = [command for page in PAGES for command in shown_on(page)]
RUN: Final = [page for page in PAGES if any(not reason_not_to_run(command) for command in shown_on(page))]


@pytest.fixture
def variables() -> dict[str, str]:
    """Return the environment of a reader who has installed redicts and has chosen no store."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REDICTS_", "PYTEST"))}
    return kept | {
        "PATH": path,
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "utf-8",
    }


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    """Each command succeeds and prints what the page shows below it, where ``...`` stands for any text."""
    bash = shutil.which("bash")
    assert bash is not None, "the commands of the pages need bash"
    checker = doctest.OutputChecker()
    exports: list[str] = []
    for block in blocks(page):
        if block.file:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
        for command in commands(block) if block.language == "console" else ():
            if reason_not_to_run(command):
                continue
            done = subprocess.run(
                [bash, "-c", "\n".join([*exports, command.text])],
                cwd=tmp_path,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT,
                check=False,
            )
            said = done.stdout.decode()
            # A shell does not return the status of background commands.
            succeeded = done.returncode == 0 and "Traceback" not in said
            assert succeeded, f"{command}: {command.text}\n{said}"
            if command.text.startswith("export "):
                exports.append(command.text)
            if command.output:
                assert checker.check_output(command.output + "\n", said, doctest.ELLIPSIS), f"{command}: {said}"


@pytest.mark.parametrize("pattern", NOT_RUN)
def test_each_reason_not_to_run_is_needed(pattern: str) -> None:
    """Each pattern matches a command of the pages."""
    assert any(re.match(pattern, command.text) for command in ALL)


@pytest.mark.parametrize("command", [command for command in ALL if re.match(r"python3? (?!-c)", command.text)], ids=str)
def test_a_command_names_what_exists(command: Command) -> None:
    """The program or module that a command names exists and has the switches that the command gives it."""
    words = command.text.split()
    if words[1] == "-m":
        program = ROOT.joinpath(*words[2].split("."))
        assert program.is_dir() or program.with_suffix(".py").exists()
    elif "/" in words[1] or words[1] == "tasks.py":
        program = ROOT / words[1]
        assert program.exists()
    else:
        assert words[1] in {block.file for block in blocks(ROOT / command.page)}
        return
    switches = [word for word in words[2:] if word.startswith("--")]
    source = program.read_text(encoding="utf-8") if program.is_file() else ""
    if words[1] == "-m" and words[2].startswith("benchmarks."):
        source = program.with_suffix(".py").read_text() + (ROOT / "benchmarks" / "report.py").read_text()
    if words[1] == "tasks.py":
        source += (ROOT / "examples" / "inventory.py").read_text(encoding="utf-8")
    if source:
        assert [switch for switch in switches if f'"{switch}"' not in source] == []
