"""``edit()`` of a counter in a dict on Redis, compared with redis-py's ``Lock`` around ``HGET`` and ``HSET``.

Run it from the project's folder with ``python -m benchmarks.edit``; it starts a server of its own. The database is in
use: it holds ten thousand leaves, a thousand of them with a TTL, and a hundred locks that another process holds. Both
sides of a ratio alternate, call by call, in one process, and medians are compared. The server counts the requests.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from typing import Any, Final

import redis

from benchmarks.report import medians, report_on_redis, row
from redicts import Pool, Proxy, section
from tests.support.servers import RedisServer

_COUNTED: Final = 100
"""The number of calls of which the requests are counted."""


def use(port: int) -> None:
    """Store leaves, and acquire locks that are never released."""
    Pool().reload(cfg={"port": port})
    for number in range(100):
        section("others").set(f"part{number}", {f"leaf{leaf}": leaf for leaf in range(90)})
        section("others").set(f"short{number}", {f"leaf{leaf}": leaf for leaf in range(10)}, expire=3600)
        Proxy(["others", f"part{number}"], lock_expire_timeout=3600).acquire()


def counters(port: int) -> dict[str, Callable[[], object]]:
    """Return functions that count in a dict: redis-py's with its lock, and those of redicts."""
    client = redis.Redis(port=port)
    Pool().reload(cfg={"port": port})
    counts = Proxy("jobs.counts")
    counts.set((), {f"name{number}": number for number in range(10)})
    client.hset("counts", mapping={f"name{number}": str(number) for number in range(10)})

    def theirs() -> None:
        with client.lock("lock of counts", timeout=30):
            count = int(client.hget("counts", "name1") or 0)
            client.hset("counts", "name1", str(count + 1))

    def edited() -> None:
        with counts.edit() as value:
            value["name1"] += 1

    def locked() -> None:
        with counts:
            counts.set("name1", counts.get("name1").val() + 1)

    return {
        "theirs": theirs,
        "edit()": edited,
        "with proxy": locked,
        "update_with()": lambda: counts.update_with(lambda value: {**value, "name1": value["name1"] + 1}),
    }


def requests(server: RedisServer, call: Callable[[], object]) -> float:
    """Return how many requests a call sends, as the server sees them."""
    client = redis.Redis(port=server.port)
    found = 0
    with client.monitor() as monitor:
        for _ in range(_COUNTED):
            call()
        client.echo("the end")
        while "ECHO" not in (command := monitor.next_command())["command"]:
            found += command["client_type"] != "lua"
    return found / _COUNTED


def measured(server: RedisServer, rounds: int) -> list[dict[str, Any]]:
    """Measure everything."""
    stranger = multiprocessing.get_context("spawn").Process(target=use, args=(server.port,))
    stranger.start()
    stranger.join()
    calls = counters(server.port)
    times = medians(calls, rounds)
    sent = {name: requests(server, call) for name, call in calls.items()}
    theirs = "Lock, HGET, HSET"
    return [
        row("edit() of a counter in a dict", times["edit()"], times["theirs"], theirs, None, "us"),
        row("requests of an edit()", sent["edit()"], sent["theirs"], theirs, 0.51, "sent"),
        row("val and set under a lock", times["with proxy"], times["theirs"], theirs, None, "us"),
        row("requests of that", sent["with proxy"], sent["theirs"], theirs, 1.0, "sent"),
        row("update_with(), without a lock", times["update_with()"], times["theirs"], theirs, None, "us"),
        row("requests of that", sent["update_with()"], sent["theirs"], theirs, 0.51, "sent"),
    ]


if __name__ == "__main__":
    sys.exit(report_on_redis(__doc__, measured))
