#!/usr/bin/env python3
"""The commands of this checkout: show what redicts does, test it, and build its documentation.

    python3 tasks.py demo [arguments]                 run examples/inventory.py
    python3 tasks.py test [switches] [arguments]      lint, check types, build the documentation, run all tests;
                                                      arguments go to pytest
        --quick-lint-only                             lint and check types, run no test
        --lowest                                      instead, test with the lowest versions of all dependencies
        --long                                        let the tests that search try much harder
    python3 tasks.py docs [directory]                 build the documentation for reading, in site/ by default
    python3 tasks.py build [URL]                      build the wheel and the source distribution in dist/, check them,
                                                      and say what an upload still needs; the README links to the
                                                      pages below the URL where this checkout can be read

They need Python 3.10 or newer with its venv module, and the package index that pip is set up for. What they install
goes to the virtual environment .venv in this directory, and to .venv-lowest (REDICTS_VENV names another directory). It
is reused until the requirements change. The tests start Redis and PostgreSQL servers of their own, for which they need
the executables; `python3 tasks.py test` says what to install. REDICTS_TEST_REDIS names the Redis executables to use,
separated as in PATH, and REDICTS_TEST_POSTGRES the directory of PostgreSQL's. Without PostgreSQL, its tests are skipped
and listed. Where CI is set, Redis 6.2, a newer Redis and PostgreSQL are required, and no test may be skipped; as root,
the servers that are missing are then installed with apt-get.
"""

from __future__ import annotations

import contextlib
import email
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent
PROJECT: Final = ROOT / "pyproject.toml"
REQUIREMENTS: Final = ROOT / "requirements-test.txt"
LOWEST_REQUIREMENTS: Final = ROOT / "requirements-lowest.txt"
OLDEST_PYTHON: Final = (3, 10)

SWITCHES: Final = frozenset({"--quick-lint-only", "--lowest", "--long"})
CHECKS: Final = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"])
WORKERS: Final = ("-n", "4", "--dist", "worksteal")
"""More processes than two cores, because many tests wait."""
LOWEST_TESTS: Final = (
    *("tests/config", "tests/codecs", "tests/backends/test_redis_connections.py"),
    *("tests/api/test_pool.py", "tests/api/test_proxy.py", "tests/api/test_reference.py", "tests/api/test_values.py"),
    *("tests/cli/test_program.py", "tests/cli/test_tree.py"),
)
"""The tests that reach into the dependencies, in less than 90 seconds on two cores."""


