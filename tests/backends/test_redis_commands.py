"""Commands: nothing iterates the keys of a server or matches patterns, and one operation is one round trip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from redicts import ABSENT, Proxy
from tests.backends.redis_tools import calls, front
from tests.support.servers import RedisServer

ALLOWED: Final = {
    *("fcall", "function|load", "evalsha", "eval", "time"),
    *(
        "hget",
        "hmget",
        "hexists",
        "hset",
        "hdel",
        "hlen",
        "hgetall",
        "hvals",
        "hkeys",
        "hscan",
        "hrandfield",
        "hstrlen",
    ),
    *("zadd", "zrem", "zcard", "zscore", "zrangebyscore"),
    *("get", "set", "del", "incrby", "unlink", "type"),
    *("publish", "subscribe", "psubscribe"),
}
"""Commands that the script may run. HSCAN iterates the fields of one hash, SCAN and KEYS all keys."""

PACKET: Final = {"hget", "hrandfield", "time"}
"""Commands that a read may send without the script."""

READS: Final = {"val", "val-of-a-leaf", "exists", "keys", "time-to-live"}

HARNESS: Final = {"auth", "info", "config", "config|resetstat", "client", "client|setinfo", "hello", "select"}
"""Commands of the tests and of the handshake of a connection."""


def use_everything(tree: Proxy) -> None:
    """Call every operation of a proxy."""
    tree.set([], {"a": {"b": 1, "c": {"d": [2]}}, "*": 3, "h?llo": {"[x]": 4}, "n": 1.5})
    tree.set("expiring", {"x": {str(number): number for number in range(50)}}, expire=600)
    tree.set("brief", {str(number): {"x": number} for number in range(50)}, expire=0.001)
    wide = {str(number): number for number in range(2_500)}
    tree.set("wide", wide)
    tree.set("huge", {str(number): wide for number in range(5)})
    for node in (tree, *map(tree.get, ("a", "*", "h?llo", "expiring", "wide", "absent", "huge"))):
        node.val()
        node.exists()
        node.time_to_live()
        node.keys()
        node.values()
        list(node.iter_children())
        list(node.children())
        len(node)
        bool(node == 1)
    assert "*" in tree
    assert "?" not in tree
    tree["a.b"].add(1)
    tree["a.b"].add(2**62)
    tree["n"].add(0.25)
    tree["a"].update({"c": {"e": 5}, "f": {}}, expire=600)
    tree["a"].update_with(lambda value: {**value, "g": 6})
    tree["a"].compare_and_set(1, 2)
    tree["absent"].compare_and_set(ABSENT, 2)
    tree.setdefault("a", 1)
    tree.setdefault("fresh", {"x": 1}, expire=600)
    with tree.transaction() as changes:
        changes.expect("*", 3)
        changes.set("*", {"?": 1})
        changes.delete("h?llo")
        changes.add("counted", 5)
        changes.expire("wide", 600)
    tree["expiring"].expire(None)
    tree["huge"].expire(600)
    tree.pop("wide")
    tree.pop("*")
    tree.pop("huge.1")
    tree.delete("huge")
    del tree["absent"]
    tree.clear()


def test_the_operations_of_a_proxy_use_allowed_commands(redis_server: RedisServer) -> None:
    """All operations of a proxy are calls of one function or script and plain reads, which run the allowed commands."""
    redis_server.command("CONFIG", "RESETSTAT")
    with front(redis_server) as tree:
        use_everything(tree)
    used = calls(redis_server)
    assert used.keys() - HARNESS <= ALLOWED, used.keys() - HARNESS - ALLOWED
    assert used.get("eval", 0) + used.get("function|load", 0) <= 1, "the source is sent once"


ONE_ROUND_TRIP: Final[dict[str, Callable[[Proxy], Any]]] = {
    "val": lambda tree: tree.val(),
    "val-of-a-leaf": lambda tree: tree["a.b"].val(),
    "exists": lambda tree: tree["a"].exists(),
    "keys": lambda tree: tree.keys(),
    "time-to-live": lambda tree: tree.time_to_live(),
    "set": lambda tree: tree.set("a.b", 2),
    "set-a-dict": lambda tree: tree.set("a", {"x": {"y": {"z": 1}}}, expire=600),
    "delete": lambda tree: tree.delete("a"),
    "clear": lambda tree: tree.clear(),
    "add": lambda tree: tree["a.b"].add(1),
    "expire": lambda tree: tree.expire(600),
    "update": lambda tree: tree.update({"a": {"x": 1}, "d": {"e": {"f": 1}}}),
    "pop": lambda tree: tree.pop("a"),
    "setdefault": lambda tree: tree.setdefault("z", 1),
    "compare-and-set": lambda tree: tree["a.b"].compare_and_set(1, 2),
}


@pytest.mark.parametrize("name", ONE_ROUND_TRIP)
def test_one_operation_is_one_round_trip(redis_server: RedisServer, name: str) -> None:
    """Operations that are documented as one round trip are one call, or the commands of one packet."""
    with front(redis_server) as tree:
        tree.set([], {"a": {"b": 1}, "c": 2})
        if name in READS:
            ONE_ROUND_TRIP[name](tree)  # then it is known which command answers
        redis_server.command("CONFIG", "RESETSTAT")
        ONE_ROUND_TRIP[name](tree)
        used = calls(redis_server)
    assert used.get("fcall", 0) + used.get("evalsha", 0) == 1 or used.keys() - HARNESS <= PACKET
    assert used.keys() - HARNESS <= ALLOWED - {"eval", "function|load"}


@pytest.mark.parametrize("name", ["val-of-a-leaf", "set", "add", "exists", "delete"])
def test_the_rest_of_the_database_costs_nothing(redis_server: RedisServer, name: str) -> None:
    """The commands of an operation on one leaf do not depend on the size of its dict or of the database."""

    def work(others: int) -> dict[str, int]:
        redis_server.command("FLUSHALL")
        tree.set("a", {"b": 1, **{f"sibling{number}": number for number in range(others)}})
        tree.set("a.other", 1)  # a dict that was set whole is split by the first change of a part
        tree.set("elsewhere", {str(number): {"x": number} for number in range(others)}, expire=600)
        if name in READS:
            operations[name](tree)
        redis_server.command("CONFIG", "RESETSTAT")
        operations[name](tree)
        # Sweeping takes turns, and is bounded.
        uncounted = HARNESS | {"time", "zrangebyscore"}
        return {name: count for name, count in calls(redis_server).items() if name not in uncounted}

    operations = ONE_ROUND_TRIP | {
        "exists": lambda tree: tree["a.b"].exists(),
        "delete": lambda tree: tree.delete("a.b"),
    }
    with front(redis_server) as tree:
        assert work(3) == work(900)
