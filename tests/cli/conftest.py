"""What these tests share: stores that several processes can open, named as the command line names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from redicts.api.database import open as open_database
from redicts.api.opened import OpenedDatabase
from redicts.config.settings import parse
from tests.support.servers import RedisServer


@pytest.fixture
def redis_url(server: RedisServer) -> str:
    """Give the URL of an empty Redis database."""
    return f"redis://{server.host}:{server.port}/0"


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """Give the URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path}/state.db"


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest) -> str:
    """Give the URL of an empty store, of each kind that processes can share."""
    url: str = request.getfixturevalue("file_url" if request.param == "sqlite" else "redis_url")
    return url


def tree_at(url: str, database: int = 0) -> OpenedDatabase:
    """Open a store in this process."""
    settings = parse(url)
    return open_database(settings.model_copy(update={"default": database}))


def value_at(url: str) -> object:
    """Return all that is in a store."""
    tree = tree_at(url)
    return tree.run(tree.store.read(()))


def put(url: str, value: object, *path: str, ttl: int | None = None) -> None:
    """Store a value, with a TTL in milliseconds."""
    tree = tree_at(url)
    tree.run(tree.store.write(path, value, ttl))
