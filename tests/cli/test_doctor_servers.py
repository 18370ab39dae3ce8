"""``doctor`` on what servers tell of themselves: roles, how far replicas are behind, and the named primary."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redicts.cli import exits
from redicts.cli.findings import Status
from redicts.cli.limits import Limits
from redicts.cli.servers import servers
from redicts.core.backend import ServerState
from tests.cli.running import redicts
from tests.support.sentinels import SentinelTrio
from tests.support.servers import RedisServer
from tests.support.waiting import eventually


def findings(cfg: dict[str, Any], status: int) -> dict[str, dict[str, Any]]:
    """Return the findings for a store by the names of the checks."""
    done = redicts("doctor", "--json", "--quick", "--store", json.dumps({"backend": "redis", **cfg}))
    assert done.status == status
    return {check["name"]: check for check in done.document["checks"]}


def test_a_trio_and_its_sentinels() -> None:
    """It shows the replicas, that one acknowledgement of two may not be enough, and a Sentinel that is gone."""
    with SentinelTrio() as trio:
        trio.sentinels[0].kill()
        cfg = {**trio.configuration, "acknowledged_by": 1, "socket_timeout_secs": 2}
        found = findings(cfg, exits.DONE)
        replication, sentinels = found["replication"], found["sentinels"]
        assert replication["status"] == sentinels["status"] == "notice"
        assert "unless acknowledged_by is 2" in replication["text"]
        assert [each["state"] for each in replication["replicas"]] == ["online", "online"]
        assert (replication["role"], replication["min_replicas_to_write"]) == ("master", 0)
        assert f"2 of 3 Sentinels name 127.0.0.1:{trio.primary.port}; quorum 2" in sentinels["text"]
        assert f"{trio.sentinels[0].address} cannot be reached" in sentinels["text"]
        found = findings({**cfg, "acknowledged_by": 2}, exits.DONE)
        assert found["replication"]["status"] == "ok"
        found = findings({**cfg, "acknowledged_by": 3}, exits.NEGATIVE)
        assert found["replication"]["status"] == found["writing"]["status"] == "wrong"
        assert "only 2 replicas can acknowledge" in found["replication"]["text"]
        trio.sentinels[1].kill()
        assert findings(cfg, exits.NEGATIVE)["sentinels"]["status"] == "wrong"
        for replica in trio.servers[1:]:
            replica.kill()
        eventually(lambda: trio.servers[0].info("replication")["connected_slaves"] == "0", "no replica is left")
        found = findings({**trio.configuration}, exits.NEGATIVE)
        assert found["servers"]["status"] == "notice"
        assert "no replica is connected" in found["servers"]["text"]


@pytest.mark.parametrize("least", [0, 1])
def test_a_replica_is_no_primary(server: RedisServer, least: int) -> None:
    """A store on a replica is wrong. A primary without anything of the kind has no such finding."""
    server.command("CONFIG", "SET", "min-replicas-to-write", least)
    try:
        primary = findings({"host": server.host, "port": server.port}, exits.NEGATIVE if least else exits.DONE)
        assert ("replication" in primary) is bool(least)
        with RedisServer(replica_of=server) as replica:
            found = findings({"host": replica.host, "port": replica.port, "retries": 0}, exits.NEGATIVE)
            assert found["replication"]["status"] == "wrong"
            assert "connect to the primary" in found["replication"]["text"]
    finally:
        server.command("CONFIG", "SET", "min-replicas-to-write", 0)


def test_a_backend_may_tell_texts_or_facts() -> None:
    """A state is a text with a verdict, or facts; a fact that is a text was not told, and unknown ones are left out."""
    states = {
        "one": ServerState("a leader", True),
        "two": ServerState("", True, {"clock": {"ahead_ms": 3000}, "moon": {"phase": 1}}),
        "three": ServerState("a follower", True, {"clock": "it has none"}),
    }
    found = {finding.name: finding for finding in servers(states, Limits())}
    assert set(found) == {"servers", "clock"}
    assert found["servers"].status is Status.OK
    assert found["servers"].text == "one: a leader. three: a follower"
    assert found["clock"].status is Status.NOTICE
    assert found["clock"].text == "two: the store is 3000 ms ahead of this machine. three: not checked: it has none"
    assert found["clock"].data == {"servers": {"two": {"ahead_ms": 3000}, "three": {}}}


def test_servers_with_one_text_are_told_once() -> None:
    """What is the same of each server is one text, and a server alone is not numbered."""
    state = ServerState("", True, {"clock": {"ahead_ms": 0}})
    text = "the store is 0 ms ahead of this machine"
    assert [finding.text for finding in servers({"one": state}, Limits())] == [text]
    assert [finding.text for finding in servers({"one": state, "two": state}, Limits())] == [
        f"each of 2 servers: {text}"
    ]
