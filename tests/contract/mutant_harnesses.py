"""Harnesses for ``redicts mutants`` on our own backends: each mutant has a store of its own, in an empty directory."""

from __future__ import annotations

import time
from pathlib import Path

from tests.contract.harnesses import MemoryHarness, RedisHarness, SqliteHarness, open_backend
from tests.support.servers import RedisServer


class MutantsOfMemory(MemoryHarness):
    """The memory backend as its plugin opens it, with a clock that can be set."""

    def __init__(self) -> None:
        super().__init__()
        store = open_backend("memory", {})
        assert store._clock is time.monotonic  # type: ignore[attr-defined]
        store._clock = self.clock  # type: ignore[attr-defined]
        self.store = store  # type: ignore[misc]


class MutantsOfSqlite(SqliteHarness):
    """The SQLite backend, with a file in the current directory."""

    def __init__(self) -> None:
        super().__init__(Path.cwd())


class MutantsOfRedis(RedisHarness):
    """The Redis backend on a server of its own, which ends with the process of the mutant."""

    def __init__(self) -> None:
        super().__init__(RedisServer())
