"""What destroys much asks first: a person at a terminal, or an option."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from redicts import Lock
from redicts.cli import exits
from tests.cli.conftest import InProcess, leaves_in, open_database, put, value_at
from tests.cli.running import command_line
from tests.cli.terminal import terminal

MUCH = {"garage": {f"name{number:02}": number for number in range(50)}, "other": 1}


@pytest.mark.parametrize("value", ["{}", '{"other": 1}', '{"garage": 5}'])
def test_the_root_is_replaced_on_request_only(file_url: str, in_process: InProcess, value: str) -> None:
    """``set`` removes nothing of the root without ``--everything``, as ``del`` does."""
    put(file_url, MUCH)
    done = in_process("set", ".", value, "--yes", "--store", file_url)
    assert (done.status, done.err.count("\n")) == (exits.WRONG, 1)
    assert "pass --everything" in done.err
    assert value_at(file_url) == MUCH
    assert in_process("set", ".", value, "--everything", "--store", file_url).status == exits.DONE
    assert leaves_in(file_url).keys() < leaves_in_of(MUCH)


def leaves_in_of(value: dict[str, Any]) -> set[tuple[str, ...]]:
    """Return the paths of the leaves and inner nodes of a value."""
    return {("garage",), ("other",), *[("garage", name) for name in value["garage"]]}


def test_a_root_of_which_nothing_is_removed_is_replaced(file_url: str, in_process: InProcess) -> None:
    """A new value with all the names that are stored removes none."""
    put(file_url, {"a": 1})
    assert in_process("set", ".", '{"a": 2, "b": {"c": 3}}', "--store", file_url).status == exits.DONE
    assert value_at(file_url) == {"a": 2, "b": {"c": 3}}


LINES = '{"redicts": "leaves", "version": 1}\n{"path": ["garage"], "value": 5}\n{"end": true, "leaves": 1}\n'
DESTROYERS: dict[str, tuple[list[str], str]] = {
    "a small value over a large dict": (["set", "garage", "5"], ""),
    "an empty dict over a large one": (["set", "garage", "{}"], ""),
    "a packed dict over a large one": (["set", "garage", '{"a": 1}', "--packed"], ""),
    "a large dict": (["del", "garage"], ""),
    "a large dict in parts": (["del", "other", *[f"garage.name{number:02}" for number in range(30)]], ""),
    "lines that replace a large dict": (["import", "-"], LINES),
    "a document that replaces a large dict": (["import", "-", "--format", "json"], '{"garage": {}}'),
    "an empty document in place of a large dict": (["import", "-", "garage", "--format", "json"], "{}"),
    "a document that replaces many values": (
        ["import", "-", "garage", "--format", "json"],
        json.dumps(dict.fromkeys(MUCH["garage"], "new")),  # type: ignore[call-overload]  # it is a dict
    ),
}


@pytest.mark.parametrize(("arguments", "stdin"), DESTROYERS.values(), ids=DESTROYERS)
def test_more_than_a_few_leaves_are_removed_on_request_only(
    file_url: str, in_process: InProcess, arguments: list[str], stdin: str
) -> None:
    """Without a terminal the command refuses, names ``--yes``, and changes nothing."""
    put(file_url, MUCH)
    before = leaves_in(file_url)
    done = in_process(*arguments, "--store", file_url, stdin=stdin)
    assert (done.status, done.out, done.err.count("\n")) == (exits.WRONG, "", 1)
    assert "pass --yes" in done.err
    assert leaves_in(file_url) == before
    assert in_process(*arguments, "--yes", "--store", file_url, stdin=stdin).status == exits.DONE
    assert leaves_in(file_url) != before


@pytest.mark.parametrize("new", [{"garage": 5}, {"garage": dict.fromkeys(MUCH["garage"], "new")}])  # type: ignore[call-overload]
def test_a_copy_onto_existing_data_asks(
    file_url: str, other_url: str, in_process: InProcess, new: dict[str, Any]
) -> None:
    """It refuses before the batch that would replace more than a few leaves; the same data again replaces none."""
    put(file_url, new)
    put(other_url, MUCH)
    done = in_process("copy", file_url, other_url)
    assert (done.status, done.out) == (exits.WRONG, "")
    assert "pass --yes" in done.err
    assert value_at(other_url) == MUCH
    assert in_process("copy", file_url, other_url, "--yes").status == exits.DONE
    assert value_at(other_url) == {**new, "other": 1}
    assert in_process("copy", file_url, other_url).status == exits.DONE


def test_all_locks_are_broken_on_request_only(file_url: str, in_process: InProcess) -> None:
    """``locks --break`` without a PATH would break those of every program that uses the store."""
    lock = Lock(open_database(file_url).backend, "a")
    assert in_process("locks", "--break", "--store", file_url).status == exits.NEGATIVE
    with lock:
        done = in_process("locks", "--break", "--store", file_url)
        assert done.status == exits.WRONG
        assert "pass --everything" in done.err
        assert lock.is_locked()
    lock.acquire()
    assert in_process("locks", "--break", "--everything", "--store", file_url).status == exits.DONE
    assert not lock.is_locked()


@pytest.mark.parametrize(("answer", "status"), [("y", exits.DONE), ("n", exits.WRONG), ("", exits.WRONG)])
def test_a_person_at_a_terminal_is_asked(file_url: str, answer: str, status: int) -> None:
    """The question says how much would go, and only ``y`` is a yes."""
    put(file_url, MUCH)
    with terminal([*command_line("del", "garage"), "--store", file_url]) as person:
        person.read_until(b"[y/N] ")
        person.type(answer)
        assert person.end() == status
    assert b"this removes 50 leaves; go on?" in person.shown
    assert ("garage" in value_at(file_url)) is (status != exits.DONE)


def test_a_question_is_broken_between_words(file_url: str, tmp_path: Path) -> None:
    """On a terminal of 40 columns, no line of it is longer, and the answer follows it."""
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf { > "$1"\n')
    editor.chmod(0o755)
    command = [*command_line("edit", "garage"), "--store", file_url]
    with terminal(command, 40, VISUAL=str(editor)) as person:
        person.read_until(b"[Y/n] ")
        person.type("n")
        assert person.end() == exits.WRONG
    question = person.shown.decode().partition("[Y/n] ")[0].splitlines()
    assert max(map(len, question)) <= 40
    assert " ".join(question).startswith("redicts: the text is not valid JSON: Expecting property name")


def test_an_editor_that_is_missing_is_named_once(
    file_url: str, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the reason without the path again."""
    monkeypatch.setenv("VISUAL", "no-such-editor")
    done = in_process("edit", "a", "--store", file_url)
    assert done.status == exits.WRONG
    assert "the editor 'no-such-editor' cannot be started (No such file or directory); set EDITOR" in done.err


