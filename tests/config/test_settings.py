"""Every accepted form of configuration becomes immutable settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from redicts import Pool, Proxy, root


def test_the_dict_of_redicts_1() -> None:
    """The dict of 1.0, with all its fields, chooses the backend ``redis``."""
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
    """``default`` and ``names`` number the databases; ``database`` is the same as ``default``."""
    Pool().reload(cfg={"default": 2, "names": {"persons": 1, "things": 0}})
    assert Pool().settings.default == 2
    assert Pool().settings.names == {"persons": 1, "things": 0}
    assert [Pool().settings.database(name) for name in (None, "persons", "things")] == [2, 1, 0]
    Pool().reload(cfg={"database": 2, "default": 2})
    assert Pool().settings.default == 2


def test_an_empty_dict_gives_the_defaults() -> None:
    """No field is required."""
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
    """A name, flat or nested, or a URL chooses the memory store."""
    Pool().reload(cfg=cfg)
    assert Pool().settings.backend == "memory"
    assert Pool().settings.codec == "json"
    root().set("a", 1)
    assert root().val() == {"a": 1}


@pytest.mark.parametrize("form", ["flat", "nested", "path object", "url"])
def test_a_store_in_a_file(tmp_path: Path, form: str) -> None:
    """A path, flat or nested, or a URL chooses a SQLite file."""
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
    """A URL gives host, port, user, password, database and TLS; other fields may be given with it."""
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
    """``fake_redis=True`` accepts the settings of Redis; the address of the server has no effect."""
    Pool().reload(cfg=cfg, fake_redis=True)
    assert Pool().settings.backend == "fakeredis"
    root().set("a", 1)
    assert root().val() == {"a": 1}
    if "other" in Pool().settings.names:
        assert Proxy("a", db_name="other").val() is None


def test_changing_the_dict_afterwards_has_no_effect() -> None:
    """The settings are a copy of the configuration, which stays as it is."""
    cfg: dict[str, Any] = {"backend": "memory", "names": {"a": 1}}
    Pool().reload(cfg=cfg)
    cfg["names"]["b"] = 2
    cfg["backend"] = "redis"
    assert Pool().settings.names == {"a": 1}
    assert cfg == {"backend": "redis", "names": {"a": 1, "b": 2}}


def test_the_current_settings_are_immutable() -> None:
    """Neither a setting nor a mapping in one can be changed in place."""
    Pool().reload(cfg={"backend": "memory", "names": {"a": 1}})
    settings: Any = Pool().settings
    for mapping in (settings.names, settings.accept):
        with pytest.raises(TypeError):
            mapping["b"] = 2
    for model in (settings, settings.options, settings.codec_options):
        for field in ("names", "default", "x"):
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
        "cache": False,
    }


def test_none_for_the_database_is_the_same_as_no_value() -> None:
    """A program may pass on a parameter that it was not given."""
    for name in ("database", "default"):
        Pool().reload(cfg={"backend": "memory", name: None})
        assert Pool().settings.default == 0
