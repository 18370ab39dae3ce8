"""``lock`` runs a command under a lock, and ``edit`` an editor."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from redicts import Lock
from redicts.cli import exits
from tests.cli.conftest import InProcess, open_database, put, value_at
from tests.cli.running import redicts, running
from tests.support.servers import RedisServer
from tests.support.waiting import eventually

SCRIPT = "import os, sys; print(os.environ['REDICTS_LOCK_TOKEN'], os.environ['REDICTS_LOCK_PATH']); sys.exit(7)"
WAITS = "import time; print('runs', flush=True); time.sleep(60)"


def test_a_command_runs_under_a_lock(store: str) -> None:
    """Its status is that of the command, which gets the fencing token and the path; then the lock is free."""
    done = redicts("lock", "jobs.x", "-s", store, "--", sys.executable, "-c", SCRIPT, REDICTS_URL=store)
    assert (done.status, done.err) == (7, "")
    token, path = done.out.split()
    assert (int(token) > 0, path) == (True, "jobs.x")
    assert not Lock(open_database(store).backend, "jobs.x").is_locked()


def test_a_command_that_cannot_start_has_the_status_of_a_shell(
    file_url: str, tmp_path: Path, in_process: InProcess
) -> None:
    """127 if there is no such program, 126 if it is not executable; one line says so."""
    for program, status in ((tmp_path / "none", 127), (tmp_path, 126)):
        done = in_process("lock", "a", "-s", file_url, "--", program)
        assert (done.status, done.err.count("\n")) == (status, 1)
    assert not Lock(open_database(file_url).backend, "a").is_locked()


def test_a_lock_that_is_not_free_in_time_is_status_4(file_url: str, in_process: InProcess) -> None:
    """The command does not run."""
    with Lock(open_database(file_url).backend, "a"):
        done = redicts("lock", "a.b", "--timeout", "0", "--", "/bin/false", REDICTS_URL=file_url)
    assert (done.status, done.out, done.err.count("\n")) == (exits.LOCKED, "", 1)
    assert in_process("lock", "a.b", "--also", "c", "--timeout", "5", "-s", file_url, "--", "/bin/true").status == 0
    assert in_process("lock", "a", "-s", file_url).status == exits.WRONG


def test_signals_are_passed_on(file_url: str) -> None:
    """The command ends by the signal, the status says so, and the lock is free."""
    with running("lock", "a", "-s", file_url, "--", sys.executable, "-c", WAITS) as command:
        assert command.stdout.readline() == b"runs\n"
        assert Lock(open_database(file_url).backend, "a").is_locked()
        command.process.send_signal(signal.SIGTERM)
        done = command.end()
    assert (done.status, done.err) == (128 + signal.SIGTERM, "")
    assert not Lock(open_database(file_url).backend, "a").is_locked()


@pytest.mark.parametrize(("action", "status"), [("kill", exits.LOCKED), ("warn", 0)])
def test_a_command_whose_lock_is_lost_ends(file_url: str, tmp_path: Path, action: str, status: int) -> None:
    """It is told to end and its status is 4, or with ``--on-loss warn`` it goes on."""
    go_on = tmp_path / "go on"
    program = f"import os, time; print('runs', flush=True)\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.01)"
    options = ["--lease", "2", "--on-loss", action]
    with running("lock", "a", *options, "-s", file_url, "--", sys.executable, "-c", program) as command:
        assert command.stdout.readline() == b"runs\n"
        assert len(Lock(open_database(file_url).backend, "a").break_locks()) == 1
        assert command.process.stderr is not None
        line = command.process.stderr.readline()
        if action == "warn":
            go_on.touch()
        done = command.end()
    assert done.status == status
    assert b"the lock on 'a' is lost" in line


FAMILY = (
    "import signal, subprocess, sys; "
    "grandchild = subprocess.Popen([sys.executable, '-c', {grandchild!r}], stdout=subprocess.PIPE); "
    "grandchild.stdout.readline(); print(grandchild.pid, flush=True); grandchild.wait()"
)
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('runs', flush=True); time.sleep(60)"
)


def test_a_signal_reaches_what_the_command_started(file_url: str) -> None:
    """A shell that ends by a signal leaves its children behind; the process group gets it, so nothing is left."""
    with running("lock", "a", "-s", file_url, "--", sys.executable, "-c", FAMILY.format(grandchild=WAITS)) as command:
        grandchild = int(command.stdout.readline())
        command.process.send_signal(signal.SIGTERM)
        assert command.end().status == 128 + signal.SIGTERM
    eventually(lambda: not is_running(grandchild), "the grandchild ends")


def test_a_lost_lock_ends_what_the_command_started(file_url: str) -> None:
    """A grandchild that ignores SIGTERM is killed after the grace, and the program ends after it."""
    options = ("--lease", "1", "--grace", "0.2")
    program = FAMILY.format(grandchild=STUBBORN)
    with running("lock", "a", *options, "-s", file_url, "--", sys.executable, "-c", program) as command:
        grandchild = int(command.stdout.readline())
        assert len(Lock(open_database(file_url).backend, "a").break_locks()) == 1
        assert command.end().status == exits.LOCKED
        eventually(lambda: not is_running(grandchild), "the grandchild ends")


def is_running(process: int) -> bool:
    """Return whether a process has not ended."""
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_value_is_edited(file_url: str) -> None:
    """The editor gets the value as JSON, and what it saves is stored, with the TTL that was there."""
    put(file_url, {"a": {"wheels": 4, "paint": "red"}}, ttl=600_000)
    change = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.write_text(p.read_text().replace('red', 'blue'))"
    editor = f'{sys.executable} -c "{change}"'
    done = redicts("edit", "a", "-s", file_url, EDITOR=editor, VISUAL="")
    assert (done.status, done.err) == (exits.DONE, "")
    assert value_at(file_url) == {"a": {"wheels": 4, "paint": "blue"}}
    database = open_database(file_url)
    assert 0 < (database.run(database.store.ttl(("a", "paint"))) or 0) <= 600_000
    assert not Lock(database.backend, "a").is_locked()


EDITORS = {
    "a text that is not JSON": ("open(p, 'w').write('{')", exits.WRONG),
    "a leaf at the root": ("open(p, 'w').write('5')", exits.WRONG),
    "bytes that are not UTF-8": ("open(p, 'wb').write(bytes([255]))", exits.WRONG),
    "an editor that fails": ("sys.exit(1)", exits.WRONG),
    "no change": ("None", exits.DONE),
    "nothing": ("open(p, 'w')", exits.DONE),
}


@pytest.mark.parametrize(("action", "status"), EDITORS.values(), ids=EDITORS)
def test_a_mistake_stores_nothing(
    file_url: str, in_process: InProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, action: str, status: int
) -> None:
    """The text stays in its file, which the message names."""
    put(file_url, {"a": 1})
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("VISUAL", f'{sys.executable} -c "import sys; p = sys.argv[1]; {action}"')
    done = in_process("edit", ".", "-s", file_url)
    assert (done.status, done.out, done.err.count("\n")) == (status, "", 1)
    assert value_at(file_url) == {"a": 1}
    kept = list(tmp_path.glob("redicts-*.json"))
    assert [str(each) in done.err for each in kept] == [True] * (status != exits.DONE)
    assert not Lock(open_database(file_url).backend, "").is_locked()


def test_an_editor_for_terminals_is_not_started_without_one(
    file_url: str, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default editor would wait for keys, while the lock is held."""
    monkeypatch.delenv("EDITOR", raising=False)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setattr("redicts.cli.editing.subprocess.run", lambda *_, **__: pytest.fail("it was started"))
    done = in_process("edit", "a", "-s", file_url)
    assert (done.status, done.err.count("\n")) == (exits.WRONG, 1)
    assert "set EDITOR" in done.err