def test_an_export_of_nothing_keeps_the_file(file_url: str, tmp_path: Path, in_process: InProcess) -> None:
    """A mistyped path, or an empty store, does not replace a backup."""
    put(file_url, 1, "a")
    backup = tmp_path / "backup"
    backup.write_text("precious", encoding="utf-8")
    done = in_process("export", "b", "-o", backup, "--store", file_url)
    assert (done.status, done.err) == (exits.NEGATIVE, "redicts: nothing is stored at 'b'\n")
    assert backup.read_text(encoding="utf-8") == "precious"
    assert [each.name for each in tmp_path.iterdir() if each.name.endswith(".part")] == []


def test_an_export_replaces_the_content_only(file_url: str, tmp_path: Path, in_process: InProcess) -> None:
    """A link stays a link, permissions stay, and a pipe is written to and not replaced."""
    put(file_url, 1, "a")
    real, link, pipe = tmp_path / "real", tmp_path / "link", tmp_path / "pipe"
    real.write_text("old", encoding="utf-8")
    real.chmod(0o600)
    link.symlink_to(real)
    assert in_process("export", "-o", link, "--store", file_url).status == exits.DONE
    assert link.is_symlink()
    assert (real.stat().st_mode & 0o777, '"path":["a"]' in real.read_text(encoding="utf-8")) == (0o600, True)
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text(encoding="utf-8")), daemon=True)
    reader.start()
    assert in_process("export", "-o", pipe, "--store", file_url).status == exits.DONE
    reader.join()
    assert '{"path":["a"],"value":1}' in read[0]
    assert pipe.is_fifo()
    assert '{"path":["a"],"value":1}' in in_process("export", "-o", "-", "--store", file_url).out


@pytest.mark.parametrize(
    "arguments",
    [
        ["get", "a"],
        ["get", ".", "--json"],
        ["tree"],
        ["locks"],
        ["locks", "a", "--break"],
        ["export"],
        ["export", "--format", "json"],
        ["del", "a"],
        ["doctor"],
        ["doctor", "--repair"],
        ["watch", "--looks", "1"],
        ["ls"],
        ["stats"],
        ["ttl", "a"],
        ["expire", "a", "5"],
        ["mv", "a", "b"],
        ["copy"],
    ],
    ids=" ".join,
)
def test_a_command_that_stores_nothing_creates_no_store(
    file_url: str, other_url: str, tmp_path: Path, in_process: InProcess, arguments: list[str]
) -> None:
    """A mistyped file is named, and is not there afterwards."""
    store = ["--store", file_url] if arguments[0] != "copy" else [file_url, other_url]
    done = in_process(*arguments, *store)
    assert done.status in (exits.NEGATIVE, exits.FAILED)
    assert f"{tmp_path}/state.db" in (done.out + done.err).replace("\n", "")
    file = Path(tmp_path, "state.db")
    assert list(tmp_path.iterdir()) == []
    file.touch()
    assert in_process(*arguments, *store).status == done.status
    assert file.stat().st_size == 0


def test_a_file_that_cannot_be_written_can_be_read(
    file_url: str, other_url: str, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands that read take a copy, which is gone afterwards; commands that write say why they cannot."""
    put(file_url, {"a": {"b": 1}})
    path = file_url.removeprefix("sqlite:///")
    access = os.access
    monkeypatch.setattr(os, "access", lambda file, mode: access(file, mode) and not (mode == os.W_OK and file == path))
    copies: list[str] = []
    make = tempfile.mkdtemp

    def noted(**how: str) -> str:
        copies.append(make(**how))
        return copies[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", noted)
    for arguments in (["get", "a"], ["tree"], ["ls"], ["stats"], ["export"], ["ttl", "a"]):
        done = in_process(*arguments, "-s", file_url)
        assert (done.status, "so a copy of it is read" in done.err) == (exits.DONE, True), done
    assert in_process("copy", file_url, other_url).status == exits.DONE
    assert value_at(other_url) == {"a": {"b": 1}}
    assert in_process("doctor", "--quick", "-s", file_url).status == exits.NEGATIVE
    for arguments in (
        ["del", "a"],
        ["mv", "a", "c"],
        ["expire", "a", "5"],
        ["locks", "--break"],
        ["doctor", "--repair"],
    ):
        done = in_process(*arguments, "-s", file_url)
        assert (done.status, "cannot be written; change its permissions" in done.err) == (exits.FAILED, True), done
    assert copies
    assert not any(map(os.path.exists, copies))
    assert value_at(file_url) == {"a": {"b": 1}}