class Refused(Exception):
    """The command cannot run; the text is one line that says why, and the remedy."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; return the exit status."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    try:
        if sys.version_info < OLDEST_PYTHON:
            raise Refused(f"Python 3.10 or newer is needed, and this is {sys.version.split()[0]}: use a newer Python")
        if command == "demo":
            return run([environment({"demo": [PROJECT]}, ["--editable", str(ROOT)]), "examples/inventory.py", *rest])
        if command == "test":
            switches = SWITCHES.intersection(rest)
            selected = [argument for argument in rest if argument not in SWITCHES]
            # The tests start hundreds of programs, each of which would compile redicts again.
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
            if "--long" in switches:
                os.environ["REDICTS_TESTS"] = "long"
            return test_lowest(selected) if "--lowest" in switches else test(selected, "--quick-lint-only" in switches)
        if command == "docs":
            return docs(Path(rest[0] if rest else ROOT / "site").absolute())
        if command == "build":
            return build(ROOT / "dist", *rest[:1])
    except Refused as refused:
        sys.stderr.write(f"tasks.py: {refused}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    asked_for_help = command in {"-h", "--help", "help"}
    (sys.stdout if asked_for_help else sys.stderr).write(__doc__ or "")
    return 0 if asked_for_help else 2


def test(selected: Sequence[str], lint_only: bool) -> int:
    """Run every check, or those of the selected tests. One that fails stops no other; the tests come last.

    The checks run at the same time, because each uses one core. One of them collects the tests, so that the processes
    that run them find their modules compiled.
    """
    python = test_environment()
    if not lint_only:
        require_servers(python)
    with tempfile.TemporaryDirectory() as built:
        checks = {shlex.join(check): [python, "-m", *check] for check in CHECKS}
        if not (lint_only or selected):
            checks["docs"] = docs_command(python, Path(built))
            checks["examples"] = [python, "-m", "pytest", "README.md", "docs", "redicts"]
            checks["collection"] = [python, "-m", "pytest", "--collect-only", "-p", "no:terminalreporter", "tests"]
        failed = run_together(checks)
    status = 0 if lint_only else run([python, "-m", "pytest", *WORKERS, *(selected or ["tests"])])
    if failed:
        say(f"FAILED: {', '.join(failed)}")
    return 1 if failed or status else 0


def test_lowest(selected: Sequence[str]) -> int:
    """Run the tests that reach into the dependencies with the lowest versions that pyproject.toml allows."""
    python = environment(
        {"lowest": [PROJECT, LOWEST_REQUIREMENTS]},
        ["--requirement", str(LOWEST_REQUIREMENTS), "--editable", str(ROOT)],
        suffix="-lowest",
    )
    require_servers(python)
    return run([python, "-m", "pytest", *WORKERS, *(selected or LOWEST_TESTS)])


def docs(directory: Path) -> int:
    """Build the documentation for reading."""
    status = run(docs_command(test_environment(), directory))
    if not status:
        say(f"read it: {(directory / 'index.html').as_uri()}")
    return status


def build(directory: Path, url: str = "") -> int:
    """Build the distributions from a copy, whose README has links that work on a package index, and check them."""
    python = test_environment()
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "redicts"
        names = _output(["git", "-C", str(ROOT), "ls-files", "-z"])[1].split("\0")
        for name in filter(None, names):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
        readme = copy / "README.md"
        readme.write_text(for_index(readme.read_text(encoding="utf-8"), url), encoding="utf-8")
        say(f"$ {python} -m hatchling build -d {directory}")
        command = [python, "-m", "hatchling", "build", "-d", str(directory)]
        status = subprocess.run(command, cwd=copy, check=False).returncode  # noqa: S603
    if status:
        return status
    version = _output([python, "-c", "import redicts.version as v; print(v.__version__)"])[1]
    wheel = directory / f"redicts-{version}-py3-none-any.whl"
    missing = [*faults_of(wheel, version), *unreleased(version, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))]
    if _output(["git", "-C", str(ROOT), "status", "--porcelain"])[1]:
        missing.append("commit or remove what git status lists; a file that git does not know is not in the wheel")
    missing += [] if url else ["give the URL where this checkout can be read, so that the README links to its pages"]
    for each in missing:
        say(f"before an upload: {each}")
    say(
        f"built {wheel}"
        + ("" if missing else f"; to release it: python -m twine upload {directory}/redicts-{version}*")
    )
    return 0


def for_index(readme: str, url: str) -> str:
    """Return a README in which links to files of the checkout lead to a URL, or are plain text without one."""

    def absolute(found: re.Match[str]) -> str:
        image, text, target = found.groups()
        if "://" in target or target.startswith("#"):
            return found[0]
        return f"{image}[{text}]({url.rstrip('/')}/{target})" if url else ("" if image else text)

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", absolute, readme)


def faults_of(wheel: Path, version: str) -> list[str]:
    """Return what is wrong with the metadata of a wheel."""
    with zipfile.ZipFile(wheel) as file:
        metadata = email.message_from_bytes(file.read(f"redicts-{version}.dist-info/METADATA"))
        names = set(file.namelist())
    wanted = {"Name": "redicts", "Version": version, "Description-Content-Type": "text/markdown"}
    faults = [f"the metadata must have {name}: {value}" for name, value in wanted.items() if metadata[name] != value]
    faults += [f"the metadata lacks {name}" for name in ("Summary", "License-Expression") if not metadata[name]]
    faults += [
        f"the wheel lacks {name}" for name in ("redicts/py.typed", "redicts/cli/__init__.py") if name not in names
    ]
    if re.search(r"\]\((?!https?:|#)", str(metadata.get_payload())):
        faults.append("the README has links that do not work on a package index")
    return faults


def unreleased(version: str, changelog: str) -> list[str]:
    """Return what a release needs: a final version, and a heading of the changelog with it and the date."""
    needed = []
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        needed.append(f"the version is {version}; set a final one in redicts/version.py")
    heading = re.search(r"^## (.*)$", changelog, re.MULTILINE)
    first = heading[1] if heading else ""
    if not re.fullmatch(rf"{re.escape(version)} \(\d{{4}}-\d\d-\d\d\)", first):
        needed.append(
            f"the changelog begins with {first!r}; give it the version and the date: ## {version} (YYYY-MM-DD)"
        )
    return needed


def docs_command(python: str, directory: Path) -> list[str]:
    """Return the command that builds the documentation; a warning of its generator is an error."""
    return [python, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "docs", str(directory)]


def require_servers(python: str) -> None:
    """Refuse to go on without the servers that the tests need; in CI, root installs Debian's first."""
    look = [python, "-m", "tests.support.preflight"]
    if not run(look):
        return
    apt = shutil.which("apt-get")
    if os.environ.get("CI") and os.geteuid() == 0 and apt:
        # The packages would start services. RUNLEVEL=1 prevents that where there is no systemd, as in containers.
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        packages = ["redis-server", "postgresql"]
        # The package lists are missing in fresh containers, and may be older than the archive elsewhere.
        if not run([apt, "update", "--quiet"], quiet):
            run([apt, "install", "--yes", "--quiet", "--no-install-recommends", *packages], quiet)
        if not run(look):
            return
    raise Refused("servers that the tests need are missing; the lines above say which, and what to install")


