"""The command ``redicts certify``: its arguments, its reports, its errors, and its exit status."""

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

from redicts.cli import main
from redicts.contract import CHECKS
from tests.support.ports import free_port
from tests.support.servers import RedisServer
from tests.support.waiting import eventually

MARKER = "hunter2-the-marker"
"""A secret that no output may contain."""

ROOT = Path(__file__).parents[2]

THIRD_PARTY = '''
"""A third-party distribution: a store, its harness, and broken variants."""

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


class Countless(MemoryBackend):
    def execute(self, transaction, /):
        return super().execute(transaction)._replace(counters=())


class UncheckedHarness(ShelfHarness):
    store = Unchecked


class UndeletedHarness(ShelfHarness):
    store = Undeleted


class CountlessHarness(ShelfHarness):
    store = Countless


class ConfiguredHarness(ShelfHarness):
    def __init__(self, store):
        assert store.plugin.name == "memory", "the store comes with the configuration"
        super().__init__()


'''


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def third_party(tmp_path: Path) -> Run:
    """Run the command in a process of its own, in a directory with the module of a third party."""
    (tmp_path / "shelf.py").write_text(THIRD_PARTY, encoding="utf-8")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-m", "redicts", "certify", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    return run


def told_by(report: Path) -> dict[str, Any]:
    """Read a report that was written as JSON."""
    told: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return told


def test_memory_is_certified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The memory backend is certified, with exit status 0 and a complete report."""
    report = tmp_path / "report.json"
    assert main(["certify", "memory", "--report", str(report), "--seed", "3"]) == 0
    said = capsys.readouterr()
    told = told_by(report)
    assert "\nCERTIFIED: " in said.out
    assert "works in spaces of its own and empties them" in said.err
    assert (told["certified"], told["status"], told["seed"], told["left_out"]) == (True, "CERTIFIED", 3, [])
    assert [each["check"] for each in told["checks"]] == [check.name for check in CHECKS]
    assert all(each["milliseconds"] > 0 for each in told["checks"])
    assert set(told["about"]) == {"redicts", "contract", "hypothesis", "python", "platform"}
    distribution = {
        name: told["subject"][name] for name in ("plugin", "distribution", "version", "written for contract")
    }
    assert distribution == {
        "plugin": "memory",
        "distribution": "redicts",
        "version": told["about"]["redicts"],
        "written for contract": "1",
    }
    for counts in told["counts"].values():
        assert counts["required"] == counts["ran"] == counts["passed"]
    assert told["counts"]["processes"]["not run"] > told["counts"]["processes"]["ran"]
    assert told["could_declare"] == []


def test_sqlite_by_url_dict_and_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration is a URL or a dict as JSON; checks on processes and durability open the file again."""
    file, report = tmp_path / "state.db", tmp_path / "report.json"
    names = ("capabilities.*", "clients.values_outlast_all_clients", "*.processes_lose_no_update")
    checks = [word for name in names for word in ("--check", name)]
    for configuration in (f"sqlite:///{file}", json.dumps({"backend": {"name": "sqlite", "path": str(file)}})):
        assert main(["certify", configuration, *checks, "--report", str(report)]) == 0
        told = told_by(report)
        assert {each["status"] for each in told["checks"]} == {"passed"}
        assert "SQLite" in told["subject"]
        assert not told["certified"]
        assert told["status"] == f"NOT A CERTIFICATE: only 3 checks of {len(CHECKS)}"
    assert "NOT A CERTIFICATE: only 3 checks of" in capsys.readouterr().out


def test_redis_loses_replies_without_a_class(server: RedisServer, tmp_path: Path) -> None:
    """A server's URL is enough to lose replies, to hold requests back, and to report the server's version."""
    report = tmp_path / "report.json"
    checks = ["--check", "replies.*", "--check", "clients.a_client_may_leave"]
    url = f"redis://127.0.0.1:{server.port}/0"
    assert main(["certify", url, *checks, "--report", str(report)]) == 0
    told = told_by(report)
    assert {each["status"] for each in told["checks"]} == {"passed"}, told
    assert any(name.endswith(" server") for name in told["subject"])
    left = server.command("KEYS", "*")
    assert isinstance(left, list)
    receipts = [name for name in left if isinstance(name, bytes) and name.startswith(b"r:")]
    assert left == receipts, "the suite empties its spaces; the server forgets answered requests after five minutes"


@pytest.mark.parametrize(
    ("harness", "check"),
    [
        ("UncheckedHarness", "conditions.equals_compares_its_scope"),
        ("UndeletedHarness", "writes.delete_removes_its_scope"),
        ("CountlessHarness", "counters.add_counts_on"),
    ],
)
def test_a_third_partys_broken_backend_is_refused(harness: str, check: str, third_party: Run) -> None:
    """A third party's broken backend gets exit status 1 and the name of the failed check."""
    ended = third_party("--harness", f"shelf:{harness}", "--check", check)
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False), ended.stderr
    assert "\nNOT CERTIFIED: " in ended.stdout
    assert f"\n  failed: {check}\n" in ended.stdout


