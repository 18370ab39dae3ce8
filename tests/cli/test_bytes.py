"""Bytes and terminals: nothing becomes other bytes, and no encoding or closed stream is a bug of redicts."""

from __future__ import annotations

import base64
import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from redicts import Lock
from redicts.cli import exits
from tests.cli.conftest import InProcess, leaves_in, open_database, put, put_raw, value_at
from tests.cli.running import command_line, environment, redicts, run, running
from tests.support.ports import bound_socket

MODEL = b'\x04models 29\n{"$type":"invoice","value":1}'
DEEP = b"[" * 3000 + b"]" * 3000
LONG = b"1" + b"0" * 5000


def test_a_value_that_cannot_be_read_here_is_shown_as_stored(file_url: str, in_process: InProcess) -> None:
    """``get`` prints the bytes that ``import`` takes, says what is missing, and shows the rest; the status is 1."""
    put(file_url, {"a": {"plain": 1}})
    put_raw(file_url, "a", "model", data=MODEL)
    put_raw(file_url, "a", "deep", data=DEEP)
    put_raw(file_url, "a", "long", data=LONG)
    for settings in ({}, {"codec": {"name": "models"}, "accept": ["json"]}):
        store = json.dumps({"backend": "sqlite", "path": file_url.removeprefix("sqlite:///"), **settings})
        done = in_process("get", "a", "--json", "--store", store)
        assert done.status == exits.NEGATIVE
        value = done.document["value"]
        assert value.pop("plain") == 1
        assert {name: base64.b64decode(each["base64"]) for name, each in value.items()} == {
            "model": MODEL,
            "deep": DEEP,
            "long": LONG,
        }
        assert sorted(done.document["encoded"]) == ["a.deep", "a.long", "a.model"]
        assert all(f"'a.{name}'" in done.err for name in value)
        assert "models" in done.err
        assert in_process("get", "a.model", "--store", store).status == exits.NEGATIVE
        assert in_process("tree", "--store", store).status == exits.DONE
        assert in_process("watch", "--looks", "1", "--store", store).status == exits.DONE


def test_a_value_that_cannot_be_read_here_is_moved_by_every_command(
    file_url: str, other_url: str, tmp_path: Path, in_process: InProcess
) -> None:
    """``export``, ``import`` and ``copy`` move its bytes, and their status is 0."""
    put_raw(file_url, "a", "model", data=MODEL)
    put_raw(file_url, "a", "deep", data=DEEP)
    put_raw(file_url, "a", "long", data=LONG)
    file = tmp_path / "lines"
    assert in_process("export", "-o", file, "--store", file_url).status == exits.DONE
    assert in_process("import", file, "--store", other_url).status == exits.DONE
    assert leaves_in(other_url) == leaves_in(file_url)
    assert in_process("copy", file_url, other_url, "--to", "b").status == exits.DONE
    assert leaves_in(other_url)["b", "a", "model"] == MODEL


def test_a_document_without_the_ttls_says_so(file_url: str, in_process: InProcess) -> None:
    """The JSON form has no place for them."""
    put(file_url, 1, "a", ttl=600_000)
    assert "1 leaf has one" in in_process("export", "--format", "json", "--store", file_url).err


NOT_TEXT = "\udcff\udc80"
"""What Python makes of two bytes in an argument that are not UTF-8."""


@pytest.mark.parametrize(
    "arguments",
    [
        ["set", "a", NOT_TEXT, "--text"],
        ["set", "a", f'"{NOT_TEXT}"'],
        ["set", NOT_TEXT, "1"],
        ["get", NOT_TEXT],
        ["del", NOT_TEXT],
        ["tree", NOT_TEXT],
        ["export", NOT_TEXT],
    ],
    ids=ascii,
)
def test_arguments_that_are_not_utf_8_are_refused(file_url: str, in_process: InProcess, arguments: list[str]) -> None:
    """They would become other text; nothing is written."""
    put(file_url, 1, "kept")
    done = in_process(*arguments, "--store", file_url)
    assert (done.status, done.out, done.err.count("\n")) == (exits.WRONG, "", 1)
    assert "UTF-8" in done.err
    assert value_at(file_url) == {"kept": 1}


