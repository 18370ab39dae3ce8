"""The settings: every form that is accepted, and for every other one an error that says what to write instead."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from redicts import Pool, Proxy, SettingsError, root
from redicts.plugins.discovery import builtin
from redicts.plugins.kinds import BACKEND
from redicts.plugins.loading import loaded


def refused(cfg: Any, **options: Any) -> str:
    """Return what the error says about settings that are wrong; those current must stay."""
    before = Pool().settings
    with pytest.raises(SettingsError) as caught:
        Pool().reload(cfg=cfg, **options)
    assert isinstance(caught.value, ValueError)
    assert Pool().settings is before
    return str(caught.value)


# Forms that are accepted


def test_the_dict_of_redicts_1() -> None:
    """The dict of 1.0, with all its fields, means the backend ``redis``."""
    Pool().reload(
        cfg=dict(host="db.example", port=7000, database=3, password="pass", max_connections=7, timeout_secs=5)
    )
    settings = Pool().settings
    assert settings.backend == "redis"
    assert settings.default == 3
    options: Any = settings.options
    assert (options.host, options.port, options.max_connections, options.timeout_secs) == ("db.example", 7000, 7, 5)
    assert options.password.get_secret_value() == "pass"


def test_the_databases_of_redicts_1() -> None:
    """``default`` and ``names`` number the databases; ``database`` is another word for ``default``."""
    Pool().reload(cfg={"default": 2, "names": {"persons": 1, "things": 0}})
    assert Pool().settings.default == 2
    assert Pool().settings.names == {"persons": 1, "things": 0}
    assert [Pool().settings.database(name) for name in (None, "persons", "things")] == [2, 1, 0]
    Pool().reload(cfg={"database": 2, "default": 2})
    assert Pool().settings.default == 2


def test_an_empty_dict_means_the_defaults() -> None:
    """No field is needed."""
    Pool().reload(cfg={})
    empty = Pool().settings
    Pool().reload()
    assert Pool().settings == empty


@pytest.mark.parametrize(
    "cfg",
    [
        {"backend": "memory"},
        {"backend": {"name": "memory"}},
        {"backend": "memory", "codec": "json"},
        {"backend": {"name": "memory"}, "codec": {"name": "json"}},
        "memory://",
    ],
)
def test_a_store_in_memory(cfg: Any) -> None:
    """The memory store is chosen by name, flat or nested, or by URL."""
    Pool().reload(cfg=cfg)
    assert Pool().settings.backend == "memory"
    assert Pool().settings.codec == "json"
    root().set("a", 1)
    assert root().val() == {"a": 1}


@pytest.mark.parametrize("form", ["flat", "nested", "path object", "url"])
def test_a_store_in_a_file(tmp_path: Path, form: str) -> None:
    """A SQLite file is chosen by its path, flat or nested, or by URL."""
    path = tmp_path / "state.db"
    forms: dict[str, Any] = {
        "flat": {"backend": "sqlite", "path": str(path), "codec": "json"},
        "nested": {"backend": {"name": "sqlite", "path": str(path)}},
        "path object": {"backend": "sqlite", "path": path},
        "url": f"sqlite:///{path}",
    }
    Pool().reload(cfg=forms[form])
    root().set("a", 1)
    assert path.exists()
    assert root().val() == {"a": 1}


@pytest.mark.parametrize(
    ("cfg", "expected", "database"),
    [
        ("redis://db.example", {"host": "db.example", "port": 6379, "tls": False}, 0),
        ("redis://db.example:7000/4", {"host": "db.example", "port": 7000}, 4),
        ("rediss://anna@db.example/0", {"host": "db.example", "username": "anna", "tls": True}, 0),
        ("redis://a%40b:p%2Fw@h/1", {"host": "h", "username": "a@b"}, 1),
        ("unix:///run/redis.sock?database=2", {"unix_socket": "/run/redis.sock"}, 2),
        ({"backend": {"name": "redis", "url": "rediss://user@h/5"}}, {"host": "h", "tls": True, "username": "user"}, 5),
        ({"backend": "redis", "url": "redis://h/5", "max_connections": 3}, {"host": "h", "max_connections": 3}, 5),
        ({"backend": "redis", "url": "redis://h/5", "database": 6}, {"host": "h"}, 6),
    ],
)
def test_redis_by_url(cfg: Any, expected: dict[str, Any], database: int) -> None:
    """A URL says host, port, user, password, database and TLS; other fields may stand beside it."""
    Pool().reload(cfg=cfg)
    found = Pool().settings
    assert found.backend == "redis"
    assert {name: getattr(found.options, name) for name in expected} == expected
    assert found.default == database


@pytest.mark.parametrize(
    "cfg",
    [
        None,
        {},
        {"host": "ignored", "port": 1, "database": 2, "names": {"other": 3}},
        {"backend": "fakeredis", "names": {"other": 3}},
        {"backend": {"name": "redis", "host": "ignored"}, "names": {"other": 3}},
        "redis://ignored:1/0",
    ],
)
def test_fake_redis_takes_the_settings_of_redis(cfg: Any) -> None:
    """``fake_redis=True`` may carry the settings of Redis; those that say where the server is have no effect."""
    Pool().reload(cfg=cfg, fake_redis=True)
    assert Pool().settings.backend == "fakeredis"
    root().set("a", 1)
    assert root().val() == {"a": 1}
    if "other" in Pool().settings.names:
        assert Proxy("a", db_name="other").val() is None


def test_settings_are_taken_when_they_are_given() -> None:
    """To change the dict afterwards changes nothing, and what the pool shows cannot be changed."""
    cfg: dict[str, Any] = {"backend": "memory", "names": {"a": 1}}
    Pool().reload(cfg=cfg)
    cfg["names"]["b"] = 2
    cfg["backend"] = "redis"
    assert Pool().settings.names == {"a": 1}
    with pytest.raises(ValidationError):
        Pool().settings.default = 5
    assert cfg == {"backend": "redis", "names": {"a": 1, "b": 2}}


def test_what_is_in_force_cannot_be_changed() -> None:
    """Neither a setting nor a mapping or list in one can be changed in place."""
    Pool().reload(cfg={"backend": "memory", "names": {"a": 1}})
    settings: Any = Pool().settings
    for mapping in (settings.names, settings.accept):
        with pytest.raises(TypeError):
            mapping["b"] = 2
    for model, field in ((settings, "names"), (settings.options, "x"), (settings.codec_options, "x")):
        with pytest.raises(ValidationError):
            setattr(model, field, {})
    assert settings.model_dump(mode="json") == {
        "backend": "memory",
        "options": {},
        "codec": "json",
        "codec_options": {},
        "accept": {},
        "default": 0,
        "names": {"a": 1},
        "mandatory_locks": False,
        "lock_retention": 0.005,
    }


# What is refused


@pytest.mark.parametrize(
    ("cfg", "says"),
    [
        ({"prot": 6379}, "there is no setting 'prot'; did you mean 'port'?"),
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
        ({"backend": {"name": "memory", "names": {}}}, "'names' goes beside the dict, not into it"),
        ({"zzz": 1}, "host, "),
        ({"backend": "memory", "zzz": 1}, "names"),
    ],
)
def test_unknown_settings_are_refused_with_a_suggestion(cfg: Any, says: str) -> None:
    """A field that nobody knows is refused by name, with the nearest one that is known, or all of those."""
    assert says in refused(cfg)


@pytest.mark.parametrize(
    ("cfg", "says"),
    [
        ({"backend": "redsi"}, "there is no backend 'redsi'; did you mean 'redis'?"),
        ({"backend": "qqq"}, "there is no backend 'qqq'; known are fakeredis, memory, redis, sqlite"),
        ({"backend": ""}, "there is no backend ''"),
        ({"backend": "memory.py"}, "'memory.py'"),
        ({"backend": "../backends/memory"}, "there is no backend"),
        ({"backend": {"name": "memroy"}}, "did you mean 'memory'?"),
        ("redsi://localhost", "there is no backend 'redsi'; did you mean 'redis'?"),
        ("qqq://localhost", "there is no backend 'qqq'; known are"),
        ({"backend": "memory", "codec": "jsno"}, "there is no codec 'jsno'; did you mean 'json'?"),
        ({"backend": "memory", "codec": {"name": "jsno"}}, "there is no codec 'jsno'"),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(cfg: Any, says: str) -> None:
    """A backend or codec that is not there is refused by name, with the nearest one or all of them."""
    assert says in refused(cfg)


@pytest.mark.parametrize(
    ("cfg", "says"),
    [
        (5, "a dict or a URL, not int"),
        (b"memory://", "a dict or a URL, not bytes"),
        (["memory"], "a dict or a URL, not list"),
        ("memory", "must be a URL"),
        ("", "must be a URL"),
        ("state.db", "sqlite:///state.db"),
        ("memory://x", "memory:// and nothing more"),
        ({"backend": 5}, "backend is a name"),
        ({"backend": None}, "backend is a name"),
        ({"backend": {}}, "has a name"),
        ({"backend": ["memory"]}, "backend is a name"),
        ({"backend": {"name": 5}}, "backend is a name"),
        ({"backend": "memory", "codec": 5}, "codec"),
        ({"backend": "memory", "codec": {"name": 5}}, "codec"),
        ({"backend": "memory", "codec": {}}, "a codec given as a dict has a name; give one"),
        ({"backend": "memory", "accept": {"name": "json"}}, "accept is a list of codecs"),
        ({"backend": "memory", "accept": [5]}, "accept: codec is a name, or a dict with a name"),
        ({"backend": "memory", "accept": ["json", {"name": "json"}]}, "accept: the codec 'json' is listed twice"),
        ({"backend": "memory", "accept": [{"name": "json", "x": 1}]}, "put its fields into 'codec'"),
        ({"backend": "memory", "accept": ["jsno"]}, "there is no codec 'jsno'; did you mean 'json'?"),
        ({"backend": "memory", "names": ["a"]}, "names"),
        ({"backend": "memory", "names": {"a": "one"}}, "names.a"),
        ({"backend": "memory", "names": {"a": -1}}, "names.a"),
        ({"backend": "memory", "default": -1}, "default"),
        ({"backend": "memory", "database": "one"}, "database"),
        ({"backend": "memory", "database": [1]}, "database"),
        ({"backend": "memory", "default": {}}, "default"),
        ({"backend": "memory", "database": 1, "default": 2}, "two different numbers"),
        ({"backend": {"name": "redis"}, "host": "h"}, "host beside a backend given as a dict"),
        ({"port": 0}, "port"),
        ({"port": 65536}, "port"),
        ({"port": "http"}, "port"),
        ({"max_connections": 0}, "max_connections"),
        ({"timeout_secs": 0}, "timeout_secs"),
        ({"retries": -1}, "retries"),
        ({"host": 5, "port": "x"}, "host: "),
        ({"host": 5, "port": "x"}, "port: "),
        ({"url": "redis://h:1", "port": 2}, "port given both in the url and as a field"),
        ({"url": 5}, "url must be text"),
        ({"backend": "sqlite"}, "path"),
        ({"backend": "sqlite", "path": ""}, "path"),
        ({5: 1}, "5"),
    ],
)
def test_wrong_settings_are_refused_by_field(cfg: Any, says: str) -> None:
    """What has the wrong type or range is refused, with the field that is wrong, and all of them at once."""
    assert says in refused(cfg)


def test_none_says_nothing() -> None:
    """``None`` for the database is as good as leaving it out, as a program passes on what it was not given."""
    for name in ("database", "default"):
        Pool().reload(cfg={"backend": "memory", name: None})
        assert Pool().settings.default == 0


def test_a_missing_package_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fakeredis the error names the package and a command that installs it; the old settings stay."""
    monkeypatch.setitem(sys.modules, "fakeredis", None)
    monkeypatch.delitem(sys.modules, "redicts.backends.fakeredis", raising=False)
    monkeypatch.delitem(loaded, builtin(BACKEND)["fakeredis"], raising=False)
    root().set("a", 1)
    said = refused(None, fake_redis=True)
    assert "'fakeredis' cannot be used here" in said
    extra = re.search(r"pip install 'redicts\[(\w+)\]'", said)
    assert extra is not None
    assert root().val() == {"a": 1}
    # The command must install what is missing: the extra is one of this distribution, and brings fakeredis.
    required = metadata.requires("redicts") or []
    assert any(line.startswith("fakeredis") and f"extra == '{extra[1]}'" in line.replace('"', "'") for line in required)


def test_a_broken_backend_is_told_apart_from_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that is there and cannot be imported is not called unknown, and the cause is kept."""
    monkeypatch.setitem(sys.modules, "redicts.backends.sqlite", None)
    monkeypatch.delitem(loaded, builtin(BACKEND)["sqlite"], raising=False)
    with pytest.raises(SettingsError, match="backend 'sqlite' cannot be used here") as caught:
        Pool().reload(cfg={"backend": "sqlite", "path": "x"})
    assert isinstance(caught.value.__cause__, ImportError)
    Pool().reload(cfg={"backend": "memory"})