def test_a_third_partys_backend_is_certified(third_party: Run, tmp_path: Path) -> None:
    """A harness is made without an argument, or with the store of a configuration."""
    assert third_party("--harness", "shelf:ShelfHarness", "--check", "writes.*").returncode == 0
    ended = third_party("memory", "--harness", "shelf:ConfiguredHarness", "--check", "reads.*", "--report", "r.txt")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "r.txt").read_text(encoding="utf-8") == ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("NOT A CERTIFICATE: only ")


def test_the_report_can_be_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json, standard output is one JSON document."""
    assert main(["certify", "memory", "--check", "capabilities.*", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"].startswith("NOT A CERTIFICATE")


WRONG: Sequence[tuple[Sequence[str], str]] = (
    ([], "name what to certify"),
    ([""], "the configuration is empty"),
    (["memroy"], "did you mean 'memory'?"),
    (["memory://?x=1"], "memory://"),
    (["redis://h:port/0"], "url cannot be read"),
    (["{'backend': 'memory'}"], "JSON, see line 1 column 2"),
    (['{"backend": "sqlite", "paht": "x"}'], "did you mean 'path'?"),
    (["memory", "--check", "capabilities.nothing_like_this"], "there is no such check"),
    (["memory", "--report", "/nowhere/at/all/report.json"], "there is no such directory"),
    (["memory", "--report", "/"], "is a directory"),
    (["memory", "--seed", "x"], "not a valid integer"),
    (["memory", "--timeout", "0"], "must be a number from 0.001 to"),
    (["memory", "--checks", "x"], "No such option"),
    (["memory", "more"], "unexpected extra argument"),
    (["--harness", "shelf"], "package.module:Class"),
    (["--harness", "no.such.module:Class"], "cannot be imported"),
    (["--harness", "tests.contract.harnesses:Nothing"], "there is no Nothing"),
    (["--harness", "tests.contract.harnesses:RedisHarness"], "needs a configuration"),
    (["--harness", "redicts.contract:Harness"], "does not implement open"),
    (["--harness", "redicts.contract:ManualClock"], "makes a ManualClock"),
    (["memory", "--harness", "tests.contract.harnesses:RedisHarness"], "raised AttributeError"),
    (["memory", "--harness", "redicts.contract.fault_proxy:_Link"], "one argument, the store or codec, or none"),
)


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=lambda value: "" if isinstance(value, str) else None)
def test_wrong_use_is_one_line(arguments: Sequence[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong use exits with 2 and one line on standard error that says what to do; no check runs."""
    assert main(["certify", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("redicts: ")


def test_help_is_not_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    """--help exits with 0 and says that the data of the store is safe."""
    assert main(["certify", "--help"]) == 0
    assert "all other data of the store" in " ".join(capsys.readouterr().out.split())


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
def test_no_secret_of_the_configuration_is_printed(
    configuration: Any, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither form of the report, nor the output, nor an error contains a password."""
    text = configuration if isinstance(configuration, str) else json.dumps(configuration)
    for name in ("report.json", "report.txt"):
        assert main(["certify", text, "--timeout", "2", "--report", str(tmp_path / name)]) == status
    said = capsys.readouterr()
    written = "".join(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())
    assert MARKER not in said.out + said.err + written
    if status == 1:
        assert "could not be opened" in written


def test_a_store_that_cannot_be_opened_is_tried_once(tmp_path: Path) -> None:
    """Without a server one check reports it, and the others do not wait for the server."""
    report = tmp_path / "report.json"
    assert main(["certify", f"redis://127.0.0.1:{free_port()}/0", "--report", str(report)]) == 1
    [result] = told_by(report)["checks"]
    assert "Unreachable" in result["reason"]


def test_a_report_is_replaced_whole(tmp_path: Path) -> None:
    """A report replaces an older one in one step, and leaves no other file."""
    report = tmp_path / "report.json"
    report.write_text("old " * 100_000, encoding="utf-8")
    assert main(["certify", "memory", "--check", "capabilities.*", "--report", str(report)]) == 0
    assert not told_by(report)["certified"]
    assert os.listdir(tmp_path) == ["report.json"]


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    """An interrupted command says that nothing is certified, writes no report, and exits with 130."""
    command = [
        sys.executable,
        "-m",
        "redicts",
        "certify",
        f"sqlite:///{tmp_path}/s.db",
        "--thorough",
        "--report",
        "r.txt",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            eventually((tmp_path / "s.db").exists, "the first check runs")
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
    """The distribution has no entry point for pytest."""
    from importlib import metadata

    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "pytest11" not in project
    assert [each.group for each in metadata.distribution("redicts").entry_points if each.group == "pytest11"] == []


@pytest.mark.parametrize("missing", ["hypothesis", "click"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    """Without Hypothesis or click, the command exits with 2 and names the extra to install."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from redicts.cli import main\n"
        "sys.exit(main(['certify', 'memory']))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "pip install 'redicts[contract]'" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
