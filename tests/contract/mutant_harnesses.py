"""Harnesses for ``redicts mutants`` on our own backends: each mutant has a store of its own, in an empty directory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redicts.config.settings import parse
from redicts.contract import ManualClock, SharedBackend, Store, StoreHarness
from redicts.core.backend import Backend
from redicts.plugins.loading import backend_plugin
from tests.contract.harnesses import RedisHarness, SqliteHarness
from tests.support.servers import RedisServer


class MutantsOfMemory(StoreHarness):
    """The memory backend as ``redicts certify memory`` examines it, but with a clock that can be set."""

    def __init__(self) -> None:
        settings = parse({"backend": "memory"})
        super().__init__(Store(backend_plugin(settings.backend), settings.options, settings.default))
        self.clock = ManualClock()

    def open(self) -> Backend:
        return self._timed(super().open())

    def databases(self) -> Sequence[Backend]:
        return [self._timed(backend) for backend in super().databases()]

    def _timed(self, backend: Backend) -> Backend:
        opened: Any = backend.shared if isinstance(backend, SharedBackend) else backend
        assert opened._clock in (time.monotonic, self.clock)
        opened._clock = self.clock
        return backend

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)


class MutantsOfSqlite(SqliteHarness):
    """The SQLite backend, with a file in the current directory."""

    def __init__(self) -> None:
        super().__init__(Path.cwd())


class MutantsOfRedis(RedisHarness):
    """The Redis backend on a server of its own, which ends with the process of the mutant."""

    def __init__(self) -> None:
        super().__init__(RedisServer())
