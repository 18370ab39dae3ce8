"""The command that certifies: what it examines, what it says, what it writes, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from redicts.certify import certify_command
from redicts.contract import CHECKS
from tests.support.ports import free_port
from tests.support.servers import RedisServer
from tests.support.waiting import eventually

MARKER = "hunter2-the-marker"
"""A secret that must not show up anywhere."""

ROOT = Path(__file__).parents[2]

THIRD_PARTY = '''
"""A distribution of somebody else: a store, its harness, and a few that are broken."""

import functools

from redicts.backends.memory import MemoryBackend
from redicts.contract import Harness, ManualClock, SharedBackend
from redicts.core.minitransaction import Delete, Status


class ShelfHarness(Harness):
    networked = False
    store = MemoryBackend

    def __init__(self):
        self.clock = ManualClock()
        self.shelf = self.store(self.clock)

    def open(self):
        return SharedBackend(self.shelf)

    def advance(self, seconds):
        self.clock.advance(seconds)


class Unchecked(MemoryBackend):
    def execute(self, transaction, /):
        return super().execute(transaction._replace(checks=()))


class Undeleted(MemoryBackend):
    def execute(self, transaction, /):
        kept = tuple(each for each in transaction.writes if not isinstance(each, Delete))
        return super().execute(transaction._replace(writes=kept))


class Wordless(MemoryBackend):
    def execute(self, transaction, /):
        return super().execute(transaction)._replace(counters=())


class UncheckedHarness(ShelfHarness):
    store = Unchecked


class UndeletedHarness(ShelfHarness):
    store = Undeleted


class WordlessHarness(ShelfHarness):
    store = Wordless


class ConfiguredHarness(ShelfHarness):
    def __init__(self, store):
        assert store.plugin.name == "memory", "the store comes with the configuration"
        super().__init__()


'''


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def third_party(tmp_path: Path) -> Run:
    """Run the command as a process of its own, beside the module of a third party."""
    (tmp_path / "shelf.py").write_text(THIRD_PARTY, encoding="utf-8")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-m", "redicts.certify", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    return run


def told_by(report: Path) -> dict[str, Any]:
    """Return a report that was written as JSON."""
    told: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return told


def test_memory_is_certified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All checks on the memory backend: CERTIFIED, exit status 0, and a report that says what it rests on."""
    report = tmp_path / "report.json"
    assert certify_command(["memory", "--report", str(report), "--seed", "3"]) == 0
    said = capsys.readouterr()
    told = told_by(report)
    assert "\nCERTIFIED: " in said.out
    assert "works in spaces of its own and empties them" in said.err
    assert (told["certified"], told["status"], told["seed"], told["left_out"]) == (True, "CERTIFIED", 3, [])
    assert [each["check"] for each in told["checks"]] == [check.name for check in CHECKS]
    assert all(each["milliseconds"] > 0 for each in told["checks"])
    assert set(told["about"]) == {"redicts", "contract", "hypothesis", "python", "platform"}
    distribution = {name: told["told"][name] for name in ("plugin", "distribution", "version", "written for contract")}
    assert distribution == {
        "plugin": "memory",
        "distribution": "redicts",
        "version": told["about"]["redicts"],
        "written for contract": "1",
    }
    for counts in told["counts"].values():
        assert counts["demanded"] == counts["ran"] == counts["passed"]
    assert told["counts"]["processes"]["not run"] > told["counts"]["processes"]["ran"]
    assert told["could_claim"] == []


