"""Without a configuration, redicts uses the environment or a file, in a fixed order of precedence."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from redicts import Pool, SettingsError, WrongField, root
from tests.api.test_pool import run_python

PROJECT: Final = '[project]\nname = "x"\n\n[tool.redicts]\nbackend = "memory"\ndefault = 3\n'


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty directory, with no variable of redicts in the environment."""
    here = tmp_path / "above" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.delenv("REDICTS_URL", raising=False)
    monkeypatch.delenv("REDICTS_CONFIG", raising=False)
    return here


def default() -> tuple[str, int]:
    """Return the backend and the database that are the default."""
    Pool().reload()
    return Pool().settings.backend, Pool().settings.default


def test_precedence(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's own, the URL, the named file, the project's file, Redis here: the first that exists, as a whole."""
    assert default() == ("redis", 0)
    (directory / "pyproject.toml").write_text(PROJECT)
    assert default() == ("memory", 3)
    (directory / "own.toml").write_text('backend = "sqlite"\npath = "state.db"\ndatabase = 4\n')
    monkeypatch.setenv("REDICTS_CONFIG", "own.toml")
    assert default() == ("sqlite", 4)
    monkeypatch.setenv("REDICTS_URL", "redis://localhost/5")
    assert default() == ("redis", 5)
    for cfg in ({"backend": "memory"}, "memory://"):
        Pool().reload(cfg=cfg)
        assert (Pool().settings.backend, Pool().settings.default) == ("memory", 0)
    Pool().reload(cfg={})
    assert (Pool().settings.backend, Pool().settings.default) == ("redis", 0)
    Pool().reload(fake_redis=True)
    assert (Pool().settings.backend, Pool().settings.default) == ("fakeredis", 0)
    monkeypatch.setenv("REDICTS_URL", "")
    monkeypatch.setenv("REDICTS_CONFIG", "")
    assert default() == ("memory", 3)


def test_the_first_use_of_a_pool_opens_the_default(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that configures no store uses the one in the environment."""
    monkeypatch.setenv("REDICTS_URL", f"sqlite:///{directory}/state.db")
    program = "from redicts import Pool, root; root().set('a', 1); print(Pool(), root().val())"
    assert run_python(program) == f"<Pool sqlite path='{directory}/state.db'> {{'a': 1}}\n"
    assert run_python("from redicts import root; print(root().val())") == "{'a': 1}\n"


def test_a_wrong_default_is_refused_at_the_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable; once that is correct, the same pool works."""
    program = """
import os
from redicts import Pool, WrongField, root
for _ in range(2):
    try:
        root().val()
    except WrongField as error:
        print(error)
os.environ["REDICTS_URL"] = "memory://"
print(root().val(), Pool())
"""
    monkeypatch.setenv("REDICTS_URL", "memory://x")
    first, second, works = run_python(program).splitlines()
    assert first == second
    assert first.startswith("REDICTS_URL: backend 'memory'")
    assert works == "None <Pool memory>"


@pytest.mark.parametrize(
    "content",
    [
        PROJECT,
        '[tool.redicts]\ndefault = 3\n[tool.redicts.backend]\nname = "memory"\n',
        'default = 3\nbackend = "memory"\n',
        'default = 3\ncodec = "json"\naccept = ["json"]\nnames = {a = 1}\n[backend]\nname = "memory"\n',
    ],
)
def test_a_named_file_has_the_settings_at_its_top_or_in_the_table(
    directory: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every form of the dict can be written in TOML."""
    (directory / "own.toml").write_text(content)
    monkeypatch.setenv("REDICTS_CONFIG", str(directory / "own.toml"))
    assert default() == ("memory", 3)


def test_the_nearest_project_file_counts(directory: Path) -> None:
    """It is looked for in the current directory and above; the first one ends the search, even without a table."""
    (directory.parent / "pyproject.toml").write_text(PROJECT)
    assert default() == ("memory", 3)
    (directory / "pyproject.toml").write_text('[project]\nname = "redicts-user"\n')
    assert default() == ("redis", 0)


@pytest.mark.parametrize("content", ["[project]\n", "tool = 5 # redicts\n", "this is not TOML"])
def test_a_project_file_without_settings_of_redicts_is_ignored(directory: Path, content: str) -> None:
    """It need not even be valid TOML."""
    (directory / "pyproject.toml").write_text(content)
    assert default() == ("redis", 0)


@pytest.mark.parametrize(
    ("name", "content", "says", "error"),
    [
        ("pyproject.toml", b"[tool.redicts\n", "pyproject.toml cannot be read: it is not valid TOML", SettingsError),
        (
            "pyproject.toml",
            b"tool.redicts = 5\n",
            "[tool.redicts]: it must be a table of settings, not int",
            SettingsError,
        ),
        ("pyproject.toml", b"[tool.redicts]\nprot = 1\n", "[tool.redicts]: backend 'redis': there is no", WrongField),
        ("own.toml", b"\xff", "own.toml (named by REDICTS_CONFIG) cannot be read: it is not text", SettingsError),
        ("own.toml", b"[project]\nname = 'x'\n", "there is no setting 'project'", WrongField),
    ],
)
def test_a_wrong_file_is_named(
    directory: Path,
    name: str,
    content: bytes,
    says: str,
    error: type[SettingsError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error says which file is wrong and why it was read; the current settings do not change."""
    Pool().reload(cfg={"backend": "memory"})
    root().set("a", 1)
    (directory / name).write_bytes(content)
    if name != "pyproject.toml":
        monkeypatch.setenv("REDICTS_CONFIG", name)
    with pytest.raises(SettingsError) as caught:
        Pool().reload()
    assert type(caught.value) is error
    assert says in str(caught.value)
    assert root().val() == {"a": 1}


def test_a_removed_directory_has_no_project_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose directory was removed falls back to Redis."""
    directory.rmdir()
    Pool().reload()
    assert Pool().settings.backend == "redis"
    monkeypatch.chdir(directory.parent)


@pytest.mark.parametrize("call", ["cwd", "is_file"])
def test_a_directory_that_cannot_be_searched_is_an_error(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a project file cannot be looked for, no other store is used in its place; a configuration is used."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(SettingsError, match=r"cannot be looked for.*Permission denied; give a configuration, or set"):
        Pool().reload()
    monkeypatch.setenv("REDICTS_URL", "memory://")
    assert default() == ("memory", 0)


@pytest.mark.parametrize("cfg", [None, {"backend": "memory"}])
def test_the_parser_of_toml_is_imported_only_for_a_file(cfg: Any) -> None:
    """A program without a file of settings does not import it."""
    program = f"import sys; from redicts import Pool; Pool().reload({cfg!r}); print('tomllib' in sys.modules)"
    assert run_python(program) == "False\n"
