"""The JSON schema of the settings accepts what a reload accepts, and refuses what it refuses."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from redicts import Pool, SettingsError
from redicts.config.schema import schema
from tests.config.distributions import CODEC, WORKING, Distributions

RIGHT: list[Any] = [
    {},
    {"host": "db.example", "port": 7000, "database": 3, "names": {"persons": 1}, "password": "p", "timeout_secs": 5},
    {"backend": "redis", "url": "redis://h:1/2", "max_connections": 3},
    {"backend": "memory", "codec": "json", "accept": ["json"], "mandatory_locks": True},
    {"backend": "memory", "codec": {"name": "upper", "level": 2}, "accept": ["json", {"name": "upper"}]},
    {"backend": "sqlite", "path": "state.db"},
    {"backend": {"name": "sqlite", "path": "state.db"}, "codec": {"name": "json"}, "default": 1},
    {"backend": {"name": "memory"}, "database": None},
    {"backend": "table", "table": "t"},
    {"backend": {"name": "table", "password": "p"}},
    "sqlite:///state.db",
    "memory://",
    "table://t",
]

WRONG: list[Any] = [
    5,
    "state.db",
    {"prot": 1},
    {"port": 0},
    {"backend": "redsi"},
    {"backend": {"port": 1}},
    {"backend": "sqlite"},
    {"backend": {"name": "sqlite"}},
    {"backend": "memory", "path": "x"},
    {"backend": {"name": "memory"}, "port": 1},
    {"backend": {"name": "memory", "database": 1}},
    {"backend": "memory", "codec": "jsno"},
    {"backend": "memory", "codec": {"name": "upper", "level": -1}},
    {"backend": "memory", "codec": {"name": "json", "level": 1}},
    {"backend": "memory", "accept": "json"},
    {"backend": "memory", "names": {"a": -1}},
    {"backend": "memory", "mandatory_locks": "yes"},
    {"backend": "table", "tabel": "t"},
]


@pytest.fixture(autouse=True)
def others(distributions: Distributions) -> None:
    """Install a backend and a codec of others."""
    distributions.install("redicts-x", WORKING)
    distributions.install("redicts-y", CODEC, codecs={"upper": "redicts_y"})


@pytest.mark.parametrize("cfg", RIGHT, ids=repr)
def test_what_is_right_fits_the_schema(cfg: Any) -> None:
    """A configuration that a reload takes is valid."""
    Pool().reload(cfg=cfg)
    jsonschema.validate(cfg, schema())


@pytest.mark.parametrize("cfg", WRONG, ids=repr)
def test_what_is_wrong_does_not_fit_the_schema(cfg: Any) -> None:
    """A configuration that a reload refuses is not valid."""
    with pytest.raises(SettingsError):
        Pool().reload(cfg=cfg)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cfg, schema())


def test_it_is_a_schema_told_apart_by_the_backends_name(distributions: Distributions) -> None:
    """It is a valid schema; backends and codecs are told apart by name, flat and nested; secrets are marked."""
    found = schema()
    jsonschema.Draft202012Validator.check_schema(found)
    flat, nested, url = found["anyOf"]
    backends = {"fakeredis", "memory", "redis", "sqlite", "table"}
    assert flat["discriminator"]["propertyName"] == "backend"
    assert set(flat["discriminator"]["mapping"]) == backends
    inner = found["$defs"][nested["$ref"].rpartition("/")[2]]["properties"]["backend"]
    assert inner["discriminator"]["propertyName"] == "name"
    assert set(inner["discriminator"]["mapping"]) == backends
    assert url["type"] == "string"
    password = found["$defs"]["Backend_table"]["properties"]["password"]
    assert password["anyOf"][0] == {"type": "string", "format": "password", "writeOnly": True}


def test_what_json_cannot_describe_is_in_the_schema_by_name(distributions: Distributions) -> None:
    """A plugin with a type of its own, and one that is broken, are in nobody's way."""
    strange = WORKING.replace('"table", T', '"strange", T').replace(
        "    password:",
        "    model_config = {'arbitrary_types_allowed': True}\n    made: MemoryBackend = None\n    password:",
    )
    distributions.install("redicts-v", strange, backends={"strange": "redicts_v"})
    distributions.install("redicts-w", "1 / 0", backends={"broken": "redicts_w"})
    jsonschema.validate({"backend": "strange", "made": 1}, schema())
    jsonschema.validate({"backend": {"name": "strange", "made": 1}}, schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"backend": "broken"}, schema())