def test_input_that_is_not_utf_8_is_refused(file_url: str, in_process: InProcess) -> None:
    """From the standard input and from a file: the error says so, and nothing is written."""
    put(file_url, 1, "kept")
    head = b'{"redicts": "leaves", "version": 1}\n'
    for arguments, data in (
        (["set", "a", "--text", "-"], b"\xff"),
        (["set", "a", "-"], b'"\xff"'),
        (["import", "-"], head + b'{"path": ["a"], "value": "\xff"}\n'),
        (["import", "-", "--format", "json"], b'{"a": "\xff"}'),
    ):
        done = in_process(*arguments, "--store", file_url, stdin=data)
        assert (done.status, done.out, done.err.count("\n")) == (exits.WRONG, "", 1)
        assert "UTF-8" in done.err
    assert value_at(file_url) == {"kept": 1}


def test_text_is_the_same_in_every_locale(file_url: str) -> None:
    """An argument in UTF-8 is that text also where the locale is another one."""
    ascii_only = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert redicts("set", "h\u00e9", "--text", "\u00fc\u20ac", "--store", file_url, **ascii_only).status == exits.DONE
    assert value_at(file_url) == {"h\u00e9": "\u00fc\u20ac"}
    done = redicts("get", "h\u00e9", "--text", "--store", file_url, **ascii_only)
    assert (done.status, done.out) == (exits.DONE, "\u00fc\u20ac\n")


def test_text_that_utf_8_lacks_is_printed_as_json_only(file_url: str, in_process: InProcess) -> None:
    """``get --text`` would print bytes that stand for other text."""
    put(file_url, "\ud800", "a")
    done = in_process("get", "a", "--text", "--store", file_url)
    assert (done.status, done.out) == (exits.WRONG, "")
    assert "without --text" in done.err
    assert in_process("get", "a", "--store", file_url).out == '"\\ud800"\n'


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('{"a": 1, "a": 2}', "the name 'a' twice"),
        ('[{"a": {"b": 1, "b": 2}}]', "the name 'b' twice"),
        ("1e400", "would become infinite"),
        ("9" * 5000, "more digits"),
        ("[" * 100_000, "nested too deep"),
        ("\ufeff1", "BOM"),
    ],
    ids=["two equal names", "two equal names within", "too large", "too many digits", "too deep", "a mark"],
)
def test_values_of_which_something_would_be_lost_are_refused(
    file_url: str, in_process: InProcess, value: str, reason: str
) -> None:
    """``set`` and ``import`` refuse JSON that Python reads as something else, or not at all."""
    done = in_process("set", "a", "-", "--store", file_url, stdin=value)
    assert (done.status, done.err.count("\n")) == (exits.WRONG, 1)
    assert reason in done.err
    assert leaves_in(file_url) == {}


def test_an_empty_document_is_stored(file_url: str, in_process: InProcess) -> None:
    """``{}`` at a path is a value."""
    for file_format, text in (
        ("json", "{}"),
        ("lines", '{"redicts":"leaves","version":1}\n{"path":[],"value":{}}\n{"end":true,"leaves":1}'),
    ):
        done = in_process("import", "-", file_format, "--format", file_format, "--store", file_url, stdin=text)
        assert (done.status, done.err) == (exits.DONE, f"redicts: 1 leaf is stored below '{file_format}'\n")
    assert value_at(file_url) == {"json": {}, "lines": {}}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        *[("lines", text) for text in ("", "\n", "{", '{"end":true,"leaves":0}', '{"path":["a"],"value":1}')],
        *[("json", text) for text in ("", "\n", '{"a": 1')],
    ],
)
def test_an_input_that_is_not_whole_is_an_error(file_url: str, in_process: InProcess, text: str, form: str) -> None:
    """An empty input and one without its beginning or its end: status 1, and the error says that nothing is stored."""
    done = in_process("import", "-", "--format", form, "--store", file_url, stdin=text)
    assert (done.status, done.out, done.err.count("\n")) == (exits.NEGATIVE, "", 1)
    assert "nothing is stored" in done.err
    assert leaves_in(file_url) == {}


