"""The console examples of the documentation are run, and print what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.cli.running import variables

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


def examples() -> list[tuple[str, str]]:
    """Return each command of the page with the output that it shows there."""
    text = PAGE.read_text(encoding="utf-8")
    found = []
    for before, block in re.findall(r"(<!-- not run -->\n)?```console\n(.*?)```", text, re.DOTALL):
        if not before:
            for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, output = step.partition("\n")
                found.append((command, output))
    return found


def test_the_console_examples_print_what_they_show(tmp_path: Path) -> None:
    """Each command, run in a shell in order, prints to both outputs what the page shows; three dots are anything."""
    steps = examples()
    assert len(steps) >= 10
    marker = "next example"
    script = "\n".join(f"{command}\necho '{marker}'" for command, _ in steps)
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=variables({"PATH": path, "PYTHONIOENCODING": "utf-8"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=200,
    )
    printed = done.stdout.decode().split(f"{marker}\n")
    assert len(printed) == len(steps) + 1
    for (command, expected), output in zip(steps, printed):
        pattern = ".*?".join(re.escape(part) for part in expected.split("..."))
        assert re.fullmatch(pattern, output), f"$ {command}\n{output}"
