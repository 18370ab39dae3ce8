"""The program as a whole: help, wrong input, exit statuses, pipes, and imports."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from pathlib import Path

import click
import jsonschema  # type: ignore[import-untyped]  # it has no stubs
import pytest

from redicts.cli import exits
from redicts.cli.program import COMMANDS
from redicts.cli.stores import Store, reading_command
from redicts.config import sources
from redicts.errors import Unreachable
from tests.cli.conftest import InProcess, put
from tests.cli.running import command_line, redicts, run, running
from tests.support.ports import bound_socket
from tests.support.servers import StartRedis


def test_the_help_lists_every_command() -> None:
    """``redicts --help`` names each command with its whole summary, and the status is 0."""
    done = redicts("--help")
    assert done.status == exits.DONE
    listed = re.findall(r"^  ([a-z]+)  .*\.$", done.out.partition("Commands:")[2], re.MULTILINE)
    assert listed == list(COMMANDS)
    assert "..." not in done.out.partition("Commands:")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_refuses_unknown_options(command: str) -> None:
    """``--help`` describes the command and its options; an unknown option is one line that names the help."""
    done = redicts(command, "--help")
    assert (done.status, done.err) == (exits.DONE, "")
    assert done.out.startswith(f"Usage: redicts {command}")
    assert "--help" in done.out
    done = redicts(command, "--no-such-option")
    assert (done.status, done.out, done.err.count("\n")) == (exits.WRONG, "", 1)
    assert "--no-such-option" in done.err
    assert f"redicts {command} --help" in done.err


def test_without_a_command_the_help_is_shown() -> None:
    """A command is required."""
    done = redicts()
    assert (done.status, done.out) == (exits.WRONG, "")
    assert "Commands:" in done.err


def test_a_misspelt_command_is_corrected() -> None:
    """The error names the nearest command."""
    done = redicts("exprot")
    assert (done.status, done.out) == (exits.WRONG, "")
    assert done.err == "redicts: there is no command 'exprot'; did you mean 'export'? (see: redicts --help)\n"


def test_the_installed_script_is_the_same_program() -> None:
    """``redicts --version`` and ``python -m redicts --version`` print the installed version."""
    done = redicts("--version")
    assert done.status == exits.DONE
    assert re.fullmatch(r"redicts \d+\.\d+\.\S+\n", done.out)
    assert run([str(Path(sys.executable).with_name("redicts")), "--version"]) == done


WRONG_STORES = {
    "text that is not a URL": "state.db",
    "a directory": "/tmp",
    "a host and a port": "localhost:6379",
    "an unknown scheme": "sqlight:///state.db",
    "two slashes": "sqlite://state.db",
    "broken JSON": '{"backend": ',
    "an unknown setting": '{"backend": "memory", "pathh": "x"}',
    "a file that does not exist": "no-such-file.toml",
}


@pytest.mark.parametrize("store", WRONG_STORES.values(), ids=WRONG_STORES)
def test_a_wrong_store_is_one_line(store: str) -> None:
    """An invalid configuration is reported in one line; the status is 2."""
    done = redicts("get", "a", "--store", store)
    assert (done.status, done.out, done.err.count("\n")) == (exits.WRONG, "", 1)
    assert done.err.startswith("redicts: ")


def test_no_secret_is_shown() -> None:
    """The password of a URL or of JSON is in no output, whatever is wrong."""
    with bound_socket() as nobody:
        port = nobody.getsockname()[1]
        tries = [
            (f"redis://:sesame@127.0.0.1:{port}/0", exits.FAILED),
            ("redis://:sesame@127.0.0.1:99999/0", exits.WRONG),
            ('{"password": "sesame", "prot": 1}', exits.WRONG),
            ('{"password": "sesame",', exits.WRONG),
        ]
        for store, status in tries:
            for command in (
                ["get", "a", "--store", store],
                ["doctor", "--json", "--store", store],
                ["copy", store, "memory://"],
            ):
                done = redicts(*command)
                assert done.status == status, done
                assert "sesame" not in done.out + done.err
        done = redicts("get", "a", "-s", f"redis://127.0.0.1:{port}/0")
        assert (done.status, done.out, done.err.count("\n")) == (exits.FAILED, "", 1)


def test_a_password_is_used_and_not_shown(start_redis: StartRedis) -> None:
    """With the right password the server answers, and neither a table nor JSON shows it."""
    server = start_redis(password="sesame")
    store = f"redis://:sesame@{server.host}:{server.port}/0"
    for arguments in (["doctor"], ["doctor", "--json"]):
        done = redicts(*arguments, "--store", store)
        assert done.status == exits.DONE
        assert "sesame" not in done.out + done.err
    assert redicts("get", "a", "--store", store.replace("sesame", "wrong")).status == exits.FAILED


def test_every_form_of_a_store_is_accepted(file_url: str, other_url: str, tmp_path: Path) -> None:
    """A URL, a JSON object, a TOML file and the environment lead to the same store; the option wins."""
    put(file_url, 5, "a")
    settings = {"backend": "sqlite", "path": f"{tmp_path}/state.db"}
    toml = tmp_path / "redicts.toml"
    toml.write_text("".join(f'{name} = "{value}"\n' for name, value in settings.items()), encoding="utf-8")
    table = tmp_path / "table.toml"
    table.write_text("[tool.redicts]\n" + toml.read_text(encoding="utf-8"), encoding="utf-8")
    for store in (file_url, json.dumps(settings), toml, table):
        assert redicts("get", "a", "--store", store).out == "5\n"
    assert redicts("get", "a", REDICTS_URL=file_url).out == "5\n"
    assert redicts("get", "a", "-s", file_url, REDICTS_URL=other_url).out == "5\n"


def test_a_database_is_named_or_numbered(tmp_path: Path) -> None:
    """``--database`` takes a number, or a name from the settings."""
    store = json.dumps({"backend": "sqlite", "path": f"{tmp_path}/state.db", "names": {"persons": 3}})
    assert redicts("set", "a", "1", "-s", store, "-d", "persons").status == exits.DONE
    assert redicts("get", "a", "-s", store, "-d", "3").out == "1\n"
    assert redicts("get", "a", "-s", store).status == exits.NEGATIVE
    done = redicts("get", "a", "-s", store, "-d", "person")
    assert done.status == exits.WRONG
    assert "did you mean 'persons'" in done.err


def test_a_closed_pipe_ends_a_command_quietly(file_url: str) -> None:
    """``redicts export | head`` prints no error when ``head`` exits."""
    put(file_url, {f"name{number}": "x" * 100 for number in range(20_000)})
    with running("export", "--store", file_url) as command:
        assert command.stdout.readline().startswith(b'{"redicts"')
        command.stdout.close()
        assert command.process.stderr is not None
        assert command.process.stderr.read() == b""
        assert command.process.wait() == exits.PIPE_CLOSED


RAISE = (
    "import sys; import redicts.cli.stores as stores\n"
    "def broken(*_): raise {}\n"
    "stores.settings_of = broken\n"
    "from redicts.cli import main\n"
    "sys.exit(main(['get', 'a']))"
)


def test_a_bug_is_one_line_too() -> None:
    """An unexpected exception has no traceback unless it is asked for; the status is 70."""
    program = [sys.executable, "-c", RAISE.format(r"RuntimeError('two\nlines')")]
    done = run(program)
    assert done.status == exits.FAULT
    assert done.err.startswith("redicts: a bug in redicts, RuntimeError: two lines (set REDICTS_TRACEBACK")
    assert done.err.count("\n") == 1
    assert "Traceback" in run(program, REDICTS_TRACEBACK="1").err


def test_ctrl_c_at_any_time_shows_no_traceback() -> None:
    """Ctrl-C while a command is being prepared ends it as any other: status 130, one line."""
    done = run([sys.executable, "-c", RAISE.format("KeyboardInterrupt")])
    assert (done.status, done.err) == (exits.INTERRUPTED, "redicts: interrupted\n")


@pytest.mark.parametrize("missing", ["click"])
def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path, file_url: str, missing: str) -> None:
    """A plain installation has no command line, and says how to install it."""
    put(file_url, 1, "a")
    (tmp_path / missing).mkdir()
    (tmp_path / missing / "__init__.py").write_text(
        f"raise ModuleNotFoundError('No module named {missing}', name='{missing}')\n", encoding="utf-8"
    )
    done = run(command_line("tree", "--store", file_url), PYTHONPATH=str(tmp_path))
    assert (done.status, done.out) == (exits.WRONG, "")
    assert done.err == f"redicts: the command line needs {missing}; install it with: pip install 'redicts[cli]'\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(shell: str) -> None:
    """The printed script asks the program for completions."""
    done = redicts("completion", shell)
    assert done.status == exits.DONE
    assert "_REDICTS_COMPLETE" in done.out
    assert f"{shell}_complete" in done.out


@pytest.mark.parametrize(("text", "completed"), [("redicts expo", "export"), ("redicts locks --br", "--break")])
def test_commands_and_options_are_completed(text: str, completed: str) -> None:
    """The shell gets what begins with the last word."""
    word = str(len(text.split()) - 1)
    assert redicts(_REDICTS_COMPLETE="bash_complete", COMP_WORDS=text, COMP_CWORD=word).out == f"plain,{completed}\n"


def test_a_plain_command_imports_no_more_than_it_needs(file_url: str) -> None:
    """``get`` on SQLite imports neither redis nor asyncio, so that it starts fast."""
    put(file_url, 1, "a")
    program = (
        "import sys; from redicts.cli import main\n"
        f"main(['get', 'a', '--store', {file_url!r}])\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'rich', 'redis', 'asyncio', 'hypothesis', 'fakeredis'}))"
    )
    assert run([sys.executable, "-c", program]).out == "1\n[]\n"


def test_output_that_the_terminal_cannot_show_is_escaped(file_url: str) -> None:
    """On an ASCII terminal other characters are printed as JSON escapes."""
    put(file_url, "h\u00e9 \ud800", "a")
    done = redicts("get", "a", "-s", file_url, PYTHONIOENCODING="ascii")
    assert (done.status, json.loads(done.out)) == (exits.DONE, "h\u00e9 \ud800")


def test_the_plugins_are_listed() -> None:
    """Each backend and codec is listed with its distribution, or the reason why it cannot be used."""
    done = redicts("plugins", "--json")
    assert done.status == exits.DONE, done
    listed = {each["name"] for each in done.document["plugins"] if each["usable"]}
    assert {"memory", "sqlite", "redis", "json", "pickle"} <= listed
    done = redicts("plugins", REDICTS_DISABLED_PLUGINS="sqlite")
    assert done.status == exits.DONE
    assert re.search(r"sqlite .*cannot be used: .*REDICTS_DISABLED_PLUGINS", done.out, re.DOTALL)


def test_a_broken_third_party_plugin_is_status_1(tmp_path: Path) -> None:
    """Its problem is listed, and the other plugins too."""
    metadata = tmp_path / "redicts_table-0.3.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: redicts-table\nVersion: 0.3\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[redicts.backends]\ntable = redicts_table\n", encoding="utf-8")
    done = redicts("plugins", "--json", PYTHONPATH=str(tmp_path))
    assert done.status == exits.NEGATIVE
    listed = {each["name"]: each for each in done.document["plugins"]}
    assert "redicts_table" in listed["table"]["problem"]
    assert (listed["table"]["distribution"], listed["table"]["version"]) == ("redicts-table", "0.3")
    assert listed["sqlite"]["usable"]


def test_the_schema_is_printed() -> None:
    """A configuration can be checked with it."""
    schema = redicts("schema").document
    jsonschema.validate({"backend": "sqlite", "path": "state.db"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"backend": "sqlite", "paht": "state.db"}, schema)


def test_a_backend_is_certified_by_the_command() -> None:
    """``certify`` gets its arguments unchanged, and its exit status is the program's."""
    done = redicts("certify", "memory", "--check", "writes.*", "--json")
    assert done.status == exits.DONE, done
    assert {check["status"] for check in done.document["checks"]} == {"passed"}
    assert redicts("certify", "memroy").status == exits.WRONG


