"""Clusters of one node and of three compared with one server, and what finding the section of a transaction costs.

Run it from the project's folder with ``python -m benchmarks.cluster``; it starts servers of its own. The nodes have no
replicas, as the server has none: a replica costs the same behind either. All sides of a ratio are measured in one run,
in turn. One node tells what a cluster costs, and three tell what more nodes gain. ``--processes N`` sets how many
processes write to as many sections. Three nodes can have three times the throughput of one only where there are as many
cores as processes and nodes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Final

import redicts
from benchmarks.cores import cores_apart
from redicts.backends.redis.cluster import ClusterBackend
from redicts.backends.redis.cluster_nodes import Nodes
from redicts.backends.redis.options import RedisOptions
from redicts.codecs.json import codec
from redicts.core.envelope import LeafFormat
from redicts.core.locks.records import Mode, Owner, Request
from redicts.core.minitransaction import Outcome, Status, Transaction
from redicts.core.store import TreeStore
from tests.support.cluster import Cluster, sections_in_each
from tests.support.servers import RedisServer

_ROUNDS: Final = 1_500
_ROUTED: Final = 50_000
_SECS: Final = 2.0

_spawn: Final[Any] = multiprocessing.get_context("spawn")


class _NoSection:
    """Stands for a section, and does nothing."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes

    def execute(self, _transaction: Transaction, _deadline: float | None = None) -> Outcome:
        return Outcome(Status.APPLIED)


def operations(configuration: Mapping[str, Any], section: str) -> dict[str, Callable[[], object]]:
    """Return operations in one section of a store, by their names."""
    node = redicts.open(dict(configuration)).section(section)
    node.set("leaf", 1)
    lock = node.lock()

    def pair() -> None:
        lock.acquire()
        lock.release()

    return {
        "set": lambda: node.set("leaf", 1),
        "val": lambda: node.get("leaf").val(),
        "set of a dict": lambda: node.set("dict", {"a": 1, "b": {"c": 2}}),
        "acquire and release": pair,
    }


def medians(configurations: Sequence[Mapping[str, Any]], section: str) -> dict[str, list[float]]:
    """Return the median microseconds of each operation on each of some stores, taken in turn."""
    stores = [operations(configuration, section) for configuration in configurations]
    found = {}
    for name in stores[0]:
        sides = [(list[float](), store[name]) for store in stores]
        for number in range(_ROUNDS):
            first = number % len(sides)
            for taken, run in (*sides[first:], *sides[:first]):
                begun = time.perf_counter()
                run()
                taken.append(time.perf_counter() - begun)
        found[name] = [median(taken) * 1e6 for taken, _ in sides]
    return found


def routing() -> dict[str, float]:
    """Return the microseconds of CPU time that finding the section of a transaction takes."""
    backend = ClusterBackend(RedisOptions(cluster=True, nodes=("127.0.0.1:1",)), 0)
    nodes = backend._nodes.get()
    sections: dict[str | None, Any] = {"garage": _NoSection(nodes)}
    backend._sections = sections
    nodes.listed["garage"] = float("inf")
    store = TreeStore(LeafFormat(codec))
    request = Request("a/1", Owner("a.1", "here"), Mode.EXCLUSIVE, [("garage", "car", "paint")], 1)
    transactions = {
        "set of a leaf": next(store.write(("garage", "car"), 1)),
        "acquire at a depth of 3": next(store.acquire(request, 1000, 0)),
    }
    found = {}
    for name, transaction in transactions.items():
        assert isinstance(transaction, Transaction)
        best = float("inf")
        for _ in range(5):
            begun = time.process_time()
            for _ in range(_ROUTED):
                backend.execute(transaction)
            best = min(best, (time.process_time() - begun) / _ROUTED)
        found[name] = best * 1e6
    return found


def _write(configuration: Mapping[str, Any], section: str, pipe: Connection) -> None:
    node = redicts.open(dict(configuration)).section(section)
    node.set("leaf", 0)
    pipe.send("ready")
    pipe.recv()
    count, end = 0, time.perf_counter() + _SECS
    while time.perf_counter() < end:
        node.set("leaf", count)
        count += 1
    pipe.send(count)


def throughput(configuration: Mapping[str, Any], sections: list[str]) -> float:
    """Return how many writes a second as many processes as sections make together."""
    pipes, processes = [], []
    for section in sections:
        mine, theirs = _spawn.Pipe()
        process = _spawn.Process(target=_write, args=(dict(configuration), section, theirs), daemon=True)
        process.start()
        pipes.append(mine)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("go")
    total = sum(pipe.recv() for pipe in pipes)
    for process in processes:
        process.join()
    return float(total / _SECS)


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--processes", type=int, default=6)
    processes = parser.parse_args().processes
    out = sys.stdout.write
    for name, micros in routing().items():
        out(f"routing, {name}: {micros:.2f} us\n")
    with RedisServer() as server, Cluster(primaries=1, replicas=0) as node, Cluster(replicas=0) as cluster:
        sides = [{"host": server.host, "port": server.port}, node.configuration, cluster.configuration]
        sections = list(sections_in_each(cluster, -(-processes // 3))[:processes])
        nodes = [*node.servers, *cluster.servers]
        with cores_apart(server.pid, *[each.pid for each in nodes]):
            found = medians(sides, sections[0])
        for name, figures in found.items():
            out(f"{name}: {_compared(figures, 'us')}\n")
        rates = [[throughput(side, sections) for side in sides] for _ in range(3)]
        best = [max(each) for each in zip(*rates)]
        out(f"{processes} processes on as many sections: {_compared(best, '/s')}\n")
    return 0


def _compared(figures: Sequence[float], unit: str) -> str:
    first = figures[0]
    texts = [
        f"{side} {figure:.1f} {unit} ({figure / first:.3f})"
        for side, figure in zip(("one server", "one node", "three nodes"), figures)
    ]
    return ", ".join(texts)


if __name__ == "__main__":
    sys.exit(main())
