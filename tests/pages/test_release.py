"""``python3 tasks.py build`` makes a wheel whose README works on a package index, and says what a release needs."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import tasks
from redicts.version import __version__
from tests.pages.parsing import ROOT


def test_links_of_the_readme_work_on_a_package_index() -> None:
    """Each link to a file leads to the URL, and without a URL it is plain text."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = tasks.for_index(readme, "https://example.org/redicts/")
    targets = re.findall(r"\]\(([^)\s]+)\)", shown)
    assert "https://example.org/redicts/docs/start.md" in targets
    assert all(target.startswith(("https://", "#")) for target in targets)
    plain = tasks.for_index(readme, "")
    assert "[Five minutes]" not in plain
    assert "Five minutes" in plain
    assert re.findall(r"\]\((?!https?:|#)", plain) == []


def test_a_release_needs_a_version_and_a_heading() -> None:
    """A development version and a changelog without a date are named."""
    assert tasks.unreleased("2.0.0", "# Changes\n\n## 2.0.0 (2027-01-31)\n\n- x\n") == []
    assert len(tasks.unreleased("2.0.0.dev0", "# Changes\n\n## 2.0.0 (not released)\n")) == 2
    assert len(tasks.unreleased("2.0.1", "# Changes\n\n## 2.0.0 (2027-01-31)\n")) == 1


def test_the_metadata_of_a_wheel_is_checked(tmp_path: Path) -> None:
    """A link to a file, a missing field and a missing file are faults."""
    wheel = tmp_path / "redicts.whl"
    text = "Name: redicts\nVersion: 2.0.0\nSummary: x\nLicense-Expression: Apache-2.0\n"
    for more, body, count in (
        ("Description-Content-Type: text/markdown\n", "[a](https://example.org)", 0),
        ("Description-Content-Type: text/markdown\n", "[a](docs/start.md)", 1),
        ("", "", 1),
    ):
        with zipfile.ZipFile(wheel, "w") as file:
            file.writestr("redicts-2.0.0.dist-info/METADATA", f"{text}{more}\n{body}")
            for name in ("redicts/py.typed", "redicts/cli/__init__.py"):
                file.writestr(name, "")
        assert len(tasks.faults_of(wheel, "2.0.0")) == count
    assert len(tasks.faults_of(wheel, "2.0.0")) == 1
    assert __version__