def test_a_working_directory_that_may_not_be_searched_is_wrong_use(
    in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No configuration is looked for elsewhere instead: it could be that of another store."""

    def denied(path: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.delenv("REDICTS_URL", raising=False)
    monkeypatch.setattr(Path, "is_file", denied)
    done = in_process("get", "a")
    assert (done.status, done.out, done.err.count("\n")) == (exits.WRONG, "", 1)
    assert "pyproject.toml cannot be looked for" in done.err
    assert "set REDICTS_URL" in done.err


def test_a_working_directory_that_does_not_exist_is_no_bug(tmp_path: Path) -> None:
    """A relative path cannot be found there, and an absolute one can."""
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'cd "$0"; rmdir "$0"; "$@"'
    for store, statuses in (("sqlite:///state.db", (exits.WRONG, exits.FAILED)), ("memory", (exits.NEGATIVE,))):
        gone.mkdir(exist_ok=True)
        done = run(["bash", "-c", script, str(gone), *command_line("get", "a", "--store", store)])
        assert done.status in statuses, done


def test_an_unreachable_store_that_nobody_chose_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If neither an option nor a configuration names a store, the error says how to choose one."""

    @click.command()
    @reading_command
    def fail(store: Store, as_json: bool) -> int:
        raise Unreachable("no answer")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(sources.URL, raising=False)
    with pytest.raises(Unreachable, match=r"no answer\. No store is configured; .* REDICTS_URL or --store"):
        fail.main([], standalone_mode=False)
    with pytest.raises(Unreachable, match=r"^no answer$"):
        fail.main(["-s", "memory"], standalone_mode=False)
    monkeypatch.setenv(sources.URL, "memory://")
    with pytest.raises(Unreachable, match=r"^no answer$"):
        fail.main([], standalone_mode=False)