def test_sqlite_by_url_dict_and_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration is a URL or a dict in JSON; the checks on processes and durability open the file again."""
    file, report = tmp_path / "state.db", tmp_path / "report.json"
    checks = [
        "--check",
        "capabilities.*",
        "--check",
        "clients.values_outlast_all_clients",
        "--check",
        "*.processes_see_each_other",
    ]
    for configuration in (f"sqlite:///{file}", json.dumps({"backend": {"name": "sqlite", "path": str(file)}})):
        assert certify_command([configuration, *checks, "--report", str(report)]) == 0
        told = told_by(report)
        assert {each["status"] for each in told["checks"]} == {"passed"}
        assert "SQLite" in told["told"]
        assert not told["certified"]
        assert told["status"] == f"NOT A CERTIFICATE: only 5 checks of {len(CHECKS)}"
    assert "NOT A CERTIFICATE: only 5 checks of" in capsys.readouterr().out


def test_redis_loses_replies_without_a_class(redis_server: RedisServer, tmp_path: Path) -> None:
    """A URL of a real server is enough: replies are lost, requests held back, and the server's version is told."""
    report = tmp_path / "report.json"
    checks = ["--check", "replies.*", "--check", "locks_replies.*", "--check", "clients.a_client_may_leave"]
    url = f"redis://127.0.0.1:{redis_server.port}/0"
    assert certify_command([url, *checks, "--report", str(report)]) == 0
    told = told_by(report)
    assert {each["status"] for each in told["checks"]} == {"passed"}, told
    assert any(name.endswith(" server") for name in told["told"])
    left = redis_server.command("KEYS", "*")
    assert isinstance(left, list)
    receipts = [name for name in left if isinstance(name, bytes) and name.startswith(b"r:")]
    assert left == receipts, "the suite empties its spaces; the server forgets answered requests after five minutes"


@pytest.mark.parametrize(
    ("harness", "check"),
    [
        ("UncheckedHarness", "conditions.equals_refuses_other_values"),
        ("UndeletedHarness", "writes.delete_removes_its_scope"),
        ("WordlessHarness", "counters.add_counts_on"),
    ],
)
def test_a_strangers_broken_backend_is_refused(harness: str, check: str, third_party: Run) -> None:
    """In a process of its own, beside a stranger's module: exit status 1, and the broken check is named."""
    ended = third_party("--harness", f"shelf:{harness}", "--check", check)
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False), ended.stderr
    assert "\nNOT CERTIFIED: " in ended.stdout
    assert f"\n  failed: {check}\n" in ended.stdout


def test_a_strangers_backend_is_certified(third_party: Run, tmp_path: Path) -> None:
    """Its harness is constructed without an argument, or with the store of a configuration."""
    assert third_party("--harness", "shelf:ShelfHarness", "--check", "writes.*").returncode == 0
    ended = third_party("memory", "--harness", "shelf:ConfiguredHarness", "--check", "reads.*", "--report", "r.txt")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "r.txt").read_text(encoding="utf-8") == ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("NOT A CERTIFICATE: only ")


