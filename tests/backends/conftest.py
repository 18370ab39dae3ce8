"""Fixtures of the tests of the SQLite backend."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backends.sqlite_tools import Clock, LockOwner, Meter, Opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Name a file that does not exist."""
    return tmp_path / "s.db"


@pytest.fixture
def public() -> Iterator[Path]:
    """Create a directory that every user may enter and write to."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.fixture(params=["file", "memory"])
def path(request: pytest.FixtureRequest, file: Path) -> str:
    """Name a store in a file, and one in memory."""
    return ":memory:" if request.param == "memory" else str(file)


@pytest.fixture
def clock() -> Clock:
    """Give a clock that stands still until it is moved."""
    return Clock()


@pytest.fixture
def locked(file: Path) -> LockOwner:
    """Hold the file's write lock until the test releases it."""
    return LockOwner(file)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Record every connection that is opened, except by ``plain``."""
    found = Opened()
    connect = sqlite3.connect

    def recorded(*given: Any, **named: Any) -> sqlite3.Connection:
        found.connections.append(connect(*given, **named))
        return found.connections[-1]

    monkeypatch.setattr(sqlite3, "connect", recorded)
    return found


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    """Measure what every connection does that is opened, except by ``plain``."""
    found = Meter()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: found.watch(connect(*given, **named)))
    return found
