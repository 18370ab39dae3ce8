"""A fresh virtual environment with redicts and the example distributions, all installed from wheels.

Nothing of this checkout is on its path, so a file that a wheel lacks is missing in it.
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

    def _make(self) -> None:
        wheels = self._directory / "wheels"
        sources = [ROOT, *(EXAMPLES / name for name in DISTRIBUTIONS)]
        build: list[str | Path] = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels]
        _done(sys.executable, "-m", "pip", *build, *sources)
        built = {path.name.partition("-")[0]: path for path in wheels.glob("*.whl")}
        _done(sys.executable, "-m", "venv", self._directory / "venv")
        # Dependencies have the versions of the environment that the tests run in.
        versions = self._directory / "constraints.txt"
        others = [each for each in metadata.distributions() if not each.name.startswith("redicts")]
        versions.write_text("".join(f"{each.name}=={each.version}\n" for each in others), encoding="utf-8")
        wanted: list[str | Path] = [
            f"redicts[contract] @ {built['redicts'].as_uri()}",
            built["redicts_postgres"],
            built["redicts_cbor"],
            built["redicts_log"],
        ]
        # psycopg needs PostgreSQL's client library, and the distributions' own tests need pytest.
        wanted += ["psycopg[binary]", "pytest"]
        _done(self.python, "-m", "pip", "install", "--quiet", "--constraint", versions, *wanted)


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
