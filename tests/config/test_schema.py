"""The JSON schema of the settings accepts what a reload accepts, and rejects what a reload refuses."""

from __future__ import annotations

from functools import lru_cache
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
def third_party(distributions: Distributions) -> None:
    """Install a third-party backend and codec."""
    distributions.install("redicts-x", WORKING)
    distributions.install("redicts-y", CODEC, codecs={"upper": "redicts_y"})


@lru_cache(maxsize=1)
def of_all() -> jsonschema.Draft202012Validator:
    """Return what validates by the schema, made once: the same plugins are installed for each test."""
    return jsonschema.Draft202012Validator(schema())


@pytest.mark.parametrize("cfg", RIGHT, ids=repr)
def test_a_correct_configuration_is_valid(cfg: Any) -> None:
    """A reload accepts it, and so does the schema."""
    Pool().reload(cfg=cfg)
    of_all().validate(cfg)


@pytest.mark.parametrize("cfg", WRONG, ids=repr)
def test_a_wrong_configuration_is_not_valid(cfg: Any) -> None:
    """A reload refuses it, and so does the schema."""
    with pytest.raises(SettingsError):
        Pool().reload(cfg=cfg)
    with pytest.raises(jsonschema.ValidationError):
        of_all().validate(cfg)


def test_the_schema_discriminates_backends_by_name() -> None:
    """It is a valid schema with a discriminator in the flat and in the nested form; secrets are marked."""
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


def test_a_plugin_that_json_cannot_describe_may_have_any_fields(distributions: Distributions) -> None:
    """Neither a field of a type that JSON does not know nor a broken plugin prevents a schema."""
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
