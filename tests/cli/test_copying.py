"""``copy``: between stores of all kinds, killed and continued, verified and counted."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis

from redicts import Packed
from redicts.cli import exits
from tests.cli.conftest import (
    MANY,
    checkpoints_in,
    leaves_in,
    open_database,
    put,
    put_raw,
    ttl_at,
    value_at,
)
from tests.cli.running import redicts, stop_after
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[FaultyProxy]:
    """Give a proxy in front of an empty Redis server."""
    with FaultyProxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def far(proxy: FaultyProxy) -> str:
    """Give the URL of the Redis database behind the proxy."""
    return f"redis://{proxy.host}:{proxy.port}/0"


def test_a_tree_goes_to_redis_and_back(file_url: str, redis_url: str, other_url: str) -> None:
    """SQLite to Redis and back preserves every leaf, with TTLs, packed dicts and empty values."""
    put(file_url, {"many": MANY, "dot.ted": {"a*": None}, "empty": {}, "list": [{"x": 1.5}]})
    put(file_url, Packed({"b": 1}), "packed")
    put(file_url, 2, "mortal", ttl=600_000)
    there = redicts("copy", file_url, redis_url, "--json")
    assert there.status == exits.DONE
    assert there.document["verified"]["equal"] == there.document["stored"] == 5005
    assert redicts("copy", redis_url, other_url).status == exits.DONE
    assert leaves_in(other_url) == leaves_in(file_url)
    assert 0 < (ttl_at(other_url, "mortal") or 0) <= 600_000
    assert ttl_at(other_url, "many") is None


def test_the_report_counts_both_sides(file_url: str, redis_url: str) -> None:
    """``--json`` reports both stores, what was stored, and the result of the comparison."""
    put(file_url, {"a": {"b": 1, "c": 2}})
    put(redis_url, {"a": {"c": 5}, "other": 3})
    document = redicts("copy", file_url, redis_url, "--json").document
    assert document["source"]["path"] == document["target"]["path"] == ""
    assert document["source"]["store"]["backend"] == "sqlite"
    del document["source"], document["target"]
    counts = {"equal": 2, "missing": 0, "different": 0, "ending": 0, "source_leaves": 2, "target_leaves": 3, "extra": 1}
    assert document == {
        "resumed": 0,
        "stored": 2,
        "gone": 0,
        "skipped": 0,
        "reasons": [],
        "foreign": {},
        "verified": {**counts, "paths": []},
    }
    assert value_at(redis_url) == {"a": {"b": 1, "c": 2}, "other": 3}
    text = redicts("copy", file_url, redis_url).out
    assert "2 of 2 leaves are equal" in text
    assert "the target has 3, 1 of them not from the source" in text


def test_a_part_is_copied_to_another_path(file_url: str, redis_url: str) -> None:
    """``--from`` and ``--to`` choose the paths, within one store too; ``--to-database`` chooses the database."""
    put(file_url, {"a": {"b": {"c": 1}}, "x": 2})
    assert redicts("copy", file_url, redis_url, "--from", "a.b", "--to", "new.node").status == exits.DONE
    assert value_at(redis_url) == {"new": {"node": {"c": 1}}}
    assert redicts("copy", file_url, file_url, "--from", "a", "--to", "x.y").status == exits.DONE
    assert value_at(file_url) == {"a": {"b": {"c": 1}}, "x": {"y": {"b": {"c": 1}}}}
    assert redicts("copy", file_url, file_url, "--to-database", "4").status == exits.DONE
    assert value_at(file_url, 4) == value_at(file_url)


@pytest.mark.parametrize("end", ["kill", "interrupt"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_an_interrupted_copy_is_continued(proxy: FaultyProxy, far: str, file_url: str, side: str, end: str) -> None:
    """It leaves whole batches and their checkpoint, and the same command continues and is equal at the end."""
    source, target = (far, file_url) if side == "source" else (file_url, far)
    put(source, MANY)
    put(target, {"there": "before"})
    stop_after(4, proxy, end, "copy", source, target)
    so_far = len(leaves_in(target)) - 1
    assert 0 < so_far < 5000
    assert [state["done"] for state in checkpoints_in(target)] == [so_far]
    done = redicts("copy", source, target, "--json")
    assert done.status == exits.DONE
    assert (done.document["resumed"], done.document["stored"]) == (so_far, 5000 - so_far)
    assert done.document["verified"]["equal"] == 5000
    assert value_at(target) == {**MANY, "there": "before"}
    assert checkpoints_in(target) == []


def test_an_interrupted_comparison_leaves_no_checkpoint(proxy: FaultyProxy, far: str, file_url: str) -> None:
    """The checkpoint is removed when everything is copied, before the comparison."""
    put(file_url, MANY)
    stop_after(8, proxy, "interrupt", "copy", file_url, far)
    assert value_at(far) == MANY
    assert checkpoints_in(far) == []


def test_a_change_between_two_runs_is_found(proxy: FaultyProxy, far: str, file_url: str) -> None:
    """If the target was emptied between two runs, the comparison finds it and names the remedy."""
    put(file_url, MANY)
    stop_after(4, proxy, "kill", "copy", file_url, far)
    database = open_database(far)
    database.run(database.store.delete(()))
    done = redicts("copy", file_url, far)
    assert done.status == exits.NEGATIVE
    assert "missing" in done.out
    assert "not equal: 'dict" in done.out
    assert "--restart" in done.err
    assert redicts("copy", file_url, far, "--restart").status == exits.DONE
    assert value_at(far) == MANY


def test_a_store_that_fails_is_status_3(proxy: FaultyProxy, far: str, file_url: str) -> None:
    """A failure of one side is reported in one line, and the next run continues."""
    put(file_url, MANY)
    store = json.dumps({"host": proxy.host, "port": proxy.port, "retries": 0})
    proxy.pass_requests(4)
    proxy.drop_replies()
    done = redicts("copy", file_url, store)
    assert (done.status, done.out, done.err.count("\n")) == (exits.FAILED, "", 1)
    assert redicts("copy", file_url, store, "--json").document["resumed"] > 0
    assert value_at(far) == MANY


def test_leaves_that_cannot_be_read_are_copied(file_url: str, redis_url: str) -> None:
    """Their bytes move as they are, with their TTLs, to Redis and back."""
    put(file_url, {"a": 1, "b": 2})
    put_raw(file_url, "odd")
    put_raw(file_url, "models", "one", data=b'\x04models 29\n{"$type":"invoice","value":1}')
    put_raw(file_url, "pickled", data=b"\x04pickle 40\nS" + bytes(range(39)))
    done = redicts("copy", file_url, redis_url, "--json")
    assert done.status == exits.DONE
    assert (done.document["stored"], done.document["skipped"], done.document["reasons"]) == (5, 0, [])
    assert done.document["verified"]["equal"] == 5
    assert leaves_in(redis_url) == leaves_in(file_url)
    assert redicts("copy", redis_url, file_url, "--from", "models", "--to", "x.y").status == exits.DONE
    assert leaves_in(file_url)["x", "y", "one"] == leaves_in(file_url)["models", "one"]


def test_a_leaf_that_cannot_be_signed_again_is_named(file_url: str, redis_url: str) -> None:
    """A signed value whose key is not there is not copied to another path: it is named, and the status is 1."""
    put(file_url, {"a": {"b": 1}})
    put_raw(file_url, "a", "pickled", data=b"\x04pickle 40\nS" + bytes(range(39)))
    pickle = {"name": "pickle", "keys": ["sixteen characters"]}
    source = json.dumps({"backend": "sqlite", "path": file_url.removeprefix("sqlite:///"), "accept": [pickle]})
    done = redicts("copy", source, redis_url, "--from", "a", "--to", "z", "--json")
    assert done.status == exits.NEGATIVE
    assert (done.document["stored"], done.document["skipped"]) == (1, 1)
    assert "'a.pickled'" in done.document["reasons"][0]
    assert "'a.pickled'" in done.err
    assert done.document["verified"]["paths"] == ["'a.pickled'"]
    assert value_at(redis_url) == {"z": {"b": 1}}


def test_wrong_use_of_copy(file_url: str, redis_url: str) -> None:
    """A copy onto itself, into itself, of nothing, or with options that do not fit, is refused."""
    put(file_url, {"a": {"b": 1}})
    for arguments in (
        [file_url, file_url],
        [file_url, file_url, "--to", "a"],
        [file_url, file_url, "--from", "a.b", "--to", "a"],
        [file_url],
        [file_url, redis_url, "--delete"],
        [redis_url, file_url, "--from-1.0", "--from", "a"],
        ["nonsense", file_url, "--from-1.0"],
    ):
        done = redicts("copy", *arguments)
        assert (done.status, done.out, done.err.count("\n")) == (exits.WRONG, "", 1), done
    assert value_at(file_url) == {"a": {"b": 1}}
    assert redicts("copy", redis_url, file_url, "--from", "nothing").status == exits.NEGATIVE


def test_ttls_are_left_out_on_request(file_url: str, redis_url: str) -> None:
    """``--without-ttls`` stores everything without expiry."""
    put(file_url, 1, "a", ttl=600_000)
    assert redicts("copy", file_url, redis_url, "--without-ttls").status == exits.DONE
    assert ttl_at(redis_url, "a") is None


def test_the_data_of_1_0_is_moved(server: RedisServer, redis_url: str, file_url: str) -> None:
    """``--from-1.0`` reads the data of redicts 1.0, stores it in any store, and reports what it skipped."""
    with redis.Redis(host=server.host, port=server.port) as client:
        client.set("v:.garage.car.wheels", "4")
        client.set("v:.garage.ticket", "17", ex=600)
        done = redicts("copy", "--from-1.0", redis_url, file_url, "--json")
        assert done.status == exits.DONE
        assert done.document == {"read": 2, "stored": 2, "already_there": 0, "gone": 0, "removed": 0, "skipped": []}
        assert value_at(file_url) == {"garage": {"car": {"wheels": 4}, "ticket": 17}}
        client.set("v:.broken", "{")
        done = redicts("copy", "--from-1.0", redis_url, file_url, "--delete", "--json")
        assert done.status == exits.NEGATIVE
        assert [(each["key"], each["reason"]) for each in done.document["skipped"]] == [("v:.broken", "NO_JSON")]
        assert client.keys("*") == [b"v:.broken"]
    server.stop()
    try:
        assert redicts("copy", "--from-1.0", redis_url, file_url).status == exits.FAILED
    finally:
        server.restart()
