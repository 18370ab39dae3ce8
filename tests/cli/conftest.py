"""Fixtures: stores that processes can share, and functions that look into them from this process."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

import redicts
from redicts.cli import main
from redicts.config.settings import parse
from redicts.core.driver import Steps
from redicts.core.minitransaction import VALUES, Key, Put, Transaction, Write
from redicts.transfer.checkpoints import unfinished
from tests.cli.running import Done
from tests.support.servers import RedisServer

MANY = {f"dict{one:02}": {f"name{two:03}": two for two in range(100)} for one in range(50)}


@pytest.fixture
def redis_url(server: RedisServer) -> str:
    """Give the URL of an empty Redis database."""
    return f"redis://{server.host}:{server.port}/0"


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """Give the URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path}/state.db"


@pytest.fixture
def other_url(tmp_path: Path) -> str:
    """Give the URL of another SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path}/other.db"


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest) -> str:
    """Give the URL of an empty store, of each kind that processes can share."""
    url: str = request.getfixturevalue("file_url" if request.param == "sqlite" else "redis_url")
    assert value_at(url) is redicts.ABSENT  # which creates the file
    return url


def open_database(url: str, number: int = 0) -> redicts.Database:
    """Open a store in this process."""
    return redicts.open(parse(url).model_copy(update={"default": number}))


def value_at(url: str, number: int = 0) -> Any:
    """Return everything in a store."""
    database = open_database(url, number)
    return database.run(database.store.read(()))


def leaves_in(url: str) -> Mapping[tuple[str, ...], bytes]:
    """Return all leaves in a store as they are stored."""
    database = open_database(url)
    return database.run(database.store.leaves(()))


def ttl_at(url: str, *path: str) -> int | None:
    """Return the TTL of a node in milliseconds."""
    database = open_database(url)
    return database.run(database.store.ttl(path))


def checkpoints_in(url: str) -> list[Mapping[str, Any]]:
    """Return the checkpoints in a store."""
    return list(open_database(url).run(unfinished()).values())


def put(url: str, value: object, *path: str, ttl: int | None = None) -> None:
    """Store a value, with a TTL in milliseconds."""
    database = open_database(url)
    database.run(database.store.write(path, value, ttl))


def put_raw(url: str, *path: str, data: bytes = b"\x00\xff") -> None:
    """Store bytes as a leaf, as only a stranger does; by default those that no codec reads."""
    write(url, Put(Key(VALUES, path), data))


def write(url: str, *writes: Write) -> None:
    """Apply writes in one transaction."""

    def steps() -> Steps[None]:
        yield Transaction(writes=writes)

    open_database(url).run(steps())


class InProcess(Protocol):
    """Runs a command line in this process, which is faster than a process of its own, and without a terminal."""

    def __call__(self, *arguments: object, stdin: str | bytes = "") -> Done: ...


@pytest.fixture
def in_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Give a function that runs a command line in this process."""

    def call(*arguments: object, stdin: str | bytes = "") -> Done:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        status = main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        return Done(status, out, err)

    return call
