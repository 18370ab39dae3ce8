"""The Redis backend is certified through Sentinels too, with writes that a replica acknowledges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from redicts.backends.redis import plugin
from redicts.contract import CHECKS, ConformanceCheck, Store
from redicts.contract.check import Need
from redicts.contract.stores import RedisStoreHarness
from tests.contract.harnesses import RedisHarness
from tests.contract.test_backends import LONG, keeps
from tests.support.sentinels import SentinelTrio

OF_CONNECTIONS: Final = [
    check for check in CHECKS if check.name.startswith(("failures.", "waits.any", "waits.each", "writes.all"))
]
"""The checks of what differs with acknowledgements and Sentinels. The long run makes all of them."""


@pytest.fixture(scope="module")
def harness(shared_trio: SentinelTrio) -> Iterator[RedisStoreHarness]:
    """One store for all checks."""
    settings = {name: value for name, value in shared_trio.configuration.items() if name != "backend"}
    made = RedisStoreHarness(Store(plugin, plugin.model.model_validate({**settings, "acknowledged_by": 1})))
    yield made
    made.close()


@pytest.mark.parametrize("check", CHECKS if LONG else OF_CONNECTIONS, ids=str)
def test_sentinels(check: ConformanceCheck, harness: RedisStoreHarness) -> None:
    """The backend keeps the check."""
    keeps(harness, RedisHarness.not_run - {Need.SILENCE} | {Need.FULL}, check)
