"""Large trees: the work of each call is bounded, and results are correct.

Work is counted in commands, fields and entries of replies, because times differ between machines.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from typing import Any, Final

import pytest
import redis

from redicts import Pool, StoreError, Unsupported, root
from redicts.backends.redis import RedisBackend, functions
from redicts.core.minitransaction import Delete, Scope, Transaction
from redicts.transfer.leaves import pages
from tests.backends.redis_tools import contents, front, key
from tests.support.servers import RedisServer

NEWEST_ONLY: Final = "the work is counted in the script, which is the same on every version"

LEAVES: Final = 1_000_000 if os.environ.get("REDICTS_TESTS") == "long" else 40_000
FEWER: Final = LEAVES // 4
SMALL: Final = 100
"""How many leaves one of the nested dicts has."""

MOST_ENTRIES: Final = 5_000
"""``Capabilities.atomic_entries``: the most values that one call touches."""

_SCRIPT: Final = functions.SCRIPT

_COUNTING: Final = b"""
local server, commands, fields = redis, 0, 0
local function counted(how)
  return function(...)
    local name, key = ...
    local reply = how(...)
    commands = commands + 1
    if name == 'HGETALL' or name == 'HVALS' or name == 'HKEYS' then
      fields = fields + server.call('HLEN', key)
    elseif name == 'HSCAN' then
      fields = fields + #reply[2] / 2
    end
    if commands > 8 * %(most)d or fields > 3 * %(most)d then
      error('one call ran ' .. commands .. ' commands and looked at ' .. fields .. ' fields')
    end
    return reply
  end
end
local redis = { call = counted(server.call), pcall = counted(server.pcall) }
""" % {b"most": MOST_ENTRIES}
"""Precedes the script, and fails a call that runs more than a few commands per value that it may touch."""


class Meter:
    """Makes the script count its work, and counts its calls and the entries of each reply."""

    def __init__(self) -> None:
        self.requests = 0
        self.most_entries = 0
        self.allowed_entries = MOST_ENTRIES
        """How many values each call may touch, as its argument."""

    def instrument(self, command: bytes) -> bytes:
        """Return a command with the counting script in place of the backend's."""
        command = functions.as_script(command)
        if _bulk(_SCRIPT) not in command and _bulk(_sha(_SCRIPT)) not in command:
            return command
        self.requests += 1
        for old, new in (
            (_SCRIPT, _COUNTING + _SCRIPT),
            (_sha(_SCRIPT), _sha(_COUNTING + _SCRIPT)),
            (b"%d" % MOST_ENTRIES, b"%d" % self.allowed_entries),
        ):
            command = command.replace(_bulk(old), _bulk(new), 1)
        return command

    def examine(self, reply: Any) -> Any:
        """Assert that a reply is not large, and return it."""
        self.most_entries = max(self.most_entries, _count(reply))
        assert self.most_entries <= 5 * MOST_ENTRIES
        return reply


def _bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def _sha(script: bytes) -> bytes:
    return hashlib.sha1(script).hexdigest().encode()


def _count(reply: Any) -> int:
    return sum(map(_count, reply)) if isinstance(reply, list) else 1


def slowest(server: RedisServer) -> float:
    """Return the milliseconds of the longest command in the server's slow log."""
    log: Any = server.command("SLOWLOG", "GET", 1_000)
    return float(max((microseconds for _, _, microseconds, *_ in log), default=0)) / 1000


