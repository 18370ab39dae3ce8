"""``copy``: between stores of all kinds, killed and continued, verified and counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis

from redicts import Packed
from redicts.cli import exits
from redicts.core.minitransaction import VALUES, Key, Put, Transaction
from redicts.transfer.checkpoints import unfinished
from tests.cli.conftest import put, tree_at, value_at
from tests.cli.running import Running, redicts
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer

MANY = {f"dict{one:02}": {f"name{two:03}": two for two in range(100)} for one in range(50)}


def test_a_tree_goes_to_redis_and_back(file_url: str, redis_url: str, tmp_path: Path) -> None:
    """SQLite to Redis and back is equal at the end, leaf for leaf, with TTLs, packed dicts and what is empty."""
    put(file_url, {"many": MANY, "dot.ted": {"a*": None}, "empty": {}, "list": [{"x": 1.5}]})
    put(file_url, Packed({"b": 1}), "packed")
    put(file_url, 2, "mortal", ttl=600_000)
    there = redicts("copy", file_url, redis_url, "--json")
    assert there.status == exits.DONE
    assert there.document["verified"]["equal"] == there.document["stored"] == 5005
    back = f"sqlite:///{tmp_path}/back.db"
    assert redicts("copy", redis_url, back).status == exits.DONE
    first, last = tree_at(file_url), tree_at(back)
    assert last.run(last.store.leaves(())) == first.run(first.store.leaves(()))
    ttl = last.run(last.store.ttl(("mortal",)))
    assert ttl is not None
    assert 0 < ttl <= 600_000
    assert last.run(last.store.ttl(("many",))) is None


def test_the_report_counts_both_sides(file_url: str, redis_url: str) -> None:
    """``--json`` tells where from, where to, what was stored, and what the comparison found."""
    put(file_url, {"a": {"b": 1, "c": 2}})
    put(redis_url, {"a": {"c": 5}, "other": 3})
    document = redicts("copy", file_url, redis_url, "--json").document
    assert document["source"]["path"] == document["target"]["path"] == ""
    assert document["source"]["store"]["backend"] == "sqlite"
    del document["source"], document["target"]
    assert document == {
        "resumed": 0,
        "stored": 2,
        "gone": 0,
        "skipped": 0,
        "reasons": [],
        "verified": {
            "equal": 2,
            "missing": 0,
            "different": 0,
            "ending": 0,
            "source_leaves": 2,
            "target_leaves": 3,
            "extra": 1,
            "paths": [],
        },
    }
    assert value_at(redis_url) == {"a": {"b": 1, "c": 2}, "other": 3}
    told = redicts("copy", file_url, redis_url).out
    assert "2 of 2 leaves are equal" in told
    assert "3 are there, 1 of them not from the source" in told


def test_a_part_is_copied_to_another_place(file_url: str, redis_url: str) -> None:
    """``--from`` and ``--to`` choose the places, within one store too; what is in the way there gives way."""
    put(file_url, {"a": {"b": {"c": 1}}, "x": 2})
    assert redicts("copy", file_url, redis_url, "--from", "a.b", "--to", "new.place").status == exits.DONE
    assert value_at(redis_url) == {"new": {"place": {"c": 1}}}
    assert redicts("copy", file_url, file_url, "--from", "a", "--to", "x.y").status == exits.DONE
    assert value_at(file_url) == {"a": {"b": {"c": 1}}, "x": {"y": {"b": {"c": 1}}}}


def test_databases_are_chosen_for_each_side(file_url: str) -> None:
    """One store has several databases, and a copy may lead from one to another."""
    put(file_url, {"a": 1})
    assert redicts("copy", file_url, file_url, "--to-database", "4").status == exits.DONE
    tree = tree_at(file_url, 4)
    assert tree.run(tree.store.read(())) == {"a": 1}


@pytest.mark.parametrize("end", ["kill", "interrupt"])
@pytest.mark.parametrize("away", ["source", "target"])
def test_a_copy_that_was_ended_is_continued(server: RedisServer, file_url: str, away: str, end: str) -> None:
    """Killed or interrupted midway, it leaves whole batches, and the same command goes on and is equal at the end."""
    with FaultyProxy(server.port) as proxy:
        far = f"redis://{proxy.host}:{proxy.port}/0"
        source, target = (far, file_url) if away == "source" else (file_url, far)
        put(source, MANY)
        put(target, {"there": "before"})
        proxy.pass_requests(4)
        proxy.hold_requests()
        with Running("copy", source, target) as command:
            proxy.wait_until_held()
            if end == "kill":
                command.kill()
            else:
                done = command.interrupt()
                assert (done.status, done.err) == (exits.INTERRUPTED, "redicts: interrupted\n")
        proxy.release_held()
        proxy.clear()
        so_far = len(tree_at(target).run(tree_at(target).store.leaves(()))) - 1
        (mark,) = unfinished(tree_at(target)).values()
        assert 0 < so_far < 5000
        assert so_far == mark["done"]
        done = redicts("copy", source, target, "--json")
        assert done.status == exits.DONE
        assert (done.document["resumed"], done.document["stored"]) == (so_far, 5000 - so_far)
        assert done.document["verified"]["equal"] == 5000
        assert value_at(target) == {**MANY, "there": "before"}
        assert unfinished(tree_at(target)) == {}


def test_an_interrupted_comparison_copies_nothing_twice(server: RedisServer, file_url: str) -> None:
    """Once all is copied the mark is gone: a run after that begins again, and changes nothing that is equal."""
    put(file_url, MANY)
    with FaultyProxy(server.port) as proxy:
        far = f"redis://{proxy.host}:{proxy.port}/0"
        proxy.pass_requests(8)
        proxy.hold_requests()
        with Running("copy", file_url, far) as command:
            proxy.wait_until_held()
            done = command.interrupt()
        assert done.status == exits.INTERRUPTED
        proxy.release_held()
        assert value_at(far) == MANY
        assert unfinished(tree_at(far)) == {}


def test_what_the_source_lost_meanwhile_is_found(server: RedisServer, file_url: str) -> None:
    """A target that somebody emptied between two runs is not taken for copied: the comparison tells, and the remedy."""
    put(file_url, MANY)
    with FaultyProxy(server.port) as proxy:
        far = f"redis://{proxy.host}:{proxy.port}/0"
        proxy.pass_requests(4)
        proxy.hold_requests()
        with Running("copy", file_url, far) as command:
            proxy.wait_until_held()
            command.kill()
        proxy.release_held()
        tree = tree_at(far)
        tree.run(tree.store.delete(()))
        done = redicts("copy", file_url, far)
        assert done.status == exits.NEGATIVE
        assert "missing" in done.out
        assert "not equal: 'dict" in done.out
        assert "--restart" in done.err
        assert redicts("copy", file_url, far, "--restart").status == exits.DONE
        assert value_at(far) == MANY


def test_what_cannot_be_copied_is_named(file_url: str, redis_url: str) -> None:
    """A damaged leaf is skipped and named, the rest is copied, and the status is 1."""
    put(file_url, {"a": 1, "b": 2})
    tree_at(file_url).backend.execute(Transaction(writes=(Put(Key(VALUES, ("odd",)), b"\x00\xff"),)))
    done = redicts("copy", file_url, redis_url, "--json")
    assert done.status == exits.NEGATIVE
    assert (done.document["stored"], done.document["skipped"]) == (2, 1)
    assert "'odd'" in done.document["reasons"][0]
    assert "'odd'" in done.err
    assert done.document["verified"]["paths"] == ["'odd'"]
    assert value_at(redis_url) == {"a": 1, "b": 2}


def test_wrong_use_of_copy(file_url: str, redis_url: str) -> None:
    """A copy onto itself, into itself, of nothing, or with options that do not fit."""
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
    """``--without-ttls`` lets everything last for ever in the target."""
    put(file_url, 1, "a", ttl=600_000)
    assert redicts("copy", file_url, redis_url, "--without-ttls").status == exits.DONE
    tree = tree_at(redis_url)
    assert tree.run(tree.store.ttl(("a",))) is None


def test_the_data_of_1_0_is_moved(server: RedisServer, redis_url: str, file_url: str) -> None:
    """``--from-1.0`` reads what redicts 1.0 left, stores it anywhere, and reports what it skipped."""
    client = redis.Redis(host=server.host, port=server.port)
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
    client.close()
    server.stop()
    try:
        assert redicts("copy", "--from-1.0", redis_url, file_url).status == exits.FAILED
    finally:
        server.restart()


def test_a_store_that_goes_away_is_status_3(server: RedisServer, file_url: str) -> None:
    """If a side fails midway it is told in one line, and the next run goes on."""
    put(file_url, MANY)
    with FaultyProxy(server.port) as proxy:
        far = json.dumps({"host": proxy.host, "port": proxy.port, "retries": 0})
        proxy.pass_requests(4)
        proxy.drop_replies()
        done = redicts("copy", file_url, far)
        assert (done.status, done.out, done.err.count("\n")) == (exits.FAILED, "", 1)
        assert redicts("copy", file_url, far, "--json").document["resumed"] > 0
        assert value_at(f"redis://{proxy.host}:{proxy.port}/0") == MANY
