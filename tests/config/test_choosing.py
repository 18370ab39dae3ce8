"""Plain settings: a URL that is valid without a model means what the model says, and needs no pydantic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

import redicts
from redicts import Pool, SettingsError
from redicts.backends.redis.options import DEFAULTS
from redicts.backends.redis.settings import RedisSettings
from redicts.config.choosing import PlainSettings, choose
from redicts.config.redaction import repeats_secret
from redicts.config.settings import Settings, parse
from redicts.plugins.loading import backend_plugin
from tests.api.test_pool import run_python
from tests.support.servers import RedisServer

TEXTS = st.text(st.sampled_from("ab/.:@?%#=&[]\\ \x00é~-+{}") | st.characters(), max_size=12)
SCHEMES = [
    "sqlite:///",
    "sqlite:////",
    "sqlite://",
    "memory://",
    "redis://",
    "rediss://",
    "unix:///",
    "redis+cluster://",
]
PARTS = st.sampled_from(["", "h", "h:7000", "u:p@h", ":p@[::1]:1", "h/1", "h:0", "h:70000/2", "h,g", "%2F/?database=3"])
URLS = st.builds("{}{}{}".format, st.sampled_from(SCHEMES), TEXTS | PARTS, TEXTS | PARTS)


@hypothesis.given(URLS)
@hypothesis.example("sqlite:///:memory:")
@hypothesis.example("sqlite:///a.db")
@hypothesis.example("sqlite:////a b/c.db")
@hypothesis.example("memory://")
@hypothesis.example("redis://localhost")
@hypothesis.example("redis://user:p%40ss@localhost:6379/0")
@hypothesis.example("redis://h?prefix=a:")
@hypothesis.example("unix:///run/redis.sock?database=2")
@hypothesis.example("redis+sentinel://h/1?service=s")
def test_a_plain_url_means_what_its_validation_says(url: str) -> None:
    """Each URL that needs no model leads to the settings of the model, shown in the same way; all others get there."""
    try:
        expected: Settings | None = parse(url)
    except SettingsError:
        expected = None
    try:
        chosen = choose(url)
    except SettingsError:
        assert expected is None
        return
    assert expected is not None
    if isinstance(chosen, PlainSettings):
        assert chosen.validated() == expected
        assert (repr(chosen.validated()), str(chosen)) == (repr(expected), str(expected))
        assert chosen.validated().options.model_fields_set == expected.options.model_fields_set
        for name in ("backend", "codec", "default", "cache_bytes", "mandatory_locks", "lock_retention"):
            assert getattr(chosen, name) == getattr(expected, name)
        assert (dict(chosen.accept), dict(chosen.names)) == (dict(expected.accept), dict(expected.names))
        if isinstance(expected.options, RedisSettings):
            assert chosen.options == expected.options.options()
        for name in type(expected.options).model_fields.keys() - {"url", "password", "sentinel_password"}:
            assert getattr(chosen.options, name) == getattr(expected.options, name)


@pytest.mark.parametrize(
    "cfg",
    [
        *("sqlite:///a.db", "sqlite:////tmp/a.db", "memory://", {"backend": "memory"}),
        *("redis://h:1/2", "redis://u:p@h", "rediss://h", "unix:///run/redis.sock?database=1"),
    ],
)
def test_the_usual_configurations_are_plain(cfg: Any) -> None:
    """A file, absolute or not, a store in memory, and a server of Redis need no model."""
    assert isinstance(choose(cfg), PlainSettings)


@pytest.mark.parametrize("url", ["redis://user:sesame@h/1", "redis://:ses%61me@h"])
def test_a_password_of_plain_settings_is_in_no_repr(url: str) -> None:
    """What opens the store has the password, and neither its repr nor that of the database shows it."""
    chosen: Any = choose(url)
    assert chosen.options.password == "sesame"
    with redicts.open(url) as db:
        assert "sesame" not in repr(chosen) + str(chosen) + repr(db) + repr(db.settings)
    assert repeats_secret("refused: sesame", chosen.options)


@pytest.mark.parametrize(
    "cfg",
    [
        *({"backend": "memory", "cache": True}, {"backend": "memory", "codec": "json"}),
        *("sqlite:///a.db?durability=none", "redis://h?retries=1", "redis+cluster://h"),
    ],
)
def test_a_configuration_with_fields_is_validated(cfg: Any) -> None:
    """General settings, codecs and the parameters of a URL are for the model to judge."""
    assert isinstance(choose(cfg), Settings)


def test_fields_have_one_default(tmp_path: Path) -> None:
    """The defaults of plain settings are those of the model."""
    plugin = backend_plugin("sqlite")
    assert plugin.plain is not None
    options: Any = plugin.plain(f"sqlite:///{tmp_path}/a.db")
    assert options._asdict() == dict(plugin.model.model_validate({"path": options.path}))
    assert RedisSettings.model_validate({}).options() == DEFAULTS
    assert {*RedisSettings.model_fields, "given"} == {*DEFAULTS._fields, "url"}


def test_settings_are_those_of_the_moment_when_the_store_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a user sees is validated later, and is still the file that was opened."""
    monkeypatch.chdir(tmp_path)
    with redicts.open("sqlite:///a.db") as db:
        monkeypatch.chdir("/")
        options: Any = db.settings.options
        assert options.path == str(tmp_path / "a.db")
        assert db.settings is db.settings


@pytest.mark.parametrize(
    "program",
    [
        "import redicts; redicts.open('memory://').root().set('a', {'b': 1})",
        "import redicts; redicts.open('sqlite:///{file}').root().set('a', [1, 'x' * 100]).val()",
        "from redicts.cli import main; main(['get', 'a', '-s', 'sqlite:///{file}'])",
        "from redicts.cli import main; main(['set', 'a', '1', '-s', 'sqlite:///{file}'])",
        "from redicts.cli import main; main(['ls', '-s', 'memory'])",
    ],
)
def test_a_short_command_does_not_import_what_takes_long(program: str, tmp_path: Path) -> None:
    """Neither pydantic, which takes as long as all the rest, nor other modules that these do not need."""
    heavy = ["pydantic", "pydantic_core", "importlib.metadata", "asyncio", "ssl", "redis", "secrets", "tempfile"]
    program = program.replace("{file}", str(tmp_path / "a.db"))
    found = run_python(f"{program}\nimport sys\nprint('imported:', [name for name in {heavy} if name in sys.modules])")
    assert found.splitlines()[-1] == "imported: []"


@pytest.mark.parametrize(
    "program",
    [
        "import redicts; redicts.open('{url}').root().set('a', {'b': 1})",
        "import redicts; redicts.Pool().reload(cfg='{url}'); redicts.Proxy('a').set('b', 1)",
        "from redicts.cli import main; main(['set', 'a', '1', '-s', '{url}'])",
    ],
)
def test_a_plain_url_of_redis_imports_no_pydantic(program: str, redis_server: RedisServer) -> None:
    """redis-py takes most of the start, and pydantic would be the next."""
    program = program.replace("{url}", f"redis://localhost:{redis_server.port}/0")
    found = run_python(f"{program}\nimport sys\nprint('imported:', 'redis' in sys.modules, 'pydantic' in sys.modules)")
    assert found.splitlines()[-1] == "imported: True False"
    assert redis_server.command("DBSIZE")


def test_the_pool_shows_settings_and_keeps_them() -> None:
    """The settings of the pool are validated when asked for, once."""
    Pool().reload(cfg="memory://")
    assert isinstance(Pool().settings, Settings)
    assert Pool().settings is Pool().settings
    assert repr(Pool()) == "<Pool memory>"