def test_an_input_without_line_ends_does_not_fill_the_memory(
    file_url: str, tmp_path: Path, in_process: InProcess
) -> None:
    """Its beginning shows that it is not an export, and the rest, which may have no end, is not read."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ended: list[str] = []

    def write_zeros() -> None:
        try:
            with pipe.open("wb", buffering=0) as file:
                for _ in range(100):
                    file.write(bytes(2**20))
        except BrokenPipeError:
            ended.append("the reader had enough")

    writer = threading.Thread(target=write_zeros, daemon=True)
    writer.start()
    done = in_process("import", pipe, "--store", file_url)
    writer.join()
    assert (done.status, done.err.count("\n")) == (exits.WRONG, 1)
    assert "not an export in lines; nothing is stored" in done.err
    assert ended == ["the reader had enough"]


def test_an_import_that_fails_says_how_far_it_came(file_url: str, tmp_path: Path, in_process: InProcess) -> None:
    """The batches before the failure are stored, and the same command continues."""
    leaves = [{"path": [f"n{number}"], "value": 1} for number in range(40)]
    lines = [{"redicts": "leaves", "version": 1}, *leaves, {"end": True, "leaves": 41}]
    file = tmp_path / "lines"
    file.write_text("".join([json.dumps(line) + "\n" for line in lines]), encoding="utf-8")
    done = in_process("import", file, "--batch", "10", "--store", file_url)
    assert done.status == exits.WRONG
    assert "announces 41 leaves, and 40 came before it" in done.err
    assert "30 leaves before it are stored" in done.err
    assert len(leaves_in(file_url)) == 30


_ONE_AFTER_THE_OTHER = """
import json, sys
from redicts.cli import main
for command in json.loads(sys.argv[1]):
    status = main(command)
    assert status == 0, (command, status)
"""


@pytest.mark.parametrize(
    ("name", "variables"),
    [("h\u00e9.db", {"PYTHONIOENCODING": "ascii"}), ("state.db", {"LC_ALL": "C", "PYTHONUTF8": "0"})],
    ids=["ascii", "C"],
)
def test_every_terminal_can_show_the_output(tmp_path: Path, name: str, variables: dict[str, str]) -> None:
    """A character that the encoding lacks is an escape, in names, values, threads and the name of the file."""
    url = f"sqlite:///{tmp_path}/{name}"
    put(url, {"h\u00e9\ud800": "\u20ac\ud800"})
    store = ["--store", url]
    commands = [["get", ".", *store], ["watch", "--looks", "1", *store], ["plugins"]]
    commands += [[each, *store] for each in ("tree", "locks", "doctor")]
    with Lock(open_database(url).backend, "\u00fc"):
        done = run([sys.executable, "-c", _ONE_AFTER_THE_OTHER, json.dumps(commands)], **variables)
    assert (done.status, done.err) == (exits.DONE, ""), done


def in_shell(redirection: str, *arguments: object, store: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command with its streams redirected by a shell."""
    line = ["bash", "-c", f'"$@" {redirection}', "bash", *command_line(*arguments), "--store", store]
    return subprocess.run(line, env=environment(), capture_output=True, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("command", "redirection"),
    [
        *[(command, ">/dev/full") for command in (["get", "a"], ["tree"], ["export"], ["doctor", "--json"])],
        *[(command, ">&-") for command in (["get", "a"], ["export"])],
    ],
)
def test_output_that_cannot_be_written_is_status_3(file_url: str, command: list[str], redirection: str) -> None:
    """A full disk or a closed stream is named in one line."""
    put(file_url, 1, "a")
    done = in_shell(redirection, *command, store=file_url)
    assert done.returncode == exits.FAILED, done
    assert done.stderr.startswith(b"redicts: the standard output cannot be written: ")
    assert done.stderr.count(b"\n") == 1