def shape_of(name: str, size: int) -> dict[str, Any]:
    """Return a tree of many leaves: all in one dict, or in dicts of a hundred."""
    numbers = itertools.count()
    if name == "flat":
        return {f"n{number}": number for number in range(size)}
    return {f"d{outer}": {f"n{inner}": next(numbers) for inner in range(SMALL)} for outer in range(size // SMALL)}


def lay_down(shape: dict[str, Any], *, expired: bool = False) -> None:
    """Write a tree at ``big`` without the backend, on request with expired leaves only."""
    sign = b"\x02%016d" % 5 if expired else b""
    dicts = {b"v:.big." + name.encode(): below for name, below in shape.items() if isinstance(below, dict)}
    client = backend().client
    with client.pipeline(transaction=False) as pipe:
        pipe.hset("v:", "big", b"\x01")
        if dicts:
            for name in dicts:
                pipe.hset("v:.big", name.rpartition(b".")[2], b"\x01")
        for name, leaves in (dicts or {b"v:.big": shape}).items():
            for names in _chunks(list(leaves)):
                pipe.hset(name, mapping={leaf: sign + b"%d" % leaves[leaf] for leaf in names})
                if expired:
                    pipe.zadd("x:", {name + b"\0" + leaf.encode(): 5 for leaf in names})
        pipe.execute()
    client.connection_pool.disconnect()


def _chunks(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), 1_000):
        yield names[start : start + 1_000]


@pytest.fixture(params=["flat", "nested"])
def shape(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Give a large tree, as one flat dict and as nested dicts."""
    return shape_of(request.param, LEAVES)


@pytest.fixture(params=["flat", "nested"])
def smaller_shape(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Give a tree that is some times larger than what one call may touch."""
    return shape_of(request.param, FEWER)


@pytest.fixture
def meter(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Meter]:
    """Have the pool use the server, with every connection under a meter."""
    meter = Meter()
    connection: Any = redis.Connection
    send, read = connection.send_packed_command, connection.read_response
    monkeypatch.setattr(
        connection,
        "send_packed_command",
        lambda self, command, *more, **named: send(self, [*map(meter.instrument, command)], *more, **named),
    )
    monkeypatch.setattr(
        connection, "read_response", lambda self, *more, **named: meter.examine(read(self, *more, **named))
    )
    with front(redis_server):
        redis_server.command("CONFIG", "SET", "slowlog-log-slower-than", 1_000)
        redis_server.command("SLOWLOG", "RESET")
        yield meter
    print(  # shown with -s; nothing depends on the time
        f"{redis_server.executable}: {meter.requests} requests, at most {meter.most_entries} entries each; "
        f"the slowest held the server for {slowest(redis_server):.1f} ms"
    )


def backend() -> RedisBackend:
    """Return the backend of the pool."""
    found = Pool().database().backend
    assert isinstance(found, RedisBackend)
    return found


def test_the_meter_fails_a_call_that_does_too_much(meter: Meter) -> None:
    """A call that reads a large dict whole fails under the meter."""
    shape = {f"n{number}": number for number in range(31_000)}
    lay_down(shape)
    too_much = Transaction(writes=(Delete(key("big"), Scope.SUBTREE),))
    assert root()["big"].val() == shape
    meter.allowed_entries = 1_000_000
    with pytest.raises(StoreError, match=r"one call .* looked at 31000 fields"):
        backend().execute(too_much)


@pytest.mark.timeout(3_600)
def test_a_large_tree_is_read_and_changed_in_bounded_calls(
    redis_server: RedisServer, meter: Meter, shape: dict[str, Any]
) -> None:
    """Reading, walking, giving a TTL, asking for it and clearing are right, and each request's work is bounded."""
    tree = root()
    lay_down(shape)
    tree.set("small", 1)
    big = tree["big"]
    assert big.exists()
    assert big.val() == shape
    assert len(big) == len(shape)
    assert set(big.keys()) == shape.keys()
    assert big.time_to_live() == -1
    assert sum(1 for _ in big.iter_children()) == LEAVES
    with pytest.raises(Unsupported, match="more values than this store changes at once"):
        big.update_with(lambda value: value)
    with pytest.raises(Unsupported), tree.transaction() as changes:
        changes.delete("big")
    big.expire(3_600)
    assert 3_000 < big.time_to_live() <= 3_600
    big.clear()
    assert not big.exists()
    assert tree.val() == {"small": 1}
    assert contents(redis_server).data() == {b"v:": {b"small": b"1"}}
    # A page of a walk has at least a hundred leaves, and each of the seven walks may be followed by its changes.
    assert meter.requests <= 20 * LEAVES / 100


@pytest.mark.timeout(3_600)
def test_a_large_tree_is_stored_and_taken_in_bounded_calls(
    redis_server: RedisServer, meter: Meter, smaller_shape: dict[str, Any]
) -> None:
    """Setting, overwriting and popping take several bounded calls."""
    tree = root()
    tree.set("big", smaller_shape)
    assert tree["big"].val() == smaller_shape
    name, value = next(iter(smaller_shape.items()))
    tree.set("big", {name: value})
    assert tree.val() == {"big": {name: value}}
    tree.set("big", smaller_shape)
    assert tree.pop("big") == smaller_shape
    assert contents(redis_server).data() == {}
    assert meter.requests <= 20 * FEWER / 100


def test_a_large_update_takes_few_requests(meter: Meter) -> None:
    """An update with more leaves than one call takes needs some more calls, not one per leaf."""
    shape = {f"n{number}": number for number in range(MOST_ENTRIES + 1_000)}
    tree = root()
    tree.set("big", {"n5": 0, "other": 1})
    before = meter.requests
    tree["big"].update(shape)
    assert tree["big"].val() == {**shape, "other": 1}
    assert meter.requests - before <= 100


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("first", ["read", "names", "write", "clear"])
def test_a_tree_of_expired_leaves(redis_server: RedisServer, meter: Meter, shape: dict[str, Any], first: str) -> None:
    """When every leaf of a large tree has expired and is still there, each call is correct and bounded."""
    tree = root()
    lay_down(shape, expired=True)
    big = tree["big"]
    if first == "read":
        assert big.val() is None
        assert not big.exists()
        assert big.time_to_live() == -2
        assert list(big.iter_children()) == []
    elif first == "names":
        assert tree.keys() == []
        assert big.keys() == []
    elif first == "write":
        tree.set("big", 5)
        assert tree.val() == {"big": 5}
        assert tree.setdefault("big", 6) == 5
        with tree.transaction() as changes:
            changes.expect("big", 5)
            changes.set("big.a", 6)
        assert tree.val() == {"big": {"a": 6}}
    else:
        tree.delete("big")
        tree.clear()
        assert contents(redis_server).data() == {}
    assert big.exists() is (first == "write")
    assert meter.requests <= LEAVES / 100


def test_writes_elsewhere_free_expired_leaves(redis_server: RedisServer, meter: Meter) -> None:
    """Each write removes more than one expired leaf, wherever that is."""
    shape = {f"n{number}": number for number in range(3_000)}
    lay_down(shape, expired=True)
    written = 0
    while contents(redis_server).data().keys() != {b"v:"} and written < len(shape):
        written = root()["counter"].add(1)
    assert written <= len(shape) / 2
    assert contents(redis_server).data() == {b"v:": {b"counter": b"%d" % written}}


def test_pages_of_a_tree_that_changes(meter: Meter, smaller_shape: dict[str, Any]) -> None:
    """Reading pages while others write and remove finds each leaf that stays at least once, and ends."""
    shape, tree = smaller_shape, root()
    lay_down(shape)
    gone = set(list(shape)[::7])
    found: set[str] = set()
    pending = iter(sorted(gone))
    for number, leaf in enumerate(leaf for page in pages(Pool().database(), ("big",)) for leaf in page.leaves):
        found.add(".".join(leaf.path))
        if number % 100 == 0:
            tree.set(f"big.new{number}", 1)
            for name in itertools.islice(pending, 20):
                tree.delete(f"big.{name}")
    staying = shape.keys() - gone
    if len(shape) == FEWER:
        assert staying <= found
    else:
        assert {f"{name}.n{inner}" for name in staying for inner in range(SMALL)} <= found
    assert len(found) <= FEWER + FEWER // 50
