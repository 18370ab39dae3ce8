"""Outages of a primary, its replicas and their Sentinels, under load through the Sentinels.

A write is safe if the replica that is promoted has acknowledged it, so certainly if each replica must. One of two is
enough when the primary dies: what has reached one replica has normally reached the other, and Sentinel prefers the
replica that was ahead. It is not enough when the primary lives on: it keeps the replica that is not promoted for a
while, and that acknowledges what the new primary never gets.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final
from unittest import mock

from redicts.backends.redis.sentinel import Sentinels
from tests.outages.load import Load, drop_each_third_reply
from tests.outages.table import Row, Scenario
from tests.support.proxy import FaultyProxy
from tests.support.sentinels import SentinelTrio

Disturb = Callable[[SentinelTrio], float]
"""Disturbs the servers, and returns when they had agreed again."""

SETTINGS: Final = {"socket_timeout_secs": 1, "connect_timeout_secs": 0.5}
"""The timeouts of the clients, which bound how long one of them waits for a primary that hangs."""

PAUSED: Final = "a paused primary comes back, 1 acknowledges"
DROPPED: Final = "each third reply is dropped, 1 acknowledges"


def run(scenario: str, disturb: Disturb, acknowledged_by: int = 1, most: float = 0) -> Row:
    """Load a trio, disturb it, wait until each client writes again, and return the row.

    ``most`` is how many acknowledged writes may be lost. Then locks may be lost too, so that there may be as many
    overlaps.
    """
    with SentinelTrio() as trio, Load({**trio.configuration, **SETTINGS, "acknowledged_by": acknowledged_by}) as load:
        times = load.disturbed(partial(disturb, trio))
        trio.restore()
        return load.row(scenario, *times)._replace(most_lost=most, most_overlaps=most)


def kill_the_primary(trio: SentinelTrio) -> float:
    """End the primary as a crash does."""
    primary = trio.primary
    primary.kill()
    return trio.wait_until_agreed(other_than=primary)


def kill_a_replica(trio: SentinelTrio) -> float:
    """End one of two replicas: nothing is to be agreed."""
    trio.replicas[0].kill()
    return time.monotonic()


def kill_a_sentinel(trio: SentinelTrio) -> float:
    """End a Sentinel, and then the primary, which the other two must replace."""
    trio.sentinels[0].kill()
    return kill_the_primary(trio)


def pause_the_primary(trio: SentinelTrio) -> float:
    """Pause the primary until another one has been promoted; it comes back and believes itself primary for a while."""
    primary = trio.primary
    primary.pause()
    agreed = trio.wait_until_agreed(other_than=primary)
    primary.resume()
    return agreed


def restart_the_primary(trio: SentinelTrio) -> float:
    """End the primary, start it again when another one is promoted, and wait until it is a replica."""
    primary = trio.primary
    kill_the_primary(trio)
    primary.restart()
    trio.wait_until_whole()
    return time.monotonic()


def fail_over(trio: SentinelTrio) -> float:
    """Have an operator exchange the primary for a replica, and wait until both others follow it."""
    trio.fail_over()
    trio.wait_until_whole()
    return time.monotonic()


def drop_replies() -> Row:
    """Lose each third reply of the primary. The Sentinels name proxies to the clients."""
    with contextlib.ExitStack() as stack:
        trio = stack.enter_context(SentinelTrio())
        proxies = {each.port: stack.enter_context(FaultyProxy(each.port)) for each in trio.servers}
        stack.enter_context(_naming(proxies))
        load = stack.enter_context(Load({**trio.configuration, **SETTINGS, "acknowledged_by": 1}))
        primary = proxies[trio.primary.port]
        return load.row(DROPPED, *load.disturbed(partial(drop_each_third_reply, [primary])))


@contextlib.contextmanager
def _naming(proxies: dict[int, FaultyProxy]) -> Iterator[None]:
    """Have clients of this process connect to a proxy in place of the server that Sentinels name."""
    asking = Sentinels.asking

    def asking_for_proxies(self: Sentinels, seconds: float) -> Any:
        host, port = yield from asking(self, seconds)
        return host, proxies[port].port

    with mock.patch.object(Sentinels, "asking", asking_for_proxies):
        yield


_RUNS: Final[tuple[tuple[str, Disturb, int, float], ...]] = (
    ("a primary is killed, 1 replica acknowledges", kill_the_primary, 1, 0),
    ("a primary is killed and comes back, 2 acknowledge", restart_the_primary, 2, 0),
    ("a primary is killed, none acknowledges", kill_the_primary, 0, math.inf),
    ("a replica is killed, 1 acknowledges", kill_a_replica, 1, 0),
    ("a Sentinel is killed, then the primary, 1 acknowledges", kill_a_sentinel, 1, 0),
    (PAUSED, pause_the_primary, 1, 0),
    ("a paused primary comes back, none acknowledges", pause_the_primary, 0, math.inf),
    ("an operator exchanges the primary, 2 acknowledge", fail_over, 2, 0),
    ("an operator exchanges the primary, 1 acknowledges", fail_over, 1, math.inf),
)

SCENARIOS: Final = [
    *[Scenario(name, partial(run, name, disturb, required, most)) for name, disturb, required, most in _RUNS],
    Scenario(DROPPED, drop_replies),
]
