"""The adapters of blocking backends are certified by the checks of parts for asyncio."""

from __future__ import annotations

import pytest

from redicts.aio.adapters import InLoop, InThreads
from redicts.backends.memory import MemoryBackend
from redicts.contract import CHECKS, certify
from redicts.core.async_backend import AsyncBackend
from tests.contract.harnesses import InstanceHarness


class CalledInTheLoop(MemoryBackend):
    """The store in memory, as tasks call it."""

    def for_asyncio(self) -> AsyncBackend:
        return InLoop(self)


class CalledInThreads(MemoryBackend):
    """A store that is called in threads."""

    def for_asyncio(self) -> AsyncBackend:
        return InThreads(self)


@pytest.mark.parametrize("kind", [CalledInTheLoop, CalledInThreads])
def test_an_adapter_keeps_the_rules(kind: type[MemoryBackend]) -> None:
    """Each check of parts for asyncio passes, so every plugin works under asyncio as it does for threads."""
    checks = [check for check in CHECKS if check.name.startswith("tasks.")]
    report = certify(InstanceHarness(kind), checks=checks)
    assert report.passed, str(report)
    assert len(report.results) == len(checks)
