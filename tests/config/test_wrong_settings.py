"""A wrong configuration is refused with the field, the plugin and a remedy; the documentation shows the errors."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib import metadata
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
    """A wrong configuration, and what its error must say: ``source`` is ``cfg``, an argument, or a variable."""

    what: str
    given: Any
    error: type[SettingsError]
    says: str
    source: str = "cfg"

    def __str__(self) -> str:
        return f"{self.source}={self.given if self.source.isupper() else repr(self.given)}"


SHOWN: Final = (
    Wrong("An unknown field", {"prot": 6379}, WrongField, "did you mean 'port'?"),
    Wrong("A field of another backend", {"backend": "memory", "path": "state.db"}, WrongField, "'path'; known are"),
    Wrong("A value of the wrong type", {"port": "http"}, WrongField, "port: Input should be a valid integer"),
    Wrong("A value out of range", {"backend": "sqlite", "path": "a", "busy_timeout_secs": 0}, WrongField, "greater"),
    Wrong("A missing field", {"backend": "sqlite"}, WrongField, "path: Field required"),
    Wrong(
        "A general setting inside the backend's dict",
        {"backend": {"name": "redis", "names": {}}},
        WrongField,
        "'names' is a general setting; put it outside of the dict",
    ),
    Wrong(
        "A setting of the backend outside of its dict",
        {"backend": {"name": "redis"}, "port": 6379},
        WrongField,
        "port must be in the dict",
    ),
    Wrong("Two numbers for one database", {"database": 1, "default": 2}, WrongField, "two different numbers"),
    Wrong("A misspelt backend", {"backend": "redsi"}, PluginMissing, "there is no backend 'redsi'; did you mean 're"),
    Wrong("A backend that is not installed", {"backend": "etcd"}, PluginMissing, "install the package"),
    Wrong("A misspelt codec", {"backend": "memory", "codec": "jsno"}, PluginMissing, "did you mean 'json'?"),
    Wrong("A codec instead of a list", {"backend": "memory", "accept": "json"}, WrongField, "accept must be a list"),
    Wrong("Neither a dict nor a URL", 6379, SettingsError, "a dict or a URL, not int"),
    Wrong("A file name instead of a URL", "state.db", SettingsError, "must be a URL, for instance sqlite:///state.db"),
    Wrong("A URL with too few slashes", "sqlite://state.db", WrongField, "three slashes"),
    Wrong("A URL with a wrong port", "redis://localhost:http/0", WrongField, "url cannot be read"),
    Wrong("A password with a special character", "redis://:12#3@host/0", WrongField, "%23 for #"),
    Wrong("A URL without a host", "redis://:6379/0", WrongField, "name one host"),
    Wrong("A URL with two databases", "redis://host/3?database=5", WrongField, "remove one"),
    Wrong("Certificates without TLS", {"host": "h", "tls_ca_file": "ca.pem"}, WrongField, "without TLS"),
    Wrong("Two addresses", {"host": "h", "unix_socket": "/run/redis.sock"}, WrongField, "excludes host"),
    Wrong("A field of a third-party backend", {"backend": "table", "tabel": "t"}, WrongField, "(redicts-x 0.3)"),
    Wrong(
        "A field of a third-party codec",
        {"backend": "memory", "codec": {"name": "upper", "level": -1}},
        WrongField,
        "(redicts-y 1.0)",
    ),
    Wrong(
        "A package that is not installed", True, PluginMissing, "pip install 'redicts[fakeredis]'", source="fake_redis"
    ),
    Wrong("A wrong URL in the environment", "memory://x", WrongField, "REDICTS_URL: backend", source="REDICTS_URL"),
    Wrong("A file that does not exist", "none.toml", SettingsError, "No such file", source="REDICTS_CONFIG"),
    Wrong("A file that is not valid TOML", "torn.toml", SettingsError, "is not valid TOML", source="REDICTS_CONFIG"),
    Wrong("A wrong field in a file", "wrong.toml", WrongField, "did you mean 'port'?", source="REDICTS_CONFIG"),
)
"""The configurations in the table of docs/configuration.md."""

OTHERS: Final[tuple[tuple[Any, str], ...]] = (
    # Unknown fields
    ({"hots": "x", "prot": 1}, "'hots'; did you mean 'host'?"),
    ({"hots": "x", "prot": 1}, "'prot'; did you mean 'port'?"),
    ({"backend": {"name": "redis", "prot": 1}}, "'prot'; did you mean 'port'?"),
    ({"backend": "sqlite", "pth": "x"}, "'pth'; did you mean 'path'?"),
    ({"nmaes": {}}, "'nmaes'; did you mean 'names'?"),
    ({"databse": 1}, "'databse'; did you mean 'database'?"),
    ({"backend": "memory", "defalt": 1}, "'defalt'; did you mean 'default'?"),
    ({"backend": "memory", "codecs": "json"}, "'codecs'; did you mean 'codec'?"),
    ({"bakend": "memory"}, "'bakend'; did you mean 'backend'?"),
    ({"backend": "memory", "codec": {"name": "json", "indent": 2}}, "'indent'"),
    ({"backend": {"nam": "memory"}}, "'nam'; did you mean 'name'?"),
    ({"ulr": "redis://h"}, "'ulr'; did you mean 'url'?"),
    ({"backend": "memory", "accpet": []}, "'accpet'; did you mean 'accept'?"),
    ({"zzz": 1}, "host, "),
    ({"backend": "memory", "zzz": 1}, "names"),
    ({5: 1}, "5"),
    # Unknown plugins
    ({"backend": "qqq"}, "there is no backend 'qqq'; known are fakeredis, memory, redis, sqlite"),
    ({"backend": ""}, "there is no backend ''"),
    ({"backend": "memory.py"}, "'memory.py'"),
    ({"backend": "../backends/memory"}, "there is no backend"),
    ({"backend": {"name": "memroy"}}, "did you mean 'memory'?"),
    ("redsi://localhost", "there is no backend 'redsi'; did you mean 'redis'?"),
    ("qqq://localhost", "there is no backend 'qqq'; known are"),
    ({"backend": "memory", "codec": {"name": "jsno"}}, "there is no codec 'jsno'"),
    ({"backend": "memory", "accept": ["jsno"]}, "there is no codec 'jsno'; did you mean 'json'?"),
    # Wrong forms
    (b"memory://", "a dict or a URL, not bytes"),
    (["memory"], "a dict or a URL, not list"),
    ("memory", "must be a URL"),
    ("", "must be a URL"),
    ("memory://x", "memory:// and nothing more"),
    ({"backend": 5}, "backend must be a name"),
    ({"backend": None}, "backend must be a name"),
    ({"backend": {}}, "must have a name"),
    ({"backend": ["memory"]}, "backend must be a name"),
    ({"backend": {"name": 5}}, "backend must be a name"),
    ({"backend": "memory", "codec": 5}, "codec"),
    ({"backend": "memory", "codec": {"name": 5}}, "codec"),
    ({"backend": "memory", "codec": {}}, "a codec given as a dict must have a name; give one"),
    ({"backend": "memory", "accept": {"name": "json"}}, "accept must be a list of codecs"),
    ({"backend": "memory", "accept": [5]}, "accept: codec must be a name, or a dict with a name"),
    ({"backend": "memory", "accept": ["json", {"name": "json"}]}, "accept: the codec 'json' is listed twice"),
    ({"backend": "memory", "accept": [{"name": "json", "x": 1}]}, "put its fields into 'codec'"),
    ({"backend": {"name": "redis"}, "host": "h"}, "host must be in the dict"),
    # Wrong values
    ({"backend": "memory", "names": ["a"]}, "names"),
    ({"backend": "memory", "names": {"a": "one"}}, "names.a"),
    ({"backend": "memory", "names": {"a": -1}}, "names.a"),
    ({"backend": "memory", "default": -1}, "default"),
    ({"backend": "memory", "database": "one"}, "database"),
    ({"backend": "memory", "database": [1]}, "database"),
    ({"backend": "memory", "default": {}}, "default"),
    ({"port": 0}, "port"),
    ({"port": 65536}, "port"),
    ({"max_connections": 0}, "max_connections"),
    ({"timeout_secs": 0}, "timeout_secs"),
    ({"retries": -1}, "retries"),
    ({"host": 5, "port": "x"}, "host: "),
    ({"host": 5, "port": "x"}, "port: "),
    ({"url": "redis://h:1", "port": 2}, "port given both in the url and as a field"),
    ({"url": 5}, "url must be text"),
    ({"backend": "sqlite", "path": ""}, "path"),
)
"""Further configurations, and what their errors must say."""


class Hidden:
    """Hides a package from the import system, as if it were not installed."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        """Raise an error for the hidden package."""
        if name == self._package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def surroundings(distributions: Distributions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install two third-party plugins and hide fakeredis, in a directory with some files."""
    distributions.install("redicts-x", WORKING)
    distributions.install("redicts-y", CODEC, version="1.0", codecs={"upper": "redicts_y"})
    monkeypatch.setattr(sys, "meta_path", [Hidden("fakeredis"), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "fakeredis", raising=False)
    monkeypatch.delitem(sys.modules, "redicts.backends.fakeredis", raising=False)
    monkeypatch.delitem(loaded, builtin(BACKEND)["fakeredis"], raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torn.toml").write_text("backend: memory")
    (tmp_path / "wrong.toml").write_text("[tool.redicts]\nprot = 6379\n")


def refused(given: Any, source: str = "cfg") -> SettingsError:
    """Return the error of a configuration, one line; the settings and the values do not change."""
    root().set("a", 1)
    before = Pool().settings
    with pytest.MonkeyPatch.context() as patch:
        if source.isupper():
            patch.setenv(source, given)
        with pytest.raises(SettingsError) as caught:
            Pool().reload(**({} if source.isupper() else {source: given}))
    assert Pool().settings is before
    assert root().val() == {"a": 1}
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.usefixtures("surroundings")
@pytest.mark.parametrize("wrong", SHOWN, ids=lambda wrong: wrong.what)
def test_a_wrong_configuration_has_an_error_of_its_class(wrong: Wrong) -> None:
    """The class tells what kind of error it is, the text tells where it is and what to do."""
    error = refused(wrong.given, wrong.source)
    assert type(error) is wrong.error
    assert wrong.says in str(error)


@pytest.mark.parametrize(("cfg", "says"), OTHERS)
def test_every_wrong_form_is_refused(cfg: Any, says: str) -> None:
    """An unknown name is refused with a suggestion, a wrong type or value with its field, all fields in one error."""
    assert says in str(refused(cfg))


@pytest.mark.usefixtures("surroundings")
def test_the_documentation_shows_the_error_of_each_wrong_configuration() -> None:
    """The table in docs/configuration.md has the errors as they are raised."""
    rows = []
    for each in SHOWN:
        error = refused(each.given, each.source)
        rows.append((each.what, f"`{each}`", f"`{type(error).__name__}`", str(error)))
    tables.check("configuration.md", "wrong configurations", ("What is wrong", "Written", "Raised", "It says"), rows)


@pytest.mark.usefixtures("surroundings")
def test_the_remedy_for_a_missing_package_installs_it() -> None:
    """The command in the error names an extra of redicts that requires the missing package."""
    extra = re.search(r"pip install 'redicts\[(\w+)\]'", str(refused(True, "fake_redis")))
    assert extra is not None
    required = [line.replace('"', "'") for line in metadata.requires("redicts") or []]
    assert any(line.startswith("fakeredis") and f"extra == '{extra[1]}'" in line for line in required)


def test_a_built_in_plugin_that_cannot_be_imported_is_not_called_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says that it cannot be used, and has the error of the import as its cause."""
    monkeypatch.setitem(sys.modules, "redicts.backends.sqlite", None)
    monkeypatch.delitem(loaded, builtin(BACKEND)["sqlite"], raising=False)
    with pytest.raises(SettingsError, match="backend 'sqlite' cannot be used here") as caught:
        Pool().reload(cfg={"backend": "sqlite", "path": "x"})
    assert isinstance(caught.value.__cause__, ImportError)
    Pool().reload(cfg={"backend": "memory"})
