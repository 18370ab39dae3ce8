"""What ``acknowledged_by=1`` costs: a small write compared with the same one without it, on Redis with one replica.

Run it from the project's folder with ``python -m benchmarks.acknowledgements``; it starts its servers. Both sides
alternate, batch by batch, in one process, and medians of the processors' time are compared: that of the client, of the
primary and of its replica. Elapsed time depends on the way to the replica.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Final, NamedTuple

import redicts
from tests.support.servers import RedisServer

_WRITES: Final = 1_500
_BATCHES: Final = 9


class Cost(NamedTuple):
    """Microseconds for each write: of processors, and elapsed."""

    client: float
    primary: float
    replica: float
    elapsed: float


def busy(server: RedisServer) -> float:
    """Return the processor's time that a server has used, in seconds."""
    info = server.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def batch(node: redicts.Proxy, primary: RedisServer, replica: RedisServer) -> Cost:
    """Write a number many times."""
    before = (time.process_time(), busy(primary), busy(replica), time.perf_counter())
    for number in range(_WRITES):
        node.set("a", number)
    after = (time.process_time(), busy(primary), busy(replica), time.perf_counter())
    return Cost(*((end - begin) / _WRITES * 1e6 for begin, end in zip(before, after)))


def main() -> int:
    """Print the medians."""
    with RedisServer() as primary, RedisServer(replica_of=primary) as replica:
        configuration = {"host": primary.host, "port": primary.port}
        opened = [redicts.open({**configuration, "acknowledged_by": required}) for required in (0, 1)]
        costs: tuple[list[Cost], list[Cost]] = ([], [])
        for _ in range(_BATCHES):
            for database, found in zip(opened, costs):
                database.root().set("a", 0)
                found.append(batch(database.root(), primary, replica))
        for name in Cost._fields:
            plain, acknowledged = (statistics.median(getattr(cost, name) for cost in found) for found in costs)
            sys.stdout.write(
                f"{name}: {plain:.0f} us, acknowledged {acknowledged:.0f} us: {acknowledged / plain:.2f}\n"
            )
        for database in opened:
            database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
