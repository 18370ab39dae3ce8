"""The program as a whole: help, wrong input, exit statuses, pipes, and what is imported when."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from redicts.cli import exits
from redicts.cli.program import COMMANDS
from tests.cli.conftest import put
from tests.cli.running import Running, redicts, variables, words
from tests.support.ports import bound_socket
from tests.support.servers import StartRedis


def test_the_help_lists_every_command() -> None:
    """``redicts --help`` names each command, and the status is 0."""
    done = redicts("--help")
    assert done.status == exits.DONE
    listed = re.findall(r"^  ([a-z]+)  ", done.out.partition("Commands:")[2], re.MULTILINE)
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    """``--help`` says what a command does and lists its options, and the status is 0."""
    done = redicts(command, "--help")
    assert done.status == exits.DONE
    assert done.out.startswith(f"Usage: redicts {command}")
    assert "--help" in done.out
    assert done.err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_one_line(command: str) -> None:
    """An option that a command does not have is told in one line, which names the help; the status is 2."""
    done = redicts(command, "--no-such-option")
    assert done.status == exits.WRONG
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert "--no-such-option" in done.err
    assert f"redicts {command} --help" in done.err


def test_without_a_command_the_help_is_shown() -> None:
    """No command at all is wrong use."""
    done = redicts()
    assert (done.status, done.out) == (exits.WRONG, "")
    assert "Commands:" in done.err


def test_a_misspelt_command_is_corrected() -> None:
    """The nearest command is named."""
    done = redicts("exprot")
    assert (done.status, done.out) == (exits.WRONG, "")
    assert done.err == "redicts: there is no command 'exprot'; did you mean 'export'? (see: redicts --help)\n"


def test_the_version_is_shown() -> None:
    """``--version`` prints what is installed."""
    done = redicts("--version")
    assert done.status == exits.DONE
    assert re.fullmatch(r"redicts \d+\.\d+\.\S+\n", done.out)


WRONG_STORES = {
    "text that is no URL": "state.db",
    "an unknown scheme": "sqlight:///state.db",
    "two slashes": "sqlite://state.db",
    "broken JSON": '{"backend": ',
    "an unknown setting": '{"backend": "memory", "pathh": "x"}',
    "a file that is not there": "no-such-file.toml",
}


@pytest.mark.parametrize("store", WRONG_STORES.values(), ids=WRONG_STORES)
def test_a_wrong_store_is_one_line(store: str) -> None:
    """A configuration that is wrong is told in one line; the status is 2."""
    done = redicts("get", "a", "--store", store)
    assert (done.status, done.out) == (exits.WRONG, "")
    assert done.err.startswith("redicts: ")
    assert done.err.count("\n") == 1


def test_no_secret_is_shown() -> None:
    """The password of a URL or of JSON is in no message, whatever is wrong."""
    with bound_socket() as nobody:
        port = nobody.getsockname()[1]
        tries = [
            (f"redis://:sesame@127.0.0.1:{port}/0", exits.FAILED),
            ("redis://:sesame@127.0.0.1:99999/0", exits.WRONG),
            ('{"password": "sesame", "prot": 1}', exits.WRONG),
            ('{"password": "sesame",', exits.WRONG),
        ]
        for store, status in tries:
            for command in (["get", "a"], ["doctor", "--json"], ["copy", store, "memory://"]):
                options = [] if command[0] == "copy" else ["--store", store]
                done = redicts(*command, *options)
                assert done.status == status, done
                assert "sesame" not in done.out + done.err


def test_a_password_is_used_and_not_shown(start_redis: StartRedis) -> None:
    """With the right password the server answers, and neither a table nor JSON shows it."""
    server = start_redis(password="sesame")
    store = f"redis://:sesame@{server.host}:{server.port}/0"
    for arguments in (["doctor"], ["doctor", "--json"]):
        done = redicts(*arguments, "--store", store)
        assert done.status == exits.DONE
        assert "sesame" not in done.out + done.err
    assert redicts("get", "a", "--store", store.replace("sesame", "wrong")).status == exits.FAILED


def test_a_store_that_does_not_answer_is_status_3() -> None:
    """A store that cannot be reached is told in one line."""
    with bound_socket() as nobody:
        done = redicts("get", "a", "-s", f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")
    assert (done.status, done.out) == (exits.FAILED, "")
    assert done.err.count("\n") == 1


def test_the_store_is_said_in_every_form(tmp_path: Path) -> None:
    """A URL, a JSON object, a TOML file and the environment lead to the same store; the option wins."""
    url = f"sqlite:///{tmp_path}/state.db"
    put(url, 5, "a")
    settings = {"backend": "sqlite", "path": f"{tmp_path}/state.db"}
    toml = tmp_path / "redicts.toml"
    toml.write_text("".join(f'{name} = "{value}"\n' for name, value in settings.items()), encoding="utf-8")
    table = tmp_path / "table.toml"
    table.write_text("[tool.redicts]\n" + toml.read_text(encoding="utf-8"), encoding="utf-8")
    for store in (url, json.dumps(settings), toml, table):
        assert redicts("get", "a", "--store", store).out == "5\n"
    assert redicts("get", "a", env={"REDICTS_URL": url}).out == "5\n"
    other = f"sqlite:///{tmp_path}/other.db"
    assert redicts("get", "a", "-s", url, env={"REDICTS_URL": other}).out == "5\n"


def test_a_database_is_named_or_numbered(tmp_path: Path) -> None:
    """``--database`` takes a number, or a name that the settings give."""
    store = json.dumps({"backend": "sqlite", "path": f"{tmp_path}/state.db", "names": {"persons": 3}})
    assert redicts("set", "a", "1", "-s", store, "-d", "persons").status == exits.DONE
    assert redicts("get", "a", "-s", store, "-d", "3").out == "1\n"
    assert redicts("get", "a", "-s", store).status == exits.NEGATIVE
    done = redicts("get", "a", "-s", store, "-d", "person")
    assert done.status == exits.WRONG
    assert "did you mean 'persons'" in done.err


def test_a_reader_that_goes_away_is_no_error(file_url: str) -> None:
    """``redicts export | head`` ends quietly when head has seen enough."""
    put(file_url, {f"name{number}": "x" * 100 for number in range(20_000)})
    with Running("export", "--store", file_url) as command:
        assert command.process.stdout is not None
        assert command.process.stdout.readline().startswith(b'{"redicts"')
        command.process.stdout.close()
        assert command.process.stderr is not None
        assert command.process.stderr.read() == b""
        assert command.process.wait() == exits.PIPE_CLOSED


def test_a_fault_of_our_own_is_one_line_too(tmp_path: Path) -> None:
    """An exception that nobody foresaw is told without a traceback, which can be asked for; the status is 70."""
    program = (
        "import sys; from redicts.cli import program, main\n"
        "import redicts.cli.stores as stores\n"
        "def broken(*_): raise RuntimeError('two\\nlines')\n"
        "import redicts.cli.values as values; values.opened = broken\n"
        "sys.exit(main(['get', 'a']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, env=variables())
    assert done.returncode == exits.FAULT
    assert done.stderr.decode().startswith(
        "redicts: a fault of redicts, RuntimeError: two lines (set REDICTS_TRACEBACK"
    )
    assert done.stderr.count(b"\n") == 1
    asked = variables({"REDICTS_TRACEBACK": "1"})
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, env=asked)
    assert b"Traceback" in done.stderr


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path, file_url: str, missing: str) -> None:
    """A plain installation has no command line, and says how to get it instead of failing."""
    put(file_url, 1, "a")
    (tmp_path / missing).mkdir()
    (tmp_path / missing / "__init__.py").write_text(
        f"raise ModuleNotFoundError('No module named {missing}', name='{missing}')\n", encoding="utf-8"
    )
    done = subprocess.run(
        words("tree", "--store", file_url),
        capture_output=True,
        check=False,
        env=variables({"PYTHONPATH": str(tmp_path)}),
    )
    assert (done.returncode, done.stdout) == (exits.WRONG, b"")
    assert done.stderr.decode() == (
        f"redicts: the command line needs {missing}; install it with: pip install 'redicts[cli]'\n"
    )


def test_the_installed_script_is_the_same_program() -> None:
    """What pip installs as ``redicts`` does what ``python -m redicts`` does."""
    script = Path(sys.executable).with_name("redicts")
    done = subprocess.run([script, "--version"], capture_output=True, check=False, env=variables())
    assert done.stdout.decode() == redicts("--version").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(shell: str) -> None:
    """The script that is printed asks the program for completions."""
    done = redicts("completion", shell)
    assert done.status == exits.DONE
    assert "_REDICTS_COMPLETE" in done.out
    assert f"{shell}_complete" in done.out


def test_commands_are_completed() -> None:
    """What the shell asks for is answered with the commands that begin so."""
    asked = {"_REDICTS_COMPLETE": "bash_complete", "COMP_WORDS": "redicts ex", "COMP_CWORD": "1"}
    done = redicts(env=asked)
    assert done.out == "plain,export\n"
    asked = {"_REDICTS_COMPLETE": "bash_complete", "COMP_WORDS": "redicts locks --br", "COMP_CWORD": "2"}
    assert redicts(env=asked).out == "plain,--break\n"


def test_a_plain_command_imports_no_more_than_it_needs(file_url: str) -> None:
    """``get`` on SQLite imports neither what draws nor Redis, so that it starts fast."""
    put(file_url, 1, "a")
    program = (
        "import sys; from redicts.cli import main\n"
        f"main(['get', 'a', '--store', {file_url!r}])\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'rich', 'redis', 'asyncio', 'hypothesis', 'fakeredis'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=variables())
    assert done.stdout.decode() == "1\n[]\n"


def test_output_that_the_terminal_cannot_show_is_escaped(file_url: str) -> None:
    """On an ASCII terminal other characters come as JSON escapes, and nothing fails."""
    put(file_url, "h\u00e9 \ud800", "a")
    done = redicts("get", "a", "-s", file_url, env={"PYTHONIOENCODING": "ascii"})
    assert (done.status, json.loads(done.out)) == (exits.DONE, "h\u00e9 \ud800")


def test_the_tests_see_no_store_of_the_machine() -> None:
    """The environment of the machine names no store to the commands that the tests run."""
    assert not [name for name in variables() if name.startswith("REDICTS_")], os.environ


def test_the_plugins_are_listed() -> None:
    """Each backend and codec is there with where it comes from, or why it cannot be used; ours may lack an extra."""
    done = redicts("plugins", "--json")
    listed = json.loads(done.out)["plugins"]
    assert done.status == exits.DONE, done
    assert {"memory", "sqlite", "redis", "json", "pickle"} <= {each["name"] for each in listed if each["usable"]}
    done = redicts("plugins", env={"REDICTS_DISABLED_PLUGINS": "sqlite"})
    assert done.status == exits.DONE
    assert re.search(r"sqlite .*cannot be used: .*REDICTS_DISABLED_PLUGINS", done.out, re.DOTALL)


def test_a_broken_plugin_of_others_is_told(tmp_path: Path) -> None:
    """One of another distribution that cannot be used makes the status 1, and hides none of the others."""
    metadata = tmp_path / "redicts_table-0.3.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: redicts-table\nVersion: 0.3\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[redicts.backends]\ntable = redicts_table\n", encoding="utf-8")
    done = redicts("plugins", "--json", env={"PYTHONPATH": str(tmp_path)})
    assert done.status == exits.NEGATIVE
    listed = {each["name"]: each for each in json.loads(done.out)["plugins"]}
    assert "redicts_table" in listed["table"]["problem"]
    assert (listed["table"]["distribution"], listed["table"]["version"]) == ("redicts-table", "0.3")
    assert listed["sqlite"]["usable"]


def test_the_schema_is_printed() -> None:
    """What is printed is a JSON schema by which a configuration can be checked."""
    import jsonschema  # type: ignore[import-untyped]  # no stubs, and one call

    schema = json.loads(redicts("schema").out)
    jsonschema.validate({"backend": "sqlite", "path": "state.db"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"backend": "sqlite", "paht": "state.db"}, schema)


def test_a_backend_is_certified_by_the_command() -> None:
    """``certify`` gets its arguments as they are, and its exit status is the program's."""
    done = redicts("certify", "memory", "--check", "writes.*", "--json")
    assert done.status == exits.DONE, done
    assert {check["status"] for check in json.loads(done.out)["checks"]} == {"passed"}
    assert redicts("certify", "memroy").status == exits.WRONG
