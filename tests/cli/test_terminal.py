"""Each command under a pseudo-terminal of 80 and of 40 columns, and in a pipe: nothing is too long, nothing is lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from click.shell_completion import ShellComplete

from redicts import Lock
from redicts.cli import exits
from redicts.cli.program import COMMANDS, program
from tests.cli.conftest import open_database, put
from tests.cli.running import environment, redicts, run
from tests.cli.terminal import terminal

_MANY: Final = """
import json, sys
from redicts.cli import main
for command in json.loads(sys.argv[1]):
    status = main(command)
    print(f"\\n== {status} {' '.join(command)[:20]}", flush=True)
"""

LONG: Final = "x" * 200
TREE: Final = {
    "garage": {"www.example.org": {"a rather long name of a node": LONG, "back\\slash": [1, 2, 3]}, "car": 4},
    "\u00fcml\u00e4ut": "\u20ac",
    "a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": 1}}}}}}}},
}


def in_terminal(commands: list[list[str]], columns: int, **variables: str) -> list[str]:
    """Run command lines in one process on a terminal so wide, and return its lines without the codes of colours."""
    command = [sys.executable, "-c", _MANY, json.dumps(commands)]
    with terminal(command, columns, TERM="xterm", **variables) as person:
        assert person.end() == 0, person.shown
        text = person.shown.decode()
    assert "Traceback" not in text
    return re.sub(r"\x1b\[[0-9;]*[mK]", "", text).replace("\r\n", "\n").split("\n")


def lines_of(url: str) -> list[list[str]]:
    """Return command lines that print much."""
    commands = [["tree"], ["ls", "-l"], ["ls", "garage"], ["stats"], ["locks"], ["doctor"], ["tree", "garage.car"]]
    return [["plugins"], *[[*command, "--store", url] for command in commands]]


@pytest.mark.parametrize("columns", [80, 40])
def test_output_fits_the_terminal(file_url: str, tmp_path: Path, columns: int) -> None:
    """No line of a tree or a table is longer than the terminal is wide, and every command says what it should."""
    put(file_url, TREE)
    put(file_url, 17, "garage", "ticket", ttl=600_000)
    with Lock(open_database(file_url).backend, "garage.car"):
        lines = in_terminal(lines_of(file_url), columns)
    long = [line for line in lines if len(line) > columns and str(tmp_path) not in line]
    assert not long
    text = "\n".join(lines)
    assert [line for line in lines if line.startswith("== ")] == [
        f"== 0 {' '.join(command)[:20]}" for command in lines_of(file_url)
    ]
    assert r"www\.example\.org" in text
    assert "= 4" in text
    assert "10 min left" in text
    assert re.search(r"held \d+ s, ends in \d+ s", text.replace("\n", " "))
    assert "1 leaf" in text or "leaves 1" in text
    assert LONG not in text
    assert "..\u2026" not in text


def test_locks_in_the_tree_are_told_to_the_end(file_url: str) -> None:
    """What does not fit into one line of the terminal goes on in the next one."""
    put(file_url, TREE)
    with Lock(open_database(file_url).backend, "garage.car"):
        drawn = " ".join(line.strip("\u2502 ") for line in in_terminal([["tree", "--store", file_url]], 40))
    assert re.search(r"\[locked: exclusive lock on 'garage\.car', .*MainThread, held \d+ s, ends in \d+ s\]", drawn)


def test_messages_are_broken_between_words(file_url: str) -> None:
    """Errors and reports are as narrow as the terminal. Only a word that is longer is left to it."""
    put(file_url, TREE)
    commands = [["set", "a", "{", "-s", file_url], ["cp", "a", "a.b", "-s", file_url], ["copy", file_url, "memory://"]]
    lines = [line.split("\r")[-1] for line in in_terminal(commands, 40)]  # the last state of a progress bar
    assert [line for line in lines if len(line) > 40 and " " in line] == []
    text = " ".join(lines)
    assert "pass --text to store a text (see: redicts set --help)" in text
    assert "source and target must not overlap within one database: 'a' and 'a.b' do" in text
    assert re.search(r"(\d) of \1 leaves are equal, 0 missing, 0 different; the target has \1, 0 of them not", text)


def test_a_pipe_gets_whole_lines_without_trailing_blanks(file_url: str, tmp_path: Path) -> None:
    """What a terminal cuts or wraps is one line, sizes are aligned, and there are no codes of colours."""
    put(file_url, TREE)
    lines = run([sys.executable, "-c", _MANY, json.dumps(lines_of(file_url))], COLUMNS="40").out.splitlines()
    assert [line for line in lines if line != line.rstrip() or "\x1b" in line] == []
    (row,) = [line for line in lines if line.startswith("backend  sqlite")]
    assert row.endswith("for the processes of one machine")
    assert any(line.endswith(" 15 B") or "202 B" in line for line in lines)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_lines_are_drawn_with_what_the_terminal_has(file_url: str, encoding: str) -> None:
    """Where its encoding has no lines, a tree is drawn with ASCII, and names are escaped."""
    put(file_url, TREE)
    command = [sys.executable, "-c", _MANY, json.dumps([["tree", "-s", file_url]])]
    env = environment(PYTHONIOENCODING=f"{encoding}:strict")
    done = subprocess.run(command, capture_output=True, env=env, check=True).stdout.decode(encoding)
    assert "|-- garage" in done
    assert ("\u20ac" if encoding == "cp1252" else "\\u20ac") in done


def test_help_fits_80_columns(file_url: str) -> None:
    """Each command has a help, and the list of commands says of each what it does, without cutting it off."""
    lines = in_terminal([["--help"], *[[name, "--help"] for name in COMMANDS]], 80)
    assert [line for line in lines if len(line) > 80] == []
    assert [line for line in lines if line.endswith("...") and not re.search(r"[A-Z\]]\.\.\.$", line)] == []
    assert sum(line.startswith("== 0 ") for line in lines) == 1 + len(COMMANDS)
    for name in COMMANDS:
        assert any(line.startswith(f"  {name} ") for line in lines), name


def test_help_fits_40_columns() -> None:
    """A help is as narrow as the terminal, with all of its text and without trailing blanks."""
    lines = in_terminal([["--help"], *[[name, "--help"] for name in COMMANDS]], 40)
    assert [line for line in lines if len(line) > 40 or line.rstrip() != line] == []
    assert [line for line in lines if line.endswith("...") and not re.search(r"[A-Z\]]\.\.\.$", line)] == []
    assert sum(line.startswith("== 0 ") for line in lines) == 1 + len(COMMANDS)


WRONG: Final = {
    "get": [],
    "set": ["a"],
    "add": ["a", "b"],
    "merge": ["a", "1"],
    "edit": [],
    "del": [],
    "cp": ["a", "a.b"],
    "mv": ["a"],
    "ttl": [],
    "expire": ["a", "0"],
    "ls": ["a", "b"],
    "tree": ["--depth", "x"],
    "stats": ["--depth", "0"],
    "watch": ["--interval", "nan"],
    "lock": ["a"],
    "locks": ["a", "b"],
    "export": ["--json"],
    "import": [],
    "copy": ["memory"],
    "shell": ["a"],
    "doctor": ["a"],
    "plugins": ["a"],
    "schema": ["a"],
    "certify": ["a", "--codec", "b"],
    "mutants": ["memory"],
    "completion": ["tcsh"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_input_is_one_line_and_status_2(file_url: str, name: str) -> None:
    """The line says what is wrong, and nothing is printed on the standard output."""
    put(file_url, 1, "z")
    takes_store = name not in ("copy", "plugins", "schema", "certify", "mutants", "completion")
    done = redicts(name, *WRONG[name], *(["--store", file_url] if takes_store else []))
    assert (done.status, done.out, done.err.count("\n")) == (exits.WRONG, "", 1), done


def test_the_shell_runs_lines(file_url: str) -> None:
    """In a pipe its status is that of the first line that failed, and the others run all the same."""
    script = 'set a \'{"b": 1}\'\n\n# a comment\nget nothing\nadd a.b\nunknown\n"\nshell\nexit\nset a 0\n'
    done = redicts("shell", "-s", file_url, stdin=script)
    assert (done.status, done.out) == (exits.NEGATIVE, "2\n")
    assert done.err.count("\n") == 4
    assert "there is no command 'unknown'" in done.err


def test_the_shell_completes_on_a_terminal(file_url: str) -> None:
    """Tab completes a path from the store."""
    put(file_url, {"garage": {"wheels": 4}})
    command = [sys.executable, "-m", "redicts", "-s", file_url, "shell"]
    with terminal(command, TERM="dumb", INPUTRC=os.devnull) as person:
        person.read_until(b"redicts> ")
        person.type("get garage.wh\t")
        person.read_until(b"redicts> ", times=2)
        person.type("exit")
        assert person.end() == exits.DONE
    assert re.search(rb"get garage\.wheels ?\r\n4\r\n", person.shown), person.shown


def test_paths_are_completed_from_the_store(file_url: str) -> None:
    """A shell gets the names below the last dot; a store that is not there completes nothing and creates nothing."""
    put(file_url, {"garage": {"wheels": 4, "www.x": 1}})

    def completed(text: str, url: str) -> list[str]:
        found = ShellComplete(program, {}, "redicts", "").get_completions(["-s", url, "get"], text)
        return [item.value for item in found]

    assert completed("gar", file_url) == ["garage"]
    assert completed("garage.w", file_url) == ["garage.wheels", "garage.www\\.x"]
    assert completed("a", f"{file_url}.none") == []
    assert not Path(f"{file_url.removeprefix('sqlite:///')}.none").exists()
