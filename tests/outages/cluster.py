"""Outages of the nodes of a cluster, and changes of its shape, under load.

Replication is asynchronous, so what a primary has acknowledged and not yet sent dies with it. So the scenarios that
replace a primary may lose acknowledged writes, and locks with them. Nothing else may: no slot that is moved while it is
written to, no nodes that come and go, no lost replies.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final
from unittest import mock

from redicts.backends.redis.cluster import ClusterBackend
from tests.outages.load import Load, drop_each_third_reply
from tests.outages.table import Row, Scenario
from tests.support.cluster import Cluster
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT, eventually

Disturb = Callable[[Cluster], float]
"""Disturbs the cluster, and returns when the nodes had agreed again."""

SECTIONS: Final = ("thread0", "thread1", "thread2", "task", "guarded")
"""The sections of the clients."""

_MOVES: Final = 6


def run(scenario: str, disturb: Disturb, most: float = 0) -> Row:
    """Load a cluster, disturb it, wait until each client writes again, and return the row.

    ``most`` is how many acknowledged writes may be lost. Then locks may be lost too, so that there may be as many
    overlaps.
    """
    with Cluster() as cluster, Load(cluster.configuration) as load:
        times = load.disturbed(partial(disturb, cluster))
        return load.row(scenario, *times)._replace(most_lost=most, most_overlaps=most)


def kill_a_primary(cluster: Cluster) -> float:
    """End a primary as a crash does: its replica is promoted."""
    primary = _busy(cluster)
    primary.kill()
    return _wait_for_another(cluster, primary)


def restart_a_primary(cluster: Cluster) -> float:
    """End a primary, and start it again when its replica is promoted: it becomes a replica of that one."""
    primary = _busy(cluster)
    primary.kill()
    _wait_for_another(cluster, primary)
    primary.restart()
    eventually(lambda: primary.info("replication")["role"] == "slave", "it is a replica", within=3 * TIMEOUT)
    return time.monotonic()


def pause_a_primary(cluster: Cluster) -> float:
    """Pause a primary until its replica is promoted; it comes back and believes itself primary for a while."""
    primary = _busy(cluster)
    primary.pause()
    agreed = _wait_for_another(cluster, primary)
    primary.resume()
    return agreed


def kill_a_replica(cluster: Cluster) -> float:
    """End a replica: nothing is to be agreed."""
    cluster.replica_of(_busy(cluster)).kill()
    return time.monotonic()


def reshard(cluster: Cluster) -> float:
    """Move the slots of all clients to other nodes and back, key by key, several times."""
    for number in range(_MOVES):
        for section in SECTIONS:
            slot = cluster.slot_of(section)
            others = [server for server in cluster.primaries if server is not cluster.owner(slot)]
            cluster.move(slot, others[number % 2], keys_at_once=1)
    return time.monotonic()


def add_and_remove_a_node(cluster: Cluster) -> float:
    """Let a node join, give it the slots of all clients, take them away again, and end it."""
    owners = {section: cluster.owner(cluster.slot_of(section)) for section in SECTIONS}
    node = cluster.add()
    for section in SECTIONS:
        cluster.move(cluster.slot_of(section), node, keys_at_once=1)
    for section, owner in owners.items():
        cluster.move(cluster.slot_of(section), owner, keys_at_once=1)
    cluster.remove(node)
    return time.monotonic()


def drop_replies() -> Row:
    """Lose each third reply of each node. The clients connect to proxies in place of the nodes."""
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster())
        proxies = {each.port: stack.enter_context(FaultyProxy(each.port)) for each in cluster.servers}
        stack.enter_context(_through(proxies))
        load = stack.enter_context(Load(cluster.configuration))
        primaries = [proxies[server.port] for server in cluster.primaries]
        return load.row(_DROPPED, *load.disturbed(partial(drop_each_third_reply, primaries)))


@contextlib.contextmanager
def _through(proxies: dict[int, FaultyProxy]) -> Iterator[None]:
    """Have clients of this process connect to a proxy in place of each node."""
    options = ClusterBackend._options

    def options_of_proxy(self: ClusterBackend, address: str) -> dict[str, Any]:
        found = options(self, address)
        return {**found, "port": proxies[found["port"]].port}

    with mock.patch.object(ClusterBackend, "_options", options_of_proxy):
        yield


def _busy(cluster: Cluster) -> RedisServer:
    """Return the primary of the first client."""
    return cluster.owner(cluster.slot_of(SECTIONS[0]))


def _wait_for_another(cluster: Cluster, primary: RedisServer) -> float:
    """Wait until all other nodes name another owner of the slots of a primary; return when that was seen."""
    slot = cluster.slot_of(SECTIONS[0])
    others = [server for server in cluster.servers if server is not primary and server.running]
    eventually(
        lambda: (
            all(cluster.says(server, slot) is not primary for server in others)
            and all(cluster.is_ok(server) for server in others)
        ),
        "the other nodes have agreed on another primary",
        within=3 * TIMEOUT,
    )
    return time.monotonic()


_DROPPED: Final = "each third reply is dropped"

_RUNS: Final[tuple[tuple[str, Disturb, float], ...]] = (
    ("a primary of a cluster is killed", kill_a_primary, math.inf),
    ("a primary of a cluster is killed and comes back", restart_a_primary, math.inf),
    ("a paused primary of a cluster comes back", pause_a_primary, math.inf),
    ("a replica of a cluster is killed", kill_a_replica, 0),
    ("busy slots are moved there and back", reshard, 0),
    ("a node is added and removed", add_and_remove_a_node, 0),
)

SCENARIOS: Final = [
    *[Scenario(name, partial(run, name, disturb, most)) for name, disturb, most in _RUNS],
    Scenario(_DROPPED, drop_replies),
]