def test_environment() -> str:
    """Return the Python of the environment with the project and all that its tests and pages need."""
    return environment(
        {"demo": [PROJECT], "test": [PROJECT, REQUIREMENTS]},
        ["--requirement", str(REQUIREMENTS), "--editable", str(ROOT)],
    )


def environment(purposes: Mapping[str, Sequence[Path]], requirements: Sequence[str], suffix: str = "") -> str:
    """Return the Python of a virtual environment in which the requirements are installed.

    ``purposes`` maps each command that the environment then serves to the files that name its requirements. Their
    digests are recorded in the environment, and nothing is installed again until one changes.
    """
    directory = Path((os.environ.get("REDICTS_VENV") or str(ROOT / ".venv")) + suffix).absolute()
    python, record = directory / "bin" / "python", directory / "redicts.json"
    made_for = {"made for": f"Python {sys.version_info.major}.{sys.version_info.minor}, {ROOT}"}
    digests = {purpose: _digest(files) for purpose, files in purposes.items()}
    recorded = _read_record(record)
    if made_for.items() - recorded.items() or _output([str(python), "-c", "import pip"])[0]:
        _make_environment(directory, record)
        recorded = made_for
    if digests.items() - recorded.items():
        # Forgotten first, so that an interrupted installation does not count.
        record.write_text(json.dumps(made_for), encoding="utf-8")
        # Most of the modules are never imported. The others are compiled then, by several processes at the same time.
        if run([str(python), "-m", "pip", "install", "--quiet", "--no-compile", *requirements]):
            raise Refused("pip could not install the requirements (see above): it needs a package index it can reach")
        record.write_text(json.dumps(recorded | digests, indent=1), encoding="utf-8")
    return str(python)


def _make_environment(directory: Path, record: Path) -> None:
    """Make a virtual environment in place of one that this program made, but never in place of anything else."""
    if record.exists():
        shutil.rmtree(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise Refused(f"{directory} exists and was not made by this program: remove it, or set REDICTS_VENV")
        # Recorded first, so that an interrupted one is known to be this program's too.
        record.write_text("{}", encoding="utf-8")
    except OSError as error:
        raise Refused(f"cannot make {directory} ({error.strerror}): set REDICTS_VENV to another directory") from error
    status, output = _output([sys.executable, "-m", "venv", str(directory)])
    if status:
        reason = output.splitlines()[-1] if output else f"status {status}"
        raise Refused(f"python -m venv failed ({reason}): install Python's venv module (Debian: python3-venv)")


def say(line: str) -> None:
    """Print a line before anything that a command prints next."""
    print(line, flush=True)  # noqa: T201


def run(command: Sequence[str], variables: Mapping[str, str] | None = None) -> int:
    """Print a command and run it in the checkout; return its exit status."""
    say(f"$ {shlex.join(command)}")
    return subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode  # noqa: S603


def run_together(commands: Mapping[str, Sequence[str]]) -> list[str]:
    """Run commands at the same time in the checkout, and print each with its output; return the names of the failed."""
    with contextlib.ExitStack() as running:
        started = {}
        for name, command in commands.items():
            output = running.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603
            running.callback(process.wait)
            running.callback(process.terminate)
            started[name] = process, output
        failed = []
        for name, (process, output) in started.items():
            say(f"$ {shlex.join(commands[name])}")
            failed += [name] if process.wait() else []
            output.seek(0)
            sys.stdout.buffer.write(output.read())
            sys.stdout.flush()
    return failed


def _output(command: Sequence[str]) -> tuple[int, str]:
    """Run a command quietly; return its exit status and what it printed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        return 127, str(error)
    return done.returncode, (done.stdout + done.stderr).strip()


def _read_record(record: Path) -> dict[str, str]:
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return recorded if isinstance(recorded, dict) else {}


def _digest(files: Sequence[Path]) -> str:
    """Return a digest of files; refuse if one is missing."""
    try:
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    except OSError as error:
        raise Refused(f"{error.filename} is missing: restore it from version control") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
