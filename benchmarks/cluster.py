"""A cluster of three nodes compared with one server, and what finding the section of a transaction costs.

Run it from the project's folder with ``python -m benchmarks.cluster``; it starts servers of its own. The nodes have no
replicas, as the server has none: a replica costs the same behind either. Both sides of a ratio are measured in one run,
in turn. ``--processes N`` sets how many processes write to as many sections. Three nodes can have three times the
throughput of one only where there are as many cores as processes and nodes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Final

import redicts
from redicts.backends.redis.cluster import ClusterBackend
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


def ratios(server: RedisServer, cluster: Cluster) -> dict[str, tuple[float, float]]:
    """Return the median microseconds of each operation on one server and on the cluster, taken in turn."""
    (section, *_) = sections_in_each(cluster)
    ours = operations(cluster.configuration, section)
    theirs = operations({"host": server.host, "port": server.port}, section)
    found = {}
    for name in ours:
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(_ROUNDS):
            sides = ((times[0], theirs[name]), (times[1], ours[name]))
            for taken, run in sides if number % 2 else reversed(sides):
                begun = time.perf_counter()
                run()
                taken.append(time.perf_counter() - begun)
        found[name] = (median(times[0]) * 1e6, median(times[1]) * 1e6)
    return found


def routing() -> dict[str, float]:
    """Return the microseconds of CPU time that finding the section of a transaction takes."""
    backend = ClusterBackend(RedisOptions(cluster=True, nodes=("127.0.0.1:1",)), 0)
    sections: dict[str | None, Any] = {"garage": _NoSection()}
    backend._sections = sections
    backend._nodes.get().listed["garage"] = float("inf")
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
    with RedisServer() as server, Cluster(replicas=0) as cluster:
        for name, (theirs, ours) in ratios(server, cluster).items():
            out(f"{name}: one server {theirs:.1f} us, cluster {ours:.1f} us, ratio {ours / theirs:.3f}\n")
        names = sections_in_each(cluster, -(-processes // 3))
        sections = [name for each in zip(*[iter(names)] * (-(-processes // 3))) for name in each][:processes]
        one = {"host": server.host, "port": server.port}
        rates = [(throughput(one, sections), throughput(cluster.configuration, sections)) for _ in range(3)]
        best = [max(each) for each in zip(*rates)]
        out(f"{processes} processes on as many sections: one server {best[0]:.0f}/s, three nodes {best[1]:.0f}/s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
