"""Wrong configurations: each is told with the field, the plugin and what to do; the documentation shows the errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from redicts import PluginMissing, Pool, SettingsError, WrongField, root
from redicts.plugins.discovery import builtin
from redicts.plugins.kinds import BACKEND
from redicts.plugins.loading import loaded
from tests.config import tables
from tests.config.distributions import CODEC, WORKING, Distributions


class Wrong(NamedTuple):
    """A wrong configuration: what is wrong with it, the call as a user writes it, and what the error must say."""

    what: str
    call: Callable[[], object]
    written: str
    error: type[SettingsError]
    says: str


def reload(what: str, cfg: Any, error: type[SettingsError], says: str) -> Wrong:
    """Return the case of a reload."""
    return Wrong(what, lambda: Pool().reload(cfg=cfg), f"cfg={cfg!r}", error, says)


def by_environment(what: str, variable: str, value: str, error: type[SettingsError], says: str) -> Wrong:
    """Return the case of a reload to the default."""

    def call() -> None:
        os.environ[variable] = value
        try:
            Pool().reload()
        finally:
            del os.environ[variable]

    return Wrong(what, call, f"{variable}={value}", error, says)


WRONG: Final = (
    reload("A field that nobody knows", {"prot": 6379}, WrongField, "did you mean 'port'?"),
    reload("A field of another backend", {"backend": "memory", "path": "state.db"}, WrongField, "'path'; known are"),
    reload("A value of the wrong type", {"port": "http"}, WrongField, "port: Input should be a valid integer"),
    reload("A value out of range", {"backend": "sqlite", "path": "a", "busy_timeout_secs": 0}, WrongField, "greater"),
    reload("A missing field", {"backend": "sqlite"}, WrongField, "path: Field required"),
    reload(
        "A field of the pool inside the backend",
        {"backend": {"name": "redis", "names": {}}},
        WrongField,
        "'names' goes beside the dict, not into it",
    ),
    reload(
        "A field of the backend beside its dict", {"backend": {"name": "redis"}, "port": 6379}, WrongField, "into that"
    ),
    reload("Two numbers for one database", {"database": 1, "default": 2}, WrongField, "two different numbers"),
    reload("A misspelt backend", {"backend": "redsi"}, PluginMissing, "did you mean 'redis'?"),
    reload("A backend that is not installed", {"backend": "etcd"}, PluginMissing, "install the package"),
    reload("A misspelt codec", {"backend": "memory", "codec": "jsno"}, PluginMissing, "did you mean 'json'?"),
    reload("One codec where a list is wanted", {"backend": "memory", "accept": "json"}, WrongField, "accept is a list"),
    reload("No dict and no URL", 6379, SettingsError, "a dict or a URL, not int"),
    reload("A file name instead of a URL", "state.db", SettingsError, "sqlite:///state.db"),
    reload("A URL with too few slashes", "sqlite://state.db", WrongField, "three slashes"),
    reload("A URL with a wrong port", "redis://localhost:http/0", WrongField, "url cannot be read"),
    reload("A field of somebody else's backend", {"backend": "table", "tabel": "t"}, WrongField, "(redicts-x 0.3)"),
    reload(
        "A field of somebody else's codec",
        {"backend": "memory", "codec": {"name": "upper", "level": -1}},
        WrongField,
        "(redicts-y 1.0)",
    ),
    Wrong(
        "A package that is not installed",
        lambda: Pool().reload(fake_redis=True),
        "fake_redis=True",
        PluginMissing,
        "pip install 'redicts[fakeredis]'",
    ),
    by_environment("A wrong URL in the environment", "REDICTS_URL", "memory://x", WrongField, "REDICTS_URL: backend"),
    by_environment("A file that is not there", "REDICTS_CONFIG", "none.toml", SettingsError, "No such file"),
    by_environment("A file that is no TOML", "REDICTS_CONFIG", "torn.toml", SettingsError, "it is no TOML"),
    by_environment("A wrong field in a file", "REDICTS_CONFIG", "wrong.toml", WrongField, "did you mean 'port'?"),
)


class Hidden:
    """Hides a package from the import system, as if it were not installed."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        """Say that there is none."""
        if name == self._package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture(autouse=True)
def surroundings(distributions: Distributions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install two plugins of others and no fakeredis, and work where there are some files."""
    distributions.install("redicts-x", WORKING)
    distributions.install("redicts-y", CODEC, version="1.0", codecs={"upper": "redicts_y"})
    monkeypatch.setattr(sys, "meta_path", [Hidden("fakeredis"), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "fakeredis", raising=False)
    monkeypatch.delitem(sys.modules, "redicts.backends.fakeredis", raising=False)
    monkeypatch.delitem(loaded, builtin(BACKEND)["fakeredis"], raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torn.toml").write_text("backend: memory")
    (tmp_path / "wrong.toml").write_text("[tool.redicts]\nprot = 6379\n")


def said(wrong: Wrong) -> str:
    """Return the one line of the error; the settings current stay, with their values."""
    root().set("a", 1)
    before = Pool().settings
    with pytest.raises(SettingsError) as caught:
        wrong.call()
    assert type(caught.value) is wrong.error
    assert Pool().settings is before
    assert root().val() == {"a": 1}
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.what)
def test_a_wrong_configuration_is_told_by_class_and_text(wrong: Wrong) -> None:
    """Its class says what kind of fault it is, its text where and what to do, and nothing has changed."""
    assert wrong.says in said(wrong)


def test_the_table_of_wrong_configurations_is_what_they_say() -> None:
    """The documentation shows the real error for each kind of wrong configuration."""
    rows = [(each.what, f"`{each.written}`", f"`{each.error.__name__}`", said(each)) for each in WRONG]
    tables.check("configuration.md", "wrong configurations", ("What is wrong", "Written", "Raised", "It says"), rows)