def test_the_report_can_be_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json, standard output is one JSON document."""
    assert certify_command(["memory", "--check", "capabilities.*", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"].startswith("NOT A CERTIFICATE")


WRONG: Sequence[tuple[Sequence[str], str]] = (
    ([], "say what to certify"),
    ([""], "the configuration is empty"),
    (["memroy"], "did you mean 'memory'?"),
    (["memory://?x=1"], "memory://"),
    (["redis://h:port/0"], "url cannot be read"),
    (["{'backend': 'memory'}"], "is not valid JSON, see line 1 column 2"),
    (['{"backend": "sqlite", "paht": "x"}'], "did you mean 'path'?"),
    (["memory", "--check", "capabilities.nothing_like_this"], "there is no such check"),
    (["memory", "--report", "/nowhere/at/all/report.json"], "there is no such directory"),
    (["memory", "--report", "/"], "is a directory"),
    (["memory", "--seed", "x"], "invalid int value"),
    (["memory", "--timeout", "0"], "above 0"),
    (["memory", "--checks", "x"], "unrecognized arguments"),
    (["memory", "more"], "unrecognized arguments"),
    (["--harness", "shelf"], "package.module:Class"),
    (["--harness", "no.such.module:Class"], "cannot be imported"),
    (["--harness", "tests.contract.harnesses:Nothing"], "there is no Nothing"),
    (["--harness", "tests.contract.harnesses:RedisHarness"], "wants a configuration"),
    (["--harness", "redicts.contract:Harness"], "does not implement open"),
    (["--harness", "redicts.contract:ManualClock"], "makes a ManualClock"),
    (["memory", "--harness", "tests.contract.harnesses:RedisHarness"], "raised AttributeError"),
    (["memory", "--harness", "redicts.contract.fault_proxy:_Link"], "one argument, the store, or with none"),
)


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=lambda value: "" if isinstance(value, str) else None)
def test_wrong_use_is_one_line(arguments: Sequence[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong use ends with status 2 and one line on standard error that says what to do; nothing is examined."""
    assert certify_command(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("redicts certify: ")


def test_help_is_no_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    """--help ends with status 0 and tells of the safety of the data."""
    assert certify_command(["--help"]) == 0
    assert "all else that the store" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("configuration", "status"),
    [
        ({"backend": "redis", "host": "127.0.0.1", "port": 1, "password": MARKER}, 1),
        ({"backend": "redis", "host": "127.0.0.1", "port": 0, "password": MARKER}, 2),
        ({"backend": "redis", "pasword": MARKER}, 2),
        ({"backend": "redis", "url": f"redis://u:{MARKER}@[h/0"}, 2),
        (f"redis://user:{MARKER}@127.0.0.1:1/0", 1),
        (f"redis://user:{MARKER}@127.0.0.1:x/0", 2),
        (f"rediss://user:{MARKER}@127.0.0.1:1/0", 1),
        (f"nothing://user:{MARKER}@host/0", 2),
        (f'{{"password": "{MARKER}"', 2),
    ],
    ids=str,
)
def test_no_secret_of_the_configuration_is_told(
    configuration: Any, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the report in its two forms, nor what is printed, nor an error repeats a password."""
    text = configuration if isinstance(configuration, str) else json.dumps(configuration)
    for name in ("report.json", "report.txt"):
        assert certify_command([text, "--timeout", "2", "--report", str(tmp_path / name)]) == status
    said = capsys.readouterr()
    written = "".join(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())
    assert MARKER not in said.out + said.err + written
    if status == 1:
        assert "could not be opened" in written


def test_a_store_that_cannot_be_opened_is_asked_once(tmp_path: Path) -> None:
    """Without a server one check says so, and the others do not each wait for it."""
    report = tmp_path / "report.json"
    assert certify_command([f"redis://127.0.0.1:{free_port()}/0", "--report", str(report)]) == 1
    [result] = told_by(report)["checks"]
    assert "Unreachable" in result["reason"]


def test_a_report_is_replaced_whole(tmp_path: Path) -> None:
    """A report takes the place of an older one in one step, and nothing else is left beside it."""
    report = tmp_path / "report.json"
    report.write_text("old " * 100_000, encoding="utf-8")
    assert certify_command(["memory", "--check", "capabilities.*", "--report", str(report)]) == 0
    assert not told_by(report)["certified"]
    assert os.listdir(tmp_path) == ["report.json"]


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    """Interrupted, it says in one line that nothing is certified, writes no report, and ends with status 130."""
    command = [sys.executable, "-m", "redicts.certify", f"sqlite:///{tmp_path}/s.db", "--thorough", "--report", "r.txt"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            eventually((tmp_path / "s.db").exists, "the examination has begun")
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    assert process.returncode == 130, error
    assert out == ""
    assert "interrupted: nothing is certified" in error.splitlines()[-1]
    assert "Traceback" not in error
    assert not (tmp_path / "r.txt").exists()


def test_nothing_loads_itself_into_pytest() -> None:
    """There is no entry point for pytest, in the project or in its metadata: who does not certify notices nothing."""
    from importlib import metadata

    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "pytest11" not in project
    assert [each.group for each in metadata.distribution("redicts").entry_points if each.group == "pytest11"] == []


def test_without_hypothesis_it_says_what_to_install() -> None:
    """Where Hypothesis is missing, the command is wrong use with the remedy, and the package can be imported."""
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "from redicts.certify import certify_command\n"
        "sys.exit(certify_command(['memory']))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "pip install 'redicts[contract]'" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
