"""A fresh virtual environment with redicts and the example distributions, all installed from wheels.

Nothing of this checkout is on its path, so a file that a wheel lacks is missing in it. What the wheels require is
linked from the environment of the tests, and nothing else: a requirement that is not declared is missing too.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).resolve().parents[2]
EXAMPLES: Final = ROOT / "examples" / "plugins"
DISTRIBUTIONS: Final = ("redicts-postgres", "redicts-cbor", "redicts-log")

_TIMEOUT_SECS: Final = 880.0
_PATHS: Final = ("PYTHONPATH", "PYTHONHOME", "PYTEST_ADDOPTS", "VIRTUAL_ENV")


class FreshEnvironment:
    """A virtual environment in which everything is installed."""

    def __init__(self, directory: Path) -> None:
        self._directory: Final = directory
        self.python: Final = directory / "venv" / "bin" / "python"
        directory.mkdir(parents=True, exist_ok=True)
        # The first worker of a run makes it, and the others wait.
        with (directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (directory / "made").exists():
                self._make()
                (directory / "made").touch()

    def run(
        self, *words: str | Path, cwd: Path | None = None, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run its Python with these arguments, by default outside of this checkout, and check that it succeeds."""
        clean = {name: value for name, value in os.environ.items() if name not in _PATHS}
        return _done(self.python, *words, cwd=cwd or self._directory, env=clean | dict(variables or {}))

    def run_tests(self, distribution: str, *arguments: str, **variables: str) -> str:
        """Run the tests of one of the distributions; return the output."""
        quiet = {"PYTHONDONTWRITEBYTECODE": "1", **variables}
        words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
        return self.run(*words, cwd=EXAMPLES / distribution, variables=quiet).stdout

    def install(self, target: Path, *sources: Path) -> None:
        """Build wheels of distributions, and install them in a directory, without what they require."""
        quiet = ["--quiet", "--no-deps", "--no-build-isolation", "--no-compile", "--disable-pip-version-check"]
        _done(sys.executable, "-m", "pip", "install", *quiet, "--target", target, *sources)

    def _make(self) -> None:
        _done(sys.executable, "-m", "venv", "--without-pip", self._directory / "venv")
        place = "import sysconfig; print(sysconfig.get_path('purelib'))"
        packages = Path(_done(self.python, "-c", place).stdout.strip())
        self.install(packages, ROOT, *(EXAMPLES / name for name in DISTRIBUTIONS))
        # psycopg needs PostgreSQL's client library, and the distributions' own tests need pytest.
        wanted = ["redicts[contract]", *DISTRIBUTIONS, "psycopg[binary]", "pytest"]
        _link_required([Requirement(each) for each in wanted], packages)


def _link_required(wanted: list[Requirement], packages: Path) -> None:
    """Link what these and their own requirements install, unless it is there already."""
    installed = {each.name: each for each in metadata.distributions(path=[str(packages)])}
    seen: set[str] = set()
    while wanted:
        requirement = wanted.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        found = installed.get(requirement.name)
        if found is None:
            found = metadata.distribution(requirement.name)
            for name in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
                if not (packages / name).exists():
                    (packages / name).symlink_to(str(found.locate_file(name)))
        for text in found.requires or []:
            needed = Requirement(text)
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                wanted.append(needed)


def _done(
    *command: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_SECS,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done