def test_a_value_that_others_change_meanwhile_is_not_overwritten(
    file_url: str, in_process: InProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A program that does not lock it may do so; the edit then ends with status 4, and the text stays."""
    put(file_url, {"a": 1})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("EDITOR", "an editor")

    def run(command: list[str], *, check: bool) -> object:
        put(file_url, 2, "a")
        Path(command[-1]).write_text("3", encoding="utf-8")
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr("redicts.cli.editing.subprocess.run", run)
    done = in_process("edit", "a", "-s", file_url)
    assert done.status == exits.LOCKED
    assert "your text is in" in done.err
    assert value_at(file_url) == {"a": 2}


def test_a_command_that_waits_can_be_interrupted(file_url: str) -> None:
    """Ctrl-C while the lock is not free ends it, and the command does not run."""
    database = open_database(file_url)
    with Lock(database.backend, "a"), running("lock", "a", "-s", file_url, "--", "/bin/true") as command:
        eventually(lambda: Lock(database.backend, "a").waiters(), "the command waits")
        command.interrupt()


def test_the_status_is_that_of_the_command_if_the_store_ends(tmp_path: Path) -> None:
    """A lock that cannot be released expires; one line says so."""
    go_on = tmp_path / "go on"
    program = f"import os, time; print('runs', flush=True)\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.01)"
    with RedisServer() as server:
        url = f"redis://{server.host}:{server.port}/0?retries=0"
        with running("lock", "a", "-s", url, "--", sys.executable, "-c", program) as command:
            assert command.stdout.readline() == b"runs\n"
            server.kill()
            go_on.touch()
            done = command.end()
    assert (done.status, "could not be released" in done.err) == (0, True), done
