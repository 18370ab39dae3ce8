"""The reprs of databases, of the pool and of settings: what a person at a prompt wants to know, and no secret."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

import redicts
from redicts import Pool
from redicts.config.settings import parse
from tests.api.test_pool import run_python

SECRET: Final = "m4rker-0f-a-s3cret"
HIDDEN: Final = "password=SecretStr('**********')"

CASES: Final[Mapping[str, tuple[Any, str, str]]] = {
    "the default": ({}, "redis", "backend='redis'"),
    "memory": ({"backend": "memory"}, "memory", "backend='memory'"),
    "a URL": (
        f"redis://anna:{SECRET}@cache.invalid:1/2?prefix=app:",
        f"redis host='cache.invalid' port=1 username='anna' {HIDDEN} default_database=2 prefix='app:'",
        f"backend='redis', host='cache.invalid', port=1, username='anna', {HIDDEN}, default_database=2, prefix='app:'",
    ),
    "all general settings": (
        {
            "backend": {"name": "redis", "password": SECRET},
            "database": 3,
            "names": {"cats": 1},
            "codec": {"name": "pickle", "keys": [SECRET * 2]},
            "accept": ["json", "msgpack"],
            "mandatory_locks": True,
            "lock_retention": 0,
        },
        f"redis {HIDDEN}",
        (
            f"backend='redis', {HIDDEN}, default=3, codec={{'name': 'pickle', 'keys': (SecretStr('**********'),)}}, "
            "accept=['json', 'msgpack'], names={'cats': 1}, mandatory_locks=True, lock_retention=0.0"
        ),
    ),
}
"""Configurations, by what is special about them: what the repr of a database and that of its settings contain."""


@pytest.mark.parametrize("case", CASES)
def test_a_repr_shows_what_was_configured(case: str) -> None:
    """A repr shows what was given, without secrets, and connects to nothing. That of settings reads like them."""
    cfg, of_database, of_settings = CASES[case]
    with redicts.open(cfg) as db:
        assert repr(db) == f"<Database {of_database}>"
        assert repr(db.settings) == f"Settings({of_settings})"
    Pool().reload(cfg=cfg)
    assert repr(Pool()) == f"<Pool {of_database}>"


def test_a_repr_shows_the_name_and_the_end_of_a_database() -> None:
    """A named database shows its name, and a closed one that it is closed."""
    with redicts.open({"backend": "memory", "names": {"cats": 1}}) as db:
        cats = db.databases["cats"]
        assert repr(cats) == "<Database 'cats' of memory>"
    assert (repr(db), repr(cats)) == ("<Database memory, closed>", "<Database 'cats' of memory, closed>")


def test_the_repr_of_a_pool_reads_no_configuration() -> None:
    """A pool that was not used yet says so, and does not look for its configuration."""
    assert run_python("from redicts import Pool; print(Pool())") == "<Pool not used yet>\n"


def test_a_repr_of_settings_can_be_pasted(tmp_path: Path) -> None:
    """The fields that a repr shows are a configuration that leads to the same settings."""
    settings = parse({"path": str(tmp_path / "tree.db"), "backend": "sqlite", "codec": "msgpack", "names": {"cats": 1}})
    assert eval(repr(settings), {"Settings": lambda **fields: parse(fields)}) == settings