def test_a_store_that_fails_is_not_taken_for_its_output(in_process: InProcess) -> None:
    """An error of the store that is an ``OSError`` too keeps its own text."""
    with bound_socket() as nobody:
        for arguments in (["export"], ["tree"], ["get", "a"]):
            done = in_process(*arguments, "--store", f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")
            assert (done.status, done.err.count("\n")) == (exits.FAILED, 1)
            assert "redis at 127.0.0.1" in done.err
            assert "output" not in done.err


def test_a_full_disk_is_named_with_the_file(
    file_url: str, tmp_path: Path, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that cannot be written says to which file, and replaces nothing."""
    put(file_url, 1, "a")
    (tmp_path / "backup").write_text("precious", encoding="utf-8")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    done = in_process("export", "-o", tmp_path / "backup", "--store", file_url)
    assert (done.status, done.err) == (exits.FAILED, f"redicts: {tmp_path}/backup.part: No space left on device\n")
    assert (tmp_path / "backup").read_text(encoding="utf-8") == "precious"


def test_closed_streams_do_not_stop_a_command(file_url: str) -> None:
    """A command that needs none of the standard streams works without them; a message is never worth its work."""
    assert in_shell("<&- >&- 2>&-", "set", "a", "1", store=file_url).returncode == exits.DONE
    assert value_at(file_url) == {"a": 1}
    assert in_shell("<&-", "set", "a", "-", store=file_url).returncode == exits.FAILED
    assert in_shell("2>/dev/full", "get", "b", store=file_url).returncode == exits.NEGATIVE
    assert in_shell("2>&-", "get", "a", store=file_url).stdout == b"1\n"


@pytest.mark.parametrize("command", ["tree", "get", "locks", "plugins"])
def test_a_reader_that_has_exited_is_no_error(file_url: str, command: str) -> None:
    """Tables and trees end quietly too, with the status of a closed pipe."""
    put(file_url, 1, "a")
    options = {"get": ["a"], "tree": [], "locks": []}.get(command)
    store = [] if options is None else ["--store", file_url]
    with Lock(open_database(file_url).backend, "b"), running(command, *(options or []), *store) as process:
        process.stdout.close()
        assert process.process.stderr is not None
        assert process.process.stderr.read() == b""
        assert process.process.wait() == exits.PIPE_CLOSED


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e300", "-1", "soon", "9" * 5000])
def test_durations_that_no_process_can_wait_for_are_refused(file_url: str, in_process: InProcess, number: str) -> None:
    """An interval, a TTL and a timeout are finite numbers."""
    put(file_url, 1, "a")
    for arguments in (
        ["watch", "--looks", "2", f"--interval={number}", "--store", file_url],
        ["certify", "memory", "--check", "writes.*", f"--timeout={number}"],
    ):
        done = in_process(*arguments)
        assert (done.status, done.out, done.err.count("\n")) == (exits.WRONG, "", 1)
    if number not in ("1e300", "9" * 5000):  # a TTL longer than a store keeps is cut
        done = in_process("set", "a", "2", f"--expire={number}", "--store", file_url)
        assert (done.status, done.err.count("\n")) == (exits.WRONG, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["get", "a", "--database", "9" * 5000],
        ["get", "a", "--database", "-1"],
        ["get", "a", "--database", "\udcff"],
        ["get", "a", "--store", "\udcff"],
        ["get", "a", "--store", "{" * 100_000],
        ["get", "a", "--store", "[" * 100_000],
        ["get", "a", "--store", '{"path": ' + "9" * 5000 + "}"],
        ["import", "\udcff"],
        ["import", "."],
        ["export", "-o", "."],
        ["export", "-o", "\udcff/x"],
        ["doctor", "--store", "\udcff.toml"],
        ["copy", "\udcff", "memory"],
        ["get", ".".join("a" * 200)],
        ["tree", "--most", "9" * 5000],
    ],
    ids=lambda arguments: ascii(arguments)[:60],
)
def test_odd_arguments_are_not_a_bug_of_redicts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file_url: str, in_process: InProcess, arguments: list[str]
) -> None:
    """Each is one line, and its status says whether the use or a file is wrong."""
    put(file_url, 1, "a")
    monkeypatch.setenv("REDICTS_URL", file_url)
    monkeypatch.chdir(tmp_path)
    done = in_process(*arguments)
    assert done.status in (exits.WRONG, exits.FAILED), done
    assert (done.out, done.err.count("\n")) == ("", 1)


def test_a_completion_that_fails_is_silent() -> None:
    """No traceback is printed into the command line of a shell that asks in another way."""
    done = redicts(_REDICTS_COMPLETE="bash_complete")
    assert (done.status, done.out, done.err) == (exits.WRONG, "", "")


def test_no_memory_is_not_a_bug_of_redicts(monkeypatch: pytest.MonkeyPatch, in_process: InProcess) -> None:
    """The status is that of a failure."""

    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("redicts.cli.stores.settings_of", broken)
    done = in_process("get", "a")
    assert (done.status, "no more memory" in done.err) == (exits.FAILED, True)
