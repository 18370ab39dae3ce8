"""The place of a store is fixed when it is chosen: no later change of the current directory moves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import redicts
from redicts import Pool, Proxy, WrongField, root
from tests.config.distributions import WORKING, Distributions


@pytest.fixture
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Change to a directory, and give it with another one."""
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here", tmp_path / "elsewhere"


@pytest.mark.parametrize("how", ["dict", "nested", "url", "environment", "file", "project"])
def test_every_database_of_a_relative_file_is_in_that_file(
    directories: tuple[Path, Path], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named database that is opened after ``chdir`` is in the file of the default one, however it was chosen."""
    here, elsewhere = directories
    names = '[tool.redicts]\nnames = {cats = 1}\n[tool.redicts.backend]\nname = "sqlite"\npath = "s.db"\n'
    cfg: Any = {"backend": "sqlite", "path": "s.db", "names": {"cats": 1}}
    if how == "nested":
        cfg = {"backend": {"name": "sqlite", "path": Path("s.db")}, "names": {"cats": 1}}
    elif how == "url":
        cfg = "sqlite:///s.db"
    elif how == "environment":
        monkeypatch.setenv("REDICTS_URL", "sqlite:///s.db")
        cfg = None
    elif how == "file":
        (here / "own.toml").write_text(names)
        monkeypatch.setenv("REDICTS_CONFIG", "own.toml")
        cfg = None
    elif how == "project":
        (here / "pyproject.toml").write_text(names)
        cfg = None
    Pool().reload(cfg=cfg)
    monkeypatch.chdir(elsewhere)
    root().set("a", 1)
    if Pool().settings.names:
        Proxy("a", db_name="cats").set([], 2)
    assert (here / "s.db").exists()
    assert list(elsewhere.iterdir()) == []
    assert getattr(Pool().settings.options, "path") == str(here / "s.db")  # noqa: B009  (a field of this backend)


def test_an_opened_database_stays_where_it_was_chosen(
    directories: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``redicts.open`` fixes the file too; the settings open the same one again from anywhere."""
    here, elsewhere = directories
    with redicts.open("sqlite:///s.db") as db:
        monkeypatch.chdir(elsewhere)
        db.root().set("a", 1)
        with redicts.open(db.settings) as again:
            assert again.root().val() == {"a": 1}
    assert list(elsewhere.iterdir()) == []
    assert (here / "s.db").exists()


@pytest.mark.parametrize("field", ["unix_socket", "tls_ca_file", "tls_cert_file", "tls_key_file"])
def test_every_path_of_redis_is_absolute(directories: tuple[Path, Path], field: str) -> None:
    """The paths of a socket, of certificates and of a key are made absolute when they are chosen."""
    fields = (
        {field: Path("x.pem")} if field == "unix_socket" else {"tls": True, "tls_cert_file": "c.pem", field: "x.pem"}
    )
    for fake_redis in (False, True):
        Pool().reload(cfg=fields, fake_redis=fake_redis)
        assert getattr(Pool().settings.options, field) == str(directories[0] / "x.pem")


def test_a_store_in_memory_has_no_path(directories: tuple[Path, Path]) -> None:
    """``:memory:`` is not a file in the current directory."""
    Pool().reload(cfg="sqlite:///:memory:")
    root().set("a", 1)
    assert list(directories[0].iterdir()) == []


def test_a_relative_path_needs_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a directory that was removed only an absolute path is a place, and the error says so."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(WrongField, match="give an absolute path"):
        Pool().reload(cfg="sqlite:///s.db")
    Pool().reload(cfg=f"sqlite:///{tmp_path / 's.db'}")
    monkeypatch.chdir(tmp_path)


THIRD = WORKING.replace("import SecretStr", "import SecretStr\nfrom pathlib import Path").replace(
    '    table: str = "leaves"',
    '    table: str = "leaves"\n    file: FilePath = "default.db"\n    key: Path = Path("default.key")\n'
    "    other: FilePath | None = None\n",
)
THIRD = THIRD.replace("BackendSettings, hookimpl", "BackendSettings, FilePath, hookimpl")


def test_the_paths_of_third_party_settings_are_absolute(
    distributions: Distributions, directories: tuple[Path, Path]
) -> None:
    """A plugin's fields that are path objects, or declared as ``FilePath``, are made absolute."""
    distributions.install("redicts-x", THIRD)
    Pool().reload(cfg={"backend": "table", "file": "a.db", "key": "a.key", "other": Path("b")})
    options: Any = Pool().settings.options
    here = directories[0]
    assert (options.file, options.key, options.other) == (str(here / "a.db"), here / "a.key", str(here / "b"))
    Pool().reload(cfg={"backend": "table"})
    options = Pool().settings.options
    assert options.key == here / "default.key"
